"""Read volumes in NIfTI format (`.nii`, `.nii.gz`) with nibabel."""

import math
import zlib

import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.io.extras import extra
from lrnn_jax.io.files import decoding
from lrnn_jax.io.memory import available_memory, require_memory
from lrnn_jax.io.quiet import quiet

_GZIP = b"\x1f\x8b"
_NIFTI_2 = (540).to_bytes(4, "little"), (540).to_bytes(4, "big")  # the size of its header


def read_nifti(content: bytes, source: str) -> np.ndarray:
    """Return the scaled values of a NIfTI file, without trailing axes of length 1.

    Raises:
      InputError: the file is damaged or does not fit into memory, or nibabel is not installed.
    """
    nibabel = extra("nibabel", "nifti")
    if content.startswith(_GZIP):
        content = _unzipped(content, source)
    kind = nibabel.Nifti2Image if content[:4] in _NIFTI_2 else nibabel.Nifti1Image
    with decoding(source, "NIfTI"), quiet("nibabel"):
        image = kind.from_bytes(content)
        shape = image.shape
    require_memory(source, 2 * 8 * math.prod(shape))  # the values, scaled in float64
    with decoding(source, "NIfTI"), quiet("nibabel"):
        values = np.asanyarray(image.dataobj)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    return values


def _unzipped(content: bytes, source: str) -> bytes:
    """Decompress, but no more than a quarter of the free memory.

    Raises:
      InputError: the result is larger, or the data are damaged or cut short.
    """
    limit = (available_memory() or 2**34) // 4
    decoder = zlib.decompressobj(wbits=31)  # 31: with the header of gzip
    with decoding(source, "gzip"):
        result = decoder.decompress(content, limit)
    if decoder.unconsumed_tail:
        raise InputError(f"{source} would take more than the allowed {limit / 1e9:.1f} GB")
    if not decoder.eof:
        raise InputError(f"cannot read {source}: damaged or cut short")
    return result
