"""Suppress the output of libraries; the reader raises its own error."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path


@contextlib.contextmanager
def quiet(library: str) -> Iterator[None]:
    """Suppress a library's warnings, log messages and printed output.

    Args:
      library: the name of its logger, whose level is restored afterwards.
    """
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def quiet_standard_error() -> Iterator[None]:
    """Suppress what a library in C writes to file descriptor 2, in all threads of the process."""
    try:
        kept = os.dup(2)
    except OSError:  # the process has closed it
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
