"""Quasi-Newton optimizers: L-BFGS, and BFGS with a dense matrix and self-scaling.

Letters: g gradient, s step, y change of the gradient along it, H estimate of the inverse Hessian,
P parameters. One update searches along -H g for a point where the strong Wolfe conditions hold and
learns from the pair (s, y). Both gradients of a pair are of the loss of one and the same update,
so a loss that changes between updates leaves no false curvature behind.

A search that finds no lower loss, or one lower by no more than rounding, makes H the identity
again; where it was the identity already, the optimizer stops.
"""

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
    first_of,
    initial_result,
    is_flat,
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

__all__ = ["LBFGSState", "SSBroydenState", "lbfgs", "ssbroyden"]

LARGEST = 10_000


class LBFGSState(NamedTuple):
    """State of `lbfgs`.

    Attributes:
      result: a `Result`.
      memory: optax's state of L-BFGS, of the last update.
      gradient: at the point to which the last update led, of the loss of that update.
    """

    result: Int[Array, ""]
    memory: Any
    gradient: Params


class SSBroydenState(NamedTuple):
    """State of `ssbroyden`.

    Attributes:
      result: a `Result`.
      pairs: pairs (s, y) that the matrix has learned from since it was the identity.
      inverse_hessian: H, shape (P, P), by the raveled parameters.
    """

    result: Int[Array, ""]
    pairs: Int[Array, ""]
    inverse_hessian: Float[Array, "p p"]


class Found(NamedTuple):
    """A line search: the step, the gradient where it leads, its length, and if it was in vain."""

    step: Params
    gradient: Params
    rate: Float[Array, ""]
    failed: Bool[Array, ""]


