"""Sparse-view computed tomography: a slice found from few parallel-beam projections."""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.checks import (
    require_at_least,
    require_choice,
    require_flag,
    require_nonnegative,
    require_source,
)
from lrnn_jax.domains import in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.inverse.classical import gradient
from lrnn_jax.inverse.radon import filtered_back_projection, radon, view_angles
from lrnn_jax.inverse.restoration import require_noise, with_noise
from lrnn_jax.io import read_picture, resize, write_png
from lrnn_jax.metrics import psnr, ssim
from lrnn_jax.signals.picture import decoded_shape, grey, pixel_centres
from lrnn_jax.typing import Field, Key, Problem, Terms

__all__ = ["CT", "Sinogram"]

_FLAT = 1e-4
"""A difference of two pixels below which they count as equal, a fortieth of an 8-bit step."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sinogram:
    """Projections of a slice.

    Attributes:
      x: pixel centres (row, column) of the slice, each axis spanning [-1, 1].
      y: one row of line integrals for each view, in units of the slice's side.
    """

    x: Float[ArrayLike, "n 2"]
    y: Float[ArrayLike, "a m"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CT(Problem):
    """A slice u(row, column) in [0, 1] from its projections R at few angles.

        loss = mean (F (R u / m - y))^2 over views and detectors, u at all m x m pixels
               + tv_weight * integral |grad u|, over a slice whose side is 1

    Args:
      source: 'phantom' (Shepp and Logan's), another sample, or the path of a picture; colours are
        averaged; its least value becomes 0, its largest 1.
      size: m, pixels of a side that the slice is resized to, >= 2.
      views: number of angles, >= 1, evenly from 0 to 180 degrees.
      endpoint: the last view is 180 degrees, which sees what 0 sees, as WIRE's script has it.
      photons: counts of a pixel of value 1 in the noise of the sinogram; 0 is no noise.
      readout: standard deviation of its readout noise in counts, >= 0.
      noise_seed: of the noise, >= 0.
      residual_filter: F. 'none', the identity, as in the papers; 'ramp', the square root of the
        ramp filter of back-projection: R' F^2 R is then nearly the identity, so that fine detail
        is learned as fast as it is from the pixels themselves. It makes noise louder.
      tv_weight: of the total variation, isotropic, by forward differences, >= 0. It settles what
        few views leave open, and keeps noise out.
      block: pixels that the network is evaluated at a time; none is 512 on a CPU and 65536
        elsewhere.

    Raises:
      InputError: the picture is unusable or of one value, or a field is out of its range.

    References: the set-up of Saragadam et al., "WIRE" (CVPR 2023): 100 views of 256 x 256 pixels,
    endpoint included, no noise. That the line integrals are those of scikit-image is ours.
    """

    decoded_file: ClassVar[str] = "decoded.png"

    full_batch_only: ClassVar[bool] = True
    """Every projection sees all pixels: the loss has no chunks."""

    source: str = "phantom"
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
        require_source(self, "source")
        require_at_least(self, 2, "size")
        require_at_least(self, 1, "views")
        require_flag(self, "endpoint")
        require_choice(self, "residual_filter")
        require_nonnegative(self, "tv_weight", "photons", "readout")
        require_at_least(self, 0, "noise_seed")
        if self.photons:
            require_noise(self)
        if self.block is not None:
            require_at_least(self, 1, "block")

    @property
    def in_dim(self) -> int:
        """2: row and column."""
        return 2

    @property
    def out_dim(self) -> int:
        """1: how much a pixel attenuates."""
        return 1

    @property
    def angles(self) -> Float[np.ndarray, "a"]:
        """Of the views, in degrees."""
        return view_angles(self.views, self.endpoint)

    def slice(self) -> Float[np.ndarray, "m m"]:
        """The truth, in [0, 1] and float64."""
        pixels = grey(read_picture(self.source).pixels)
        resized = resize(pixels, (self.size, self.size))
        low, high = float(resized.min()), float(resized.max())
        if not high > low:
            raise InputError(f"{self.source} has one value, {low:g}: expected a picture")
        return (resized - low) / (high - low)

    def load(self) -> Sinogram:
        """Reads the slice and projects it."""
        with jax.enable_x64(True):
            rows = np.asarray(radon(self.slice(), self.angles))
        if self.photons:
            rows = with_noise(np.maximum(rows, 0), self.photons, self.readout, self.noise_seed)
        return Sinogram(x=pixel_centres((self.size, self.size)), y=in_precision(rows / self.size))

    def loss(self, field: Field, data: Sinogram, key: Key) -> tuple[jax.Array, Terms]:
        """mean (F (R u / m - y))^2, and the total variation where it has a weight."""
        del key
        u = self._in_blocks(field, jnp.asarray(data.x)).reshape(self.size, self.size)
        residual = radon(u, self.angles) / self.size - jnp.asarray(data.y)
        if self.residual_filter == "ramp":
            residual = _root_of_ramp(residual)
        loss = jnp.mean(residual**2)
        if self.tv_weight:
            loss += self.tv_weight * _variation(u) / self.size
        return loss, {}

    def evaluate(self, field: Field, data: Sinogram) -> dict[str, float]:
        """PSNR in dB and SSIM of the slice, peak 1, and those of filtered back-projection.

        Of the whole square: back-projection knows nothing outside the circle in it.
        """
        truth = self.slice()
        rival = self.back_projection(data)
        return {
            **_scores(self.pixels(field, self.size), truth),
            **{f"{name}_fbp": score for name, score in _scores(rival, truth).items()},
        }

    def render(self, field: Field, data: Sinogram, folder: Path) -> list[Path]:
        """`reconstruction.png`, `error.png`, `sinogram.png` and `back_projection.png`."""
        from lrnn_jax.plotting import write_error_map

        truth, value = self.slice(), self.pixels(field, self.size)
        rows = np.asarray(data.y, np.float64)
        return [
            write_png(folder / "reconstruction.png", value[..., None]),
            write_error_map(folder / "error.png", value - truth, f"{psnr(value, truth):.2f} dB"),
            write_png(folder / "sinogram.png", (rows / max(rows.max(), 1e-30))[..., None]),
            write_png(folder / "back_projection.png", self.back_projection(data)[..., None]),
        ]

    def decode(self, field: Field, size: tuple[int, ...] | None, path: Path) -> Path:
        """Writes the slice as an 8-bit PNG of `size` (width, height); None: that of the data."""
        height, width = (self.size, self.size) if size is None else decoded_shape(size)
        value = predict(field, pixel_centres((height, width))).astype(np.float64)
        return write_png(path, value.reshape(height, width, 1))

    def back_projection(self, data: Sinogram) -> Float[np.ndarray, "m m"]:
        """The classical inverse of the projections, in [0, 1]."""
        rows = np.asarray(data.y, np.float64) * self.size
        return np.clip(filtered_back_projection(rows, self.angles), 0, 1)

    def pixels(self, field: Field, side: int) -> Float[np.ndarray, "m m"]:
        """The field at the centres of side x side pixels, in float64."""
        value = predict(field, pixel_centres((side, side))).astype(np.float64)
        return value.reshape(side, side)

    def _in_blocks(self, field: Field, x: Float[Array, "n 2"]) -> Float[Array, "n"]:
        """The field at all pixels; its derivative keeps one block's intermediates at a time."""
        block = self.block or (512 if jax.default_backend() == "cpu" else 65536)
        block = min(block, len(x))
        count = math.ceil(len(x) / block)
        padded = jnp.pad(x, ((0, count * block - len(x)), (0, 0)))
        values = lax.map(jax.checkpoint(field), padded.reshape(count, block, 2))
        return values.reshape(-1)[: len(x)]


def _variation(u: Float[Array, "m m"]) -> Float[Array, ""]:
    """sum |grad u| in pixels; rounded off where nothing changes, for the sake of its derivative."""
    squares = jnp.sum(gradient(u) ** 2, axis=0)
    return jnp.sum(jnp.sqrt(squares + _FLAT**2) - _FLAT)


def _root_of_ramp(rows: Float[Array, "a m"]) -> Float[Array, "a 2m"]:
    """Rows of twice the length, whose spectrum is that of `rows` times sqrt(|f| m + 1).

    f is in cycles a detector. The sum of squares is <rows, (ramp + 1) rows>: the mean counts too.
    """
    side = rows.shape[-1]
    weights = jnp.sqrt(np.fft.rfftfreq(2 * side) * side + 1).astype(rows.dtype)
    return jnp.fft.irfft(jnp.fft.rfft(rows, 2 * side) * weights, 2 * side)


def _scores(value: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """PSNR in dB and SSIM."""
    return {"psnr": psnr(value, truth), "ssim": ssim(value[..., None], truth[..., None])}
