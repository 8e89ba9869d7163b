"""A learnable function R -> R: one hidden layer, the building block of product neurons.

g(z) = sum_h v_h sigma(omega0 (a_h z + c_h))
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.typing import Params

__all__ = ["univariate"]


def univariate(
    params: Params,
    z: Float[Array, ""],
    activation: Callable[[jax.Array], jax.Array],
    omega0: float,
) -> Float[Array, ""]:
    """g(z) of one scalar.

    Args:
      params: `inner_weight` a and `outer_weight` v of shape (h,); `inner_bias` c, shape (h,), and
        `outer_bias`, shape (), where g has them.
      z: shape ().
      activation: sigma, elementwise.
      omega0: frequency that scales the argument of sigma, its bias included.
    """
    inner = params["inner_weight"] * z + params.get("inner_bias", 0)
    g = jnp.sum(params["outer_weight"] * activation(omega0 * inner))
    return g + params.get("outer_bias", 0)
