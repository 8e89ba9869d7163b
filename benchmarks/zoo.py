"""Every model of the zoo with about 20k and 200k parameters, fitted to one image.

    python benchmarks/zoo.py cost     # parameters, FLOPs, compile and step time, memory of a step
    python benchmarks/zoo.py fit      # PSNR after 250 and 1000 steps at the best learning rate
    python benchmarks/zoo.py table    # both as Markdown

The image is scikit-image's astronaut at 64 x 64, RGB. All models have the same optimiser (Adam, the
learning rate decays to 0 along a cosine), chunk of points and sweep of learning rates. The sweep is
decided by the final PSNR after 250 steps; the best rate is then run for 1000 steps. To save time,
networks of 200k parameters are swept over the three lower rates only; grids and tensors over all. A
size is the nearest that a model's width, rank or resolution allows. Step times are medians of
interleaved runs in one process. With `--record`, rows are added to benchmarks/results/zoo.json as
they are measured.
"""

import functools
import math
import statistics
from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import optax
from common import FOLDER, Results, Row

import lrnn_jax as lj
from lrnn_jax.fields import BoundModel
from lrnn_jax.models import Network
from lrnn_jax.training import initial_state, make_step

RESULTS = Results(FOLDER / "zoo.json", identity=("stage", "model", "size"))
SIZES = (20_000, 200_000)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
STEPS = (250, 1000)
CHUNK = 512
_DIVERGED = 0.0
PROBLEM = lj.Image(source="astronaut", size=(64, 64))

# Name: class, field that sets the size, other fields.
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
# Fields that differ at 20k.
SMALL: dict[str, dict[str, Any]] = {
    "LRNN-SPDER": {"components": 4},
    "LRNN-sin": {"components": 4},
    "FFN": {"features": 32},
}
CHEAP = ("grid", "CP tensor", "Tucker tensor")


def main() -> None:
    parser = common.stage_parser(__doc__, ("cost", "fit"))
    parser.add_argument("--models", nargs="+", default=list(ZOO), choices=list(ZOO))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, choices=SIZES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = common.parse(parser, RESULTS, table)
    for size in options.sizes:
        models = {name: build(name, size) for name in options.models}
        if options.stage == "cost":
            measure(models, size)
            continue
        for name, model in models.items():
            fit_one(name, model, size, options.seeds)


def build(name: str, size: int) -> Network:
    """The model whose number of parameters is nearest to `size`."""
    kind, field, fields = ZOO[name]
    fields = {"in_dim": 2, "out_dim": 3, **fields, **(SMALL.get(name, {}) if size < 1e5 else {})}
    return nearest(lambda value: kind(**fields | {field: value}), size)


def nearest(sized: Callable[[int], Network], size: int) -> Network:
    """The model among sized(2), sized(3), ... whose number of parameters is nearest to `size`."""
    low, high = 2, 4
    while sized(high).parameter_count < size:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sized(middle).parameter_count < size else (low, middle)
    return min(map(sized, (low, high)), key=lambda model: abs(model.parameter_count - size))


# Cost of a step ----------------------------------------------------------------------------------


def measure(models: dict[str, Network], size: int, rounds: int = 9) -> None:
    """Add a row for each model: time and memory of a step, and the ratio of its time to SIREN's."""
    data = jax.device_put(PROBLEM.load())
    points = data.x.shape[0]
    programs, full_batch_mb = {}, {}
    for name, model in ({"SIREN": build("SIREN", size)} | models).items():
        programs[name] = common.training_step(model, data, CHUNK, PROBLEM.loss)
        full_batch_mb[name] = common.training_step(model, data, loss=PROBLEM.loss).temp_mb
    ms = common.milliseconds(programs, rounds)
    for name, model in models.items():
        RESULTS.add(
            {
                "stage": "cost",
                "model": name,
                "size": size,
                "parameters": model.parameter_count,
                "flops_per_point": model.flops(points) / points,
                "compile_seconds": round(programs[name].compile_seconds, 2),
                "step_ms": round(ms[name], 2),
                "to_siren": round(ms[name] / ms["SIREN"], 2),
                "step_memory_mb": round(full_batch_mb[name], 1),
            }
        )


