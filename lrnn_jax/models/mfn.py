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

import abc
import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.checks import require_positive
from lrnn_jax.kernels.activations import sinpi
from lrnn_jax.kernels.dense import affine, dot
from lrnn_jax.kernels.initializers import Constant, Uniform, fan_in_limit, initialize, linear
from lrnn_jax.models.network import DeepNetwork, Layer
from lrnn_jax.typing import Key, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FilterNetwork(DeepNetwork):
    """Base class of the multiplicative filter networks, with the paper's initialisation.

    Parameters: `{"filter_0": {weight (i, w), bias (w,)}, ..., "layer_1": {weight (w, w), bias},
    ..., "head": {weight (w, o), bias (o,)}}`. U ~ U(+-input_scale / sqrt(i depth)), c ~ U(+-pi),
    W ~ U(+-1 / sqrt(w)), biases of W and the head U(+-1 / sqrt(w)).

    Args:
      depth: number of filters L, >= 1; there are L - 1 multiplications.
      input_scale: frequency scale of all filters combined, > 0; each filter uses input_scale /
        sqrt(depth).
    """

    citation: ClassVar[str] = (
        "Fathony, Sahu, Willmott, Kolter: Multiplicative Filter Networks. ICLR 2021, "
        "openreview.net/forum?id=OmtmcPkkhT."
    )

    depth: int = 4
    input_scale: float = 256.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "input_scale")

    @abc.abstractmethod
    def _filter(self, params: Params, x: Float[Array, "*n i"]) -> Float[Array, "*n w"]:
        """g(x) of one filter."""

    def plan(self) -> dict[str, Any]:
        width, scale = self.width, self.input_scale / math.sqrt(self.depth)
        limit = scale * fan_in_limit(self.in_dim)
        filters = {
            f"filter_{index}": linear(self.in_dim, width, limit, bias=math.pi)
            for index in range(self.depth)
        }
        inner = {
            f"layer_{index}": linear(width, width, fan_in_limit(width))
            for index in range(1, self.depth)
        }
        return filters | inner | {"head": linear(width, self.out_dim, fan_in_limit(width))}

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The first filter, the products with the others, and the linear head."""

        def product(index: int) -> Layer:
            layer, gate = params[f"layer_{index}"], params[f"filter_{index}"]
            return lambda z: affine(z, layer["weight"], layer["bias"]) * self._filter(gate, x)

        head = params["head"]
        return [
            lambda _: self._filter(params["filter_0"], x),
            *map(product, range(1, self.depth)),
            lambda z: affine(z, head["weight"], head["bias"]),
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FourierNet(_FilterNetwork):
    """FourierNet: a multiplicative filter network of sines."""

    def _filter(self, params: Params, x: Float[Array, "*n i"]) -> Float[Array, "*n w"]:
        return _sine(params, x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaborNet(_FilterNetwork):
    """GaborNet: a multiplicative filter network of Gabor functions.

    Parameters: as `FourierNet`, and in each filter `{"centre": (i, w), "precision": (w,)}` for mu
    and gamma. mu ~ U(-1, 1), gamma ~ Gamma(alpha / depth, rate beta); U is multiplied by
    sqrt(gamma).

    Args:
      depth: number of filters L, >= 1; 3 filters of width 256 have 136,963 parameters for 2 -> 3,
        as in the implementation that comes with WIRE.
      input_scale: frequency scale of all filters combined, > 0; WIRE's implementation uses 128 in
        each filter, independent of the depth.
      alpha: shape parameter of the Gamma distribution, all filters combined, > 0.
      beta: rate of the Gamma distribution, > 0.
    """

    alpha: float = 6.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "alpha", "beta")

    def plan(self) -> dict[str, Any]:
        """The paper's initialisation, except for gamma and the factor sqrt(gamma): see `init`."""
        plan = super().plan()
        for index in range(self.depth):
            plan[f"filter_{index}"] |= {
                "centre": Uniform((self.in_dim, self.width), 1.0),
                "precision": Constant((self.width,), 1.0),
            }
        return plan

    def init(self, key: Key) -> Params:
        plan_key, gamma_key = jax.random.split(key)
        params = initialize(plan_key, self.plan())
        shape = (self.depth, self.width)
        gamma = jax.random.gamma(gamma_key, self.alpha / self.depth, shape) / self.beta
        for index in range(self.depth):
            filter_params = params[f"filter_{index}"]
            filter_params["precision"] = gamma[index]
            filter_params["weight"] *= jnp.sqrt(gamma[index])
        return params

    def _filter(self, params: Params, x: Float[Array, "*n i"]) -> Float[Array, "*n w"]:
        return _envelope(params, x) * _sine(params, x)


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
