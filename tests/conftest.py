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

# Tests that take long for what they add; of the parametrized ones, the cases that always run.
# `python -m pytest` leaves them out, `python -m pytest -m ""` and .ci/matrix run all.
SLOW = {
    "test_the_command_line_works_without_docstrings": (),
    "test_what_the_compiler_does_as_it_does_it_for_users": (),  # `lrnn-jax doctor` has the canaries
    "test_line_searches_take_any_problem": (),
    "test_the_device_script_runs_at_reduced_size": ("rates", "population"),
    "test_a_recipe_fits_an_image_that_its_sweep_did_not_see": ("lrnn", "siren"),
    "test_the_default_model_of_a_problem_beats_the_trivial_predictor": (
        *("audio-finer", "classification-siren", "image-siren", "poisson-siren"),
    ),
    "test_a_few_steps_bring_the_loss_down_three_times": ("poisson", "convection", "burgers"),
    "test_pictures_open_and_time_moves": ("convection",),
    "test_a_resumed_run_is_the_same_to_the_bit": ("adam_lbfgs", "levenberg_marquardt"),
    "test_a_wrapped_second_order_method_is_the_method_on_the_factors": ("optimizer0",),
    "test_theorem_2_at_fixed_error_the_parameters_grow_as_a_polynomial_in_d": ("2",),
    "test_all_parts_vanish_on_the_solution": ("heat", "burgers", "kovasznay"),
    "test_a_loss_is_a_mean_over_points_unless_it_says_so": (
        *("image", "occupancy", "denoising", "ct", "regression", "classification"),
        *("poisson", "burgers", "taylor_green"),
    ),
    "test_what_is_drawn_and_decoded_are_files_of_those_names": (
        *("image", "audio", "video", "volume", "signed_distance", "ct", "regression"),
        *("poisson", "heat", "taylor_green"),
    ),
    "test_methods_agree_with_the_hessian_for_every_smooth_model": (
        *("lrnn-sin", "nest-tanh", "siren", "wire", "gabor-net", "cheby-kan", "spinn"),
    ),
    "test_parameter_gradients_agree_with_the_hessians": ("siren", "lrnn"),
    "test_values_and_gradients_are_those_of_the_literal_form": (
        *("hidden 3-lean", "hidden 1-lean", "one component-lean", "six components-lean"),
        *("shared-lean", "no bias-lean", "outer bias-lean", "spder-lean", "sin_arctan-lean"),
        *("tanh-lean", "no norm-lean", "hidden 3-pallas", "shared-pallas"),
    ),
}

# Shapes and dtypes of every call are checked where the arithmetic is. Specs check their own fields.
CHECKED = ("kernels", "domains", "training.loop", "training.fitting", "fields")
install_import_hook([f"lrnn_jax.{module}" for module in CHECKED], "beartype.beartype")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark what is slow. Tests marked `as_for_users` run in another process: test_canaries.py."""
    for item in items:
        quick = SLOW.get(item.originalname)
        case = getattr(item, "callspec", None)
        if quick is not None and (case is None or case.id not in quick):
            item.add_marker("slow")
    chosen = [item for item in items if bool(item.get_closest_marker("as_for_users")) != QUICKLY]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_runtest_teardown(item, nextitem):
    """Between modules, drop compiled programs, and keep the rest out of later collections.

    Some libraries ask for a full collection at each file; without this it took five seconds.
    """
    if nextitem is None or nextitem.path != item.path:
        jax.clear_caches()
        gc.collect()
        gc.freeze()


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
