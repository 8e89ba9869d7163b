"""Univariate basis functions: B-splines, Chebyshev polynomials, piecewise linear interpolation.

Axis letters: n points, i inputs, m basis functions, o outputs.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["b_splines", "chebyshev", "extend_knots", "hat_form", "interpolate"]


def extend_knots(knots: Float[np.ndarray, "i m"], order: int) -> Float[np.ndarray, "i M"]:
    """Add `order` knots at each end, at the mean spacing."""
    step = (knots[:, -1:] - knots[:, :1]) / (knots.shape[1] - 1)
    out = step * np.arange(1, order + 1)
    return np.concatenate([knots[:, :1] - out[:, ::-1], knots, knots[:, -1:] + out], axis=1)


def b_splines(
    x: Float[Array, "*n i"], knots: Float[np.ndarray, "i M"], order: int
) -> list[Float[Array, "*n i"]]:
    """The m = M - order - 1 B-splines of degree `order` on each input's knots.

    B_{m,0}(x) = 1 where t_m <= x < t_{m+1}, and
    B_{m,p}(x) = (x - t_m) / (t_{m+p} - t_m) B_{m,p-1}(x)
               + (t_{m+p+1} - x) / (t_{m+p+1} - t_{m+1}) B_{m+1,p-1}(x).
    They are 0 outside the extended knots and sum to 1 between the inner knots.

    Returns:
      A list with one array per basis function. A last axis of only a few entries would be slow on
      a CPU.

    References: de Boor, "A Practical Guide to Splines", 1978, chapter X, eqs. 4 and 5.
    """
    t = list(jnp.asarray(knots.T, x.dtype))
    basis = [((x >= a) & (x < b)).astype(x.dtype) for a, b in itertools.pairwise(t)]
    for p in range(1, order + 1):
        basis = [
            (x - t[m]) / (t[m + p] - t[m]) * left
            + (t[m + p + 1] - x) / (t[m + p + 1] - t[m + 1]) * right
            for m, (left, right) in enumerate(itertools.pairwise(basis))
        ]
    return basis


def chebyshev(x: Float[Array, "*n i"], degree: int) -> list[Float[Array, "*n i"]]:
    """T_0(x), ..., T_degree(x): T_m(x) = 2 x T_{m-1}(x) - T_{m-2}(x), for x in [-1, 1]."""
    terms = [jnp.ones_like(x), x]
    while len(terms) <= degree:
        terms.append(2 * x * terms[-1] - terms[-2])
    return terms[: degree + 1]


def interpolate(values: Float[Array, "m o"], x: Float[Array, "*n"]) -> Float[Array, "*n o"]:
    """Piecewise linear interpolation of m >= 2 values at equally spaced nodes from -1 to 1.

    The function is constant outside [-1, 1]. At a node, the derivative in x is that of the piece
    to its right.
    """
    last = values.shape[0] - 1
    place = jnp.clip((x + 1) * (0.5 * last), 0, last)
    left = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)), 0, last - 1).astype(jnp.int32)
    share = (place - left.astype(place.dtype))[..., None]
    return values[left] * (1 - share) + values[left + 1] * share


def hat_form(
    values: Float[Array, "m o"], terms: int
) -> tuple[Float[Array, "t o"], Float[Array, "t"], Float[Array, "o"]]:
    """The interpolation of `values` on [-1, 1] as constant + sum_t weight_t relu(x + shift_t).

    Args:
      values: m >= 2 values at equally spaced nodes from -1 to 1.
      terms: number of terms, >= m - 1; terms that are not needed have weight 0.

    Returns:
      weight (t, o), shift (t,) and constant (o,).
    """
    pieces = values.shape[0] - 1
    slopes = (values[1:] - values[:-1]) * (0.5 * pieces)
    kinks = jnp.concatenate([slopes[:1], slopes[1:] - slopes[:-1]])
    weight = jnp.pad(kinks, ((0, terms - pieces), (0, 0)))
    shift = jnp.pad(1 - 2 * jnp.arange(pieces, dtype=values.dtype) / pieces, (0, terms - pieces))
    return weight, shift, values[0]
