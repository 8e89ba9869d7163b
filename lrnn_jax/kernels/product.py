"""Products over components; their gradient needs no logarithm, and is exact where factors are 0."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

__all__ = ["PRODUCTS", "exclusive_products", "pairwise_product", "reduced_product"]

PRODUCTS = "products"
"""The name, for a policy of `jax.checkpoint`, of what `reduced_product` stores for its gradient."""


def pairwise_product(factors: Sequence[jax.Array]) -> jax.Array:
    """The elementwise product of `factors`, multiplied as a binary tree.

    Automatic differentiation of the tree multiplies each cotangent by partial products that the
    forward pass has already formed. So the derivatives are exact where factors are 0, to any order,
    in forward and reverse mode. On a CPU the gradient is 3 to 5 times faster than that of
    `jnp.prod`.

    Raises:
      ValueError: `factors` is empty.
    """
    if not factors:
        raise ValueError("a product needs at least one factor")
    level = list(factors)
    while len(level) > 1:
        paired = [a * b for a, b in zip(level[0::2], level[1::2], strict=False)]
        level = paired + ([level[-1]] if len(level) % 2 else [])
    return level[0]


def exclusive_products(factors: Sequence[jax.Array]) -> list[jax.Array]:
    """For each factor the product of all others: the products before it times those after it."""
    before, after = [jnp.ones_like(factors[0])], [jnp.ones_like(factors[0])]
    for first, last in zip(factors[:-1], factors[:0:-1], strict=True):
        before.append(before[-1] * first)
        after.append(after[-1] * last)
    return [a * b for a, b in zip(before, reversed(after), strict=True)]


@jax.custom_jvp
def reduced_product(factors: Float[Array, "*n k r"]) -> Float[Array, "*n r"]:
    """The product over the second last axis, in one pass over the memory.

    Its gradient is elementwise, d phi / d f_k = phi / f_k, so it stores only phi, and copies no
    slice of the factors. A factor that is 0 is replaced by sqrt(tiny), 1e-19 in float32: far less
    than the rounding error of a sum that gives 0, and large enough for the quotient. So values and
    gradients are those of the product up to 1e-19 times the product of the other factors. Higher
    derivatives are those of `exclusive_products`. All work in forward and reverse mode.

    Args:
      factors: of a dtype with the range of float32 or a larger one: not float16.
    """
    return jnp.prod(_nonzero(factors), axis=-2)


@reduced_product.defjvp
def _reduced_product_jvp(primals, tangents):
    product = checkpoint_name(reduced_product(*primals), PRODUCTS)
    return product, jnp.sum(_others(*primals, product) * tangents[0], axis=-2)


@jax.custom_jvp
def _others(factors: Float[Array, "*n k r"], product: Float[Array, "*n r"]) -> jax.Array:
    """prod_{j != k} f_j for each k, from the product of all factors."""
    return product[..., None, :] / _nonzero(factors)


@_others.defjvp
def _others_jvp(primals, tangents):
    """The derivative of the products themselves: `product` is a function of the factors."""

    def exact(factors: jax.Array) -> jax.Array:
        slices = [factors[..., k, :] for k in range(factors.shape[-2])]
        return jnp.stack(exclusive_products(slices), axis=-2)

    return _others(*primals), jax.jvp(exact, primals[:1], tangents[:1])[1]


def _nonzero(factors: jax.Array) -> jax.Array:
    return jnp.where(factors == 0, np.sqrt(jnp.finfo(factors.dtype).tiny), factors)
