"""Standard output and error of the command. Errors when writing to them do not stop a run."""

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

_ESCAPE = "lrnn_jax.escape"


@contextlib.contextmanager
def tolerant_output() -> Iterator[None]:
    """Suppress errors when writing to `sys.stdout` and `sys.stderr` within the context.

    * If a stream is closed, or its reader has ended (`| head -1`), further output is discarded.
    * If the disk is full, one line is written to standard error, and further output is discarded.
    * A character that the encoding of the stream does not contain is escaped. A byte of a file name
      that is not valid text is written to standard output unchanged.
    """
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as opened:
        streams = [
            opened.enter_context(_opened(stream, errors))
            for stream, errors in zip(before, (_ESCAPE, "backslashreplace"), strict=True)
        ]
        sys.stdout, sys.stderr = tolerant = [_Tolerant(stream) for stream in streams]
        try:
            yield
        finally:
            for stream in tolerant:
                stream.flush()
            sys.stdout, sys.stderr = before


def _open_closed_descriptors() -> None:
    """Open the null device for each standard stream that the parent process has closed.

    Otherwise a file of the run would get the number of that stream, and messages that a library
    writes to standard error would be written to the file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is `descriptor`


@contextlib.contextmanager
def _opened(stream: TextIO | None, errors: str) -> Iterator[TextIO]:
    """Set the error handler of a stream within the context; None becomes the null device."""
    if stream is None:
        with Path(os.devnull).open("w", encoding="utf-8", errors=errors) as null:
            yield null
        return
    if not isinstance(stream, io.TextIOWrapper):  # a stream in memory, which is not encoded
        yield stream
        return
    before = stream.errors
    stream.reconfigure(errors=errors)
    try:
        yield stream
    finally:
        if not stream.closed:
            stream.reconfigure(errors=before)


class _Tolerant:
    """A text stream whose `write` and `flush` do not raise."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._failed = False

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, action: Any, *arguments: str) -> None:
        if self._failed:
            return
        try:
            action(*arguments)
        except (OSError, ValueError) as error:  # ValueError: the stream was closed in this process
            self._failed = True
            self._discard()
            if getattr(error, "errno", None) not in (errno.EPIPE, None):
                print(f"lrnn-jax: cannot write the output: {error}; going on", file=sys.stderr)

    def _discard(self) -> None:
        """Redirect the stream to the null device, so that flushing it at exit does not fail."""
        with contextlib.suppress(OSError, ValueError):  # a stream in memory has no descriptor
            descriptor = self._stream.fileno()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)
            self._stream.flush()


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode an undecodable byte of a file name as itself, other characters as \\xe9 or \\u6587."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    code = ord(error.object[error.start])
    if 0xDC80 <= code <= 0xDCFF:
        return bytes([code - 0xDC00]), error.start + 1
    text = error.object[error.start].encode("ascii", "backslashreplace").decode()
    return text, error.start + 1


codecs.register_error(_ESCAPE, _escape)
