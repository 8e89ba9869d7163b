"""Accelerators: measurements on a GPU, and programs compiled ahead of time for a TPU.

    python benchmarks/accelerators.py device                     # every part, in order
    python benchmarks/accelerators.py device --parts steps torch # these parts
    python benchmarks/accelerators.py device --data FOLDER       # cameraman.tif, kodim05.png, ...
    python benchmarks/accelerators.py device --missing           # only rows not recorded yet
    python benchmarks/accelerators.py device --small             # reduced sizes, to test the script
    python benchmarks/accelerators.py compile                    # for a TPU v5e, without one
    python benchmarks/accelerators.py table                      # the rows as Markdown

The stage `device` measures rates, correctness, step times, and the studies at full size. Every part
runs in a separate process with a time limit. Every row is written to
benchmarks/results/device_<name of the device>.json as soon as it is measured, so a part that fails
or reaches its limit loses only its last row. A part whose package or file is missing prints one
line.

A step is the value and gradient of a mean squared error and an Adam update, float32 with full
float32 matrix products, at 65,536 points. It is timed inside a compiled loop, so the time of
dispatching from Python is not included. A row of a study holds the scores of its last step and the
best score of all evaluations (an oracle, as it needs the ground truth).

The stage `compile` needs pip install "lrnn-jax[tpu-compile]" and about half an hour on two cores;
see benchmarks/tpu.py. `--parts` and `--data` do not apply to it.
"""

import argparse
import functools
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import FOLDER, Contender, Copy, Results, Row
from zoo import nearest

import lrnn_jax as lj
from lrnn_jax.kernels.neurons import streamed_neurons
from lrnn_jax.models import lrnn
from lrnn_jax.training import initial_state, make_advance, make_step

POINTS = 65_536
PAPER = lj.LRNN(in_dim=2, out_dim=1)
WIDE = lj.LRNN(in_dim=2, out_dim=1, depth=2, rank=128, components=8, hidden=8, activation="sin")
SIREN = lj.Siren(in_dim=2, out_dim=1)


# libtpu compiles for 8 chips of a v5e on a machine that has none and no metadata server.
TPU_COMPILER = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_ID": "0",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


# A part yields the names of its rows, each with the function that measures it.
Part = Iterator[tuple[str, Callable[[], Row]]]


@dataclass(frozen=True)
class Options:
    """The folder of signals, and whether sizes are reduced."""

    data: Path | None
    small: bool

    @property
    def points(self) -> int:
        """Number of points of a step."""
        return 512 if self.small else POINTS

    def steps(self, count: int) -> int:
        """Number of steps of a study."""
        return 20 if self.small else count

    def signal(self, name: str) -> str | None:
        """Path of a signal. If the file is missing, prints a line and returns None."""
        path = None if self.data is None else self.data / name
        if path is not None and path.exists():
            return str(path)
        print(f"skipped: no {name} (give its folder with --data)", flush=True)
        return None


def main() -> int:
    parser = common.stage_parser(__doc__, ("device", "compile"))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--data", type=Path, help="a folder of signals")
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--missing", action="store_true", help="only rows not yet in the results")
    parser.add_argument("--alone", action="store_true", help="the one part, in this process")
    options = parser.parse_args()
    if options.stage == "table":
        print_tables([*sorted(options.results.glob("device_*.json")), *tpu_files(options.results)])
        return 0
    if options.stage == "compile":
        return compile_for_tpu(options)
    if options.alone:
        measure_part(options.parts[0], options)
        return 0
    return max([run_part(name) for name in options.parts])


def run_part(name: str) -> int:
    """Run a part in a separate process with a time limit, and return its exit code."""
    limit, begun = PARTS[name][1], time.perf_counter()
    print(f"== {name}: at most {limit} s", flush=True)
    words = [word for word in sys.argv[1:] if word != "--parts" and word not in PARTS]
    command = [sys.executable, __file__, *words, "--alone", "--parts", name]
    command += ["--record"] * common.RECORDING
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    try:
        code = subprocess.run(command, env=environment, timeout=limit).returncode
    except subprocess.TimeoutExpired:
        code = 124
    print(f"== {name}: exit code {code}, {time.perf_counter() - begun:.0f} s", flush=True)
    return code


