"""PDEs solved by every model, compared with published results: relative L2 errors of five seeds.

    python benchmarks/pinn.py convection   # Levenberg-Marquardt in float64, beta 20 .. 100
    python benchmarks/pinn.py adam         # Adam, every model at the best of its sweep
    python benchmarks/pinn.py poisson      # n = 1, in 2, 3, 5 and 10 dimensions, in float64
    python benchmarks/pinn.py efficiency   # Poisson n = 2 and 4 with 1k to 132k parameters
    python benchmarks/pinn.py table        # all rows as Markdown

Convection is set up as published (initial condition at 256 points, 256 x 100 grid for the error).
Every row states what we chose ourselves: representation, weights, number of points, fixed or
resampled points. Sweeps are decided by the final error of seed 0. With `--record`, rows are added
to benchmarks/results/pinn.json as they are measured; `--only` and `--seeds` run a part of a stage.
"""

import dataclasses
import functools
import itertools
import statistics
from collections.abc import Iterator
from typing import Any

import common
import sweeps
from common import FOLDER, Results, Row
from sweeps import Case, Study, at_rates, cases, study_parser, trials

import lrnn_jax as lj
from lrnn_jax import pde

RESULTS = Results(FOLDER / "pinn.json")
STUDY = Study(RESULTS, "relative_l2", larger=False)


def main() -> None:
    options = common.parse(study_parser(__doc__, STAGES), RESULTS, table)
    for case in STAGES[options.stage]():
        if options.only in case.name:
            STUDY.run(case, options.seeds)


# Cases -------------------------------------------------------------------------------------------


family = functools.partial(sweeps.family, in_dim=2, out_dim=1)

SECOND_ORDER = lj.Training(optimizer="levenberg_marquardt", precision="float64", steps=160)
SMOOTH_LRNN: dict[str, Any] = {
    "components": 2,
    "activation": "sin",
    "norm": "none",
    "projection_init": "siren",
}


