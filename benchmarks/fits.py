"""Fits in a loop, whose loss and optimiser are written anew in every turn.

    python benchmarks/fits.py

Five fits with one shared loss and optimiser, five with new ones, both after the first compilation;
then 500 with new ones, with the memory maps and the resident memory of the process on the way; then
20 programs that differ, of which three are kept. Linux only: it reads /proc. The row is written to
benchmarks/results/fits.json.
"""

import gc
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import timing

import lrnn_jax as lj
from lrnn_jax.training import loop

RESULTS = Path(__file__).parent / "results" / "fits.json"
X = jnp.linspace(-1, 1, 64)[:, None]
MODEL = lj.LRNN(in_dim=1, out_dim=1, rank=8, components=2)


def main() -> int:
    loss, optimizer = anew(2e-3)
    first = seconds(1, lambda: (loss, optimizer))
    row = {"stage": "fits", "name": "LRNN, 64 points, 20 steps", "first_seconds": first}
    row["five_shared_seconds"] = seconds(5, lambda: (loss, optimizer))
    row["five_anew_seconds"] = seconds(5, lambda: anew(2e-3))
    row["start"] = usage()
    row["hundred"] = usage_after(100, lambda turn: anew(2e-3))
    row["five_hundred"] = usage_after(400, lambda turn: anew(2e-3))
    loop._PROGRAMS.capacity = 3
    row["five_programs"] = usage_after(5, lambda turn: anew(1e-3 + 1e-5 * turn))
    row["twenty_programs"] = usage_after(15, lambda turn: anew(3e-3 + 1e-5 * turn))
    timing.add_row(RESULTS, row)
    return 0


def anew(rate: float) -> tuple[Any, optax.GradientTransformation]:
    """A loss and an optimiser that no call has seen."""
    return lambda u, data, key: jnp.mean((u(data[0]) - data[1]) ** 2), optax.adam(rate)


def fit(made: tuple[Any, optax.GradientTransformation], seed: int) -> None:
    """One fit of 20 steps, waited for."""
    loss, optimizer = made
    key = jax.random.key(seed)
    jax.block_until_ready(lj.fit(MODEL, loss, (X, X**2), optimizer, key=key, steps=20))


def seconds(count: int, make: Any) -> float:
    """Wall time of `count` fits."""
    begun = time.perf_counter()
    for seed in range(count):
        fit(make(), seed)
    return round(time.perf_counter() - begun, 3)


def usage_after(count: int, make: Any) -> dict[str, float]:
    """The usage after `count` further fits."""
    for turn in range(count):
        fit(make(turn), turn)
    return usage()


def usage() -> dict[str, float]:
    """Memory maps and resident megabytes of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    return {"maps": maps, "resident_mb": round(pages * 4096 / 1e6, 1)}


if __name__ == "__main__":
    sys.exit(main())
