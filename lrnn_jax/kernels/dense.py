"""Affine maps and layer normalisation on the last axis."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["affine", "dot", "layer_norm"]


def dot(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x W with full float32 products: no TF32 or bfloat16 passes on an accelerator."""
    return jnp.dot(x, weight, precision=jax.lax.Precision.HIGHEST)


def affine(
    x: Float[Array, "*n i"], weight: Float[Array, "i o"], bias: Float[Array, "o"] | None
) -> Float[Array, "*n o"]:
    """x W + b."""
    y = dot(x, weight)
    return y if bias is None else y + bias


def layer_norm(x: Float[Array, "*n r"], epsilon: float) -> Float[Array, "*n r"]:
    """(x - mean) / sqrt(var + epsilon) over the last axis, with the biased variance.

    References: Ba, Kiros and Hinton, "Layer Normalization" (arXiv 1607.06450), eq. 3.
    """
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + epsilon)
