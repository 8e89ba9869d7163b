"""What a training step costs: networks of equal size, and an LRNN as it grows.

    python benchmarks/scaling.py models   # six networks of 20k and 200k parameters
    python benchmarks/scaling.py growth   # an LRNN's rank, components, hidden units and depth
    python benchmarks/scaling.py all      # both
    python benchmarks/scaling.py table    # the rows as Markdown

A step is value and gradient of a mean squared error and an Adam update, float32, in the default
chunk of `Training`: 512 points on a CPU, 65,536 on an accelerator. Sizes are the nearest that a
width or a rank allows, as in zoo.py. Times are medians of interleaved runs in one process:
`--rounds` of them, a third as many from 100,000 points on and 2 from 1,000,000 on. Memory is XLA's
temporary memory, of that step and of a step on all points at once, which is compiled but not run.
With `--record`, rows are added to benchmarks/results/scaling.json as they are measured.
"""

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import common
import numpy as np
from common import FOLDER, Program, Results, Row
from zoo import SIZES, build

import lrnn_jax as lj
from lrnn_jax.training import Training
from lrnn_jax.typing import Model

RESULTS = Results(FOLDER / "scaling.json", ("stage", "name", "size", "points", "machine"))
MODELS = ("LRNN-SPDER", "NestNet", "SIREN", "SPDER", "WIRE", "tanh MLP")
POINTS = (1024, 16_384, 131_072, 1_048_576)
BASE: dict[str, Any] = {"depth": 2, "rank": 64, "components": 8, "hidden": 2}
GROWTH = {
    "rank": (16, 32, 64, 128, 256),
    "components": (2, 4, 8, 16, 32),
    "hidden": (1, 2, 4, 8, 16),
    "depth": (1, 2, 4, 8),
}
GROWTH_POINTS = 4096


def main() -> None:
    parser = common.stage_parser(__doc__, (*STAGES, "all"))
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, choices=SIZES)
    parser.add_argument("--points", nargs="+", type=int, default=POINTS, help="of the stage models")
    parser.add_argument("--rounds", type=int, default=15)
    options = common.parse(parser, RESULTS, table)
    common.run_stages(STAGES, options)


def models(options: argparse.Namespace) -> None:
    """Add a row for each network, size and number of points."""
    for size, points in itertools.product(options.sizes, options.points):
        networks = {name: build(name, size) for name in options.models}
        rounds = rounds_for(points, options.rounds)
        for name, row in measure(networks, points, rounds).items():
            RESULTS.add({"stage": "models", "name": name, "size": size} | row)


def growth(options: argparse.Namespace) -> None:
    """Add a row for each value of each field; the other fields are those of BASE."""
    networks = {
        f"{field} {value}": lj.LRNN(in_dim=2, out_dim=1, **BASE | {field: value})
        for field, values in GROWTH.items()
        for value in values
    }
    for name, row in measure(networks, GROWTH_POINTS, options.rounds).items():
        RESULTS.add({"stage": "growth", "name": name} | row)


def measure(networks: dict[str, Any], points: int, rounds: int) -> dict[str, Row]:
    """Time and memory of a step of each network. Equal networks are measured once."""
    programs: dict[Model, Program] = {}
    full_batch_mb: dict[Model, float] = {}
    for name, model in networks.items():
        if model in programs:
            continue
        print(f"{name}, {points:,} points: compiling", flush=True)
        data, chunk = common.random_data(model, points), Training().chunk_points
        full_batch_mb[model] = common.training_step(model, data).temp_mb
        programs[model] = common.training_step(model, data, chunk)
    ms = common.milliseconds({str(model): step for model, step in programs.items()}, rounds)
    return {
        name: {
            "points": points,
            "parameters": model.parameter_count,
            "ms": ms[str(model)],
            "mb": round(programs[model].temp_mb, 2),
            "whole_mb": round(full_batch_mb[model], 2),
            "compile_seconds": round(programs[model].compile_seconds, 2),
        }
        for name, model in networks.items()
    }


def rounds_for(points: int, rounds: int) -> int:
    """Number of timings: fewer for many points, whose steps take seconds."""
    if points < 100_000:
        return rounds
    return max(2, rounds // 3) if points < 1_000_000 else 2


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {"models": models, "growth": growth}


# Tables ------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """For each machine: time and memory for each size, and the growth of an LRNN."""
    return "\n\n".join(part for group in common.by_machine(rows).items() for part in _parts(*group))


def _parts(machine: str, rows: list[Row]) -> list[str]:
    parts: list[str] = []
    for size in SIZES:
        chosen = [row for row in rows if (row["stage"], row.get("size")) == ("models", size)]
        if chosen:
            about = f"about {size // 1000}k parameters, {machine}:"
            parts += [f"Milliseconds per step, {about}", _by_points(chosen, _time)]
            parts += [f"Memory of a step in chunks (of the full batch), {about}"]
            parts += [_by_points(chosen, _memory)]
    grown = {row["name"]: row for row in rows if row["stage"] == "growth"}
    if grown:
        base = ", ".join(f"{field} {value}" for field, value in BASE.items())
        head = f"Growth of an LRNN at {GROWTH_POINTS:,} points from {base}, {machine}:"
        parts += [head, _growth_table(grown)]
    return parts


def _by_points(rows: list[Row], cell: Callable[[Row], str]) -> str:
    """A line for each network, a column for each number of points."""
    by_key = {(row["name"], row["points"]): row for row in rows}
    columns = sorted({row["points"] for row in rows})
    lines = [
        [name, *(cell(by_key[name, n]) if (name, n) in by_key else "-" for n in columns)]
        for name in MODELS
    ]
    return common.markdown(" | ".join(["model", *(f"{n:,} points" for n in columns)]), lines)


def _time(row: Row) -> str:
    return f"{row['ms']:,.1f}"


def _memory(row: Row) -> str:
    return f"{row['mb']:,.1f} MB ({row['whole_mb']:,.0f} MB)"


def _growth_table(grown: dict[str, Row]) -> str:
    """A line for each value, and for each field the exponents with which time and memory grow."""
    lines: list[list[str]] = []
    for field, values in GROWTH.items():
        chosen = {value: row for value in values if (row := grown.get(f"{field} {value}"))}
        for value, row in chosen.items():
            memory = f"{row['mb']:.1f}", f"{row['whole_mb']:.0f}"
            lines.append([f"{field} {value}", f"{row['parameters']:,}", _time(row), *memory])
        slopes = [_slope(chosen, key) for key in ("parameters", "ms", "mb", "whole_mb")]
        lines.append([f"{field}, exponent", *slopes])
    return common.markdown("LRNN | parameters | ms | MB, chunks | MB, full batch", lines)


def _slope(rows: dict[int, Row], key: str) -> str:
    """Slope of log row[key] over log value, by least squares."""
    pairs = [(value, row[key]) for value, row in rows.items() if row[key] > 0]
    if len(pairs) < 2:
        return "-"
    x, y = np.log(np.array(pairs, dtype=float)).T
    return f"{np.polyfit(x, y, 1)[0]:.2f}"


if __name__ == "__main__":
    main()
