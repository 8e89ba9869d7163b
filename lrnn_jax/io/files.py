"""Writing a file whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from lrnn_jax.errors import InputError

__all__ = ["atomic", "exists", "io_errors", "write_bytes"]


@contextlib.contextmanager
def io_errors(path: Path, doing: str) -> Iterator[None]:
    """Turns what the system or a codec refuses into one line: "cannot write PATH: No space ..."."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot {doing} {path}: {reason}") from error


def exists(path: Path) -> bool:
    """Whether there is anything at `path`.

    Raises:
      InputError: the system will not say (a name that is too long, no permission).
    """
    with io_errors(path, "look at"):
        return path.exists()


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block ends, and vanishes if it fails.

    The temporary name keeps the suffix of `path`, which many writers choose their format by.

    Raises:
      InputError: the operating system refuses (disk full, no permission, no such folder).
    """
    with io_errors(path, "write"):
        temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Writes `content` to `path` whole or not at all, and returns the path."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return path
