"""Parameters as safetensors files: named arrays and text, nothing that runs when it is loaded."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from lrnn_jax.errors import InputError
from lrnn_jax.io.files import read_bytes, write_bytes
from lrnn_jax.trees import first_difference, named_leaves

__all__ = [
    "leaf_names",
    "load_tree",
    "save_tree",
]


def save_tree(path: Path, tree: Any, made_by: str) -> Path:
    """Writes a tree of arrays, and text about it as the metadata "lrnn_jax", whole or not at all.

    Equal arrays and texts give equal files: safetensors writes several entries of metadata in
    an order of its own, so there is one.

    Raises:
      InputError: the file cannot be written.
    """
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in named_leaves(tree).items()}
    return write_bytes(path, safetensors.numpy.save(arrays, {"lrnn_jax": made_by}))


def load_tree(path: Path, template: Any) -> Any:
    """Reads a tree of arrays like `template` (arrays, or their shapes and dtypes).

    Raises:
      InputError: the file is missing, is not a safetensors file, or belongs to another model; the
        message then names the first leaf that differs.
    """
    found = _read(path)
    expected = named_leaves(template)
    difference = first_difference(found, expected)
    if difference:
        raise InputError(f"{path} belongs to another model: {difference}")
    return jax.tree.unflatten(jax.tree.structure(template), [found[name] for name in expected])


def leaf_names(path: Path) -> list[str]:
    """The names of the leaves of a file.

    Raises:
      InputError: the file is missing, or is not a safetensors file.
    """
    return list(_read(path))


def _read(path: Path) -> dict[str, np.ndarray]:
    content = read_bytes(path)
    try:
        return safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise InputError(f"cannot read {path} as safetensors: {str(error)[:100]}") from error
    except KeyError as error:  # safetensors looks the dtype up among NumPy's
        raise InputError(
            f"{path} holds arrays of {error.args[0]}: expected a dtype of NumPy, such as F32"
        ) from error
