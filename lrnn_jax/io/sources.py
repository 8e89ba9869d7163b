"""Data given as arrays: a hashable wrapper, so that a problem that holds them stays hashable."""

import functools
import hashlib
import os
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from lrnn_jax.errors import InputError

__all__ = ["ArraySource", "OptionalSourceField", "Source", "SourceField", "as_source"]


class ArraySource:
    """An array in place of a file. Two sources are equal if their arrays have equal contents.

    Args:
      values: an array of numbers, flags or text; it is copied and made read-only.
      columns: names of the columns of a table; () for other arrays.

    Raises:
      InputError: it is no such array.
    """

    description: ClassVar[str] = "an array"

    def __init__(self, values: Any, columns: tuple[str, ...] = ()) -> None:
        try:
            self.values = np.array(values)
        except ValueError as error:  # rows of different lengths
            raise InputError(f"expected an array: {error}") from error
        if self.values.dtype == object:
            self.values = self.values.astype(str)
        if self.values.dtype.kind not in "biufU":
            raise InputError(f"expected an array of numbers, got {self.values.dtype}")
        if not self.values.size:
            raise InputError(f"expected an array with values, got shape {self.values.shape}")
        self.values.flags.writeable = False
        self.columns = columns

    @functools.cached_property
    def _digest(self) -> str:
        about = f"{self.values.dtype} {self.values.shape} {self.columns}".encode()
        return hashlib.sha256(about + self.values.tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArraySource) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"<array {self.values.dtype} {list(self.values.shape)}>"

    __str__ = __repr__


Source = str | ArraySource
"""The path of a file, the name of a sample, or an array."""

if TYPE_CHECKING:

    class _HasArray(Protocol):
        def __array__(self) -> np.ndarray: ...

    _Given = str | os.PathLike[str] | ArraySource | _HasArray | list[Any]

    class SourceField:
        """The type of a field that is set to a path or an array, and holds a `Source`."""

        def __get__(self, instance: Any, owner: Any) -> Source: ...
        def __set__(self, instance: Any, value: _Given) -> None: ...

    class OptionalSourceField:
        """The same for a field that may be None."""

        def __get__(self, instance: Any, owner: Any) -> Source | None: ...
        def __set__(self, instance: Any, value: _Given | None) -> None: ...

else:
    SourceField, OptionalSourceField = Source, Source | None


def as_source(value: Any) -> Any:
    """`value` as a source: paths as text, arrays and frames as an ArraySource, others unchanged."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "__array__") and hasattr(value, "columns"):  # a frame of pandas or polars
        return ArraySource(value, tuple(map(str, value.columns)))
    if hasattr(value, "__array__") or isinstance(value, list):
        return ArraySource(value)
    return value
