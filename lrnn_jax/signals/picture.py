"""Base class of the image problems: source file, pixel coordinates, scores, output images."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np
from einops import rearrange
from jaxtyping import Float

from lrnn_jax.checks import Keywords, check_types, require_at_least
from lrnn_jax.domains import grid
from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.io import (
    Picture,
    SourceField,
    as_source,
    count_channels,
    read_picture,
    resize,
    write_picture,
    write_png,
)
from lrnn_jax.metrics import psnr, ssim
from lrnn_jax.typing import Data, Field, Problem, Section

__all__ = ["PictureProblem", "decoded_shape", "grey", "pixel_centres"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureProblem(Keywords, Problem):
    """Base class: an image as a field u(row, column); pixels [0, 1] map to u in [-1, 1].

    Args:
      source: a sample, 'astronaut' (RGB), 'camera' (grey) or 'phantom' (Shepp and Logan's, grey),
        the path of an image file, or an array (height, width) or (height, width, channels):
        8- or 16-bit integers, or floats in [0, 1].
      crop: (left, top, width, height) in pixels, applied before resizing; None keeps all pixels.
      size: (width, height) in pixels to resize to, anti-aliased; None keeps the resolution.

    Raises:
      InputError: the image is missing or unusable, the crop exceeds it, or a field is out of its
        range; holds for all image problems.
    """

    main_score: ClassVar[str | None] = "psnr"

    source: SourceField = dataclasses.field(default=as_source("astronaut"), kw_only=False)
    crop: tuple[int, int, int, int] | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", as_source(self.source))
        require_at_least(self, 1, "size")
        check_types(self)
        if self.size == (1, 1):
            raise InputError("size: expected 2 pixels or more, got (1, 1)")
        if self.crop is not None and (min(self.crop[:2]) < 0 or min(self.crop[2:]) < 1):
            raise InputError(
                f"crop: expected left, top >= 0 and width, height >= 1, got {self.crop}"
            )

    @property
    def in_dim(self) -> int:
        """2: row and column."""
        return 2

    @property
    def out_dim(self) -> int:
        """Number of channels, 1 to 4; reads the file."""
        return count_channels(self.source)

    def picture(self) -> Picture:
        """The cropped and resized image: pixels in [0, 1], and bits per channel of the source."""
        picture = read_picture(self.source)
        pixels = self._cropped(picture.pixels)
        if self.size is not None:
            pixels = np.clip(resize(pixels, self.size), 0, 1)
        return Picture(pixels, picture.bits)

    def scores(self, field: Field, truth: np.ndarray) -> dict[str, float]:
        """PSNR in dB and SSIM (peak 1) of the field; `truth` is (height, width, channels)."""
        value = self.pixels(field, truth.shape[:2])
        return {"psnr": psnr(value, truth), "ssim": ssim(value, truth)}

    def section(self, field: Field, data: Data | None = None) -> Section:
        """All pixels."""
        del data
        truth = self.picture().pixels
        return Section(truth, self.pixels(field, truth.shape[:2]))

    def pictures(self, field: Field, truth: np.ndarray, bits: int, folder: Path) -> list[Path]:
        """`reconstruction.png`, and `error.png` with truth, reconstruction and error."""
        from lrnn_jax.plot import write_error_map

        value = self.pixels(field, truth.shape[:2])
        return [
            write_png(folder / "reconstruction.png", value, bits),
            write_error_map(folder / "error.png", truth, value, f"{psnr(value, truth):.2f} dB"),
        ]

    def decode(
        self,
        field: Field,
        size: tuple[int, ...] | None = None,
        path: str | Path | None = None,
    ) -> Path:
        """Writes an 8-bit PNG or TIFF of `size` (width, height); None: the size of the source."""
        path = path or self.decoded_file
        height, width = self.picture().pixels.shape[:2] if size is None else decoded_shape(size)
        return write_picture(path, self.pixels(field, (height, width)))

    def pixels(self, field: Field, shape: tuple[int, int]) -> Float[np.ndarray, "height width c"]:
        """The field at pixel centres, mapped from [-1, 1] to [0, 1], in float64."""
        y = predict(field, pixel_centres(shape)).astype(np.float64)
        return (rearrange(y, "(h w) c -> h w c", h=shape[0]) + 1) / 2

    def _cropped(self, pixels: np.ndarray) -> np.ndarray:
        if self.crop is None:
            return pixels
        left, top, width, height = self.crop
        rows, columns = pixels.shape[:2]
        if left + width > columns or top + height > rows:
            raise InputError(
                f"crop: {self.crop} exceeds the image, which is {columns} wide and {rows} high"
            )
        if width * height < 2:
            raise InputError(f"crop: expected 2 pixels or more, got {self.crop}")
        return pixels[top : top + height, left : left + width]


def decoded_shape(size: tuple[int, ...]) -> tuple[int, int]:
    """Converts an output `size` (width, height) to (height, width).

    Raises:
      InputError: `size` is not a pair of integers >= 1.
    """
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"size: expected a width and a height >= 1, got {size}")
    return size[1], size[0]


def grey(pixels: Float[np.ndarray, "height width c"]) -> Float[np.ndarray, "height width"]:
    """The mean of the colour channels; the alpha channel is ignored."""
    return pixels[..., : 1 if pixels.shape[-1] < 3 else 3].mean(axis=-1)


def pixel_centres(shape: tuple[int, int]) -> Float[np.ndarray, "n 2"]:
    """Pixel centres (row, column) of an image, row by row; each axis spans [-1, 1]."""
    return rearrange(grid(shape), "h w d -> (h w) d")