def compile_for_tpu(options: argparse.Namespace) -> int:
    """Run benchmarks/tpu.py with the environment of libtpu's compiler, and print its table."""
    if importlib.util.find_spec("libtpu") is None:
        print('compile: needs libtpu: pip install "lrnn-jax[tpu-compile]"', file=sys.stderr)
        return 1
    command = [sys.executable, str(Path(__file__).with_name("tpu.py"))]
    command += ["--results", str(options.results), *["--missing"] * options.missing]
    command += ["--record"] * common.RECORDING
    code = subprocess.run(command, env=os.environ | TPU_COMPILER).returncode
    published = options.results == FOLDER and not common.RECORDING
    print_tables(tpu_files(common.LOCAL if published else options.results))
    return code


def tpu_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("tpu_*.json"))


def print_tables(files: list[Path]) -> None:
    print(table([row for file in files for row in Results(file).read()]))


def measure_part(part: str, options: argparse.Namespace) -> None:
    """Add the rows of a part. A failed measurement is a row with its error."""
    device = re.sub("[^a-z0-9]+", "_", common.machine().lower())
    results = Results(options.results / f"device_{device}.json", identity=("part", "name"))
    recorded = {row["name"] for row in results.read() if row["part"] == part}
    for name, measure in PARTS[part][0](Options(options.data, options.small)):
        if options.missing and name in recorded:
            continue
        try:
            row = measure()
        except Exception as error:  # such as a compiler error, divergence, or no memory left
            row = {"error": common.describe(error)}
        results.add({"part": part, "name": name, **row})


# Rates and correctness ---------------------------------------------------------------------------


def rates(options: Options) -> Part:
    """Rates of the device: a copy, and square matrix products in three precisions."""
    n = 512 if options.small else 8192
    copy = Copy(4 * n * n)
    products = {
        "float32 product": common.matrix_product(n),
        "tf32 product": common.matrix_product(n, precision="default"),
        "bfloat16 product": common.matrix_product(n, jnp.bfloat16, "default"),
    }
    yield "copy", lambda: {"gigabytes_per_second": 1e-6 * copy.bytes / fastest(copy)}
    for name, program in products.items():
        yield name, lambda p=program: {"teraflops_per_second": 2e-9 * n**3 / fastest(p)}


def fastest(contender: Contender) -> float:
    """The least of ten timings in milliseconds."""
    return min(common.timings({"": contender}, rounds=10)[""])


def correctness(options: Options) -> Part:
    """Value and gradient of each implementation in float32 against the literal form in float64.

    The float64 values are computed on the host. An error is the largest difference over the largest
    entry of the same array.
    """
    points = 64 if options.small else 4096
    x = np.random.default_rng(0).uniform(-1, 1, (points, 2))
    models = {"paper, spder": PAPER, "paper, sin": replace(PAPER, activation="sin"), "h8": WIDE}
    for name, model in models.items():
        with jax.default_device(jax.devices("cpu")[0]), jax.enable_x64(True):
            literal = replace(model, implementation="reference")
            params = jax.tree.map(np.asarray, literal.init(jax.random.key(0)))
            expected = _value_and_gradient(literal, params, jnp.asarray(x))
        for form in ("reference", "lean", "pallas"):
            variant = replace(model, implementation=form)
            yield f"{name}, {form}", functools.partial(_errors, variant, params, x, expected)


def _errors(model: Any, params: Any, x: Any, expected: Any) -> Row:
    params, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (params, x))
    value, gradient = jax.tree.map(
        common.relative_difference, _value_and_gradient(model, params, x), expected
    )
    return {"value": value, "gradient": max(jax.tree.leaves(gradient))}


def _value_and_gradient(model: Any, params: Any, x: jax.Array) -> Any:
    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        y = model.apply(params, x)
        return jnp.sum(y * jnp.cos(3 * x[:, :1])), y

    (_, y), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return jax.tree.map(np.asarray, (y, gradient))


# Steps -------------------------------------------------------------------------------------------


def steps(options: Options) -> Part:
    """Steps of every model and implementation, except the fused kernel."""
    models = {
        "SIREN": SIREN,
        "paper, lean": replace(PAPER, implementation="lean"),
        "paper, sin, lean": replace(PAPER, implementation="lean", activation="sin"),
        "paper, lean, bfloat16": replace(PAPER, implementation="lean", compute_dtype="bfloat16"),
        "paper, literal": replace(PAPER, implementation="reference"),
        "h8, lean": replace(WIDE, implementation="lean"),
        "SPDER": lj.Spder(in_dim=2, out_dim=1),
        "NestNet, height 1 (ReLU)": lj.NestNet(in_dim=2, out_dim=3, height=1),
        "NestNet, height 2": lj.NestNet(in_dim=2, out_dim=3, height=2),
        "NestNet, height 3": lj.NestNet(in_dim=2, out_dim=3, height=3),
        "h8, literal": replace(WIDE, implementation="reference"),
    }
    for name, model in models.items():
        yield name, functools.partial(step_row, options, model)
    for name in ("paper, lean", "paper, lean, bfloat16", "h8, lean"):
        yield f"{name}, form of TPUs", functools.partial(streamed_row, options, models[name])


