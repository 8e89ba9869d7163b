"""Diagnostics of trained models: relevance, spectra, learned activations, effective rank.

`params` are the parameters of `model`, initial or trained.

Raises:
  InputError: the points `x` have the wrong number of coordinates, or `params` belong to another
    model. This holds for all diagnostics.
"""

from lrnn_jax.diagnostics.learned import Learned, draw_learned
from lrnn_jax.diagnostics.nested import (
    LearnedActivation,
    collapsed,
    input_quantiles,
    learned_activations,
)
from lrnn_jax.diagnostics.products import (
    Spectrum,
    component_relevance,
    effective_rank,
    effective_rank_of,
    neuron_factors,
    neuron_spectrum,
)
from lrnn_jax.diagnostics.quality import fit_warnings
from lrnn_jax.diagnostics.report import report, subnetwork_warnings
from lrnn_jax.diagnostics.variance import LayerVariance, layer_outputs, variance_by_layer

__all__ = [
    "LayerVariance",
    "Learned",
    "LearnedActivation",
    "Spectrum",
    "collapsed",
    "component_relevance",
    "draw_learned",
    "effective_rank",
    "effective_rank_of",
    "fit_warnings",
    "input_quantiles",
    "layer_outputs",
    "learned_activations",
    "neuron_factors",
    "neuron_spectrum",
    "report",
    "subnetwork_warnings",
    "variance_by_layer",
]
