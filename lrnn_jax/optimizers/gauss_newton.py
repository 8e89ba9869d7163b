"""Optimizers for sums of squares: Levenberg-Marquardt and the energy natural gradient.

Letters: r residuals, shape (N,), whose squares sum to the loss; J their Jacobian, (N, P); g = J'r,
half the gradient; N residuals, P parameters. Both solve for a damped Gauss-Newton step

    d = -(J'J + mu I)^-1 J'r = -J' (J J' + mu I)^-1 r,   mu = damping * trace(J'J) / min(N, P)

in the space of the parameters, a matrix P x P, or of the residuals, N x N. The damping is relative
to the mean eigenvalue that is not zero, so that units of the loss and of the parameters do not
matter, and is the same in both spaces.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from lrnn_jax.optimizers.stopping import (
    Call,
    Result,
    first_of,
    initial_result,
    is_flat,
    is_number,
    real_parameters,
    require,
    require_count,
    require_tolerances,
    rounding,
    times,
    transformation,
    unless_ended,
)
from lrnn_jax.typing import Params

__all__ = [
    "GaussNewtonState",
    "LevenbergMarquardtState",
    "levenberg_marquardt",
    "natural_gradient",
]

MOST_DAMPING = 1e10
HALVINGS = 30
SUFFICIENT = 1e-4
DIFFERENCE = 0.1
MOST_BEND = 0.75

Space = Literal["auto", "parameter", "residual"]


class LevenbergMarquardtState(NamedTuple):
    """State of `levenberg_marquardt`.

    Attributes:
      result: a `Result`.
      damping: with which the next update begins.
      growth: the factor of the damping at the next rejection.
    """

    result: Int[Array, ""]
    damping: Float[Array, ""]
    growth: Float[Array, ""]


class GaussNewtonState(NamedTuple):
    """State of `natural_gradient`.

    Attributes:
      result: a `Result`.
      damping: of the last update.
      rate: the step length of the last update, 0 for none.
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

    for the loss F = |r|^2, where r_dd is the second derivative of r along d, from the residuals at
    params + d / 10. The acceleration a follows a bent valley where d alone would leave it: losses
    of PDEs need several times fewer updates for it. With

        rho = (F - F(params + d + a / 2)) / (F - |r + J d|^2)

    the step is taken if rho > 0 and |a| <= 3/4 |d|, and the damping is multiplied by
    max(1/3, 1 - (2 rho - 1)^3). Otherwise the damping is multiplied by 2, then 4, then 8 and so
    on, up to `tries` steps in one update from one J and one product J'J or J J'; if none is taken
    the parameters stay, and the next update begins with the damping reached. A step where the loss
    is not finite, or where the matrix has no Cholesky factor, is not taken.

    An update takes about N P min(N, P) operations and min(N, P)^3 / 3 for each damping tried, and
    each of these evaluates the residuals twice.

    Args:
      damping: of the first update, in [1e-16, 1e10], relative: see the module.
      space: of the matrix; 'auto' takes 'residual' if N < P.
      acceleration: whether to add a / 2.
      tries: dampings tried in one update, >= 1.
      gradient_tolerance: stops where no entry of the gradient 2 J'r is larger, >= 0; None is the
        rounding unit of the parameters: 2.2e-16 in float64, 1.2e-7 in float32.
      loss_tolerance: stops where the loss is no larger, >= 0.

    Returns:
      An optax transformation whose state is a `LevenbergMarquardtState`; `update` needs
      `value_fn` and `linearise_fn`, and takes the loss from `value` or, without one, from r. It
      takes r alone from `residual_fn(params)` if that is given. The gradients that it is given are
      not used.

    Raises:
      InputError: an argument is out of its range; in `init`, a parameter is not real; in
        `update`, `value_fn` or `linearise_fn` is missing.

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
      on Applied Mathematics 11 (1963). The damping: Madsen, Nielsen and Tingleff, "Methods for
      non-linear least squares problems", 2nd edition (2004), algorithm 3.16; here it is relative
      to the mean eigenvalue of each update, where theirs is scaled once, by the largest entry of
      the diagonal. The acceleration: Transtrum and Sethna, "Improvements to the Levenberg-
      Marquardt algorithm for nonlinear least-squares minimization", arXiv 1201.5885.
    """
    require_count("tries", tries, 1)
    flag = isinstance(acceleration, bool)
    require("acceleration", acceleration, flag, "True or False")
    options = _Options(acceleration, tries)
    _require_system(damping, space)
    tolerances = require_tolerances(gradient_tolerance, loss_tolerance)

    def init(params):
        _, dtype = real_parameters("levenberg_marquardt", params)
        start = jnp.asarray([damping, 2.0], dtype)
        return LevenbergMarquardtState(jnp.zeros((), jnp.int32), *start)

    def advance(call: Call, state: LevenbergMarquardtState):
        system = _linearise(call, space)
        result = initial_result(system.value, 2 * system.gradient, tolerances)
        return unless_ended(
            result, lambda: _damped_update(system, state, call, options), call.params, state
        )

    return transformation("levenberg_marquardt", ("value_fn", "linearise_fn"), init, advance)


def natural_gradient(
    damping: float = 1e-10,
    *,
    space: Space = "auto",
    gradient_tolerance: float | None = None,
    loss_tolerance: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Energy natural gradient descent: Gauss-Newton directions with a little damping, and halving.

        params <- params + rate d,   (J'J + mu I) d = -J'r,   rate = 1, 1/2, 1/4, ..., 2^-30

    The first rate is taken for which F = |r|^2 falls by 1e-4 of what its slope promises. Where
    the matrix has no Cholesky factor or d does not descend, as its rounding errors may have it at
    so small a damping, the damping is multiplied by 10 until it has and does.

    An update takes about N P min(N, P) operations and min(N, P)^3 / 3 for each damping tried.

    Args:
      damping: in [1e-16, 1e10], relative: see the module. It is taken no smaller than the rounding
        unit of the parameters, 1.2e-7 in float32.
      space: of the matrix; 'auto' takes 'residual' if N < P.
      gradient_tolerance: stops where no entry of the gradient 2 J'r is larger, >= 0; None is the
        rounding unit of the parameters: 2.2e-16 in float64, 1.2e-7 in float32.
      loss_tolerance: stops where the loss is no larger, >= 0.

    Returns:
      An optax transformation whose state is a `GaussNewtonState`; `update` needs `value_fn` and
      `linearise_fn`, and takes the loss from `value` or, without one, from r. The gradients that
      it is given are not used.

    Raises:
      InputError: an argument is out of its range; in `init`, a parameter is not real; in
        `update`, `value_fn` or `linearise_fn` is missing.

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
      descent", ICML 2023, arXiv 2302.13163; in the space of the residuals: Guzman-Cordero et al.,
      arXiv 2505.12149. Deviations: damping instead of a pseudo-inverse, whose cut-off decides
      whether the method stalls, and the first sufficient rate instead of the best of 31.
    """
    _require_system(damping, space)
    tolerances = require_tolerances(gradient_tolerance, loss_tolerance)

    def init(params):
        _, dtype = real_parameters("natural_gradient", params)
        start = jnp.asarray([damping, 0.0], dtype)
        return GaussNewtonState(jnp.zeros((), jnp.int32), *start)

    def advance(call: Call, state: GaussNewtonState):
        system = _linearise(call, space)
        result = initial_result(system.value, 2 * system.gradient, tolerances)
        least = jnp.maximum(rounding(system.value), jnp.asarray(damping, system.value.dtype))
        return unless_ended(
            result, lambda: _searched_update(system, least, call), call.params, state
        )

    return transformation("natural_gradient", ("value_fn", "linearise_fn"), init, advance)


