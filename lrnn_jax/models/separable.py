"""Separated representations: sums of products of univariate functions.

    u_o(x) = sum_l prod_a f_{a,l,o}(x_a)                                SPINN: f an MLP per axis
    u_o(x) = sum_l S_{l,o} prod_a F_a[x_a, l] + s_o                     CP: F_a a table
    u_o(x) = sum_{l_1..l_d} G[l_1, ..., l_d, o] prod_a F_a[x_a, l_a]    Tucker

A table is interpolated linearly between its nodes.

Axis letters: n points, a axes of the domain, l rank, o outputs, w width, m nodes of a table.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.checks import require_at_least, require_per_axis
from lrnn_jax.errors import InputError
from lrnn_jax.kernels.activations import activation, in_half_turns
from lrnn_jax.kernels.dense import affine
from lrnn_jax.kernels.initializers import Constant, Normal, fan_in_limit, linear
from lrnn_jax.kernels.product import pairwise_product
from lrnn_jax.kernels.splines import interpolate
from lrnn_jax.models.network import FieldNetwork, Layer, repeated
from lrnn_jax.typing import Activation, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spinn(FieldNetwork):
    """SPINN's separable network: one MLP per axis with rank * out_dim outputs, then a product.

    Parameters: `{"layer_0": {weight (a, 1, w), bias (a, w)}, ..., "head": {weight (a, w, l o), bias
    (a, l o)}}`; W ~ N(0, 2 / (fan_in + fan_out)), b = 0.

    Args:
      rank: number of terms l of the sum.
      width: neurons of each hidden layer.
      depth: number of hidden layers of the MLP of each axis.
      activation: 'tanh' as in the paper, another name, or any function.
    """

    citation: ClassVar[str] = (
        "Cho, Nam, Yang, Yun, Hong, Park: Separable Physics-Informed Neural Networks. "
        "NeurIPS 2023, arXiv 2306.15969."
    )

    rank: int = 64
    width: int = 64
    depth: int = 2
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "rank", "width", "depth")
        activation(self.activation)

    def plan(self) -> dict[str, Any]:
        """Glorot's normal initialisation, as in the authors' code."""
        widths = (1, *(self.width,) * self.depth, self.rank * self.out_dim)
        names = [*(f"layer_{index}" for index in range(self.depth)), "head"]
        return {
            name: {
                "weight": Normal((self.in_dim, i, o), math.sqrt(2 / (i + o))),
                "bias": Constant((self.in_dim, o), 0.0),
            }
            for name, i, o in zip(names, widths[:-1], widths[1:], strict=True)
        }

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The functions of each coordinate, (*n, a, l o), and the sum of their products."""

        def features(x: jax.Array) -> jax.Array:
            by_axis = jax.vmap(self._axis, in_axes=(0, -1), out_axes=-2)
            return by_axis(params, x[..., None, :])

        def combine(f: jax.Array) -> jax.Array:
            product = pairwise_product([f[..., a, :] for a in range(self.in_dim)])
            return product.reshape(*product.shape[:-1], self.rank, self.out_dim).sum(axis=-2)

        return [features, combine]

    def apply_grid(
        self, params: Params, axes: Sequence[Float[ArrayLike, "m"]]
    ) -> Float[Array, "..."]:
        """u on the tensor grid of `axes`, of shape (m_1, ..., m_d, out_dim).

        The MLPs are evaluated at only m_1 + ... + m_d points.

        Raises:
          InputError: `axes` are not in_dim arrays of one axis, or `params` belong to another model.
        """
        if len(axes) != self.in_dim:
            raise InputError(f"axes: expected {self.in_dim} of them, got {len(axes)}")
        self.require_own(params)
        for points in axes:
            if jnp.ndim(points) != 1:
                raise InputError(f"axes: expected arrays (m,), got shape {jnp.shape(points)}")
        by_axis = [
            self._axis(
                jax.tree.map(lambda leaf, a=a: leaf[a], params), jnp.asarray(points)[:, None]
            )
            for a, points in enumerate(axes)
        ]
        total = by_axis[0]
        for f in by_axis[1:]:
            total = total[..., None, :] * f
        return total.reshape(*total.shape[:-1], self.rank, self.out_dim).sum(axis=-2)

    def _axis(self, params: Params, x: jax.Array) -> jax.Array:
        """The MLP of one axis, applied to (..., 1)."""
        tau, unit = in_half_turns(self.activation)
        for index in range(self.depth):
            layer = params[f"layer_{index}"]
            z = affine(x, layer["weight"], layer["bias"])
            x = tau(z if unit == 1 else z / unit)
        return affine(x, params["head"]["weight"], params["head"]["bias"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TensorNetwork(FieldNetwork):
    """Base class of the decompositions of a tensor on a regular grid of [-1, 1]^in_dim.

    Args:
      resolution: nodes N per axis, >= 2; one number for all axes or one for each axis.
    """

    smoothness: ClassVar[float] = 0  # the factors have a kink at every node

    rank: int | tuple[int, ...] = 32
    resolution: int | tuple[int, ...] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "rank")
        require_at_least(self, 2, "resolution")
        require_per_axis(self, "rank", "resolution")

    @property
    def ranks(self) -> tuple[int, ...]:
        """The rank of each axis."""
        return repeated(self.rank, self.in_dim)

    def _factor_plan(self) -> dict[str, Any]:
        shapes = zip(repeated(self.resolution, self.in_dim), self.ranks, strict=True)
        return {f"factor_{a}": Normal(shape, 1.0) for a, shape in enumerate(shapes)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CPTensor(_TensorNetwork):
    """A CP decomposition of a tensor on a regular grid of [-1, 1]^in_dim.

    Parameters: `{"factor_0": (N_0, l), ..., "head": {weight (l, o), bias (o,)}}`; entries of the
    factors ~ N(0, 1), S and s ~ U(+-1 / sqrt(l)).

    Args:
      rank: number of terms of the sum.
    """

    citation: ClassVar[str] = (
        "Beylkin, Mohlenkamp: Algorithms for Numerical Analysis in High Dimensions. SIAM J. Sci. "
        "Comput. 26, 2005; Hitchcock: The Expression of a Tensor or a Polyadic as a Sum of "
        "Products. J. Math. Phys. 6, 1927."
    )

    rank: int = 32

    def plan(self) -> dict[str, Any]:
        """Factors of variance 1, so that their product also has variance 1."""
        head = linear(self.rank, self.out_dim, fan_in_limit(self.rank))
        return self._factor_plan() | {"head": head}

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The product of the interpolated factors, and the sum over the rank."""
        head = params["head"]
        return [
            lambda x: pairwise_product(_factors(params, x)),
            lambda f: affine(f, head["weight"], head["bias"]),
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuckerTensor(_TensorNetwork):
    """A Tucker decomposition of a tensor on a regular grid of [-1, 1]^in_dim.

    Parameters: `{"factor_0": (N_0, l_0), ..., "core": (l_0, ..., l_{d-1}, o)}`; factors ~ N(0, 1),
    core ~ N(0, 1 / (l_0 ... l_{d-1})).

    Args:
      rank: rank of each axis; one number for all axes or one for each axis.
    """

    citation: ClassVar[str] = (
        "Tucker: Some Mathematical Notes on Three-Mode Factor Analysis. Psychometrika 31, 1966."
    )

    def plan(self) -> dict[str, Any]:
        """Factors of variance 1; the core is scaled so that the field has variance 1."""
        shape = (*self.ranks, self.out_dim)
        core = Normal(shape, 1 / math.sqrt(math.prod(self.ranks)))
        return self._factor_plan() | {"core": core}

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The interpolated factors, contracted with the core axis by axis."""

        def contract(x: jax.Array) -> jax.Array:
            core = params["core"]
            first, *rest = _factors(params, x)
            total = jnp.tensordot(first, core, 1, precision=jax.lax.Precision.HIGHEST)
            for factor in rest:
                expanded = factor.reshape(*factor.shape, *(1,) * (total.ndim - factor.ndim))
                total = jnp.sum(total * expanded, axis=x.ndim - 1)
            return total

        return [contract]


def _factors(params: Params, x: Float[Array, "*n i"]) -> list[Float[Array, "*n l"]]:
    """The interpolated factors: F_a at coordinate a of each point."""
    return [interpolate(params[f"factor_{a}"], x[..., a]) for a in range(x.shape[-1])]
