"""Optional dependencies."""

import importlib
from typing import Any

from lrnn_jax.errors import InputError

__all__ = ["extra"]


def extra(module: str, name: str) -> Any:
    """A module of the optional dependencies `name`.

    Raises:
      InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: the library behind it is missing
        raise InputError(
            f"{module.split('.')[0]} is needed: pip install 'lrnn-jax[{name}]' ({error})"
        ) from error
