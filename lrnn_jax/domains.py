"""Domains: grids of points, boxes, and random points in them."""

import dataclasses
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.errors import InputError
from lrnn_jax.typing import Key

__all__ = ["Box", "Sampler", "grid", "in_precision", "sample_box", "sample_faces"]

Sampler = Literal["uniform", "latin_hypercube", "sobol"]
"""Sampling method; see `sample_box`."""

Face = tuple[int, int]
"""(axis, side) of a box: side 0 is at its low end, 1 at its high end."""


def grid(
    shape: tuple[int, ...], low: float = -1.0, high: float = 1.0
) -> Float[np.ndarray, "*shape d"]:
    """The centres of `shape` equal cells of the box [low, high]^d.

    Along an axis of n cells: x_i = low + (i + 1/2) (high - low) / n. Grids of different sizes
    therefore cover the same box, which is required to render a field at another resolution.

    Args:
      shape: number of cells along each axis, each >= 1; coordinates in the result have this order.
      low: lower end of every axis.
      high: upper end of every axis.

    Returns:
      Points of shape (*shape, len(shape)), in JAX's precision (see `in_precision`).

    Raises:
      InputError: an axis has no cells, or the box is empty.

    Example:
      >>> grid((2, 1)).tolist()
      [[[-0.5, 0.0]], [[0.5, 0.0]]]
    """
    if not shape or min(shape) < 1:
        raise InputError(f"shape: expected one cell or more along each axis, got {shape}")
    if not low < high:
        raise InputError(f"low, high: expected low < high, got {low} and {high}")
    axes = [low + (np.arange(n) + 0.5) * ((high - low) / n) for n in shape]
    return in_precision(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))


def in_precision(values: ArrayLike) -> np.ndarray:
    """The values in JAX's default precision: float32, or float64 if `jax.enable_x64` is on."""
    return np.asarray(values, dtypes.canonicalize_dtype(np.float64))


@dataclasses.dataclass(frozen=True)
class Box:
    """The box low_1 < x_1 < high_1, ..., of positive volume.

    Args:
      low: lower end of each axis.
      high: upper end of each axis.

    Raises:
      InputError: an axis is empty or not finite, or `low` and `high` have different lengths.

    Example:
      >>> Box((0, 0), (2, 1)).volume
      2.0
    """

    low: tuple[float | int, ...]
    high: tuple[float | int, ...]

    def __post_init__(self) -> None:
        ends = (self.low, self.high)
        if not all(isinstance(end, (tuple, list)) for end in ends):
            raise InputError(f"box: expected tuples of lower and of upper ends, got {ends}")
        try:
            low, high = (tuple(map(float, end)) for end in ends)
        except (OverflowError, TypeError, ValueError) as error:
            raise InputError(f"box: expected numbers as ends, got {ends}") from error
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        if not low or len(low) != len(high):
            raise InputError(
                f"box: expected as many lower as upper ends, got {len(low)} and {len(high)}"
            )
        for axis, (a, b) in enumerate(zip(low, high, strict=True)):
            if not (math.isfinite(a) and math.isfinite(b) and a < b):
                raise InputError(
                    f"box: axis {axis} has no length: expected finite low < high, got {a} and {b}"
                )

    @property
    def dim(self) -> int:
        """The number of axes d."""
        return len(self.low)

    @property
    def volume(self) -> float:
        """The product of the sides."""
        return math.prod(b - a for a, b in zip(self.low, self.high, strict=True))

    @property
    def faces(self) -> tuple[Face, ...]:
        """All 2 d faces as (axis, side)."""
        return tuple((axis, side) for axis in range(self.dim) for side in (0, 1))

    def contains(self, x: Float[ArrayLike, "*n d"]) -> np.ndarray:
        """True for points in the closed box, with a tolerance of 1e-6 times the side lengths."""
        low, high = np.array(self.low), np.array(self.high)
        slack, x = 1e-6 * (high - low), np.asarray(x)
        if x.shape[-1:] != (self.dim,):
            raise InputError(f"x: expected points of shape (..., {self.dim}), got {x.shape}")
        return np.all((x >= low - slack) & (x <= high + slack), axis=-1)

    def mesh(self, counts: tuple[int, ...], closed: tuple[bool, ...] | None = None) -> np.ndarray:
        """A tensor grid in float64, shape (prod counts, d); the first axis varies slowest.

        Arguments and errors are those of `axes`.
        """
        grid = np.meshgrid(*self.axes(counts, closed), indexing="ij")
        return np.stack(grid, axis=-1).reshape(-1, self.dim)

    def axes(
        self, counts: tuple[int, ...], closed: tuple[bool, ...] | None = None
    ) -> list[np.ndarray]:
        """The coordinates of a tensor grid along each axis, in float64.

        Args:
          counts: number of points along each axis.
          closed: whether the grid includes the upper end of each axis; None: it includes all. Use
            False for a periodic axis, whose two ends are the same point.

        Raises:
          InputError: another number of counts or of flags than axes, or a count below 1.
        """
        ends = (True,) * self.dim if closed is None else closed
        if not len(counts) == len(ends) == self.dim or min(counts) < 1:
            raise InputError(
                f"counts, closed: expected {self.dim} numbers >= 1 and as many flags, got "
                f"{counts} and {closed}"
            )
        return [
            np.linspace(a, b, n, endpoint=end)
            for a, b, n, end in zip(self.low, self.high, counts, ends, strict=True)
        ]


