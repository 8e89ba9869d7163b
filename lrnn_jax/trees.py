"""Trees of parameters: their leaves by name, their size, the first difference of two."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

__all__ = ["count_parameters", "first_difference", "named_leaves"]


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their path, e.g. {"head/weight": ...}."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def count_parameters(params: Any) -> int:
    """The real numbers in a tree of parameters; a complex one counts twice.

    >>> count_parameters({"weight": np.zeros((2, 3)), "bias": np.zeros(3, complex)})
    12
    """
    return sum(leaf.size * (1 + np.iscomplexobj(leaf)) for leaf in jax.tree.leaves(params))


def first_difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """What first sets two sets of leaves apart; None if nothing does.

    Compared are names and shapes, and dtypes where the expected leaf has one.
    """
    for name, want in expected.items():
        if name not in found:
            return f"{name} is missing"
        got, dtype = found[name], getattr(want, "dtype", None)
        if np.shape(got) != want.shape or (dtype is not None and got.dtype != dtype):
            return f"{name} is {_describe(got)}, expected {dtype or ''}{list(want.shape)}"
    extra = [name for name in found if name not in expected]
    return f"{extra[0]} is not a parameter of this model" if extra else None


def _describe(leaf: Any) -> str:
    return f"{getattr(leaf, 'dtype', '')}{list(np.shape(leaf))}"
