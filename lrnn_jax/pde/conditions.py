"""Conditions of an equation: on faces of its box, at the initial time, at measurement points.

Time, if the equation has one, is the last coordinate. A value is a number or a function of one
point x: (d,) -> () or (o,). All functions that make a condition raise InputError for a box, face,
axis, value, weight or point array that cannot be used; a value whose shape differs from that of u
is found when the residual is evaluated.
"""

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.domains import Box, Face, Sampler, sample_faces
from lrnn_jax.errors import InputError
from lrnn_jax.operators.points import PointField
from lrnn_jax.typing import Key

__all__ = [
    "Condition",
    "PointField",
    "Residual",
    "dirichlet",
    "initial",
    "initial_velocity",
    "measured",
    "neumann",
    "periodic",
    "require_inside",
    "require_weight",
]


Residual = Callable[[PointField], Callable[[Any], Float[Array, "..."]]]
"""u -> (row -> residual, which must be zero)."""

Value = float | Callable[[Float[Array, "d"]], Any]


class Condition(NamedTuple):
    """A condition on the solution: a residual that must be zero at some points.

    Attributes:
      name: name of its term in the loss.
      residual: u -> (row -> residual, which must be zero).
      rows: (key, n, sampler) -> a pytree of arrays (n, ...), or of the rows that are given. The
        first array holds the points (n, d).
      weight: factor in the loss, >= 0.
      given: whether the rows are fixed, that is, the same for every key.
      periodic: axis whose exact periodic embedding satisfies the condition, or None.
      hard: whether an ansatz can satisfy the condition.
    """

    name: str
    residual: Residual
    rows: Callable[[Key, int, Sampler], Any]
    weight: float = 1.0
    given: bool = False
    periodic: int | None = None
    hard: bool = False


def dirichlet(
    box: Box, value: Value = 0.0, faces: tuple[Face, ...] | None = None, weight: float = 1.0
) -> Condition:
    """Dirichlet condition: u(x) = value(x) on faces of the box.

    Args:
      box: the domain.
      value: value of u, a number or a function of one point.
      faces: pairs (axis, side), where side 0 is the low end and side 1 the high end; None selects
        all faces.
      weight: factor in the loss, >= 0.

    Example:
      >>> dirichlet(Box((0.0,), (1.0,)), faces=((0, 0),)).name
      'boundary'
    """
    _check("boundary", box, value, weight)
    on = _faces(box, faces)

    def rows(key: Key, n: int, sampler: Sampler) -> Array:
        return sample_faces(box, key, n, on, sampler)

    return Condition("boundary", _value_less(value), rows, weight, hard=True)


def neumann(
    box: Box, value: Value = 0.0, faces: tuple[Face, ...] | None = None, weight: float = 1.0
) -> Condition:
    """Neumann condition: du/dn(x) = value(x) on faces of the box, n the outward normal.

    The arguments are those of `dirichlet`.
    """
    _check("flux", box, value, weight)
    on = _faces(box, faces)

    def rows(key: Key, n: int, sampler: Sampler) -> tuple[Array, Array]:
        axes, sides = np.array(on)[np.arange(n) % len(on)].T
        normals = np.zeros((n, box.dim))
        normals[np.arange(n), axes] = 2 * sides - 1
        return sample_faces(box, key, n, on, sampler), jnp.asarray(normals, float)

    def residual(u: PointField):
        def slope_less(row: tuple[Array, Array]) -> Array:
            x, normal = row
            return _less(jax.jvp(u, (x,), (normal,))[1], value, x)

        return slope_less

    return Condition("flux", residual, rows, weight)


def initial(box: Box, value: Value, weight: float = 1.0, points: Any = None) -> Condition:
    """Initial condition: u = value at the low end of the last coordinate, time.

    Args:
      box: the domain.
      value: value of u, a number or a function of one point.
      weight: factor in the loss, >= 0.
      points: fixed points (n, d); None draws them at random.
    """
    _check("initial", box, value, weight)
    return _at_start("initial", box, _value_less(value), weight, points)


def initial_velocity(box: Box, value: Value = 0.0, weight: float = 1.0) -> Condition:
    """Initial velocity: u_t = value at the low end of the last coordinate, time."""
    _check("velocity", box, value, weight)

    def residual(u: PointField):
        def velocity_less(x: Array) -> Array:
            along_time = jnp.zeros_like(x).at[-1].set(1.0)
            return _less(jax.jvp(u, (x,), (along_time,))[1], value, x)

        return velocity_less

    return _at_start("velocity", box, residual, weight, None)


def periodic(
    box: Box, axis: int = 0, derivatives: int = 0, weight: float = 1.0, points: Any = None
) -> Condition:
    """Periodic condition: u and its derivatives along an axis are equal at both ends of the axis.

    Args:
      box: the domain.
      axis: the periodic axis.
      derivatives: number of derivatives to match, >= 0. An equation of order n along the axis needs
        n - 1.
      weight: factor in the loss, >= 0.
      points: fixed points (n, d) on the low face; None draws them at random.
    """
    name = f"periodic_{axis}"
    _check(name, box, 0.0, weight)
    if axis not in range(box.dim):
        raise InputError(f"axis: expected an integer from 0 to {box.dim - 1}, got {axis!r}")
    if not isinstance(derivatives, int) or derivatives < 0:
        raise InputError(f"derivatives: expected an integer >= 0, got {derivatives!r}")
    along = np.zeros(box.dim)
    along[axis] = 1.0
    side = box.high[axis] - box.low[axis]

    def residual(u: PointField):
        def jump(x: Array) -> Array:
            return u(x) - u(x + side * jnp.asarray(along, x.dtype))

        jumps: list[PointField] = [jump]
        for _ in range(derivatives):
            jumps.append(_derivative_along(jumps[-1], along))
        return lambda x: jnp.hstack([jump(x) for jump in jumps])

    rows = _rows_on(name, box, axis, points)
    return Condition(name, residual, rows, weight, given=points is not None, periodic=axis)


