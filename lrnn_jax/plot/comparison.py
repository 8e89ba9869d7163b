"""Figures that compare several fits to one problem."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from lrnn_jax.typing import Section

__all__ = ["draw_losses", "draw_sections"]

_SIDE = 2.6  # inches of a panel
_PLAIN: dict[str, Any] = {"parse_math": False}


def draw_losses(
    curves: Mapping[str, tuple[Sequence[int], Float[np.ndarray, "n"]]], label: str
) -> Figure:
    """The curves of several fits over their steps in one panel.

    Args:
      curves: steps and values by the name of the fit.
      label: what the values are.
    """
    figure = Figure(figsize=(7, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, (steps, values) in curves.items():
        axes.plot(steps, values, linewidth=1.3, label=name)
    if all(np.nanmin(values) > 0 for _, values in curves.values()) and label == "loss":
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel(label, **_PLAIN)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return figure


def draw_sections(sections: Mapping[str, Section]) -> Figure:
    """The truth beside each fit, and below each fit its absolute error on one scale.

    The scale ends at the 99.9th percentile of all errors.

    Args:
      sections: the same part of each fit by its name; curves, maps or images.
    """
    names, first = list(sections), next(iter(sections.values()))
    if first.value.ndim == 1:
        return _draw_curves(sections)
    known = first.truth is not None
    height, width = first.value.shape[:2]
    aspect = float(np.clip(height / width, 0.3, 3))
    rows, columns = 1 + known, len(names) + known
    size = (_SIDE * columns + 0.8, _SIDE * aspect * rows + 0.4 * rows)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    shown = [first.truth, *(s.value for s in sections.values())] if known else None
    shown = shown or [section.value for section in sections.values()]
    titles = ["truth", *names] if known else names
    low, high = float(np.nanmin(shown[0])), float(np.nanmax(shown[0]))
    shape = "equal" if aspect == height / width else "auto"
    for axes, values, title in zip(panels[0], shown, titles, strict=True):
        _draw_map(axes, values, low, high, shape)
        axes.set_title(title, fontsize=10, **_PLAIN)
    if known:
        errors = [_error(section) for section in sections.values()]
        finite = np.concatenate([error[np.isfinite(error)] for error in errors])
        top = max(float(np.percentile(finite, 99.9)) if finite.size else 1.0, 1e-300)
        panels[1, 0].set_axis_off()
        for axes, error in zip(panels[1, 1:], errors, strict=True):
            image = axes.imshow(error, cmap="inferno", vmin=0, vmax=top, aspect=shape)
        figure.colorbar(image, ax=panels[1, 1:], label="absolute error", extend="max")
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
    return figure


def _draw_map(axes: Any, values: np.ndarray, low: float, high: float, shape: str) -> None:
    """An image in [0, 1], or a map in the range of the truth."""
    if values.ndim == 3:
        pixels = values[..., 0] if values.shape[-1] < 3 else values
        axes.imshow(np.clip(pixels, 0, 1), cmap="gray", vmin=0, vmax=1, aspect=shape)
        return
    if low < 0:
        low, high = -max(-low, high), max(-low, high)
    axes.imshow(values, cmap="RdBu_r" if low < 0 else "gray", vmin=low, vmax=high, aspect=shape)


def _error(section: Section) -> np.ndarray:
    error = np.abs(section.value - section.truth)
    return error.mean(axis=-1) if error.ndim == 3 else error


def _draw_curves(sections: Mapping[str, Section]) -> Figure:
    """The curves of the truth and of all fits, and below it the errors."""
    truth = next(iter(sections.values())).truth
    figure = Figure(figsize=(8, 4.6), dpi=110, layout="constrained")
    panels = figure.subplots(1 if truth is None else 2, sharex=True, squeeze=False)[:, 0]
    if truth is not None:
        panels[0].plot(truth, "k", linewidth=1.6, label="truth")
    for name, section in sections.items():
        panels[0].plot(section.value, linewidth=1, label=name)
        if truth is not None:
            panels[1].semilogy(np.abs(section.value - truth) + 1e-18, linewidth=1, label=name)
    panels[0].legend(fontsize=9)
    panels[-1].set_ylabel("absolute error" if truth is not None else "")
    panels[-1].set_xlabel("sample")
    return figure
