"""What a run says about its model when it ends: one picture and a few numbers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.diagnostics.nested import collapsed, input_quantiles, learned_activations
from lrnn_jax.diagnostics.products import component_relevance, effective_rank, neuron_spectrum
from lrnn_jax.diagnostics.variance import variance_by_layer
from lrnn_jax.models.lrnn import LRNN
from lrnn_jax.models.nestnet import NestNet
from lrnn_jax.models.network import Network
from lrnn_jax.typing import Model, Params

__all__ = ["report"]

_POINTS = 1024
_STEEP = 1e3  # times the variance of the gradient at the head
_PEAKS = 8  # of a spectrum, in the summary
_LISTED = 16  # subnetworks whose knots and slopes stand in the summary, at most
_PANELS = 6  # layers of a NestNet that are drawn, from the first one to the last


def report(
    model: Model, params: Params, folder: Path, initial: Params | None = None
) -> dict[str, Any]:
    """Writes `diagnostics.png` and returns what a summary should say, as plain numbers.

    Every quantity is taken over 1024 points of U([-1, 1]^in_dim), the same in every run. Entries:

      * "variance_by_layer", "initial" and "final", of every network of the zoo, and the names of
        its "layers": their numbers, "head", and "features" for what stands before number 0;
      * "effective_rank" and "relevance_top_share", the largest share in a neuron, in the mean over
        neurons, for each layer of an LRNN;
      * "spectrum": of the first layer's weightiest neuron of an LRNN, the frequencies of its
        highest peaks and its components' fundamentals, in periods per unit of x;
      * "knots", how many an activation has, in the mean for each layer of a NestNet, and the
        "activations" themselves, the first 16: their knots and slopes;
      * "warnings", a line each: collapsed subnetworks, constant neurons, numbers that are not
        finite, a gradient that explodes at the start. None is good.

    A number that is not finite is None.

    Args:
      model: any model; of one that is no `Network` nothing is said or drawn.
      params: its parameters.
      folder: where to write, an existing folder.
      initial: the parameters that the training started from.

    Raises:
      InputError: `params` are another model's, or the picture cannot be written.
    """
    if not isinstance(model, Network):
        return {"warnings": []}
    from lrnn_jax.plotting import save_figure
    from lrnn_jax.plotting.diagnostics import draw_variance, make_panels

    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (_POINTS, model.in_dim)))
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
    found: dict[str, Any] = {"warnings": broken, "variance_by_layer": {"layers": layers} | by_stage}
    figure, axes = make_panels(2, columns=2)
    if isinstance(model, LRNN) and not broken:
        figure, axes = make_panels(5, columns=2, wide_first=True)
        found |= _of_products(model, params, x, axes[:3])
    elif isinstance(model, NestNet) and model.height > 1 and not broken:
        shown = min(_PANELS, model.depth if model.sharing == "layer" else 1)
        figure, axes = make_panels(shown + 2, columns=2 if shown == 2 else 3)
        found |= _of_nested(model, params, x, axes[:shown], initial)
    for name, panel in zip(("output", "gradient"), axes[-2:], strict=True):
        draw_variance(panel, name, layers, variances["final"], variances.get("initial"))
    save_figure(figure, folder / "diagnostics.png")
    if "initial" in variances:
        found["warnings"] = _steep(layers, variances["initial"].gradient) + found["warnings"]
    return _plain(found)


def _steep(layers: Sequence[str], gradient: np.ndarray) -> list[str]:
    """A warning where the gradient's variance grows far on its way back from the head.

    The threshold is from `benchmarks/depth.py`: all LRNNs below it learned, and of those above it
    one that was just above, at the smaller of two rates.
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
    """Layers by the number of their parameters, "features" before them and the head behind.

    >>> _layer_names({"layer_0": {}, "layer_1": {}, "head": {}}, 4)
    ['features', '0', '1', 'head']
    """
    numbered = max(sum(name.startswith(kind) for name in params) for kind in ("layer_", "filter_"))
    before = ["features"] if 0 < numbered == count - 2 else []
    return [*before, *map(str, range(count - 1 - len(before))), "head"]


def _of_products(model: LRNN, params: Params, x: jax.Array, axes: Sequence[Any]) -> dict[str, Any]:
    from lrnn_jax.plotting.diagnostics import draw_effective_rank, draw_relevance, draw_spectrum

    shares = component_relevance(model, params, x)
    ranks = effective_rank(model, params, x)
    number = _weightiest(params)
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
        "warnings": [
            f"layer_{index}: {constant} of {share.shape[1]} neurons are constant over the points"
            for index, share in enumerate(shares)
            if (constant := int(np.sum(share.sum(axis=0) == 0)))
        ],
    }


def _peaks(frequencies: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """The frequencies of the highest local maxima, highest first."""
    inner = amplitudes[1:-1]
    places = 1 + np.flatnonzero((inner > amplitudes[:-2]) & (inner >= amplitudes[2:]))
    order = np.argsort(-amplitudes[places], kind="stable")
    return frequencies[places[order[:_PEAKS]]]


def _weightiest(params: Params) -> int:
    """The first layer's neuron with the largest weights behind it."""
    after = params["layer_1"]["projection"] if "layer_1" in params else params["head"]
    weight = np.asarray(after["weight"])
    return int(np.argmax(np.linalg.norm(weight.reshape(len(weight), -1), axis=1)))


def _of_nested(
    model: NestNet, params: Params, x: jax.Array, axes: Sequence[Any], initial: Params | None
) -> dict[str, Any]:
    from lrnn_jax.plotting.diagnostics import draw_activations

    met = input_quantiles(model, params, x)
    learned = learned_activations(model, params)
    before = [] if initial is None else learned_activations(model, initial)
    by_layer = {where: [rho for rho in learned if rho.where == where] for where in met}
    drawn = np.linspace(0, len(by_layer) - 1, len(axes)).round().astype(int)
    for panel, number in zip(axes, drawn, strict=True):
        where = list(by_layer)[number]
        start = [rho for rho in before if rho.where == where]
        draw_activations(panel, by_layer[where], start, met[where])
    axes[0].legend(fontsize=8)
    found: dict[str, Any] = {"warnings": collapsed(model, params, x, initial)}
    if all(rho.exact for rho in learned):
        found["knots"] = [
            float(np.mean([len(rho.knots) for rho in here])) for here in by_layer.values()
        ]
        found["activations"] = [
            {"where": rho.where, "group": rho.group, "knots": rho.knots, "slopes": rho.slopes}
            for rho in learned[:_LISTED]
        ]
    return found


def _plain(found: Any) -> Any:
    """Dicts, lists, strings and rounded numbers, as JSON has them."""
    if isinstance(found, dict):
        return {name: _plain(entry) for name, entry in found.items()}
    if isinstance(found, list | np.ndarray):
        return [_plain(entry) for entry in found]
    if isinstance(found, float):
        return float(f"{found:.5g}") if math.isfinite(found) else None
    return found
