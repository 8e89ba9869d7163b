"""Images as fields: map coordinates to colours."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from einops import rearrange
from jaxtyping import ArrayLike, Bool, Float

from lrnn_jax.checks import require_at_least
from lrnn_jax.domains import in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.io import make_folder
from lrnn_jax.metrics import psnr, psnr_from_mse
from lrnn_jax.pointwise import Pointwise
from lrnn_jax.signals.picture import PictureProblem, pixel_centres
from lrnn_jax.typing import Field

__all__ = ["Image", "ImageData"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ImageData:
    """The pixels of an image as points, row by row, without those that are held out.

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

    Args:
      hold_out: fraction of the pixels that training does not use, in [0, 1); they are drawn with
        `hold_out_seed`, and scored as `psnr_held_out`.
      hold_out_seed: seed of their choice, >= 0.
    """

    hold_out: float = 0.0
    hold_out_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "hold_out_seed")
        if not 0 <= self.hold_out < 1:
            raise InputError(f"hold_out: expected a fraction in [0, 1), got {self.hold_out}")

    def load(self) -> ImageData:
        """Reads, crops and resizes the image."""
        picture = self.picture()
        height, width = picture.pixels.shape[:2]
        kept = ~self._held_out((height, width)).ravel()
        if not kept.any():
            raise InputError(f"hold_out: {self.hold_out} of {kept.size} pixels leaves none to fit")
        return ImageData(
            x=pixel_centres((height, width))[kept],
            y=in_precision(rearrange(2 * picture.pixels - 1, "h w c -> (h w) c")[kept]),
            shape=(height, width),
            bits=picture.bits,
        )

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """PSNR in dB (peak 2), computed from the loss."""
        return {"psnr": psnr_from_mse(terms["loss"], peak=2.0)}

    def evaluate(self, field: Field, data: ImageData | None = None) -> dict[str, float]:
        """PSNR in dB and SSIM of the full image (peak 1), not rounded to pixel levels."""
        truth = self._truth(data)
        held = self._held_out(truth.shape[:2])
        scores = self.scores(field, truth)
        if held.any():
            value = self.pixels(field, truth.shape[:2])
            scores["psnr_held_out"] = psnr(value[held], truth[held])
        return scores

    def render(
        self, field: Field, data: ImageData | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """`reconstruction.png` and `error.png`."""
        data = self.loaded(data)
        return self.pictures(field, self._truth(data), data.bits, make_folder(folder))

    def _held_out(self, shape: tuple[int, ...]) -> Bool[np.ndarray, "height width"]:
        """True at the pixels that training does not use."""
        rng = np.random.default_rng(self.hold_out_seed)
        return rng.random(shape) < self.hold_out

    def _truth(self, data: ImageData | None) -> Float[np.ndarray, "height width c"]:
        """All pixels in [0, 1], in float64; those of `data`, rounded to its dtype, if it is all."""
        if self.hold_out:
            return self.picture().pixels
        data = self.loaded(data)
        y = np.asarray(data.y, np.float64)
        return (rearrange(y, "(h w) c -> h w c", h=data.shape[0]) + 1) / 2
