"""One script for a GPU: rates, correctness, step times, and the studies at full size.

    python benchmarks/accelerators.py device                     # every part, in order
    python benchmarks/accelerators.py device --parts steps torch # these parts
    python benchmarks/accelerators.py device --data FOLDER       # cameraman.tif, kodim05.png, ...
    python benchmarks/accelerators.py device --missing           # what this device lacks so far
    python benchmarks/accelerators.py device --small             # reduced sizes, to try the script
    python benchmarks/accelerators.py table                      # the rows as Markdown

Every part runs in a process of its own with a time limit, and every row is written to
benchmarks/results/device_<name of the device>.json as soon as it is measured, so a part that fails
or is cut off loses only its last row. A part whose package or file is missing prints one line.

A step is the value and gradient of a mean squared error and an Adam update, float32 with full
float32 matrix products, at 65,536 points. It is timed inside a compiled loop, so the time of
dispatching from Python is not included. A row of a study holds the scores of its last step, and
the best score on the way, which only a reader of the truth could choose (an oracle).
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import timing
import zoo

import lrnn_jax as lj
from lrnn_jax.training import initial_state, make_advance, make_step

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
POINTS = 65_536
PAPER = lj.LRNN(in_dim=2, out_dim=1)
WIDE = lj.LRNN(in_dim=2, out_dim=1, depth=2, rank=128, components=8, hidden=8, activation="sin")
SIREN = lj.Siren(in_dim=2, out_dim=1)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the parts are given: the folders of results and signals, reduced sizes or not.

    `recorded` holds the names of the part's rows that are not measured again.
    """

    results: Path
    data: Path | None
    small: bool
    recorded: frozenset[str] = frozenset()

    @property
    def points(self) -> int:
        """The points of a step."""
        return 512 if self.small else POINTS

    def steps(self, count: int) -> int:
        """The steps of a study."""
        return 20 if self.small else count

    def signal(self, name: str) -> str | None:
        """The path of a signal; None, with a line, where it is not at hand."""
        path = None if self.data is None else self.data / name
        if path is not None and path.exists():
            return str(path)
        print(f"skipped: no {name} (give its folder with --data)", flush=True)
        return None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("device", "table"))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--data", type=Path, help="a folder of signals")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--missing", action="store_true", help="only rows not yet in the results")
    parser.add_argument("--alone", action="store_true", help="the one part, in this process")
    options = parser.parse_args()
    if options.stage == "table":
        print(table(options.results))
        return 0
    if options.alone:
        part = options.parts[0]
        old = timing.read_rows(result_file(options.results)) if options.missing else []
        recorded = frozenset(row["name"] for row in old if row["part"] == part)
        own = Options(options.results, options.data, options.small, recorded)
        for row in PARTS[part][0](own):
            write_row(own, {"part": part, **row})
        return 0
    return max([run_part(name) for name in options.parts])


def run_part(name: str) -> int:
    """A part in a process of its own, which is ended when its time is over."""
    limit, begun = PARTS[name][1], time.perf_counter()
    print(f"== {name}: at most {limit} s", flush=True)
    words = [word for word in sys.argv[1:] if word != "--parts" and word not in PARTS]
    command = [sys.executable, __file__, *words, "--alone", "--parts", name]
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    try:
        code = subprocess.run(command, env=environment, timeout=limit).returncode
    except subprocess.TimeoutExpired:
        code = 124
    print(f"== {name}: exit code {code}, {time.perf_counter() - begun:.0f} s", flush=True)
    return code


def result_file(results: Path) -> Path:
    """The file of this device's rows."""
    return results / f"device_{re.sub('[^a-z0-9]+', '_', zoo.machine().lower())}.json"


def write_row(options: Options, row: Row) -> None:
    """Adds a row, in the place of the one of the same part and name."""
    path = result_file(options.results)
    same = [old for old in timing.read_rows(path) if _identity(old) != _identity(row)]
    row = row | {"machine": zoo.machine(), "jax": jax.__version__}
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps([*same, row], indent=1) + "\n")
    print(json.dumps(row), flush=True)


def _identity(row: Row) -> tuple[Any, Any]:
    return row["part"], row["name"]


# Rates and correctness ---------------------------------------------------------------------------


