"""Equations solved by every model, beside what is published: relative L2 errors over five seeds.

    python benchmarks/pinn.py convection   # Levenberg-Marquardt in float64, beta 20 .. 100
    python benchmarks/pinn.py adam         # plain Adam, every model at the best of its sweep
    python benchmarks/pinn.py poisson      # n = 1, in 2, 3, 5 and 10 dimensions, in float64
    python benchmarks/pinn.py efficiency   # Poisson n = 2 and 4 with 1k to 132k parameters
    python benchmarks/pinn.py table        # all rows as Markdown

The convection set-up is the published one (u0 on 256 places, 256 x 100 grid for the error); which
of the rest is ours stands in each row: representation, weights, number of points, fixed or fresh.
Sweeps are decided by the final error of seed 0. Every row is added to
benchmarks/results/pinn.json when it is done; `--only` and `--seeds` run a part of it.
"""

import argparse
import dataclasses
import functools
import itertools
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sweeps
from sweeps import Case, Row, Study, trials

import lrnn_jax as lj
from lrnn_jax import pde

STUDY = Study(Path(__file__).parent / "results" / "pinn.json", "relative_l2", larger=False)
SEEDS = (0, 1, 2, 3, 4)
PLANE: dict[str, Any] = {"in_dim": 2, "out_dim": 1}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=(*STAGES, "table"))
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    options = parser.parse_args()
    if options.stage == "table":
        print(table(read_rows()))
        return 0
    for case in STAGES[options.stage]():
        if options.only in case.name:
            STUDY.run(case, options.seeds)
    return 0


# The cases ---------------------------------------------------------------------------------------


family = functools.partial(sweeps.family, in_dim=2, out_dim=1)

SECOND_ORDER = lj.Training(optimizer="levenberg_marquardt", precision="float64", steps=160)
SMOOTH_LRNN: dict[str, Any] = {
    "components": 2,
    "activation": "sin",
    "norm": "none",
    "projection_init": "siren",
}


def convection_cases() -> Iterator[Case]:
    """Periodic in x by construction, time harmonics beyond beta, u0 weighted 100, fresh points.

    SIREN at every beta; the others with as many parameters at beta 50.
    """
    for beta, waves in ((20, 16), (30, 16), (40, 16), (50, 32), (80, 32), (100, 40)):
        problem = pde.Convection(
            beta=float(beta),
            harmonics=1,
            time_harmonics=waves,
            initial_weight=100.0,
            points=2000,
            resample_every=1,
        )
        fields = {"in_dim": problem.in_dim}
        siren = lj.Siren(**PLANE | fields, width=16, depth=2, omega0=1.0)
        models = {"SIREN": [siren]}
        if beta == 50:
            size = siren.parameter_count
            models |= {
                "LRNN": family(lj.LRNN, "rank", size, omega0=[1.0, 2.0], **SMOOTH_LRNN | fields),
                "NestNet": family(lj.NestNet, "width", size, frequencies=0, depth=[2, 3], **fields),
                "tanh": family(lj.MLP, "width", size, depth=[2, 3], **fields),
                "MFN": family(lj.FourierNet, "width", size, input_scale=[1.0, 4.0], **fields),
            }
        for name, some in models.items():
            yield Case("convection", f"{name}, beta {beta}", problem, trials(some, SECOND_ORDER))


def first_order(steps: int, *rates: float) -> list[lj.Training]:
    """Plain Adam with a decayed rate."""
    make = functools.partial(lj.Training, steps=steps, schedule="cosine", chunk=512)
    return [make(learning_rate=rate) for rate in rates]


def adam_cases() -> Iterator[Case]:
    """About 8k parameters, 3,000 steps; fixed points as published, and fresh ones each step."""
    nestnets = family(lj.NestNet, "width", 8000, depth=2, frequencies=0)
    sirens = family(lj.Siren, "width", 8000, depth=4, omega0=[2.0, 5.0, 10.0])
    lrnns = family(lj.LRNN, "rank", 8000, components=2, activation="sin", omega0=[1.0, 2.0, 5.0])
    wires = family(lj.Wire, "width", 8000, omega0=[1.0, 2.0, 5.0], sigma0=5.0)
    filters = family(lj.FourierNet, "width", 8000, input_scale=[16.0, 32.0, 64.0])
    models = {
        "NestNet": trials(nestnets, *first_order(3000, 5e-3, 1e-2, 2e-2)),
        "SIREN": trials(sirens, *first_order(3000, 1e-3, 5e-3)),
        "LRNN": trials(lrnns, *first_order(3000, 5e-3, 1e-2)),
        "WIRE": trials(wires, *first_order(3000, 1e-3, 5e-3)),
        "MFN": trials(filters, *first_order(3000, 5e-3, 1e-2)),
        "tanh": trials(family(lj.MLP, "width", 8000, depth=4), *first_order(3000, 1e-3, 5e-3)),
    }
    for beta, fresh in itertools.product((30, 40), (False, True)):
        problem = pde.Convection(
            beta=float(beta),
            sampler="uniform" if fresh else "grid",
            resample_every=int(fresh),
            initial_weight=100.0,
            boundary_weight=100.0,
        )
        points = "fresh" if fresh else "fixed"
        for name, choices in models.items():
            yield Case("adam", f"{name}, beta {beta}, {points} points", problem, choices)


