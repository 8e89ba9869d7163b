"""Where fields live: grids of points."""

import numpy as np
from jaxtyping import Float

from lrnn_jax.errors import InputError

__all__ = ["grid"]


def grid(
    shape: tuple[int, ...], low: float = -1.0, high: float = 1.0
) -> Float[np.ndarray, "*shape d"]:
    """The centres of `shape` equal cells of the box [low, high]^d, in float32.

    Along an axis of n cells: x_i = low + (i + 1/2) (high - low) / n. Grids of different sizes so
    cover the same box, which is what rendering at another resolution needs, and no two ends meet.

    Args:
      shape: cells along each axis, each >= 1; the last axis of the result follows its order.
      low: lower end of every axis.
      high: upper end of every axis.

    Returns:
      Points, shape (*shape, len(shape)).

    Raises:
      InputError: an axis has no cell, or the box is empty.

    Example:
      >>> grid((2, 1))
      array([[[-0.5,  0. ]],
      <BLANKLINE>
             [[ 0.5,  0. ]]], dtype=float32)
    """
    if not shape or min(shape) < 1:
        raise InputError(f"shape: expected one cell or more along each axis, got {shape}")
    if not low < high:
        raise InputError(f"low, high: expected low < high, got {low} and {high}")
    axes = [low + (np.arange(n) + 0.5) * ((high - low) / n) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)
