"""Dependencies that not everyone installs, and whether what they read fits into memory."""

import importlib
from pathlib import Path
from typing import Any

from lrnn_jax.errors import InputError

__all__ = ["available_memory", "extra", "require_memory"]

_MEMORY = Path("/proc/meminfo")


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


def available_memory() -> int | None:
    """Bytes that a program can still take without swapping; None where the system does not say."""
    if not _MEMORY.exists():
        return None
    for line in _MEMORY.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None


def require_memory(source: str | Path, values: int) -> None:
    """So many numbers in double precision fit into the memory that is free.

    Raises:
      InputError: they do not.
    """
    free, needed = available_memory(), 8 * values
    if free is not None and needed > free:
        raise InputError(
            f"{source} would take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free"
        )
