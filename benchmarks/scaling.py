"""What a training step costs: networks of equal size, and an LRNN as it grows.

    python benchmarks/scaling.py models   # six networks of 20k and 200k parameters
    python benchmarks/scaling.py growth   # an LRNN's rank, components, hidden units and depth
    python benchmarks/scaling.py all      # both
    python benchmarks/scaling.py table    # the rows as Markdown

A step is value and gradient of a mean squared error and Adam, float32, in the default chunk of
`Training`: 512 points on a CPU, 65,536 on an accelerator. Sizes are the nearest that a width or a
rank allows, as in zoo.py. Times are medians of runs in turn in one process: `--rounds` of them, a
third from 100,000 points on and 2 from 1,000,000 on. Memory is XLA's temporary memory: of that
step, and of one that takes all points at once, which is compiled and never run. Rows are added to
benchmarks/results/scaling.json when they are done.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timing import (
    Program,
    Row,
    add_row,
    by_machine,
    markdown,
    milliseconds,
    random_data,
    training_step,
)
from timing import read_rows as rows_of
from zoo import SIZES, build

import lrnn_jax as lj
from lrnn_jax.training import Training
from lrnn_jax.typing import Model

RESULTS = Path(__file__).parent / "results" / "scaling.json"
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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=(*STAGES, "all", "table"))
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, choices=SIZES)
    parser.add_argument("--points", nargs="+", type=int, default=POINTS, help="of the stage models")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if options.stage == "table":
        print(table(read_rows()))
        return 0
    for name, stage in STAGES.items():
        if options.stage in (name, "all"):
            stage(options)
    return 0


def models(options: argparse.Namespace) -> None:
    """A row for each network, size and number of points."""
    for size, points in itertools.product(options.sizes, options.points):
        built = {name: build(name, size) for name in options.models}
        rounds = rounds_for(points, options.rounds)
        for name, row in measured(built, points, rounds).items():
            row = {"stage": "models", "name": name, "size": size} | row
            add_row(RESULTS, row, same=("stage", "name", "size", "points"))


def growth(options: argparse.Namespace) -> None:
    """A row for each value of each field; the others are the base's."""
    specs = {
        f"{field} {value}": BASE | {field: value}
        for field, values in GROWTH.items()
        for value in values
    }
    built = {name: lj.LRNN(in_dim=2, out_dim=1, **spec) for name, spec in specs.items()}
    for name, row in measured(built, GROWTH_POINTS, options.rounds).items():
        add_row(RESULTS, {"stage": "growth", "name": name} | row)


def measured(built: dict[str, Any], points: int, rounds: int) -> dict[str, Row]:
    """Time and memory of a step of each network, equal ones once."""
    programs: dict[Model, tuple[Program, float]] = {}
    for name, model in built.items():
        if model in programs:
            continue
        print(f"{name}, {points:,} points: compiling", flush=True)
        data, chunk = random_data(model, points), Training().chunk_points
        whole_mb = training_step(model, data).temp_mb
        programs[model] = training_step(model, data, chunk), whole_mb
    runs = {str(model): program.run for model, (program, _) in programs.items()}
    ms = milliseconds(runs, rounds)
    return {
        name: {
            "points": points,
            "parameters": model.parameter_count,
            "ms": ms[str(model)],
            "mb": round(programs[model][0].temp_mb, 2),
            "whole_mb": round(programs[model][1], 2),
            "compile_seconds": round(programs[model][0].compile_seconds, 2),
        }
        for name, model in built.items()
    }


def rounds_for(points: int, rounds: int) -> int:
    """Fewer where a step takes seconds."""
    if points < 100_000:
        return rounds
    return max(2, rounds // 3) if points < 1_000_000 else 2


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {"models": models, "growth": growth}


# Tables ------------------------------------------------------------------------------------------


def read_rows() -> list[Row]:
    """All rows so far."""
    return rows_of(RESULTS)


def table(rows: list[Row]) -> str:
    """For each machine two tables for each size, time and memory, and one for the growth."""
    return "\n\n".join(part for own in by_machine(rows).items() for part in _parts(*own))


def _parts(machine: str, rows: list[Row]) -> list[str]:
    parts: list[str] = []
    for size in SIZES:
        own = [row for row in rows if (row["stage"], row.get("size")) == ("models", size)]
        if own:
            about = f"about {size // 1000}k parameters, {machine}:"
            parts += [f"ms a step, {about}", _by_points(own, _time)]
            parts += [f"Memory of a step, chunk (all at once), {about}", _by_points(own, _memory)]
    grown = {row["name"]: row for row in rows if row["stage"] == "growth"}
    if grown:
        base = ", ".join(f"{field} {value}" for field, value in BASE.items())
        head = f"An LRNN at {GROWTH_POINTS:,} points around {base}, {machine}:"
        parts += [head, _growth_table(grown)]
    return parts


def _by_points(rows: list[Row], cell: Callable[[Row], str]) -> str:
    """A line for each network, a column for each number of points."""
    found = {(row["name"], row["points"]): row for row in rows}
    columns = sorted({row["points"] for row in rows})
    lines = [
        [name, *(cell(found[name, n]) if (name, n) in found else "-" for n in columns)]
        for name in MODELS
    ]
    return markdown(["model", *(f"{n:,} points" for n in columns)], lines)


def _time(row: Row) -> str:
    return f"{row['ms']:,.1f}"


def _memory(row: Row) -> str:
    return f"{row['mb']:,.1f} MB ({row['whole_mb']:,.0f} MB)"


def _growth_table(grown: dict[str, Row]) -> str:
    """A line for each value, and the slope of log time and log memory over the field's values."""
    lines: list[list[str]] = []
    for field, values in GROWTH.items():
        own = {value: row for value in values if (row := grown.get(f"{field} {value}"))}
        for value, row in own.items():
            cells = (
                f"{row['parameters']:,}",
                _time(row),
                f"{row['mb']:.1f}",
                f"{row['whole_mb']:.0f}",
            )
            lines.append([f"{field} {value}", *cells])
        slopes = [_slope(own, key) for key in ("parameters", "ms", "mb", "whole_mb")]
        lines.append([f"{field}, exponent", *slopes])
    return markdown(["LRNN", "parameters", "ms", "MB, chunk", "MB, all at once"], lines)


def _slope(rows: dict[int, Row], key: str) -> str:
    """Of log row[key] over log value, least squares."""
    pairs = [(value, row[key]) for value, row in rows.items() if row[key] > 0]
    if len(pairs) < 2:
        return "-"
    x, y = np.log(np.array(pairs, dtype=float)).T
    return f"{np.polyfit(x, y, 1)[0]:.2f}"


if __name__ == "__main__":
    sys.exit(main())
