"""An interpolated grid of values: a baseline without a network, often strong at equal size."""

import dataclasses
import itertools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.checks import require_at_least, require_per_axis
from lrnn_jax.kernels.initializers import Uniform
from lrnn_jax.models.network import FieldNetwork, Layer, repeated
from lrnn_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid(FieldNetwork):
    """Multilinear interpolation of values at the nodes of a regular grid on [-1, 1]^in_dim.

    Parameters: `{"values": (N_1, ..., N_d, o)}` ~ U(+-1e-4). The first and the last node of an axis
    are -1 and 1; the field is constant outside. A 2-D grid with 443 nodes per axis has 196,249
    parameters for one channel.

    Args:
      resolution: nodes N per axis, >= 2; one number for all axes or one for each axis.
    """

    citation: ClassVar[str] = (
        "Kim, Fridovich-Keil: Grids Often Outperform Implicit Neural Representations. "
        "arXiv 2506.11139, 2025."
    )

    smoothness: ClassVar[float] = 0  # the interpolation has a kink at every node

    resolution: int | tuple[int, ...] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 2, "resolution")
        require_per_axis(self, "resolution")

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of nodes of each axis."""
        return repeated(self.resolution, self.in_dim)

    def plan(self) -> dict[str, Any]:
        """Values near 0; a node that no training point affects keeps its initial value."""
        return {"values": Uniform((*self.shape, self.out_dim), 1e-4)}

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        return [lambda x: _multilinear(params["values"], x)]


def _multilinear(values: Float[Array, "..."], x: Float[Array, "*n i"]) -> Float[Array, "*n o"]:
    """The weighted sum of the values at the 2^i corners of the cell of each point."""
    last = jnp.array(values.shape[:-1]) - 1
    size = last.astype(x.dtype)
    place = jnp.clip((x + 1) * (0.5 * size), 0, size)
    left = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)).astype(jnp.int32), 0, last - 1)
    share = place - left.astype(x.dtype)
    total = jnp.zeros((*x.shape[:-1], values.shape[-1]), x.dtype)
    for corner in itertools.product((0, 1), repeat=x.shape[-1]):
        side = jnp.array(corner)
        index = tuple(jnp.moveaxis(left + side, -1, 0))
        weight = jnp.prod(jnp.where(side == 1, share, 1 - share), axis=-1, keepdims=True)
        total = total + values[index] * weight
    return total
