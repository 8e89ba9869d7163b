"""A picture as a field: coordinates in, colours out."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import skimage.transform
from einops import rearrange
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import require_at_least
from lrnn_jax.domains import grid
from lrnn_jax.errors import InputError
from lrnn_jax.io import Picture, read_picture, write_error_map, write_png
from lrnn_jax.metrics import psnr, psnr_from_mse, ssim
from lrnn_jax.typing import Field, Key, Terms

__all__ = ["Image", "ImageData"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ImageData:
    """The pixels of a picture as points, row by row.

    Attributes:
      x: pixel centres (row, column), each axis of the picture spanning [-1, 1].
      y: colours, 0..1 mapped to [-1, 1].
      shape: (height, width) in pixels.
      bits: bits of a channel in the source.
    """

    x: Float[ArrayLike, "n 2"]
    y: Float[ArrayLike, "n c"]
    shape: tuple[int, int] = dataclasses.field(metadata={"static": True})
    bits: int = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """Fit a picture: minimise the mean squared error of u(row, column) over its pixels.

    The loss is in units of the network's range [-1, 1], so PSNR = 10 log10(4 / loss).

    Args:
      source: a sample, 'astronaut' (RGB) or 'camera' (grey), or the path of a picture.
      crop: (left, top, width, height) in pixels, cut out first; None keeps the whole picture.
      size: (width, height) in pixels to resize to, anti-aliased; None keeps the resolution.

    Raises:
      InputError: the picture is missing or unusable, or the crop leaves it.
    """

    source: str = "astronaut"
    crop: tuple[int, int, int, int] | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.size is not None:
            require_at_least(self, 1, "size")
            if self.size == (1, 1):
                raise InputError("size: expected 2 pixels or more, got (1, 1)")
        if self.crop is not None:
            left, top, width, height = self.crop
            if min(left, top) < 0 or min(width, height) < 1:
                raise InputError(
                    f"crop: expected left, top >= 0 and width, height >= 1, got {self.crop}"
                )

    @property
    def in_dim(self) -> int:
        """2: row and column."""
        return 2

    @property
    def out_dim(self) -> int:
        """The channels of the picture, 1 to 4; reads the file."""
        return read_picture(self.source).pixels.shape[-1]

    def load(self) -> ImageData:
        """Reads, crops and resizes the picture."""
        picture = read_picture(self.source)
        pixels = self._resized(self._cropped(picture))
        height, width = pixels.shape[:2]
        return ImageData(
            x=rearrange(grid((height, width)), "h w d -> (h w) d"),
            y=rearrange(2 * pixels - 1, "h w c -> (h w) c").astype(np.float32),
            shape=(height, width),
            bits=picture.bits,
        )

    def loss(self, field: Field, data: ImageData, key: Key) -> tuple[jax.Array, Terms]:
        """mean (u(x) - y)^2 over points and channels."""
        del key  # full batches and mini-batches alike are drawn by the trainer
        return jnp.mean((field(jnp.asarray(data.x)) - jnp.asarray(data.y)) ** 2), {}

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """PSNR in dB of the points that the loss was taken over."""
        return {"psnr": psnr_from_mse(terms["loss"], peak=2.0)}

    def evaluate(self, field: Field, data: ImageData) -> dict[str, float]:
        """PSNR in dB and SSIM of the whole picture, peak 1, not rounded to pixel levels."""
        value, truth = self._pixels(field, data.x, data.shape), _to_unit(data.y, data.shape)
        return {"psnr": psnr(value, truth), "ssim": ssim(value, truth)}

    def render(self, field: Field, data: ImageData, folder: Path) -> list[Path]:
        """`reconstruction.png` and `error.png`."""
        value, truth = self._pixels(field, data.x, data.shape), _to_unit(data.y, data.shape)
        error = np.mean(np.abs(value - truth), axis=-1)
        title = f"{psnr(value, truth):.2f} dB"
        return [
            write_png(folder / "reconstruction.png", value, data.bits),
            write_error_map(folder / "error.png", error, title),
        ]

    def decode(self, field: Field, size: tuple[int, ...] | None, path: Path) -> Path:
        """Writes the field as an 8-bit PNG of `size` (width, height); None: that of the source."""
        if size is None:
            height, width = self.load().shape
        elif len(size) == 2 and min(size) >= 1:
            width, height = size
        else:
            raise InputError(f"size: expected a width and a height >= 1, got {size}")
        x = grid((height, width)).reshape(-1, 2)
        return write_png(path, self._pixels(field, x, (height, width)))

    def _cropped(self, picture: Picture) -> np.ndarray:
        if self.crop is None:
            return picture.pixels
        left, top, width, height = self.crop
        rows, columns = picture.pixels.shape[:2]
        if left + width > columns or top + height > rows:
            raise InputError(
                f"crop: {self.crop} leaves the picture, which is {columns} wide and {rows} high"
            )
        if width * height < 2:
            raise InputError(f"crop: expected 2 pixels or more, got {self.crop}")
        return picture.pixels[top : top + height, left : left + width]

    def _resized(self, pixels: np.ndarray) -> np.ndarray:
        if self.size is None:
            return pixels
        width, height = self.size
        resized: Any = skimage.transform.resize(pixels, (height, width), anti_aliasing=True)
        return np.clip(resized, 0, 1)

    def _pixels(self, field: Field, x: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
        return _to_unit(field(jnp.asarray(x)), shape)


def _to_unit(y: ArrayLike, shape: tuple[int, int]) -> Float[np.ndarray, "height width c"]:
    """[-1, 1] to [0, 1] in float64, as a picture."""
    return (rearrange(np.asarray(y, np.float64), "(h w) c -> h w c", h=shape[0]) + 1) / 2
