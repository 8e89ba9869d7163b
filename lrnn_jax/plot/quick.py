"""One call each for a figure of an image, a sound, a spectrum, activations or a solution."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.figure import Figure

from lrnn_jax.plot.comparison import draw_sections
from lrnn_jax.plot.diagnostics import draw_activations, draw_spectrum
from lrnn_jax.plot.figures import sound_figure
from lrnn_jax.typing import Section

if TYPE_CHECKING:  # lrnn_jax.diagnostics imports this package
    from lrnn_jax.diagnostics import LearnedActivation, Spectrum

__all__ = ["activations", "image", "sections", "sound", "spectrum"]


def image(pixels: Float[ArrayLike, "height width *c"], title: str = "") -> Figure:
    """An image of one to four channels with values in [0, 1], or a map of any values."""
    values = np.asarray(pixels, np.float64)
    return draw_sections({title: Section(None, values)})


def sound(samples: Float[ArrayLike, "n *c"], rate: int) -> Figure:
    """A sound over time and over frequency.

    Args:
      samples: amplitudes.
      rate: samples per second.
    """
    values = np.asarray(samples, np.float64)
    return sound_figure({"sound": ("tab:blue", values.reshape(len(values), -1))}, rate)


def spectrum(found: "Spectrum") -> Figure:
    """The spectrum of a neuron, from `lrnn_jax.diagnostics.neuron_spectrum`."""
    figure = Figure(figsize=(7, 3.6), dpi=110, layout="constrained")
    draw_spectrum(figure.subplots(), found, "spectrum of the neuron")
    return figure


def activations(learned: Sequence["LearnedActivation"], low: float = -3, high: float = 3) -> Figure:
    """Learned activations, from `lrnn_jax.diagnostics.learned_activations`, one panel a layer.

    Args:
      learned: the activations.
      low: lower end of their inputs.
      high: upper end.
    """
    layers = list(dict.fromkeys(rho.where for rho in learned))
    figure = Figure(figsize=(4.2 * len(layers), 3.4), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(layers), squeeze=False)[0]
    for axes, where in zip(panels, layers, strict=True):
        draw_activations(axes, [r for r in learned if r.where == where], [], np.array([low, high]))
    return figure


def sections(fits: Mapping[str, Section]) -> Figure:
    """The truth beside fits, with their errors: images, curves, and solutions of equations.

    Args:
      fits: the result of `problem.section(field)` for each fit, by its name.
    """
    return draw_sections(fits)