def convection_cases() -> Iterator[Case]:
    """SIREN at every beta; at beta 50 also other models with as many parameters.

    Periodic in x by construction, the time harmonics reach frequencies above beta, the initial
    condition has weight 100, the points are resampled at every step.
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
        siren = lj.Siren(**fields, out_dim=1, width=16, depth=2, omega0=1.0)
        models = {"SIREN": [siren]}
        if beta == 50:
            size = siren.parameter_count
            models |= {
                "LRNN": family(lj.LRNN, "rank", size, omega0=[1.0, 2.0], **SMOOTH_LRNN | fields),
                "NestNet": family(lj.NestNet, "width", size, frequencies=0, depth=[2, 3], **fields),
                "tanh": family(lj.MLP, "width", size, depth=[2, 3], **fields),
                "MFN": family(lj.FourierNet, "width", size, input_scale=[1.0, 4.0], **fields),
            }
        choices = {name: trials(variants, SECOND_ORDER) for name, variants in models.items()}
        yield from cases("convection", f"beta {beta}", problem, choices)


def first_order(steps: int, *rates: float) -> list[lj.Training]:
    """Adam at each of the rates, which decay to 0 along a cosine."""
    return at_rates(lj.Training(steps=steps, schedule="cosine", chunk=512), *rates)


def adam_cases() -> Iterator[Case]:
    """About 8k parameters, 3,000 steps; points fixed, as published, or resampled at every step."""
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
        yield from cases("adam", f"beta {beta}, {points} points", problem, models)


def poisson_cases() -> Iterator[Case]:
    """u = prod_i sin(pi x_i), zero on the boundary by construction.

    2 dimensions with 3k parameters; 3, 5 and 10 dimensions with 1k or 2k, where the solution is a
    product of functions of one coordinate, as SPINN is.
    """
    problem = pde.Poisson(frequency=1, points=1200, sampler="sobol", resample_every=20, hard=True)
    models = {
        "SIREN": family(lj.Siren, "width", 3000, depth=2, omega0=[3.0, 4.0]),
        "LRNN": family(lj.LRNN, "rank", 3000, omega0=[3.0, 4.0], **SMOOTH_LRNN),
        "tanh": family(lj.MLP, "width", 3000, depth=[2, 3]),
    }
    choices = {name: trials(variants, SECOND_ORDER) for name, variants in models.items()}
    yield from cases("poisson", "n 1", problem, choices)
    shorter = dataclasses.replace(SECOND_ORDER, steps=60)
    for dim, size in ((3, 1000), (5, 2000), (10, 2000)):
        problem = pde.Poisson(dim=dim, points=2000, sampler="sobol", resample_every=1, hard=True)
        product = SMOOTH_LRNN | {"depth": 1, "components": dim, "in_dim": dim}
        models = {
            "SPINN": family(lj.Spinn, "width", size, rank=4, in_dim=dim),
            "SIREN": family(lj.Siren, "width", size, depth=2, omega0=[1.0, 2.0], in_dim=dim),
            "LRNN": family(lj.LRNN, "rank", size, omega0=[1.0, 2.0], **product),
        }
        choices = {name: trials(variants, shorter) for name, variants in models.items()}
        yield from cases("poisson", f"d {dim}", problem, choices)


def efficiency_cases() -> Iterator[Case]:
    """Poisson n = 2 and 4 by Adam: LRNN, SIREN, tanh, KAN and NestNet of five sizes."""
    for size, frequency in itertools.product((1000, 4000, 16_000, 57_000, 132_000), (2, 4)):
        problem = pde.Poisson(
            frequency=frequency, points=2000, boundary_points=400, resample_every=1
        )
        lrnns = family(
            lj.LRNN, "rank", size, components=2, activation="sin", omega0=[2.0, 5.0, 10.0]
        )
        sirens = family(lj.Siren, "width", size, depth=3, omega0=[5.0, 10.0, 20.0])
        # Without Fourier features: those of integer frequency contain the solution itself.
        nestnets = family(lj.NestNet, "width", size, frequencies=0, activation="tanh")
        models = {
            "LRNN": trials(lrnns, *first_order(1500, 2e-3, 5e-3)),
            "SIREN": trials(sirens, *first_order(1500, 1e-3, 3e-3)),
            "tanh": trials(family(lj.MLP, "width", size, depth=3), *first_order(1500, 1e-3, 3e-3)),
            "KAN": trials(family(lj.KAN, "width", size, depth=2), *first_order(1500, 1e-3, 3e-3)),
            "NestNet (tanh)": trials(nestnets, *first_order(1500, 1e-3, 3e-3)),
        }
        yield from cases("efficiency", f"n {frequency}, {size // 1000}k", problem, models)


STAGES = {
    "convection": convection_cases,
    "adam": adam_cases,
    "poisson": poisson_cases,
    "efficiency": efficiency_cases,
}


# Tables ------------------------------------------------------------------------------------------

CAPTIONS = {
    "convection": "Convection by Levenberg-Marquardt in float64, 160 steps",
    "adam": "Convection by plain Adam, 3,000 steps, every model at the best of its sweep",
    "poisson": "Poisson by Levenberg-Marquardt in float64, 160 steps in the plane, 60 elsewhere",
    "efficiency": "Poisson by plain Adam, 1,500 steps, every model at the best of its sweep",
}
HEADER = (
    "model and problem | parameters | median (best .. worst) of seeds | oracle-best "
    "| seconds per run"
)
PUBLISHED = {
    "beta 20": "1.9e-2 (L-BFGS, re-run)",
    "beta 30": "2.0e-2 (curriculum)",
    "beta 40": "5.3e-2 (curriculum)",
    "beta 50": "2.7e-2 (PINNsFormer)",
    "beta 80": "6.9e-4 (jaxpi)",
}


def table(rows: list[Row]) -> str:
    """A table for each stage, in the order of its cases."""
    return "\n\n".join(filter(None, (_stage_table(stage, rows) for stage in STAGES)))


def _stage_table(stage: str, rows: list[Row]) -> str:
    by_name = {row["name"]: row for row in rows if row["stage"] == stage}
    chosen = [by_name[case.name] for case in STAGES[stage]() if case.name in by_name]
    if not chosen:
        return ""
    header, lines = HEADER, [_cells(row) for row in chosen]
    if stage == "convection":
        header += " | published"
        for row, line in zip(chosen, lines, strict=True):
            line.append(PUBLISHED.get(row["name"].split(", ")[1], ""))
    return f"{CAPTIONS[stage]}:\n\n{common.markdown(header, lines)}"


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
    main()
