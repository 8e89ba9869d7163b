"""Affine maps and layer normalisation on the last axis."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["affine", "dot", "layer_norm", "product", "stored_in_bfloat16"]


def dot(x: jax.Array, weight: jax.Array, bf16_operands: bool = False) -> jax.Array:
    """x W with full float32 products, unless `jax.default_matmul_precision` is set.

    By default JAX would multiply in one pass of bfloat16 on a TPU and in TF32 on a GPU. Within
    `jax.default_matmul_precision("high")`, or with JAX_DEFAULT_MATMUL_PRECISION=high in the
    environment, a TPU takes three passes of bfloat16 instead of six.

    Args:
      x: shape (..., i).
      weight: shape (i, ...).
      bf16_operands: round the operands to bfloat16, which an accelerator multiplies many times
        faster. The cotangent is rounded too, since it is an operand of the backward products. All
        sums are float32, and the gradients are not rounded again.
    """
    if bf16_operands:
        x, weight = _to_bfloat16(x), _to_bfloat16(weight)
        algorithm = jax.lax.DotAlgorithmPreset.BF16_BF16_F32
        return _with_rounded_cotangent(jnp.tensordot(x, weight, 1, precision=algorithm))
    chosen = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    precision = jax.lax.Precision.HIGHEST if chosen is None else None
    return jnp.tensordot(x, weight, 1, precision=precision)


def product(
    a: jax.Array, b: jax.Array, bf16_operands: bool = False, axes: tuple[int, int] = (1, 0)
) -> jax.Array:
    """The sum of the products of two matrices over an axis of each, inside and outside of kernels.

    The values are those of `dot`. There is no rounding of a cotangent: call it for the products of
    the backward pass, too.
    """
    precision = jax.lax.Precision.DEFAULT if bf16_operands else jax.lax.Precision.HIGHEST
    dtype = jnp.result_type(a, b)
    if bf16_operands:
        a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    dimensions = ((axes[:1], axes[1:]), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision=precision, preferred_element_type=dtype)


def affine(
    x: Float[Array, "*n i"],
    weight: Float[Array, "i o"],
    bias: Float[Array, "o"] | None,
    bf16_operands: bool = False,
) -> Float[Array, "*n o"]:
    """x W + b; `bf16_operands` as in `dot`."""
    y = dot(x, weight, bf16_operands)
    return y if bias is None else y + bias


@jax.custom_jvp
def stored_in_bfloat16(x: jax.Array) -> jax.Array:
    """x in bfloat16; its tangent and cotangent are stored in bfloat16, too.

    The barriers keep the compiler from storing x in its own dtype, with a conversion before each
    use.
    """
    return jax.lax.optimization_barrier(x.astype(jnp.bfloat16))


@stored_in_bfloat16.defjvp
def _stored_in_bfloat16_jvp(primals, tangents):
    return stored_in_bfloat16(*primals), stored_in_bfloat16(*tangents)


@jax.custom_jvp
def _to_bfloat16(x: jax.Array) -> jax.Array:
    """x rounded to the eight significant bits of bfloat16. Keeps the dtype; the derivative is 1."""
    return _rounded(x)


@_to_bfloat16.defjvp
def _to_bfloat16_jvp(primals, tangents):
    return _rounded(primals[0]), tangents[0]


@jax.custom_jvp
def _with_rounded_cotangent(x: jax.Array) -> jax.Array:
    """Identity that rounds the tangent and the cotangent to bfloat16, on every platform."""
    return x


@_with_rounded_cotangent.defjvp
def _with_rounded_cotangent_jvp(primals, tangents):
    return primals[0], _rounded(tangents[0])


def _rounded(x: jax.Array) -> jax.Array:
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def layer_norm(x: Float[Array, "*n r"], epsilon: float) -> Float[Array, "*n r"]:
    """Layer normalisation: (x - mean) / sqrt(var + epsilon) over the last axis, biased variance.

    References: Ba, Kiros and Hinton, "Layer Normalization" (arXiv 1607.06450), eq. 3.
    """
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + epsilon)
