"""Global switches of the suite: shapes and dtypes checked, keys never reused."""

import gc
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from jaxtyping import install_import_hook

gc.set_threshold(100_000, 20, 50)  # what JAX keeps is looked through less often: 7 % of the time
jax.config.update("jax_debug_key_reuse", True)

# Shapes and dtypes of every call are checked where the arithmetic is. Specs check their own fields.
CHECKED = ("kernels", "domains", "training.loop", "training.predict")
install_import_hook([f"lrnn_jax.{module}" for module in CHECKED], "beartype.beartype")

# Most tests run their programs for milliseconds, so XLA compiles them without its costly passes.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def compiler(request):
    """Tests marked `as_for_users`, where what XLA does is at stake, get all its passes."""
    wanted = request.node.get_closest_marker("as_for_users") is not None
    jax.config.update("jax_disable_most_optimizations", not wanted)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def key() -> jax.Array:
    """A typed key, the same in every run."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield
