"""Compiler faults that pyproject.toml excludes, and the traps that would come back unseen."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from packaging.requirements import Requirement

from lrnn_jax.experiments.doctor import check_core_layer, check_product_reduction


@pytest.mark.as_for_users
@pytest.mark.parametrize("implementation", ["lean", "reference"])
def test_a_jitted_layer_is_right_above_32768_elements(implementation):
    error, bound = check_core_layer(implementation)
    assert error <= bound


@pytest.mark.as_for_users
def test_a_reduction_after_a_reduction_is_right():
    """jax-ml/jax#39103: 0.10.2 gets half of the rows wrong, by up to 98."""
    error, bound = check_product_reduction()
    assert error <= bound


@pytest.mark.as_for_users
@pytest.mark.parametrize("shape", [(32_769, 8, 2), (16_385, 4, 4)])
def test_sum_then_product_over_many_rows(shape):
    """The upstream reproducer's shape of fault: rows beyond 32,768 (float32)."""
    x = np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(np.float32)
    found = jax.jit(lambda x: jnp.prod(x.sum(-1), -1))(x)
    np.testing.assert_allclose(found, np.prod(x.astype(np.float64).sum(-1), -1), rtol=1e-5)


def test_the_faulty_releases_are_excluded():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    requirements = [Requirement(text) for text in project["dependencies"]]
    wanted = next(r for r in requirements if r.name == "jax").specifier
    for faulty in ("0.10.2", "0.11.0", "0.11.1", "0.9.0"):
        assert faulty not in wanted
    for sound in ("0.10.1", "0.12.0.1"):
        assert sound in wanted
    assert version("jax") in wanted


def test_an_initialiser_on_a_stacked_shape_would_be_wrong():
    """Why every unit is drawn alone: fan-in rules take leading axes for a receptive field."""
    glorot = jax.nn.initializers.glorot_normal()
    stacked = glorot(jax.random.key(0), (16, 3, 32, 32))
    alone = jax.vmap(lambda key: glorot(key, (32, 32)))(jax.random.split(jax.random.key(0), 48))
    assert stacked.std() < 0.2 * alone.std()


def test_what_the_compiler_does_as_it_does_it_for_users():
    """Every test marked `as_for_users`, in a process that compiles with all of XLA's passes."""
    options = ["-p", "no:xdist", "-o", "addopts=-q --import-mode=importlib"]
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(Path(__file__).parent)],
        env=plain | {"COMPILE_AS_FOR_USERS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 10