def rates(options: Options) -> Iterator[Row]:
    """What the device can do: a copy, and square matrix products in three precisions."""
    n = 512 if options.small else 8192
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)
    large = copy(jnp.zeros(n * n * 4))

    def run_copy(count: int) -> None:
        nonlocal large
        for _ in range(count):
            large = copy(large)
        jax.block_until_ready(large)

    runs: dict[str, timing.Run] = {"copy": run_copy}
    for name, dtype, precision in (
        ("float32", jnp.float32, "highest"),
        ("tf32", jnp.float32, "default"),
        ("bfloat16", jnp.bfloat16, "default"),
    ):
        square = jax.random.normal(jax.random.key(0), (n, n), dtype)
        product = functools.partial(jnp.dot, precision=precision)
        runs[name] = timing.compiled(product, square, square).run
    ms = {name: min(own) for name, own in timing.timings(runs, rounds=10).items()}
    yield {"name": "copy", "gigabytes_per_second": 2e-6 * large.nbytes / ms.pop("copy")}
    for name, own in ms.items():
        yield {"name": f"{name} product", "teraflops_per_second": 2e-9 * n**3 / own}


def correctness(options: Options) -> Iterator[Row]:
    """Value and gradient of each implementation in float32 against the literal form in float64.

    The float64 values come from the host. An error is the largest difference over the largest
    number of the same array.
    """
    points = 64 if options.small else 4096
    x = np.random.default_rng(0).uniform(-1, 1, (points, 2))
    models = {"paper, spder": PAPER, "paper, sin": _with(PAPER, activation="sin"), "h8": WIDE}
    for name, model in models.items():
        with jax.default_device(jax.devices("cpu")[0]), jax.enable_x64(True):
            literal = _with(model, implementation="reference")
            params = jax.tree.map(np.asarray, literal.init(jax.random.key(0)))
            expected = _value_and_gradient(literal, params, jnp.asarray(x))
        single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
        for form in ("reference", "lean", "pallas"):
            own = _with(model, implementation=form)
            try:
                found = _value_and_gradient(own, single, jnp.asarray(x, jnp.float32))
            except Exception as error:  # a compiler's refusal is a result
                yield {"name": f"{name}, {form}", "error": _first_line(error)}
                continue
            yield {"name": f"{name}, {form}", **_differences(found, expected)}


def _value_and_gradient(model: Any, params: Any, x: jax.Array) -> Any:
    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        y = model.apply(params, x)
        return jnp.sum(y * jnp.cos(3 * x[:, :1])), y

    (_, y), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return jax.tree.map(np.asarray, (y, gradient))


def _differences(found: Any, expected: Any) -> Row:
    def worst(tree: Any, other: Any) -> float:
        pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
        return max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in pairs)

    return {"value": worst(found[0], expected[0]), "gradient": worst(found[1], expected[1])}


# Steps -------------------------------------------------------------------------------------------


def steps(options: Options) -> Iterator[Row]:
    """Steps of every model and form, except the fused kernel."""
    models = {
        "SIREN": SIREN,
        "paper, lean": _with(PAPER, implementation="lean"),
        "paper, sin, lean": _with(PAPER, implementation="lean", activation="sin"),
        "paper, lean, bfloat16": _with(PAPER, implementation="lean", compute_dtype="bfloat16"),
        "paper, literal": _with(PAPER, implementation="reference"),
        "h8, lean": _with(WIDE, implementation="lean"),
        "SPDER": lj.Spder(in_dim=2, out_dim=1),
        "NestNet, height 1 (ReLU)": lj.NestNet(in_dim=2, out_dim=3, height=1),
        "NestNet, height 2": lj.NestNet(in_dim=2, out_dim=3, height=2),
        "NestNet, height 3": lj.NestNet(in_dim=2, out_dim=3, height=3),
        "h8, literal": _with(WIDE, implementation="reference"),
    }
    yield from _timed(options, models)


def fused(options: Options) -> Iterator[Row]:
    """Steps with the Pallas kernel."""
    yield from _timed(
        options,
        {
            "paper, pallas": _with(PAPER, implementation="pallas"),
            "paper, sin, pallas": _with(PAPER, implementation="pallas", activation="sin"),
            "h8, pallas": _with(WIDE, implementation="pallas"),
        },
    )


def _timed(options: Options, models: dict[str, Any]) -> Iterator[Row]:
    for name, model in models.items():
        if name in options.recorded:
            continue
        try:
            yield {"name": name, **step_row(options, model)}
        except Exception as error:  # a compiler's refusal or no memory left is a result
            yield {"name": name, "error": _first_line(error)}


