"""Time and memory of complete training steps.

    python benchmarks/speed.py lrnn      # LRNN against SIREN, and against its literal form
    python benchmarks/speed.py sine      # our sine against XLA's
    python benchmarks/speed.py nestnet   # NestNet against its ReLU version
    python benchmarks/speed.py resident  # peak resident memory, each case in a separate process
    python benchmarks/speed.py peers     # the same networks in PyTorch: pip install lrnn-jax[peers]
    python benchmarks/speed.py all       # all of these
    python benchmarks/speed.py table     # the rows as Markdown

A step is value and gradient of a mean squared error and an Adam update, float32, at 2,048 points in
2-D (NestNet: 4,096). Everything is compiled first and then timed in turn in one process; ratios are
of medians. "Default" is the chunk of `Training`: 512 points on a CPU, 65,536 on an accelerator,
which is the full batch here. Memory is XLA's temporary memory of the step.

The two shares are of the copy bandwidth and the float32 matrix product rate measured on the same
device: the bytes of the full-batch program, in which XLA counts a CPU's loop over hidden units
once, and its operations.

The stage `peers` needs an idle machine: if another process occupies a core, PyTorch's threads wait
for each other far longer than XLA's. With `--record`, rows are added to
benchmarks/results/speed.json as they are measured.
"""

import argparse
import dataclasses
import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
from common import FOLDER, Contender, Results, Row

import lrnn_jax as lj
from lrnn_jax.experiments.summary import peak_memory_mb
from lrnn_jax.kernels.activations import sin, sinpi
from lrnn_jax.kernels.dense import affine
from lrnn_jax.models.network import Layer
from lrnn_jax.training import Training, initial_state, make_advance, make_step

RESULTS = Results(FOLDER / "speed.json")
POINTS = 2048
NEST_POINTS = 4096


@dataclasses.dataclass(frozen=True)
class Size:
    """An LRNN of about 200k parameters and its targets.

    Args:
      siren: upper limit of its step time over SIREN's.
      reference: lower limit of the literal form's step time over its own.
      memory: upper limit of its temporary memory over the literal form's.
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
        names = ("depth", "rank", "components", "hidden", "activation")
        sizes = {name: getattr(self, name) for name in names}
        return lj.LRNN(in_dim=2, out_dim=1, **sizes | fields)


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
LEAST = {"eager": 4.0, "compile": 2.0}  # lower limits of PyTorch's step over ours, for an LRNN
SOUND = lj.LRNN(in_dim=1, out_dim=1, activation="sin_arctan")
LITERAL = SIZES["h4"].model(implementation="reference")

# Cases of the stage `resident`. Name: model, points, chunk.
CASES: dict[str, tuple[lj.LRNN, int, int | None]] = {
    "h4, 16,384 points": (SIZES["h4"].model(), 16_384, 256),
    "h4, 65,536 points": (SIZES["h4"].model(), 65_536, 256),
    "paper's, image of 768 x 512": (lj.LRNN(in_dim=2, out_dim=3), 768 * 512, 512),
    "paper's, sound of 308,207": (SOUND, 308_207, 512),
    "h4, 16,384 points, literal form": (LITERAL, 16_384, None),
}


def main() -> None:
    parser = common.stage_parser(__doc__, (*STAGES, "all"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--alone", action="store_true", help="the one case here, no row written")
    options = common.parse(parser, RESULTS, table)
    if options.alone:
        print(json.dumps(resident_case(options.cases[0])))
        return
    common.run_stages(STAGES, options)


# LRNN against SIREN and its literal form ---------------------------------------------------------


def lrnn(options: argparse.Namespace) -> None:
    """Add a row for each size."""
    common.device_rates()  # first, so that what a process compiles only once is not timed below
    for name in options.sizes:
        print(f"lrnn, {name}: compiling", flush=True)
        RESULTS.add({"stage": "lrnn", "name": name} | lrnn_row(SIZES[name], options.rounds))


def lrnn_row(size: Size, rounds: int) -> Row:
    """The ratios of one size. The literal form is slow, so it is timed three times only."""
    model, data = size.model(implementation="lean"), common.random_data(SIREN, POINTS)
    default = default_chunk()
    programs = common.training_steps("lean", model, data, chunks())
    programs |= common.training_steps("SIREN", SIREN, data, dict.fromkeys((*chunks(), POINTS)))
    programs["reference"] = common.training_step(size.model(implementation="reference"), data)
    if jax.default_backend() != "cpu":  # on a CPU the kernels are interpreted
        programs["pallas"] = common.training_step(size.model(implementation="pallas"), data)
    full_batch = programs.get(f"lean {POINTS}") or common.training_step(model, data)
    ms = common.milliseconds(programs, rounds, slow=("reference",))
    best = {kind: fastest(ms, kind) for kind in ("lean", "SIREN")}
    ours, siren = ms[f"lean {default}"], ms[best["SIREN"]]
    mb, reference_mb = common.rounded(programs, "temp_mb"), round(programs["reference"].temp_mb, 1)
    default_mb, least_mb = mb[f"lean {default}"], min(mb[f"lean {chunk}"] for chunk in chunks())
    row: Row = {
        "parameters": model.parameter_count,
        "points": POINTS,
        "chunk": default,
        "ms": ms,
        "fastest": best,
        "compile_seconds": common.rounded(programs, "compile_seconds"),
        "to_siren": round(ours / siren, 2),
        "to_siren_most": size.siren,
        "fastest_to_siren": round(ms[best["lean"]] / siren, 2),
        "reference_ratio": round(ms["reference"] / ours, 1),
        "reference_least": size.reference,
        "mb": default_mb,
        "least_mb": least_mb,
        "whole_mb": round(full_batch.temp_mb, 1),
        "reference_mb": reference_mb,
        "memory_share": round(default_mb / reference_mb, 4),
        "least_memory_share": round(least_mb / reference_mb, 4),
        "memory_most": size.memory,
        **shares(full_batch.bytes, full_batch.flops, ours),
    }
    if "pallas" in ms:  # XLA cannot count the operations of its kernels: take the lean form's
        row["pallas_to_siren"] = round(ms["pallas"] / siren, 2)
        row["pallas_shares"] = shares(programs["pallas"].bytes, full_batch.flops, ms["pallas"])
    return row


def chunks() -> tuple[int, ...]:
    """The chunks that are timed. An accelerator's default is the full batch already."""
    return (128, 256, default_chunk()) if jax.default_backend() == "cpu" else (default_chunk(),)


