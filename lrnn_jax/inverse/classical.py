"""Classical baseline for tomography: total-variation reconstruction by a primal-dual method.

    min over f >= 0 of  |R f - y|^2 / 2 + weight * sum |grad f|

References: Chambolle and Pock, "A First-Order Primal-Dual Algorithm for Convex Problems with
Applications to Imaging", JMIV 2011, Algorithm 1; Sidky, Jorgensen and Pan, PMB 2012, for CT.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.errors import InputError
from lrnn_jax.inverse.radon import radon, radon_adjoint

__all__ = ["gradient", "total_variation"]


def total_variation(
    sinogram: Float[ArrayLike, "a m"],
    degrees: Float[ArrayLike, "a"],
    weight: float,
    steps: int = 300,
) -> Float[Array, "m m"]:
    """The image f >= 0 that minimises |R f - y|^2 / 2 + weight * sum |grad f| (isotropic TV).

    Args:
      sinogram: y, as returned by `radon`.
      degrees: angle of each row of the sinogram.
      weight: weight of the total variation, > 0, in units of the sinogram.
      steps: number of iterations, >= 1.

    Raises:
      InputError: `weight` or `steps` is out of range, or the sinogram does not have one row for
        each angle.
    """
    if not weight > 0:
        raise InputError(f"weight: expected a number > 0, got {weight}")
    if steps < 1:
        raise InputError(f"steps: expected an integer >= 1, got {steps}")
    rows = jnp.asarray(sinogram, float)
    norm = _norm(rows.shape[1], degrees)
    scale = jnp.sqrt(8.0) / norm  # gives R the norm of the gradient, sqrt(8)
    return _minimise(rows, degrees, weight, scale, steps)


def _norm(side: int, degrees: Float[ArrayLike, "a"]) -> Array:
    """Lower bound on the largest singular value of R, from 20 power iterations."""

    def body(f, _):
        f = radon_adjoint(radon(f, degrees), degrees)
        return f / jnp.linalg.norm(f), None

    start = jnp.full((side, side), 1.0 / side)
    f, _ = lax.scan(body, start, length=20)
    return jnp.linalg.norm(radon(f, degrees))


def _minimise(rows, degrees, weight, scale, steps):
    """Chambolle and Pock's iteration, with sigma tau |K|^2 < 1 for K = (scale R, gradient)."""
    side = rows.shape[1]
    step = 0.95 / jnp.sqrt(16.0)
    target = scale * rows
    forward = functools.partial(radon, degrees=degrees)

    def body(carry, _):
        f, over, p, q = carry
        p = (p + step * (scale * forward(over) - target)) / (1 + step * scale**2)
        q = q + step * gradient(over)
        q = q / jnp.maximum(1.0, jnp.sqrt(jnp.sum(q**2, axis=0)) / weight)
        moved = scale * radon_adjoint(p, degrees) - _divergence(q)
        new = jnp.maximum(0.0, f - step * moved)
        return (new, 2 * new - f, p, q), None

    zero = jnp.zeros((side, side))
    start = (zero, zero, jnp.zeros_like(rows), jnp.zeros((2, side, side)))
    return jax.jit(lambda start: lax.scan(body, start, length=steps)[0][0])(start)


def gradient(f: Float[Array, "m m"]) -> Float[Array, "2 m m"]:
    """Forward differences per pixel along rows and columns, 0 at the last pixel; dtype of f."""
    down = jnp.diff(f, axis=0, append=f[-1:])
    right = jnp.diff(f, axis=1, append=f[:, -1:])
    return jnp.stack([down, right])


def _divergence(q: Float[Array, "2 m m"]) -> Float[Array, "m m"]:
    """The discrete divergence, minus the adjoint of `gradient`."""
    down = jnp.concatenate([q[0, :1], q[0, 1:-1] - q[0, :-2], -q[0, -2:-1]])
    right = jnp.concatenate([q[1, :, :1], q[1, :, 1:-1] - q[1, :, :-2], -q[1, :, -2:-1]], axis=1)
    return jnp.stack([down, right]).sum(axis=0)
