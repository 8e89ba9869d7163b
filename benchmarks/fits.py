"""Repeated fits with a new loss and a new optimiser each time: compilation, time and memory.

    python benchmarks/fits.py

After the first compilation: five fits with the same loss and optimiser, and five with new objects
each; then 500 with new objects, with the number of memory maps and the resident memory of the
process after 0, 100 and 500; then 20 different programs, of which three are cached. Linux only, as
it reads /proc. The row is written to benchmarks/results/fits.json.
"""

import gc
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from common import FOLDER, Results, Row

import lrnn_jax as lj
from lrnn_jax.training import fitting

RESULTS = Results(FOLDER / "fits.json")
X = jnp.linspace(-1, 1, 64)[:, None]
MODEL = lj.LRNN(in_dim=1, out_dim=1, rank=8, components=2)
Objective = tuple[Callable, optax.GradientTransformation]  # loss and optimiser


def main() -> None:
    shared = objective(2e-3)
    row: Row = {"stage": "fits", "name": "LRNN, 64 points, 20 steps"}
    row["first_seconds"] = seconds(1, lambda: shared)
    row["five_shared_seconds"] = seconds(5, lambda: shared)
    row["five_anew_seconds"] = seconds(5, lambda: objective(2e-3))
    row["start"] = usage()
    row["hundred"] = usage_after(100, lambda index: objective(2e-3))
    row["five_hundred"] = usage_after(400, lambda index: objective(2e-3))
    fitting._PROGRAMS.capacity = 3
    row["five_programs"] = usage_after(5, lambda index: objective(1e-3 + 1e-5 * index))
    row["twenty_programs"] = usage_after(15, lambda index: objective(3e-3 + 1e-5 * index))
    RESULTS.add(row)


def objective(rate: float) -> Objective:
    """A new loss and a new optimiser, which no earlier call has compiled."""
    return lambda u, data, key: jnp.mean((u(data[0]) - data[1]) ** 2), optax.adam(rate)


def fit(objective: Objective, seed: int) -> None:
    """Fit 20 steps and wait for the result."""
    loss, optimizer = objective
    key = jax.random.key(seed)
    jax.block_until_ready(lj.fit(MODEL, loss, (X, X**2), optimizer, key=key, steps=20))


def seconds(count: int, make: Callable[[], Objective]) -> float:
    """Wall time of `count` fits."""
    begun = time.perf_counter()
    for seed in range(count):
        fit(make(), seed)
    return round(time.perf_counter() - begun, 3)


def usage_after(count: int, make: Callable[[int], Objective]) -> dict[str, float]:
    """Memory usage after `count` further fits."""
    for index in range(count):
        fit(make(index), index)
    return usage()


def usage() -> dict[str, float]:
    """Number of memory maps and resident megabytes of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    return {"maps": maps, "resident_mb": round(pages * 4096 / 1e6, 1)}


if __name__ == "__main__":
    main()
