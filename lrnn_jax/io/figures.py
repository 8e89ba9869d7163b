"""The figures of a run, drawn without pyplot so that no global state or display is touched."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from lrnn_jax.io.files import atomic

__all__ = ["save_figure", "write_curves", "write_error_map"]


def write_error_map(path: Path, error: Float[np.ndarray, "height width"], title: str) -> Path:
    """|error| of an image as a heat map, in levels of 255, with its colour bar.

    The scale ends at the 99.9th percentile, so that one bad pixel does not blacken the rest.
    """
    levels = 255 * np.abs(error)
    height, width = levels.shape
    side = 6 / max(height, width)
    figure = Figure(figsize=(max(2.5, side * width) + 1.2, max(2.5, side * height) + 0.6), dpi=120)
    axes = figure.subplots()
    top = max(float(np.percentile(levels, 99.9)), 1e-12)
    shown = axes.imshow(levels, cmap="inferno", vmin=0, vmax=top, interpolation="nearest")
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.colorbar(shown, ax=axes, label="absolute error (levels of 255)", extend="max")
    return save_figure(figure, path)


def write_curves(
    path: Path, steps: Sequence[int], curves: Mapping[str, Sequence[float]], title: str
) -> Path:
    """Training curves over steps, one panel a quantity; logarithmic over two decades and more."""
    figure = Figure(figsize=(6.4, 0.6 + 2.4 * len(curves)), dpi=120)
    panels = figure.subplots(len(curves), sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, curves.items(), strict=True):
        axes.plot(steps, values, linewidth=1.2)
        axes.set_ylabel(name)
        if min(values) > 0 and (name == "loss" or max(values) > 100 * min(values)):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
    panels[0].set_title(title)
    panels[-1].set_xlabel("step")
    return save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a figure, whole or not at all; equal figures give equal files."""
    with atomic(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", metadata={"Software": None})
    return path