def poisson_cases() -> Iterator[Case]:
    """u = prod_i sin(pi x_i), zero on the faces by construction: the plane with 3k parameters, and
    3, 5 and 10 dimensions with 1k or 2k, where SPINN has the solution's own form.
    """
    problem = pde.Poisson(frequency=1, points=1200, sampler="sobol", resample_every=20, hard=True)
    models = {
        "SIREN": family(lj.Siren, "width", 3000, depth=2, omega0=[3.0, 4.0]),
        "LRNN": family(lj.LRNN, "rank", 3000, omega0=[3.0, 4.0], **SMOOTH_LRNN),
        "tanh": family(lj.MLP, "width", 3000, depth=[2, 3]),
    }
    for name, some in models.items():
        yield Case("poisson", f"{name}, n 1", problem, trials(some, SECOND_ORDER))
    shorter = dataclasses.replace(SECOND_ORDER, steps=60)
    for dim, size in ((3, 1000), (5, 2000), (10, 2000)):
        problem = pde.Poisson(dim=dim, points=2000, sampler="sobol", resample_every=1, hard=True)
        product = SMOOTH_LRNN | {"depth": 1, "components": dim, "in_dim": dim}
        models = {
            "SPINN": family(lj.Spinn, "width", size, rank=4, in_dim=dim),
            "SIREN": family(lj.Siren, "width", size, depth=2, omega0=[1.0, 2.0], in_dim=dim),
            "LRNN": family(lj.LRNN, "rank", size, omega0=[1.0, 2.0], **product),
        }
        for name, some in models.items():
            yield Case("poisson", f"{name}, d {dim}", problem, trials(some, shorter))


def efficiency_cases() -> Iterator[Case]:
    """Poisson n = 2 and 4 by plain Adam: LRNN, SIREN, tanh, KAN and NestNet of five sizes."""
    for size, frequency in itertools.product((1000, 4000, 16_000, 57_000, 132_000), (2, 4)):
        problem = pde.Poisson(
            frequency=frequency, points=2000, boundary_points=400, resample_every=1
        )
        lrnns = family(
            lj.LRNN, "rank", size, components=2, activation="sin", omega0=[2.0, 5.0, 10.0]
        )
        sirens = family(lj.Siren, "width", size, depth=3, omega0=[5.0, 10.0, 20.0])
        # on plain coordinates: features of integer frequency hold the solution itself
        nestnets = family(lj.NestNet, "width", size, frequencies=0, activation="tanh")
        cases = {
            "LRNN": trials(lrnns, *first_order(1500, 2e-3, 5e-3)),
            "SIREN": trials(sirens, *first_order(1500, 1e-3, 3e-3)),
            "tanh": trials(family(lj.MLP, "width", size, depth=3), *first_order(1500, 1e-3, 3e-3)),
            "KAN": trials(family(lj.KAN, "width", size, depth=2), *first_order(1500, 1e-3, 3e-3)),
            "NestNet (tanh)": trials(nestnets, *first_order(1500, 1e-3, 3e-3)),
        }
        for name, choices in cases.items():
            yield Case("efficiency", f"{name}, n {frequency}, {size // 1000}k", problem, choices)


STAGES = {
    "convection": convection_cases,
    "adam": adam_cases,
    "poisson": poisson_cases,
    "efficiency": efficiency_cases,
}

read_rows = STUDY.read_rows

# Tables ------------------------------------------------------------------------------------------

CAPTIONS = {
    "convection": "Convection by Levenberg-Marquardt in float64, 160 steps",
    "adam": "Convection by plain Adam, 3,000 steps, every model at the best of its sweep",
    "poisson": "Poisson by Levenberg-Marquardt in float64, 160 steps in the plane, 60 elsewhere",
    "efficiency": "Poisson by plain Adam, 1,500 steps, every model at the best of its sweep",
}
PUBLISHED = {
    "beta 20": "1.9e-2 (L-BFGS, re-run)",
    "beta 30": "2.0e-2 (curriculum)",
    "beta 40": "5.3e-2 (curriculum)",
    "beta 50": "2.7e-2 (PINNsFormer)",
    "beta 80": "6.9e-4 (jaxpi)",
}


def table(rows: list[Row]) -> str:
    """One table a stage, in the order of its cases."""
    return "\n\n".join(filter(None, (_stage_table(stage, rows) for stage in STAGES)))


def _stage_table(stage: str, rows: list[Row]) -> str:
    found = {row["name"]: row for row in rows if row["stage"] == stage}
    chosen = [found[case.name] for case in STAGES[stage]() if case.name in found]
    if not chosen:
        return ""
    published = [PUBLISHED.get(row["name"].split(", ")[1], "") for row in chosen]
    columns = ["model and problem", "parameters", "median (best .. worst) of seeds", "oracle-best"]
    lines = [[*columns, "seconds a run"], *map(_cells, chosen)]
    if stage == "convection":
        lines = [[*line, text] for line, text in zip(lines, ["published", *published], strict=True)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join([f"{CAPTIONS[stage]}:", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _cells(row: Row) -> list[str]:
    final, oracle = row["final"], row["oracle"]
    return [
        row["name"],
        f"{row['parameters']:,}",
        f"**{statistics.median(final):.1e}** ({min(final):.1e} .. {max(final):.1e}), {len(final)}",
        f"{statistics.median(oracle):.1e}",
        f"{statistics.median(row['seconds']):.0f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
