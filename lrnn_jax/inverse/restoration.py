"""Pictures found from measurements of them: noise, holes, fewer pixels, shifted frames.

Every measured value is the mean of the field over a few points, so one loss serves all:

    loss = mean over measurements of (mean_s u(x_s) - y)^2

The truth is for scores alone; training never sees it.

Axis letters: n measurements, s points of one of them, c channels.
"""

import abc
import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import (
    require_at_least,
    require_nonnegative,
    require_positive,
    require_source,
    require_within,
)
from lrnn_jax.domains import in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.io import read_picture, write_png
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

_MOST_PHOTONS = 1e15  # beyond, counts are no integers of 64 bits
_SLACK = 1e-3  # of a pixel, for points in single precision

Pixels = Float[np.ndarray, "height width c"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Measurements:
    """What is known of a picture.

    Attributes:
      x: the points (row, column) of each measurement, each axis of the picture spanning [-1, 1].
      y: the mean over them, of the network's range [-1, 1]; noise may leave it.
    """

    x: Float[ArrayLike, "n s 2"]
    y: Float[ArrayLike, "n c"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restoration(PictureProblem, abc.ABC):
    """A picture to be found from `load()`, and scored against the whole of it."""

    @abc.abstractmethod
    def measurements(self, truth: Pixels) -> Measurements:
        """What is known of the picture."""

    @abc.abstractmethod
    def baseline(self, truth: Pixels) -> Pixels:
        """The picture as one without a network would show it, of the truth's size: a rival."""

    def load(self) -> Measurements:
        """Reads the picture and measures it."""
        return self.measurements(self.picture().pixels)

    def loss(self, field: Field, data: Measurements, key: Key) -> tuple[jax.Array, Terms]:
        """mean (mean_s u(x_s) - y)^2 over measurements and channels."""
        del key
        value = jnp.mean(field(jnp.asarray(data.x)), axis=-2)
        return jnp.mean((value - jnp.asarray(data.y)) ** 2), {}

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """PSNR in dB against the measurements, not the truth."""
        return {"psnr_measured": psnr_from_mse(terms["loss"], peak=2.0)}

    def evaluate(self, field: Field, data: Measurements) -> dict[str, float]:
        """PSNR in dB and SSIM against the truth, and those of `given`."""
        del data
        truth = self.picture().pixels
        given = self.baseline(truth)
        rival = {"psnr_given": psnr(given, truth), "ssim_given": ssim(given, truth)}
        return self.scores(field, truth) | rival

    def render(self, field: Field, data: Measurements, folder: Path) -> list[Path]:
        """`reconstruction.png`, `error.png` and `given.png`."""
        del data
        picture = self.picture()
        given = write_png(folder / "given.png", self.baseline(picture.pixels), picture.bits)
        return [*self.pictures(field, picture.pixels, picture.bits, folder), given]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoising(Restoration):
    """A picture behind noise of photons and of readout.

        y = (Poisson(photons p) + N(0, readout^2)) / photons

    Args:
      photons: counts of a pixel of value 1, > 0; fewer are noisier.
      readout: standard deviation of the readout noise in counts, >= 0.
      noise_seed: of the noise, >= 0.

    Raises:
      InputError: the picture is unusable, or a field is out of its range.

    References: the measurement of Saragadam et al., "WIRE" (CVPR 2023): 30 photons, readout 2.
    """

    photons: float = 30.0
    readout: float = 2.0
    noise_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_noise(self)

    def baseline(self, truth: Pixels) -> Pixels:
        """The noisy picture."""
        return with_noise(truth, self.photons, self.readout, self.noise_seed)

    def measurements(self, truth: Pixels) -> Measurements:
        """The noisy pixels."""
        return _at_pixels(self.baseline(truth), np.ones(truth.shape[:2], bool))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inpainting(Restoration):
    """A picture of which some pixels are known.

    Args:
      known: fraction of the pixels that are known, in (0, 1), drawn at random.
      mask: path of a picture of the same size, bright where a pixel is known, in place of `known`.
      mask_seed: of the draw, >= 0.

    Raises:
      InputError: the picture or the mask is unusable, or a field is out of its range.
    """

    known: float = 0.2
    mask: str | None = None
    mask_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "mask_seed")
        require_source(self, "mask")
        require_within(self, 0, 1, "a number between 0 and 1", "known")

    def is_known(self, shape: tuple[int, int]) -> np.ndarray:
        """Which pixels are known, booleans (height, width)."""
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
        """Every pixel takes the value of the known one next to it."""
        from scipy.ndimage import distance_transform_edt

        unknown = ~self.is_known(truth.shape[:2])
        nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
        return truth[tuple(np.asarray(nearest))]

    def measurements(self, truth: Pixels) -> Measurements:
        """The known pixels."""
        return _at_pixels(truth, self.is_known(truth.shape[:2]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperResolution(Restoration):
    """A picture of which the means of blocks of scale x scale pixels are known.

    Args:
      scale: pixels of a block's side, >= 2; both sides of the picture are multiples of it.

    Raises:
      InputError: the picture is unusable, or its sides are no multiples.

    References: the set-up of Saragadam et al., "WIRE" (CVPR 2023): 4.
    """

    scale: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 2, "scale")

    def baseline(self, truth: Pixels) -> Pixels:
        """The blocks, interpolated by cubic splines."""
        from skimage.transform import resize

        fine: Any = resize(self.blocks(truth), truth.shape, order=3, mode="edge")
        return np.clip(fine, 0, 1)

    def blocks(self, truth: Pixels) -> Pixels:
        """The means of the blocks."""
        require_multiple(truth, self.scale)
        return reduce(truth, "(h p) (w q) c -> h w c", "mean", p=self.scale, q=self.scale)

    def measurements(self, truth: Pixels) -> Measurements:
        """Every block, as the points of its pixels and their mean."""
        blocks = self.blocks(truth)
        return Measurements(block_points(truth.shape[:2], self.scale), _to_network(blocks))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiFrameSuperResolution(Restoration):
    """A picture from several frames of fewer pixels, each shifted and turned by a known amount.

    A pixel of a frame is the mean over scale x scale points, between the pixels of the picture
    interpolated linearly; those that leave the picture are left out. The first frame stays.

    Args:
      frames: number of frames, >= 1.
      scale: pixels of a block's side, >= 2; both sides of the picture are multiples of it.
      shift: pixels of the picture that a frame moves at most, along each axis, >= 0.
      turn: degrees that it turns at most, about the middle, from 0 to 180.
      frame_seed: of shifts and turns, >= 0.

    Raises:
      InputError: the picture is unusable, its sides are no multiples, or a field is out of range.

    References: the set-up of Saragadam et al., "WIRE" (CVPR 2023): 4 frames at 4, 20 pixels, 18
    degrees.
    """

    frames: int = 4
    scale: int = 4
    shift: float = 20.0
    turn: float = 18.0
    frame_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "frames")
        require_at_least(self, 2, "scale")
        require_at_least(self, 0, "frame_seed")
        require_nonnegative(self, "shift", "turn")
        if self.turn > 180:
            raise InputError(f"turn: expected degrees from 0 to 180, got {self.turn}")

    def baseline(self, truth: Pixels) -> Pixels:
        """The first frame, interpolated by cubic splines."""
        return _single(self).baseline(truth)

    def measurements(self, truth: Pixels) -> Measurements:
        """The pixels of all frames."""
        require_multiple(truth, self.scale)
        shape = truth.shape[:2]
        points = block_points(shape, self.scale)
        half = np.array(shape) / 2
        rng = np.random.default_rng(self.frame_seed)
        moves = rng.uniform(-1, 1, (self.frames, 3)) * [self.shift, self.shift, self.turn]
        moves[0] = 0
        kept, values = [], []
        for down, right, degrees in moves:
            cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            row, column = np.moveaxis(points * half, -1, 0)  # in pixels from the middle
            moved = np.stack(
                [cos * row - sin * column + down, sin * row + cos * column + right], -1
            )
            inside = np.all(np.abs(moved) <= half - 0.5 + _SLACK, axis=(1, 2))
            kept.append(in_precision(moved[inside] / half))
            values.append(_sampled(truth, moved[inside] + half - 0.5))
        return Measurements(np.concatenate(kept), _to_network(np.concatenate(values)))


def with_noise(values: np.ndarray, photons: float, readout: float, seed: int) -> np.ndarray:
    """(Poisson(photons v) + N(0, readout^2)) / photons of values >= 0, in float64."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(photons * np.asarray(values, np.float64))
    return (counts + readout * rng.standard_normal(values.shape)) / photons


def require_noise(spec: Any) -> None:
    """The fields of the noise are in range.

    Raises:
      InputError: naming the first that is not.
    """
    require_positive(spec, "photons")
    if spec.photons > _MOST_PHOTONS:
        raise InputError(f"photons: expected at most {_MOST_PHOTONS:g}, got {spec.photons}")
    require_at_least(spec, 0, "noise_seed")
    require_nonnegative(spec, "readout")


def require_multiple(truth: Pixels, scale: int) -> None:
    """Both sides of a picture are multiples of `scale`.

    Raises:
      InputError: they are not, with the size to take.
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


def _single(frames: MultiFrameSuperResolution) -> SuperResolution:
    """The problem of the first frame alone."""
    return SuperResolution(
        source=frames.source, crop=frames.crop, size=frames.size, scale=frames.scale
    )


def _at_pixels(pixels: Pixels, known: np.ndarray) -> Measurements:
    """The pixels that are known, each at its centre."""
    x = pixel_centres(known.shape)[known.ravel()]
    return Measurements(x[:, None, :], _to_network(pixels[known]))


def _to_network(values: np.ndarray) -> Float[np.ndarray, "n c"]:
    """[0, 1] to [-1, 1], as rows of channels."""
    return in_precision(2 * values.reshape(-1, values.shape[-1]) - 1)


def _sampled(truth: Pixels, places: Float[np.ndarray, "n s 2"]) -> Float[np.ndarray, "n c"]:
    """The means over s of the picture at places (row, column) in pixels."""
    from scipy.ndimage import map_coordinates

    at = np.moveaxis(places, -1, 0)
    channels = np.moveaxis(truth, -1, 0)
    values = [map_coordinates(v, at, order=1, mode="nearest") for v in channels]
    return np.stack(values, axis=-1).mean(axis=1)
