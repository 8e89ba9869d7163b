"""Files in and out: pictures, sound, figures, atomic writing."""

from lrnn_jax.io.extras import extra, require_memory
from lrnn_jax.io.figures import save_figure, write_curves, write_error_map, write_sound_error
from lrnn_jax.io.files import atomic, exists, io_errors, write_bytes
from lrnn_jax.io.images import SAMPLES, Picture, read_picture, write_png
from lrnn_jax.io.sounds import CHORD, Sound, read_sound, write_wav

__all__ = [
    "CHORD",
    "SAMPLES",
    "Picture",
    "Sound",
    "atomic",
    "exists",
    "extra",
    "io_errors",
    "read_picture",
    "read_sound",
    "require_memory",
    "save_figure",
    "write_bytes",
    "write_curves",
    "write_error_map",
    "write_png",
    "write_sound_error",
    "write_wav",
]
