"""Losses that are sums of squared residuals, part by part and row by row.

    loss = sum_parts weight mean_rows scale residual(u)(row)^2

A trainer that sees the parts can chunk them, balance them, and form the Jacobian that Gauss-Newton
methods need; `sum_of_parts` is the same loss as one scalar.
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
"""One row of a pytree of arrays, e.g. a point (d,), or a point and the value measured there."""


class Part(NamedTuple):
    """One named part of a loss: weight * mean over rows of scale * residual(u)(row)^2.

    Attributes:
      rows: a pytree of arrays with one first axis (n, ...): points, and data that belong to them.
      residual: u -> (row -> () or (k,)); the mean is over the k entries as well.
      weight: factor of the part, >= 0.
      scale: ((n, k) residuals, rows) -> (n,) factors of the rows, held constant in derivatives;
        None: all 1. Causal weights in time are such factors.
    """

    rows: Any
    residual: Callable[[Field], Callable[[Row], Float[Array, "..."]]]
    weight: float = 1.0
    scale: Callable[[Float[Array, "n k"], Any], Float[Array, "n"]] | None = None


def residual_rows(part: Part, field: Field, rows: Any = None) -> Float[Array, "n k"]:
    """The residuals of a part, one line a row."""
    values = jax.vmap(part.residual(field))(part.rows if rows is None else rows)
    return values.reshape(values.shape[0], -1)


def row_scales(part: Part, field: Field) -> Float[Array, "n"]:
    """The factors of a part's rows, without a derivative."""
    if part.scale is None:
        return jnp.ones(jax.tree.leaves(part.rows)[0].shape[0])
    return lax.stop_gradient(part.scale(residual_rows(part, field), part.rows))


def sum_of_parts(parts: Mapping[str, Part], field: Field) -> tuple[Float[Array, ""], Terms]:
    """The loss, and each part's mean square before its weight."""
    terms = {
        name: jnp.mean(row_scales(part, field)[:, None] * residual_rows(part, field) ** 2)
        for name, part in parts.items()
    }
    return sum((parts[name].weight * terms[name] for name in parts), jnp.zeros(())), terms