def default_chunk(points: int = POINTS) -> int:
    """The chunk of `Training`, or the full batch if that is smaller."""
    return min(Training().chunk_points, points)


def fastest(ms: dict[str, float], kind: str) -> str:
    """The name of the fastest contender of a kind."""
    return min((name for name in ms if name.startswith(kind)), key=lambda name: ms[name])


def shares(moved: float, flops: float, ms: float) -> Row:
    """Shares of the device's measured copy bandwidth and float32 matrix product rate."""
    bandwidth, rate = common.device_rates()
    return {
        "gigabytes_per_second": round(bandwidth / 1e9, 1),
        "gigaflops_per_second": round(rate / 1e9, 1),
        "bandwidth_share": round(1e3 * moved / ms / bandwidth, 4),
        "flops_share": round(1e3 * flops / ms / rate, 4),
    }


# Our sine against XLA's --------------------------------------------------------------------------


class ExactSiren(lj.Siren):
    """SIREN with XLA's sine."""

    def layers(self, params: Any, x: jax.Array) -> list[Layer]:
        """sin(omega0 (W h + b)), and the head."""

        def hidden(layer: Any) -> Layer:
            return lambda h: jnp.sin(self.omega0 * affine(h, layer["weight"], layer["bias"]))

        head = params["head"]
        stack: list[Layer] = [hidden(params[f"layer_{index}"]) for index in range(self.depth)]
        return [*stack, lambda h: affine(h, head["weight"], head["bias"])]


def sine(options: argparse.Namespace) -> None:
    """Add a row for SIREN's step and one for each sine."""
    data, exact = common.random_data(SIREN, POINTS), ExactSiren(in_dim=2, out_dim=1)
    print("sine: compiling", flush=True)
    sizes = dict.fromkeys((*chunks(), POINTS))
    programs = common.training_steps("ours", SIREN, data, sizes)
    programs |= common.training_steps("XLA's", exact, data, sizes)
    ms = common.milliseconds(programs, options.rounds)
    default = default_chunk()
    row: Row = {"stage": "sine", "name": "SIREN", "points": POINTS, "chunk": default, "ms": ms}
    row["ratio"] = round(ms[f"XLA's {default}"] / ms[f"ours {default}"], 2)
    row["fastest_ratio"] = round(ms[fastest(ms, "XLA's")] / ms[fastest(ms, "ours")], 2)
    RESULTS.add(row)
    times = throughput(options.rounds)
    for name, ns in times.items():
        ratio = round(times["jnp.sin"] / ns, 1)
        RESULTS.add({"stage": "sine", "name": name, "ns_per_element": ns, "ratio": ratio})


