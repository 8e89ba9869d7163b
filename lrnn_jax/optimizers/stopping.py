"""Stopping criteria, argument checks and the call convention of the second-order optimizers."""

import enum
import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from lrnn_jax.errors import InputError
from lrnn_jax.typing import Params

_LARGEST_COUNT = 2**31 - 2  # counters are int32, and may exceed a bound by one


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
    tolerances: tuple[float | None, float],
    init: Callable[[Params], Any],
    advance: Callable[[Call, Any], tuple[Array, Params, Callable[[], tuple[Params, Any]]]],
) -> optax.GradientTransformationExtraArgs:
    """Build an optax transformation whose state no longer changes once it has stopped.

    Args:
      name: name of the optimizer, for error messages.
      needs: names of the extra arguments that `update` requires.
      tolerances: gradient_tolerance and loss_tolerance.
      init: init(params) -> a state with a field `result`.
      advance: advance(call, state) -> (loss, its gradient, proceed). If these do not stop the
        optimizer, proceed() -> (updates, new state).
    """
    for kind, tolerance in zip(("gradient", "loss"), tolerances, strict=True):
        if kind == "loss" or tolerance is not None:
            require_number(f"{kind}_tolerance", tolerance, "a finite number >= 0", lambda t: t >= 0)

    def begin(params: Any):
        require_real_parameters(name, params)
        return init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any):
        call = Call(updates, params, **{key: extra.get(key) for key in Call._fields[2:]})
        for need in ("params", *needs):
            if getattr(call, need) is None:
                raise InputError(f"{name}: update needs {need}")

        def proceed_or_stop():
            value, gradient, proceed = advance(call, state)
            return _unless_stopped(_first_check(value, gradient, tolerances), proceed, call, state)

        return _unless_stopped(state.result, proceed_or_stop, call, state)

    return optax.GradientTransformationExtraArgs(begin, update)


def first_of(*cases: tuple[Any, Result]) -> Int[Array, ""]:
    """Return the result that belongs to the first true condition; RUNNING if none is true."""
    conditions, results = zip(*cases, strict=True)
    return jnp.select(conditions, list(map(int, results)), 0).astype(jnp.int32)


def _first_check(
    value: Float[Array, ""], gradient: Params, tolerances: tuple[float | None, float]
) -> Int[Array, ""]:
    """Decide before an update, from the loss and its gradient, whether to stop."""
    leaves = jax.tree.leaves(gradient)
    # `initial` allows parameters without entries, whose maximum is not defined.
    slope = jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]).max()
    least = rounding(slope) if tolerances[0] is None else tolerances[0]
    # NONFINITE comes first: a loss of -inf would satisfy the tolerance of the loss.
    return first_of(
        (~jnp.isfinite(value) | ~jnp.isfinite(slope), Result.NONFINITE),
        (slope <= least, Result.GRADIENT_CONVERGED),
        (value <= tolerances[1], Result.LOSS_CONVERGED),
    )


def _unless_stopped(result: Int[Array, ""], proceed: Callable, call: Call, state: Any):
    """Return proceed() -> (updates, state) if RUNNING, else zeros and `state` with the result."""

    def halt():
        return jax.tree.map(jnp.zeros_like, call.params), state._replace(result=result)

    return lax.cond(result == Result.RUNNING, proceed, halt)


def is_flat(fall: Float[Array, ""], value: Float[Array, ""]) -> Array:
    """Whether a decrease of the loss is at most four rounding errors of the loss."""
    return fall <= 4 * rounding(value) * jnp.abs(value)


def rounding(x: Array) -> float:
    """Return the machine epsilon of the dtype of `x`."""
    return float(jnp.finfo(x.dtype).eps)


def common_dtype(params: Params) -> Any:
    """Return the dtype of the parameters after promotion: all arithmetic of an update has it."""
    return jnp.result_type(*jax.tree.leaves(params))


def require_real_parameters(name: str, params: Params) -> None:
    """Raise an InputError if there are no parameters, or if one is not a real float."""
    leaves = jax.tree.leaves(params)
    for leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise InputError(f"{name}: expected real parameters, got {jnp.result_type(leaf)}")
    if not leaves:
        raise InputError(f"{name}: there are no parameters")


def require(name: str, value: Any, fits: Any, expected: str) -> None:
    """Raise an InputError of one line, unless an argument of an optimizer `fits`."""
    if not fits:
        try:
            got = " ".join(repr(value).split())  # an array is printed on several lines
        except ValueError:  # Python prints no integer of more than 4,300 digits
            got = "a larger one"
        raise InputError(f"{name}: expected {expected}, got {got}")


def require_count(name: str, value: Any, least: int, most: float = _LARGEST_COUNT) -> None:
    """Raise an InputError unless an argument is an integer from `least` to `most`."""
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    require(name, value, integer and int(value) >= least, f"an integer >= {least}")
    require(name, value, int(value) <= most, f"an integer <= {most}")


def require_number(
    name: str, value: Any, expected: str, fits: Callable[[Any], Any] = lambda value: True
) -> None:
    """Raise an InputError unless an argument is a finite real number, or array (), that `fits`.

    The value of a tracer is not known: under `jax.vmap` over a learning rate, only the shape and
    the dtype are checked.
    """
    # NumPy makes an integer of more than 64 bits an object, which is refused like any other.
    array = np.asarray(value) if isinstance(value, int | float) else value
    dtype = getattr(array, "dtype", object)
    real = any(jnp.issubdtype(dtype, kind) for kind in (jnp.integer, jnp.floating))
    real = real and array.shape == ()
    known = not isinstance(value, Tracer)
    require(name, value, real and (not known or (math.isfinite(value) and fits(value))), expected)


def require_choice(name: str, value: Any, *choices: str) -> None:
    """Raise an InputError unless an argument is one of the choices."""
    fits = isinstance(value, str) and value in choices
    require(name, value, fits, f"one of {', '.join(map(repr, choices))}")


def require_optimizer(name: str, value: Any) -> Any:
    """Raise an InputError unless an argument is an optax transformation; return it.

    The returned transformation ignores the extra arguments of `update` that it does not use.
    """
    fits = all(callable(getattr(value, part, None)) for part in ("init", "update"))
    require(name, value, fits, "an optax transformation, such as optax.adam(1e-3)")
    return optax.with_extra_args_support(value)


def times(left: Array, right: Array) -> Array:
    """Matrix product at full precision on every device.

    JAX's default precision rounds float32 operands on accelerators, as to TF32 or bfloat16.
    """
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)
