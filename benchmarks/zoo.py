"""Every model of the zoo at about 20k and 200k parameters on one picture.

    python benchmarks/zoo.py cost     # parameters, FLOPs, compile and step time, memory of a step
    python benchmarks/zoo.py fit      # PSNR after 250 and 1000 steps at the best rate of the sweep
    python benchmarks/zoo.py table    # both as Markdown

The picture is scikit-image's astronaut at 64 x 64, RGB. All models have one optimiser (Adam, the
rate decayed to 0 along a cosine), the same chunk of points and the same sweep of learning rates;
the sweep is decided by the final PSNR after 250 steps, and that rate is then run for 1000. At 200k
the networks' sweep has the three lower rates only, for time; the tables of numbers have all. The
sizes are the nearest that a model's width, rank or resolution allows. Step times are medians of
interleaved runs in one process. Every row is added to benchmarks/results/zoo.json when it is done.
"""

import argparse
import functools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lrnn_jax as lj
from lrnn_jax.fields import BoundModel
from lrnn_jax.models import Network
from lrnn_jax.training import compiler_options, initial_state, make_step

RESULTS = Path(__file__).parent / "results" / "zoo.json"
SIZES = (20_000, 200_000)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
STEPS = (250, 1000)
CHUNK = 512
_DIVERGED = 0.0
PROBLEM = lj.Image(source="astronaut", size=(64, 64))

# Name: class, the field that sets the size, other fields. `small` holds what differs at 20k.
ZOO: dict[str, tuple[type, str, dict[str, Any]]] = {
    "LRNN-SPDER": (lj.LRNN, "rank", {}),
    "LRNN-sin": (lj.LRNN, "rank", {"activation": "sin"}),
    "NestNet": (lj.NestNet, "width", {}),
    "NestNet, height 3": (lj.NestNet, "width", {"height": 3}),
    "its ReLU version": (lj.NestNet, "width", {"height": 1}),
    "SIREN": (lj.Siren, "width", {"depth": 3}),
    "SPDER": (lj.Spder, "width", {"depth": 3}),
    "FINER": (lj.Finer, "width", {"depth": 3}),
    "Gauss": (lj.Gauss, "width", {}),
    "WIRE": (lj.Wire, "width", {}),
    "WIRE-2D": (lj.Wire2D, "width", {}),
    "FourierNet": (lj.FourierNet, "width", {}),
    "GaborNet": (lj.GaborNet, "width", {}),
    "ReLU+PE": (lj.ReluPE, "width", {"frequencies": 4}),
    "FFN": (lj.FFN, "width", {}),
    "tanh MLP": (lj.MLP, "width", {}),
    "KAN": (lj.KAN, "width", {"depth": 2}),
    "ChebyKAN": (lj.ChebyKAN, "width", {"depth": 2}),
    "grid": (lj.Grid, "resolution", {}),
    "SPINN": (lj.Spinn, "width", {}),
    "CP tensor": (lj.CPTensor, "rank", {"resolution": 64}),
    "Tucker tensor": (lj.TuckerTensor, "rank", {"resolution": 64}),
}
SMALL: dict[str, dict[str, Any]] = {
    "LRNN-SPDER": {"components": 4},
    "LRNN-sin": {"components": 4},
    "FFN": {"features": 32},
}
CHEAP = ("grid", "CP tensor", "Tucker tensor")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("cost", "fit", "table"))
    parser.add_argument("--models", nargs="+", default=list(ZOO), choices=list(ZOO))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, choices=SIZES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    if options.stage == "table":
        print(table(read_rows()))
        return 0
    for size in options.sizes:
        models = {name: build(name, size) for name in options.models}
        if options.stage == "cost":
            measure(models, size)
            continue
        for name, model in models.items():
            fit_one(name, model, size, options.seeds)
    return 0


def build(name: str, size: int) -> Network:
    """The model whose number of parameters is nearest to `size`."""
    kind, field, fields = ZOO[name]
    fields = {"in_dim": 2, "out_dim": 3, **fields, **(SMALL.get(name, {}) if size < 1e5 else {})}
    return nearest(lambda value: kind(**fields | {field: value}), size)


def nearest(sized: Callable[[int], Network], size: int) -> Network:
    """Of sized(2), sized(3), ... the model whose number of parameters is nearest to `size`."""
    low, high = 2, 4
    while sized(high).parameter_count < size:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sized(middle).parameter_count < size else (low, middle)
    return min(map(sized, (low, high)), key=lambda model: abs(model.parameter_count - size))


# What a step costs -------------------------------------------------------------------------------


def measure(models: dict[str, Network], size: int, rounds: int = 9) -> None:
    """A row for each model; step times interleaved, their ratio to SIREN's."""
    data, key, runs = jax.device_put(PROBLEM.load()), jax.random.key(0), {}
    siren = {"SIREN": build("SIREN", size)}
    for name, model in (siren | models).items():
        optimizer = optax.adam(1e-3)
        state = initial_state(model.init(key), optimizer)
        step = functools.partial(make_step, model, PROBLEM.loss, optimizer)
        begun = time.perf_counter()
        lowered = jax.jit(step(chunk=CHUNK)).lower(state, data, key)
        compiled = lowered.compile(compiler_options())
        seconds = time.perf_counter() - begun
        whole = jax.jit(step()).lower(state, data, key).compile().memory_analysis()
        runs[name] = (
            compiled,
            state,
            [],
            seconds,
            (whole.temp_size_in_bytes if whole else 0) / 1e6,
        )
    for _ in range(rounds):
        for compiled, state, times, *_ in runs.values():
            begun = time.perf_counter()
            jax.block_until_ready(compiled(state, data, key))
            times.append(time.perf_counter() - begun)
    siren_seconds = statistics.median(runs["SIREN"][2])
    for name, model in models.items():
        _, _, times, compile_seconds, memory = runs[name]
        points = data.x.shape[0]
        add_row(
            {
                "stage": "cost",
                "model": name,
                "size": size,
                "parameters": model.parameter_count,
                "flops_per_point": model.flops(points) / points,
                "compile_seconds": round(compile_seconds, 2),
                "step_ms": round(1e3 * statistics.median(times), 2),
                "to_siren": round(statistics.median(times) / siren_seconds, 2),
                "step_memory_mb": round(memory, 1),
            }
        )