def measured(
    box: Box, x: Float[ArrayLike, "n d"], y: Float[ArrayLike, "n o"], weight: float = 1.0
) -> Condition:
    """Measured data: u(x_n) = y_n, at one point in the box or more, with finite values."""
    _check("measured", box, 0.0, weight)
    places, values = _numbers("measured", x), _numbers("measured", y)
    require_inside("measured", box, places)
    if not np.isfinite(values).all():
        raise InputError("measured: expected finite values")
    if values.ndim != 2 or len(values) != len(places):
        raise InputError(
            f"measured: expected values of shape ({len(places)}, o), got {values.shape}"
        )

    def rows(key: Key, n: int, sampler: Sampler) -> tuple[Array, Array]:
        del key, n, sampler
        return jnp.asarray(places, float), jnp.asarray(values, float)

    def residual(u: PointField):
        return lambda row: _less(u(row[0]), lambda _: row[1], row[0])

    return Condition("measured", residual, rows, weight, given=True)


def _at_start(name: str, box: Box, residual: Residual, weight: float, points: Any) -> Condition:
    rows = _rows_on(name, box, box.dim - 1, points)
    return Condition(name, residual, rows, weight, given=points is not None, hard=True)


def _rows_on(name: str, box: Box, axis: int, points: Any) -> Callable[[Key, int, Sampler], Array]:
    """Rows on the low face of an axis: the given points, or random ones if there are none."""
    if points is None:
        return lambda key, n, sampler: sample_faces(box, key, n, ((axis, 0),), sampler)
    x = _numbers(name, points)
    require_inside(name, box, x)
    side = box.high[axis] - box.low[axis]
    off = np.flatnonzero(np.abs(x[:, axis] - box.low[axis]) > 1e-6 * side)
    if len(off):
        raise InputError(
            f"{name}: expected points at {box.low[axis]} of axis {axis}, the low end, got "
            f"{x[off[0]].tolist()}"
        )
    return lambda key, n, sampler: jnp.asarray(x, float)


def _value_less(value: Value) -> Residual:
    return lambda u: lambda x: _less(u(x), value, x)


def _less(u: Array, value: Value, x: Array) -> Array:
    """u - value(x).

    Raises:
      InputError: the value is neither a scalar nor of the shape of u.
    """
    target = jnp.asarray(value(x) if callable(value) else value)
    if target.shape not in ((), u.shape):
        raise InputError(
            f"condition: expected a value of shape () or {u.shape} at a point, got {target.shape}"
        )
    return u - target


def _derivative_along(u: PointField, along: np.ndarray) -> PointField:
    return lambda x: jax.jvp(u, (x,), (jnp.asarray(along, x.dtype),))[1]


def _faces(box: Box, faces: tuple[Face, ...] | None) -> tuple[Face, ...]:
    on = box.faces if faces is None else faces
    if not isinstance(on, tuple | list) or not on:
        raise InputError(f"faces: expected one or more pairs (axis, 0 or 1), got {faces!r}")
    for face in on:
        if not isinstance(face, tuple) or face not in box.faces:
            raise InputError(
                f"faces: a box of {box.dim} axes has no face {face!r}; expected (axis, 0 or 1)"
            )
    return tuple(box.faces[box.faces.index(face)] for face in on)  # with integers for 1.0 or True


def _check(name: str, box: Box, value: Value, weight: float) -> None:
    """Checks the arguments that all conditions have.

    Raises:
      InputError: one of them cannot be used.
    """
    if not isinstance(box, Box):
        raise InputError(f"box: expected a Box, got {box!r}")
    if not callable(value):
        _numbers(name, value)
    require_weight(name, weight)


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected an array of numbers, got {values!r}") from error


def require_weight(name: str, weight: Any) -> None:
    """Checks that the weight of a condition is a finite number >= 0.

    Raises:
      InputError: it is not.
    """
    if not (isinstance(weight, numbers.Real) and 0 <= float(weight) < math.inf):
        raise InputError(f"{name}: expected a weight >= 0, got {weight!r}")


def require_inside(name: str, box: Box, x: np.ndarray) -> None:
    """Checks that points lie in the box.

    Raises:
      InputError: a point lies outside, there is none, or the shape is not (n, d).
    """
    if x.ndim != 2 or x.shape[1] != box.dim or not len(x):
        raise InputError(f"{name}: expected points of shape (n, {box.dim}), got {x.shape}")
    outside = np.flatnonzero(~box.contains(x))
    if len(outside):
        raise InputError(
            f"{name}: point {outside[0]}, {x[outside[0]].tolist()}, lies outside the box "
            f"{list(box.low)} to {list(box.high)}"
        )
