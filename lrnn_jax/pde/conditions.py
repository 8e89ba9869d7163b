"""Conditions of an equation: on faces of its box, at the initial time, at measurement points.

Time, if the equation has one, is the last coordinate. A value is a number or a function of one
point x: (d,) -> () or (o,).
"""

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
      weight: factor in the loss.

    Raises:
      InputError: the box has no such face. When the residual is evaluated: the shape of the value
        differs from that of u.

    Example:
      >>> dirichlet(Box((0.0,), (1.0,)), faces=((0, 0),)).name
      'boundary'
    """
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
      weight: factor in the loss.
      points: fixed points (n, d); None draws them at random.
    """
    return _at_start("initial", box, _value_less(value), weight, points)


def initial_velocity(box: Box, value: Value = 0.0, weight: float = 1.0) -> Condition:
    """Initial velocity: u_t = value at the low end of the last coordinate, time."""

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
      weight: factor in the loss.
      points: fixed points (n, d) on the low face; None draws them at random.
    """
    faces = _faces(box, ((axis, 0),))
    if points is not None:
        _require_on(f"periodic_{axis}", box, points, axis)
    along = np.zeros(box.dim)
    along[axis] = 1.0
    side = box.high[axis] - box.low[axis]

    def residual(u: PointField):
        def jump(x: Array) -> Array:
            return u(x) - u(x + side * jnp.asarray(along, x.dtype))

        jumps: list[PointField] = [jump]
        for _ in range(derivatives):
            jumps.append(_derivative_along(jumps[-1], along))
        return lambda x: jnp.hstack([one(x) for one in jumps])

    def rows(key: Key, n: int, sampler: Sampler) -> Array:
        if points is None:
            return sample_faces(box, key, n, faces, sampler)
        return jnp.asarray(points, float)

    given = points is not None
    return Condition(f"periodic_{axis}", residual, rows, weight, given=given, periodic=axis)


def measured(
    box: Box, x: Float[ArrayLike, "n d"], y: Float[ArrayLike, "n o"], weight: float = 1.0
) -> Condition:
    """Measured data: u(x_n) = y_n.

    Raises:
      InputError: x and y have different lengths, are empty or not finite, or a point lies outside
        the box.
    """
    places, values = np.asarray(x, np.float64), np.asarray(y, np.float64)
    require_inside("measured", box, places)
    if not len(places) or not (np.isfinite(places).all() and np.isfinite(values).all()):
        raise InputError("measured: expected one place or more, and finite numbers")
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
    if points is not None:
        _require_on(name, box, points, box.dim - 1)

    def rows(key: Key, n: int, sampler: Sampler) -> Array:
        if points is None:
            return sample_faces(box, key, n, ((box.dim - 1, 0),), sampler)
        return jnp.asarray(points, float)

    return Condition(name, residual, rows, weight, given=points is not None, hard=True)


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
    on = box.faces if faces is None else tuple(faces)
    if not on:
        raise InputError("faces: expected one or more, got none")
    for face in on:
        if face not in box.faces:
            raise InputError(
                f"faces: a box of {box.dim} axes has no face {face}; expected (axis, 0 or 1)"
            )
    return on


def _require_on(name: str, box: Box, points: Any, axis: int) -> None:
    """Checks that points lie on the low face of an axis."""
    x = np.asarray(points, np.float64)
    require_inside(name, box, x)
    side = box.high[axis] - box.low[axis]
    off = np.flatnonzero(np.abs(x[:, axis] - box.low[axis]) > 1e-6 * side)
    if len(off):
        raise InputError(
            f"{name}: expected points at {box.low[axis]} of axis {axis}, the low end, got "
            f"{x[off[0]].tolist()}"
        )


def require_inside(name: str, box: Box, x: np.ndarray) -> None:
    """Checks that points lie in the box.

    Raises:
      InputError: a point lies outside, or the shape is not (n, d).
    """
    if x.ndim != 2 or x.shape[1] != box.dim:
        raise InputError(f"{name}: expected points of shape (n, {box.dim}), got {x.shape}")
    outside = np.flatnonzero(~box.contains(x))
    if len(outside):
        raise InputError(
            f"{name}: point {outside[0]}, {x[outside[0]].tolist()}, lies outside the box "
            f"{list(box.low)} to {list(box.high)}"
        )
