"""Import of optional dependencies."""

import importlib
from typing import Any

from lrnn_jax.errors import InputError


def extra(module: str, name: str) -> Any:
    """Import a module of the extra `name`, a group of optional dependencies.

    Raises:
      InputError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        raise InputError(
            f"{module.split('.')[0]} is needed: pip install 'lrnn-jax[{name}]' ({error})"
        ) from error
