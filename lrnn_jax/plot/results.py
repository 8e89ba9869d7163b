"""The result of a fit as one figure."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.image
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

__all__ = ["show_result"]


def show_result(losses: Float[np.ndarray, "n"], images: Sequence[Path], title: str) -> Figure:
    """The loss over the steps, on a logarithmic scale, and images side by side.

    Args:
      losses: the loss at each step.
      images: PNG files.
      title: title of the figure.
    """
    shown = [matplotlib.image.imread(path) for path in images]
    widths = [1.1, *(pixels.shape[1] / pixels.shape[0] for pixels in shown)]
    figure = Figure(figsize=(4 * sum(widths), 4), layout="constrained")
    panels = figure.subplots(1, 1 + len(images), width_ratios=widths, squeeze=False)[0]
    curve, *panels = panels
    curve.semilogy(np.arange(len(losses)), losses, linewidth=1)
    curve.set(xlabel="step", ylabel="loss")
    for axes, path, pixels in zip(panels, images, shown, strict=True):
        axes.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None)
        axes.set_title(path.stem, parse_math=False)
        axes.axis("off")
    figure.suptitle(title, parse_math=False)
    return figure
