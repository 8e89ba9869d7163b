"""Checks of dataclass fields. Each error names the field, its value and the allowed values."""

import math
import numbers
import os
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lrnn_jax.errors import InputError

__all__ = [
    "missing_members",
    "require_at_least",
    "require_choice",
    "require_flag",
    "require_length",
    "require_nonnegative",
    "require_per_axis",
    "require_points",
    "require_positive",
    "require_source",
    "require_within",
    "unrolled",
]


_LARGEST_COUNT = 2**32 - 1
_MOST_UNROLLED = 1000
_UNROLLED = ("components", "degree", "depth", "height", "order")
"""Fields whose loops are unrolled in the program; a value of a million takes hours to compile."""

_DIMENSIONS = ("dim", "harmonics", "time_harmonics")
"""Fields of an equation over which its derivatives loop, or which widen the network's input."""

_LEAST_SCALE, _LARGEST_SCALE = 1e-12, 1e12
"""Cubes and reciprocals of numbers in this range are normal float32 numbers."""


def require_at_least(spec: Any, least: int, *names: str) -> None:
    """Check that each named field is an integer >= least.

    A field whose annotation allows a tuple may also be a tuple of such integers. Integers must be
    below 2**32. Fields that count layers, components, dimensions or similar must be at most 1,000.

    Raises:
      InputError: a field fails the check; the message names the first one.
    """
    hints = get_type_hints(type(spec))
    for name in names:
        value, hint = getattr(spec, name), hints[name]
        several = any(get_origin(choice) is tuple for choice in (hint, *get_args(hint)))
        entries = value if isinstance(value, tuple) and value and several else (value,)
        for entry in entries:
            if not isinstance(entry, int) or isinstance(entry, bool) or entry < least:
                raise InputError(f"{name}: expected an integer >= {least}, got {value!r}")
            most = _MOST_UNROLLED if name in (*_UNROLLED, *_DIMENSIONS) else _LARGEST_COUNT
            if entry > most:
                raise InputError(f"{name}: expected an integer <= {most}, got a larger one")


def missing_members(thing: Any, protocol: type) -> list[str]:
    """Return the public members of a protocol that an object, or a dataclass, does not have."""
    fields = getattr(thing, "__dataclass_fields__", {})
    members = (name for name in dir(protocol) if not name.startswith("_"))
    return [name for name in members if not hasattr(thing, name) and name not in fields]


def unrolled(spec: Any) -> int:
    """Estimate how many copies of the innermost loop body the program of a model contains.

    The estimate is the product of the fields that count layers, components or similar, and 1 if
    there are none.
    """
    counts = (getattr(spec, name, 1) for name in _UNROLLED)
    return math.prod(count for count in counts if isinstance(count, int))


def require_flag(spec: Any, *names: str) -> None:
    """Check that each named field is True or False.

    Raises:
      InputError: a field fails the check; the message names the first one.
    """
    for name in names:
        value = getattr(spec, name)
        if not isinstance(value, bool):
            raise InputError(f"{name}: expected True or False, got {value!r}")


def require_length(spec: Any, length: int, *names: str) -> None:
    """Check that each named field is None or a tuple with `length` entries.

    Raises:
      InputError: a field fails the check; the message names the first one.
    """
    for name in names:
        value = getattr(spec, name)
        if value is not None and not (isinstance(value, tuple) and len(value) == length):
            raise InputError(f"{name}: expected a tuple of {length} numbers, got {value!r}")


def require_per_axis(spec: Any, *names: str) -> None:
    """Check that each named field that is a tuple has `spec.in_dim` entries.

    Raises:
      InputError: a field fails the check; the message names the first one.
    """
    for name in names:
        value = getattr(spec, name)
        if isinstance(value, tuple) and len(value) != spec.in_dim:
            raise InputError(
                f"{name}: expected one number or {spec.in_dim} of them (in_dim), got {len(value)}"
            )


def require_points(spec: Any, x: Any) -> None:
    """Check that the last axis of `x` has length `spec.in_dim`.

    Raises:
      InputError: it has another length, or `x` is a scalar.
    """
    if not x.ndim or x.shape[-1] != spec.in_dim:
        raise InputError(f"x: expected shape (..., {spec.in_dim}), got {tuple(x.shape)}")


def require_positive(spec: Any, *names: str, most: float = _LARGEST_SCALE) -> None:
    """Check that each named field is a number in [1e-12, most].

    The default range ensures that the cube of a field is a normal float32 number.

    Args:
      spec: the object.
      names: names of its fields.
      most: upper bound, by default 1e12; it can be larger for fields that are not multiplied by
        each other.

    Raises:
      InputError: a field fails the check; the message names the first one.
    """
    for name in names:
        value = getattr(spec, name)
        if not _is_finite(value) or value <= 0:
            raise InputError(f"{name}: expected a finite number > 0, got {value!r}")
        if not _LEAST_SCALE <= value <= most:
            raise InputError(
                f"{name}: expected a number between {_LEAST_SCALE:g} and {most:g}, got {value:.6g}"
            )


def require_nonnegative(spec: Any, *names: str) -> None:
    """Check that each named field is a number in [0, 1e12], so that its cube fits into float32.

    Raises:
      InputError: a field fails the check; the message names the first one.
    """
    for name in names:
        value = getattr(spec, name)
        if not _is_finite(value) or value < 0:
            raise InputError(f"{name}: expected a finite number >= 0, got {value!r}")
        if value > _LARGEST_SCALE:
            raise InputError(f"{name}: expected a number <= {_LARGEST_SCALE:g}, got {value:.6g}")


def require_within(spec: Any, low: float, high: float, expected: str, *names: str) -> None:
    """Check that each named field is a number in the open interval (low, high).

    Args:
      spec: the object.
      low: lower bound, excluded.
      high: upper bound, excluded.
      expected: description of the allowed values, for the error message.
      names: names of the fields.

    Raises:
      InputError: a field fails the check; the message names the first one.
    """
    for name in names:
        value = getattr(spec, name)
        if not _is_finite(value) or not low < value < high:
            raise InputError(f"{name}: expected {expected}, got {value!r}")


def require_source(spec: Any, *names: str) -> None:
    """Check that each named field is a path or a name, or None if its annotation allows None.

    Raises:
      InputError: a field fails the check; the message names the first one.
    """
    hints = get_type_hints(type(spec))
    for name in names:
        value = getattr(spec, name)
        optional = type(None) in get_args(hints[name])
        if not (isinstance(value, str | os.PathLike) or (value is None and optional)):
            raise InputError(f"{name}: expected a string, got {value!r}")


def _is_finite(value: Any) -> bool:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of more than 308 digits
        return False


def require_choice(spec: Any, *names: str) -> None:
    """Check that each named field is one of the values of its Literal annotation.

    Raises:
      InputError: a field fails the check; the message names the first one.
    """
    hints = get_type_hints(type(spec))
    for name in names:
        value, hint = getattr(spec, name), hints[name]
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        if value not in choices:
            known = ", ".join(repr(choice) for choice in choices)
            raise InputError(f"{name}: expected one of {known}, got {value!r}")
