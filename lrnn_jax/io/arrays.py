"""Read arrays from NumPy and MATLAB files. The size is checked before memory is allocated."""

import ast
import io
import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.io.files import decoding
from lrnn_jax.io.memory import available_memory, require_memory

_MAT_SCRIPT = Path(__file__).with_name("mat_script.py")
_MAT_SECONDS = 120
_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_npy(content: bytes, source: str) -> np.ndarray:
    """Return the array of an .npy file.

    Raises:
      InputError: the file is damaged, holds Python objects, or does not fit into memory.
    """
    return _array(io.BytesIO(content), len(content), source)


def read_npz(content: bytes, source: str) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file as a dict by name.

    Raises:
      InputError: the file is damaged, holds Python objects, or does not fit into memory.
    """
    with decoding(source, "NPZ"), zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        require_memory(source, sum(member.file_size for member in members))
        arrays = {}
        for member in members:
            with archive.open(member) as file:  # decompresses only what is read
                name = member.filename.removesuffix(".npy")
                arrays[name] = _array(file, member.file_size, source)
        return arrays


def _array(file: Any, size: int, source: str) -> np.ndarray:
    """Return an array in .npy format after checking its header against the file's `size` bytes."""
    with decoding(source, "NumPy array"):
        dtype, shape, fortran = _header(file)
    if dtype.hasobject:
        raise InputError(f"{source} holds Python objects: expected an array of numbers or text")
    num_bytes = dtype.itemsize * math.prod(shape)
    if num_bytes != size - file.tell():
        raise InputError(
            f"cannot read {source}: damaged or cut short, {size - file.tell()} bytes for an array "
            f"of {num_bytes}"
        )
    require_memory(source, 2 * num_bytes)
    # Through a bytearray, because an array over `bytes` is read-only.
    flat = np.frombuffer(bytearray(file.read(num_bytes)), dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _header(file: BinaryIO) -> tuple[np.dtype, tuple[int, ...], bool]:
    """Return (dtype, shape, fortran_order) of an .npy header, format versions 1 to 3."""
    version = np.lib.format.read_magic(file)
    length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if version not in ((1, 0), (2, 0), (3, 0)) or length > 2**16:
        raise ValueError(f"a header of version {version} and {length} bytes")
    text = file.read(length).decode("utf-8" if version == (3, 0) else "latin1")
    header = ast.literal_eval(text)
    shape, fortran = header["shape"], header["fortran_order"]
    sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if header.keys() != {"descr", "fortran_order", "shape"} or not sizes or len(shape) > 32:
        raise ValueError("not the header of an array")
    return np.lib.format.descr_to_dtype(header["descr"]), shape, bool(fortran)


def read_volume_of_mat(content: bytes, source: str) -> np.ndarray:
    """Return the only numeric three-axis array of a MATLAB file of version 4 to 7.

    SciPy reads the file in a separate process, because a damaged file can crash its reader.

    Raises:
      InputError: the file is damaged, of version 7.3, or too large for memory, or it does not have
        exactly one such array.
    """
    if content[512:520] == _HDF5 or content.startswith(_HDF5):
        raise InputError(f"{source} is a MATLAB file of version 7.3: save it with -v7")
    free = available_memory()
    # Half: first the child process and then this one hold the array and its bytes.
    limit = "none" if free is None else str(free // 2)
    command = [sys.executable, "-I", str(_MAT_SCRIPT), limit]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=_MAT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"cannot read {source}: not done in {_MAT_SECONDS} seconds") from error
    answer, _, array = done.stdout.partition(b"\n")
    if done.returncode or not answer:
        raise InputError(f"cannot read {source}: damaged, or no MATLAB file")
    report = json.loads(answer)
    if report["memory"]:
        raise InputError(f"{source} would take more than the allowed {int(limit) / 1e9:.1f} GB")
    if report["error"]:
        raise InputError(f"cannot read {source}: damaged, or no MATLAB file ({report['error']})")
    if not array:
        raise InputError(f"{source} holds {report['contents']}: expected one array with three axes")
    return read_npy(array, source)
