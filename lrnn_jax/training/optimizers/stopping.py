"""Why an optimizer stopped, and the checks that all second-order optimizers share."""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from lrnn_jax.errors import InputError
from lrnn_jax.typing import Params

__all__ = ["STOP_REASONS", "stop_code", "stop_reason", "times"]

GOES_ON, GRADIENT, LOSS, ROUNDING, LINE_SEARCH, DAMPING, NOT_FINITE = range(7)

STOP_REASONS = (
    "",
    "the gradient is zero within its tolerance: converged",
    "the loss is within its tolerance: converged",
    "no step lowers the loss by more than its rounding error: converged",
    "the line search found no lower loss",
    "no damping up to 1e10 lowers the loss",
    "the loss, its gradient or its Jacobian is not finite",
)
"""What each stop code means; 0 goes on."""


def stop_reason(code: int) -> str:
    """The line that says why an optimizer stopped, "" for 0, which goes on.

    Raises:
      InputError: there is no such code.

    Example:
      >>> stop_reason(4)
      'the line search found no lower loss'
    """
    index = int(code)
    if not 0 <= index < len(STOP_REASONS):
        raise InputError(f"stop code: expected 0 to {len(STOP_REASONS) - 1}, got {index}")
    return STOP_REASONS[index]


def stop_code(opt_state: optax.OptState) -> Int[Array, ""]:
    """The stop code in the state of an optimizer; 0 if it goes on or never stops by itself.

    The code is the field `stop` of a NamedTuple, wherever chains and wrappers have put it. What
    lies below such a field is not looked at: a `switch` answers for its phases. The first code
    that is not 0 counts where there are several.

    Args:
      opt_state: the state of any optax transformation.

    Returns:
      An int32 scalar, an index of STOP_REASONS; it may be traced, and has the leading axes of the
      state of a population.

    Example:
      >>> params = {"w": jnp.zeros(3)}
      >>> int(stop_code(optax.adam(1e-3).init(params)))
      0
    """
    code = jnp.zeros((), jnp.int32)
    for found in _codes(opt_state):
        code = jnp.where(code == GOES_ON, found, code)
    return code


def _codes(node: Any) -> list[Array]:
    """Every topmost field `stop` of a tree."""
    if "stop" in getattr(node, "_fields", ()):
        return [node.stop]
    if isinstance(node, dict):
        node = node.values()
    elif not isinstance(node, tuple | list):
        return []
    return [code for child in node for code in _codes(child)]


class Tolerances(NamedTuple):
    """Where an optimizer has converged; None is the rounding unit of the parameters."""

    gradient: float | None
    loss: float


class Call(NamedTuple):
    """What an update is called with."""

    grads: Any
    params: Any
    value: Any
    value_fn: Any
    linearise_fn: Any
    residual_fn: Any


def transformation(
    name: str,
    needs: tuple[str, ...],
    init: Callable[[Params], Any],
    advance: Callable[[Call, Any], tuple[Params, Any]],
) -> optax.GradientTransformationExtraArgs:
    """An optax transformation that once stopped stays as it is.

    Args:
      name: of the optimizer, for errors.
      needs: the arguments that `update` cannot do without.
      init: init(params) -> a state with a field `stop`.
      advance: advance(call, state) -> (updates, state), for a state that goes on.

    Returns:
      The transformation; its `update` raises InputError if an argument is missing.
    """

    def update(updates: Any, state: Any, params: Any = None, **extra: Any):
        given = {key: extra.get(key) for key in Call._fields[2:]}
        for need, found in {"params": params, **{key: given[key] for key in needs}}.items():
            if found is None:
                raise InputError(f"{name}: update needs {need}")
        call = Call(updates, params, **given)
        return unless_stopped(state.stop, lambda: advance(call, state), params, state)

    def begin(params: Any):
        return init(params)

    return optax.GradientTransformationExtraArgs(begin, update)


def entry_code(value: Float[Array, ""], grads: Params, tolerances: Tolerances) -> Int[Array, ""]:
    """What the loss and its gradient say before an update."""
    leaves = jax.tree.leaves(grads)
    slope = jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]).max()
    least = rounding(slope) if tolerances.gradient is None else tolerances.gradient
    return jnp.select(
        [~jnp.isfinite(value) | ~jnp.isfinite(slope), slope <= least, value <= tolerances.loss],
        [NOT_FINITE, GRADIENT, LOSS],
        GOES_ON,
    ).astype(jnp.int32)


def unless_stopped(code: Int[Array, ""], proceed: Callable, params: Params, state: Any):
    """proceed() -> (updates, state) where the code is 0; else no update and a state with it."""

    def halt():
        return jax.tree.map(jnp.zeros_like, params), state._replace(stop=code)

    return lax.cond(code == GOES_ON, proceed, halt)


def is_flat(fall: Float[Array, ""], value: Float[Array, ""]) -> Array:
    """Whether a fall of the loss is within four of its rounding errors."""
    return fall <= 4 * rounding(value) * jnp.abs(value)


def rounding(x: Array) -> float:
    """The distance from 1 to the next number of the dtype of `x`."""
    return float(jnp.finfo(x.dtype).eps)


def real_parameters(name: str, params: Params) -> tuple[int, Any]:
    """The number of the parameters and the dtype they promote to.

    Raises:
      InputError: there are none, or one is not a real float.
    """
    leaves = jax.tree.leaves(params)
    for leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise InputError(f"{name}: expected real parameters, got {jnp.result_type(leaf)}")
    if not leaves:
        raise InputError(f"{name}: there are no parameters")
    return sum(jnp.size(leaf) for leaf in leaves), jnp.result_type(*leaves)


def require(name: str, value: Any, fits: bool, expected: str) -> None:
    """An argument of an optimizer is in its range.

    Raises:
      InputError: it is not.
    """
    if not fits:
        raise InputError(f"{name}: expected {expected}, got {value!r}")


def require_count(name: str, value: Any, least: int) -> None:
    """An argument of an optimizer is an integer >= `least`.

    Raises:
      InputError: it is not.
    """
    fits = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    require(name, value, fits and int(value) >= least, f"an integer >= {least}")


def is_number(value: Any) -> bool:
    """Whether an argument is a real scalar, an array of no dimensions included."""
    scalar = isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()
    return scalar and not isinstance(value, bool)


def require_tolerances(gradient_tolerance: float | None, loss_tolerance: float) -> Tolerances:
    """The tolerances of an optimizer.

    Raises:
      InputError: one is negative or not a number.
    """
    gradient = gradient_tolerance
    fits = gradient is None or (is_number(gradient) and gradient >= 0)
    require("gradient_tolerance", gradient, fits, "a number >= 0")
    fits = is_number(loss_tolerance) and loss_tolerance >= 0
    require("loss_tolerance", loss_tolerance, fits, "a number >= 0")
    return Tolerances(gradient, loss_tolerance)


def times(left: Array, right: Array) -> Array:
    """A product at full precision on every device."""
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)
