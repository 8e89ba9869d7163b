"""First and higher derivatives of a field at one point.

Every operator takes a field u: (d,) -> () or (k,) and returns a function of one point, with values
of the same shape as those of u unless stated otherwise; use `jax.vmap` for many points. The
operators can be nested, and their results can be differentiated with respect to parameters to any
order.

Raises:
  InputError: when the returned function is called, x is not one point of floats, an axis is out of
    range, or the value of u is not one array. This holds for all operators.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.errors import InputError
from lrnn_jax.operators.laplacians import Method, check_method, unwarned_laplacian, warn_if_rough
from lrnn_jax.operators.points import PointField, along, as_point, checked, direction, require_axes


def grad(u: PointField) -> PointField:
    """Gradient of a scalar field, x -> (du/dx_0, ..., du/dx_{d-1}), in one reverse pass.

    Args:
      u: (d,) -> () or (1,).

    Returns:
      (d,) -> (d,).

    Raises:
      InputError: when called, u has several components.

    Example:
      >>> grad(lambda x: x[0] * x[1])(jnp.array([2.0, 3.0])).tolist()
      [3.0, 2.0]
    """

    def at(x: Float[Array, "d"]) -> Float[Array, "d"]:
        x = as_point("grad", x)
        scalar = checked("grad", u, "one component", ((), (1,)))
        return jax.grad(lambda x: scalar(x).reshape(()))(x)

    return at


def jacobian(u: PointField) -> PointField:
    """Jacobian, x -> du_k/dx_a, in forward mode with one pass per coordinate.

    Args:
      u: (d,) -> () or (k,).

    Returns:
      (d,) -> (d,) or (k, d).

    Example:
      >>> jacobian(lambda x: jnp.stack([x[0] * x[1], x[0]]))(jnp.array([2.0, 3.0])).tolist()
      [[3.0, 2.0], [1.0, 0.0]]
    """

    def at(x: Float[Array, "d"]) -> Float[Array, "*k d"]:
        x = as_point("jacobian", x)
        return jax.jacfwd(checked("jacobian", u))(x)

    return at


def derivative(u: PointField, *axes: int) -> PointField:
    """Partial derivative, x -> d^n u / dx_a dx_b ..., along n axes by n nested forward passes.

    Args:
      u: (d,) -> () or (k,).
      axes: at least one; an axis may be repeated: `derivative(u, 0, 0)` is d^2 u / dx_0^2.

    Raises:
      InputError: there is no axis.

    Example:
      >>> derivative(lambda x: x[0] ** 2 * x[1], 0, 1)(jnp.array([2.0, 3.0])).item()
      4.0
    """
    if not axes:
        raise InputError("derivative: expected at least one axis")

    def at(x: Float[Array, "d"]) -> Float[Array, "..."]:
        x = as_point("derivative", x)
        result = checked("derivative", u)
        for axis in axes:
            result = along(result, direction(x, *require_axes("derivative", (axis,), x.size)))
        return result(x)

    return at


def divergence(u: PointField, *, axes: Sequence[int] | None = None) -> PointField:
    """Divergence, x -> sum_i du_i/dx_{a_i}.

    Args:
      u: (d,) -> (d,), or with one component for each of `axes`.
      axes: the coordinate of each component, for example the coordinates of space if another
        coordinate is time; None means all.

    Returns:
      (d,) -> ().

    Raises:
      InputError: when called, the number of components of u is wrong.

    Example:
      >>> divergence(lambda x: x**2)(jnp.array([2.0, 3.0])).item()
      10.0
    """

    def at(x: Float[Array, "d"]) -> Float[Array, ""]:
        x = as_point("divergence", x)
        chosen = require_axes("divergence", axes, x.size)
        field = _of_components("divergence", u, len(chosen))
        parts = [along(field, direction(x, axis))(x)[i] for i, axis in enumerate(chosen)]
        return jnp.sum(jnp.stack(parts))

    return at


def curl(u: PointField, *, axes: Sequence[int] | None = None) -> PointField:
    """Curl of a field in two or three dimensions.

    In two dimensions x -> du_1/dx_0 - du_0/dx_1; in three dimensions the vector

        (du_2/dx_1 - du_1/dx_2, du_0/dx_2 - du_2/dx_0, du_1/dx_0 - du_0/dx_1).

    Args:
      u: (2,) -> (2,) or (3,) -> (3,), or with one component for each of `axes`.
      axes: two or three coordinates, for example those of space if another coordinate is time; None
        means all.

    Returns:
      (d,) -> () or (3,).

    Raises:
      InputError: when called, there are neither two nor three coordinates, or the number of
        components of u is wrong.

    Example:
      >>> curl(lambda x: jnp.stack([-x[1], x[0]]))(jnp.array([2.0, 3.0])).item()
      2.0
    """

    def at(x: Float[Array, "d"]) -> Float[Array, "..."]:
        x = as_point("curl", x)
        chosen = require_axes("curl", axes, x.size)
        if len(chosen) not in (2, 3):
            raise InputError(f"curl: expected 2 or 3 coordinates, got {len(chosen)}")
        field = _of_components("curl", u, len(chosen))
        by = [along(field, direction(x, axis))(x) for axis in chosen]
        if len(chosen) == 2:
            return by[0][1] - by[1][0]
        return jnp.stack([by[i - 2][i - 1] - by[i - 1][i - 2] for i in range(3)])

    return at


def biharmonic(
    u: PointField, *, axes: Sequence[int] | None = None, method: Method = "auto"
) -> PointField:
    """Biharmonic operator, x -> sum_{a, b} d^4 u / dx_a^2 dx_b^2: the Laplacian of the Laplacian.

    Args:
      u: (d,) -> () or (k,), four times differentiable.
      axes: the coordinates of both sums; None means all.
      method: an exact method of `laplacian`, used for both Laplacians.

    Raises:
      InputError: as in `laplacian`, or the method is not exact.

    Warns:
      UserWarning: u is a model with fewer than four continuous derivatives.

    Example:
      >>> biharmonic(lambda x: x[0] ** 4 + x[0] ** 2 * x[1] ** 2)(jnp.ones(2)).item()
      32.0
    """
    if method in ("hutchinson", "dimensions"):
        raise InputError(f"biharmonic: expected an exact method, got {method!r}")
    check_method(method, None, None)
    warn_if_rough(u, order=4)
    return unwarned_laplacian(unwarned_laplacian(u, axes, method), axes, method)


def time_derivative(u: PointField, axis: int = -1) -> PointField:
    """Time derivative, x -> du/dt, in one forward pass; t is the coordinate `axis` of x.

    Args:
      u: (d,) -> () or (k,).
      axis: the coordinate that is time; the last coordinate by default.

    Example:
      >>> time_derivative(lambda x: x[0] * x[1] ** 2)(jnp.array([2.0, 3.0])).item()
      12.0
    """

    def at(x: Float[Array, "d"]) -> Float[Array, "..."]:
        x = as_point("time_derivative", x)
        (time,) = require_axes("time_derivative", (axis,), x.size)
        return along(checked("time_derivative", u), direction(x, time))(x)

    return at


def material_derivative(
    u: PointField, velocity: Callable | ArrayLike | None = None, axis: int = -1
) -> PointField:
    """Material derivative, x -> u_t + (v . grad) u with x = (space..., t), in one forward pass.

    It is the rate of change of u along the path of a particle that moves with velocity v.

    Args:
      u: (d,) -> () or (k,).
      velocity: v as a callable (d,) -> (d-1,) or an array (d-1,). None means the first d-1
        components of u, as in Burgers' equation and the Navier-Stokes equations.
      axis: the coordinate that is time; the last coordinate by default.

    Raises:
      InputError: when called, the shape of v is not (d-1,), or `velocity` is None and u has fewer
        than d-1 components.

    Example:
      >>> material_derivative(lambda x: x[0] + 2 * x[1], jnp.array([5.0]))(jnp.zeros(2)).item()
      7.0
    """

    def at(x: Float[Array, "d"]) -> Float[Array, "..."]:
        x = as_point("material_derivative", x)
        (time,) = require_axes("material_derivative", (axis,), x.size)
        field = checked("material_derivative", u)
        v = _velocity(field, velocity, x)
        return along(field, jnp.insert(v, time, 1).astype(x.dtype))(x)

    return at


def _velocity(u: PointField, velocity: Callable | ArrayLike | None, x: Float[Array, "d"]):
    space = x.size - 1
    if velocity is None:
        v = jnp.atleast_1d(u(x))
        if v.ndim != 1 or v.size < space:
            raise InputError(
                f"material_derivative: expected u of at least {space} components for {space} "
                f"coordinates of space, got shape {v.shape}"
            )
        return v[:space]
    v = jnp.asarray(velocity(x) if callable(velocity) else velocity)
    if v.shape != (space,):
        raise InputError(
            f"material_derivative: expected a velocity of {space} components for {space} "
            f"coordinates of space, got shape {v.shape}"
        )
    return v


def _of_components(name: str, u: PointField, count: int) -> PointField:
    return checked(name, u, f"{count} components for {count} coordinates", ((count,),))