def step_row(options: Options, model: Any) -> Row:
    """Milliseconds of a step inside a loop, with XLA's counts, which take the loop's body once."""
    data, optimizer = timing.random_data(model, options.points), optax.adam(1e-3)
    key, count = jax.random.key(0), 3 if options.small else 30
    step = make_step(model, timing.squared_error, optimizer)
    state, begun = initial_state(model.init(key), optimizer), time.perf_counter()
    program = make_advance(step, count).lower(state, data, key, np.int32(1)).compile()
    seconds = time.perf_counter() - begun
    cost, memory = program.cost_analysis() or {}, program.memory_analysis()
    times = []
    for _ in range(6):
        begun = time.perf_counter()
        state = jax.block_until_ready(program(state, data, key, np.int32(count)))[0]
        times.append(1e3 * (time.perf_counter() - begun) / count)
    return {
        "points": options.points,
        "parameters": model.parameter_count,
        "ms": statistics.median(times[1:]),
        "range_ms": [min(times[1:]), max(times[1:])],
        "compile_seconds": seconds,
        "gigabytes": cost.get("bytes accessed", 0.0) / 1e9,
        "temporary_megabytes": (memory.temp_size_in_bytes if memory else 0) / 1e6,
    }


def torch(options: Options) -> Iterator[Row]:
    """The same networks in PyTorch, from equal parameters: eager, and through torch.compile."""
    if importlib.util.find_spec("torch") is None:
        print("skipped: no PyTorch", flush=True)
        return
    import peers

    for name, model in {
        "paper, sin": _with(PAPER, activation="sin"),
        "h8": WIDE,
        "SIREN": SIREN,
    }.items():
        data = timing.random_data(model, options.points)
        params = model.init(jax.random.key(0))
        ours = np.asarray(jax.jit(model.apply)(params, data[0]))
        for compiled in (False, True):
            own = f"{name}, {'compiled' if compiled else 'eager'}"
            if own in options.recorded:
                continue
            try:
                peer = peers.Peer(model, params, data, compiled)
                difference = float(np.max(np.abs(peer.values() - ours)) / np.max(np.abs(ours)))
                times = timing.timings({"torch": peer.run}, 5)["torch"]
            except Exception as error:  # of a dozen kinds; no C++ compiler is one
                yield {"name": own, "error": _first_line(error)}
                continue
            yield {"name": own, "ms": statistics.median(times), "value_difference": difference}


def laplacian(options: Options) -> Iterator[Row]:
    """A training step of the Poisson equation, by our Laplacian and by the Hessian's trace."""
    import operators

    points = 64 if options.small else 8192
    for dim, kind in ((2, "LRNN"), (2, "SIREN"), (10, "LRNN"), (10, "SIREN")):
        model: Any = lj.Siren(in_dim=dim, out_dim=1)
        if kind == "LRNN":
            model = _with(PAPER, in_dim=dim, activation="sin", norm="none")
        data = operators.problem(dim, points)
        for method in ("auto", "hessian"):
            name = f"{kind}, d = {dim}, {method}"
            if name in options.recorded:
                continue
            try:
                program = operators.training_step(model, method, data, None)
                ms = timing.milliseconds({"step": program.run}, 5)["step"]
            except Exception as error:  # no memory left is a result
                yield {"name": name, "error": _first_line(error)}
                continue
            row = {"name": name, "points": points, "ms": ms, "gigabytes": program.bytes / 1e9}
            yield row | {"temporary_megabytes": program.temp_mb}


def population(options: Options) -> Iterator[Row]:
    """Members trained under one vmap: LRNN and SIREN of about 5k parameters, 4,096 points."""
    points, count = (64, 2) if options.small else (4096, 20)
    models = {
        "LRNN": zoo.nearest(
            lambda rank: lj.LRNN(in_dim=2, out_dim=1, rank=rank, components=4), 5000
        ),
        "SIREN": zoo.nearest(lambda width: lj.Siren(in_dim=2, out_dim=1, width=width), 5000),
    }
    for name, model in models.items():
        data = timing.random_data(model, points)
        for members in (1, 8) if options.small else (1, 32, 256, 1024):
            own = f"{name}, {members} members"
            if own in options.recorded:
                continue
            keys = jax.random.split(jax.random.key(0), members)

            def train(key: Any, model: Any = model, data: Any = data) -> jax.Array:
                optimizer = optax.adam(1e-3)
                return lj.fit(model, timing.squared_error, data, optimizer, key=key, steps=count)[1]

            program = timing.compiled(jax.vmap(train), keys)
            ms = timing.timings({"fit": program.run}, 3)["fit"]
            yield {
                "name": own,
                "ms_per_member_step": statistics.median(ms) / (members * count),
                "temporary_megabytes": program.temp_mb,
            }


# Studies at full size ----------------------------------------------------------------------------