class _System(NamedTuple):
    """One linearisation; `gram` is J'J or J J', `scale` its mean eigenvalue that is not zero."""

    value: Float[Array, ""]
    residual: Float[Array, "n"]
    jacobian: Float[Array, "n p"]
    gradient: Float[Array, "p"]
    gram: Float[Array, "m m"]
    scale: Float[Array, ""]
    in_residuals: bool


def _linearise(call: Call, space: Space) -> _System:
    """The systems at the parameters of a call, whatever the damping."""
    dtype = jnp.result_type(*jax.tree.leaves(call.params))
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


def _solver(
    system: _System, damping: Float[Array, ""]
) -> Callable[[Float[Array, "n"]], Float[Array, "p"]]:
    """v -> -(J'J + mu I)^-1 J'v, with one round of refinement by products with J.

    The refinement recovers what the product of J with itself has rounded away. Without a Cholesky
    factor the result is NaN.
    """
    mu, jacobian = damping * system.scale, system.jacobian
    shifted = system.gram + mu * jnp.eye(len(system.gram), dtype=mu.dtype)
    factor = (lax.linalg.cholesky(shifted, symmetrize_input=False), True)

    def by_residuals(vector: Array) -> Array:
        solution = jax.scipy.linalg.cho_solve(factor, vector)
        missing = vector - times(jacobian, times(solution, jacobian)) - mu * solution
        return -times(solution + jax.scipy.linalg.cho_solve(factor, missing), jacobian)

    def by_parameters(vector: Array) -> Array:
        solution = jax.scipy.linalg.cho_solve(factor, times(vector, jacobian))
        missing = times(vector - times(jacobian, solution), jacobian) - mu * solution
        return -solution - jax.scipy.linalg.cho_solve(factor, missing)

    return by_residuals if system.in_residuals else by_parameters


class _Options(NamedTuple):
    acceleration: bool
    tries: int


class _Trial(NamedTuple):
    """The dampings tried in one update: the next one, the last step and what it brought."""

    tries: Int[Array, ""]
    damping: Float[Array, ""]
    growth: Float[Array, ""]
    updates: Params
    fall: Float[Array, ""]
    predicted: Float[Array, ""]
    promise: Float[Array, ""]
    taken: Bool[Array, ""]


