"""Values of a fitted model at any number of points, in bounded memory."""

import functools

import jax
import numpy as np
from jaxtyping import ArrayLike, Float

from lrnn_jax.typing import Field, Model, Params

__all__ = ["host_field"]


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: Model, params: Params, x: jax.Array) -> jax.Array:
    return model.apply(params, x)


def host_field(model: Model, params: Params, chunk: int = 4096) -> Field:
    """u(x) evaluated `chunk` points at a time, gathered on the host.

    Args:
      model: the model.
      params: its parameters.
      chunk: points at a time, >= 1.

    Returns:
      A field that takes (..., in_dim) and returns a NumPy array (..., out_dim). It is compiled
      once: the last chunk is padded.
    """

    def field(x: Float[ArrayLike, "*n i"]) -> Float[np.ndarray, "*n o"]:
        points = np.asarray(x)
        flat = points.reshape(-1, points.shape[-1])
        size = min(chunk, max(len(flat), 1))
        values = []
        for start in range(0, len(flat), size):
            part = flat[start : start + size]
            padded = np.pad(part, ((0, size - len(part)), (0, 0)))
            values.append(np.asarray(_apply(model, params, padded))[: len(part)])
        return np.concatenate(values).reshape(*points.shape[:-1], -1)

    return field  # pyright: ignore[reportReturnType]
