"""`python -m lrnn_jax` is the command `lrnn-jax`."""

import sys

from lrnn_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
