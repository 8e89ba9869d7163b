"""Shared by the benchmarks: result rows, command line, compiled steps, interleaved timing.

Every benchmark that stores rows takes `--record`. Without it, rows go to `benchmarks/local/`, so
that a trial or a part of a benchmark never replaces a row behind a published table.
"""

import argparse
import dataclasses
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from filelock import FileLock

from lrnn_jax.kernels.cost import count_flops
from lrnn_jax.training import compiler_options, initial_state, make_step
from lrnn_jax.typing import Data, Field, Key, Model

Row = dict[str, Any]
FOLDER = Path(__file__).parent / "results"
LOCAL = Path(__file__).parent / "local"
NUM_SLOW_ROUNDS = 3

RECORDING = "--record" in sys.argv
if RECORDING:
    sys.argv.remove("--record")  # the same option for all parsers


# Result rows -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Results:
    """Rows of measurements, stored as a JSON list.

    Args:
      path: the JSON file. It is created by the first `add`.
      identity: fields that identify a row. A new row replaces the stored one with equal values.
    """

    path: Path
    identity: tuple[str, ...] = ("stage", "name", "machine")

    def read(self) -> list[Row]:
        """All rows, in the order of the file."""
        return json.loads(self.path.read_text()) if self.path.exists() else []

    def add(self, row: Row) -> None:
        """Store and print a row, with the machine, the JAX version and the commit added to it.

        A row that states its machine keeps it. A row for a file of the repository goes to a file of
        the same name in LOCAL without `--record`.
        """
        row = json.loads(json.dumps(provenance() | row))  # tuples to lists, as in the file
        published = self.path.parent == FOLDER and not RECORDING
        target = dataclasses.replace(self, path=LOCAL / self.path.name) if published else self
        target.path.parent.mkdir(exist_ok=True, parents=True)
        with FileLock(target.path.with_suffix(".lock")):  # several processes store rows
            others = [old for old in target.read() if self._key(old) != self._key(row)]
            target.path.write_text(json.dumps([*others, row], indent=1) + "\n")
        print(json.dumps(row), flush=True)

    def _key(self, row: Row) -> list[Any]:
        return [row.get(field) for field in self.identity]


