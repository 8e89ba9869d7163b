"""Helpers for parameter trees: leaves by name, parameter count, first difference of two trees."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree, keyed by their path, e.g. {"head/weight": ...}."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def count_parameters(params: Any) -> int:
    """The number of real parameters in a tree; a complex parameter counts twice.

    >>> count_parameters({"weight": np.zeros((2, 3)), "bias": np.zeros(3, complex)})
    12
    """
    return sum(leaf.size * (1 + np.iscomplexobj(leaf)) for leaf in jax.tree.leaves(params))


def count_bytes(tree: Any) -> int:
    """The size of all arrays of a tree, or of their shapes and dtypes, in bytes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def first_difference(leaves: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """Describe the first difference between two sets of leaves; None if there is none.

    Names and shapes are compared, and dtypes if the expected leaf has one.
    """
    for name, want in expected.items():
        if name not in leaves:
            return f"{name} is missing"
        leaf, shape, dtype = leaves[name], list(want.shape), getattr(want, "dtype", None)
        if list(np.shape(leaf)) != shape or (dtype is not None and leaf.dtype != dtype):
            described = f"{getattr(leaf, 'dtype', '')}{list(np.shape(leaf))}"
            return f"{name} is {described}, expected {dtype or ''}{shape}"
    extra = [name for name in leaves if name not in expected]
    return f"{extra[0]} is not a parameter of this model" if extra else None
