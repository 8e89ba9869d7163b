"""Our Levenberg-Marquardt against that of optimistix and lineax, on the same residuals.

    python benchmarks/gauss_newton.py      # needs: pip install "lrnn-jax[peers]"

Poisson n = 1 with 1,200 fixed points in float64, zero on the boundary by construction, and SIRENs
of two sizes. Compared are the loss after the same number of updates and the seconds of the second
run, which does not compile. optimistix differentiates in forward mode, with one pass over all
points per parameter (reverse mode would need one per residual), since it cannot know that a
residual depends on one point only. It solves by QR, its default, or by a Cholesky factorisation of
the normal equations. With `--record`, rows are added to benchmarks/results/pinn.json.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from common import FOLDER, Results
from jax.flatten_util import ravel_pytree

import lrnn_jax as lj
from lrnn_jax import pde
from lrnn_jax.optimizers import levenberg_marquardt
from lrnn_jax.residuals import row_scales
from lrnn_jax.training.least_squares import FrozenLoss

try:
    import lineax  # pyright: ignore[reportMissingImports]
    import optimistix  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError:
    sys.exit('optimistix is not installed; install the peers extra: pip install "lrnn-jax[peers]"')

RESULTS = Results(FOLDER / "pinn.json")
UPDATES = 3
Solve = Callable[[jax.Array], jax.Array]


def main() -> None:
    with jax.enable_x64(True):
        for width in (16, 24):
            measure(width)


def measure(width: int) -> None:
    """Add a row for each solver at one size."""
    problem = pde.Poisson(points=1200, sampler="sobol", hard=True)
    model = lj.Siren(in_dim=2, out_dim=1, width=width, depth=2, omega0=3.0)
    params = model.init(jax.random.key(0))
    data = jax.tree.map(jnp.asarray, problem.load())
    parts = problem.parts(data)
    field = lambda x: model.apply(params, x)  # noqa: E731
    frozen = {name: (part.rows, row_scales(part, field)) for name, part in parts.items()}
    weights = {name: part.weight for name, part in parts.items()}
    fit, (flat, unravel) = FrozenLoss(model, parts, frozen, 512), ravel_pytree(params)
    residuals = lambda flat: fit.residuals(unravel(flat), weights)  # noqa: E731
    linearise = lambda flat: fit.linearise(unravel(flat), weights)  # noqa: E731
    for name, solve in solvers(residuals, linearise).items():
        run = jax.jit(solve)
        jax.block_until_ready(run(flat))
        begun = time.perf_counter()
        end = jax.block_until_ready(run(flat))
        seconds = time.perf_counter() - begun
        RESULTS.add(
            {
                "stage": "gauss_newton",
                "name": f"{name}, {flat.size} parameters",
                "updates": UPDATES,
                "loss": float(jnp.sum(residuals(end) ** 2)),
                "seconds_an_update": round(seconds / UPDATES, 3),
            }
        )


def solvers(residuals: Callable, linearise: Callable) -> dict[str, Solve]:
    """Functions from the initial parameters to those after `UPDATES` updates."""
    value = lambda flat: jnp.sum(residuals(flat) ** 2)  # noqa: E731

    def ours(flat: jax.Array) -> jax.Array:
        optimizer = levenberg_marquardt()

        def update(carry: Any, _: Any) -> tuple[Any, None]:
            flat, state = carry
            functions = {"value_fn": value, "residual_fn": residuals, "linearise_fn": linearise}
            step, state = optimizer.update(flat, state, flat, **functions)
            return (flat + step, state), None

        return jax.lax.scan(update, (flat, optimizer.init(flat)), length=UPDATES)[0][0]

    def theirs(solver: Any) -> Solve:
        method = optimistix.LevenbergMarquardt(rtol=0.0, atol=0.0, linear_solver=solver)
        return lambda flat: (
            optimistix.least_squares(
                lambda flat, _: residuals(flat),
                method,
                flat,
                options={"jac": "fwd"},
                max_steps=UPDATES,
                throw=False,
            ).value
        )

    return {
        "lrnn_jax": ours,
        "optimistix, QR": theirs(lineax.QR()),
        "optimistix, Cholesky": theirs(lineax.Normal(lineax.Cholesky())),
    }


if __name__ == "__main__":
    main()
