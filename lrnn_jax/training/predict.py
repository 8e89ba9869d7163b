"""Values of a fitted model at any number of points, in bounded memory."""

import contextlib
import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike, Float

from lrnn_jax.typing import Field, Model, Params

__all__ = ["HostField"]


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: Model, params: Params, x: jax.Array) -> jax.Array:
    return model.apply(params, x)


@dataclasses.dataclass(frozen=True, eq=False)
class HostField:
    """u(x) evaluated `chunk` points at a time, gathered on the host.

    Called with (..., in_dim) it returns a NumPy array (..., out_dim). It is compiled once: the last
    chunk is padded.

    Args:
      model: the model.
      params: its parameters.
      chunk: points at a time, >= 1.
    """

    model: Model
    params: Params
    chunk: int = 4096

    @property
    def traced(self) -> Field:
        """The field as a function of JAX, which can be differentiated."""
        return functools.partial(self.model.apply, self.params)

    @property
    def double(self) -> bool:
        """Whether the parameters, and so the values, have double precision."""
        return any(leaf.dtype == np.float64 for leaf in jax.tree.leaves(self.params))

    def __call__(self, x: Float[ArrayLike, "*n i"]) -> Any:
        """The values at `x`: a NumPy array in the precision of the parameters.

        Under a transformation of JAX, such as a derivative, it is `traced`, in JAX's precision.
        """
        if isinstance(x, Tracer):
            return self.traced(x)
        with jax.enable_x64(True) if self.double else contextlib.nullcontext():
            return self._values(x)

    def _values(self, x: Float[ArrayLike, "*n i"]) -> Float[np.ndarray, "*n o"]:
        points = np.asarray(x)
        flat = points.reshape(-1, points.shape[-1])
        size = min(self.chunk, max(len(flat), 1))
        values = []
        for start in range(0, len(flat), size):
            part = flat[start : start + size]
            padded = np.pad(part, ((0, size - len(part)), (0, 0)))
            values.append(np.asarray(_apply(self.model, self.params, padded))[: len(part)])
        return np.concatenate(values).reshape(*points.shape[:-1], -1)
