"""How fast whole training steps are, and what memory they take.

    python benchmarks/speed.py lrnn      # LRNN against SIREN, and against its literal form
    python benchmarks/speed.py sine      # our sine against XLA's
    python benchmarks/speed.py nestnet   # NestNet against its ReLU version
    python benchmarks/speed.py resident  # peak resident memory, each case in a process of its own
    python benchmarks/speed.py peers     # the same networks in PyTorch: pip install lrnn-jax[peers]
    python benchmarks/speed.py all       # all of these
    python benchmarks/speed.py table     # the rows as Markdown

A step is value and gradient of a mean squared error and Adam, float32, at 2,048 points in 2-D
(NestNet: 4,096). Everything is compiled first and then timed in turn in one process; a ratio is one
of medians. "Default" is the chunk of `Training`: 512 points on a CPU, 65,536 on an accelerator,
which is the whole batch here. Memory is XLA's temporary memory of the step. The two shares are of
this device's own copy bandwidth and float32 product rate, measured on the spot: bytes of the
whole-batch program, in which XLA counts a CPU's loop over hidden units once, and its operations.
The peers need an idle machine: where another process takes a core, PyTorch's threads wait for
each other far longer than XLA's. Rows are added to benchmarks/results/speed.json when they are
done.
"""

import argparse
import dataclasses
import functools
import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import (
    Row,
    Run,
    add_row,
    by_machine,
    compiled,
    device_rates,
    markdown,
    milliseconds,
    random_data,
    squared_error,
    threads,
    timings,
    training_step,
)
from timing import read_rows as rows_of

import lrnn_jax as lj
from lrnn_jax.experiments.run import peak_memory_mb
from lrnn_jax.kernels.activations import sin, sinpi
from lrnn_jax.kernels.dense import affine
from lrnn_jax.models.network import Layer
from lrnn_jax.training import Training, initial_state, make_advance, make_step

RESULTS = Path(__file__).parent / "results" / "speed.json"
POINTS = 2048
NEST_POINTS = 4096


@dataclasses.dataclass(frozen=True)
class Size:
    """An LRNN of about 200k parameters and what is wanted of it.

    Args:
      siren: step time over SIREN's, at most.
      reference: step time of the literal form over ours, at least.
      memory: our temporary memory over that of the literal form, at most.
    """

    depth: int
    rank: int
    components: int
    hidden: int
    siren: float
    reference: float = 8.0
    memory: float = 1 / 20
    activation: str = "sin"

    def model(self, **fields: Any) -> lj.LRNN:
        """The LRNN, 2 -> 1."""
        own = {name: getattr(self, name) for name in ("depth", "rank", "components", "hidden")}
        return lj.LRNN(**{"in_dim": 2, "out_dim": 1, "activation": self.activation} | own | fields)


SIZES = {
    "h4": Size(3, 148, 4, 4, siren=2.0),
    "h8, 4 components": Size(3, 140, 4, 8, siren=2.7),
    "h8": Size(2, 128, 8, 8, siren=3.9),
    "h16": Size(3, 80, 8, 16, siren=5.3),
    "paper": Size(2, 106, 16, 1, siren=2.0, reference=4.0),
    "paper, spder": Size(2, 106, 16, 1, siren=2.0, reference=4.0, activation="spder"),
}
SIREN = lj.Siren(in_dim=2, out_dim=1)
PEERS: dict[str, Any] = {
    "paper": SIZES["paper"].model(),
    "h8": SIZES["h8"].model(),
    "SIREN": SIREN,
}
LEAST = {"eager": 4.0, "compile": 2.0}  # PyTorch's step over ours, for an LRNN
_NO_TORCH = 'PyTorch is not installed; install the peers extra: pip install "lrnn-jax[peers]"'

