"""The check of a dataclass against its annotations."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from lrnn_jax import InputError
from lrnn_jax.checks import check_types


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    flag: bool = True
    count: int = 1
    size: float = 1.0
    choice: Literal["a", "b"] = "a"
    path: str = "x"
    pair: tuple[int, float] = (1, 2.0)
    widths: int | tuple[int, ...] = 3
    names: tuple[str, ...] = ()
    limit: int | None = None
    function: Callable[[float], float] | None = None
    spec: "Spec | None" = None
    anything: Any = None


GOOD = [
    {"size": 2}, {"size": np.float32(2)}, {"path": Path("x")}, {"pair": (0, 0)},
    {"widths": (1, 2)},
    {"names": ("u", "v")}, {"limit": 4}, {"function": math.sin}, {"spec": Spec()},
    {"spec": "other"}, {"anything": object()},
]  # fmt: skip

BAD = [
    ("flag", 1, "True or False"),
    ("count", True, "an integer"),
    ("count", 2.0, "an integer"),
    ("count", None, "an integer"),
    ("size", "1", "a finite number"),
    ("size", True, "a finite number"),
    ("size", math.nan, "a finite number"),
    ("size", 10**400, "a finite number"),
    ("choice", "c", "one of 'a', 'b'"),
    ("choice", ["a"], "one of 'a', 'b'"),
    ("path", 5, "a string"),
    ("pair", [1, 2.0], "a tuple of 2 numbers"),
    ("pair", (1,), "a tuple of 2 numbers"),
    ("pair", (1.5, 2.0), "a tuple of 2 numbers"),
    ("widths", (1, 2.5), "an integer or a tuple of numbers"),
    ("names", ("u", 1), "a tuple of strings"),
    ("limit", "none", "an integer"),
    ("function", 5, "a function"),
]


@pytest.mark.parametrize("fields", GOOD)
def test_a_value_of_the_annotated_type_is_accepted(fields):
    check_types(Spec(**fields))


@pytest.mark.parametrize(("name", "value", "expected"), BAD)
def test_another_value_is_refused_with_what_would_be_right(name, value, expected):
    spec = Spec(**{name: value})
    with pytest.raises(InputError) as error:
        check_types(spec)
    assert str(error.value) == str(InputError(f"{name}: expected {expected}, got {value!r}"))


def test_only_the_named_fields_are_checked():
    spec = Spec(flag=0, count="many")
    check_types(spec, "size", "choice")
    with pytest.raises(InputError, match="count: expected an integer, got 'many'"):
        check_types(spec, "count", "flag")
