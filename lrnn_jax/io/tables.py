"""Read tables: CSV with a header, NPZ, arrays, pandas frames, and datasets of scikit-learn."""

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
_DECIMAL_COMMA = re.compile(r"^(\s*[+-]?[0-9]+),([0-9]+\s*)$")
_MOST_CATEGORIES = 100
_MISSING = "an empty cell; problem.missing = 'mean' takes the mean of its column"
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


def read_table_file(
    source: Source, target: Source | None, *, allow_missing: bool = False
) -> TableData:
    """Read a table from a file, a frame or arrays, or one of BUNDLED by its name.

    A column of a CSV or of a frame is a category if none of its values is a number. It becomes one
    indicator (0 or 1) for each category, or a single one if there are two categories.

    Args:
      source: the name of a bundled dataset, or a path: .csv or .tsv with a header and commas,
        semicolons or tabs between the columns, or .npz with x (n, f) and y (n,); or an array of
        features (n, f), or a pandas frame.
      target: name of the target column of a CSV or a frame, None for the last one; or the array of
        targets (n,).
      allow_missing: read an empty cell, and NaN in an array, as NaN.

    Raises:
      InputError: the file is missing, damaged or too large, a feature value is not a finite
        number, there is no such column, or scikit-learn is not installed.
    """
    if isinstance(source, ArraySource) and source.columns and not isinstance(target, ArraySource):
        return _from_frame(source, target, allow_missing)
    if isinstance(source, ArraySource):
        if not isinstance(target, ArraySource):
            raise InputError("target: an array of features needs an array of targets (n,)")
        return _from_arrays(source.values, target.values, "source", allow_missing)
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
        return _from_npz(content, source, allow_missing)
    require_memory(source, _BYTES * len(content))
    return _from_csv(content, source, target, allow_missing)


def read_columns(source: str) -> Float[np.ndarray, "n f"]:
    """Read a CSV with a header whose columns are numbers.

    Raises:
      InputError: the file is missing, damaged or too large, or a column is text.
    """
    table = read_table_file(source, None)
    y = [_number(value, "last", f"row {i + 1}", source, False) for i, value in enumerate(table.y)]
    categories = [name for name in table.names if "=" in name]
    if categories:
        raise InputError(f"{source}: the column of {categories[0]!r} is text, expected numbers")
    return np.column_stack([table.x, y])


def _from_npz(content: bytes, source: str, allow_missing: bool) -> TableData:
    arrays = read_npz(content, source)
    if not {"x", "y"} <= arrays.keys():
        names = ", ".join(arrays)[:120] or "nothing"
        raise InputError(f"{source} holds {names}: expected arrays x and y")
    return _from_arrays(arrays["x"], arrays["y"], source, allow_missing)


def _from_arrays(x: np.ndarray, y: np.ndarray, source: str, allow_missing: bool) -> TableData:
    real = x.dtype == bool or np.issubdtype(x.dtype, np.integer) or x.dtype.kind == "f"
    if x.ndim != 2 or not x.shape[1] or y.shape != x.shape[:1] or not real:
        raise InputError(
            f"{source} has x {x.dtype}{x.shape} and y {y.shape}: expected numbers (n, f) and (n,)"
        )
    invalid = np.isinf(x) if allow_missing else ~np.isfinite(x)
    if invalid.any():
        row, column = np.argwhere(invalid)[0]
        raise InputError(f"{source}: x[{row}, {column}] is not finite")
    if y.dtype.kind not in "fiubU" or (y.dtype.kind == "f" and not np.isfinite(y).all()):
        raise InputError(f"{source}: y has values that are neither text nor finite real numbers")
    return TableData(x.astype(np.float64), y, tuple(map(str, range(x.shape[1]))))


def _from_frame(source: ArraySource, target: str | None, allow_missing: bool) -> TableData:
    cells = source.values.astype(str)
    cells = np.where(np.isin(cells, ("nan", "None", "<NA>", "NaT")), "", cells)
    rows = [(f"row {number}", row) for number, row in enumerate(cells.tolist())]
    return _from_rows(list(source.columns), rows, "source", target, allow_missing)