# How well it fits --------------------------------------------------------------------------------


def fit_one(name: str, model: Network, size: int, seeds: list[int]) -> None:
    """The sweep, and the long run at its best rate, for each seed the final PSNR."""
    rates = RATES if size < 1e5 or name in CHEAP else RATES[:3]
    sweep = {rate: psnr_after(model, rate, STEPS[0], seeds[0])[0] for rate in rates}
    best = max(sweep, key=lambda rate: sweep[rate])
    short = [psnr_after(model, best, STEPS[0], seed)[0] for seed in seeds[1:]]
    long = [psnr_after(model, best, STEPS[1], seed) for seed in seeds]
    add_row(
        {
            "stage": "fit",
            "model": name,
            "size": size,
            "parameters": model.parameter_count,
            "sweep": {f"{rate:g}": value for rate, value in sweep.items()},
            "rate": best,
            "seeds": seeds,
            "psnr_250": [sweep[best], *short],
            "psnr_1000": [final for final, _ in long],
            "best_psnr_1000": [oracle for _, oracle in long],
        }
    )


def psnr_after(model: Network, rate: float, steps: int, seed: int) -> tuple[float, float]:
    """Final PSNR in dB, and the best of all steps, an oracle; 0 where the fit diverged."""
    data = PROBLEM.load()
    params, least = _fit(model, jax.device_put(data), jax.random.key(seed), rate, steps)
    final = PROBLEM.evaluate(BoundModel(model, params), data)["psnr"]
    if not math.isfinite(final):
        return _DIVERGED, _DIVERGED
    oracle = PROBLEM.progress({"loss": float(least)})["psnr"]
    return round(final, 2), max(round(oracle, 2), round(final, 2))


@functools.partial(jax.jit, static_argnums=0)
def _fit(model: Network, data: Any, key: jax.Array, rate: jax.Array, steps: jax.Array) -> Any:
    """`steps` of Adam with a cosine; rate and steps are traced, so a model compiles once."""
    optimizer = optax.adam(lambda count: rate * 0.5 * (1 + jnp.cos(jnp.pi * count / steps)))
    init_key, step_key = jax.random.split(key)
    step = make_step(model, PROBLEM.loss, optimizer, chunk=CHUNK)

    def body(_: int, carry: Any) -> Any:
        state, least = carry
        state, terms = step(state, data, step_key)
        return state, jnp.fmin(least, terms["loss"])

    start = initial_state(model.init(init_key), optimizer)
    state, least = jax.lax.fori_loop(0, steps, body, (start, jnp.asarray(jnp.inf)))
    return state.params, least


# Rows and tables ---------------------------------------------------------------------------------


def read_rows() -> list[dict[str, Any]]:
    """All rows so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def add_row(row: dict[str, Any]) -> None:
    """Puts a row in the place of an older one of the same stage, model and size."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    row |= {"machine": machine(), "jax": jax.__version__, "commit": commit.stdout.strip()}
    same = ("stage", "model", "size")
    rows = [old for old in read_rows() if any(old[name] != row[name] for name in same)]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([*rows, row], indent=1) + "\n")
    print(json.dumps(row), flush=True)


def machine() -> str:
    """The device and the processor that this runs on."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.processor()}"


def table(rows: list[dict[str, Any]]) -> str:
    """One table for each size, in the order of ZOO."""
    found = {(row["stage"], row["model"], row["size"]): row for row in rows}
    lines: list[str] = []
    for size in SIZES:
        lines += [
            f"About {size // 1000}k parameters:",
            "",
            "| model | parameters | FLOPs a point | compile s | step / SIREN's | memory of a step "
            "| best rate | dB after 250 | dB after 1000 (best step) |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name in ZOO:
            cost, fit = found.get(("cost", name, size)), found.get(("fit", name, size))
            if cost is not None and fit is not None:
                lines.append(_line(name, cost, fit))
        lines.append("")
    return "\n".join(lines).rstrip()


def _line(name: str, cost: dict[str, Any], fit: dict[str, Any]) -> str:
    long = _median_and_spread(fit["psnr_1000"])
    best = f"{statistics.median(fit['best_psnr_1000']):.1f}"
    cells = (
        name,
        f"{cost['parameters']:,}",
        f"{cost['flops_per_point']:,.0f}",
        f"{cost['compile_seconds']:.1f}",
        f"{cost['to_siren']:.2f}",
        f"{cost['step_memory_mb']:.0f} MB",
        f"{fit['rate']:g}",
        _median_and_spread(fit["psnr_250"]),
        f"{long} ({best})",
    )
    return f"| {' | '.join(cells)} |"


def _median_and_spread(values: list[float]) -> str:
    middle = f"{np.median(values):.1f}"
    half = (max(values) - min(values)) / 2
    return middle if len(values) == 1 else f"{middle} ± {half:.1f}"


if __name__ == "__main__":
    sys.exit(main())
