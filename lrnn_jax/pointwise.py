"""Base class of problems whose data are points x and target values y of the field."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import Keywords
from lrnn_jax.typing import Field, Key, Problem, Terms

__all__ = ["Points", "Pointwise", "constant_field"]


class Points(NamedTuple):
    """Points and target values.

    Attributes:
      x: points.
      y: the values of the field there.
    """

    x: Float[ArrayLike, "n i"]
    y: Float[ArrayLike, "n o"]


class Pointwise(Keywords, Problem):
    """Fit `data.y` at the points `data.x`: minimise the mean squared error."""

    loss_fields: ClassVar[tuple[str, ...] | None] = ()

    def loss_data(self, data: Any) -> Points:
        """`data.x` and `data.y`."""
        return Points(data.x, data.y)

    def loss(self, field: Field, data: Any, key: Key) -> tuple[jax.Array, Terms]:
        """mean (u(x) - y)^2 over points and channels."""
        del key  # the trainer draws the batch, full or mini
        return jnp.mean((field(jnp.asarray(data.x)) - jnp.asarray(data.y)) ** 2), {}

    def trivial_scores(self, data: Any = None) -> dict[str, float]:
        """The main score of the mean of `data.y`."""
        name, data = self.main_score, self.loaded(data)
        return {} if name is None else {name: self.evaluate(constant_field(data.y), data)[name]}


def constant_field(y: Any) -> Any:
    """The field that is the mean over all but the last axis of `y` everywhere."""
    values = np.asarray(y)
    mean = np.mean(values.reshape(-1, values.shape[-1]), axis=0)
    # NumPy, because JAX would compile the field anew for each mean.
    return lambda x: np.broadcast_to(mean, (*np.shape(x)[:-1], *mean.shape))
