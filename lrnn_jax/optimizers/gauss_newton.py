"""Optimizers for sums of squares: Levenberg-Marquardt and the energy natural gradient.

Notation: N residuals r, shape (N,), whose squares sum to the loss; P parameters; J the Jacobian of
r, shape (N, P); g = J'r, half the gradient; ' the transpose. Both optimizers solve for a damped
Gauss-Newton step

    d = -(J'J + mu I)^-1 J'r = -J' (J J' + mu I)^-1 r,   mu = damping * trace(J'J) / min(N, P)

either in parameter space, with a P x P matrix, or in residual space, with an N x N matrix. The
damping is relative to the mean of the min(N, P) eigenvalues that the two matrices have in common.
It therefore does not depend on the units of the loss and of the parameters, and has the same
meaning in both spaces.

`update` needs `value_fn` and `linearise_fn`, and does not use the gradients passed to it. It takes
the loss from `value`, or computes it from r if `value` is not given.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from lrnn_jax.optimizers.stopping import (
    Call,
    Result,
    common_dtype,
    first_of,
    is_flat,
    require,
    require_choice,
    require_count,
    require_number,
    rounding,
    times,
    transformation,
)
from lrnn_jax.typing import Params

MOST_DAMPING = 1e10  # the search for a damping fails beyond this
HALVINGS = 30  # largest number of halvings of the step length in one update
SUFFICIENT = 1e-4  # Armijo's constant: the required share of the decrease that the slope predicts
DIFFERENCE = 0.1  # step of the finite difference along d, as a share of d
MOST_BEND = 0.75  # largest |a| / |d| of an accepted step

Space = Literal["auto", "parameter", "residual"]


class LevenbergMarquardtState(NamedTuple):
    """State of `levenberg_marquardt`.

    Attributes:
      result: a `Result`.
      damping: the first damping that the next update tries.
      growth: factor by which the next rejection multiplies the damping.
    """

    result: Int[Array, ""]
    damping: Float[Array, ""]
    growth: Float[Array, ""]


class GaussNewtonState(NamedTuple):
    """State of `natural_gradient`.

    Attributes:
      result: a `Result`.
      damping: the damping of the last update.
      rate: the step length of the last update; 0 if no step was taken.
    """

    result: Int[Array, ""]
    damping: Float[Array, ""]
    rate: Float[Array, ""]


def levenberg_marquardt(
    damping: float = 1e-3,
    *,
    space: Space = "auto",
    acceleration: bool = True,
    tries: int = 10,
    gradient_tolerance: float | None = None,
    loss_tolerance: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Levenberg-Marquardt with geodesic acceleration and Nielsen's damping.

        params <- params + d + a / 2,   (J'J + mu I) d = -J'r,   (J'J + mu I) a = -J'r_dd

    The loss is F = |r|^2, and r_dd is the second derivative of r along d, approximated by a finite
    difference with the residuals at params + d / 10. The acceleration a lets the step follow a
    curved valley that d alone would leave. With it, losses of PDEs need several times fewer
    updates. With

        rho = (F - F(params + d + a / 2)) / (F - |r + J d|^2)

    the step is accepted if rho > 0 and |a| <= 3/4 |d|, and the damping is multiplied by
    max(1/3, 1 - (2 rho - 1)^3). Otherwise the step is rejected and the damping is multiplied by 2,
    then by 4, 8 and so on. One update tries up to `tries` steps, all from the same J and the same
    product J'J or J J'. If none is accepted, the parameters do not change, and the next update
    begins with the last damping. A step is also rejected if the loss is not finite or if the
    matrix has no Cholesky factor.

    An update takes about N P min(N, P) operations, and min(N, P)^3 / 3 for each damping tried. Each
    damping tried evaluates the residuals twice.

    Args:
      damping: damping of the first update, in [1e-16, 1e10], relative to the mean eigenvalue as
        described in the module.
      space: space of the matrix; 'auto' chooses 'residual' if N < P, else 'parameter'.
      acceleration: whether to add a / 2.
      tries: largest number of dampings tried in one update, >= 1.
      gradient_tolerance: see `lrnn_jax.optimizers`.
      loss_tolerance: see `lrnn_jax.optimizers`.

    Returns:
      An optax transformation whose state is a `LevenbergMarquardtState`. If `residual_fn(params)`
      is given, `update` uses it where it needs r without J.

    Example:
      >>> residuals = lambda x: jnp.stack([x[0] - 1, 10 * (x[1] - x[0] ** 2)])
      >>> loss = lambda x: jnp.sum(residuals(x) ** 2)
      >>> linearise = lambda x: (residuals(x), jax.jacobian(residuals)(x))
      >>> optimizer, x = levenberg_marquardt(), jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> step, state = optimizer.update(None, state, x, value_fn=loss, linearise_fn=linearise)
      >>> bool(loss(x + step) < loss(x))
      True

    References:
      Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", SIAM Journal
      on Applied Mathematics 11 (1963). Damping: Madsen, Nielsen and Tingleff, "Methods for
      non-linear least squares problems", 2nd edition (2004), algorithm 3.16. Deviation: here the
      damping is relative to the mean eigenvalue at each update; theirs is scaled once, by the
      largest entry of the diagonal. Acceleration: Transtrum and Sethna, "Improvements to the
      Levenberg-Marquardt algorithm for nonlinear least-squares minimization", arXiv 1201.5885.
    """
    require_count("tries", tries, 1)
    require("acceleration", acceleration, isinstance(acceleration, bool), "True or False")
    update = functools.partial(_damped_update, acceleration=acceleration, tries=tries)
    tolerances = (gradient_tolerance, loss_tolerance)
    return _gauss_newton(
        "levenberg_marquardt", LevenbergMarquardtState, (damping, 2.0), space, tolerances, update
    )


