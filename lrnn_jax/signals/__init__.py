"""Signals to fit with a neural field: audio, images, shapes, videos."""

from lrnn_jax.signals.audio import Audio, AudioData
from lrnn_jax.signals.image import Image, ImageData
from lrnn_jax.signals.sampled_field import FieldSamples, SampledField
from lrnn_jax.signals.shape import Occupancy, ShapeData, SignedDistance
from lrnn_jax.signals.video import Video, VideoData
from lrnn_jax.signals.volume import Volume, VolumeData

__all__ = [
    "Audio",
    "AudioData",
    "FieldSamples",
    "Image",
    "ImageData",
    "Occupancy",
    "SampledField",
    "ShapeData",
    "SignedDistance",
    "Video",
    "VideoData",
    "Volume",
    "VolumeData",
]
