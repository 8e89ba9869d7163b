"""What an LRNN has learned: which components matter, how many neurons do, which frequencies arise.

Axis letters: n points, r rank, k components, h hidden units of a component function.

References: Maharaj and Nair, "Deep Learning with Learnable Product-Structured Activations",
ICLR 2026: the factor 1 + gamma g is 1 where a component is switched off (automatic relevance
determination), and Lemma 2: with periodic g a neuron has sums and differences of frequencies.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from lrnn_jax.diagnostics.variance import layer_outputs
from lrnn_jax.errors import InputError
from lrnn_jax.models.lrnn import LRNN, component, neuron
from lrnn_jax.typing import Params

__all__ = [
    "Spectrum",
    "component_relevance",
    "effective_rank",
    "effective_rank_of",
    "neuron_spectrum",
]

_ROUNDING = 10 * float(np.finfo(np.float32).eps)


def component_relevance(
    model: LRNN, params: Params, x: Float[ArrayLike, "n i"]
) -> list[Float[np.ndarray, "k r"]]:
    """The share of each component in what varies in its neuron, for every layer.

        relevance_jl = Var_n f_jl / sum_j Var_n f_jl,    f_jl = 1 + gamma g_j^l(z_j^l(x_n))

    In a neuron the shares sum to 1; 1/k each is an even split. A component whose function is
    constant over the points has share 0, and so has every component of a neuron that is constant.

    Args:
      model: the LRNN.
      params: its parameters.
      x: points, shape (n, in_dim); deeper layers see what the layers before make of them.

    Raises:
      InputError: `x` has another number of coordinates, or `params` are another model's.
    """
    inputs = layer_outputs(model, params, x)
    shares = []
    for index in range(model.depth):
        variance, size = jax.device_get(
            _factor_moments(model, params[f"layer_{index}"], inputs[index])
        )
        variance = np.where(variance > (_ROUNDING * size) ** 2, variance, 0).astype(float)
        total = variance.sum(axis=0)
        shares.append(variance / np.where(total > 0, total, 1))
    return shares


@functools.partial(jax.jit, static_argnums=0)
def _factor_moments(model: LRNN, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The variance over the points and the largest size of each factor 1 + gamma g, (k, r) each."""
    leaves = {name: params[name] for name in ("projection", "component")}
    over_rank = {"projection": -1, "component": -1 if model.sharing == "flex" else None}
    one = jax.vmap(functools.partial(component, model), in_axes=(-1, None))
    unit = jax.vmap(one, in_axes=(over_rank, None), out_axes=1)
    factors = 1 + model.scale * jax.vmap(unit, in_axes=(None, 0))(leaves, x)
    return jnp.var(factors, axis=0), jnp.max(jnp.abs(factors), axis=0)


def effective_rank(model: LRNN, params: Params, x: Float[ArrayLike, "n i"]) -> list[float]:
    """How many dimensions each product layer's output really fills over the points.

    `effective_rank_of` the layer's output, after its LayerNorm: between 1 and its rank r, or 0 if
    the output is constant. LayerNorm fixes the mean over the neurons, so that it leaves r - 1.

    Args:
      model: the LRNN.
      params: its parameters.
      x: points, shape (n, in_dim); n > r, for no more than n - 1 dimensions show on n points.

    Raises:
      InputError: `x` has another number of coordinates, or `params` are another model's.
    """
    return [effective_rank_of(h) for h in layer_outputs(model, params, x)[1:-1]]


def effective_rank_of(outputs: Float[ArrayLike, "n r"]) -> float:
    """exp(-sum_i p_i log p_i), p_i = s_i / sum s, of the singular values of the centred outputs.

    Each column has its mean over the points subtracted. Equal singular values give min(n - 1, r), a
    single one 1, constant outputs 0. Singular values that are rounding errors of float32 beside the
    outputs themselves count as 0.

    References: Roy and Vetterli, "The effective rank: a measure of effective dimensionality",
    EUSIPCO 2007, definition 1.

    >>> effective_rank_of(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]))
    2.0
    """
    h = np.asarray(outputs, dtype=float)
    s = np.linalg.svd(h - h.mean(axis=0), compute_uv=False)
    s = s[s > _ROUNDING * np.linalg.norm(h)]
    p = s / s.sum()
    return round(float(np.exp(-np.sum(p * np.log(p)))), 6) if len(s) else 0.0


