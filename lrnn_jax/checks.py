"""Checks of dataclass fields. Each error names the field, its value and the allowed values.

Every `require_...` function, and `check_types`, raises an InputError for the first named field that
fails the check. `check_types` compares fields with their annotations, the others check a range. To
name the range in the message for a number of the wrong type, check the range first.
"""

import collections.abc
import dataclasses
import functools
import math
import numbers
import os
import types
import typing
from typing import Any, Literal, Self, Union, cast, get_args, get_origin

from lrnn_jax.errors import InputError, suggest

__all__ = [
    "Keywords",
    "check_types",
    "field_types",
    "missing_members",
    "require_at_least",
    "require_nonnegative",
    "require_per_axis",
    "require_points",
    "require_positive",
    "require_within",
    "unrolled",
]


_MEANT = {
    "num_params": "parameter_count",
    "n_params": "parameter_count",
    "num_parameters": "parameter_count",
    "n_parameters": "parameter_count",
    "forward": "apply",
    "predict": "apply",
    "initialize": "init",
    "data": "load",
    "truth": "load",
    "score": "evaluate",
    "metrics": "evaluate",
    "plot": "render",
    "export": "decode",
}
"""Names that other libraries use for methods and properties of models and problems, and ours."""

_LARGEST_COUNT = 2**32 - 1
_MOST_UNROLLED = 1000
_UNROLLED = ("components", "degree", "depth", "height", "order")
"""Fields whose loops are unrolled in the program; a value of a million takes hours to compile."""

_DIMENSIONS = ("dim", "harmonics", "time_harmonics")
"""Fields of an equation over which its derivatives loop, or which widen the network's input."""

_LEAST_SCALE, _LARGEST_SCALE = 1e-12, 1e12
"""Cubes and reciprocals of numbers in this range are normal float32 numbers."""


class Keywords:
    """Base class of dataclasses: an unknown or positional argument is an InputError with a hint.

    Python's own message for such an argument does not say which names there are.
    """

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        parameters = getattr(cls, "__dataclass_params__", None)
        if parameters is not None and parameters.init:
            fields = [field for field in dataclasses.fields(cast(Any, cls)) if field.init]
            positional = [field.name for field in fields if not field.kw_only]
            known = [field.name for field in fields]
            unknown = [name for name in named if name not in known]
            if unknown:
                raise InputError(
                    f"{cls.__name__} has no argument {unknown[0]!r}; {suggest(unknown[0], known)}"
                )
            if len(arguments) > len(positional):
                required = [f for f in fields if f.default is dataclasses.MISSING]
                example = ", ".join(f"{f.name}=..." for f in (required or fields)[:2])
                raise InputError(
                    f"{cls.__name__}: its arguments are given by name: {cls.__name__}({example})"
                )
        return super().__new__(cls)

    def __getattr__(self, name: str) -> Any:
        """Raise an AttributeError that names the attribute of the same meaning, if there is one."""
        meant = _MEANT.get(name, "")
        hint = f"; did you mean '{meant}'?" if meant and hasattr(type(self), meant) else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")


def check_types(spec: Any, *names: str) -> None:
    """Check that the named fields of a dataclass, or all of them, have the annotated types.

    `float` stands for a finite real number, `int` and `float` exclude True and False, and `str`
    includes paths. A class with a `description` stands for its instances. Fields of other types,
    such as dataclasses, are not checked.
    """
    hints = field_types(type(spec))
    for name in names or spec.__dataclass_fields__:
        value, hint = getattr(spec, name), hints[name]
        if not _is_a(value, hint):
            raise InputError(f"{name}: expected {_describe(hint)}, got {value!r}")


def require_at_least(spec: Any, least: int, *names: str) -> None:
    """Check that each named field is an integer >= least, or None if its annotation allows None.

    A field whose annotation allows a tuple may also be a tuple of such integers. Integers must be
    below 2**32. Fields that count layers, components, dimensions or similar must be at most 1,000.
    """
    types = field_types(type(spec))
    for name, value in _values(spec, names):
        several = any(get_origin(choice) is tuple for choice in _choices(types[name]))
        entries: Any = value if isinstance(value, tuple) and value and several else (value,)
        for entry in entries:
            if not _is_a(entry, int) or entry < least:
                raise InputError(f"{name}: expected an integer >= {least}, got {value!r}")
            most = _MOST_UNROLLED if name in (*_UNROLLED, *_DIMENSIONS) else _LARGEST_COUNT
            if entry > most:
                raise InputError(f"{name}: expected an integer <= {most}, got a larger one")


