"""Reading a regular file, and writing one whole or not at all."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from lrnn_jax.errors import InputError
from lrnn_jax.io.memory import require_memory

__all__ = ["atomic", "exists", "io_errors", "read_bytes", "write_bytes"]

_LONGEST_SUFFIX = 32  # characters; the suffixes that formats are chosen by are shorter


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


def read_bytes(path: Path) -> bytes:
    """The content of a regular file that fits into memory.

    Raises:
      InputError: the file is missing, a folder, a device or a pipe, which may have no end, larger
        than the memory that is free, or the operating system refuses.
    """
    with io_errors(path, "read"):
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise InputError(f"cannot read {path}: expected a regular file, not a device or a pipe")
        require_memory(path, status.st_size)
        return path.read_bytes()


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block ends, and vanishes if it fails.

    The temporary name keeps the suffix of `path`, which many writers choose their format by; no
    two calls get the same name. File and folder are synchronised with the disk: after a power
    failure, `path` has its old content or its new one.

    Raises:
      InputError: the operating system refuses (disk full, no permission, no such folder).
    """
    with io_errors(path, "write"):
        # The stem may be as long as the system allows, so the name is made without it.
        suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
        temporary = path.with_name(f".{secrets.token_hex(8)}{suffix}")
        try:
            yield temporary
            _synchronise(temporary)
            temporary.replace(path)
            _synchronise_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _synchronise(path: Path) -> None:
    """Waits until the content of a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _synchronise_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk, where the system can do that."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network file systems synchronise no folder; one that may be written but not listed
        # cannot be opened. The file itself is complete.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise


def write_bytes(path: Path, content: bytes) -> Path:
    """Writes `content` to `path` whole or not at all, and returns the path."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return path