def throughput(rounds: int, repeats: int = 50) -> dict[str, float]:
    """Nanoseconds per element of a (512, 1024) array with arguments within +-30.

    One program applies the function `repeats` times in sequence. The time includes the
    multiplication that scales each argument.
    """
    functions: dict[str, tuple[Callable, float]] = {
        "jnp.sin": (jnp.sin, 30.0),
        "sin": (sin, 30.0),
        "sinpi": (sinpi, 30.0 / np.pi),
    }
    start = jax.random.uniform(jax.random.key(0), (512, 1024), minval=-1.0)

    def repeated(function: Callable, scale: float, x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, repeats, lambda _, x: function(scale * x), x)

    programs = {
        name: common.compiled(functools.partial(repeated, function, scale), start)
        for name, (function, scale) in functions.items()
    }
    ns = 1e6 / (repeats * start.size)
    return {name: round(ms * ns, 3) for name, ms in common.milliseconds(programs, rounds).items()}


# NestNet -----------------------------------------------------------------------------------------


def nestnet(options: argparse.Namespace) -> None:
    """Add a row for each height; ratios are to height 1, the ReLU version, at the same chunk."""
    print("nestnet: compiling", flush=True)
    models = {height: lj.NestNet(in_dim=2, out_dim=3, height=height) for height in (1, 2, 3)}
    data = common.random_data(models[1], NEST_POINTS)
    programs = {}
    for height, model in models.items():
        programs |= common.training_steps(f"{height},", model, data, (512, NEST_POINTS))
    ms = common.milliseconds(programs, options.rounds)
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
        RESULTS.add(row)


# Resident memory ---------------------------------------------------------------------------------


def resident(options: argparse.Namespace) -> None:
    """Add a row for each case, measured in a separate process without GPU preallocation."""
    for name in options.cases:
        print(f"resident, {name}", flush=True)
        command = [sys.executable, __file__, "resident", "--alone", "--cases", name]
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            result: Row = {"error": f"exit status {done.returncode}: {reason}"}
        else:
            result = json.loads(done.stdout)
        RESULTS.add({"stage": "resident", "name": name} | result)


def resident_case(name: str, steps: int = 2) -> Row:
    """Peak resident memory before compilation, after it, and after a loop of `steps` steps."""
    model, points, chunk = CASES[name]
    data, training = common.random_data(model, points), Training(steps=steps)
    optimizer, key = training.transformation(), jax.random.key(0)
    state = jax.block_until_ready(initial_state(model.init(key), optimizer))
    before = peak_memory_mb()
    advance = make_advance(make_step(model, common.squared_error, optimizer, chunk=chunk), steps)
    program = advance.lower(state, data, key, np.int32(steps)).compile()
    after_compilation = peak_memory_mb()
    _, history, _ = jax.block_until_ready(program(state, data, key, np.int32(steps)))
    on_device = jax.devices()[0].memory_stats() or {}
    return {
        "points": points,
        "chunk": chunk,
        "steps": steps,
        "parameters": model.parameter_count,
        "before_mb": before,
        "compiled_mb": after_compilation,
        "peak_mb": peak_memory_mb(),
        "temp_mb": round(common.temp_mb(program), 2),
        "device_peak_mb": round(on_device.get("peak_bytes_in_use", 0) / 1e6, 1) or None,
        "loss": float(history["loss"][-1]),
    }


# PyTorch -----------------------------------------------------------------------------------------


def peers(options: argparse.Namespace) -> None:
    """Add a row for each network. The process exits if PyTorch cannot be used."""
    try:
        module = importlib.import_module("peers")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        sys.exit('PyTorch is not installed; install it with: pip install "lrnn-jax[peers]"')
    if not module.available():
        sys.exit("PyTorch cannot use the accelerator that JAX runs on: nothing to compare")
    for name, model in PEERS.items():
        print(f"peers, {name}: compiling", flush=True)
        RESULTS.add({"stage": "peers", "name": name} | peer_row(module, model, options.rounds))


