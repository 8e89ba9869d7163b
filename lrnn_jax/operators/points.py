"""Checks that the operators apply to a point, to axes and to the values of a field."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.errors import InputError

PointField = Callable[[Float[Array, "d"]], Float[Array, "..."]]
"""A field as a function of one point: (d,) -> () or (k,)."""


def as_point(name: str, x: jax.Array) -> Float[Array, "d"]:
    """Check that `x` is one point of floats, and return it as an array.

    Raises:
      InputError: `x` does not have exactly one axis, is empty, or is not real floating point; the
        message names the operator.
    """
    x = jnp.asarray(x)
    if x.ndim != 1 or not x.size:
        hint = "; take many points with jax.vmap" if x.ndim > 1 else ""
        raise InputError(f"{name}: expected one point of shape (d,), got {x.shape}{hint}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{name}: expected a point of floats, got {x.dtype}")
    return x


def require_axes(name: str, axes: Sequence[int] | None, coordinates: int) -> tuple[int, ...]:
    """Check the axes, and return them as non-negative integers; None means all axes.

    Raises:
      InputError: there is no axis, an axis is repeated, out of range or not an integer; the message
        names the operator.
    """
    if axes is None:
        return tuple(range(coordinates))
    positive: list[int] = []
    for axis in axes:
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise InputError(f"{name}: expected axes that are integers, got {axis!r}")
        if not -coordinates <= axis < coordinates:
            raise InputError(f"{name}: axis {axis} is out of range for {coordinates} coordinates")
        positive.append(axis % coordinates)
    if not positive or len(set(positive)) < len(positive):
        raise InputError(f"{name}: expected different axes, at least one, got {tuple(axes)}")
    return tuple(positive)


def checked(
    name: str, u: PointField, what: str = "one array", shapes: Sequence[tuple] | None = None
) -> PointField:
    """Return a function that evaluates `u` and checks the shape of its value.

    The check runs during tracing. `shapes` are the allowed shapes; None allows all.

    Raises:
      InputError: when called, the value is not an array or its shape is not allowed; the message
        names the operator and says that it expected u of `what`.
    """

    def at(x: Float[Array, "d"]) -> jax.Array:
        value = u(x)
        if isinstance(value, tuple | list | dict) or value is None:
            raise InputError(f"{name}: expected u of {what}, got a {type(value).__name__}")
        value = jnp.asarray(value)
        if shapes is not None and value.shape not in shapes:
            raise InputError(f"{name}: expected u of {what}, got shape {value.shape}")
        return value

    return at


def direction(x: Float[Array, "d"], axis: int) -> Float[Array, "d"]:
    """The unit vector along `axis`."""
    return jnp.zeros_like(x).at[axis].set(1)


def along(u: PointField, v: Float[Array, "d"]) -> PointField:
    """Directional derivative, x -> (v . grad) u, in one forward pass."""
    return lambda x: jax.jvp(u, (x,), (v,))[1]
