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
    figure = Figure(figsize=(4.5 * (1 + len(images)), 4), layout="constrained")
    curve, *panels = np.atleast_1d(figure.subplots(1, 1 + len(images)))
    curve.semilogy(np.arange(len(losses)), losses, linewidth=1)
    curve.set(xlabel="step", ylabel="loss")
    for axes, path in zip(panels, images, strict=True):
        pixels = matplotlib.image.imread(path)
        axes.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None)
        axes.set_title(path.stem, parse_math=False)
        axes.axis("off")
    figure.suptitle(title, parse_math=False)
    return figure
