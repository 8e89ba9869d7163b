"""Reading and writing files: images, sound, video, solids, tables; atomic writing."""

from lrnn_jax.io.extras import extra
from lrnn_jax.io.files import (
    atomic,
    exists,
    io_errors,
    make_folder,
    read_bytes,
    require_suffix,
    write_bytes,
)
from lrnn_jax.io.images import (
    SAMPLES,
    Picture,
    count_channels,
    read_picture,
    resize,
    write_picture,
    write_png,
)
from lrnn_jax.io.memory import available_memory, require_memory
from lrnn_jax.io.solids import (
    MARSCHNER_LOBB,
    VOLUMES,
    level_set,
    read_array,
    read_mesh,
    read_volume,
    read_voxels,
    write_array,
    write_mesh,
    write_ply,
)
from lrnn_jax.io.sounds import CHORD, Sound, read_sound, write_sound, write_wav
from lrnn_jax.io.sources import (
    ArraySource,
    OptionalSourceField,
    Source,
    SourceField,
    as_source,
)
from lrnn_jax.io.tables import BUNDLED, TableData, read_columns, read_table_file, to_number
from lrnn_jax.io.videos import PAN, Clip, read_video, write_video

__all__ = [
    "BUNDLED",
    "CHORD",
    "MARSCHNER_LOBB",
    "PAN",
    "SAMPLES",
    "VOLUMES",
    "ArraySource",
    "Clip",
    "OptionalSourceField",
    "Picture",
    "Sound",
    "Source",
    "SourceField",
    "TableData",
    "as_source",
    "atomic",
    "available_memory",
    "count_channels",
    "exists",
    "extra",
    "io_errors",
    "level_set",
    "make_folder",
    "read_array",
    "read_bytes",
    "read_columns",
    "read_mesh",
    "read_picture",
    "read_sound",
    "read_table_file",
    "read_video",
    "read_volume",
    "read_voxels",
    "require_memory",
    "require_suffix",
    "resize",
    "to_number",
    "write_array",
    "write_bytes",
    "write_mesh",
    "write_picture",
    "write_ply",
    "write_png",
    "write_sound",
    "write_video",
    "write_wav",
]
