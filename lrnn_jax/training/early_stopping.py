"""Early stopping: keep the parameters of the best validation, stop when it no longer improves."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lrnn_jax.typing import Params

__all__ = ["Best", "EarlyStopping", "initial_best"]


class Best(NamedTuple):
    """The parameters of the best validation.

    Attributes:
      params: the parameters; before the first validation those of the start.
      value: the validation metric, lower is better.
      step: number of updates at that validation; 0 before the first.
      num_bad_validations: validations after it, none of which was better.
    """

    params: Params
    value: Float[Array, ""]
    step: Int[Array, ""]
    num_bad_validations: Int[Array, ""]


def initial_best(params: Params) -> Best:
    """The best before the first validation: its metric is infinite."""
    value = jnp.asarray(math.inf, float)  # a Python float would be weakly typed
    zero = jnp.zeros((), jnp.int32)
    return Best(jax.tree.map(jnp.copy, params), value, zero, jnp.copy(zero))


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop after `patience` validations in a row without improvement.

    Args:
      patience: number of validations without improvement, >= 1.
      every: number of steps between two validations, >= 1.
    """

    patience: int
    every: int

    def is_due(self, step: int) -> bool:
        """Whether a validation follows this step."""
        return step % self.every == 0

    def update(self, best: Best, params: Params, step: Int[Array, ""], value: float) -> Best:
        """Records a validation.

        Args:
          best: the best validation so far.
          params: the current parameters, copied if they are better.
          step: number of updates.
          value: validation metric, lower is better; NaN is no improvement.
        """
        metric = jnp.asarray(value, best.value.dtype)
        if not metric < best.value:
            return best._replace(num_bad_validations=best.num_bad_validations + 1)
        # Copies: the training loop reuses the memory of the state that these belong to.
        kept = jax.tree.map(jnp.copy, params)
        return Best(kept, metric, jnp.copy(step), jnp.zeros((), jnp.int32))

    def is_exhausted(self, best: Best) -> bool:
        """Whether the last `patience` validations brought no improvement."""
        return int(best.num_bad_validations) >= self.patience
