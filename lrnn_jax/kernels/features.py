"""Fixed encodings of coordinates, for networks that otherwise learn low frequencies first.

The encodings have no parameters, so an optimiser cannot train or decay them by mistake. Features
have the dtype of the coordinates; the angles are computed in float32 or wider.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lrnn_jax.kernels.activations import cospi, sinpi
from lrnn_jax.kernels.dense import dot

__all__ = ["gaussian_features", "harmonics", "positional_encoding"]


def harmonics(x: Float[Array, "*n i"], frequencies: int, period: float) -> Float[Array, "*n f"]:
    """Fourier features with alpha_i = 1 and beta_i = i on each axis: f = 2 i frequencies.

    gamma(x) = [cos(2 pi m u_a), sin(2 pi m u_a)], u = (x + period / 2) / period, for every axis a
    and m = 1..frequencies.

    Args:
      x: coordinates. [-period / 2, period / 2) is one period, so both ends have the same features.
      frequencies: number of frequencies; they are the integers 1..frequencies.
      period: the period, in units of x.

    References: Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low
    Dimensional Domains", NeurIPS 2020 (arXiv 2006.10739), eq. 5.
    """
    u = (_wide(x) + period / 2) / period
    half_turns = _outer(2.0 * np.arange(1, frequencies + 1), u)
    return jnp.concatenate([cospi(half_turns), sinpi(half_turns)], axis=-1).astype(x.dtype)


def positional_encoding(x: Float[Array, "*n i"], frequencies: int) -> Float[Array, "*n f"]:
    """[x, sin(2^m pi x_a), cos(2^m pi x_a)] for every axis a and m = 0..frequencies - 1.

    References: Mildenhall et al., "NeRF", ECCV 2020 (arXiv 2003.08934), eq. 4. The authors' code
    and that of WIRE put x itself before the encoding.
    """
    u = _outer(2.0 ** np.arange(frequencies), _wide(x))
    return jnp.concatenate([_wide(x), sinpi(u), cospi(u)], axis=-1).astype(x.dtype)


def gaussian_features(
    x: Float[Array, "*n i"], features: int, sigma: float, seed: int
) -> Float[Array, "*n f"]:
    """[cos(2 pi B x), sin(2 pi B x)], B fixed with entries ~ N(0, sigma^2): f = 2 features.

    Args:
      x: coordinates.
      features: number of rows of B.
      sigma: standard deviation of the frequencies, in periods per unit of x.
      seed: seed that B is drawn from. B is defined by the arguments and is never trained.

    References: Tancik et al., NeurIPS 2020 (arXiv 2006.10739), section 6.1.
    """
    matrix = 2 * sigma * _standard_normal(seed, x.shape[-1], features)
    half_turns = dot(_wide(x), jnp.asarray(matrix, _wide(x).dtype))
    return jnp.concatenate([cospi(half_turns), sinpi(half_turns)], axis=-1).astype(x.dtype)


def _outer(factors: np.ndarray, x: jax.Array) -> Float[Array, "*n fi"]:
    """All products of a factor and a coordinate, on one axis: the factors vary slowest."""
    product = jnp.asarray(factors, x.dtype)[:, None] * x[..., None, :]
    return product.reshape(*x.shape[:-1], len(factors) * x.shape[-1])


def _wide(x: jax.Array) -> jax.Array:
    """x in float32 or wider."""
    # An angle of many periods would be noise after rounding to bfloat16.
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@functools.cache
def _standard_normal(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns))
