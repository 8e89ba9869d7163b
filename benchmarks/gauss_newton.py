"""Our Levenberg-Marquardt against that of optimistix and lineax, on the same residuals.

    python benchmarks/gauss_newton.py      # needs: pip install "lrnn-jax[peers]"

Poisson n = 1 with 1,200 fixed points in float64, zero on the faces by construction, and SIRENs of
two sizes. The loss after equal numbers of updates, and seconds of the second run, without
compilation. optimistix differentiates forward, one pass over all points for each parameter (in
reverse it is one for each residual): it cannot know that a residual depends on one point alone. It
solves with QR, its default, or with Cholesky's factor of the normal equations.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from timing import add_row

import lrnn_jax as lj
from lrnn_jax import pde
from lrnn_jax.residuals import row_scales
from lrnn_jax.training.least_squares import FrozenLoss
from lrnn_jax.training.optimizers import levenberg_marquardt

try:
    import lineax  # pyright: ignore[reportMissingImports]
    import optimistix  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError:
    sys.exit('optimistix is not installed; install the peers extra: pip install "lrnn-jax[peers]"')

RESULTS = Path(__file__).parent / "results" / "pinn.json"
UPDATES = 3
Solve = Callable[[jax.Array], jax.Array]


def main() -> int:
    with jax.enable_x64(True):
        for width in (16, 24):
            measure(width)
    return 0


def measure(width: int) -> None:
    """A row for each contender at one size."""
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
    for name, solve in contenders(residuals, linearise).items():
        run = jax.jit(solve)
        jax.block_until_ready(run(flat))
        begun = time.perf_counter()
        end = jax.block_until_ready(run(flat))
        seconds = time.perf_counter() - begun
        add_row(
            RESULTS,
            {
                "stage": "gauss_newton",
                "name": f"{name}, {flat.size} parameters",
                "updates": UPDATES,
                "loss": float(jnp.sum(residuals(end) ** 2)),
                "seconds_an_update": round(seconds / UPDATES, 3),
            },
        )


def contenders(residuals: Callable, linearise: Callable) -> dict[str, Solve]:
    """Functions from the parameters at the start to those after `UPDATES` updates."""
    value = lambda flat: jnp.sum(residuals(flat) ** 2)  # noqa: E731

    def ours(flat: jax.Array) -> jax.Array:
        optimizer = levenberg_marquardt()

        def update(carry: Any, _: Any) -> tuple[Any, None]:
            flat, state = carry
            given = {"value_fn": value, "residual_fn": residuals, "linearise_fn": linearise}
            step, state = optimizer.update(flat, state, flat, **given)
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
    sys.exit(main())
