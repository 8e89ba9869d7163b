"""What a field is fitted to."""

from lrnn_jax.problems import inverse, pde
from lrnn_jax.problems.signals import (
    Audio,
    AudioData,
    Image,
    ImageData,
    Occupancy,
    ShapeData,
    SignedDistance,
)

__all__ = [
    "Audio",
    "AudioData",
    "Image",
    "ImageData",
    "Occupancy",
    "ShapeData",
    "SignedDistance",
    "inverse",
    "pde",
]