def require_positive(spec: Any, *names: str, most: float = _LARGEST_SCALE) -> None:
    """Check that each named field is in [1e-12, most], or None if its annotation allows None.

    The default range ensures that the cube of a field is a normal float32 number.

    Args:
      spec: the object.
      names: names of its fields.
      most: upper bound, by default 1e12; it can be larger for fields that are not multiplied by
        each other.
    """
    for name, value in _values(spec, names):
        if not _is_a(value, float) or value <= 0:
            raise InputError(f"{name}: expected a finite number > 0, got {value!r}")
        if not _LEAST_SCALE <= value <= most:
            raise InputError(
                f"{name}: expected a number between {_LEAST_SCALE:g} and {most:g}, got {value:.6g}"
            )


def require_nonnegative(spec: Any, *names: str) -> None:
    """Check that each named field is a number in [0, 1e12], so that its cube fits into float32."""
    for name, value in _values(spec, names):
        if not _is_a(value, float) or value < 0:
            raise InputError(f"{name}: expected a finite number >= 0, got {value!r}")
        if value > _LARGEST_SCALE:
            raise InputError(f"{name}: expected a number <= {_LARGEST_SCALE:g}, got {value:.6g}")


def require_within(spec: Any, low: float, high: float, expected: str, *names: str) -> None:
    """Check that each named field is a number in the open interval (low, high).

    `expected` describes the allowed values in the message.
    """
    for name, value in _values(spec, names):
        if not _is_a(value, float) or not low < value < high:
            raise InputError(f"{name}: expected {expected}, got {value!r}")


def require_per_axis(spec: Any, *names: str) -> None:
    """Check that each named field that is a tuple has `spec.in_dim` entries."""
    for name, value in _values(spec, names):
        if isinstance(value, tuple) and len(value) != spec.in_dim:
            raise InputError(
                f"{name}: expected one number or {spec.in_dim} of them (in_dim), got {len(value)}"
            )


def require_points(spec: Any, x: Any) -> None:
    """Check that the last axis of `x` has length `spec.in_dim`."""
    if not x.ndim or x.shape[-1] != spec.in_dim:
        raise InputError(f"x: expected shape (..., {spec.in_dim}), got {tuple(x.shape)}")


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


@functools.cache  # resolving the annotations takes 0.2 ms, longer than all checks of a model
def field_types(kind: type) -> dict[str, Any]:
    """Return the annotations of a class, resolved to types."""
    return typing.get_type_hints(kind)


def _values(spec: Any, names: collections.abc.Iterable[str]) -> list[tuple[str, Any]]:
    """The named fields and their values, without those that are None as annotated."""
    hints = field_types(type(spec))
    values = [(name, getattr(spec, name)) for name in names]
    return [(n, v) for n, v in values if v is not None or type(None) not in _choices(hints[n])]


def _choices(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union; another annotation is its only alternative."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a value has the annotated type; True for annotations that are not checked."""
    origin, arguments, choices = get_origin(hint), get_args(hint), _choices(hint)
    if len(choices) > 1:
        return any(_is_a(value, choice) for choice in choices)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        inner = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        return len(value) == len(inner) and all(map(_is_a, value, inner))
    if origin is collections.abc.Callable:
        return callable(value)
    if hint is float:
        return _is_finite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str | os.PathLike)
    if hint in (bool, type(None)) or hasattr(hint, "description"):
        return isinstance(value, hint)
    return True


def _is_finite(value: Any) -> bool:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of more than 308 digits
        return False


def _describe(hint: Any) -> str:
    """The values that an annotation allows, in words; None is not named."""
    origin, arguments = get_origin(hint), get_args(hint)
    if len(_choices(hint)) > 1:
        return " or ".join(_describe(choice) for choice in arguments if choice is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple:
        size = "" if arguments[-1] is ... else f"{len(arguments)} "
        entries = {int: "numbers", float: "numbers", str: "strings"}
        return f"a tuple of {size}{entries.get(arguments[0], 'entries')}"
    words = {bool: "True or False", int: "an integer", float: "a finite number", str: "a string"}
    return words.get(hint, getattr(hint, "description", "a function"))
