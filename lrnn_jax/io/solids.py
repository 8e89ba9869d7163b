"""Read and write solids: voxel volumes and closed triangle meshes."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from lrnn_jax.errors import InputError
from lrnn_jax.io.arrays import read_npy, read_npz, read_volume_of_mat
from lrnn_jax.io.extras import extra
from lrnn_jax.io.files import decoding, read_bytes, require_suffix, write_bytes
from lrnn_jax.io.memory import require_memory
from lrnn_jax.io.nifti import read_nifti
from lrnn_jax.io.quiet import quiet
from lrnn_jax.io.sources import ArraySource, Source

MARSCHNER_LOBB = "marschner_lobb"
"""Name of a synthetic volume: 40^3 values of the test signal of Marschner and Lobb (1994)."""

VOLUMES = (".npy", ".npz", ".mat", ".nii", ".gz")
"""File suffixes of volumes (.gz: .nii.gz); all other files are meshes."""

MESHES = ("stl", "obj", "ply", "off", "glb")
"""Mesh formats, by file suffix: those that store a surface in a single file."""

_MESH_BYTES = 64  # memory that trimesh needs for each byte of a binary file, at most


def read_volume(source: Source, threshold: float | None = None) -> Bool[np.ndarray, "a b c"]:
    """Read a volume from a file or an array as a mask of the voxels above a threshold.

    The threshold is half of the largest value by default. The mask is cropped to the bounding box
    of these voxels. A file with several arrays must have exactly one with three axes.

    Raises:
      InputError: the file is missing, damaged or too large, does not have exactly one array with
        three axes, or its voxels are all inside or all outside.
    """
    values = read_voxels(source)
    require_memory(source, 4 * values.size)  # boolean masks: finite, inside
    if not np.issubdtype(values.dtype, np.number) and values.dtype != bool:
        raise InputError(f"{source} holds {values.dtype}: expected numbers")
    if not values.size:
        raise InputError(f"{source} holds an array {values.shape}: expected voxels")
    if not np.isfinite(values).all():
        raise InputError(f"{source} has values that are not finite")
    inside = values > (values.max() / 2 if threshold is None else threshold)
    if inside.all() or not inside.any():
        raise InputError(
            f"{source} has voxels of one kind only: expected some inside, some outside"
        )
    spans = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return inside[tuple(slice(span[0], span[-1] + 1) for span in spans)]


def read_voxels(source: Source) -> np.ndarray:
    """Read the values of a NumPy, MATLAB or NIfTI volume, of an array, or of a sample.

    Raises:
      InputError: the file is missing, damaged or too large, or does not have exactly one array with
        three axes.
    """
    if isinstance(source, ArraySource):
        if source.values.ndim != 3:
            raise InputError(f"source: expected an array with three axes, got {source}")
        return source.values
    if source == MARSCHNER_LOBB:
        return _marschner_lobb(40)
    path = Path(source)
    return _volume(read_bytes(path), path.suffix.lower(), source)


def read_array(source: Source) -> np.ndarray:
    """Read an array from an NPY file, or return the given one.

    Raises:
      InputError: the file is missing, damaged or too large.
    """
    if isinstance(source, ArraySource):
        return source.values
    return read_npy(read_bytes(require_suffix(source, ".npy")), source)


def _marschner_lobb(side: int) -> Float[np.ndarray, "a b c"]:
    """(1 - sin(pi z / 2) + (1 + cos(12 pi cos(pi r / 2))) / 4) / 2.5 in [0, 1], r^2 = x^2 + y^2."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, side),) * 3, indexing="ij")
    ripples = 1 + np.cos(12 * np.pi * np.cos(np.pi / 2 * np.hypot(x, y)))
    return (1 - np.sin(np.pi / 2 * z) + ripples / 4) / 2.5


def write_array(path: str | Path, values: np.ndarray) -> Path:
    """Write an array as NPY, or in an NPZ as `values`.

    Raises:
      InputError: the file cannot be written, or its suffix is another.
    """
    path = require_suffix(path, ".npy", ".npz")
    buffer = io.BytesIO()
    if path.suffix.lower() == ".npy":
        np.save(buffer, values, allow_pickle=False)
    else:
        np.savez(buffer, values=values)
    return write_bytes(path, buffer.getvalue())


