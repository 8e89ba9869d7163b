"""Quasi-Newton optimizers: L-BFGS, and self-scaling BFGS and Broyden with a dense matrix.

Notation: g the gradient, s the step, y the change of the gradient along s, H the estimate of the
inverse Hessian, P the number of parameters. One update searches along -H g for a point that
satisfies the strong Wolfe conditions, and then updates H with the pair (s, y). The two gradients of
a pair belong to the loss of the same update. A loss that changes between updates, as with new
collocation points, therefore adds no wrong curvature to H.

If a search finds no lower loss, or lowers it by no more than the rounding error, H is reset to the
identity. If H was already the identity, the optimizer stops.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from lrnn_jax.errors import InputError
from lrnn_jax.optimizers.stopping import (
    Call,
    Result,
    common_dtype,
    first_of,
    is_flat,
    require_choice,
    require_count,
    rounding,
    times,
    transformation,
)
from lrnn_jax.typing import Params

LARGEST = 10_000  # parameters of `ssbroyden`, whose H has the square of that many entries


class LBFGSState(NamedTuple):
    """State of `lbfgs`.

    Attributes:
      result: a `Result`.
      memory: the state of `optax.scale_by_lbfgs` after the last update.
      gradient: gradient of the last update's loss at the point that this update reached.
    """

    result: Int[Array, ""]
    memory: Any
    gradient: Params


class SSBroydenState(NamedTuple):
    """State of `ssbroyden`.

    Attributes:
      result: a `Result`.
      pairs: number of pairs (s, y) that have updated H since it was the identity.
      inverse_hessian: H, shape (P, P), in the order of the ravelled parameters.
    """

    result: Int[Array, ""]
    pairs: Int[Array, ""]
    inverse_hessian: Float[Array, "p p"]


class _Line(NamedTuple):
    """Result of a line search."""

    step: Params  # the step s; zero if no lower loss was found
    gradient: Params  # the gradient at the end of the step
    rate: Float[Array, ""]  # the step length alpha
    failed: Bool[Array, ""]  # whether the loss did not fall by more than its rounding error


def lbfgs(
    memory: int = 20,
    *,
    line_search_steps: int = 30,
    gradient_tolerance: float | None = None,
    loss_tolerance: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Limited-memory BFGS: optax's with its zoom line search, extended by stopping criteria.

        params <- params - alpha H g,   H from the last `memory` pairs (s, y)

    It differs from `optax.lbfgs` as follows:

    * y is the difference of two gradients of the same loss. optax takes the second gradient from
      the next loss, which differs if points were drawn anew.
    * A pair without positive curvature is skipped.
    * A step is taken only if it lowers the loss.
    * H is reset, and the optimizer stops, as described in the module.

    For a loss that does not change, the steps equal those of `optax.lbfgs`.

    An update usually evaluates the loss and its gradient once or twice more.

    Args:
      memory: number of pairs stored, >= 1; they take 2 memory P numbers.
      line_search_steps: largest number of evaluations in one line search, >= 1.
      gradient_tolerance: see `lrnn_jax.optimizers`.
      loss_tolerance: see `lrnn_jax.optimizers`.

    Returns:
      An optax transformation whose state is an `LBFGSState`; `update` needs `value`, `value_fn`.

    Example:
      >>> loss = lambda x: jnp.sum((x - 1) ** 4)
      >>> optimizer, x = lbfgs(), jnp.zeros(3)
      >>> state = optimizer.init(x)
      >>> value, grads = jax.value_and_grad(loss)(x)
      >>> updates, state = optimizer.update(grads, state, x, value=value, value_fn=loss)
      >>> bool(loss(x + updates) < value)
      True

    References:
      Liu and Nocedal, "On the limited memory BFGS method for large scale optimization",
      Mathematical Programming 45 (1989).
    """
    require_count("memory", memory, 1)
    precondition = optax.scale_by_lbfgs(memory_size=memory)

    def init(params: Params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return LBFGSState(jnp.zeros((), jnp.int32), precondition.init(params), zeros)

    def direct(grads: Params, state: LBFGSState, params: Params):
        memory = _with_last_pair(state.memory, state.gradient, grads, params)
        ascent, new = precondition.update(grads, memory, params)
        direction = jax.tree.map(lambda d, p: jnp.asarray(-d, p.dtype), ascent, params)

        def learn(line: _Line, forget: Bool[Array, ""]):
            kept = optax.tree.where(forget, precondition.init(params), new)
            return LBFGSState(state.result, kept, line.gradient)

        return direction, memory.count == 0, learn

    tolerances = (gradient_tolerance, loss_tolerance)
    return _quasi_newton("lbfgs", line_search_steps, tolerances, init, direct)


def _quasi_newton(
    name: str,
    line_search_steps: int,
    tolerances: tuple[float | None, float],
    init: Callable[[Params], Any],
    direct: Callable[[Params, Any, Params], tuple[Params, Array, Callable[..., Any]]],
) -> optax.GradientTransformationExtraArgs:
    """Build either optimizer from its initial state and its search direction.

    direct(grads, state, params) -> (direction, fresh, learn): whether H is the identity, and
    learn(line, forget) -> the state after the line search, which resets H if `forget` is true.
    """
    require_count("line_search_steps", line_search_steps, 1)

    def advance(call: Call, state: Any):
        value = jnp.asarray(call.value, common_dtype(call.params))

        def proceed():
            direction, fresh, learn = direct(call.grads, state, call.params)
            line = _search(line_search_steps, direction, value, call)
            result = first_of((line.failed & fresh, Result.LINE_SEARCH_FAILED))
            return line.step, learn(line, line.failed & ~fresh)._replace(result=result)

        return value, call.grads, proceed

    return transformation(name, ("value", "value_fn"), tolerances, init, advance)


def _with_last_pair(memory: Any, gradient: Params, grads: Params, params: Params) -> Any:
    """Modify optax's state so that its next update adds the last pair (s, y), or skips it.

    optax forms a pair from the arguments of the next update and its stored values:
    s = params - memory.params and y = grads - memory.updates. `memory.updates` is replaced so that
    y becomes the difference of two gradients of the last loss. To skip a pair, the count is
    decreased by one, and the stored values are replaced so that optax writes the previous pair to
    its own slot again. `gradient` and `grads` are the gradients of the last and of the current loss
    at `params`.
    """
    s = optax.tree.sub(params, memory.params)
    y = optax.tree.sub(gradient, memory.updates)
    good = _has_curvature(optax.tree.vdot(s, y), optax.tree.norm(s), optax.tree.norm(y))
    count = jnp.maximum(memory.count - 1, 0)  # the count if the pair is skipped
    slot = (count - 1) % memory.weights_memory.shape[0]
    pairs = (memory.diff_params_memory, memory.diff_updates_memory)
    s, y = optax.tree.where(good, (s, y), jax.tree.map(lambda stored: stored[slot], pairs))
    return memory._replace(
        count=jnp.where(good, memory.count, count),
        params=optax.tree.sub(params, s),
        updates=optax.tree.sub(grads, y),
    )


def ssbroyden(
    update: Literal["ssbroyden", "ssbfgs", "bfgs"] = "ssbroyden",
    *,
    line_search_steps: int = 30,
    gradient_tolerance: float | None = None,
    loss_tolerance: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Self-scaled Broyden: a quasi-Newton method that rescales its dense H at every update.

        H <- (H - Hy y'H / y'Hy + phi y'Hy v v') / tau + s s' / y's,   v = s / y's - Hy / y'Hy

    'bfgs' sets tau = phi = 1. 'ssbfgs' sets phi = 1, tau = min(1, 1/b) with b = -alpha s'g / y's.
    'ssbroyden' chooses both, see `self_scaling`. At the first pair, tau also scales the identity.
    H does not change if the pair (s, y) has no positive curvature, or if tau, phi or y'Hy is not
    finite.

    Intended for ill-conditioned losses, such as those of PDEs, in float64. H takes P^2 numbers. An
    update takes a few times P^2 operations in addition to the evaluations of the loss.

    Args:
      update: how tau and phi are chosen.
      line_search_steps: largest number of evaluations in one line search, >= 1.
      gradient_tolerance: see `lrnn_jax.optimizers`.
      loss_tolerance: see `lrnn_jax.optimizers`.

    Returns:
      An optax transformation with an `SSBroydenState`; `update` needs `value` and `value_fn`.

    Raises:
      InputError: in `init`, there are more than 10,000 parameters.

    Example:
      >>> optimizer = ssbroyden()
      >>> int(optimizer.init(jnp.zeros(3)).pairs)
      0

    References:
      Urban, Stefanou and Pons, "Unveiling the optimization process of physics informed neural
      networks", Journal of Computational Physics (2025), arXiv 2405.04230; the choice of tau and
      phi is Al-Baali's. Deviation: the first search direction has at most length 1, as in
      `optax.lbfgs`.
    """
    require_choice("update", update, "ssbroyden", "ssbfgs", "bfgs")

    def init(params: Params):
        count, dtype = sum(map(jnp.size, jax.tree.leaves(params))), common_dtype(params)
        if count > LARGEST:
            gigabytes = count**2 * jnp.dtype(dtype).itemsize / 1e9
            raise InputError(
                f"ssbroyden: {count} parameters need an inverse Hessian of {gigabytes:.1f} GB, and "
                f"the most is {LARGEST} parameters; use lbfgs"
            )
        zero = jnp.zeros((), jnp.int32)
        return SSBroydenState(zero, zero, jnp.eye(count, dtype=dtype))

    def direct(grads: Params, state: SSBroydenState, params: Params):
        del params
        g, unravel = ravel_pytree(grads)
        fresh = state.pairs == 0
        # While H is the identity, -H g has no natural length: limit it to 1.
        scale = jnp.where(fresh, jnp.minimum(1, 1 / jnp.linalg.norm(g)), 1)

        direction = unravel(-scale * times(state.inverse_hessian, g))
        return direction, fresh, functools.partial(_learn, update, state, scale, g)

    tolerances = (gradient_tolerance, loss_tolerance)
    return _quasi_newton("ssbroyden", line_search_steps, tolerances, init, direct)


def _learn(
    kind: str, state: SSBroydenState, scale: Array, g: Array, line: _Line, forget: Bool[Array, ""]
) -> SSBroydenState:
    """Return the state after a step along -scale H g: update H, keep it, or reset it."""
    hessian, s, rate = state.inverse_hessian, ravel_pytree(line.step)[0], line.rate
    y = ravel_pytree(line.gradient)[0] - g
    # Scale the vector H y: a scaled copy of H is formed only in `learn`.
    hy = scale * times(hessian, y)
    curvature = jnp.dot(s, y)
    h, b = jnp.dot(y, hy) / curvature, -rate * jnp.dot(s, g) / curvature
    tau, phi = self_scaling(kind, h, b, s.size, state.pairs == 0)
    good = _has_curvature(curvature, jnp.linalg.norm(s), jnp.linalg.norm(y))
    good &= jnp.isfinite(tau) & jnp.isfinite(phi) & (tau > 0) & jnp.isfinite(h) & (h > 0)

    def keep():
        return hessian, state.pairs

    def learn():
        new = broyden_update(scale * hessian, s, y, tau, phi)
        return new, jnp.asarray(optax.safe_increment(state.pairs))

    def reset():
        return jnp.eye(s.size, dtype=hessian.dtype), jnp.zeros_like(state.pairs)

    action = jnp.where(forget, 2, jnp.where(good, 1, 0))
    new, pairs = lax.switch(action, (keep, learn, reset))
    return SSBroydenState(state.result, pairs, new)


def broyden_update(
    hessian: Float[Array, "p p"],
    s: Float[Array, "p"],
    y: Float[Array, "p"],
    tau: Float[Array, ""] | float,
    phi: Float[Array, ""] | float,
) -> Float[Array, "p p"]:
    """Update an inverse Hessian with the pair (s, y), by the formula of `ssbroyden`.

    The result satisfies the secant equation H y = s. It is positive definite if `hessian` is, and
    y's > 0, tau > 0 and phi >= 0. BFGS is tau = phi = 1; DFP is tau = 1, phi = 0.
    """
    hy = times(hessian, y)
    curvature, expected = jnp.dot(s, y), jnp.dot(y, hy)
    v = s / curvature - hy / expected
    rest = hessian - jnp.outer(hy, hy) / expected + phi * expected * jnp.outer(v, v)
    return rest / tau + jnp.outer(s, s) / curvature


def self_scaling(
    kind: str,
    h: Float[Array, ""] | float,
    b: Float[Array, ""] | float,
    size: int,
    first: Bool[Array, ""] | bool,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Choose tau and phi of `ssbroyden`.

    With h = y'Hy / y's, b = s'H^-1 s / y's, a = b h - 1 >= 0, c = sqrt(a / (1 + a)) and n = `size`,
    the number of parameters, 'ssbroyden' sets

        rho_m = min(1, h (1 - c)),  theta = max((rho_m - 1) / a, min(1 / rho_m, (1 - b) / b)),
        sigma = 1 + a theta,        phi = (1 - theta) / sigma,
        tau = min(rho sigma^(1 / (1 - n)), sigma) if theta <= 0
              else rho min(sigma^(1 / (1 - n)), 1 / theta),           rho = min(1, 1 / b)

    except that tau = h / sigma at the `first` pair, before which H is the identity or a multiple.
    For the other two kinds, sigma = 1, so that tau = h at the first pair. tau is always > 0.
    """
    h, b = jnp.asarray(h), jnp.asarray(b)
    one = jnp.ones_like(h)
    if kind == "bfgs":
        return jnp.where(first, h, one), one
    rho = jnp.minimum(1, 1 / b)
    if kind == "ssbfgs":
        return jnp.where(first, h, rho), one
    # b h >= 1 by the Cauchy-Schwarz inequality, but not after rounding. The bound also keeps the
    # division by a below finite.
    a = jnp.maximum(b * h - 1, rounding(h))
    rho_m = jnp.minimum(1, h * (1 - jnp.sqrt(a / (1 + a))))
    theta = jnp.maximum((rho_m - 1) / a, jnp.minimum(1 / rho_m, (1 - b) / b))
    sigma = 1 + a * theta
    root = sigma ** (-1 / max(size - 1, 1))  # the exponent is not defined for n = 1
    # Avoid a division by theta <= 0; `tau` uses `convex` only for theta > 0.
    convex = rho * jnp.minimum(root, 1 / jnp.where(theta > 0, theta, 1))
    tau = jnp.where(theta > 0, convex, jnp.minimum(rho * root, sigma))
    return jnp.where(first, h / sigma, tau), (1 - theta) / sigma


def _search(steps: int, direction: Params, value: Float[Array, ""], call: Call) -> _Line:
    """Search for a step along `direction` that satisfies the strong Wolfe conditions.

    If optax runs out of evaluations, it may return a step that does not lower the loss. Such a
    step is replaced by zero.
    """
    grads, params = call.grads, call.params
    after: Any
    # approx_dec_rtol=None disables the approximate decrease condition: a step must lower the loss.
    search = optax.scale_by_zoom_linesearch(
        max_linesearch_steps=steps, approx_dec_rtol=None, initial_guess_strategy="one"
    )
    step, after = search.update(
        direction,
        search.init(params),
        params,
        value=value,
        grad=grads,
        value_fn=lambda params: jnp.asarray(call.value_fn(params), value.dtype),
    )
    # A gradient that is not finite would enter the pair (s, y), and with it H.
    lower = (after.value < value) & jnp.isfinite(optax.tree.norm(after.grad))
    none = (jax.tree.map(jnp.zeros_like, params), grads)
    step, gradient = optax.tree.where(lower, (step, after.grad), none)
    failed = ~lower | is_flat(value - after.value, value)
    return _Line(step, gradient, jnp.asarray(after.learning_rate, value.dtype), failed)


def _has_curvature(curvature: Any, s_norm: Any, y_norm: Any) -> Bool[Array, ""]:
    """Whether y's is finite and larger than its rounding error."""
    return jnp.isfinite(curvature) & (curvature > rounding(curvature) * s_norm * y_norm)
