"""Global switches of the suite: shapes and dtypes checked, keys never reused."""

import gc
import os
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from jaxtyping import install_import_hook

# Most tests run their programs for milliseconds, so XLA compiles them without its costly passes,
# which halves the time. Tests of what the compiler does get all of them, as users do.
QUICKLY = "COMPILE_AS_FOR_USERS" not in os.environ
if QUICKLY and version("jaxlib").startswith("0.10."):  # another release may refuse the flag
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"
    )

gc.set_threshold(100_000, 20, 50)  # what JAX keeps is looked through less often: 7 % of the time
jax.config.update("jax_disable_most_optimizations", QUICKLY)
jax.config.update("jax_debug_key_reuse", True)

# Shapes and dtypes of every call are checked where the arithmetic is. Specs check their own fields.
CHECKED = ("kernels", "domains", "training.loop", "fields")
install_import_hook([f"lrnn_jax.{module}" for module in CHECKED], "beartype.beartype")


def pytest_collection_modifyitems(config, items):
    """Tests marked `as_for_users` run in a process of their own; see test_canaries.py."""
    chosen = [item for item in items if bool(item.get_closest_marker("as_for_users")) != QUICKLY]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.fixture
def key() -> jax.Array:
    """A typed key, the same in every run."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def x32():
    """Single precision for one test, also where JAX_ENABLE_X64 makes double the default."""
    with jax.enable_x64(False):
        yield
