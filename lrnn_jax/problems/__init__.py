"""What a field is fitted to."""

from lrnn_jax.problems import inverse, pde
from lrnn_jax.problems.signals import Audio, AudioData, Image, ImageData

__all__ = ["Audio", "AudioData", "Image", "ImageData", "inverse", "pde"]
