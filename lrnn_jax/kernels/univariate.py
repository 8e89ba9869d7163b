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
      params: `inner_weight` a, `inner_bias` c and `outer_weight` v, each of shape (h,);
        `outer_bias`, shape (), if g has one.
      z: shape ().
      activation: sigma, elementwise.
      omega0: frequency that scales the argument of sigma, its bias included.
    """
    hidden = activation(omega0 * (params["inner_weight"] * z + params["inner_bias"]))
    g = jnp.sum(params["outer_weight"] * hidden)
    return g + params["outer_bias"] if "outer_bias" in params else g
