"""Panels of the diagnostics figure of a run, drawn from arrays."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:  # lrnn_jax.diagnostics imports this package
    from lrnn_jax.diagnostics.nested import LearnedActivation
    from lrnn_jax.diagnostics.products import Spectrum
    from lrnn_jax.diagnostics.variance import LayerVariance

_BANDS = 3  # maximum number of layers with a readable percentile band
_TICKED = 6  # maximum number of components with readable sums and differences
_START = {"color": "0.45", "linestyle": "--", "linewidth": 1.2}


def make_panels(panels: int, columns: int, wide_first: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with a grid of panels; with `wide_first` the first panel spans all columns."""
    cells = panels + (columns - 1) * wide_first
    rows = math.ceil(cells / columns)
    figure = Figure(figsize=(4.6 * columns, 3.1 * rows), dpi=120)
    grid = figure.add_gridspec(rows, columns, hspace=0.45, wspace=0.3)
    axes = [figure.add_subplot(grid[0, :])] if wide_first else []
    start = columns if wide_first else 0
    inner = [figure.add_subplot(grid[divmod(cell, columns)]) for cell in range(start, cells)]
    return figure, axes + inner


def draw_relevance(axes: Axes, shares: Sequence[Float[np.ndarray, "k r"]]) -> None:
    """Plots the sorted relevance in each layer: median and 10-90 % band over its neurons."""
    k, count = len(shares[0]), len(shares)
    place = np.arange(1, k + 1)
    for index, share in enumerate(shares):
        ranked = -np.sort(-100 * share, axis=0)
        low, median, high = np.percentile(ranked, (10, 50, 90), axis=1)
        # More than four layers are drawn in a gradient.
        colour: Any = f"C{index}" if count <= 4 else (0.1, 0.9 * index / count, 0.8, 1.0)
        axes.plot(place, median, "o-", markersize=3, color=colour, label=f"layer {index}")
        if count <= _BANDS:
            axes.fill_between(place, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(100 / k, label="even split", **_START)
    axes.set(title="Relevance of the components", ylabel="share of the variance (%)")
    axes.set_xlabel("component of a neuron, most relevant first")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    title = "median, 80 % of neurons" if count <= _BANDS else "median neuron"
    size = 8 if count <= 6 else 6
    axes.legend(title=title, fontsize=size, ncols=1 + count // 8, title_fontsize=8)


def draw_effective_rank(axes: Axes, ranks: Sequence[float], widths: Sequence[int]) -> None:
    """Plots bars of the effective rank in front of bars of the rank."""
    place = np.arange(len(ranks))
    axes.bar(place, widths, color="0.9", edgecolor="0.6", label="neurons")
    axes.bar(place, ranks, color="C0", label="effective rank")
    for x, rank in zip(place[:24], ranks, strict=False):
        text = {"ha": "center", "va": "top", "color": "white", "fontsize": 8}
        axes.annotate(f"{rank:.3g}", (x, rank), (0, -3), textcoords="offset points", **text)
    axes.set(title="Effective rank of the layers", ylabel="dimensions")
    axes.set(xlim=(-0.7, len(ranks) - 0.3), ylim=(0, 1.3 * max(widths)))
    _layer_axis(axes, [str(index) for index in range(len(ranks))])
    axes.legend(loc="upper right", ncols=2, fontsize=8)


def draw_spectrum(axes: Axes, spectrum: "Spectrum", title: str) -> None:
    """Plots amplitude over frequency, down to 1e-4 of the maximum, and marks the fundamentals."""
    amplitudes, fundamentals = spectrum.amplitudes[1:], spectrum.fundamentals.ravel()
    axes.plot(spectrum.frequencies[1:], amplitudes, linewidth=0.8, label="the product")
    axes.set_yscale("log")
    top = max(float(amplitudes.max()), 1e-12)
    shown = np.flatnonzero(amplitudes > 1e-3 * top)
    end = spectrum.frequencies[1:][shown[-1]] if len(shown) else spectrum.frequencies[-1]
    axes.set_xlim(0, 1.05 * max(float(end), float(fundamentals.max())))
    axes.set_ylim(1e-4 * top, 6 * top)
    ticks = {"fundamental of each component": (fundamentals, "C3")}
    if 1 < len(fundamentals) <= _TICKED:
        first, second = fundamentals[np.array(list(combinations(range(len(fundamentals)), 2))).T]
        both = np.concatenate([first + second, np.abs(first - second)])
        ticks["sums and differences of two"] = (both, "0.6")
    for row, (label, (places, colour)) in enumerate(ticks.items()):
        height = np.full(len(places), top * 3 / 1.8**row)
        axes.plot(places, height, "|", markersize=9, color=colour, label=label)
    axes.set(title=title, xlabel="frequency (periods per unit of x)", ylabel="amplitude")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize=8)


def draw_factors(
    axes: Axes, t: Float[np.ndarray, "m"], factors: Float[np.ndarray, "m k"], title: str
) -> None:
    """Plots the factors of a neuron along a line, and their product."""
    for index, factor in enumerate(factors.T):
        axes.plot(t, factor, linewidth=0.8, alpha=0.7, label="factors" if index == 0 else None)
    axes.plot(t, factors.prod(axis=1), linewidth=2, color="C3", label="product")
    axes.set(title=title, xlabel="position along the first axis", ylabel="value", xlim=(-1, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize=8)


def draw_activations(
    axes: Axes,
    learned: Sequence["LearnedActivation"],
    initial: Sequence["LearnedActivation"],
    inputs: Float[np.ndarray, "g m"],
) -> None:
    """Plots the learned and initial activations of one layer over the range of their inputs."""
    low, high = float(inputs.min()), float(inputs.max())
    margin = 0.25 * max(high - low, 1e-3)
    ends = np.array([low - margin, high + margin])
    axes.axvspan(low, high, color="C2", alpha=0.1, linewidth=0, label="98 % of its inputs")
    for rho in initial[:1]:
        z = _points(rho, ends)
        axes.plot(z, rho(z), label="start", **_START)
    alpha = max(0.15, len(learned) ** -0.5)
    for index, rho in enumerate(learned):
        z = _points(rho, ends)
        labels = ("learned", "knots") if index == 0 else (None, None)
        axes.plot(z, rho(z), color="C0", linewidth=1.4, alpha=alpha, label=labels[0])
        if rho.exact and len(learned) <= 4:
            inside = (rho.knots > ends[0]) & (rho.knots < ends[1])
            knots, values = rho.knots[inside], rho.values[inside]
            axes.plot(knots, values, "o", markersize=4, color="C3", label=labels[1])
    count = "" if len(learned) == 1 else f", {len(learned)} activations"
    title = learned[0].where.replace("_", " ") + count
    axes.set(title=title, xlabel="input z", ylabel="rho(z)", xlim=ends)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(alpha=0.3)


def draw_variance(
    axes: Axes,
    name: str,
    layers: Sequence[str],
    final: "LayerVariance",
    initial: "LayerVariance | None",
) -> None:
    """Plots one variance, "output" or "gradient", over the layers."""
    curves = {"start": (initial, _START), "trained": (final, {"color": "C0"})}
    plotted = [1.0]
    for label, (variance, style) in curves.items():
        if variance is not None:
            values = getattr(variance, name)
            values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
            plotted += list(values[np.isfinite(values)])
            axes.plot(values, marker="o", markersize=4, label=label, **style)
    low, high = min(plotted), max(plotted)
    axes.set(yscale="log", ylim=(0.3 * low, 3 * high * (high / low) ** 0.25))
    if name == "output":
        axes.set(title="Signal through the layers", ylabel="variance of a layer's output")
    else:
        axes.set(title="Gradient through the layers", ylabel="variance of the gradient there")
    axes.grid(alpha=0.3)
    _layer_axis(axes, layers)
    axes.legend(loc="upper center", ncols=2, fontsize=8)


def _points(rho: "LearnedActivation", ends: Float[np.ndarray, "2"]) -> Float[np.ndarray, "m"]:
    """Points at which a piecewise linear curve must be evaluated to be drawn exactly."""
    inside = (rho.knots > ends[0]) & (rho.knots < ends[1])
    return np.concatenate([ends[:1], rho.knots[inside], ends[1:]])


def _layer_axis(axes: Axes, names: Sequence[str]) -> None:
    """Labels at most 12 layers by name, always including the last one."""
    places = range(len(names) - 1, -1, -math.ceil(len(names) / 12))
    axes.set_xticks(places, [names[place] for place in places], fontsize=8)
    axes.set_xlabel("layer")
