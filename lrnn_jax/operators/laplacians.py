"""The Laplacian of a field: one operator with several exact and random methods."""

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.errors import InputError, suggest
from lrnn_jax.fields import BoundModel
from lrnn_jax.operators.forward import forward_laplacian
from lrnn_jax.operators.points import PointField, along, as_point, checked, direction, require_axes
from lrnn_jax.typing import Key

Method = Literal[
    "auto", "forward", "taylor", "forward_over_reverse", "hessian", "hutchinson", "dimensions"
]
"""How a Laplacian is computed; see `laplacian`."""


def laplacian(
    u: PointField,
    *,
    axes: Sequence[int] | None = None,
    method: Method = "auto",
    key: Key | None = None,
    samples: int | None = None,
) -> PointField:
    """Laplacian, x -> sum over `axes` of d^2 u / dx_a^2, at one point x.

    The first four methods and "auto" are exact: they agree up to rounding, can be nested, and can
    be differentiated in forward and reverse mode. "hutchinson" and "dimensions" are unbiased random
    estimators.

      * "forward": one pass that carries value, Jacobian and Laplacian through the function;
      * "taylor": second Taylor coefficients along each axis, a `jax.jvp` of a `jax.jvp`.
        (`jax.experimental.jet` is not used, because it has no rules for custom derivatives, for
        `jnp.prod` and for loops, which the networks of this package contain.)
      * "forward_over_reverse": `jax.jvp` of the gradient along each axis;
      * "hessian": the trace of `jax.hessian`, which computes the full matrix;
      * "hutchinson": the mean of v . H v over `samples` vectors v of random signs;
      * "dimensions": d / m times the sum over m = `samples` of the d axes, drawn without
        replacement. Meant for many coordinates; exact if all axes are drawn.
      * "auto": "forward", the fastest method for training in every comparison of
        `benchmarks/operators.py`.

    Args:
      u: a field, such as `functools.partial(model.apply, params)`; (d,) -> () or (k,).
      axes: the coordinates of the sum, for example those of space if another coordinate is time;
        None means all.
      method: see above.
      key: random key, for the random methods only. Under `jax.vmap` over x, all points share one
        draw; for an independent draw per point use
        `jax.vmap(lambda x, key: laplacian(u, key=key, ...)(x))`.
      samples: number of vectors or axes that a random method draws, >= 1.

    Returns:
      A callable of the same shapes as u; use `jax.vmap` for many points.

    Raises:
      InputError: the method is unknown; `key` or `samples` is missing for a random method or given
        for an exact one; when called, an axis is out of range or the shape of x is not (d,).

    Warns:
      UserWarning: u is a model of the zoo that is not twice continuously differentiable. Models are
        recognised if bound to their parameters by `BoundModel` or `functools.partial`, optionally
        under `jax.jit`, but not inside a lambda. A ReLU network is piecewise linear in its
        features: between its kinks the second derivative is zero, or that of the features alone, so
        a loss on it gives the network almost no training signal.

    Example:
      >>> laplacian(lambda x: x[0] ** 2 + 3 * x[1] ** 2)(jnp.ones(2)).item()
      8.0
      >>> laplacian(lambda x: x[0] ** 2 + 3 * x[1] ** 2, axes=(0,))(jnp.ones(2)).item()
      2.0

    References: forward Laplacian, see `lrnn_jax.operators.forward`; Hutchinson, "A Stochastic
    Estimator of the Trace of the Influence Matrix" (1989), for PDEs Hu et al., "Hutchinson Trace
    Estimation for High-Dimensional and High-Order PINNs" (arXiv 2312.14499); sampled axes, Hu et
    al., "Tackling the Curse of Dimensionality with PINNs" (arXiv 2307.12306).
    """
    check_method(method, key, samples)
    warn_if_rough(u)
    return unwarned_laplacian(u, axes, method, key, samples)


def unwarned_laplacian(
    u: PointField,
    axes: Sequence[int] | None,
    method: Method,
    key: Key | None = None,
    samples: int | None = None,
) -> PointField:
    """`laplacian` without the checks of its arguments and of the smoothness of u."""

    def at(x: Float[Array, "d"]) -> Float[Array, "..."]:
        x = as_point("laplacian", x)
        chosen = require_axes("laplacian", axes, x.size)
        if method == "hutchinson":
            return _hutchinson(field, x, chosen, key, samples)
        if method == "dimensions":
            return _dimensions(field, x, chosen, key, samples)
        return _EXACT[method](field, x, chosen)

    field = checked("laplacian", u)
    return at


_WRITTEN_OUT = 3  # up to this number of axes, the sum over the axes is unrolled

# Exact -------------------------------------------------------------------------------------------


