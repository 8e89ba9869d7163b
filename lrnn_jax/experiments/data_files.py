"""The problem that a data file stands for: `lrnn-jax fit photo.png`."""

import re
from pathlib import Path

import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.experiments.spec import ConfigTable
from lrnn_jax.io import VOLUMES, exists, read_array, read_table_file, read_voxels, to_number
from lrnn_jax.io.arrays import read_npz
from lrnn_jax.io.files import read_bytes

__all__ = ["is_data_file", "problem_of_file", "require_no_url", "require_readable"]

_KINDS = {
    "image": ("png", "jpg", "jpeg", "bmp", "webp", "tif", "tiff"),
    "audio": ("wav", "flac", "ogg", "aiff", "aif", "au", "caf", "mp3"),
    "video": ("gif", "mp4", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ogv", "flv", "wmv", "ts"),
    "occupancy": ("stl", "obj", "ply", "off", "glb"),
    "volume": tuple(suffix.removeprefix(".") for suffix in VOLUMES),
    "regression": ("csv", "tsv"),
}
_KIND_OF = {f".{suffix}": kind for kind, suffixes in _KINDS.items() for suffix in suffixes}
# Kinds of problems that read the same files.
_FAMILIES = (
    ("image", "denoising", "inpainting", "super_resolution", "multi_frame_super_resolution", "ct"),
    ("image", "video"),
    ("audio",),
    ("volume", "occupancy", "signed_distance"),
    ("volume", "field", "regression", "classification"),
)
_MOST_CLASSES = 20  # integers with more values are numbers to predict, not classes
_ROWS_PER_CLASS = 5  # fewer rows for each value suggest numbers, too


def require_no_url(source: str) -> None:
    """Refuse a URL.

    Raises:
      InputError: `source` is a URL.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
        raise InputError(f"{source} is a URL: download the file, and give its path")


def require_readable(problem_kind: str, source: str) -> None:
    """Refuse a file that another kind of problem reads, by its suffix.

    Raises:
      InputError: the kind does not read such files; the message names one that does.
    """
    require_no_url(source)
    reader = _KIND_OF.get(Path(source).suffix.lower())
    families = [family for family in _FAMILIES if problem_kind in family]
    if reader is not None and families and not any(reader in family for family in families):
        if exists(Path(source)):
            reader = problem_of_file(source)["kind"]  # that of an array depends on its axes
        raise InputError(
            f"problem.source: {problem_kind!r} does not read {source}; --problem.kind {reader} does"
        )


def is_data_file(name: str) -> bool:
    """Whether a name stands for data and not for an experiment: a file, a folder, or a URL."""
    path = Path(name)
    other = exists(path) and (path.is_dir() or path.suffix not in ("", ".toml"))
    return bool(name) and (other or path.suffix.lower() in _KIND_OF or "://" in name)


def problem_of_file(source: str, target: str | None = None) -> ConfigTable:
    """The [problem] section for a data file: the kind by its suffix, for tables by its target.

    A table is a classification if its target is text, or an integer of few values.

    Args:
      source: the path of a file, or of a folder of images, which is a video.
      target: the name of the target column of a table; None for the last one.

    Raises:
      InputError: no problem reads such a file, or the file is missing or damaged.
    """
    require_no_url(source)
    path = Path(source)
    if exists(path) and path.is_dir():
        return {"kind": "video", "source": source}
    kind = _KIND_OF.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(suffix[1:] for suffix in _KIND_OF)
        raise InputError(f"{source}: no problem reads such a file by its suffix; known: {known}")
    if path.suffix.lower() == ".npz" and {"x", "y"} <= read_npz(read_bytes(path), source).keys():
        kind = "regression"
    if path.suffix.lower() == ".npy" and read_array(source).ndim != 3:
        kind = "field"
    elif kind == "volume" and read_voxels(source).dtype == bool:
        kind = "occupancy"
    if kind == "regression" and _is_class(read_table_file(source, target, allow_missing=True).y):
        kind = "classification"
    return {"kind": kind, "source": source}


def _is_class(target: np.ndarray) -> bool:
    """Whether the values of a target are classes rather than numbers."""
    values = [to_number(value) if isinstance(value, str) else value for value in target.tolist()]
    distinct = {value for value in values if value is not None}
    if None in values:
        return True
    integers = all(value == int(value) for value in distinct)
    few = len(distinct) <= min(_MOST_CLASSES, len(values) // _ROWS_PER_CLASS)
    return integers and few
