"""Losses that are sums of squared residuals, defined by their parts.

    loss = sum_parts weight mean_rows scale residual(u)(row)^2

A trainer uses the parts to compute them in chunks, to balance their weights, and to form the
Jacobian that Gauss-Newton methods need. `sum_of_parts` returns the same loss as one scalar.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lrnn_jax.typing import Field, Terms

__all__ = ["Part", "residual_rows", "row_scales", "sum_of_parts"]

Row = Any
"""One row of a pytree of arrays, e.g. a point of shape (d,), or a point and its measured value."""


class Part(NamedTuple):
    """One part of a loss: weight * mean over rows of scale * residual(u)(row)^2.

    Attributes:
      rows: a pytree of arrays with a common first axis, (n, ...): points and their data.
      residual: residual(u)(row) -> array of shape () or (k,). The mean includes the k entries.
      weight: factor of the part, >= 0.
      scale: scale(residuals, rows) -> factors of the rows, (n,), for residuals of shape (n, k).
        Derivatives treat the factors as constants. Causal weights in time are such factors. None
        sets all factors to 1.
    """

    rows: Any
    residual: Callable[[Field], Callable[[Row], Float[Array, "..."]]]
    weight: float = 1.0
    scale: Callable[[Float[Array, "n k"], Any], Float[Array, "n"]] | None = None


def residual_rows(part: Part, field: Field, rows: Any = None) -> Float[Array, "n k"]:
    """Return the residuals of a part, shape (n, k).

    Args:
      part: the part.
      field: the field u.
      rows: rows at which to compute the residuals; None uses those of the part.
    """
    values = jax.vmap(part.residual(field))(part.rows if rows is None else rows)
    return values.reshape(values.shape[0], -1)


def row_scales(part: Part, field: Field) -> Float[Array, "n"]:
    """Return the factors of a part's rows, as constants of the differentiation."""
    if part.scale is None:
        return jnp.ones(jax.tree.leaves(part.rows)[0].shape[0])
    return lax.stop_gradient(part.scale(residual_rows(part, field), part.rows))


def sum_of_parts(parts: Mapping[str, Part], field: Field) -> tuple[Float[Array, ""], Terms]:
    """Return the loss, and the mean square of each part without its weight."""
    terms = {
        name: jnp.mean(row_scales(part, field)[:, None] * residual_rows(part, field) ** 2)
        for name, part in parts.items()
    }
    return sum((parts[name].weight * terms[name] for name in parts), jnp.zeros(())), terms
