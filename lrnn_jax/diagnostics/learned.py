"""The functions that a network has learned, as a figure."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lrnn_jax.diagnostics.nested import input_quantiles, learned_activations
from lrnn_jax.diagnostics.products import neuron_factors, neuron_spectrum, strongest_neuron
from lrnn_jax.models.lrnn import LRNN
from lrnn_jax.models.nestnet import NestNet
from lrnn_jax.typing import ModelLike, Params

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Learned", "draw_learned"]

_PANELS = 3  # maximum number of layers of a NestNet
_POINTS = 512


class Learned(NamedTuple):
    """Learned functions.

    Attributes:
      figure: their figure.
      rows: the points of its curves: places and values by name.
    """

    figure: "Figure"
    rows: list[dict[str, Any]]


def draw_learned(model: ModelLike, params: Params) -> Learned | None:
    """Draw what a network has learned in the place of a fixed activation.

    For an LRNN these are the factors of a neuron of the first layer, the one with the largest
    outgoing weights, along the first axis, and the spectrum of their product. For a NestNet, these
    are the activations of up to three layers.

    Returns:
      The figure and its numbers; None for other models, and for a NestNet of height 1.
    """
    if isinstance(model, LRNN):
        return _lrnn_figure(model, params)
    if isinstance(model, NestNet) and model.height > 1:
        return _nestnet_figure(model, params)
    return None


def _lrnn_figure(model: LRNN, params: Params) -> Learned:
    from lrnn_jax.plot.diagnostics import draw_factors, draw_spectrum, make_panels

    number = strongest_neuron(params)
    t, factors = neuron_factors(model, params, 0, number)
    figure, (left, right) = make_panels(2, columns=2)
    draw_factors(left, t, factors, f"Factors of neuron {number} of layer 0")
    draw_spectrum(right, neuron_spectrum(model, params, 0, number), "Spectrum of their product")
    names = [f"factor {index}" for index in range(factors.shape[1])]
    rows = [
        {"position": float(place), **dict(zip(names, map(float, values), strict=True))}
        for place, values in zip(t, factors, strict=True)
    ]
    return Learned(figure, rows)


def _nestnet_figure(model: NestNet, params: Params) -> Learned:
    from lrnn_jax.plot.diagnostics import draw_activations, make_panels

    points = np.random.default_rng(0).uniform(-1, 1, (_POINTS, model.in_dim)).astype(np.float32)
    inputs = input_quantiles(model, params, points)
    learned = learned_activations(model, params)
    chosen = list(inputs)[:: -(-len(inputs) // _PANELS)]
    figure, panels = make_panels(len(chosen), columns=len(chosen))
    for axes, where in zip(panels, chosen, strict=True):
        draw_activations(axes, [rho for rho in learned if rho.where == where], [], inputs[where])
    rows = [
        {"layer": rho.where, "group": rho.group, "z": float(z), "rho": float(value)}
        for rho in learned
        for z, value in zip(rho.knots, rho.values, strict=True)
    ]
    return Learned(figure, rows)