def _from_csv(content: bytes, source: str, target: str | None, allow_missing: bool) -> TableData:
    try:
        text = content.decode("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
        rows = [(f"line {reader.line_num}", row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {source}: no CSV ({error})") from error
    if len(rows) < 2:
        raise InputError(f"{source} has {len(rows)} lines: expected a header and rows")
    header = [name.strip() for name in rows[0][1]]
    if len(header) < 2:
        raise InputError(
            f"{source} has one column, '{header[0][:40]}': expected several, separated by commas, "
            "semicolons or tabs"
        )
    if separator == ";":  # such files have decimal commas in many countries
        rows = [(where, [_DECIMAL_COMMA.sub(r"\1.\2", c) for c in row]) for where, row in rows]
    return _from_rows(header, rows[1:], source, target, allow_missing)


def _from_rows(
    header: list[str],
    rows: list[tuple[str, list[str]]],
    source: str,
    target: str | None,
    allow_missing: bool,
) -> TableData:
    """Convert rows of text, each with its place for messages, to features and targets."""
    chosen = header[-1] if target is None else target
    if chosen not in header:
        raise InputError(f"target: {source} has no column '{chosen}'; {suggest(chosen, header)}")
    if target is not None and header.count(target) > 1:
        raise InputError(f"target: {source} has {header.count(target)} columns '{target}'")
    place = len(header) - 1 if target is None else header.index(target)
    for where, row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{source}, {where}: {len(row)} fields, expected {len(header)} as in the header"
            )
        if not row[place].strip():
            raise InputError(f"{source}, {where}: the target '{chosen[:40]}' is missing")
    features: dict[str, list[float]] = {}
    for column, name in enumerate(header):
        if column != place:
            cells = [(where, row[column].strip()) for where, row in rows]
            named = _features(cells, name, source, allow_missing)
            # Two columns may have one name.
            features |= {f"{n}.{column}" if n in features else n: v for n, v in named.items()}
    y = np.array([row[place].strip() for _, row in rows])
    x = np.array(list(features.values()), np.float64).reshape(len(features), len(y)).T
    return TableData(np.ascontiguousarray(x), y, tuple(features))


def _features(
    cells: list[tuple[str, str]], name: str, source: str, allow_missing: bool
) -> dict[str, list[float]]:
    """The features of a column by name: its numbers, or the indicators of its categories."""
    found = sorted({cell for _, cell in cells if cell})
    if not found or any(map(_looks_like_number, found)):
        return {name: [_number(c, name, where, source, allow_missing) for where, c in cells]}
    if len(found) > _MOST_CATEGORIES:
        raise InputError(
            f"{source}, column '{name[:40]}': {len(found)} different texts, expected at most "
            f"{_MOST_CATEGORIES} categories or numbers; leave the column out of the table"
        )
    for where, cell in cells:
        if not cell and not allow_missing:
            raise InputError(f"{source}, {where}, column '{name[:40]}': {_MISSING}")
    shown = found[1:] if len(found) == 2 else found
    return {f"{name}={category}": [float(c == category) for _, c in cells] for category in shown}


def _looks_like_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def to_number(text: str) -> float | None:
    """Parse a decimal number in ASCII; None if the text is not one, or overflows float64.

    Unlike this function, Python's `float` also accepts underscores, the digits of all scripts,
    "nan" and "inf".

    >>> to_number("-1.5e3"), to_number("1_10"), to_number("1e999")
    (-1500.0, None, None)
    """
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def _number(text: str, name: str, where: str, source: str, allow_missing: bool) -> float:
    if not text and allow_missing:
        return math.nan
    value = to_number(text)
    if value is None:
        hint = "" if text else f" ({_MISSING})"
        raise InputError(
            f"{source}, {where}, column '{name[:40]}': expected a finite number, got "
            f"{text[:40]!r}{hint}"
        )
    return value
