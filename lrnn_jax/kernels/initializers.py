"""Uniform initialisers, each for one unit; stacks of units are drawn by `jax.vmap` over keys.

An initialiser that is called on a stacked shape takes the leading axes for a receptive field and
draws a variance that is too small by their product, so none here is given one.
"""

import math

import jax
from jaxtyping import Array, Float

from lrnn_jax.typing import Key

__all__ = ["fan_in_limit", "siren_limit", "stacked", "uniform"]


def uniform(key: Key, shape: tuple[int, ...], limit: float) -> Float[Array, "..."]:
    """U(-limit, limit) in JAX's default float dtype."""
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)


def fan_in_limit(fan_in: int) -> float:
    """1 / sqrt(fan_in): PyTorch's default limit for the weight and bias of a linear layer."""
    return 1 / math.sqrt(fan_in)


def siren_limit(fan_in: int, omega0: float, first: bool) -> float:
    """SIREN's limit: 1 / fan_in in the first layer, sqrt(6 / fan_in) / omega0 in the others.

    References: Sitzmann et al., "Implicit Neural Representations with Periodic Activation
    Functions", NeurIPS 2020 (arXiv 2006.09661), section 3.2 and supplement 1.
    """
    return 1 / fan_in if first else math.sqrt(6 / fan_in) / omega0


def stacked(init, key: Key, count: int):
    """`count` independent draws of `init(key)`, stacked along a new last axis of every leaf."""
    return jax.vmap(init, out_axes=-1)(jax.random.split(key, count))
