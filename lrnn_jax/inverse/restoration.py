"""Image restoration: denoising, inpainting and super-resolution from one or several frames.

Every measured value is the mean of the field over a few points, so all problems share one loss:

    loss = mean over measurements of (mean_s u(x_s) - y)^2

The ground truth is used for the scores only; training does not use it.

Axis letters: n measurements, s points per measurement, c channels.
"""

import abc
import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import (
    require_at_least,
    require_nonnegative,
    require_positive,
    require_within,
)
from lrnn_jax.domains import in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.io import OptionalSourceField, as_source, make_folder, read_picture, write_png
from lrnn_jax.metrics import psnr, psnr_from_mse, ssim
from lrnn_jax.signals.picture import PictureProblem, grey, pixel_centres
from lrnn_jax.typing import Field, Key, Terms

__all__ = [
    "Denoising",
    "Inpainting",
    "Measurements",
    "MultiFrameSuperResolution",
    "SuperResolution",
    "with_noise",
]

_MOST_PHOTONS = 1e15  # larger counts overflow 64-bit integers
_SLACK = 1e-3  # in pixels: tolerance for points in single precision

Pixels = Float[np.ndarray, "height width c"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Measurements:
    """Measurements of an image.

    Attributes:
      x: the points (row, column) of each measurement; each axis of the image spans [-1, 1].
      y: the mean of the image over these points, in the network's range [-1, 1]; noise can exceed
        this range.
    """

    x: Float[ArrayLike, "n s 2"]
    y: Float[ArrayLike, "n c"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restoration(PictureProblem, abc.ABC):
    """Base class: reconstruct an image from measurements of it; scored on all pixels."""

    loss_fields: ClassVar[tuple[str, ...] | None] = ()

    @abc.abstractmethod
    def measurements(self, truth: Pixels) -> Measurements:
        """The measurements of the image."""

    @abc.abstractmethod
    def baseline(self, truth: Pixels) -> Pixels:
        """Baseline reconstruction without a network, of the same shape as the truth."""

    def load(self) -> Measurements:
        """Reads the image and computes its measurements."""
        return self.measurements(self.picture().pixels)

    def loss(self, field: Field, data: Measurements, key: Key) -> tuple[jax.Array, Terms]:
        """mean (mean_s u(x_s) - y)^2 over measurements and channels."""
        del key
        value = jnp.mean(field(jnp.asarray(data.x)), axis=-2)
        return jnp.mean((value - jnp.asarray(data.y)) ** 2), {}

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """PSNR in dB with respect to the measurements, not the truth."""
        return {"psnr_measured": psnr_from_mse(terms["loss"], peak=2.0)}

    def evaluate(self, field: Field, data: Measurements | None = None) -> dict[str, float]:
        """PSNR in dB and SSIM of the field and, as `psnr_given` and `ssim_given`, of `baseline`."""
        del data
        truth = self.picture().pixels
        baseline = self.baseline(truth)
        scores = {"psnr_given": psnr(baseline, truth), "ssim_given": ssim(baseline, truth)}
        return self.scores(field, truth) | scores

    def trivial_scores(self, data: Measurements | None = None) -> dict[str, float]:
        """PSNR of `baseline`."""
        del data
        truth = self.picture().pixels
        return {"psnr": psnr(self.baseline(truth), truth)}

    def render(
        self, field: Field, data: Measurements | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """`reconstruction.png`, `error.png` and `given.png`."""
        del data
        folder = make_folder(folder)
        picture = self.picture()
        baseline = write_png(folder / "given.png", self.baseline(picture.pixels), picture.bits)
        return [*self.pictures(field, picture.pixels, picture.bits, folder), baseline]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoising(Restoration):
    """Denoise an image corrupted by Poisson (photon) and Gaussian (readout) noise.

        y = (Poisson(photons p) + N(0, readout^2)) / photons

    Args:
      photons: expected photon count of a pixel of value 1, > 0; fewer photons give more noise.
      readout: standard deviation of the readout noise in counts, >= 0.
      noise_seed: seed of the noise, >= 0.

    References: the noise model of Saragadam et al., "WIRE" (CVPR 2023): 30 photons, readout 2.
    """

    photons: float = 30.0
    readout: float = 2.0
    noise_seed: int = 0

    def __post_init__(self) -> None:
        require_noise(self)
        super().__post_init__()

    def baseline(self, truth: Pixels) -> Pixels:
        """The noisy image."""
        return with_noise(truth, self.photons, self.readout, self.noise_seed)

    def measurements(self, truth: Pixels) -> Measurements:
        """The noisy pixels."""
        return _at_pixels(self.baseline(truth), np.ones(truth.shape[:2], bool))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inpainting(Restoration):
    """Inpaint an image of which a random subset of pixels is known.

    Args:
      known: fraction of the pixels that are known, in (0, 1), drawn at random.
      mask: path of an image of the same size, or an array, bright where a pixel is known; replaces
        `known`.
      mask_seed: seed of the random subset, >= 0.
    """

    known: float = 0.2
    mask: OptionalSourceField = dataclasses.field(default=as_source(None))
    mask_seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", as_source(self.mask))
        require_at_least(self, 0, "mask_seed")
        require_within(self, 0, 1, "a number between 0 and 1", "known")
        super().__post_init__()

    def is_known(self, shape: tuple[int, int]) -> np.ndarray:
        """Boolean mask (height, width), True where a pixel is known."""
        if self.mask is None:
            count = max(1, round(self.known * math.prod(shape)))
            order = np.random.default_rng(self.mask_seed).permutation(math.prod(shape))
            return (order < count).reshape(shape)
        bright = grey(read_picture(self.mask).pixels) > 0.5
        if bright.shape != shape:
            raise InputError(
                f"mask: expected {shape[1]} x {shape[0]} pixels (width x height), got "
                f"{bright.shape[1]} x {bright.shape[0]}"
            )
        if not bright.any():
            raise InputError(f"mask: {self.mask} has no bright pixel: nothing would be known")
        return bright

    def baseline(self, truth: Pixels) -> Pixels:
        """Nearest-neighbour interpolation from the known pixels."""
        from scipy.ndimage import distance_transform_edt

        unknown = ~self.is_known(truth.shape[:2])
        nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
        return truth[tuple(np.asarray(nearest))]

    def measurements(self, truth: Pixels) -> Measurements:
        """The known pixels."""
        return _at_pixels(truth, self.is_known(truth.shape[:2]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperResolution(Restoration):
    """Super-resolve an image of which the means of blocks of scale x scale pixels are known.

    Args:
      scale: side of a block in pixels, >= 2; must divide the height and width of the image.

    References: the set-up of Saragadam et al., "WIRE" (CVPR 2023): scale 4.
    """

    scale: int = 4

    def __post_init__(self) -> None:
        require_at_least(self, 2, "scale")
        super().__post_init__()

    def baseline(self, truth: Pixels) -> Pixels:
        """The block means, upsampled by cubic splines."""
        from skimage.transform import resize

        fine: Any = resize(self.blocks(truth), truth.shape, order=3, mode="edge")
        return np.clip(fine, 0, 1)

    def blocks(self, truth: Pixels) -> Pixels:
        """The means of the blocks."""
        require_multiple(truth, self.scale)
        return reduce(truth, "(h p) (w q) c -> h w c", "mean", p=self.scale, q=self.scale)

    def measurements(self, truth: Pixels) -> Measurements:
        """One measurement per block: the centres of its pixels and their mean value."""
        blocks = self.blocks(truth)
        return Measurements(block_points(truth.shape[:2], self.scale), _to_network(blocks))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiFrameSuperResolution(Restoration):
    """Super-resolve an image from several low-resolution frames with known shifts and rotations.

    A pixel of a frame is the mean of the image over scale x scale points. The image is
    interpolated linearly between its pixels. Frame pixels with a point outside the image are
    dropped. The first frame is neither shifted nor rotated.

    Args:
      frames: number of frames, >= 1.
      scale: side of a block in pixels, >= 2; must divide the height and width of the image.
      shift: largest shift of a frame along each axis, in pixels of the image, >= 0.
      turn: largest rotation of a frame about the centre, in degrees from 0 to 180.
      frame_seed: seed of the shifts and rotations, >= 0.

    References: the set-up of Saragadam et al., "WIRE" (CVPR 2023): 4 frames at scale 4, shifts up
    to 20 pixels, rotations up to 18 degrees.
    """

    frames: int = 4
    scale: int = 4
    shift: float = 20.0
    turn: float = 18.0
    frame_seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "frames")
        require_at_least(self, 2, "scale")
        require_at_least(self, 0, "frame_seed")
        require_nonnegative(self, "shift", "turn")
        if self.turn > 180:
            raise InputError(f"turn: expected degrees from 0 to 180, got {self.turn}")
        super().__post_init__()

    def baseline(self, truth: Pixels) -> Pixels:
        """The first frame, upsampled by cubic splines."""
        return SuperResolution(scale=self.scale).baseline(truth)

    def measurements(self, truth: Pixels) -> Measurements:
        """The pixels of all frames."""
        require_multiple(truth, self.scale)
        shape = truth.shape[:2]
        points = block_points(shape, self.scale)
        half = np.array(shape) / 2
        rng = np.random.default_rng(self.frame_seed)
        moves = rng.uniform(-1, 1, (self.frames, 3)) * [self.shift, self.shift, self.turn]
        moves[0] = 0
        x, values = [], []
        for down, right, degrees in moves:
            cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            row, column = np.moveaxis(points * half, -1, 0)  # in pixels from the image centre
            moved = np.stack(
                [cos * row - sin * column + down, sin * row + cos * column + right], -1
            )
            inside = np.all(np.abs(moved) <= half - 0.5 + _SLACK, axis=(1, 2))
            x.append(in_precision(moved[inside] / half))
            values.append(_sampled(truth, moved[inside] + half - 0.5))
        return Measurements(np.concatenate(x), _to_network(np.concatenate(values)))


def with_noise(values: np.ndarray, photons: float, readout: float, seed: int) -> np.ndarray:
    """(Poisson(photons v) + N(0, readout^2)) / photons for values v >= 0, in float64."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(photons * np.asarray(values, np.float64))
    return (counts + readout * rng.standard_normal(values.shape)) / photons


def require_noise(spec: Any) -> None:
    """Checks the fields `photons`, `readout` and `noise_seed`.

    Raises:
      InputError: a field is out of its range; the message names it.
    """
    require_positive(spec, "photons")
    if spec.photons > _MOST_PHOTONS:
        raise InputError(f"photons: expected at most {_MOST_PHOTONS:g}, got {spec.photons}")
    require_at_least(spec, 0, "noise_seed")
    require_nonnegative(spec, "readout")


def require_multiple(truth: Pixels, scale: int) -> None:
    """Checks that the height and width of an image are multiples of `scale`.

    Raises:
      InputError: they are not; the message suggests a size.
    """
    height, width = truth.shape[:2]
    if height % scale or width % scale:
        nearest = [max(1, side // scale) * scale for side in (width, height)]
        raise InputError(
            f"scale: {width} x {height} pixels are no multiple of {scale}: take a size of "
            f"{nearest[0]} {nearest[1]}, or crop"
        )


def block_points(shape: tuple[int, int], scale: int) -> Float[np.ndarray, "n s 2"]:
    """The pixel centres of each block of scale x scale pixels, block by block."""
    points = pixel_centres(shape).reshape(*shape, 2)
    return rearrange(points, "(h p) (w q) d -> (h w) (p q) d", p=scale, q=scale)


def _at_pixels(pixels: Pixels, known: np.ndarray) -> Measurements:
    """One measurement per known pixel, at its centre."""
    x = pixel_centres(known.shape)[known.ravel()]
    return Measurements(x[:, None, :], _to_network(pixels[known]))


def _to_network(values: np.ndarray) -> Float[np.ndarray, "n c"]:
    """Values mapped from [0, 1] to [-1, 1], flattened to rows of channels."""
    return in_precision(2 * values.reshape(-1, values.shape[-1]) - 1)


def _sampled(truth: Pixels, places: Float[np.ndarray, "n s 2"]) -> Float[np.ndarray, "n c"]:
    """The image interpolated at `places` (row, column) in pixels, averaged over s."""
    from scipy.ndimage import map_coordinates

    at = np.moveaxis(places, -1, 0)
    channels = np.moveaxis(truth, -1, 0)
    values = [map_coordinates(v, at, order=1, mode="nearest") for v in channels]
    return np.stack(values, axis=-1).mean(axis=1)
