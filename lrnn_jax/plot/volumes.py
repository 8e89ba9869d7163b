"""Slices of grey-valued volumes."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from lrnn_jax.plot.figures import save_figure

__all__ = ["write_volume_slices"]


def write_volume_slices(
    path: Path, truth: Float[np.ndarray, "a b c"], value: Float[np.ndarray, "a b c"]
) -> Path:
    """Writes the central slice across each axis: the volume, the field, and the absolute error.

    Args:
      path: a PNG file.
      truth: the volume.
      value: the field on the same grid.
    """
    figure = Figure(figsize=(10, 9.5), layout="constrained")
    panels = figure.subplots(3, 3)
    error = np.abs(value - truth)
    scale = {"vmin": truth.min(), "vmax": truth.max(), "cmap": "gray"}
    for axis, row in enumerate(panels):
        middle = truth.shape[axis] // 2
        images = [np.take(volume, middle, axis) for volume in (truth, value, error)]
        shown = [axes.imshow(im, **scale) for axes, im in zip(row[:2], images[:2], strict=True)]
        faults = row[2].imshow(images[2], cmap="magma", vmin=0, vmax=max(error.max(), 1e-30))
        row[0].set_ylabel(f"slice {middle} across axis {axis}")
        figure.colorbar(shown[1], ax=row[1])
        figure.colorbar(faults, ax=row[2])
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
    for axes, title in zip(panels[0], ("volume", "field", "|error|"), strict=True):
        axes.set_title(title)
    return save_figure(figure, path)
