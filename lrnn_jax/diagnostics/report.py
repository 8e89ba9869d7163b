"""The diagnostics of a model at the end of a run: one figure and a few numbers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.diagnostics.nested import collapsed, input_quantiles, learned_activations
from lrnn_jax.diagnostics.products import (
    component_relevance,
    effective_rank,
    neuron_spectrum,
    strongest_neuron,
)
from lrnn_jax.diagnostics.variance import variance_by_layer
from lrnn_jax.models.lrnn import LRNN
from lrnn_jax.models.nestnet import NestNet
from lrnn_jax.models.network import Network
from lrnn_jax.typing import Model, Params

_POINTS = 1024
_STEEP = 1e3  # relative to the variance of the gradient at the head
_PEAKS = 8  # maximum number of spectral peaks in the summary
_LISTED = 16  # maximum number of subnetworks in the summary
_PANELS = 6  # maximum number of NestNet layers in the figure, evenly spaced


def report(
    model: Model, params: Params, folder: Path, initial: Params | None = None
) -> dict[str, Any]:
    """Writes `diagnostics.png` and returns the diagnostics as JSON-compatible values.

    Every quantity is computed over 1024 points drawn from U([-1, 1]^in_dim), which are the same in
    every run. Entries of the result:

      * "variance_by_layer": for every `Network`, its "initial" and "final" variances and the names
        of its "layers": their index, "head", and "features" for a layer before index 0.
      * "effective_rank" and "relevance_top_share": for each layer of an LRNN, the effective rank,
        and the largest share in a neuron, averaged over the neurons.
      * "spectrum": for the neuron with the largest outgoing weights in the first layer of an LRNN,
        the frequencies of the highest peaks and the fundamentals of its components, in periods per
        unit of x.
      * "knots" and "activations": for a NestNet, the mean number of knots of an activation in each
        layer, and the knots and slopes of the first 16 activations.
      * "warnings": one line each for collapsed subnetworks, constant neurons, values that are not
        finite, and an exploding gradient before training. Empty if there are no problems.

    Values that are not finite become None.

    Args:
      model: any model; for a model that is not a `Network`, nothing is computed or drawn.
      params: its parameters.
      folder: existing output folder.
      initial: parameters before training.

    Raises:
      InputError: `params` belong to another model, or the figure cannot be written.
    """
    if not isinstance(model, Network):
        return {"warnings": []}
    from lrnn_jax.plot import save_figure
    from lrnn_jax.plot.diagnostics import draw_variance, make_panels

    x = _points(model)
    stages = {"initial": initial, "final": params}
    variances = {
        stage: variance_by_layer(model, drawn, x, jax.random.key(0))
        for stage, drawn in stages.items()
        if drawn is not None
    }
    layers = _layer_names(params, len(variances["final"].output))
    by_stage = {stage: variance._asdict() for stage, variance in variances.items()}
    broken = [
        f"layer {name}: the variance of its output is {variance}"
        for name, variance in zip(layers, variances["final"].output, strict=True)
        if not math.isfinite(variance)
    ]
    result: dict[str, Any] = {
        "warnings": broken,
        "variance_by_layer": {"layers": layers} | by_stage,
    }
    figure, axes = make_panels(2, columns=2)
    if isinstance(model, LRNN) and not broken:
        figure, axes = make_panels(5, columns=2, wide_first=True)
        result |= _lrnn_results(model, params, x, axes[:3])
    elif isinstance(model, NestNet) and model.height > 1 and not broken:
        shown = min(_PANELS, model.depth if model.sharing == "layer" else 1)
        figure, axes = make_panels(shown + 2, columns=2 if shown == 2 else 3)
        result |= _nestnet_results(model, params, x, axes[:shown], initial)
    for name, panel in zip(("output", "gradient"), axes[-2:], strict=True):
        draw_variance(panel, name, layers, variances["final"], variances.get("initial"))
    save_figure(figure, folder / "diagnostics.png")
    if "initial" in variances:
        steep = _gradient_warnings(layers, variances["initial"].gradient)
        result["warnings"] = steep + result["warnings"]
    return _plain(result)


def subnetwork_warnings(model: Model, params: Params) -> list[str]:
    """Neurons of an LRNN that are constant and collapsed subnetworks of a NestNet, a line each.

    They are computed over the same points as in `report`. Other models have none.

    Raises:
      InputError: `params` belong to another model.
    """
    if isinstance(model, LRNN):
        return _constant_neurons(component_relevance(model, params, _points(model)))
    if isinstance(model, NestNet):
        return collapsed(model, params, _points(model))
    return []


def _points(model: Network) -> jax.Array:
    points = np.random.default_rng(0).uniform(-1, 1, (_POINTS, model.in_dim))
    return jnp.asarray(points)


def _constant_neurons(shares: Sequence[np.ndarray]) -> list[str]:
    return [
        f"layer_{index}: {constant} of {share.shape[1]} neurons are constant over the points"
        for index, share in enumerate(shares)
        if (constant := int(np.sum(share.sum(axis=0) == 0)))
    ]


def _gradient_warnings(layers: Sequence[str], gradient: np.ndarray) -> list[str]:
    """A warning if the variance of the gradient grows strongly from the head to earlier layers.

    The threshold is from `benchmarks/depth.py`. All LRNNs below it learned. Of those above it, only
    one learned; it was just above, and used the smaller of two learning rates.
    """
    times = gradient / gradient[-1]
    worst = int(np.argmax(times))
    if not times[worst] > _STEEP:
        return []
    return [
        f"layer {layers[worst]}: at the start its gradient had {times[worst]:.1e} times the "
        "variance of that at the head; such a net may not learn: take fewer layers or a smaller "
        "omega0"
    ]


def _layer_names(params: Params, count: int) -> list[str]:
    """Layer names: indices of the parameters, "features" before them and "head" after them.

    >>> _layer_names({"layer_0": {}, "layer_1": {}, "head": {}}, 4)
    ['features', '0', '1', 'head']
    """
    numbered = max(sum(name.startswith(kind) for name in params) for kind in ("layer_", "filter_"))
    before = ["features"] if 0 < numbered == count - 2 else []
    return [*before, *map(str, range(count - 1 - len(before))), "head"]


def _lrnn_results(model: LRNN, params: Params, x: jax.Array, axes: Sequence[Any]) -> dict[str, Any]:
    from lrnn_jax.plot.diagnostics import draw_effective_rank, draw_relevance, draw_spectrum

    shares = component_relevance(model, params, x)
    ranks = effective_rank(model, params, x)
    number = strongest_neuron(params)
    spectrum = neuron_spectrum(model, params, 0, number)
    title = f"Layer 0, neuron {number} along the first axis: the product of its components"
    draw_spectrum(axes[0], spectrum, title)
    draw_relevance(axes[1], shares)
    draw_effective_rank(axes[2], ranks, model.ranks)
    return {
        "effective_rank": ranks,
        "relevance_top_share": [float(share.max(axis=0).mean()) for share in shares],
        "spectrum": {
            "layer": 0,
            "neuron": number,
            "fundamentals": np.sort(spectrum.fundamentals.ravel()),
            "peaks": _peaks(spectrum.frequencies, spectrum.amplitudes),
        },
        "warnings": _constant_neurons(shares),
    }


def _peaks(frequencies: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """The frequencies of the highest local maxima, highest first."""
    inner = amplitudes[1:-1]
    places = 1 + np.flatnonzero((inner > amplitudes[:-2]) & (inner >= amplitudes[2:]))
    order = np.argsort(-amplitudes[places], kind="stable")
    return frequencies[places[order[:_PEAKS]]]


def _nestnet_results(
    model: NestNet, params: Params, x: jax.Array, axes: Sequence[Any], initial: Params | None
) -> dict[str, Any]:
    from lrnn_jax.plot.diagnostics import draw_activations

    inputs = input_quantiles(model, params, x)
    learned = learned_activations(model, params)
    before = [] if initial is None else learned_activations(model, initial)
    by_layer = {where: [rho for rho in learned if rho.where == where] for where in inputs}
    drawn = np.linspace(0, len(by_layer) - 1, len(axes)).round().astype(int)
    for panel, number in zip(axes, drawn, strict=True):
        where = list(by_layer)[number]
        start = [rho for rho in before if rho.where == where]
        draw_activations(panel, by_layer[where], start, inputs[where])
    axes[0].legend(fontsize=8)
    result: dict[str, Any] = {"warnings": collapsed(model, params, x, initial)}
    if all(rho.exact for rho in learned):
        result["knots"] = [
            float(np.mean([len(rho.knots) for rho in layer])) for layer in by_layer.values()
        ]
        result["activations"] = [
            {"where": rho.where, "group": rho.group, "knots": rho.knots, "slopes": rho.slopes}
            for rho in learned[:_LISTED]
        ]
    return result


def _plain(value: Any) -> Any:
    """Converts to JSON types; floats are rounded, and floats that are not finite become None."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
