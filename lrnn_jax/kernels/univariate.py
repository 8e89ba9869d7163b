"""A learnable function R -> R, the building block of product neurons and of nested activations.

g(z) = sum_h v_h sigma(omega0 (a_h z + c_h)) + d
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.kernels.dense import dot
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
      params: `inner_weight` a and `outer_weight` v, both of shape (h,). Optional: `inner_bias` c,
        shape (h,), and `outer_bias` d, shape (). With `hidden_weight` (t, h, h) and `hidden_bias`
        (t, h), g has t additional hidden layers.
      z: shape ().
      activation: sigma, elementwise.
      omega0: frequency that scales the argument of sigma, including the bias.
    """
    inner = params["inner_weight"] * z + params.get("inner_bias", 0)
    units = activation(omega0 * inner)
    for weight, bias in zip(
        params.get("hidden_weight", ()), params.get("hidden_bias", ()), strict=True
    ):
        units = activation(omega0 * (dot(weight, units) + bias))
    g = jnp.sum(params["outer_weight"] * units)
    return g + params.get("outer_bias", 0)