def natural_gradient(
    damping: float = 1e-10,
    *,
    space: Space = "auto",
    gradient_tolerance: float | None = None,
    loss_tolerance: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Energy natural gradient descent: lightly damped Gauss-Newton steps with backtracking.

        params <- params + rate d,   (J'J + mu I) d = -J'r,   rate = 1, 1/2, 1/4, ..., 2^-30

    The step uses the first rate that satisfies Armijo's condition: F = |r|^2 falls by at least 1e-4
    of the decrease that its slope predicts. With a small damping, rounding errors can leave the
    matrix without a Cholesky factor, or make d not a descent direction. The damping is then
    multiplied by 10 until there is a factor and d is a descent direction.

    An update takes about N P min(N, P) operations, and min(N, P)^3 / 3 for each damping tried.

    Args:
      damping: in [1e-16, 1e10], relative to the mean eigenvalue as described in the module. A value
        below the machine epsilon of the parameters' dtype (1.2e-7 in float32) is raised to it.
      space: space of the matrix; 'auto' chooses 'residual' if N < P, else 'parameter'.
      gradient_tolerance: see `lrnn_jax.optimizers`.
      loss_tolerance: see `lrnn_jax.optimizers`.

    Returns:
      An optax transformation whose state is a `GaussNewtonState`.

    Example:
      >>> residuals = lambda x: 3 * x - 6
      >>> linearise = lambda x: (residuals(x), 3 * jnp.eye(2))
      >>> loss = lambda x: jnp.sum(residuals(x) ** 2)
      >>> optimizer, x = natural_gradient(), jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> step, state = optimizer.update(None, state, x, value_fn=loss, linearise_fn=linearise)
      >>> [round(float(entry), 3) for entry in x + step]
      [2.0, 2.0]

    References:
      Mueller and Zeinhofer, "Achieving high accuracy with PINNs via energy natural gradient
      descent", ICML 2023, arXiv 2302.13163; in residual space: Guzman-Cordero et al., arXiv
      2505.12149. Deviations: damping instead of a pseudo-inverse, whose cut-off decides whether the
      method stalls; the first sufficient rate instead of the best of 31 rates.
    """

    update = functools.partial(_searched_update, least_damping=damping)
    tolerances = (gradient_tolerance, loss_tolerance)
    return _gauss_newton(
        "natural_gradient", GaussNewtonState, (damping, 0.0), space, tolerances, update
    )


def _gauss_newton(
    name: str,
    make_state: Callable[..., Any],
    start: tuple[float, float],
    space: Space,
    tolerances: tuple[float | None, float],
    update: Callable[[Any, Any, Call], tuple[Params, Any]],
) -> optax.GradientTransformationExtraArgs:
    """Build either optimizer.

    `start` are the numbers of the initial state, the damping first. While the optimizer has not
    stopped, update(system, state, call) -> (updates, state).
    """
    limits = f"a number from 1e-16 to {MOST_DAMPING:g}"
    require_number("damping", start[0], limits, lambda d: (d >= 1e-16) & (d <= MOST_DAMPING))
    require_choice("space", space, *get_args(Space))

    def init(params: Params):
        numbers = jnp.asarray(start, common_dtype(params))
        return make_state(jnp.zeros((), jnp.int32), *numbers)

    def advance(call: Call, state: Any):
        system = _linearise(call, space)
        return system.value, 2 * system.gradient, lambda: update(system, state, call)

    return transformation(name, ("value_fn", "linearise_fn"), tolerances, init, advance)


class _System(NamedTuple):
    """One linearisation: `gram` is J'J or J J', and `scale` is trace(J'J) / min(N, P)."""

    value: Float[Array, ""]
    residual: Float[Array, "n"]
    jacobian: Float[Array, "n p"]
    gradient: Float[Array, "p"]
    gram: Float[Array, "m m"]
    scale: Float[Array, ""]
    in_residuals: bool


def _linearise(call: Call, space: Space) -> _System:
    """Linearise at the parameters of a call; the result is shared by all dampings."""
    dtype = common_dtype(call.params)
    residual, jacobian = (jnp.asarray(part, dtype) for part in call.linearise_fn(call.params))
    total = jnp.dot(residual, residual) if call.value is None else jnp.asarray(call.value, dtype)
    in_residuals = space == "residual" or (space == "auto" and len(residual) < jacobian.shape[1])
    across = jacobian if in_residuals else jacobian.T
    return _System(
        value=total,
        residual=residual,
        jacobian=jacobian,
        gradient=times(residual, jacobian),
        gram=times(across, across.T),
        scale=jnp.sum(jacobian**2) / min(jacobian.shape),
        in_residuals=in_residuals,
    )


def _solver(system: _System, damping: Array) -> Callable[[Array], Array]:
    """Return the map v -> -(J'J + mu I)^-1 J'v, (N,) -> (P,), with one iterative refinement.

    The refinement computes its residual from products with J, and so recovers the digits that were
    lost to rounding when J'J or J J' was formed. The result is NaN if there is no Cholesky factor.
    """
    mu, jacobian = damping * system.scale, system.jacobian
    shifted = system.gram + mu * jnp.eye(len(system.gram), dtype=mu.dtype)
    # The matrix is symmetric by construction: the default would average it with its transpose.
    factor = (lax.linalg.cholesky(shifted, symmetrize_input=False), True)

    # `missing` is the residual of the linear system. It is computed with two products with J, not
    # with `gram`, whose rounding errors are what the refinement corrects.
    def by_residuals(vector: Array) -> Array:
        solution = jax.scipy.linalg.cho_solve(factor, vector)
        missing = vector - times(jacobian, times(solution, jacobian)) - mu * solution
        return -times(solution + jax.scipy.linalg.cho_solve(factor, missing), jacobian)

    def by_parameters(vector: Array) -> Array:
        solution = jax.scipy.linalg.cho_solve(factor, times(vector, jacobian))
        missing = times(vector - times(jacobian, solution), jacobian) - mu * solution
        return -solution - jax.scipy.linalg.cho_solve(factor, missing)

    return by_residuals if system.in_residuals else by_parameters


class _Trial(NamedTuple):
    """State of the loop over dampings in one update."""

    tries: Int[Array, ""]  # number of dampings tried
    damping: Float[Array, ""]  # the next damping to try, or the damping of the accepted step
    growth: Float[Array, ""]  # factor of the damping at the next rejection
    updates: Params  # the last step, d + a / 2
    fall: Float[Array, ""]  # decrease of the loss by the last step
    predicted: Float[Array, ""]  # decrease that the linearisation predicts for the last step
    promise: Float[Array, ""]  # `predicted` of the first step tried
    taken: Bool[Array, ""]  # whether the last step was accepted


def _damped_update(
    system: _System, state: LevenbergMarquardtState, call: Call, acceleration: bool, tries: int
) -> tuple[Params, LevenbergMarquardtState]:
    """Compute one update of `levenberg_marquardt` while it has not stopped."""
    params, unravel = call.params, ravel_pytree(call.params)[1]

    def attempt(last: _Trial) -> _Trial:
        solve = _solver(system, last.damping)
        step = solve(system.residual)
        # F - |r + J d|^2 = d'(mu d - g), by the equation for d. Both terms of this form are
        # >= 0, so that nothing cancels, unlike in the difference of the two losses.
        predicted = jnp.dot(step, last.damping * system.scale * step - system.gradient)
        bend = _bend(system, call, solve, step) if acceleration else jnp.zeros_like(step)
        updates = unravel(step + bend / 2)
        value = call.value_fn(optax.apply_updates(params, updates)).astype(system.value.dtype)
        taken = jnp.isfinite(value) & (value < system.value)  # -inf would be lower
        taken &= jnp.linalg.norm(bend) <= MOST_BEND * jnp.linalg.norm(step)
        return _Trial(
            tries=last.tries + 1,
            damping=jnp.where(taken, last.damping, last.damping * last.growth),
            growth=jnp.where(taken, last.growth, last.growth * 2),
            updates=updates,
            fall=system.value - value,
            predicted=predicted,
            promise=jnp.where(last.tries == 0, predicted, last.promise),
            taken=taken,
        )

    def goes_on(last: _Trial) -> Array:
        return ~last.taken & (last.tries < tries) & (last.damping <= MOST_DAMPING)

    zero, no_step = jnp.zeros_like(system.value), jax.tree.map(jnp.zeros_like, params)
    start = (jnp.zeros((), jnp.int32), state.damping, state.growth, no_step)
    end = lax.while_loop(goes_on, attempt, _Trial(*start, zero, zero, zero, jnp.array(False)))
    return optax.tree.where(end.taken, end.updates, no_step), _after(end, system.value)


def _bend(system: _System, call: Call, solve: Callable[[Array], Array], step: Array) -> Array:
    """Return the geodesic acceleration a = solve(r_dd) of a step d, both of shape (P,).

    r_dd is approximated by a finite difference. The result is 0 if the step is so short that
    rounding errors would dominate the difference.
    """
    flat, unravel = ravel_pytree(call.params)
    ahead = unravel(flat + DIFFERENCE * step)
    full = call.residual_fn is None
    residual = call.linearise_fn(ahead)[0] if full else call.residual_fn(ahead)
    # r(params + h d) = r + h J d + h^2 / 2 r_dd, solved for r_dd.
    change = (residual.astype(flat.dtype) - system.residual) / DIFFERENCE
    bend = solve(2 / DIFFERENCE * (change - times(system.jacobian, step)))
    short = jnp.linalg.norm(step) <= rounding(step) ** 0.5 * jnp.linalg.norm(flat)
    return jnp.where(short, 0, bend)


def _after(end: _Trial, value: Float[Array, ""]) -> LevenbergMarquardtState:
    """Return the state after an update: Nielsen's damping, and whether to stop."""
    ratio = jnp.clip(end.fall / end.predicted, 0, 1)
    eased = end.damping * jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)
    # A damping below the machine epsilon would be lost when it is added to the matrix.
    damping = jnp.where(end.taken, jnp.maximum(eased, rounding(eased)), end.damping)
    growth = jnp.where(end.taken, 2, end.growth)
    # `promise` belongs to the first and smallest damping. A rejected step with a large damping
    # predicts a small decrease as well, which would not show convergence.
    flat = is_flat(end.promise, value) & (is_flat(end.fall, value) | ~end.taken)
    spent = ~end.taken & (end.damping > MOST_DAMPING)
    result = first_of((flat, Result.ROUNDING_CONVERGED), (spent, Result.DAMPING_FAILED))
    return LevenbergMarquardtState(result, damping.astype(value.dtype), growth.astype(value.dtype))


def _searched_update(
    system: _System, state: GaussNewtonState, call: Call, least_damping: float
) -> tuple[Params, GaussNewtonState]:
    """Compute one update of `natural_gradient` while it has not stopped."""
    params, unravel, dtype = call.params, ravel_pytree(call.params)[1], system.value.dtype
    # A damping below the machine epsilon would be lost when it is added to the matrix.
    least = jnp.maximum(rounding(system.value), jnp.asarray(least_damping, dtype))
    damping, direction = _descent(system, least)
    slope = 2 * jnp.dot(system.gradient, direction)

    def scaled(rate: Array) -> Params:
        return unravel(rate * direction)

    def falls(rate: Array) -> Array:
        value = call.value_fn(optax.apply_updates(params, scaled(rate)))
        return jnp.isfinite(value) & (value < system.value + SUFFICIENT * rate * slope)

    def goes_on(last):
        rate, done = last
        return ~done & (rate > 2.0**-HALVINGS)

    def halve(last):
        rate = last[0] / 2
        return rate, falls(rate)

    # Begin at 2, because `halve` halves before it evaluates: the program contains the loss once.
    start = (jnp.full_like(system.value, 2), jnp.array(False))
    rate, done = lax.while_loop(goes_on, halve, start)
    rate = jnp.where(done, rate, 0)
    flat = is_flat(-slope / 2, system.value)
    result = first_of(
        (done, Result.RUNNING),
        (flat, Result.ROUNDING_CONVERGED),
        (~flat, Result.LINE_SEARCH_FAILED),
    )
    updates = optax.tree.where(done, scaled(rate), jax.tree.map(jnp.zeros_like, params))
    return updates, GaussNewtonState(result, damping, rate)


def _descent(system: _System, damping: Array) -> tuple[Array, Array]:
    """Raise the damping by powers of 10 until d is a descent direction; return both."""

    def fails(last):
        damping, direction = last
        slope = jnp.dot(system.gradient, direction)
        return ~(jnp.isfinite(slope) & (slope < 0)) & (damping <= MOST_DAMPING)

    def raised(last):
        damping = last[0] * 10
        return damping, _solver(system, damping)(system.residual)

    start = (damping, _solver(system, damping)(system.residual))
    return lax.while_loop(fails, raised, start)
