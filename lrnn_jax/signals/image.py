"""Images as fields: map coordinates to colours."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from einops import rearrange
from jaxtyping import ArrayLike, Float

from lrnn_jax.domains import in_precision
from lrnn_jax.metrics import psnr_from_mse
from lrnn_jax.pointwise import Pointwise
from lrnn_jax.signals.picture import PictureProblem, pixel_centres
from lrnn_jax.typing import Field

__all__ = ["Image", "ImageData"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ImageData:
    """The pixels of an image as points, row by row.

    Attributes:
      x: pixel centres (row, column); each axis of the image spans [-1, 1].
      y: colours, mapped from [0, 1] to [-1, 1].
      shape: (height, width) in pixels.
      bits: bits per channel of the source.
    """

    x: Float[ArrayLike, "n 2"]
    y: Float[ArrayLike, "n c"]
    shape: tuple[int, int] = dataclasses.field(metadata={"static": True})
    bits: int = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image(Pointwise, PictureProblem):
    """Fit an image: minimise the mean squared error of u(row, column) over its pixels.

    The loss is in units of the network's range [-1, 1], so PSNR = 10 log10(4 / loss).
    """

    def load(self) -> ImageData:
        """Reads, crops and resizes the image."""
        picture = self.picture()
        height, width = picture.pixels.shape[:2]
        return ImageData(
            x=pixel_centres((height, width)),
            y=in_precision(rearrange(2 * picture.pixels - 1, "h w c -> (h w) c")),
            shape=(height, width),
            bits=picture.bits,
        )

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """PSNR in dB (peak 2), computed from the loss."""
        return {"psnr": psnr_from_mse(terms["loss"], peak=2.0)}

    def evaluate(self, field: Field, data: ImageData) -> dict[str, float]:
        """PSNR in dB and SSIM of the full image (peak 1), not rounded to pixel levels."""
        return self.scores(field, _truth(data))

    def render(self, field: Field, data: ImageData, folder: Path) -> list[Path]:
        """`reconstruction.png` and `error.png`."""
        return self.pictures(field, _truth(data), data.bits, folder)


def _truth(data: ImageData) -> Float[np.ndarray, "height width c"]:
    """The loaded pixels in [0, 1], in float64."""
    y = np.asarray(data.y, np.float64)
    return (rearrange(y, "(h w) c -> h w c", h=data.shape[0]) + 1) / 2
