"""Save and load parameters as safetensors files, which hold named arrays and text, no code."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from lrnn_jax.errors import InputError
from lrnn_jax.io.files import read_bytes, write_bytes
from lrnn_jax.trees import first_difference, named_leaves


def save_tree(path: Path, tree: Any, made_by: str) -> Path:
    """Write a tree of arrays atomically, with `made_by` as the metadata entry "lrnn_jax".

    Equal arrays and texts give equal files. There is only one metadata entry, because safetensors
    does not fix the order of several.

    Raises:
      InputError: the file cannot be written.
    """
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in named_leaves(tree).items()}
    return write_bytes(path, safetensors.numpy.save(arrays, {"lrnn_jax": made_by}))


def load_tree(path: Path, template: Any, prefix: str = "") -> Any:
    """Read a tree of arrays with the structure of `template` (arrays, or shapes and dtypes).

    Args:
      path: the file.
      template: the structure.
      prefix: name of the entry of the stored dict that is the tree; "" if all of it is.

    Raises:
      InputError: the file is missing, is not a safetensors file, or belongs to another model; in
        the last case the message names the first leaf that differs.
    """
    leaves = _read(path, f"{prefix}/" if prefix else "")
    expected = named_leaves(template)
    difference = first_difference(leaves, expected)
    if difference:
        raise InputError(f"{path} belongs to another model: {difference}")
    return jax.tree.unflatten(jax.tree.structure(template), [leaves[name] for name in expected])


def leaf_names(path: Path) -> list[str]:
    """Return the names of the leaves of a file.

    Raises:
      InputError: the file is missing, or is not a safetensors file.
    """
    return list(_read(path))


def read_made_by(path: Path) -> str:
    """Return the text that `save_tree` stored with the arrays, or "" if there is none.

    Raises:
      InputError: the file is missing, or is not a safetensors file.
    """
    _read(path)  # checks the header
    content = read_bytes(path)
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__", {}).get("lrnn_jax", "")


def _read(path: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, by the rest of their names."""
    content = read_bytes(path)
    try:
        found = safetensors.numpy.load(content)
        return {n.removeprefix(prefix): v for n, v in found.items() if n.startswith(prefix)}
    except safetensors.SafetensorError as error:
        raise InputError(f"cannot read {path} as safetensors: {str(error)[:100]}") from error
    except KeyError as error:  # safetensors looks the dtype up among NumPy's
        raise InputError(
            f"{path} holds arrays of {error.args[0]}: expected a dtype of NumPy, such as F32"
        ) from error