class Spectrum(NamedTuple):
    """A neuron along a line; frequencies are periods per unit of length, amplitudes are peaks."""

    frequencies: Float[np.ndarray, "m"]
    amplitudes: Float[np.ndarray, "m"]
    fundamentals: Float[np.ndarray, "h k"]


def neuron_spectrum(
    model: LRNN,
    params: Params,
    layer: int,
    neuron: int,
    *,
    direction: Float[ArrayLike, "i"] | None = None,
    length: float = 32.0,
    samples: int = 8192,
) -> Spectrum:
    """The amplitudes that a neuron's product has along a line, beside its fundamentals.

        phi(t) = prod_j (1 + gamma g_j(z_j)),    z = W t d + b,    -length/2 <= t < length/2
        fundamentals = omega0 |a_hj w_j . d| / (2 pi)

    The line passes through the origin of the layer's input. Two frequencies can be told apart
    if they are 2 / length away from each other (a Hann window); A sin(2 pi f t) has a peak of
    height A at f. Amplitude 0 is |mean|. Fundamentals mean something for periodic activations: with
    'sin' a component has that one frequency; with 'spder' and 'sin_arctan' it is a carrier whose
    amplitude depends on |z|. By Lemma 2 the product adds f_1 +- f_2, and so on.

    Args:
      model: the LRNN.
      params: its parameters.
      layer: number of the product layer, from 0.
      neuron: number of the neuron in it, from 0.
      direction: of the line, scaled to length 1; None is the first axis of the layer's input.
      length: of the line, > 0. The longer, the sharper; [-1, 1] alone has length 2.
      samples: points on the line, >= 8; frequencies up to samples / (2 length) are resolved.

    Raises:
      InputError: no such layer or neuron, or a line that cannot be drawn.
    """
    model.require_own(params)
    leaves = _neuron_leaves(model, params, layer, neuron)
    unit = _unit(direction, leaves["projection"]["weight"].shape[0])
    if not (math.isfinite(length) and length > 0 and samples >= 8):
        raise InputError(
            f"length, samples: expected length > 0 and samples >= 8, got {length} and {samples}"
        )
    t = (np.arange(samples) / samples - 0.5) * length
    phi = np.asarray(_along(model, leaves, jnp.asarray(t[:, None] * unit)), dtype=float)
    window = np.hanning(samples + 1)[:-1]
    mean = np.sum(window * phi) / window.sum()
    amplitudes = 2 * np.abs(np.fft.rfft(window * (phi - mean))) / window.sum()
    amplitudes[0] = abs(mean)
    along = unit @ np.asarray(leaves["projection"]["weight"], dtype=float)
    turns = np.asarray(leaves["component"]["inner_weight"], dtype=float) * along
    frequencies = np.fft.rfftfreq(samples, length / samples)
    return Spectrum(frequencies, amplitudes, np.abs(model.omega0 * turns / (2 * math.pi)))


@functools.partial(jax.jit, static_argnums=0)
def _along(model: LRNN, leaves: Params, x: jax.Array) -> jax.Array:
    return jax.vmap(functools.partial(neuron, model, leaves))(x)


def _neuron_leaves(model: LRNN, params: Params, layer: int, number: int) -> dict[str, Any]:
    """The parameters of one neuron, leaves (..., k)."""
    if not 0 <= layer < model.depth:
        raise InputError(f"layer: expected 0 to {model.depth - 1}, got {layer}")
    if not 0 <= number < model.ranks[layer]:
        raise InputError(f"neuron: expected 0 to {model.ranks[layer] - 1}, got {number}")
    own = params[f"layer_{layer}"]
    pick = functools.partial(jax.tree.map, lambda leaf: np.asarray(leaf)[..., number])
    shared = model.sharing == "shared"
    return {
        "projection": pick(own["projection"]),
        "component": own["component"] if shared else pick(own["component"]),
    }


def _unit(direction: ArrayLike | None, size: int) -> Float[np.ndarray, "i"]:
    d = np.eye(size)[0] if direction is None else np.asarray(direction, dtype=float)
    norm = np.linalg.norm(d)
    if d.shape != (size,) or not np.isfinite(norm) or norm == 0:
        raise InputError(f"direction: expected {size} finite numbers, not all 0, got {direction}")
    return d / norm
