"""What the speed benchmarks share: compiled steps, interleaved clocks, rows of JSON, tables.

A contender is a function run(count), which takes `count` steps and waits for the last one.
"""

import dataclasses
import functools
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from zoo import machine

from lrnn_jax.kernels.cost import count_flops
from lrnn_jax.training import compiler_options, initial_state, make_step
from lrnn_jax.typing import Data, Field, Key, Model

Run = Callable[[int], None]
Row = dict[str, Any]
_SLOW_ROUNDS = 3


# Steps -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Program:
    """A function compiled for its arguments, which it leaves as they are."""

    function: Callable
    arguments: tuple
    compiled: Any
    compile_seconds: float

    def run(self, count: int) -> None:
        """`count` calls, of which the last one is waited for."""
        result = None
        for _ in range(count):
            result = self.compiled(*self.arguments)
        jax.block_until_ready(result)

    @property
    def temp_mb(self) -> float:
        """XLA's temporary memory; 0 where it does not say."""
        memory = self.compiled.memory_analysis()
        return (memory.temp_size_in_bytes if memory else 0) / 1e6

    @property
    def bytes(self) -> float:
        """Bytes that XLA's instructions read and write; it counts a loop's body once."""
        return (self.compiled.cost_analysis() or {}).get("bytes accessed", 0.0)

    @property
    def flops(self) -> float:
        """XLA's count, which takes a loop's body once, or that of the trace, the larger one."""
        counted = (self.compiled.cost_analysis() or {}).get("flops", 0.0)
        return max(counted, count_flops(self.function, *self.arguments))


def compiled(function: Callable, *arguments: Any) -> Program:
    """`function` compiled ahead, with the seconds that took."""
    begun = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile(compiler_options())
    return Program(function, arguments, program, time.perf_counter() - begun)


def training_step(model: Model, data: Data, chunk: int | None = None) -> Program:
    """Value and gradient of a mean squared error and Adam, from the parameters of key 0."""
    optimizer, key = optax.adam(1e-3), jax.random.key(0)
    step = make_step(model, squared_error, optimizer, chunk=chunk)
    return compiled(step, initial_state(model.init(key), optimizer), data, key)


def squared_error(field: Field, data: Data, key: Key) -> jax.Array:
    """The mean over points and outputs."""
    del key
    x, y = data
    return jnp.mean((field(x) - y) ** 2)


def random_data(model: Model, points: int) -> tuple[jax.Array, jax.Array]:
    """Points in [-1, 1) and values of N(0, 1), float32."""
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, (points, model.in_dim)).astype(np.float32)
    y = draw.standard_normal((points, model.out_dim), dtype=np.float32)
    return jax.device_put(x), jax.device_put(y)


# Clocks ------------------------------------------------------------------------------------------


def milliseconds(
    runs: Mapping[str, Run], rounds: int, slow: Collection[str] = ()
) -> dict[str, float]:
    """The medians of `timings`."""
    times = timings(runs, rounds, slow)
    return {name: round(statistics.median(own), 4) for name, own in times.items()}


def timings(
    runs: Mapping[str, Run], rounds: int, slow: Collection[str] = (), settle: bool = False
) -> dict[str, list[float]]:
    """Milliseconds of one step of each contender, all of them in turn in every round.

    Args:
      runs: the contenders.
      rounds: timings of each; an accelerator takes ten steps in a timing, a CPU one.
      slow: contenders with three timings only.
      settle: an untimed step before each timing, where contenders leave threads behind that spin.
    """
    steps = 1 if jax.default_backend() == "cpu" else 10
    stride = max(1, rounds // _SLOW_ROUNDS)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(1)
    for turn in range(rounds):
        for name, run in runs.items():
            if name in slow and turn % stride:
                continue
            if settle:
                run(1)
            begun = time.perf_counter()
            run(steps)
            times[name].append(1e3 * (time.perf_counter() - begun) / steps)
    return times


@functools.cache
def device_rates() -> tuple[float, float]:
    """(bytes a second, flops a second) of this device: a large copy and a large float32 product.

    The copy is in place, as new pages would cost a CPU more than the copy itself.
    """
    n = 2048 if jax.default_backend() == "cpu" else 8192
    product = compiled(lambda a: jnp.dot(a, a, precision="highest"), jnp.ones((n, n)))
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)
    large = copy(jnp.zeros(2**28 if n > 2048 else 2**27))

    def run_copy(count: int) -> None:
        nonlocal large
        for _ in range(count):
            large = copy(large)
        jax.block_until_ready(large)

    times = timings({"product": product.run, "copy": run_copy}, rounds=15)
    ms = {name: min(own) for name, own in times.items()}  # what the device can do
    return 2e3 * large.nbytes / ms["copy"], 2e3 * n**3 / ms["product"]


# Rows and tables ---------------------------------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    """All rows so far."""
    return json.loads(path.read_text()) if path.exists() else []


def add_row(path: Path, row: Row, same: Sequence[str] = ("stage", "name")) -> None:
    """Puts a row in the place of an older one of this machine whose fields `same` are equal."""
    same = (*same, "machine")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    row |= {"machine": machine(), "jax": jax.__version__, "commit": commit.stdout.strip()}
    rows = [old for old in read_rows(path) if any(old.get(key) != row.get(key) for key in same)]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([*rows, row], indent=1) + "\n")
    print(json.dumps(row), flush=True)


def by_machine(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each machine."""
    rows = list(rows)
    names = dict.fromkeys(row["machine"] for row in rows)
    return {name: [row for row in rows if row["machine"] == name] for name in names}


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = ["---"] * len(header)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines))


def threads() -> int:
    """The processors that a contender may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
