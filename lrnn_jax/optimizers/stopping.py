"""Stopping criteria, argument checks and the call convention of the second-order optimizers."""

import enum
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from lrnn_jax.errors import InputError
from lrnn_jax.typing import Params

__all__ = ["Result", "result_of", "times"]


class Result(enum.IntEnum):
    """Whether an optimizer has stopped, and why.

    The state of an optimizer that can stop by itself has a field `result`, an int32 array that
    holds the value of a member. `message` describes the member in words.

    Example:
      >>> Result.LINE_SEARCH_FAILED.message
      'the line search found no lower loss'
    """

    message: str

    def __new__(cls, value: int, message: str) -> Self:
        """Create a member from its value and message."""
        member = int.__new__(cls, value)
        member._value_, member.message = value, message
        return member

    RUNNING = 0, ""
    GRADIENT_CONVERGED = 1, "the gradient is zero within its tolerance: converged"
    LOSS_CONVERGED = 2, "the loss is within its tolerance: converged"
    ROUNDING_CONVERGED = 3, "no step lowers the loss by more than its rounding error: converged"
    LINE_SEARCH_FAILED = 4, "the line search found no lower loss"
    DAMPING_FAILED = 5, "no damping up to 1e10 lowers the loss"
    NONFINITE = 6, "the loss, its gradient or its Jacobian is not finite"


def result_of(opt_state: optax.OptState) -> Int[Array, ""]:
    """Return the field `result` of an optimizer's state, or RUNNING if it has no such field.

    Args:
      opt_state: the state of any optax transformation. The state of a wrapper such as `switch` has
        the field. The states of Adam and of `optax.chain` do not.

    Returns:
      The value of a `Result`, an int32 scalar, possibly traced. For a batched state, as under
      `jax.vmap`, it has the batch axes of the state.

    Example:
      >>> params = {"w": jnp.zeros(3)}
      >>> Result(int(result_of(optax.adam(1e-3).init(params)))).name
      'RUNNING'
    """
    return jnp.asarray(getattr(opt_state, "result", Result.RUNNING), jnp.int32)


class Tolerances(NamedTuple):
    """Tolerances of an optimizer. A gradient tolerance of None is the machine epsilon."""

    gradient: float | None
    loss: float


class Call(NamedTuple):
    """The arguments of `update`."""

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
    """Build an optax transformation whose state no longer changes once it has stopped.

    Args:
      name: name of the optimizer, for error messages.
      needs: names of the extra arguments that `update` requires.
      init: init(params) -> a state with a field `result`.
      advance: advance(call, state) -> (updates, state), for a state whose result is RUNNING.

    Returns:
      The transformation. Its `update` raises InputError if a required argument is missing.
    """

    def update(updates: Any, state: Any, params: Any = None, **extra: Any):
        given = {key: extra.get(key) for key in Call._fields[2:]}
        for need, found in {"params": params, **{key: given[key] for key in needs}}.items():
            if found is None:
                raise InputError(f"{name}: update needs {need}")
        call = Call(updates, params, **given)
        return unless_ended(state.result, lambda: advance(call, state), params, state)

    def begin(params: Any):
        return init(params)

    return optax.GradientTransformationExtraArgs(begin, update)


def first_of(*cases: tuple[Any, Result]) -> Int[Array, ""]:
    """Return the result that belongs to the first true condition; RUNNING if none is true."""
    conditions, results = zip(*cases, strict=True)
    return jnp.select(conditions, list(map(int, results)), 0).astype(jnp.int32)


def initial_result(
    value: Float[Array, ""], grads: Params, tolerances: Tolerances
) -> Int[Array, ""]:
    """Check before an update, from the loss and its gradient, whether to stop."""
    leaves = jax.tree.leaves(grads)
    slope = jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]).max()
    least = rounding(slope) if tolerances.gradient is None else tolerances.gradient
    # NONFINITE comes first: a loss of -inf would satisfy the tolerance of the loss.
    return first_of(
        (~jnp.isfinite(value) | ~jnp.isfinite(slope), Result.NONFINITE),
        (slope <= least, Result.GRADIENT_CONVERGED),
        (value <= tolerances.loss, Result.LOSS_CONVERGED),
    )


def unless_ended(result: Int[Array, ""], proceed: Callable, params: Params, state: Any):
    """Return proceed() -> (updates, state) if RUNNING, else zeros and `state` with the result."""

    def halt():
        return jax.tree.map(jnp.zeros_like, params), state._replace(result=result)

    return lax.cond(result == Result.RUNNING, proceed, halt)


def is_flat(fall: Float[Array, ""], value: Float[Array, ""]) -> Array:
    """Whether a decrease of the loss is at most four rounding errors of the loss."""
    return fall <= 4 * rounding(value) * jnp.abs(value)


def rounding(x: Array) -> float:
    """Return the machine epsilon of the dtype of `x`."""
    return float(jnp.finfo(x.dtype).eps)


def real_parameters(name: str, params: Params) -> tuple[int, Any]:
    """Return the number of parameters and their common dtype after promotion.

    Raises:
      InputError: there are no parameters, or a parameter is not a real floating-point number.
    """
    leaves = jax.tree.leaves(params)
    for leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise InputError(f"{name}: expected real parameters, got {jnp.result_type(leaf)}")
    if not leaves:
        raise InputError(f"{name}: there are no parameters")
    return sum(jnp.size(leaf) for leaf in leaves), jnp.result_type(*leaves)


def require(name: str, value: Any, fits: bool, expected: str) -> None:
    """Check an argument of an optimizer.

    Raises:
      InputError: `fits` is False.
    """
    if not fits:
        raise InputError(f"{name}: expected {expected}, got {value!r}")


def require_count(name: str, value: Any, least: int) -> None:
    """Check that an argument of an optimizer is an integer >= `least`.

    Raises:
      InputError: it is not.
    """
    fits = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    require(name, value, fits and int(value) >= least, f"an integer >= {least}")


def is_number(value: Any) -> bool:
    """Whether an argument is a real scalar or an array of shape ()."""
    scalar = isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()
    return scalar and not isinstance(value, bool)


def require_tolerances(gradient_tolerance: float | None, loss_tolerance: float) -> Tolerances:
    """Check the tolerances of an optimizer and return them.

    Raises:
      InputError: a tolerance is negative or not a number.
    """
    gradient = gradient_tolerance
    fits = gradient is None or (is_number(gradient) and gradient >= 0)
    require("gradient_tolerance", gradient, fits, "a number >= 0")
    fits = is_number(loss_tolerance) and loss_tolerance >= 0
    require("loss_tolerance", loss_tolerance, fits, "a number >= 0")
    return Tolerances(gradient, loss_tolerance)


def times(left: Array, right: Array) -> Array:
    """Matrix product at full precision on every device.

    JAX's default precision rounds float32 operands on accelerators, as to TF32 or bfloat16.
    """
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)
