"""Rows as CSV, Markdown, JSON lines or Parquet."""

import contextlib
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from lrnn_jax.io import extra, io_errors, require_suffix, write_bytes
from lrnn_jax.io.json_text import finite_or_none, json_text

__all__ = ["csv_text", "markdown_text", "parquet_bytes", "read_parquet", "write_rows"]

TableRow = Mapping[str, Any]
_MARK = b"lrnn_jax"  # the metadata of a column of a Parquet file
SUFFIXES = (".csv", ".md", ".jsonl", ".parquet")


def columns(rows: Sequence[TableRow]) -> list[str]:
    """The names of all columns, in the order in which they first occur."""
    return list(dict.fromkeys(name for row in rows for name in row))


def csv_text(rows: Sequence[TableRow]) -> str:
    """Rows as CSV with a header. Lists are JSON, what is not known is empty.

    >>> csv_text([{"a": 1.5, "b": "x,y"}, {"a": None, "b": [1, 2]}]).splitlines()
    ['a,b', '1.5,"x,y"', ',"[1, 2]"']
    """
    buffer = io.StringIO()
    names = columns(rows)
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_plain(row.get(name)) for name in names] for row in rows)
    return buffer.getvalue()


def markdown_text(rows: Sequence[TableRow]) -> str:
    """Rows as a Markdown table, numbers with four digits.

    >>> print(markdown_text([{"model": "lrnn", "psnr": 33.44567}]), end="")
    | model | psnr |
    | --- | --- |
    | lrnn | 33.45 |
    """
    names = columns(rows)
    lines = [[_short(name) for name in names], ["---"] * len(names)]
    lines += [[_short(row.get(name)) for name in names] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def parquet_bytes(rows: Sequence[TableRow]) -> bytes:
    """Rows as a Parquet file.

    A column whose values have several types is JSON text. A null is None or, in columns that some
    rows do not have, that the row does not have it.

    Raises:
      InputError: pyarrow is not installed.
    """
    arrow, parquet = extra("pyarrow", "parquet"), extra("pyarrow.parquet", "parquet")
    parts = [_column(arrow, name, rows) for name in columns(rows)]
    schema = arrow.schema([field for field, _ in parts])
    sink = io.BytesIO()
    table = arrow.table([array for _, array in parts], schema=schema)
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def read_parquet(content: bytes) -> list[dict[str, Any]]:
    """The rows of a file of `parquet_bytes`.

    Raises:
      InputError: pyarrow is not installed.
      ValueError: the content is not a Parquet file.
    """
    table = extra("pyarrow.parquet", "parquet").read_table(io.BytesIO(content))
    marks = {f.name: (f.metadata or {}).get(_MARK, b"").decode() for f in table.schema}
    rows: list[dict[str, Any]] = []
    for row in table.to_pylist():
        kept: dict[str, Any] = {n: v for n, v in row.items() if v is not None or not marks[n]}
        rows.append({n: json.loads(v) if marks[n] == "json" else v for n, v in kept.items()})
    return rows


def _column(arrow: Any, name: str, rows: Sequence[TableRow]) -> tuple[Any, Any]:
    """The field and the values of a column of a Parquet file."""
    values = [finite_or_none(row.get(name)) for row in rows]
    partial = any(name not in row for row in rows)
    unknown = any(name in row and value is None for row, value in zip(rows, values, strict=True))
    mark = "partial" if partial else ""
    array = None
    if not (partial and unknown):
        with contextlib.suppress(arrow.ArrowInvalid, arrow.ArrowTypeError):
            array = arrow.array(values)
    if array is None:
        mark = "json"
        texts = [json.dumps(v) if name in r else None for r, v in zip(rows, values, strict=True)]
        array = arrow.array(texts, arrow.string())
    return arrow.field(name, array.type, metadata={_MARK: mark}), array


def write_rows(rows: Sequence[TableRow], path: str | PathLike[str]) -> Path:
    """Write rows as CSV, Markdown, JSON lines or Parquet, as the suffix of the name says.

    Raises:
      InputError: another suffix; the file cannot be written; pyarrow is not installed.
    """
    file = require_suffix(Path(path), *SUFFIXES)
    formats = {
        ".csv": lambda: csv_text(rows).encode(),
        ".md": lambda: markdown_text(rows).encode(),
        ".jsonl": lambda: "".join(map(json_text, rows)).encode(),
        ".parquet": lambda: parquet_bytes(rows),
    }
    with io_errors(file, "write"):
        return write_bytes(file, formats[file.suffix.lower()]())


def _plain(value: Any) -> Any:
    """A value of a CSV file."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return "" if value is None else str(value).replace("|", "\\|")