def streamed_row(options: Options, model: Any) -> Row:
    """A step in the form that programs for TPUs have, on any device."""
    with mock.patch.object(lrnn, "lean_neurons", streamed_neurons):
        return step_row(options, model)


def fused(options: Options) -> Part:
    """Steps with the Pallas kernel."""
    models = {
        "paper": PAPER,
        "paper, sin": replace(PAPER, activation="sin"),
        "h8": WIDE,
        "paper, bfloat16": replace(PAPER, compute_dtype="bfloat16"),
    }
    for name, model in models.items():
        fused_model = replace(model, implementation="pallas")
        yield f"{name}, pallas", functools.partial(step_row, options, fused_model)


def step_row(options: Options, model: Any) -> Row:
    """Milliseconds of a step inside a loop, and XLA's counts, in which the body counts once."""
    data, optimizer = common.random_data(model, options.points), optax.adam(1e-3)
    key, count = jax.random.key(0), 3 if options.small else 30
    step = make_step(model, common.squared_error, optimizer)
    state, begun = initial_state(model.init(key), optimizer), time.perf_counter()
    program = make_advance(step, count).lower(state, data, key, np.int32(1)).compile()
    seconds, times = time.perf_counter() - begun, []
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
        "gigabytes": (program.cost_analysis() or {}).get("bytes accessed", 0.0) / 1e9,
        "temporary_megabytes": common.temp_mb(program),
    }


def torch(options: Options) -> Part:
    """The same networks in PyTorch, from equal parameters: eager, and through torch.compile."""
    if importlib.util.find_spec("torch") is None:
        print("skipped: PyTorch is not installed", flush=True)
        return
    models = {"paper, sin": replace(PAPER, activation="sin"), "h8": WIDE, "SIREN": SIREN}
    for name, model in models.items():
        for mode in ("eager", "compiled"):
            yield f"{name}, {mode}", functools.partial(torch_row, options, model, mode)


def torch_row(options: Options, model: Any, mode: str) -> Row:
    """Milliseconds of a step in PyTorch, and the difference of its values from ours."""
    import peers

    data, params = common.random_data(model, options.points), model.init(jax.random.key(0))
    peer = peers.Peer(model, params, data, compiled=mode == "compiled")
    difference = common.relative_difference(peer.values(), jax.jit(model.apply)(params, data[0]))
    times = common.timings({"torch": peer}, 5)["torch"]
    return {"ms": statistics.median(times), "value_difference": difference}


def laplacian(options: Options) -> Part:
    """A training step of the Poisson equation, by our Laplacian and by the Hessian's trace."""
    for dim, kind in ((2, "LRNN"), (2, "SIREN"), (10, "LRNN"), (10, "SIREN")):
        model: Any = lj.Siren(in_dim=dim, out_dim=1)
        if kind == "LRNN":
            model = replace(PAPER, in_dim=dim, activation="sin", norm="none")
        for method in ("auto", "hessian"):
            name = f"{kind}, d = {dim}, {method}"
            yield name, functools.partial(laplacian_row, options, model, method)


def laplacian_row(options: Options, model: Any, method: str) -> Row:
    """Time and memory of a training step of the Poisson equation."""
    import operators

    points = 64 if options.small else 8192
    data = operators.problem(model.in_dim, points)
    program = common.training_step(model, data, loss=operators.residual_loss(method))
    ms = common.milliseconds({"step": program}, 5)["step"]
    row = {"points": points, "ms": ms, "gigabytes": program.bytes / 1e9}
    return row | {"temporary_megabytes": program.temp_mb}


def population(options: Options) -> Part:
    """Models trained under one vmap: LRNN and SIREN of about 5k parameters, 4,096 points."""
    models = {
        "LRNN": nearest(lambda rank: lj.LRNN(in_dim=2, out_dim=1, rank=rank, components=4), 5000),
        "SIREN": nearest(lambda width: lj.Siren(in_dim=2, out_dim=1, width=width), 5000),
    }
    for name, model in models.items():
        for members in (1, 8) if options.small else (1, 32, 256, 1024):
            measure = functools.partial(population_row, options, model, members)
            yield f"{name}, {members} members", measure