def peer_row(module: Any, model: Any, rounds: int) -> Row:
    """Ratio of PyTorch's step to ours, from equal parameters, after a check that both agree."""
    data = common.random_data(model, POINTS)
    program = common.training_step(model, data, default_chunk())
    params = program.arguments[0].params
    eager = module.Peer(model, params, data, compiled=False)
    row: Row = {"points": POINTS, "chunk": default_chunk(), "parameters": model.parameter_count}
    row |= {"torch": module.version(), "threads": common.threads(), "torch_device": eager.device}
    row |= agreement(model, params, data, eager)
    contenders: dict[str, Contender] = {"ours": program, "eager": eager}
    try:
        fast = module.Peer(model, params, data, compiled=True)
        common.require_close("torch.compile's loss", fast.loss().item(), row["loss"], 1e-3)
        fast.run(1)
        contenders["compile"] = fast
    except Exception as error:  # of many types, such as that of a missing C++ compiler
        row["compile_error"] = common.describe(error)
    times = common.timings(contenders, rounds, settle=True)
    ms, least_ms = common.summary(times), common.summary(times, min)
    row |= {"ms": ms, "least_ms": least_ms}
    for name, least in LEAST.items():
        if name in ms:
            row[f"{name}_ratio"] = round(ms[name] / ms["ours"], 2)
            row[f"{name}_ratio_of_least"] = round(least_ms[name] / least_ms["ours"], 2)
            row[f"{name}_least"] = least if isinstance(model, lj.LRNN) else None
    return row


def agreement(model: Any, params: Any, data: Any, peer: Any) -> Row:
    """Relative differences of the values and of the loss. The process exits at 1e-3 or more."""
    ours = np.asarray(jax.jit(model.apply)(params, data[0]))
    loss = float(np.mean((ours - np.asarray(data[1])) ** 2))
    return {
        "loss": loss,
        "value_difference": common.require_close("PyTorch's values", peer.values(), ours, 1e-3),
        "loss_difference": common.require_close("PyTorch's loss", peer.loss().item(), loss, 1e-3),
    }


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "resident": resident,
    "lrnn": lrnn,
    "sine": sine,
    "nestnet": nestnet,
    "peers": peers,
}


# Tables ------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """A table for each stage and machine."""
    parts: list[str] = []
    for stage, (title, header, line) in TABLES.items():
        chosen = [row for row in rows if row["stage"] == stage]
        for machine, group in common.by_machine(chosen).items():
            caption = f"{title} {machine}, jax {group[-1]['jax']}:"
            parts += [caption, common.markdown(header, map(line, group))]
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
    return [f"{row['name']}, ns per element", f"{row['ns_per_element']:.2f}", f"{row['ratio']:.1f}"]


def _nestnet_line(row: Row) -> list[str]:
    cells = [row["name"], f"{row['parameters']:,}"]
    for kind in ("chunk_512", "whole"):
        step = row[kind]
        cells += [f"{step['ms']:.1f}", f"{step['to_relu']:.2f}", f"{step['mb']:.1f} MB"]
    return cells


def _resident_line(row: Row) -> list[str]:
    if "error" in row:
        return [row["name"], "", row["error"], *4 * [""]]
    device = row["device_peak_mb"]
    return [
        row["name"],
        str(row["chunk"] or "full batch"),
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


# Stage: caption, header, cells of a row.
TABLES: dict[str, tuple[str, str, Callable[[Row], list[str]]]] = {
    "lrnn": (
        "A step at 2,048 points, with the target in brackets;",
        "size | parameters | ms | to SIREN's best | best chunk's | literal form / ours "
        "| memory, default and least chunk | ours, full batch | literal form | share | bandwidth "
        "| float32 products | fused kernels to SIREN's",
        _lrnn_line,
    ),
    "sine": ("XLA's sine over ours (SIREN: >= 1.8);", "function | time | XLA's / this", _sine_line),
    "nestnet": (
        "NestNet, a step at 4,096 points: chunks, full batch (height 2: <= 1.6, 3: <= 2.6);",
        "net | parameters | ms | to ReLU's | memory | ms | to ReLU's | memory",
        _nestnet_line,
    ),
    "resident": (
        "Peak resident memory of a training process (65,536 points: <= 450 MB, signals: 2 GB);",
        "case | chunk | at start | compiled | peak | temporary | on the device",
        _resident_line,
    ),
    "peers": (
        "PyTorch's step over ours at 2,048 points: ratios of medians, of minima (target);",
        "net | ms: ours / eager / compile | eager | compile | values differ by | PyTorch",
        _peers_line,
    ),
}


if __name__ == "__main__":
    main()
