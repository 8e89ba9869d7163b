"""What a field is fitted to."""

from lrnn_jax.problems import pde
from lrnn_jax.problems.signals import Image, ImageData

__all__ = ["Image", "ImageData", "pde"]