def _hessian(u: PointField, x: Float[Array, "d"], axes: tuple[int, ...]) -> jax.Array:
    second = jax.hessian(u)(x)
    return functools.reduce(jnp.add, [second[..., axis, axis] for axis in axes])


def _forward_over_reverse(u: PointField, x: Float[Array, "d"], axes: tuple[int, ...]) -> jax.Array:
    return _sum_over(lambda v: jnp.sum(along(jax.jacrev(u), v)(x) * v, axis=-1), x, axes)


def _taylor(u: PointField, x: Float[Array, "d"], axes: tuple[int, ...]) -> jax.Array:
    return _sum_over(lambda v: _second(u, x, v), x, axes)


def _sum_over(term: PointField, x: Float[Array, "d"], axes: tuple[int, ...]) -> jax.Array:
    """The sum of term(v) over the unit vectors v of `axes`."""
    # An unrolled sum is faster, but slow to compile for many axes.
    vectors = [direction(x, axis) for axis in axes]
    if len(axes) <= _WRITTEN_OUT:
        return functools.reduce(jnp.add, map(term, vectors))
    return jnp.sum(jax.vmap(term)(jnp.stack(vectors)), axis=0)


def _second(u: PointField, x: Float[Array, "d"], v: Float[Array, "d"]) -> jax.Array:
    """v . H v, by forward-over-forward differentiation."""
    return along(along(u, v), v)(x)


_EXACT: dict[str, Callable[[PointField, Float[Array, "d"], tuple[int, ...]], jax.Array]] = {
    "auto": forward_laplacian,
    "forward": forward_laplacian,
    "taylor": _taylor,
    "forward_over_reverse": _forward_over_reverse,
    "hessian": _hessian,
}


# Random ------------------------------------------------------------------------------------------


def _hutchinson(
    u: PointField, x: Float[Array, "d"], axes: tuple[int, ...], key: Any, samples: Any
) -> jax.Array:
    signs = jax.random.rademacher(jax.random.clone(key), (samples, len(axes)), x.dtype)
    vectors = jnp.zeros((samples, x.size), x.dtype).at[:, jnp.array(axes)].set(signs)
    return jnp.mean(jax.vmap(lambda v: _second(u, x, v))(vectors), axis=0)


def _dimensions(
    u: PointField, x: Float[Array, "d"], axes: tuple[int, ...], key: Any, samples: Any
) -> jax.Array:
    if samples > len(axes):
        raise InputError(f"laplacian: expected samples <= {len(axes)} axes, got {samples}")
    chosen = jax.random.permutation(jax.random.clone(key), jnp.array(axes))[:samples]
    vectors = jax.nn.one_hot(chosen, x.size, dtype=x.dtype)
    total = jnp.sum(jax.vmap(lambda v: _second(u, x, v))(vectors), axis=0)
    return total * (len(axes) / samples)


# Checks ------------------------------------------------------------------------------------------


def check_method(method: str, key: Key | None, samples: int | None) -> None:
    """Check that the method is known, and that `key` and `samples` are given only if it needs them.

    Raises:
      InputError: a check fails.
    """
    if method not in get_args(Method):
        raise InputError(
            f"laplacian: unknown method {method!r}; {suggest(str(method), get_args(Method))}"
        )
    random = method in ("hutchinson", "dimensions")
    for name, value in (("key", key), ("samples", samples)):
        if random and value is None:
            raise InputError(f"laplacian: the method '{method}' needs {name}")
        if not random and value is not None:
            raise InputError(f"laplacian: {name} is for 'hutchinson' and 'dimensions'")
    if samples is not None and (isinstance(samples, bool) or samples < 1):
        raise InputError(f"laplacian: expected samples >= 1, got {samples!r}")


def warn_if_rough(u: PointField, order: int = 2) -> None:
    """Warn the caller's caller if u is a model with fewer than `order` continuous derivatives."""
    plain = inspect.unwrap(u)  # remove jax.jit
    bound = plain.func if isinstance(plain, functools.partial) else plain
    bound = bound.model if isinstance(bound, BoundModel) else bound
    model = bound.__self__ if inspect.ismethod(bound) else bound
    smoothness = getattr(model, "smoothness", math.inf)
    if smoothness >= order:
        return
    if smoothness == 0:
        what = (
            "has kinks, which its Laplacian misses: between them it is zero almost everywhere, or "
            "the curvature of its features alone"
        )
    elif smoothness == 1:
        what = "has one continuous derivative: its Laplacian is not continuous"
    else:
        what = f"has {smoothness} continuous derivatives, and {order} are taken"
    message = f"{type(model).__name__} {what}; take a model of smoothness >= {order}, such as Siren"
    warnings.warn(message, UserWarning, stacklevel=3)
