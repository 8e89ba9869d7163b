"""Scores, computed on the host in float64: 107.9 dB is a mean squared error of 1.6e-11."""

import math
from typing import Any

import numpy as np
import skimage.metrics
from jaxtyping import ArrayLike

from lrnn_jax.errors import InputError

__all__ = ["mean_squared_error", "psnr", "psnr_from_mse", "relative_l2", "ssim"]


def mean_squared_error(value: ArrayLike, reference: ArrayLike) -> float:
    """mean (value - reference)^2 in float64; arrays of one shape.

    Raises:
      InputError: the shapes differ.
    """
    a, b = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        raise InputError(f"shapes differ: {a.shape} and {b.shape}")
    return float(np.mean((a - b) ** 2))


def psnr_from_mse(mse: float, peak: float = 1.0) -> float:
    """10 log10(peak^2 / mse) in dB: inf for mse 0, -inf for an infinite one, NaN for NaN."""
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(peak**2 / np.float64(mse)))


def psnr(value: ArrayLike, reference: ArrayLike, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio 10 log10(peak^2 / MSE) in dB.

    Args:
      value: the reconstruction, any shape.
      reference: the truth, the same shape.
      peak: the width of the signal's range: 1 for [0, 1], 2 for [-1, 1], 255 for 8-bit counts.

    Raises:
      InputError: the shapes differ.
    """
    return psnr_from_mse(mean_squared_error(value, reference), peak)


def relative_l2(value: ArrayLike, reference: ArrayLike) -> float:
    """|value - reference| / |reference| in the Euclidean norm over all entries, in float64.

    Raises:
      InputError: the shapes differ, or the reference is zero.
    """
    a, b = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        raise InputError(f"shapes differ: {a.shape} and {b.shape}")
    norm = float(np.linalg.norm(b))
    if norm == 0:
        raise InputError("reference: expected a value other than zero")
    return float(np.linalg.norm(a - b)) / norm


def ssim(value: ArrayLike, reference: ArrayLike, peak: float = 1.0) -> float:
    """Mean structural similarity of two images (height, width, channels), at most 1.

    scikit-image's implementation with its 7 x 7 uniform window; a smaller image takes the largest
    odd window that fits, and a side below 3 pixels has none: NaN.

    Raises:
      InputError: the shapes differ.

    References: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE TIP 2004.
    """
    a, b = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        raise InputError(f"shapes differ: {a.shape} and {b.shape}")
    window = min(7, *(side - 1 + side % 2 for side in a.shape[:2]))
    if window < 3:
        return math.nan
    similarity: Any = skimage.metrics.structural_similarity
    return float(similarity(a, b, data_range=peak, channel_axis=-1, win_size=window))
