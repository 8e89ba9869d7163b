"""Read tables: CSV with a header, NPZ with two arrays, and datasets of scikit-learn."""

import csv
import io
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lrnn_jax.errors import InputError, suggest
from lrnn_jax.io.arrays import read_npz
from lrnn_jax.io.extras import extra
from lrnn_jax.io.files import read_bytes
from lrnn_jax.io.memory import require_memory
from lrnn_jax.io.sources import ArraySource, Source

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Datasets that are installed with scikit-learn. The target of 'diabetes' is a number; the targets
of all others are classes."""

_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
_BYTES = 40  # memory that Python needs for each character of a CSV, at most


class TableData(NamedTuple):
    """Features and targets of a dataset.

    Attributes:
      x: features (n, f).
      y: the target of each row, a number or the name of a class.
      names: names of the features.
    """

    x: Float[np.ndarray, "n f"]
    y: np.ndarray
    names: tuple[str, ...]


def read_table_file(source: Source, target: Source | None) -> TableData:
    """Read a table from a file or from arrays, or one of BUNDLED by its name.

    Args:
      source: the name of a bundled dataset, or a path: .csv with a header, or .npz with x (n, f)
        and y (n,); or an array of features (n, f).
      target: name of the target column of a CSV, or the array of targets (n,); None: the last
        column.

    Raises:
      InputError: the file is missing, damaged or too large, a feature value is not a finite
        number, there is no such column, or scikit-learn is not installed.
    """
    if isinstance(source, ArraySource):
        if not isinstance(target, ArraySource):
            raise InputError("target: an array of features needs an array of targets (n,)")
        return _from_arrays(source.values, target.values, "source")
    if isinstance(target, ArraySource):
        raise InputError(f"target: expected the name of a column of {source}, got an array")
    bundled, suffix = source in BUNDLED, Path(source).suffix.lower()
    if target is not None and (bundled or suffix == ".npz"):
        raise InputError(f"target: only a CSV has columns to choose from; leave it out of {source}")
    if bundled:
        data = getattr(extra("sklearn.datasets", "tabular"), f"load_{source}")()
        names = tuple(map(str, getattr(data, "feature_names", range(data.data.shape[1]))))
        return TableData(np.asarray(data.data, np.float64), np.asarray(data.target), names)
    path = Path(source)
    content = read_bytes(path)
    if suffix == ".npz":
        return _from_npz(content, source)
    require_memory(source, _BYTES * len(content))
    return _from_csv(content, source, target)


def _from_npz(content: bytes, source: str) -> TableData:
    arrays = read_npz(content, source)
    if not {"x", "y"} <= arrays.keys():
        names = ", ".join(arrays)[:120] or "nothing"
        raise InputError(f"{source} holds {names}: expected arrays x and y")
    return _from_arrays(arrays["x"], arrays["y"], source)


def _from_arrays(x: np.ndarray, y: np.ndarray, source: str) -> TableData:
    real = x.dtype == bool or np.issubdtype(x.dtype, np.integer) or x.dtype.kind == "f"
    if x.ndim != 2 or not x.shape[1] or y.shape != x.shape[:1] or not real:
        raise InputError(
            f"{source} has x {x.dtype}{x.shape} and y {y.shape}: expected numbers (n, f) and (n,)"
        )
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise InputError(f"{source}: x[{row}, {column}] is not finite")
    if y.dtype.kind not in "fiubU" or (y.dtype.kind == "f" and not np.isfinite(y).all()):
        raise InputError(f"{source}: y has values that are neither text nor finite real numbers")
    return TableData(x.astype(np.float64), y, tuple(map(str, range(x.shape[1]))))


def _from_csv(content: bytes, source: str, target: str | None) -> TableData:
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        numbered = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {source}: no CSV ({error})") from error
    rows = [row for _, row in numbered]
    if len(rows) < 2:
        raise InputError(f"{source} has {len(rows)} lines: expected a header and rows")
    header = [name.strip() for name in rows[0]]
    if len(header) < 2:
        raise InputError(
            f"{source} has one column, '{header[0][:40]}': expected several, separated by commas"
        )
    chosen = header[-1] if target is None else target
    if chosen not in header:
        raise InputError(f"target: {source} has no column '{chosen}'; {suggest(chosen, header)}")
    if target is not None and header.count(target) > 1:
        raise InputError(f"target: {source} has {header.count(target)} columns '{target}'")
    place = len(header) - 1 if target is None else header.index(target)
    for line, row in numbered[1:]:
        if len(row) != len(header):
            raise InputError(
                f"{source}, line {line}: {len(row)} fields, expected {len(header)} as in the header"
            )
    columns = [column for column in range(len(header)) if column != place]
    x = [
        [_number(row[column], header[column], line, source) for column in columns]
        for line, row in numbered[1:]
    ]
    for line, row in numbered[1:]:
        if not row[place].strip():
            raise InputError(f"{source}, line {line}: the target '{chosen[:40]}' is missing")
    y = np.array([row[place].strip() for row in rows[1:]])
    names = tuple(header[column] for column in columns)
    return TableData(np.array(x, np.float64).reshape(len(y), len(names)), y, names)


def to_number(text: str) -> float | None:
    """Parse a decimal number in ASCII; None if the text is not one, or overflows float64.

    Unlike this function, Python's `float` also accepts underscores, the digits of all scripts,
    "nan" and "inf".

    >>> to_number("-1.5e3"), to_number("1_10"), to_number("1e999")
    (-1500.0, None, None)
    """
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def _number(text: str, name: str, line: int, source: str) -> float:
    value = to_number(text)
    if value is None:
        raise InputError(
            f"{source}, line {line}, column '{name[:40]}': expected a finite number, got "
            f"{text[:40]!r}"
        )
    return value