def sample_box(box: Box, key: Key, n: int, sampler: Sampler = "uniform") -> Float[Array, "n d"]:
    """Draws n points in a box, in JAX's default precision.

    The function is pure, so it can be used inside a jitted training step.

    Args:
      box: the box.
      key: random key.
      n: number of points, >= 1.
      sampler: 'uniform', independent points; 'latin_hypercube', one point in each of n slabs along
        every axis; 'sobol', the first n points of the Sobol sequence, all shifted by one random
        vector modulo 1 (Cranley and Patterson 1976), so that draws differ but are equally uniform.

    Raises:
      InputError: n < 1, or the sampler is unknown.
    """
    if n < 1:
        raise InputError(f"points: expected an integer >= 1, got {n}")
    shape = (n, box.dim)
    if sampler == "uniform":
        unit = jax.random.uniform(key, shape)
    elif sampler == "latin_hypercube":
        order_key, place_key = jax.random.split(key)
        orders = jax.vmap(lambda k: jax.random.permutation(k, n))(
            jax.random.split(order_key, box.dim)
        )
        unit = (orders.T + jax.random.uniform(place_key, shape)) / n
    elif sampler == "sobol":
        from scipy.stats import qmc  # the import takes half a second

        power = max(0, math.ceil(math.log2(n)))
        sequence = qmc.Sobol(box.dim, scramble=False).random_base2(power)[:n]
        unit = (jnp.asarray(sequence, float) + jax.random.uniform(key, (box.dim,))) % 1.0
    else:
        known = ", ".join(map(repr, get_args(Sampler)))
        raise InputError(f"sampler: expected one of {known}, got {sampler!r}")
    low, high = jnp.array(box.low), jnp.array(box.high)
    return low + unit * (high - low)


def sample_faces(
    box: Box, key: Key, n: int, faces: tuple[Face, ...], sampler: Sampler = "uniform"
) -> Float[Array, "n d"]:
    """Draws n points on faces of a box.

    The points cycle through the faces, and each face has an independent draw.

    Raises:
      InputError: there are fewer points than faces.
    """
    if n < len(faces):
        raise InputError(f"boundary_points: expected one for each of {len(faces)} faces, got {n}")
    points = jnp.zeros((n, box.dim))
    for turn, (axis, side) in enumerate(faces):
        own = sample_box(
            box, jax.random.fold_in(key, turn), len(range(turn, n, len(faces))), sampler
        )
        end = (box.low, box.high)[side][axis]
        points = points.at[turn :: len(faces)].set(own.at[:, axis].set(end))
    return points
