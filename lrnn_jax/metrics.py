"""Metrics, computed on the host in float64.

float32 is not sufficient: a PSNR of 107.9 dB is a mean squared error of 1.6e-11. `value` is the
reconstruction and `reference` the truth, two arrays of any shape.

Raises:
  InputError: the shapes of `value` and `reference` differ. This holds for all metrics.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import ArrayLike

from lrnn_jax.errors import InputError

__all__ = [
    "higher_is_better",
    "iou",
    "mean_squared_error",
    "psnr",
    "psnr_from_mse",
    "relative_l2",
    "rho_ag",
    "snr",
    "ssim",
]


_HIGHER_IS_BETTER = ("psnr", "snr", "ssim", "iou", "accuracy", "rho_ag")


def higher_is_better(name: str) -> bool:
    """Whether a larger value of a score is better; for errors and losses, a smaller one is.

    >>> higher_is_better("psnr_worst"), higher_is_better("rmse_validation")
    (True, False)
    """
    return name.startswith(_HIGHER_IS_BETTER)


def mean_squared_error(value: ArrayLike, reference: ArrayLike) -> float:
    """mean (value - reference)^2 in float64."""
    a, b = _pair(value, reference)
    return float(np.mean((a - b) ** 2))


def psnr_from_mse(mse: float, peak: float = 1.0) -> float:
    """10 log10(peak^2 / mse) in dB: inf for mse 0, -inf for an infinite mse, NaN for NaN."""
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(peak**2 / np.float64(mse)))


def psnr(value: ArrayLike, reference: ArrayLike, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio 10 log10(peak^2 / MSE) in dB.

    Args:
      peak: width of the range of the signal: 1 for [0, 1], 2 for [-1, 1], 255 for 8-bit counts.
    """
    return psnr_from_mse(mean_squared_error(value, reference), peak)


def relative_l2(value: ArrayLike, reference: ArrayLike) -> float:
    """|value - reference| / |reference| in the Euclidean norm over all entries, in float64.

    Raises:
      InputError: the reference is zero.
    """
    a, b = _pair(value, reference)
    norm = float(np.linalg.norm(b))
    if norm == 0:
        raise InputError("reference: expected a value other than zero")
    return float(np.linalg.norm(a - b)) / norm


def snr(value: ArrayLike, reference: ArrayLike) -> float:
    """Signal-to-noise ratio 10 log10(sum reference^2 / sum (value - reference)^2) in dB.

    Raises:
      InputError: the reference is zero.
    """
    return psnr_from_mse(relative_l2(value, reference) ** 2)


def rho_ag(value: ArrayLike, reference: ArrayLike, axes: tuple[int, ...] = (0,)) -> float:
    """sum |A| |G| / (|A|_2 |G|_2) of the Fourier transforms A of the value and G of the reference.

    The cosine similarity of two amplitude spectra. They are not centred, and include the zero
    frequency and negative frequencies. It is 1 for equal spectra regardless of phase, and 0 if the
    value is zero.

    Args:
      axes: axes of the Fourier transform: time, or height and width.

    Raises:
      InputError: the reference is zero.

    References: the correlation in the code of Shah and Sitawarin, "SPDER" (arXiv 2306.15242).
    """
    spectra = [np.abs(np.fft.fftn(array, axes=axes)) for array in _pair(value, reference)]
    norm, reference_norm = (float(np.linalg.norm(spectrum)) for spectrum in spectra)
    if reference_norm == 0:
        raise InputError("reference: expected a value other than zero")
    return float(np.sum(spectra[0] * spectra[1]) / (norm * reference_norm)) if norm else 0.0


def iou(value: ArrayLike, reference: ArrayLike) -> float:
    """Intersection over union of two boolean masks: 1 for equal masks, also if both are empty.

    Raises:
      InputError: an array is not boolean.
    """
    a, b = np.asarray(value), np.asarray(reference)
    if a.dtype != bool or b.dtype != bool:
        raise InputError(f"expected booleans, got {a.dtype} and {b.dtype}")
    if a.shape != b.shape:
        raise InputError(f"shapes differ: {a.shape} and {b.shape}")
    union = int(np.sum(a | b))
    return float(np.sum(a & b)) / union if union else 1.0


def ssim(value: ArrayLike, reference: ArrayLike, peak: float = 1.0) -> float:
    """Mean structural similarity of two images (height, width, channels), at most 1.

    Uses scikit-image's implementation with its 7 x 7 uniform window. A smaller image uses the
    largest odd window that fits. The result is NaN if a side has fewer than 3 pixels.

    Args:
      peak: width of the range of the images, as in `psnr`. The default of scikit-image 0.18 for
        floats is peak 2, which usually gives higher values than peak 1.

    References: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE TIP 2004.
    """
    a, b = _pair(value, reference)
    window = min(7, *(side - 1 + side % 2 for side in a.shape[:2]))
    if window < 3:
        return math.nan
    from skimage.metrics import structural_similarity

    similarity: Any = structural_similarity
    return float(similarity(a, b, data_range=peak, channel_axis=-1, win_size=window))


def _pair(value: ArrayLike, reference: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Converts both arrays to float64 and checks that their shapes are equal."""
    a, b = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        raise InputError(f"shapes differ: {a.shape} and {b.shape}")
    return a, b
