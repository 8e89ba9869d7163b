"""Figures of a study, for its page: each series has its colour, its marker and a number."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from lrnn_jax.plot.svg import mark, page_style, series_style

__all__ = [
    "Band",
    "Point",
    "draw_attainment",
    "draw_bands",
    "draw_times",
    "draw_tradeoffs",
]

_PLAIN: dict[str, Any] = {"parse_math": False}
_MOST_STEPS = 200  # corners of a step curve
_FEW_DECADES = 2000  # ratio below which the labels of a logarithmic axis are plain numbers
_DECADE = 10  # values with a larger ratio have a logarithmic axis


class Band(NamedTuple):
    """A curve with a band.

    Attributes:
      x: places, ascending.
      middle: the curve.
      low: lower end of the band.
      high: upper end of the band.
    """

    x: Float[np.ndarray, "n"]
    middle: Float[np.ndarray, "n"]
    low: Float[np.ndarray, "n"]
    high: Float[np.ndarray, "n"]


class Point(NamedTuple):
    """A point of a trade-off.

    Attributes:
      series: number of its series.
      label: what it is, shown when it is pointed at.
      family: points of one family are joined by a line.
      costs: the costs by name.
      score: the score.
      on_front: for each cost, whether the point is on the Pareto front.
    """

    series: int
    label: str
    family: str
    costs: Mapping[str, float]
    score: float
    on_front: Mapping[str, bool]


def draw_attainment(
    scores: Mapping[str, Float[np.ndarray, "n"]],
    numbers: Mapping[str, int],
    score: str,
    higher: bool,
    targets: Sequence[float] = (),
) -> Figure:
    """The share of fits whose score is at least as good as each value.

    Args:
      scores: the scores of the fits by series; those that are not finite count as the worst.
      numbers: the numbers of the series.
      score: name of the score.
      higher: whether a larger score is better.
      targets: values that are marked.
    """
    with page_style():
        figure, axes = _figure(1, 5.7, 3.3)
        everything = np.concatenate([*scores.values(), np.asarray(targets, float)])
        everything = everything[np.isfinite(everything)]
        worst = (everything.min() if higher else everything.max()) if everything.size else 0.0
        for label, values in scores.items():
            number, finite = numbers[label], np.sort(values[np.isfinite(values)])
            if not finite.size:
                continue
            share = np.arange(1, finite.size + 1) / values.size
            # From the best to the worst, so that the share of fits grows.
            x = finite[::-1] if higher else finite
            style: dict[str, Any] = series_style(number) | {"marker": "", "linewidth": 1.8}
            x, share = _thinned(np.array([x[0], *x, worst]), np.array([0, *share, share[-1]]))
            (line,) = axes[0].step(x, share, where="post", **style)
            mark(line, number, label)
        for target in targets:
            axes[0].axvline(target, color="0.5", linewidth=0.8, linestyle=":")
        if not higher and everything.size and everything.max() > _DECADE * everything.min() > 0:
            _log_axis(axes[0], "x")
        axes[0].set_xlabel(f"{score} at the end, or {'more' if higher else 'less'}", **_PLAIN)
        _share_axis(axes[0])
    return figure


def draw_times(
    times: Mapping[str, Mapping[str, Float[np.ndarray, "n"]]],
    numbers: Mapping[str, int],
    xlabel: str,
) -> Figure:
    """The share of fits that reached a target within a time, one panel for each target.

    Args:
      times: for each target and each series, the times of all fits; inf for those that did not.
      numbers: the numbers of the series.
      xlabel: what the times are.
    """
    with page_style():
        figure, panels = _figure(len(times), 3.4, 3.1)
        known = [t[np.isfinite(t)] for by in times.values() for t in by.values()]
        known = np.concatenate([t[t > 0] for t in known]) if known else np.ones(1)
        low, high = (known.min(), known.max()) if known.size else (1.0, 2.0)
        for axes, (target, by_series) in zip(panels, times.items(), strict=True):
            for label, values in by_series.items():
                _draw_times_of(axes, numbers[label], label, values, low, high)
            if high / low > _DECADE:
                _log_axis(axes, "x")
            else:
                axes.set_xlim(left=0)
            axes.set_xlabel(xlabel)
            axes.set_title(target, fontsize=10, **_PLAIN)
            _share_axis(axes)
    return figure


def _draw_times_of(
    axes: Axes, number: int, label: str, values: np.ndarray, low: float, high: float
) -> None:
    finite = np.sort(values[np.isfinite(values)])
    share = np.arange(1, finite.size + 1) / max(1, values.size)
    first = 0.8 * low
    x, y = [first, *finite, 1.1 * high], [0, *share, share[-1] if share.size else 0]
    x, y = _thinned(np.asarray(x), np.asarray(y))
    style: dict[str, Any] = series_style(number) | {"marker": "", "linewidth": 1.8}
    (line,) = axes.step(x, y, where="post", **style)
    reached = f"{100 * finite.size / max(1, values.size):.0f} %"
    median = f", median {np.median(finite):.3g}" if finite.size else ""
    mark(line, number, f"{label}: {reached}{median}")


def draw_tradeoffs(points: Sequence[Point], score: str, log: bool) -> Figure:
    """A score over each of several costs; the Pareto front is a line, its points have rings.

    Args:
      points: the points; all have the same costs.
      score: name of the score.
      log: whether the axis of the score is logarithmic.
    """
    costs = list(points[0].costs)
    with page_style():
        figure, panels = _figure(len(costs), 3.4, 3.1)
        for axes, cost in zip(panels, costs, strict=True):
            _draw_families(axes, points, cost)
            best = sorted((p for p in points if p.on_front[cost]), key=lambda p: p.costs[cost])
            x, y = [p.costs[cost] for p in best], [p.score for p in best]
            axes.step(x, y, where="post", color="0.5", linewidth=6, alpha=0.25, zorder=0)
            for point in points:
                style: dict[str, Any] = series_style(point.series) | {"linestyle": ""}
                size: dict[str, Any] = {"markersize": 7, "markeredgewidth": 1.6}
                full: dict[str, Any] = {} if point.on_front[cost] else {"markerfacecolor": "none"}
                (dot,) = axes.plot(point.costs[cost], point.score, **style, **size, **full)
                mark(dot, point.series, f"{point.label}: {point.score:.4g}")
            values = [p.costs[cost] for p in points]
            if max(values) > _DECADE * min(values) > 0:
                _log_axis(axes, "x")
            axes.set_xlabel(cost)
            if log:
                _log_axis(axes, "y")
            axes.grid(alpha=0.15)
        panels[0].set_ylabel(score, **_PLAIN)
    return figure


def _draw_families(axes: Axes, points: Sequence[Point], cost: str) -> None:
    for family in dict.fromkeys(point.family for point in points):
        own = sorted((p for p in points if p.family == family), key=lambda p: p.costs[cost])
        if len(own) > 1:
            x, y = zip(*((p.costs[cost], p.score) for p in own), strict=True)
            axes.plot(x, y, color=series_style(own[0].series)["color"], linewidth=1, alpha=0.6)


def draw_bands(
    bands: Mapping[str, Band],
    xlabel: str,
    ylabel: str,
    *,
    numbers: Mapping[str, int] | None = None,
    logs: str = "",
    markers: bool = False,
) -> Figure:
    """Curves with bands, one for each series.

    Args:
      bands: the curves by series.
      xlabel: what the places are.
      ylabel: what the values are.
      numbers: the numbers of the series; None gives the figure a legend of its own.
      logs: the axes that are logarithmic: "", "x", "y" or "xy".
      markers: whether the places are marked.
    """
    with page_style():
        figure, (axes,) = _figure(1, 5.7, 3.3)
        for place, (label, band) in enumerate(bands.items()):
            number = place if numbers is None else numbers[label]
            style = series_style(number) | ({} if markers else {"marker": ""})
            line = {"linewidth": 1.6, "markersize": 5, "label": label}
            parts = axes.plot(band.x, band.middle, **style, **line)
            fill = {"color": style["color"], "alpha": 0.15, "linewidth": 0}
            for artist in [*parts, axes.fill_between(band.x, band.low, band.high, **fill)]:
                if numbers is not None:
                    mark(artist, number, label)
        if numbers is None and len(bands) > 1:
            axes.legend()
        for name in logs:
            _log_axis(axes, name)
        axes.set_xlabel(xlabel, **_PLAIN)
        axes.set_ylabel(ylabel, **_PLAIN)
        axes.grid(alpha=0.15)
    return figure


def _log_axis(axes: Axes, name: str) -> None:
    """Make the axis "x" or "y" logarithmic, with labels that do not overlap.

    Over a few decades, these are 1, 2 and 5 times a power of ten as plain numbers.
    """
    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = axis.get_data_interval()
    axis.set_minor_formatter(NullFormatter())
    if low > 0 and high < _FEW_DECADES * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _figure(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * panels, height), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _share_axis(axes: Axes) -> None:
    axes.set(ylim=(-0.02, 1.04), ylabel="share of the fits")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.15)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 200 corners of a curve, with both ends."""
    if len(x) <= _MOST_STEPS:
        return x, y
    chosen = np.unique(np.linspace(0, len(x) - 1, _MOST_STEPS).astype(int))
    return x[chosen], y[chosen]
