"""Inverse problems: reconstruct an image from indirect or incomplete measurements."""

from lrnn_jax.inverse.classical import total_variation
from lrnn_jax.inverse.radon import (
    filtered_back_projection,
    radon,
    radon_adjoint,
    view_angles,
)
from lrnn_jax.inverse.restoration import (
    Denoising,
    Inpainting,
    Measurements,
    MultiFrameSuperResolution,
    SuperResolution,
)
from lrnn_jax.inverse.tomography import CT, Sinogram

__all__ = [
    "CT",
    "Denoising",
    "Inpainting",
    "Measurements",
    "MultiFrameSuperResolution",
    "Sinogram",
    "SuperResolution",
    "filtered_back_projection",
    "radon",
    "radon_adjoint",
    "total_variation",
    "view_angles",
]
