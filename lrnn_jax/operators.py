"""Differential operators of fields: callables in, callables out."""

import functools
import inspect
import math
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["laplacian"]

PointField = Callable[[Float[Array, "d"]], Float[Array, "..."]]
"""u of one point: (d,) -> () or (o,)."""


def laplacian(u: PointField) -> PointField:
    """x -> sum_a d^2 u / dx_a^2, the trace of the Hessian, at one point x.

    Args:
      u: a field, such as `functools.partial(model.apply, params)`; (d,) -> () or (o,).

    Returns:
      A callable of the same kind; `jax.vmap` takes it to many points.

    Warns:
      UserWarning: u is a model of the zoo bound to its parameters, by `functools.partial` or that
        under `jax.jit`, and not twice differentiable; into a lambda nobody looks.
        A ReLU network is piecewise linear in its features: between its kinks the second derivative
        is zero, or that of the features alone, and a loss on it teaches the network little.

    Example:
      >>> laplacian(lambda x: x[0] ** 2 + 3 * x[1] ** 2)(jnp.ones(2)).item()
      8.0
    """
    _warn_if_rough(u)

    def trace(x: Float[Array, "d"]) -> Float[Array, "..."]:
        return jnp.trace(jax.hessian(u)(x), axis1=-2, axis2=-1)

    return trace


def _warn_if_rough(u: PointField) -> None:
    plain = inspect.unwrap(u)  # of jax.jit
    bound = plain.func if isinstance(plain, functools.partial) else plain
    model = bound.__self__ if inspect.ismethod(bound) else bound
    smoothness = getattr(model, "smoothness", math.inf)
    if smoothness >= 2:
        return
    if smoothness == 0:
        what = (
            "has kinks, which its Laplacian misses: between them it is zero almost everywhere, or "
        )
        what += "the curvature of its features alone"
    else:
        what = "has one continuous derivative: its Laplacian is not continuous"
    message = f"{type(model).__name__} {what}; take a model of smoothness >= 2, such as Siren"
    warnings.warn(message, UserWarning, stacklevel=3)
