"""Multiplicative filter networks: products of sinusoidal or Gabor filters, without composition.

    z^(1) = g^(1)(x),  z^(i+1) = (W^(i) z^(i) + b^(i)) * g^(i+1)(x),  y = W z^(L) + b
    g(x) = sin(U x + c)                                                    FourierNet
    g(x) = exp(-gamma / 2 |x - mu|^2) sin(U x + c)                         GaborNet

y is exactly a linear combination of sinusoids (Gabor functions) of x. The implementation follows
the paper.

Axis letters: n points, i inputs, o outputs, w width.

References: Fathony, Sahu, Willmott and Kolter, "Multiplicative Filter Networks", ICLR 2021,
equations 3, 5 and 8 and section 3.4.
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.checks import require_at_least, require_positive
from lrnn_jax.kernels.activations import sinpi
from lrnn_jax.kernels.dense import affine, dot
from lrnn_jax.kernels.initializers import Constant, Uniform, fan_in_limit, initialize, linear
from lrnn_jax.models.network import Layer, Network
from lrnn_jax.typing import Key, Params

__all__ = ["FourierNet", "GaborNet"]

_CITATION = (
    "Fathony, Sahu, Willmott, Kolter: Multiplicative Filter Networks. ICLR 2021, "
    "openreview.net/forum?id=OmtmcPkkhT."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FourierNet(Network):
    """FourierNet: a multiplicative filter network of sines.

    Parameters: `{"filter_0": {weight (i, w), bias (w,)}, ..., "layer_1": {weight (w, w), bias},
    ..., "head": {weight (w, o), bias (o,)}}`. U ~ U(+-input_scale / sqrt(i depth)), c ~ U(+-pi),
    W ~ U(+-1 / sqrt(w)), biases of W and the head U(+-1 / sqrt(w)).

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each layer.
      depth: number of filters L, >= 1; there are L - 1 multiplications.
      input_scale: frequency scale of all filters combined, > 0; each filter uses input_scale /
        sqrt(depth).

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = _CITATION

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 4
    input_scale: float = 256.0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "in_dim", "out_dim", "width", "depth")
        require_positive(self, "input_scale")

    def plan(self) -> dict[str, Any]:
        """The paper's initialisation."""
        return _plan(self)

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The first filter, the products with the others, and the linear head."""
        return _layers(self, params, x, lambda own: _sine(own, x))


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaborNet(Network):
    """GaborNet: a multiplicative filter network of Gabor functions.

    Parameters: as `FourierNet`, and in each filter `{"centre": (i, w), "precision": (w,)}` for mu
    and gamma. mu ~ U(-1, 1), gamma ~ Gamma(alpha / depth, rate beta); U is multiplied by
    sqrt(gamma).

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each layer.
      depth: number of filters L, >= 1; 3 filters of width 256 have 136,963 parameters for 2 -> 3,
        as in the implementation that comes with WIRE.
      input_scale: frequency scale of all filters combined, > 0; WIRE's implementation uses 128 in
        each filter, independent of the depth.
      alpha: shape parameter of the Gamma distribution, all filters combined, > 0.
      beta: rate of the Gamma distribution, > 0.

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = _CITATION

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 4
    input_scale: float = 256.0
    alpha: float = 6.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "in_dim", "out_dim", "width", "depth")
        require_positive(self, "input_scale", "alpha", "beta")

    def plan(self) -> dict[str, Any]:
        """The paper's initialisation, except for gamma and the factor sqrt(gamma): see `init`."""
        plan = _plan(self)
        for index in range(self.depth):
            plan[f"filter_{index}"] |= {
                "centre": Uniform((self.in_dim, self.width), 1.0),
                "precision": Constant((self.width,), 1.0),
            }
        return plan

    def init(self, key: Key) -> Params:
        """Draw the parameters with `key`, in JAX's default float dtype."""
        plan_key, gamma_key = jax.random.split(key)
        params = initialize(plan_key, self.plan())
        shape = (self.depth, self.width)
        gamma = jax.random.gamma(gamma_key, self.alpha / self.depth, shape) / self.beta
        for index in range(self.depth):
            own = params[f"filter_{index}"]
            own["precision"] = gamma[index]
            own["weight"] = own["weight"] * jnp.sqrt(gamma[index])
        return params

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The first filter, the products with the others, and the linear head."""
        return _layers(self, params, x, lambda own: _envelope(own, x) * _sine(own, x))


def _layers(model: FourierNet | GaborNet, params: Params, x: jax.Array, filtered: Any) -> list:
    def first(_: jax.Array) -> jax.Array:
        return filtered(params["filter_0"])

    def product(index: int) -> Layer:
        own, gate = params[f"layer_{index}"], params[f"filter_{index}"]
        return lambda z: affine(z, own["weight"], own["bias"]) * filtered(gate)

    def head(z: jax.Array) -> jax.Array:
        return affine(z, params["head"]["weight"], params["head"]["bias"])

    return [first, *map(product, range(1, model.depth)), head]


def _sine(params: Params, x: Float[Array, "*n i"]) -> Float[Array, "*n w"]:
    # `sinpi` takes half turns: divide the parameters by pi, which is cheaper than at every point.
    return sinpi(affine(x, params["weight"] / math.pi, params["bias"] / math.pi))


def _envelope(params: Params, x: Float[Array, "*n i"]) -> Float[Array, "*n w"]:
    """exp(-gamma / 2 |x - mu|^2)."""
    # Expand the square: |x|^2 + |mu|^2 - 2 x . mu needs no (n, i, w) array.
    centre = params["centre"]
    squares = jnp.sum(x * x, axis=-1, keepdims=True) + jnp.sum(centre * centre, axis=0)
    distance = squares - 2 * dot(x, centre)
    return jnp.exp(-0.5 * params["precision"] * distance)


def _plan(model: FourierNet | GaborNet) -> dict[str, Any]:
    width, scale = model.width, model.input_scale / math.sqrt(model.depth)
    limit = scale * fan_in_limit(model.in_dim)
    filters = {
        f"filter_{index}": linear(model.in_dim, width, limit, bias=math.pi)
        for index in range(model.depth)
    }
    inner = {
        f"layer_{index}": linear(width, width, fan_in_limit(width))
        for index in range(1, model.depth)
    }
    return filters | inner | {"head": linear(width, model.out_dim, fan_in_limit(width))}
