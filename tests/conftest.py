"""Global switches of the suite: shapes and dtypes checked, keys never reused."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_debug_key_reuse", True)

# Shapes and dtypes of every call are checked where the arithmetic is. Specs check their own fields.
CHECKED = ("kernels", "domains", "training.loop", "training.predict")
install_import_hook([f"lrnn_jax.{module}" for module in CHECKED], "beartype.beartype")

# Most tests run their programs for milliseconds, so XLA compiles them without its costly passes.
# Where the arithmetic of the layers is at stake it compiles as it does for users.
AS_FOR_USERS = (
    "test_canaries",
    "test_compilation",
    "test_implementations",
    "test_kernels",
    "test_readme",
)


@pytest.fixture(scope="module", autouse=True)
def compiler(request):
    """How hard XLA optimises the programs of a module of tests."""
    jax.config.update("jax_disable_most_optimizations", request.module.__name__ not in AS_FOR_USERS)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def key() -> jax.Array:
    """A typed key, the same in every run."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield
