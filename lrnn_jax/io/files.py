"""Read regular files, and write files atomically."""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from lrnn_jax.errors import InputError
from lrnn_jax.io.memory import require_memory

_LONGEST_SUFFIX = 32  # characters; the suffixes of all file formats are shorter


@contextlib.contextmanager
def io_errors(path: Path, doing: str) -> Iterator[None]:
    """Convert errors of the system or a codec to InputError: "cannot write PATH: No space ..."."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot {doing} {path}: {reason}") from error


@contextlib.contextmanager
def decoding(source: str | Path, kind: str) -> Iterator[None]:
    """Convert all errors of a decoder to InputError: decoders raise many types on damaged files."""
    with _input_errors(lambda reason: f"cannot read {source}: damaged, or no {kind} ({reason})"):
        yield


@contextlib.contextmanager
def encoding(path: Path) -> Iterator[None]:
    """Convert all errors of a writer to InputError, for writers that raise many types."""
    with _input_errors(lambda reason: f"cannot write {path}: {reason}"):
        yield


@contextlib.contextmanager
def _input_errors(message: Callable[[str], str]) -> Iterator[None]:
    """Convert all errors to InputError(message(the first line of the error))."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:100] or type(error).__name__
        raise InputError(message(reason)) from error


def exists(path: Path) -> bool:
    """Return whether `path` exists.

    Raises:
      InputError: the system cannot determine it (the name is too long, no permission).
    """
    with io_errors(path, "look at"):
        return path.exists()


def require_suffix(path: str | Path, *suffixes: str) -> Path:
    """Return the path; check that its suffix is one of those for which there is a format.

    Raises:
      InputError: it is another suffix.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        expected = " or ".join(suffixes)
        raise InputError(f"{path}: expected a name that ends in {expected}")
    return path


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
      InputError: the file is missing, a folder, a device or a pipe (which may never end), is
        larger than the free memory, or the operating system denies access.
    """
    with io_errors(path, "read"):
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise InputError(f"cannot read {path}: expected a regular file, not a device or a pipe")
        require_memory(path, status.st_size)
        return path.read_bytes()


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends.

    If the block fails, the temporary file is deleted. The temporary name keeps the suffix of
    `path`, because many writers choose the format by the suffix. No two calls get the same name.
    The file and its folder are synchronised with the disk: after a power failure, `path` has
    either its old or its new content.

    Raises:
      InputError: the operating system cannot write (disk full, no permission, no such folder).
    """
    with io_errors(path, "write"):
        # The stem may have the maximum length, so the temporary name does not contain it.
        suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
        temporary = path.with_name(f".{secrets.token_hex(8)}{suffix}")
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            _synchronise_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a file has a name of `atomic`: a writer that was killed leaves it."""
    return re.fullmatch(r"\.[0-9a-f]{16}(\..*)?", path.name) is not None


def _synchronise_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, if the system supports it."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network file systems cannot synchronise a folder, and a folder with write but without
        # read permission cannot be opened. The file itself is complete.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise


def make_folder(folder: str | Path) -> Path:
    """Create a folder and its parents unless they exist, and return its path.

    Raises:
      InputError: it cannot be created.
    """
    folder = Path(folder)
    with io_errors(folder, "make the folder"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_bytes(path: Path, content: bytes) -> Path:
    """Write `content` to `path` atomically, and return the path."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return path
