"""Files in and out: pictures, figures, atomic writing."""

from lrnn_jax.io.figures import save_figure, write_curves, write_error_map
from lrnn_jax.io.files import atomic, exists, io_errors, write_bytes
from lrnn_jax.io.images import SAMPLES, Picture, read_picture, write_png

__all__ = [
    "SAMPLES",
    "Picture",
    "atomic",
    "exists",
    "io_errors",
    "read_picture",
    "save_figure",
    "write_bytes",
    "write_curves",
    "write_error_map",
    "write_png",
]