def _damped_update(
    system: _System, state: LevenbergMarquardtState, call: Call, options: _Options
) -> tuple[Params, LevenbergMarquardtState]:
    """One update of `levenberg_marquardt` that has not stopped."""
    params, unravel = call.params, ravel_pytree(call.params)[1]

    def attempt(last: _Trial) -> _Trial:
        solve = _solver(system, last.damping)
        step = solve(system.residual)
        predicted = jnp.dot(step, last.damping * system.scale * step - system.gradient)
        bend = _bend(system, call, solve, step) if options.acceleration else jnp.zeros_like(step)
        updates = unravel(step + bend / 2)
        value = call.value_fn(optax.apply_updates(params, updates)).astype(system.value.dtype)
        taken = jnp.isfinite(value) & (value < system.value)
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
        return ~last.taken & (last.tries < options.tries) & (last.damping <= MOST_DAMPING)

    zero = jnp.zeros_like(system.value)
    nothing = jax.tree.map(jnp.zeros_like, params)
    start = (jnp.zeros((), jnp.int32), state.damping, state.growth, nothing)
    end = lax.while_loop(goes_on, attempt, _Trial(*start, zero, zero, zero, jnp.array(False)))
    return optax.tree.where(end.taken, end.updates, nothing), _after(end, system.value)


def _bend(
    system: _System, call: Call, solve: Callable[[Array], Array], step: Float[Array, "p"]
) -> Float[Array, "p"]:
    """The geodesic acceleration a of a step d: solve(r_dd), r_dd by a finite difference.

    It is 0 for a step too short for its bend to stand out from rounding errors.
    """
    flat, unravel = ravel_pytree(call.params)
    ahead = unravel(flat + DIFFERENCE * step)
    full = call.residual_fn is None
    residual = call.linearise_fn(ahead)[0] if full else call.residual_fn(ahead)
    change = (residual.astype(flat.dtype) - system.residual) / DIFFERENCE
    bend = solve(2 / DIFFERENCE * (change - times(system.jacobian, step)))
    short = jnp.linalg.norm(step) <= rounding(step) ** 0.5 * jnp.linalg.norm(flat)
    return jnp.where(short, 0, bend)


def _after(end: _Trial, value: Float[Array, ""]) -> LevenbergMarquardtState:
    """The state after an update: Nielsen's damping, and whether to stop."""
    ratio = jnp.clip(end.fall / end.predicted, 0, 1)
    eased = end.damping * jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)
    damping = jnp.where(end.taken, jnp.maximum(eased, rounding(eased)), end.damping)
    growth = jnp.where(end.taken, 2, end.growth)
    flat = is_flat(end.promise, value) & (is_flat(end.fall, value) | ~end.taken)
    spent = ~end.taken & (end.damping > MOST_DAMPING)
    result = first_of((flat, Result.ROUNDING_CONVERGED), (spent, Result.DAMPING_FAILED))
    return LevenbergMarquardtState(result, damping.astype(value.dtype), growth.astype(value.dtype))


def _searched_update(
    system: _System, damping: Float[Array, ""], call: Call
) -> tuple[Params, GaussNewtonState]:
    """One update of `natural_gradient` that has not stopped."""
    params, unravel = call.params, ravel_pytree(call.params)[1]
    damping, direction = _descent(system, damping)
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

    one = jnp.ones_like(system.value)
    rate, done = lax.while_loop(goes_on, halve, (2 * one, jnp.array(False)))
    rate = jnp.where(done, rate, 0)
    flat = is_flat(-slope / 2, system.value)
    result = first_of(
        (done, Result.RUNNING),
        (flat, Result.ROUNDING_CONVERGED),
        (~flat, Result.LINE_SEARCH_FAILED),
    )
    updates = optax.tree.where(done, scaled(rate), jax.tree.map(jnp.zeros_like, params))
    return updates, GaussNewtonState(result, damping, rate)


def _descent(
    system: _System, damping: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, "p"]]:
    """The first damping, of `damping` times a power of 10, and its direction, which descends."""

    def fails(last):
        damping, direction = last
        slope = jnp.dot(system.gradient, direction)
        return ~(jnp.isfinite(slope) & (slope < 0)) & (damping <= MOST_DAMPING)

    def raised(last):
        damping = last[0] * 10
        return damping, _solver(system, damping)(system.residual)

    start = (damping, _solver(system, damping)(system.residual))
    return lax.while_loop(fails, raised, start)


def _require_system(damping: float, space: str) -> None:
    """The damping and the space are in their range.

    Raises:
      InputError: one is not.
    """
    fits = is_number(damping) and 1e-16 <= damping <= MOST_DAMPING
    require("damping", damping, fits, f"a number from 1e-16 to {MOST_DAMPING:g}")
    kinds = ("auto", "parameter", "residual")
    require("space", space, space in kinds, f"one of {', '.join(map(repr, kinds))}")