# Name: model, points, chunk.
CASES: dict[str, tuple[lj.LRNN, int, int | None]] = {
    "h4, 16,384 points": (SIZES["h4"].model(), 16_384, 256),
    "h4, 65,536 points": (SIZES["h4"].model(), 65_536, 256),
    "paper's, picture of 768 x 512": (lj.LRNN(in_dim=2, out_dim=3), 768 * 512, 512),
    "paper's, sound of 308,207": (
        lj.LRNN(in_dim=1, out_dim=1, activation="sin_arctan"),
        308_207,
        512,
    ),
    "h4, 16,384 points, literal form": (
        SIZES["h4"].model(implementation="reference"),
        16_384,
        None,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=(*STAGES, "all", "table"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--alone", action="store_true", help="the one case here, no row written")
    options = parser.parse_args()
    if options.stage == "table":
        print(table(read_rows()))
        return 0
    if options.alone:
        print(json.dumps(resident_case(options.cases[0])))
        return 0
    if options.stage != "all":
        return STAGES[options.stage](options)
    return max(stage(options) for stage in STAGES.values())


# LRNN against SIREN and its literal form ---------------------------------------------------------


def lrnn(options: argparse.Namespace) -> int:
    """A row for each size."""
    device_rates()  # first, as it pays for what a process compiles only once
    for name in options.sizes:
        print(f"lrnn, {name}: compiling", flush=True)
        add_row(RESULTS, {"stage": "lrnn", "name": name} | lrnn_row(SIZES[name], options.rounds))
    return 0


def lrnn_row(size: Size, rounds: int) -> Row:
    """The ratios of one size; the literal form is timed three times only, as it is slow."""
    model, data = size.model(implementation="lean"), random_data(SIREN, POINTS)
    default = default_chunk()
    programs = {f"lean {chunk}": training_step(model, data, chunk) for chunk in chunks()}
    programs |= {
        f"SIREN {chunk}": training_step(SIREN, data, chunk)
        for chunk in dict.fromkeys((*chunks(), POINTS))
    }
    programs["reference"] = training_step(size.model(implementation="reference"), data)
    if jax.default_backend() != "cpu":  # elsewhere it is only interpreted
        programs["pallas"] = training_step(size.model(implementation="pallas"), data)
    whole = programs.get(f"lean {POINTS}") or training_step(model, data)
    runs = {name: program.run for name, program in programs.items()}
    ms = milliseconds(runs, rounds, slow=("reference",))
    best = {kind: fastest(ms, kind) for kind in ("lean", "SIREN")}
    ours, siren = ms[f"lean {default}"], ms[best["SIREN"]]
    row: Row = {"parameters": model.parameter_count, "points": POINTS, "chunk": default}
    row |= {"ms": ms, "fastest": best}
    row |= {"compile_seconds": {n: round(p.compile_seconds, 2) for n, p in programs.items()}}
    row |= {"to_siren": round(ours / siren, 2), "to_siren_most": size.siren}
    row |= {"fastest_to_siren": round(ms[best["lean"]] / siren, 2)}
    row |= {"reference_ratio": round(ms["reference"] / ours, 1), "reference_least": size.reference}
    mb = {chunk: round(programs[f"lean {chunk}"].temp_mb, 2) for chunk in chunks()}
    row |= {"mb": mb[default], "least_mb": min(mb.values()), "whole_mb": round(whole.temp_mb, 1)}
    row |= {"reference_mb": round(programs["reference"].temp_mb, 1)}
    row |= {"memory_share": round(row["mb"] / row["reference_mb"], 4)}
    row |= {"least_memory_share": round(row["least_mb"] / row["reference_mb"], 4)}
    row |= {"memory_most": size.memory}
    row |= shares(whole.bytes, whole.flops, ours)
    if "pallas" in ms:  # of its kernels' operations XLA knows nothing; they are the lean form's
        row |= {"pallas_to_siren": round(ms["pallas"] / siren, 2)}
        row["pallas_shares"] = shares(programs["pallas"].bytes, whole.flops, ms["pallas"])
    return row


def chunks() -> tuple[int, ...]:
    """The chunks that are tried; an accelerator's default is no less than the whole batch."""
    return (128, 256, default_chunk()) if jax.default_backend() == "cpu" else (default_chunk(),)


def default_chunk(points: int = POINTS) -> int:
    """That of `Training`, or the whole batch where that is less."""
    return min(Training().chunk_points, points)


def fastest(ms: dict[str, float], kind: str) -> str:
    """The name of the fastest contender of a kind."""
    return min((name for name in ms if name.startswith(kind)), key=lambda name: ms[name])


def shares(moved: float, flops: float, ms: float) -> Row:
    """Of the device's measured copy bandwidth and float32 product rate."""
    bandwidth, rate = device_rates()
    return {
        "gigabytes_per_second": round(bandwidth / 1e9, 1),
        "gigaflops_per_second": round(rate / 1e9, 1),
        "bandwidth_share": round(1e3 * moved / ms / bandwidth, 4),
        "flops_share": round(1e3 * flops / ms / rate, 4),
    }


# Our sine against XLA's --------------------------------------------------------------------------


class ExactSiren(lj.Siren):
    """SIREN with XLA's own sine."""

    def layers(self, params: Any, x: jax.Array) -> list[Layer]:
        """sin(omega0 (W h + b)), and the head."""

        def hidden(own: Any) -> Layer:
            return lambda h: jnp.sin(self.omega0 * affine(h, own["weight"], own["bias"]))

        head = params["head"]
        stack: list[Layer] = [hidden(params[f"layer_{index}"]) for index in range(self.depth)]
        return [*stack, lambda h: affine(h, head["weight"], head["bias"])]


def sine(options: argparse.Namespace) -> int:
    """A row for SIREN's step and one for each sine."""
    data, exact = random_data(SIREN, POINTS), ExactSiren(in_dim=2, out_dim=1)
    print("sine: compiling", flush=True)
    tried = dict.fromkeys((*chunks(), POINTS))
    programs = {f"ours {chunk}": training_step(SIREN, data, chunk) for chunk in tried}
    programs |= {f"XLA's {chunk}": training_step(exact, data, chunk) for chunk in tried}
    ms = milliseconds({name: program.run for name, program in programs.items()}, options.rounds)
    default = default_chunk()
    row: Row = {"stage": "sine", "name": "SIREN", "points": POINTS, "chunk": default, "ms": ms}
    row["ratio"] = round(ms[f"XLA's {default}"] / ms[f"ours {default}"], 2)
    row["fastest_ratio"] = round(ms[fastest(ms, "XLA's")] / ms[fastest(ms, "ours")], 2)
    add_row(RESULTS, row)
    times = throughput(options.rounds)
    for name, ns in times.items():
        ratio = round(times["jnp.sin"] / ns, 1)
        add_row(RESULTS, {"stage": "sine", "name": name, "ns_per_element": ns, "ratio": ratio})
    return 0


def throughput(rounds: int, turns: int = 50) -> dict[str, float]:
    """ns an element of (512, 1024), `turns` applications in one program, arguments within +-30.

    A turn feeds the next one with a multiplication, which is in the time.
    """
    functions: dict[str, tuple[Callable, float]] = {
        "jnp.sin": (jnp.sin, 30.0),
        "sin": (sin, 30.0),
        "sinpi": (sinpi, 30.0 / np.pi),
    }
    start = jax.random.uniform(jax.random.key(0), (512, 1024), minval=-1.0)

    def repeated(function: Callable, scale: float, x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, turns, lambda _, x: function(scale * x), x)

    runs = {
        name: compiled(functools.partial(repeated, function, scale), start).run
        for name, (function, scale) in functions.items()
    }
    each = 1e6 / (turns * start.size)
    return {name: round(ms * each, 3) for name, ms in milliseconds(runs, rounds).items()}


# NestNet -----------------------------------------------------------------------------------------


def nestnet(options: argparse.Namespace) -> int:
    """A row for each height; ratios are to height 1, the ReLU version, at the same chunk."""
    print("nestnet: compiling", flush=True)
    models = {height: lj.NestNet(in_dim=2, out_dim=3, height=height) for height in (1, 2, 3)}
    data = random_data(models[1], NEST_POINTS)
    programs = {
        f"{height}, {chunk}": training_step(model, data, chunk)
        for height, model in models.items()
        for chunk in (512, NEST_POINTS)
    }
    ms = milliseconds({name: program.run for name, program in programs.items()}, options.rounds)
    for height, model in models.items():
        row: Row = {"stage": "nestnet", "name": f"height {height}", "points": NEST_POINTS}
        row["parameters"] = model.parameter_count
        for kind, chunk in (("chunk_512", 512), ("whole", NEST_POINTS)):
            name = f"{height}, {chunk}"
            row[kind] = {
                "ms": ms[name],
                "to_relu": round(ms[name] / ms[f"1, {chunk}"], 2),
                "mb": round(programs[name].temp_mb, 1),
            }
        add_row(RESULTS, row)
    return 0


# Resident memory ---------------------------------------------------------------------------------


def resident(options: argparse.Namespace) -> int:
    """A row for each case, measured in a process of its own, one that takes no GPU memory early."""
    for name in options.cases:
        print(f"resident, {name}", flush=True)
        command = [sys.executable, __file__, "resident", "--alone", "--cases", name]
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            own: Row = {"error": f"exit status {done.returncode}: {reason}"}
        else:
            own = json.loads(done.stdout)
        add_row(RESULTS, {"stage": "resident", "name": name} | own)
    return 0


def resident_case(name: str, steps: int = 2) -> Row:
    """Peak resident memory before compiling, after it and after `steps` steps of the loop."""
    model, points, chunk = CASES[name]
    data, training = random_data(model, points), Training(steps=steps)
    optimizer, key = training.transformation(), jax.random.key(0)
    state = jax.block_until_ready(initial_state(model.init(key), optimizer))
    before = peak_memory_mb()
    advance = make_advance(make_step(model, squared_error, optimizer, chunk=chunk), steps)
    program = advance.lower(state, data, key, np.int32(steps)).compile()
    memory, ready = program.memory_analysis(), peak_memory_mb()
    _, history, _ = jax.block_until_ready(program(state, data, key, np.int32(steps)))
    on_device = jax.devices()[0].memory_stats() or {}
    return {
        "points": points,
        "chunk": chunk,
        "steps": steps,
        "parameters": model.parameter_count,
        "before_mb": before,
        "compiled_mb": ready,
        "peak_mb": peak_memory_mb(),
        "temp_mb": round((memory.temp_size_in_bytes if memory else 0) / 1e6, 2),
        "device_peak_mb": round(on_device.get("peak_bytes_in_use", 0) / 1e6, 1) or None,
        "loss": float(history["loss"][-1]),
    }


# PyTorch -----------------------------------------------------------------------------------------


def peers(options: argparse.Namespace) -> int:
    """A row for each network; 2 where there is no PyTorch."""
    try:
        module = importlib.import_module("peers")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        print(_NO_TORCH)
        return 2
    if not module.available():
        print("This PyTorch cannot use the accelerator that JAX runs on: nothing to compare")
        return 2
    for name, model in PEERS.items():
        print(f"peers, {name}: compiling", flush=True)
        add_row(RESULTS, {"stage": "peers", "name": name} | peer_row(module, model, options.rounds))
    return 0


def peer_row(module: Any, model: Any, rounds: int) -> Row:
    """PyTorch's step over ours, from equal parameters, after a check that the two agree."""
    data = random_data(model, POINTS)
    program = training_step(model, data, default_chunk())
    params = program.arguments[0].params
    eager = module.Peer(model, params, data, compiled=False)
    row: Row = {"points": POINTS, "chunk": default_chunk(), "parameters": model.parameter_count}
    row |= {"torch": module.version(), "threads": threads(), "torch_device": eager.device}
    row |= agreement(model, params, data, eager)
    runs: dict[str, Run] = {"ours": program.run, "eager": eager.run}
    try:
        fast = module.Peer(model, params, data, compiled=True)
        _require_close("torch.compile's loss", fast.loss().item(), row["loss"])
        fast.run(1)
        runs["compile"] = fast.run
    except Exception as error:  # of a dozen kinds, a missing C++ compiler among them
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        row["compile_error"] = f"{type(error).__name__}: {reason}"
    times = timings(runs, rounds, settle=True)
    ms = {name: round(statistics.median(own), 4) for name, own in times.items()}
    row["ms"], row["least_ms"] = ms, {name: round(min(own), 4) for name, own in times.items()}
    for name, least in LEAST.items():
        if name in ms:
            row[f"{name}_ratio"] = round(ms[name] / ms["ours"], 2)
            row[f"{name}_ratio_of_least"] = round(min(times[name]) / min(times["ours"]), 2)
            row[f"{name}_least"] = least if isinstance(model, lj.LRNN) else None
    return row


def agreement(model: Any, params: Any, data: Any, peer: Any) -> Row:
    """The relative differences of the values and of the loss, which are to be below 1e-3."""
    ours = np.asarray(jax.jit(model.apply)(params, data[0]))
    loss = float(np.mean((ours - np.asarray(data[1])) ** 2))
    return {
        "loss": loss,
        "value_difference": _require_close("PyTorch's values", peer.values(), ours),
        "loss_difference": _require_close("PyTorch's loss", peer.loss().item(), loss),
    }


def _require_close(what: str, theirs: Any, ours: Any, tolerance: float = 1e-3) -> float:
    difference = float(np.max(np.abs(theirs - ours)) / np.max(np.abs(ours)))
    if not difference < tolerance:
        sys.exit(f"{what} differ from ours by {difference:.1e} of the largest")
    return difference


STAGES: dict[str, Callable[[argparse.Namespace], int]] = {
    "resident": resident,
    "lrnn": lrnn,
    "sine": sine,
    "nestnet": nestnet,
    "peers": peers,
}


# Tables ------------------------------------------------------------------------------------------


def read_rows() -> list[Row]:
    """All rows so far."""
    return rows_of(RESULTS)


def table(rows: list[Row]) -> str:
    """A table for each stage that has rows."""
    parts: list[str] = []
    for stage, (title, header, line) in TABLES.items():
        for machine, own in by_machine(row for row in rows if row["stage"] == stage).items():
            where = f"{title} {machine}, jax {own[-1]['jax']}:"
            parts += [where, markdown(header, map(line, own))]
    return "\n\n".join(parts)


def _lrnn_line(row: Row) -> list[str]:
    default = f"lean {row['chunk']}"
    return [
        row["name"],
        f"{row['parameters']:,}",
        f"{row['ms'][default]:.1f}",
        f"{row['to_siren']:.2f} (<= {row['to_siren_most']:g})",
        f"{row['fastest_to_siren']:.2f} ({row['fastest']['lean'].split()[1]})",
        f"{row['reference_ratio']:.1f} (>= {row['reference_least']:g})",
        f"{row['mb']:.1f}, {row['least_mb']:.1f} MB",
        f"{row['whole_mb']:.0f} MB",
        f"{row['reference_mb']:.0f} MB",
        f"1/{1 / row['memory_share']:.0f}, 1/{1 / row['least_memory_share']:.0f}"
        f" (<= 1/{1 / row['memory_most']:.0f})",
        f"{100 * row['bandwidth_share']:.0f} % of {row['gigabytes_per_second']:.0f} GB/s",
        f"{100 * row['flops_share']:.0f} % of {row['gigaflops_per_second']:.0f} GFLOP/s",
        f"{row['pallas_to_siren']:.2f}" if "pallas_to_siren" in row else "-",
    ]


def _sine_line(row: Row) -> list[str]:
    if row["name"] == "SIREN":
        steps = ", ".join(f"{name} {ms:.1f}" for name, ms in row["ms"].items())
        return ["SIREN's step, ms", steps, f"{row['ratio']:.2f} (best: {row['fastest_ratio']:.2f})"]
    return [f"{row['name']}, ns an element", f"{row['ns_per_element']:.2f}", f"{row['ratio']:.1f}"]


def _nestnet_line(row: Row) -> list[str]:
    cells = [row["name"], f"{row['parameters']:,}"]
    for kind in ("chunk_512", "whole"):
        own = row[kind]
        cells += [f"{own['ms']:.1f}", f"{own['to_relu']:.2f}", f"{own['mb']:.1f} MB"]
    return cells


def _resident_line(row: Row) -> list[str]:
    if "error" in row:
        return [row["name"], "", row["error"], *4 * [""]]
    device = row["device_peak_mb"]
    return [
        row["name"],
        str(row["chunk"] or "whole"),
        f"{row['before_mb']:.0f} MB",
        f"{row['compiled_mb']:.0f} MB",
        f"{row['peak_mb']:.0f} MB",
        f"{row['temp_mb']:.1f} MB",
        f"{device:.0f} MB" if device else "-",
    ]


def _peers_line(row: Row) -> list[str]:
    def ratio(name: str) -> str:
        if name not in row["ms"]:
            return row["compile_error"]
        least = row[f"{name}_least"]
        ratios = f"{row[f'{name}_ratio']:.1f}, {row[f'{name}_ratio_of_least']:.1f}"
        return ratios + (f" (>= {least:g})" if least else "")

    ms = row["ms"]
    times = " / ".join(f"{ms[name]:.1f}" for name in ("ours", "eager", "compile") if name in ms)
    return [
        row["name"],
        times,
        ratio("eager"),
        ratio("compile"),
        f"{row['value_difference']:.0e}",
        f"{row['torch']}, {row['torch_device']}, {row['threads']} threads",
    ]


TABLES: dict[str, tuple[str, list[str], Callable[[Row], list[str]]]] = {
    "lrnn": (
        "A step at 2,048 points, in brackets what is wanted;",
        [
            "size",
            "parameters",
            "ms",
            "to SIREN's best",
            "best chunk's",
            "literal form / ours",
            "memory, default and least chunk",
            "ours, whole batch",
            "literal form",
            "share",
            "bandwidth",
            "float32 products",
            "fused kernels to SIREN's",
        ],
        _lrnn_line,
    ),
    "sine": ("XLA's sine over ours (SIREN: >= 1.8);", ["what", "time", "XLA's / this"], _sine_line),
    "nestnet": (
        "NestNet, a step at 4,096 points, in chunks and whole (height 2: <= 1.6, 3: <= 2.6);",
        ["net", "parameters", *2 * ["ms", "to ReLU's", "memory"]],
        _nestnet_line,
    ),
    "resident": (
        "Peak resident memory of a training process (65,536 points: <= 450 MB, signals: 2 GB);",
        ["case", "chunk", "at start", "compiled", "peak", "temporary", "on the device"],
        _resident_line,
    ),
    "peers": (
        "PyTorch's step over ours at 2,048 points: of medians, of least times (what is wanted);",
        ["net", "ms: ours / eager / compile", "eager", "compile", "values differ by", "PyTorch"],
        _peers_line,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
