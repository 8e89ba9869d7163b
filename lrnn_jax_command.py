"""The script behind `lrnn-jax`.

It stands outside the package, whose import takes seconds, so that Ctrl-C during the import ends
the command with one line. An exception would not do: what is imported may catch it.
"""

import os
import signal
from types import FrameType


def main() -> int:
    """Runs the command; see `lrnn_jax.cli.main`."""
    before = signal.signal(signal.SIGINT, _stop)
    from lrnn_jax.cli import main as run

    signal.signal(signal.SIGINT, before)
    return run()


def _stop(number: int, frame: FrameType | None) -> None:
    """Nothing is written before the import is done, so nothing has to be cleaned up."""
    del number, frame
    os.write(2, b"lrnn-jax: stopped\n")
    os._exit(130)
