"""Fields: a model bound to its parameters, and its evaluation on the host."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.errors import InputError
from lrnn_jax.typing import Field, ModelLike, Params

__all__ = ["BoundModel", "precision_of", "predict"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class BoundModel:
    """The field u(x) = model.apply(params, x).

    It can be differentiated, mapped and compiled like any JAX function. It is a pytree whose leaves
    are the parameters, so a compiled function can take it as an argument.

    Args:
      model: any hashable object with `init` and `apply`.
      params: its parameters.

    Example:
      >>> from lrnn_jax import Siren
      >>> model = Siren(in_dim=2, out_dim=1, width=4)
      >>> field = BoundModel(model, model.init(jax.random.key(0)))
      >>> predict(field, np.zeros((5, 2))).shape
      (5, 1)
    """

    model: ModelLike = dataclasses.field(metadata={"static": True})
    params: Params

    def __call__(self, x: Float[ArrayLike, "*batch i"]) -> Float[Array, "*batch o"]:
        """u(x) for a point (in_dim,) or any batch of points (..., in_dim).

        Outside JAX transformations, a field with float64 parameters is computed in float64, even if
        64-bit types are disabled in JAX.
        """
        with contextlib.nullcontext() if isinstance(x, Tracer) else precision_of(self):
            return self.model.apply(self.params, x)


def predict(
    field: Field, x: Float[ArrayLike, "*batch i"], chunk: int = 4096
) -> Float[np.ndarray, "*batch o"]:
    """Evaluate a field at any number of points in bounded memory; returns a NumPy array.

    A field that is a pytree, such as a `BoundModel` or a `jax.tree_util.Partial`, is compiled once
    for all fields with the same structure. Other callables are called without compilation. A field
    with float64 parameters is computed in float64, even if 64-bit types are disabled in JAX.

    Args:
      field: u: (..., in_dim) -> (..., out_dim).
      x: the points, shape (..., in_dim); the number of points may be 0.
      chunk: number of points that are evaluated at a time, >= 1.

    Raises:
      InputError: chunk is below 1.
    """
    if chunk < 1:
        raise InputError(f"chunk: expected an integer >= 1, got {chunk}")
    points = np.asarray(x)
    flat = points.reshape(-1, points.shape[-1])
    size = min(chunk, max(len(flat), 1))
    leaves = jax.tree.leaves(field)
    is_pytree = bool(leaves) and all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
    function: Callable[[Any], Any] = (lambda part: _call(field, part)) if is_pytree else field
    values = []
    with precision_of(field):
        for start in range(0, max(len(flat), 1), size):
            part = flat[start : start + size]
            # Pad the last chunk: a chunk of another size would be compiled separately.
            padded = np.pad(part, ((0, size - len(part)), (0, 0)))
            values.append(np.asarray(function(padded))[: len(part)])
    return np.concatenate(values).reshape(*points.shape[:-1], values[0].shape[-1])


@jax.jit
def _call(field: Any, x: jax.Array) -> jax.Array:
    return field(x)


def precision_of(field: Field) -> contextlib.AbstractContextManager:
    """A context manager that enables 64-bit types if the field has float64 parameters."""
    double = any(getattr(leaf, "dtype", None) == np.float64 for leaf in jax.tree.leaves(field))
    return jax.enable_x64(True) if double else contextlib.nullcontext()