def lbfgs(
    memory: int = 20,
    *,
    line_search_steps: int = 30,
    gradient_tolerance: float | None = None,
    loss_tolerance: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Limited-memory BFGS: optax's, with its zoom line search, that says why it stops.

        params <- params - alpha H g,   H from the last `memory` pairs (s, y)

    What is added to `optax.lbfgs`: y is the difference of two gradients of one loss, where optax
    takes that of the next loss, which a new draw of points has changed; a pair without positive
    curvature is left out; a step is taken only if it lowers the loss; and see the module. While
    the loss stays the same the steps are those of `optax.lbfgs`.

    Each update evaluates the loss and its gradient once or twice more than it is given them.

    Args:
      memory: pairs kept, >= 1: 2 memory P numbers.
      line_search_steps: the most evaluations of one line search, >= 1.
      gradient_tolerance: stops where no entry of the gradient is larger, >= 0; None is the
        rounding unit of the parameters: 2.2e-16 in float64, 1.2e-7 in float32.
      loss_tolerance: stops where the loss is no larger, >= 0.

    Returns:
      An optax transformation whose state is an `LBFGSState`; `update` needs `value` and
      `value_fn`.

    Raises:
      InputError: an argument is out of its range; in `init`, a parameter is not real; in
        `update`, `value` or `value_fn` is missing.

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
    require_count("line_search_steps", line_search_steps, 1)
    tolerances = require_tolerances(gradient_tolerance, loss_tolerance)
    precondition = optax.scale_by_lbfgs(memory_size=memory)

    def init(params):
        real_parameters("lbfgs", params)
        zeros = jax.tree.map(jnp.zeros_like, params)
        return LBFGSState(jnp.zeros((), jnp.int32), precondition.init(params), zeros)

    def advance(call: Call, state: LBFGSState):
        grads, params = call.grads, call.params
        value = _in_dtype_of(params, call.value)

        def proceed():
            learned = _with_last_pair(state.memory, state.gradient, grads, params)
            ascent, new = precondition.update(grads, learned, params)
            direction = jax.tree.map(lambda d, p: jnp.asarray(-d, p.dtype), ascent, params)
            found = _search(line_search_steps, direction, value, call)
            fresh = learned.count == 0
            new = optax.tree.where(found.failed & ~fresh, precondition.init(params), new)
            result = first_of((found.failed & fresh, Result.LINE_SEARCH_FAILED))
            return found.step, LBFGSState(result, new, found.gradient)

        return unless_ended(initial_result(value, grads, tolerances), proceed, params, state)

    return transformation("lbfgs", ("value", "value_fn"), init, advance)


def _with_last_pair(memory: Any, gradient: Params, grads: Params, params: Params) -> Any:
    """The memory as it must be for optax to learn the last pair (s, y), or to leave it out.

    optax forms the pair of the next update from what it is given there and what it has stored:
    s = params - memory.params and y = grads - memory.updates. The stored side is moved so that y
    is what the last loss gave. To leave a pair out, the one before is shown again in its place.
    """
    s = optax.tree.sub(params, memory.params)
    y = optax.tree.sub(gradient, memory.updates)
    good = _has_curvature(optax.tree.vdot(s, y), optax.tree.norm(s), optax.tree.norm(y))
    kept = jnp.maximum(memory.count - 1, 0)
    slot = (kept - 1) % memory.weights_memory.shape[0]
    s, y = optax.tree.where(
        good,
        (s, y),
        jax.tree.map(lambda m: m[slot], (memory.diff_params_memory, memory.diff_updates_memory)),
    )
    return memory._replace(
        count=jnp.where(good, memory.count, kept),
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
    """Self-scaled Broyden: BFGS that rescales H at every update, with a dense H.

        H <- (H - Hy y'H / y'Hy + phi y'Hy v v') / tau + s s' / y's,   v = s / y's - Hy / y'Hy

    'bfgs' has tau = phi = 1. 'ssbfgs' has phi = 1, tau = min(1, 1/b) with b = -alpha s'g / y's.
    'ssbroyden' chooses both, see `self_scaling`. At the first pair tau also scales the identity.
    A pair without positive curvature, or one for which H is not finite, changes nothing.

    For losses that are hard to condition, as those of PDEs, in float64. H takes P^2 numbers and
    an update a few times P^2 operations besides those of the loss.

    Args:
      update: how H is updated.
      line_search_steps: the most evaluations of one line search, >= 1.
      gradient_tolerance: stops where no entry of the gradient is larger, >= 0; None is the
        rounding unit of the parameters: 2.2e-16 in float64, 1.2e-7 in float32.
      loss_tolerance: stops where the loss is no larger, >= 0.

    Returns:
      An optax transformation whose state is an `SSBroydenState`; `update` needs `value` and
      `value_fn`.

    Raises:
      InputError: an argument is out of its range; in `init`, a parameter is not real or there
        are more than 10,000; in `update`, `value` or `value_fn` is missing.

    Example:
      >>> optimizer = ssbroyden()
      >>> int(optimizer.init(jnp.zeros(3)).pairs)
      0

    References:
      Urban, Stefanou and Pons, "Unveiling the optimization process of physics informed neural
      networks", Journal of Computational Physics (2025), arXiv 2405.04230; the choice of tau and
      phi is Al-Baali's. Deviation: the first step is at most of length 1, as in `optax.lbfgs`.
    """
    kinds = ("ssbroyden", "ssbfgs", "bfgs")
    require("update", update, update in kinds, f"one of {', '.join(map(repr, kinds))}")
    require_count("line_search_steps", line_search_steps, 1)
    tolerances = require_tolerances(gradient_tolerance, loss_tolerance)

    def init(params):
        count, dtype = real_parameters("ssbroyden", params)
        _check_size(count, dtype)
        zero = jnp.zeros((), jnp.int32)
        return SSBroydenState(zero, zero, jnp.eye(count, dtype=dtype))

    def advance(call: Call, state: SSBroydenState):
        grads, params = call.grads, call.params
        value = _in_dtype_of(params, call.value)

        def proceed():
            g, unravel = ravel_pytree(grads)
            fresh = state.pairs == 0
            scale = jnp.where(fresh, jnp.minimum(1, 1 / jnp.linalg.norm(g)), 1)
            direction = unravel(-scale * times(state.inverse_hessian, g))
            found = _search(line_search_steps, direction, value, call)
            step, after = ravel_pytree(found.step)[0], ravel_pytree(found.gradient)[0]
            pair = _Pair(g, step, after - g, found.rate)
            new = _learn(update, state, scale, pair, found.failed & ~fresh)
            result = first_of((found.failed & fresh, Result.LINE_SEARCH_FAILED))
            return found.step, new._replace(result=result)

        return unless_ended(initial_result(value, grads, tolerances), proceed, params, state)

    return transformation("ssbroyden", ("value", "value_fn"), init, advance)


class _Pair(NamedTuple):
    """A step s = -rate H g from where the gradient was g, and its change y; vectors are (P,)."""

    g: Float[Array, "p"]
    s: Float[Array, "p"]
    y: Float[Array, "p"]
    rate: Float[Array, ""]


def _learn(
    kind: str, state: SSBroydenState, scale: Float[Array, ""], pair: _Pair, forget: Bool[Array, ""]
) -> SSBroydenState:
    """The state after a step along -scale H g: H updated, kept, or the identity again."""
    hessian, (g, s, y, rate) = state.inverse_hessian, pair
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
        return new, jnp.minimum(state.pairs, jnp.iinfo(jnp.int32).max - 1) + 1

    def start_again():
        return jnp.eye(s.size, dtype=hessian.dtype), jnp.zeros_like(state.pairs)

    action = jnp.where(forget, 2, jnp.where(good, 1, 0))
    new, pairs = lax.switch(action, (keep, learn, start_again))
    return SSBroydenState(state.result, pairs, new)


def broyden_update(
    hessian: Float[Array, "p p"],
    s: Float[Array, "p"],
    y: Float[Array, "p"],
    tau: Float[Array, ""] | float,
    phi: Float[Array, ""] | float,
) -> Float[Array, "p p"]:
    """The inverse Hessian after the pair (s, y), the formula of `ssbroyden`; H y = s holds of it.

    It is positive definite if `hessian` is, y's > 0, tau > 0 and phi is of the family. BFGS is
    tau = phi = 1, DFP phi = 0.
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
    """tau and phi of `ssbroyden`.

    With a = b h - 1 >= 0 and c = sqrt(a / (1 + a)), 'ssbroyden' takes, where n = P,

        rho_m = min(1, h (1 - c)),  theta = max((rho_m - 1) / a, min(1 / rho_m, (1 - b) / b)),
        sigma = 1 + a theta,        phi = (1 - theta) / sigma,
        tau = min(rho sigma^(1 / (1 - n)), sigma) if theta <= 0
              else rho min(sigma^(1 / (1 - n)), 1 / theta),           rho = min(1, 1 / b)

    and at the first pair tau = h / sigma, which for the others, where sigma = 1, is h.

    Args:
      kind: 'ssbroyden', 'ssbfgs' or 'bfgs'.
      h: y'Hy / y's.
      b: s'H^-1 s / y's.
      size: the number of parameters.
      first: whether H is still the identity, scaled.

    Returns:
      tau > 0 and phi, scalars.
    """
    h, b = jnp.asarray(h), jnp.asarray(b)
    one = jnp.ones_like(h)
    if kind == "bfgs":
        return jnp.where(first, h, one), one
    rho = jnp.minimum(1, 1 / b)
    if kind == "ssbfgs":
        return jnp.where(first, h, rho), one
    a = jnp.maximum(b * h - 1, rounding(h))
    rho_m = jnp.minimum(1, h * (1 - jnp.sqrt(a / (1 + a))))
    theta = jnp.maximum((rho_m - 1) / a, jnp.minimum(1 / rho_m, (1 - b) / b))
    sigma = 1 + a * theta
    root = sigma ** (-1 / max(size - 1, 1))
    convex = rho * jnp.minimum(root, 1 / jnp.where(theta > 0, theta, 1))
    tau = jnp.where(theta > 0, convex, jnp.minimum(rho * root, sigma))
    return jnp.where(first, h / sigma, tau), (1 - theta) / sigma


def _search(steps: int, direction: Params, value: Float[Array, ""], call: Call) -> Found:
    """A step along `direction` under the strong Wolfe conditions, or none.

    optax, out of evaluations, may take a step that lowers nothing: such a step is not taken.
    """
    grads, params, value_fn = call.grads, call.params, call.value_fn
    after: Any
    search = optax.scale_by_zoom_linesearch(
        max_linesearch_steps=steps, approx_dec_rtol=None, initial_guess_strategy="one"
    )
    step, after = search.update(
        direction,
        search.init(params),
        params,
        value=value,
        grad=grads,
        value_fn=lambda params: _in_dtype_of(params, value_fn(params)),
    )
    lower = (after.value < value) & jnp.isfinite(optax.tree.norm(after.grad))
    none = (jax.tree.map(jnp.zeros_like, params), grads)
    step, gradient = optax.tree.where(lower, (step, after.grad), none)
    failed = ~lower | is_flat(value - after.value, value)
    return Found(step, gradient, jnp.asarray(after.learning_rate, value.dtype), failed)


def _has_curvature(curvature: Any, s_norm: Any, y_norm: Any) -> Bool[Array, ""]:
    """Whether y's is positive, finite and no mere rounding error."""
    return jnp.isfinite(curvature) & (curvature > rounding(curvature) * s_norm * y_norm)


def _in_dtype_of(params: Params, value: Any) -> Float[Array, ""]:
    """A loss in the dtype of the parameters."""
    return jnp.asarray(value, jnp.result_type(*jax.tree.leaves(params)))


def _check_size(count: int, dtype: Any) -> None:
    """Refuses a matrix of more than LARGEST rows.

    Raises:
      InputError: naming the memory that it would take.
    """
    if count > LARGEST:
        gigabytes = count**2 * jnp.dtype(dtype).itemsize / 1e9
        raise InputError(
            f"ssbroyden: {count} parameters need an inverse Hessian of {gigabytes:.1f} GB, and "
            f"the most is {LARGEST} parameters; use lbfgs"
        )
