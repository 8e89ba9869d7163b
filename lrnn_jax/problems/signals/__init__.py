"""Signals to be represented by a field."""

from lrnn_jax.problems.signals.audio import Audio, AudioData
from lrnn_jax.problems.signals.image import Image, ImageData
from lrnn_jax.problems.signals.shape import Occupancy, ShapeData, SignedDistance
from lrnn_jax.problems.signals.video import Video, VideoData

__all__ = [
    "Audio",
    "AudioData",
    "Image",
    "ImageData",
    "Occupancy",
    "ShapeData",
    "SignedDistance",
    "Video",
    "VideoData",
]
