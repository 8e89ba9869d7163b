"""Variance of the signal and of its gradient through the layers of a network."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import require_points
from lrnn_jax.models.network import Network
from lrnn_jax.typing import Key, Params


class LayerVariance(NamedTuple):
    """Variances over the points, averaged over the units of a layer; one per layer, head last."""

    output: Float[np.ndarray, "layers"]
    gradient: Float[np.ndarray, "layers"]


def layer_outputs(model: Network, params: Params, x: Float[ArrayLike, "n i"]) -> list[Any]:
    """The points `x` and the output of every layer; the last output is y(x)."""
    return _outputs(model, params, _checked_points(model, params, x))


def variance_by_layer(
    model: Network, params: Params, x: Float[ArrayLike, "n i"], key: Key
) -> LayerVariance:
    """The variance of the output of each layer, and of a gradient with respect to that output.

    The gradient is that of sum_{n,o} c_{no} y_o(x_n) with c ~ N(0, 1). The cotangent of y has
    variance 1 at every point, so the entry of the head is about 1 regardless of the size of y.
    Variances are taken over the points for each unit, and averaged over the units. The variance of
    a complex unit is E|h|^2 - |E h|^2.

    Args:
      x: points, shape (n, in_dim).
      key: random key of c.

    Example:
      >>> from lrnn_jax import Siren
      >>> model = Siren(in_dim=2, out_dim=1, width=64, depth=2)
      >>> x = jax.random.uniform(jax.random.key(0), (256, 2), minval=-1, maxval=1)
      >>> variance = variance_by_layer(model, model.init(jax.random.key(1)), x, jax.random.key(2))
      >>> variance.output.round(1).tolist()
      [0.5, 0.3, 0.0]
    """
    variances = _variances(model, params, _checked_points(model, params, x), key)
    return LayerVariance(*(np.asarray(row, dtype=float) for row in jax.device_get(variances)))


def _checked_points(model: Network, params: Params, x: ArrayLike) -> jax.Array:
    """Checks `x` and `params` against the model, and returns `x` with shape (n, in_dim)."""
    x = jnp.asarray(x)
    require_points(model, x)
    model.require_own(params)
    return x.reshape(-1, model.in_dim)


@functools.partial(jax.jit, static_argnums=0)
def _outputs(model: Network, params: Params, x: jax.Array) -> list[Any]:
    outputs: list[Any] = [x]
    for layer in model.layers(params, x):
        outputs.append(layer(outputs[-1]))
    return outputs


@functools.partial(jax.jit, static_argnums=0)
def _variances(model: Network, params: Params, x: jax.Array, key: Key) -> tuple[Any, Any]:
    state: Any = x
    outputs, pulls = [], []
    for layer in model.layers(params, x):
        state, pull = jax.vjp(layer, state)
        outputs.append(state)
        pulls.append(pull)
    gradients = [jax.random.normal(key, state.shape, state.dtype)]
    for pull in pulls[:0:-1]:
        gradients += pull(gradients[-1])
    return [_spread(h) for h in outputs], [_spread(g) for g in reversed(gradients)]


def _spread(state: Any) -> jax.Array:
    """The variance over points, averaged over units; a state may consist of several arrays."""
    per_unit = [jnp.var(h.reshape(len(h), -1), axis=0) for h in jax.tree.leaves(state)]
    return jnp.mean(jnp.concatenate(per_unit))