def population_row(options: Options, model: Any, members: int) -> Row:
    """Milliseconds of a step per member, and memory."""
    points, count = (64, 2) if options.small else (4096, 20)
    data = common.random_data(model, points)

    def train(key: Any) -> jax.Array:
        return lj.fit(model, common.squared_error, data, optax.adam(1e-3), key=key, steps=count)[1]

    program = common.compiled(jax.vmap(train), jax.random.split(jax.random.key(0), members))
    times = common.timings({"fit": program}, 3)["fit"]
    return {
        "ms_per_member_step": statistics.median(times) / (members * count),
        "temporary_megabytes": program.temp_mb,
    }


# Studies at full size ----------------------------------------------------------------------------


def image(options: Options) -> Part:
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
                training = lj.Training(steps=options.steps(count), seed=seed, **fields)
                solve = functools.partial(study_row, model, problem, training, "psnr", 50, peak=2.0)
                yield f"{name}, {label}, seed {seed}", solve


def photograph(options: Options) -> Part:
    """kodim05 at full size: 2,000 passes in batches of 65,536 pixels, the first setting of each."""
    source = options.signal("kodim05.png")
    if source is not None:
        yield from _first_settings(options, "image", "psnr", source=source, side=768)


def sound(options: Options) -> Part:
    """Bach and counting, complete: 1,000 steps, the first setting of each model's sweep."""
    for name, end in (("gt_bach.wav", 100.0), ("gt_counting.wav", 300.0)):
        source = options.signal(name)
        if source is not None:
            yield from _first_settings(
                options, "audio", "snr", source=source, begin=0.0, seconds=1e3, time=end
            )


def _first_settings(options: Options, stage: str, score: str, **fields: Any) -> Part:
    """The cases of benchmarks/signals.py, each at the first setting of its sweep."""
    import signals

    defaults = {"half": False, "tv": 0.0, "omega0": None, "unswept": True}
    steps = options.steps(signals.STEPS[stage])
    for case in signals.CASES[stage](argparse.Namespace(steps=steps, **defaults | fields)):
        model, training = case.choices[0]
        if options.small:
            training = replace(training, steps=20)
        every = max(1, training.steps // 20)
        solve = functools.partial(study_row, model, case.problem, training, score, every)
        yield case.name, solve


def study_row(
    model: Any, problem: Any, training: Any, score: str, every: int, peak: float | None = None
) -> Row:
    """One run: scores, best of all evaluations, seconds; with `peak` the steps to 33, 35, 40 dB."""
    begun = time.perf_counter()
    solution = lj.solve(model, problem, training, score_every=every)
    row: Row = {
        "learning_rate": training.learning_rate,
        "parameters": model.parameter_count,
        "steps": training.steps,
        "final": solution.scores,
        "oracle": max(scores[score] for _, scores in solution.evaluations),
        "seconds": time.perf_counter() - begun,
    }
    if peak is not None:
        decibels = 10 * np.log10(peak**2 / solution.history["loss"])
        row["step_of"] = {
            str(target): int(np.argmax(decibels >= target)) if (decibels >= target).any() else None
            for target in (33, 35, 40)
        }
    return row


# Tables ------------------------------------------------------------------------------------------

HIDDEN = ("part", "name", "machine", "jax", "commit", "range_ms")


def table(rows: list[Row]) -> str:
    """A table for each device and part."""
    texts = []
    for device, group in common.by_machine(rows).items():
        texts.append(f"{device}, jax {group[0]['jax']}")
        for part in dict.fromkeys(row["part"] for row in group):
            chosen = [row for row in group if row["part"] == part]
            columns = list(dict.fromkeys(key for row in chosen for key in row if key not in HIDDEN))
            lines = [[row["name"], *(_cell(row.get(key)) for key in columns)] for row in chosen]
            texts.append(f"{part}\n\n{common.markdown(' | '.join(['name', *columns]), lines)}")
    return "\n\n".join(texts)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(entry)}" for name, entry in value.items())
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


# Name: part, time limit in seconds.
PARTS: dict[str, tuple[Callable[[Options], Part], int]] = {
    "rates": (rates, 60),
    "correctness": (correctness, 120),
    # The compiler for GPUs times its matrix product kernels: 10 to 20 s for each program.
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