def image(options: Options) -> Iterator[Row]:
    """Cameraman, 256 x 256: at the papers' rates, and at the best rates of the committed sweep."""
    source = options.signal("cameraman.tif")
    if source is None:
        return
    size = (16, 16) if options.small else (256, 256)
    problem = lj.Image(source=source, size=size)
    constant = {"learning_rate": 1e-4, "schedule": "constant"}
    models = {
        "LRNN-SPDER": (PAPER, {"learning_rate": 1e-3}, 4e-3),
        "SIREN": (SIREN, constant, 2e-3),
        "SPDER": (lj.Spder(in_dim=2, out_dim=1), constant, 5e-4),
    }
    for seed in range(1 if options.small else 5):
        for name, (model, paper, best) in models.items():
            tuned = {"learning_rate": best, "schedule": "cosine"}
            for label, fields, count in (("papers' rate", paper, 1000), ("tuned", tuned, 500)):
                own = f"{name}, {label}, seed {seed}"
                if own in options.recorded:
                    continue
                training = lj.Training(steps=options.steps(count), seed=seed, **fields)
                row = {"name": own, "learning_rate": fields["learning_rate"]}
                yield row | solved(model, problem, training, "psnr", 50, peak=2.0)


def photograph(options: Options) -> Iterator[Row]:
    """kodim05 at full size: 2,000 passes in batches of 65,536 pixels, the first setting of each."""
    source = options.signal("kodim05.png")
    if source is not None:
        yield from _first_settings(options, "picture", "psnr", source=source, side=768)


def sound(options: Options) -> Iterator[Row]:
    """Bach and counting, whole: 1,000 steps, the first setting of each model's sweep."""
    for name, end in (("gt_bach.wav", 100.0), ("gt_counting.wav", 300.0)):
        source = options.signal(name)
        if source is not None:
            yield from _first_settings(
                options, "audio", "snr", source=source, begin=0.0, seconds=1e3, time=end
            )


def _first_settings(options: Options, stage: str, score: str, **words: Any) -> Iterator[Row]:
    """The cases of benchmarks/signals.py, each at the first setting of its sweep."""
    import signals

    half = {"half": False, "tv": 0.0, "omega0": None, "unswept": True}
    given = argparse.Namespace(steps=options.steps(signals.STEPS[stage]), **half | words)
    for case in signals.CASES[stage](given):
        if case.name in options.recorded:
            continue
        model, training = case.choices[0]
        if options.small:
            training = dataclasses.replace(training, steps=20)
        row = {"name": case.name, "learning_rate": training.learning_rate}
        yield row | solved(model, case.problem, training, score, max(1, training.steps // 20))


def solved(
    model: Any, problem: Any, training: Any, score: str, every: int, peak: float | None = None
) -> Row:
    """The row of one training: scores, the best on the way, steps to 33, 35 and 40 dB, seconds."""
    begun = time.perf_counter()
    try:
        found = lj.solve(model, problem, training, score_every=every)
    except Exception as error:  # divergence or no memory left is a result
        return {"error": _first_line(error)}
    row: Row = {
        "parameters": model.parameter_count,
        "steps": training.steps,
        "final": found.scores,
        "oracle": max(scores[score] for _, scores in found.evaluations),
        "seconds": time.perf_counter() - begun,
    }
    if peak is not None:
        decibels = 10 * np.log10(peak**2 / found.history["loss"])
        row["step_of"] = {
            str(target): int(np.argmax(decibels >= target)) if (decibels >= target).any() else None
            for target in (33, 35, 40)
        }
    return row


# Tables ------------------------------------------------------------------------------------------


def table(results: Path) -> str:
    """A table for each device and part."""
    texts = []
    for path in sorted(results.glob("device_*.json")):
        rows = timing.read_rows(path)
        texts.append(f"{rows[0]['machine']}, jax {rows[0]['jax']}")
        for part in dict.fromkeys(row["part"] for row in rows):
            own = [row for row in rows if row["part"] == part]
            hidden = ("part", "name", "machine", "jax", "range_ms")
            columns = list(dict.fromkeys(key for row in own for key in row if key not in hidden))
            lines = [[row["name"], *(_cell(row.get(key)) for key in columns)] for row in own]
            texts.append(f"{part}\n\n{timing.markdown(('name', *columns), lines)}")
    return "\n\n".join(texts)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(own)}" for name, own in value.items())
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _with(model: Any, **fields: Any) -> Any:
    return dataclasses.replace(model, **fields)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0][:300]}"


PARTS: dict[str, tuple[Callable[[Options], Iterator[Row]], int]] = {
    "rates": (rates, 60),
    "correctness": (correctness, 120),
    # A GPU's compiler tries its matrix kernels out: 10 to 20 s for each program.
    "steps": (steps, 200),
    "fused": (fused, 60),
    "torch": (torch, 150),
    "image": (image, 120),
    "photograph": (photograph, 270),
    "sound": (sound, 240),
    "population": (population, 90),
    "laplacian": (laplacian, 120),
}


if __name__ == "__main__":
    sys.exit(main())
