"""Data given as arrays: a hashable wrapper, so that a problem that holds them stays hashable."""

import functools
import hashlib
from typing import Any

import numpy as np

from lrnn_jax.errors import InputError

__all__ = ["ArraySource", "as_source"]


class ArraySource:
    """Arrays in place of a file. Two sources are equal if their arrays have equal contents.

    Args:
      arrays: the arrays by role, e.g. {"values": ...}. They are copied and made read-only.
    """

    def __init__(self, **arrays: Any) -> None:
        self._arrays = {name: np.array(value) for name, value in arrays.items()}
        for name, array in self._arrays.items():
            if array.dtype.kind not in "biufSUO":
                raise InputError(f"{name}: expected numbers, got an array of {array.dtype}")
            array.flags.writeable = False

    def __getitem__(self, role: str) -> np.ndarray:
        return self._arrays[role]

    def __contains__(self, role: str) -> bool:
        return role in self._arrays

    @functools.cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name, array in self._arrays.items():
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            content = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
            digest.update(content)
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArraySource) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        shapes = (f"{n} {a.dtype} {list(a.shape)}" for n, a in self._arrays.items())
        return f"<{', '.join(shapes)}>"


def as_source(value: Any) -> Any:
    """`value` as a source: paths as strings, arrays as an ArraySource, all else unchanged."""
    if isinstance(value, str | ArraySource):
        return value
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    if hasattr(value, "__array__") or isinstance(value, list):
        return ArraySource(values=value)
    return value