# Quality of the fit ------------------------------------------------------------------------------


def fit_one(name: str, model: Network, size: int, seeds: list[int]) -> None:
    """Add a row: the sweep, and the final PSNR of each seed at the best learning rate."""
    rates = RATES if size < 1e5 or name in CHEAP else RATES[:3]
    sweep = {rate: psnr_after(model, rate, STEPS[0], seeds[0])[0] for rate in rates}
    best = max(sweep, key=lambda rate: sweep[rate])
    short = [psnr_after(model, best, STEPS[0], seed)[0] for seed in seeds[1:]]
    long = [psnr_after(model, best, STEPS[1], seed) for seed in seeds]
    RESULTS.add(
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
    """Final PSNR and the best PSNR of all steps (an oracle), in dB; 0 for a fit that diverged."""
    data = PROBLEM.load()
    params, lowest_loss = _fit(model, jax.device_put(data), jax.random.key(seed), rate, steps)
    final = PROBLEM.evaluate(BoundModel(model, params), data)["psnr"]
    if not math.isfinite(final):
        return _DIVERGED, _DIVERGED
    oracle = PROBLEM.progress({"loss": float(lowest_loss)})["psnr"]
    return round(final, 2), max(round(oracle, 2), round(final, 2))


@functools.partial(jax.jit, static_argnums=0)
def _fit(model: Network, data: Any, key: jax.Array, rate: jax.Array, steps: jax.Array) -> Any:
    """Parameters and lowest loss of a fit. Rate and steps are traced, so a model compiles once."""
    optimizer = optax.adam(lambda count: rate * 0.5 * (1 + jnp.cos(jnp.pi * count / steps)))
    init_key, step_key = jax.random.split(key)
    step = make_step(model, PROBLEM.loss, optimizer, chunk=CHUNK)

    def body(_: int, carry: Any) -> Any:
        state, lowest = carry
        state, terms = step(state, data, step_key)
        return state, jnp.fmin(lowest, terms["loss"])

    start = initial_state(model.init(init_key), optimizer)
    state, lowest = jax.lax.fori_loop(0, steps, body, (start, jnp.asarray(jnp.inf)))
    return state.params, lowest


# Tables ------------------------------------------------------------------------------------------

HEADER = (
    "model | parameters | FLOPs a point | compile s | step / SIREN's | memory of a step | best "
    "rate | dB after 250 | dB after 1000 (best step)"
)


def table(rows: list[Row]) -> str:
    """One table for each size, in the order of ZOO."""
    by_key = {(row["stage"], row["model"], row["size"]): row for row in rows}
    tables = []
    for size in SIZES:
        pairs = [(by_key.get(("cost", n, size)), by_key.get(("fit", n, size))) for n in ZOO]
        lines = [_cells(cost, fit) for cost, fit in pairs if cost and fit]
        tables += [f"About {size // 1000}k parameters:", common.markdown(HEADER, lines, "---")]
    return "\n\n".join(tables)


def _cells(cost: Row, fit: Row) -> list[str]:
    best = statistics.median(fit["best_psnr_1000"])
    return [
        cost["model"],
        f"{cost['parameters']:,}",
        f"{cost['flops_per_point']:,.0f}",
        f"{cost['compile_seconds']:.1f}",
        f"{cost['to_siren']:.2f}",
        f"{cost['step_memory_mb']:.0f} MB",
        f"{fit['rate']:g}",
        _median_and_spread(fit["psnr_250"]),
        f"{_median_and_spread(fit['psnr_1000'])} ({best:.1f})",
    ]


def _median_and_spread(values: list[float]) -> str:
    middle = f"{statistics.median(values):.1f}"
    half = (max(values) - min(values)) / 2
    return middle if len(values) == 1 else f"{middle} ± {half:.1f}"


if __name__ == "__main__":
    main()
