"""Diagnostics of an LRNN: relevance of components, effective rank of layers, spectra of neurons.

Axis letters: n points, r rank, k components, h hidden units of a component function.

References: Maharaj and Nair, "Deep Learning with Learnable Product-Structured Activations",
ICLR 2026: the factor 1 + gamma g is 1 if a component is switched off (automatic relevance
determination); Lemma 2: with periodic g, a neuron contains sums and differences of frequencies.
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

_ROUNDING = 10 * float(np.finfo(np.float32).eps)


def component_relevance(
    model: LRNN, params: Params, x: Float[ArrayLike, "n i"]
) -> list[Float[np.ndarray, "k r"]]:
    """The relevance of each component: its share of the variance in its neuron, for every layer.

        relevance_jl = Var_n f_jl / sum_j Var_n f_jl,    f_jl = 1 + gamma g_j^l(z_j^l(x_n))

    The shares of a neuron sum to 1; an even split is 1/k each. A component whose function is
    constant over the points has share 0. All components of a constant neuron have share 0.

    Args:
      x: points, shape (n, in_dim); deeper layers receive the outputs of the preceding layers.
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
    """Variance and maximum magnitude over the points of each factor 1 + gamma g, (k, r) each."""
    leaves = {name: params[name] for name in ("projection", "component")}
    over_rank = {"projection": -1, "component": -1 if model.sharing == "flex" else None}
    over_components = jax.vmap(functools.partial(component, model), in_axes=(-1, None))
    unit = jax.vmap(over_components, in_axes=(over_rank, None), out_axes=1)
    factors = 1 + model.scale * jax.vmap(unit, in_axes=(None, 0))(leaves, x)
    return jnp.var(factors, axis=0), jnp.max(jnp.abs(factors), axis=0)


def effective_rank(model: LRNN, params: Params, x: Float[ArrayLike, "n i"]) -> list[float]:
    """The effective rank of the output of each product layer over the points.

    This is `effective_rank_of` the output of the layer after its LayerNorm. It is between 1 and the
    rank r of the layer, or 0 if the output is constant. LayerNorm fixes the mean over the neurons,
    which reduces the maximum to r - 1.

    Args:
      x: points, shape (n, in_dim). Use n > r, because n points span at most n - 1 dimensions.
    """
    return [effective_rank_of(h) for h in layer_outputs(model, params, x)[1:-1]]


def effective_rank_of(outputs: Float[ArrayLike, "n r"]) -> float:
    """exp(-sum_i p_i log p_i), p_i = s_i / sum s, of the singular values of the centred outputs.

    The mean over the points is subtracted from each column. The result is min(n - 1, r) for equal
    singular values, 1 for a single non-zero singular value, and 0 for constant outputs. Singular
    values at the level of float32 rounding errors of the outputs count as 0.

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
    """Spectrum of a neuron along a line.

    Attributes:
      frequencies: in periods per unit of length.
      amplitudes: peak amplitude at each frequency.
      fundamentals: fundamental frequencies of the components.
    """

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
    """The spectrum of a neuron along a line, and the fundamental frequencies of its components.

        phi(t) = prod_j (1 + gamma g_j(z_j)),    z = W t d + b,    -length/2 <= t < length/2
        fundamentals = omega0 |a_hj w_j . d| / (2 pi)

    The line passes through the origin of the layer's input. Two frequencies are resolved
    if they differ by at least 2 / length (Hann window). A sin(2 pi f t) has a peak of height A at
    f. The amplitude at frequency 0 is |mean|. Fundamentals are meaningful for periodic activations
    only. With 'sin' a component has exactly this frequency; with 'spder' and 'sin_arctan' it is a
    carrier whose amplitude depends on |z|. By Lemma 2 the product adds f_1 +- f_2, and so on.

    Args:
      layer: index of the product layer, from 0.
      neuron: index of the neuron in the layer, from 0.
      direction: direction of the line, scaled to length 1; None is the first axis of the layer's
        input.
      length: length of the line, > 0. A longer line has a higher frequency resolution; [-1, 1] has
        length 2.
      samples: number of points on the line, >= 8; frequencies up to samples / (2 length) are
        resolved.

    Raises:
      InputError: the layer or neuron does not exist, or the line is invalid.
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


def neuron_factors(
    model: LRNN, params: Params, layer: int, neuron: int, samples: int = 512
) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "m k"]]:
    """The factors 1 + gamma g_j(z_j) of a neuron along the first axis of its layer's input.

    Args:
      layer: index of the product layer, from 0.
      neuron: index of the neuron in the layer, from 0.
      samples: number of points on the line from -1 to 1.

    Returns:
      The points on the line, and the factors there.

    Raises:
      InputError: the layer or neuron does not exist.
    """
    model.require_own(params)
    leaves = _neuron_leaves(model, params, layer, neuron)
    t = np.linspace(-1, 1, samples)
    x = t[:, None] * np.eye(leaves["projection"]["weight"].shape[0])[0]
    over_components = jax.vmap(functools.partial(component, model), in_axes=(-1, None))
    g = jax.vmap(over_components, in_axes=(None, 0))(leaves, jnp.asarray(x))
    return t, np.asarray(1 + model.scale * g, float)


def strongest_neuron(params: Params) -> int:
    """The neuron of the first layer of an LRNN with the largest outgoing weights."""
    after = params["layer_1"]["projection"] if "layer_1" in params else params["head"]
    weight = np.asarray(after["weight"])
    return int(np.argmax(np.linalg.norm(weight.reshape(len(weight), -1), axis=1)))


@functools.partial(jax.jit, static_argnums=0)
def _along(model: LRNN, leaves: Params, x: jax.Array) -> jax.Array:
    return jax.vmap(functools.partial(neuron, model, leaves))(x)


def _neuron_leaves(model: LRNN, params: Params, layer: int, number: int) -> dict[str, Any]:
    """The parameters of one neuron; leaves have shape (..., k)."""
    if not 0 <= layer < model.depth:
        raise InputError(f"layer: expected 0 to {model.depth - 1}, got {layer}")
    if not 0 <= number < model.ranks[layer]:
        raise InputError(f"neuron: expected 0 to {model.ranks[layer] - 1}, got {number}")
    leaves = params[f"layer_{layer}"]
    pick = functools.partial(jax.tree.map, lambda leaf: np.asarray(leaf)[..., number])
    shared = model.sharing == "shared"
    return {
        "projection": pick(leaves["projection"]),
        "component": leaves["component"] if shared else pick(leaves["component"]),
    }


def _unit(direction: ArrayLike | None, size: int) -> Float[np.ndarray, "i"]:
    d = np.eye(size)[0] if direction is None else np.asarray(direction, dtype=float)
    norm = np.linalg.norm(d)
    if d.shape != (size,) or not np.isfinite(norm) or norm == 0:
        raise InputError(f"direction: expected {size} finite numbers, not all 0, got {direction}")
    return d / norm
