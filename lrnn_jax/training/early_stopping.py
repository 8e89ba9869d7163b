"""Early stopping: keep the best validated parameters, and stop after `patience` validations."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lrnn_jax.typing import Params


class Best(NamedTuple):
    """The best validation so far and its parameters.

    Attributes:
      params: the parameters; before the first validation, the initial ones.
      value: the validation metric, lower is better.
      step: number of updates at that validation; 0 before the first validation.
      num_bad_validations: number of validations since then, none of which was better.
    """

    params: Params
    value: Float[Array, ""]
    step: Int[Array, ""]
    num_bad_validations: Int[Array, ""]


def initial_best(params: Params) -> Best:
    """Return the `Best` before the first validation, with an infinite metric."""
    value = jnp.asarray(math.inf, float)  # a Python float would be weakly typed
    zero = jnp.zeros((), jnp.int32)
    return Best(jax.tree.map(jnp.copy, params), value, zero, jnp.copy(zero))


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop after `patience` consecutive validations without improvement.

    Args:
      patience: number of consecutive validations without improvement, >= 1.
      every: number of steps between two validations, >= 1.
    """

    patience: int
    every: int

    def is_due(self, step: int) -> bool:
        """Whether to validate after this step."""
        return step % self.every == 0

    def update(self, best: Best, params: Params, step: Int[Array, ""], value: float) -> Best:
        """Record the validation metric `value` after `step` updates and return the new `Best`.

        The result contains a copy of the current parameters if `value` is lower than the best so
        far. Otherwise, also if it is NaN, only `num_bad_validations` is incremented.
        """
        metric = jnp.asarray(value, best.value.dtype)
        if not metric < best.value:  # and not `metric >= best.value`, which is False for NaN
            return best._replace(num_bad_validations=best.num_bad_validations + 1)
        # Copy, because the training loop donates the state that these arrays belong to.
        best_params = jax.tree.map(jnp.copy, params)
        return Best(best_params, metric, jnp.copy(step), jnp.zeros((), jnp.int32))

    def is_exhausted(self, best: Best) -> bool:
        """Whether none of the last `patience` validations was an improvement."""
        return int(best.num_bad_validations) >= self.patience
