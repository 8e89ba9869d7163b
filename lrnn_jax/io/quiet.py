"""Suppress the output of libraries; the reader raises its own error."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout


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