def read_mesh(source: str) -> Any:
    """Read a closed surface as a trimesh.Trimesh, translated and scaled into [-0.9, 0.9]^3.

    Raises:
      InputError: the file is missing or damaged, or the surface is not closed; trimesh is not
        installed.
    """
    path = Path(source)
    content = read_bytes(path)
    # Import all three here: trimesh imports the last two only on use, and would fail later.
    trimesh, *_ = (extra(module, "mesh") for module in ("trimesh", "rtree", "charset_normalizer"))
    kind = path.suffix[1:].lower()
    if kind not in MESHES:
        raise InputError(f"{source}: expected a mesh of {', '.join(MESHES).upper()} by its suffix")
    require_memory(source, _MESH_BYTES * len(content))
    with quiet("trimesh"):
        return _mesh(trimesh, content, kind, source)


def _mesh(trimesh: Any, content: bytes, kind: str, source: str) -> Any:
    with decoding(source, "mesh"):
        # Load from memory and without materials, so that no file it refers to is opened.
        mesh = trimesh.load(io.BytesIO(content), file_type=kind, force="mesh", skip_materials=True)
    if not len(mesh.faces):
        raise InputError(f"{source} has no triangles: expected a closed surface")
    if mesh.vertices.shape[1] != 3:
        raise InputError(f"cannot read {source}: it has corners without three coordinates")
    if not np.isfinite(mesh.vertices).all():
        raise InputError(f"{source} has corners that are not finite")
    if not mesh.is_watertight:
        raise InputError(f"{source} is not watertight: it does not separate inside and outside")
    middle, largest = mesh.bounds.mean(axis=0), float(np.ptp(mesh.bounds, axis=0).max())
    if not 1e-30 < largest < 1e30:
        raise InputError(f"{source} is {largest:.3g} wide: expected a surface with an inside")
    mesh.apply_translation(-middle)
    mesh.apply_scale(1.8 / largest)
    return mesh


def level_set(
    values: Float[np.ndarray, "a b c"], level: float, outside: float
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]] | None:
    """Extract a level set by marching cubes: vertices in [-1, 1]^3 and triangles.

    Each axis of the volume spans [-1, 1], with the voxels at the centres of equal intervals. The
    volume is padded with the value `outside`, so that surfaces are closed.

    Returns:
      (vertices, faces), or None if no voxels cross the level.
    """
    from skimage.measure import marching_cubes

    padded = np.pad(values, 1, constant_values=outside)
    if not padded.min() < level < padded.max():
        return None
    way: Any = "ascent" if outside < level else "descent"  # so that normals point outwards
    vertices, faces, _, _ = marching_cubes(padded, level, gradient_direction=way)
    return (2 * vertices - 1) / np.array(values.shape) - 1, faces


def write_ply(
    path: Path, vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Path:
    """Write triangles as a binary PLY file, which all mesh viewers can open.

    Raises:
      InputError: the file cannot be written.
    """
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    rows["count"], rows["corners"] = 3, faces
    points = np.ascontiguousarray(vertices, "<f4")
    return write_bytes(path, header.encode() + points.tobytes() + rows.tobytes())


def write_mesh(
    path: str | Path, vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Path:
    """Write triangles in the format of the suffix: PLY, or OBJ or STL by trimesh.

    Raises:
      InputError: the suffix is another, the file cannot be written, or trimesh is not installed.
    """
    path = require_suffix(path, ".ply", ".obj", ".stl")
    if path.suffix.lower() == ".ply":
        return write_ply(path, vertices, faces)
    mesh = extra("trimesh", "mesh").Trimesh(vertices, faces, process=False)
    content = mesh.export(file_type=path.suffix[1:].lower())
    return write_bytes(path, content.encode() if isinstance(content, str) else content)


def _volume(content: bytes, suffix: str, source: str) -> np.ndarray:
    """Return the only array with three axes of a NumPy or MATLAB file."""
    if suffix == ".mat":
        return read_volume_of_mat(content, source)
    if suffix == ".npz":
        arrays = read_npz(content, source)
    else:
        arrays = {"": (read_npy if suffix == ".npy" else read_nifti)(content, source)}
    volumes = [array for array in arrays.values() if array.ndim == 3]
    if len(volumes) != 1:
        contents = ", ".join(f"{name or 'array'} {array.shape}" for name, array in arrays.items())
        raise InputError(f"{source} holds {contents[:120]}: expected one array with three axes")
    return volumes[0]
