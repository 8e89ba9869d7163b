"""Files in and out: pictures, sound, solids, figures, atomic writing."""

from lrnn_jax.io.extras import extra, require_memory
from lrnn_jax.io.figures import (
    save_figure,
    write_curves,
    write_error_map,
    write_slices,
    write_sound_error,
)
from lrnn_jax.io.files import atomic, exists, io_errors, write_bytes
from lrnn_jax.io.images import SAMPLES, Picture, read_picture, write_png
from lrnn_jax.io.solids import VOLUMES, level_set, read_mesh, read_volume, write_ply
from lrnn_jax.io.sounds import CHORD, Sound, read_sound, write_wav

__all__ = [
    "CHORD",
    "SAMPLES",
    "VOLUMES",
    "Picture",
    "Sound",
    "atomic",
    "exists",
    "extra",
    "io_errors",
    "level_set",
    "read_mesh",
    "read_picture",
    "read_sound",
    "read_volume",
    "require_memory",
    "save_figure",
    "write_bytes",
    "write_curves",
    "write_error_map",
    "write_ply",
    "write_png",
    "write_slices",
    "write_sound_error",
    "write_wav",
]
