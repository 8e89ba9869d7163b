"""What every problem shares whose data are points, and the values of the field there."""

from typing import Any

import jax
import jax.numpy as jnp

from lrnn_jax.typing import Field, Key, Problem, Terms

__all__ = ["Pointwise"]


class Pointwise(Problem):
    """Fit `data.y` at `data.x` in the mean square."""

    def loss(self, field: Field, data: Any, key: Key) -> tuple[jax.Array, Terms]:
        """mean (u(x) - y)^2 over points and channels."""
        del key  # full batches and mini-batches alike are drawn by the trainer
        return jnp.mean((field(jnp.asarray(data.x)) - jnp.asarray(data.y)) ** 2), {}