def provenance() -> Row:
    """Machine, JAX version and commit; the commit is empty outside a git checkout."""
    command = ["git", "-C", str(FOLDER.parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # git is not installed
        commit = ""
    return {"machine": machine(), "jax": jax.__version__, "commit": commit}


def machine() -> str:
    """Name of the accelerator, or number of cores and name of the processor."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.processor()}"


def by_machine(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each machine."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["machine"], []).append(row)
    return groups


def markdown(header: str, lines: Iterable[Sequence[str]], separator: str = " --- ") -> str:
    """A Markdown table.

    Args:
      header: the column names, joined by " | ".
      lines: the cells of each line.
      separator: the cell of the line between header and lines.
    """
    rule = "|".join(header.count(" | ") * [separator] + [separator])
    cells = (" | ".join(line) for line in lines)
    return "\n".join([f"| {header} |", f"|{rule}|", *(f"| {line} |" for line in cells)])


# Command line ------------------------------------------------------------------------------------


def stage_parser(
    description: str | None, stages: Iterable[str], default: str | None = None
) -> argparse.ArgumentParser:
    """A parser with the argument `stage`, which is one of `stages` or "table"."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--record  store the rows in benchmarks/results/ instead of benchmarks/local/",
    )
    nargs = "?" if default else None
    parser.add_argument("stage", nargs=nargs, default=default, choices=(*stages, "table"))
    return parser


def parse(
    parser: argparse.ArgumentParser, results: Results, table: Callable[[list[Row]], str]
) -> argparse.Namespace:
    """Parse the command line. The stage "table" prints the table of the stored rows and exits."""
    options = parser.parse_args()
    if options.stage == "table":
        print(table(results.read()))
        sys.exit()
    return options


def run_stages(
    stages: Mapping[str, Callable[[argparse.Namespace], None]], options: argparse.Namespace
) -> None:
    """Run the stage that was asked for, or all of them in order."""
    for name, stage in stages.items():
        if options.stage in (name, "all"):
            stage(options)


# Compiled steps ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Program:
    """A function compiled for its arguments, which are not donated."""

    function: Callable
    arguments: tuple
    compiled: Any
    compile_seconds: float

    def run(self, count: int) -> None:
        """Call the function `count` times and wait for the last call."""
        result = None
        for _ in range(count):
            result = self.compiled(*self.arguments)
        jax.block_until_ready(result)

    @property
    def temp_mb(self) -> float:
        """XLA's temporary memory; see `temp_mb`."""
        return temp_mb(self.compiled)

    @property
    def bytes(self) -> float:
        """Bytes that XLA's instructions read and write. The body of a loop is counted once."""
        return (self.compiled.cost_analysis() or {}).get("bytes accessed", 0.0)

    @property
    def flops(self) -> float:
        """The larger of XLA's count, in which a loop's body counts once, and that of the trace."""
        counted = (self.compiled.cost_analysis() or {}).get("flops", 0.0)
        return max(counted, count_flops(self.function, *self.arguments))


def temp_mb(executable: Any) -> float:
    """Temporary memory of a compiled function in MB; 0 where the backend does not report it."""
    memory = executable.memory_analysis()
    return (memory.temp_size_in_bytes if memory else 0) / 1e6


def compiled(function: Callable, *arguments: Any) -> Program:
    """Trace, lower and compile `function` for `arguments`, and time that."""
    begun = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile(compiler_options())
    return Program(function, arguments, program, time.perf_counter() - begun)


def rounded(programs: Mapping[str, Program], field: str) -> dict[str, float]:
    """`temp_mb`, `compile_seconds` or another field of each program, to two decimals."""
    return {name: round(getattr(program, field), 2) for name, program in programs.items()}


def squared_error(field: Field, data: Data, key: Key) -> jax.Array:
    """Mean squared error over points and outputs."""
    del key
    x, y = data
    return jnp.mean((field(x) - y) ** 2)


def training_step(
    model: Model, data: Data, chunk: int | None = None, loss: Callable = squared_error
) -> Program:
    """Value and gradient of the loss and an Adam update, from the parameters of key 0."""
    optimizer, key = optax.adam(1e-3), jax.random.key(0)
    step = make_step(model, loss, optimizer, chunk=chunk)
    return compiled(step, initial_state(model.init(key), optimizer), data, key)


def training_steps(
    kind: str, model: Model, data: Data, chunks: Iterable[int], loss: Callable = squared_error
) -> dict[str, Program]:
    """A training step for each chunk, named "kind chunk"."""
    return {f"{kind} {chunk}": training_step(model, data, chunk, loss) for chunk in chunks}


def random_data(model: Model, points: int) -> tuple[jax.Array, jax.Array]:
    """Uniform points in [-1, 1) and standard normal values, float32."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (points, model.in_dim)).astype(np.float32)
    y = rng.standard_normal((points, model.out_dim), dtype=np.float32)
    return jax.device_put(x), jax.device_put(y)


# Timing ------------------------------------------------------------------------------------------


class Contender(Protocol):
    """Anything that can be timed."""

    def run(self, count: int) -> None:
        """Take `count` steps and wait for the last one."""
        ...


def timings(
    contenders: Mapping[str, Contender],
    rounds: int,
    slow: Collection[str] = (),
    settle: bool = False,
) -> dict[str, list[float]]:
    """Milliseconds per step of each contender. Every round times all of them once, in turn.

    Args:
      contenders: what is timed. Each first takes one untimed step.
      rounds: number of timings, >= 1. A timing is of ten steps on an accelerator, one on a CPU.
      slow: names of contenders that are timed in three of the rounds only.
      settle: take an untimed step before each timing. PyTorch's threads keep spinning after their
        work and disturb the next contender.
    """
    steps = 1 if jax.default_backend() == "cpu" else 10
    stride = max(1, rounds // NUM_SLOW_ROUNDS)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender.run(1)
    for index in range(rounds):
        for name, contender in contenders.items():
            if name in slow and index % stride:
                continue
            if settle:
                contender.run(1)
            begun = time.perf_counter()
            contender.run(steps)
            times[name].append(1e3 * (time.perf_counter() - begun) / steps)
    return times


def summary(
    times: Mapping[str, Sequence[float]], statistic: Callable = statistics.median
) -> dict[str, float]:
    """A statistic of each contender's times, to four decimals."""
    return {name: round(statistic(values), 4) for name, values in times.items()}


def milliseconds(
    contenders: Mapping[str, Contender], rounds: int, slow: Collection[str] = ()
) -> dict[str, float]:
    """Medians of `timings`."""
    return summary(timings(contenders, rounds, slow))


class Copy:
    """Add one to an array in place. On a CPU, allocating a new array takes longer than the copy.

    Args:
      size: number of float32 entries.
    """

    def __init__(self, size: int) -> None:
        self._step = jax.jit(lambda x: x + 1, donate_argnums=0)
        self._array = self._step(jnp.zeros(size))

    @property
    def bytes(self) -> int:
        """Bytes that one step reads and writes."""
        return 2 * self._array.nbytes

    def run(self, count: int) -> None:
        """Take `count` steps and wait for the last one."""
        for _ in range(count):
            self._array = self._step(self._array)
        jax.block_until_ready(self._array)


def matrix_product(n: int, dtype: Any = jnp.float32, precision: str = "highest") -> Program:
    """The product of two (n, n) matrices: 2 n^3 operations."""
    square = jax.random.normal(jax.random.key(0), (n, n), dtype)
    return compiled(functools.partial(jnp.dot, precision=precision), square, square)


@functools.cache
def device_rates() -> tuple[float, float]:
    """Measured copy bandwidth in bytes/s and float32 matrix product rate in FLOP/s."""
    on_cpu = jax.default_backend() == "cpu"
    n, copy = (2048, Copy(2**27)) if on_cpu else (8192, Copy(2**28))
    times = timings({"product": matrix_product(n), "copy": copy}, rounds=15)
    # The minimum, not the median: the rates are the limits of the device.
    return 1e3 * copy.bytes / min(times["copy"]), 2e3 * n**3 / min(times["product"])


def threads() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Comparison and errors ---------------------------------------------------------------------------


def relative_difference(tree: Any, expected: Any) -> float:
    """Largest absolute difference of two trees, divided by the largest entry of `expected`."""

    def largest(tree: Any) -> float:
        return max(float(np.max(np.abs(leaf))) for leaf in jax.tree.leaves(tree))

    return largest(jax.tree.map(np.subtract, tree, expected)) / largest(expected)


def require_close(what: str, tree: Any, expected: Any, tolerance: float) -> float:
    """The relative difference of two trees; the process exits if it is not below `tolerance`."""
    difference = relative_difference(tree, expected)
    if not difference < tolerance:
        sys.exit(f"{what}: relative difference {difference:.1e}, expected less than {tolerance:g}")
    return difference


def describe(error: Exception) -> str:
    """Type and first line of an error, for a result row."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0][:300]}"
