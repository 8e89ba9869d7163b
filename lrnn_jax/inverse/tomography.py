"""Sparse-view computed tomography: reconstruct a slice from few parallel-beam projections."""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.checks import Keywords, check_types, require_at_least, require_nonnegative
from lrnn_jax.domains import in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.inverse.classical import gradient
from lrnn_jax.inverse.radon import filtered_back_projection, radon, view_angles
from lrnn_jax.inverse.restoration import require_noise, with_noise
from lrnn_jax.io import (
    SourceField,
    as_source,
    make_folder,
    read_picture,
    resize,
    write_picture,
    write_png,
)
from lrnn_jax.metrics import psnr, ssim
from lrnn_jax.signals.picture import decoded_shape, grey, pixel_centres
from lrnn_jax.typing import Field, Key, Problem, Section, Terms

__all__ = ["CT", "Sinogram"]

_FLAT = 1e-4
"""Pixel differences below this value count as zero; it is 1/40 of an 8-bit level."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sinogram:
    """Projections of a slice.

    Attributes:
      x: pixel centres (row, column) of the slice; each axis spans [-1, 1].
      y: one row of line integrals for each view; the unit of length is the side of the slice.
    """

    x: Float[ArrayLike, "n 2"]
    y: Float[ArrayLike, "a m"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CT(Keywords, Problem):
    """Reconstruct a CT slice u(row, column) in [0, 1] from its projections R u at few angles.

        loss = mean (F (R u / m - y))^2 over views and detectors, u at all m x m pixels
               + tv_weight * integral |grad u|, over a slice of side 1

    Args:
      source: 'phantom' (Shepp and Logan's), another sample, the path of an image, or an array.
        Colours are averaged, and the values are scaled to the range [0, 1].
      size: side m of the slice in pixels after resizing, >= 2.
      views: number of angles, >= 1, equally spaced from 0 to 180 degrees.
      endpoint: include the view at 180 degrees, which repeats that at 0 mirrored, as WIRE's script
        does.
      photons: expected photon count of a line integral of 1 (one pixel of value 1), which sets the
        noise of the sinogram; 0 disables the noise.
      readout: standard deviation of the readout noise of the sinogram in counts, >= 0.
      noise_seed: seed of the noise, >= 0.
      residual_filter: the filter F. 'none' is the identity, as in the papers. 'ramp' is the square
        root of the ramp filter of back-projection; R' F^2 R is then nearly the identity, so fine
        detail is learned as fast as in a fit to the pixels themselves, but noise is amplified.
      tv_weight: weight of the isotropic total variation (forward differences), >= 0. It
        regularises what few views do not determine, and it suppresses noise.
      block: number of pixels at which the network is evaluated at a time; None means 512 on a CPU
        and 65536 elsewhere.

    Raises:
      InputError: the image is unusable or constant, or a field is out of its range.

    References: the set-up of Saragadam et al., "WIRE" (CVPR 2023): 100 views of 256 x 256 pixels,
    endpoint included, no noise. The line integrals follow scikit-image, which is our choice.
    """

    full_batch_only: ClassVar[bool] = True
    loss_fields: ClassVar[tuple[str, ...] | None] = (
        "size",
        "views",
        "endpoint",
        "residual_filter",
        "tv_weight",
        "block",
    )
    main_score: ClassVar[str | None] = "psnr"
    """Every projection depends on all pixels, so the loss cannot be split into mini-batches."""

    source: SourceField = dataclasses.field(default=as_source("phantom"), kw_only=False)
    size: int = 256
    views: int = 100
    endpoint: bool = False
    photons: float = 0.0
    readout: float = 2.0
    noise_seed: int = 0
    residual_filter: Literal["none", "ramp"] = "none"
    tv_weight: float = 0.0
    block: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", as_source(self.source))
        require_at_least(self, 2, "size")
        require_at_least(self, 1, "views", "block")
        require_at_least(self, 0, "noise_seed")
        require_nonnegative(self, "tv_weight", "photons", "readout")
        check_types(self)
        if self.photons:
            require_noise(self)

    @property
    def in_dim(self) -> int:
        """2: row and column."""
        return 2

    @property
    def out_dim(self) -> int:
        """1: the attenuation."""
        return 1

    @property
    def angles(self) -> Float[np.ndarray, "a"]:
        """Angles of the views in degrees."""
        return view_angles(self.views, self.endpoint)

    def slice(self) -> Float[np.ndarray, "m m"]:
        """The ground truth in [0, 1], in float64."""
        pixels = grey(read_picture(self.source).pixels)
        resized = resize(pixels, (self.size, self.size))
        low, high = float(resized.min()), float(resized.max())
        if not high > low:
            raise InputError(f"{self.source} has one value, {low:g}: expected an image")
        return (resized - low) / (high - low)

    def load(self) -> Sinogram:
        """Reads the slice and computes its projections."""
        with jax.enable_x64(True):
            rows = np.asarray(radon(self.slice(), self.angles))
        if self.photons:
            rows = with_noise(np.maximum(rows, 0), self.photons, self.readout, self.noise_seed)
        return Sinogram(x=pixel_centres((self.size, self.size)), y=in_precision(rows / self.size))

    def loss(self, field: Field, data: Sinogram, key: Key) -> tuple[jax.Array, Terms]:
        """mean (F (R u / m - y))^2, plus the total variation if `tv_weight` > 0."""
        del key
        u = self._in_blocks(field, jnp.asarray(data.x)).reshape(self.size, self.size)
        residual = radon(u, self.angles) / self.size - jnp.asarray(data.y)
        if self.residual_filter == "ramp":
            residual = _root_of_ramp(residual)
        loss = jnp.mean(residual**2)
        if self.tv_weight:
            loss += self.tv_weight * _variation(u) / self.size
        return loss, {}

    def evaluate(self, field: Field, data: Sinogram | None = None) -> dict[str, float]:
        """PSNR in dB and SSIM (peak 1) of the slice and of filtered back-projection.

        The scores cover the full square. Filtered back-projection is 0 outside the inscribed
        circle.
        """
        data = self.loaded(data)
        truth = self.slice()
        baseline = self.back_projection(data)
        return {
            **_scores(self.pixels(field, self.size), truth),
            **{f"{name}_fbp": score for name, score in _scores(baseline, truth).items()},
        }

    def trivial_scores(self, data: Sinogram | None = None) -> dict[str, float]:
        """PSNR of filtered back-projection."""
        return {"psnr": psnr(self.back_projection(self.loaded(data)), self.slice())}

    def section(self, field: Field, data: Sinogram | None = None) -> Section:
        """The slice."""
        del data
        return Section(self.slice(), self.pixels(field, self.size))

    def render(
        self, field: Field, data: Sinogram | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """`reconstruction.png`, `error.png`, `sinogram.png` and `back_projection.png`."""
        from lrnn_jax.plot import write_error_map

        data = self.loaded(data)
        folder = make_folder(folder)
        truth, value = self.slice(), self.pixels(field, self.size)
        rows = np.asarray(data.y, np.float64)
        decibels = f"{psnr(value, truth):.2f} dB"
        return [
            write_png(folder / "reconstruction.png", value[..., None]),
            write_error_map(folder / "error.png", truth[..., None], value[..., None], decibels),
            write_png(folder / "sinogram.png", (rows / max(rows.max(), 1e-30))[..., None]),
            write_png(folder / "back_projection.png", self.back_projection(data)[..., None]),
        ]

    def decode(
        self,
        field: Field,
        size: tuple[int, ...] | None = None,
        path: str | Path | None = None,
    ) -> Path:
        """Writes an 8-bit PNG or TIFF of `size` (width, height); None: the size of the data."""
        path = path or self.decoded_file
        height, width = (self.size, self.size) if size is None else decoded_shape(size)
        value = predict(field, pixel_centres((height, width))).astype(np.float64)
        return write_picture(path, value.reshape(height, width, 1))

    def back_projection(self, data: Sinogram) -> Float[np.ndarray, "m m"]:
        """Filtered back-projection of the data, clipped to [0, 1]."""
        rows = np.asarray(data.y, np.float64) * self.size
        return np.clip(filtered_back_projection(rows, self.angles), 0, 1)

    def pixels(self, field: Field, side: int) -> Float[np.ndarray, "m m"]:
        """The field at the pixel centres of a side x side grid, in float64."""
        value = predict(field, pixel_centres((side, side))).astype(np.float64)
        return value.reshape(side, side)

    def _in_blocks(self, field: Field, x: Float[Array, "n 2"]) -> Float[Array, "n"]:
        """The field at all pixels; the backward pass stores the intermediates of one block only."""
        block = self.block or (512 if jax.default_backend() == "cpu" else 65536)
        block = min(block, len(x))
        count = math.ceil(len(x) / block)
        padded = jnp.pad(x, ((0, count * block - len(x)), (0, 0)))
        values = lax.map(jax.checkpoint(field), padded.reshape(count, block, 2))
        return values.reshape(-1)[: len(x)]


def _variation(u: Float[Array, "m m"]) -> Float[Array, ""]:
    """sum |grad u| in pixels, smoothed near 0 so that it is differentiable there."""
    squares = jnp.sum(gradient(u) ** 2, axis=0)
    return jnp.sum(jnp.sqrt(squares + _FLAT**2) - _FLAT)


def _root_of_ramp(rows: Float[Array, "a m"]) -> Float[Array, "a 2m"]:
    """The rows zero-padded to twice the length and filtered by sqrt(|f| m + 1).

    f is in cycles per detector. The sum of squares is <rows, (ramp + 1) rows>; the + 1 keeps the
    mean of a row in the loss.
    """
    side = rows.shape[-1]
    weights = jnp.sqrt(np.fft.rfftfreq(2 * side) * side + 1).astype(rows.dtype)
    return jnp.fft.irfft(jnp.fft.rfft(rows, 2 * side) * weights, 2 * side)


def _scores(value: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """PSNR in dB and SSIM."""
    return {"psnr": psnr(value, truth), "ssim": ssim(value[..., None], truth[..., None])}
