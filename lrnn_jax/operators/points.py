"""What the operators ask of a point, of its axes and of a field's values."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.errors import InputError

__all__ = ["PointField", "as_point", "checked", "direction", "require_axes"]

PointField = Callable[[Float[Array, "d"]], Float[Array, "..."]]
"""u of one point: (d,) -> () or (k,)."""

Shapes = Sequence[tuple[int, ...]]


def as_point(name: str, x: jax.Array) -> Float[Array, "d"]:
    """`x` as one point of floats.

    Raises:
      InputError: naming the operator, where `x` has no or several axes, or no real floats.
    """
    x = jnp.asarray(x)
    if x.ndim != 1 or not x.size:
        many = "; take many points with jax.vmap" if x.ndim > 1 else ""
        raise InputError(f"{name}: expected one point of shape (d,), got {x.shape}{many}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{name}: expected a point of floats, got {x.dtype}")
    return x


def require_axes(name: str, axes: Sequence[int] | None, coordinates: int) -> tuple[int, ...]:
    """The axes counted from 0; None is all of them.

    Raises:
      InputError: naming the operator, where there is none, one twice or one out of range.
    """
    if axes is None:
        return tuple(range(coordinates))
    found: list[int] = []
    for axis in axes:
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise InputError(f"{name}: expected axes that are integers, got {axis!r}")
        if not -coordinates <= axis < coordinates:
            raise InputError(f"{name}: axis {axis} is out of range for {coordinates} coordinates")
        found.append(axis % coordinates)
    if not found or len(set(found)) < len(found):
        raise InputError(f"{name}: expected different axes, at least one, got {tuple(axes)}")
    return tuple(found)


def checked(
    name: str,
    u: PointField,
    what: str = "one array",
    shapes: Sequence[tuple[int, ...]] | None = None,
) -> PointField:
    """`u`, whose value is looked at wherever it is traced; `shapes` None allows all.

    Raises:
      InputError: when called, naming the operator and `what` of u it expected.
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
