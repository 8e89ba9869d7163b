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
    Video,
    VideoData,
)
from lrnn_jax.problems.tabular import Classification, Regression, Rows

__all__ = [
    "Audio",
    "AudioData",
    "Classification",
    "Image",
    "ImageData",
    "Occupancy",
    "Regression",
    "Rows",
    "ShapeData",
    "SignedDistance",
    "Video",
    "VideoData",
    "inverse",
    "pde",
]
