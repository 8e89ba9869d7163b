"""Sections of fields as pixels of a page: the truth, the fits, and their errors on one scale."""

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import UInt8

from lrnn_jax.typing import Section

__all__ = ["Pixels", "section_pixels"]

Image = UInt8[np.ndarray, "h w 3"]
_LARGEST = 256  # pixels of the longer side


class Pixels(NamedTuple):
    """Sections as 8-bit images.

    Attributes:
      truth: the truth; None if it is unknown.
      values: the fits.
      errors: absolute errors, from black (0) to yellow (`largest_error` and more).
      largest_error: the 99.9th percentile of the errors of all fits.
    """

    truth: Image | None
    values: dict[str, Image]
    errors: dict[str, Image]
    largest_error: float


def section_pixels(sections: Mapping[str, Section]) -> Pixels:
    """Draw maps (h, w) and images (h, w, c) as pixels, with at most 256 along the longer side.

    Args:
      sections: the same part of each fit, by its name.
    """
    first = next(iter(sections.values()))
    reference = first.value if first.truth is None else first.truth
    low, high = float(np.nanmin(reference)), float(np.nanmax(reference))
    errors: dict[str, np.ndarray] = {}
    if first.truth is not None:
        errors = {n: _channel_mean(np.abs(s.value - s.truth)) for n, s in sections.items()}
    finite = [error[np.isfinite(error)] for error in errors.values()]
    top = float(np.percentile(np.concatenate(finite), 99.9)) if any(f.size for f in finite) else 1.0
    return Pixels(
        None if first.truth is None else _shown(first.truth, low, high),
        {name: _shown(section.value, low, high) for name, section in sections.items()},
        {n: _coloured(error / max(top, 1e-300), "inferno") for n, error in errors.items()},
        top,
    )


def _shown(values: np.ndarray, low: float, high: float) -> Image:
    """An image in [0, 1], or a map in the range of the truth."""
    if values.ndim == 3:
        channels = values[..., :3] if values.shape[-1] >= 3 else values[..., :1].repeat(3, axis=-1)
        return _as_bytes(_thinned(np.clip(channels, 0, 1)))
    if low < 0:
        low, high = -max(-low, high), max(-low, high)
    scaled = (values - low) / max(high - low, 1e-300)
    return _coloured(scaled, "RdBu_r" if low < 0 else "gray")


def _coloured(values: np.ndarray, colours: str) -> Image:
    return _as_bytes(mpl.colormaps[colours](np.clip(_thinned(values), 0, 1))[..., :3])


def _as_bytes(values: np.ndarray) -> Image:
    return np.round(255 * np.nan_to_num(values)).astype(np.uint8)


def _thinned(values: np.ndarray) -> np.ndarray:
    """Every n-th pixel: means would hide errors at single pixels."""
    every = -(-max(values.shape[:2]) // _LARGEST)
    return values[::every, ::every]


def _channel_mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1) if values.ndim == 3 else values
