"""Base class of problems whose data are points x and target values y of the field."""

from typing import Any

import jax
import jax.numpy as jnp

from lrnn_jax.checks import Keywords
from lrnn_jax.typing import Field, Key, Problem, Terms

__all__ = ["Pointwise"]


class Pointwise(Keywords, Problem):
    """Fit `data.y` at the points `data.x`: minimise the mean squared error."""

    def loss(self, field: Field, data: Any, key: Key) -> tuple[jax.Array, Terms]:
        """mean (u(x) - y)^2 over points and channels."""
        del key  # the trainer draws the batch, full or mini
        return jnp.mean((field(jnp.asarray(data.x)) - jnp.asarray(data.y)) ** 2), {}
