"""Check of the installation: versions, devices, and the core layer against NumPy in float64."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.models import LRNN

_PACKAGES = ("lrnn-jax", "jax", "jaxlib", "flax", "optax", "numpy")


def check_installation() -> Iterator[tuple[str, bool]]:
    """Yield (line, ok): the lines to print, and whether each check passed."""
    yield f"python {platform.python_version()} on {platform.system()} {platform.machine()}", True
    yield "  ".join(f"{name} {version(name)}" for name in _PACKAGES), True
    for device in jax.devices():
        yield f"device {device.id}: {device.device_kind} ({device.platform})", True
    yield f"{os.cpu_count()} CPU cores", True
    for name, check in (
        ("core layer, values", lambda: check_core_layer("lean")),
        ("core layer, literal form", lambda: check_core_layer("reference")),
        ("product after a sum (jax-ml/jax#39103)", check_product_reduction),
    ):
        error, bound = check()
        passed = error <= bound
        verdict = "right" if passed else "WRONG: this jax miscompiles the model; install another"
        yield f"{name}: largest error {error:.1e}, bound {bound:.0e}: {verdict}", passed


def check_core_layer(implementation: str) -> tuple[float, float]:
    """Return the largest error of a jitted layer of 64 neurons at 1,024 points, and its bound."""
    fields: Any = {"depth": 1, "rank": 64, "components": 8, "hidden": 8, "omega0": 3.0}
    fields |= {"activation": "sin", "norm": "none", "implementation": implementation}
    model = LRNN(in_dim=3, out_dim=1, **fields)
    params_key, x_key = jax.random.split(jax.random.key(0))
    params = model.init(params_key)
    x = jax.random.normal(x_key, (1024, 3))
    result = np.asarray(jax.jit(model.apply)(params, x), np.float64)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    layer, head = p["layer_0"], p["head"]
    z = np.einsum("ni,ikr->nkr", np.asarray(x, np.float64), layer["projection"]["weight"])
    z = z + layer["projection"]["bias"]
    inner = layer["component"]["inner_weight"] * z[:, None] + layer["component"]["inner_bias"]
    g = np.sum(layer["component"]["outer_weight"] * np.sin(model.omega0 * inner), axis=1)
    expected = np.prod(1 + 8**-0.5 * g, axis=1) @ head["weight"] + head["bias"]
    return float(np.max(np.abs(result - expected))), 1e-4


def check_product_reduction() -> tuple[float, float]:
    """Return the largest error of a product after a sum, relative to 1 + |value|, and its bound.

    jax 0.10.2 miscompiles this expression on a CPU (jax-ml/jax#39103), with errors of up to 98.
    """
    rng = np.random.default_rng(0)
    z, w, a = rng.normal(size=(128, 64, 8)), rng.normal(size=(8, 8)), rng.normal(size=(8, 8))
    shift, scale = rng.normal(size=(8, 8)), 8**-0.5

    def product(xp, z, w, a, shift):
        g = (a * xp.sin(z[..., None] * w + shift)).sum(-1)
        return xp.prod(1 + scale * g, -1)

    single = [jnp.asarray(array, jnp.float32) for array in (z, w, a, shift)]
    result = jax.jit(lambda *arrays: product(jnp, *arrays))(*single)
    expected = product(np, z, w, a, shift)
    error = np.abs(np.asarray(result, np.float64) - expected) / (1 + np.abs(expected))
    return float(np.max(error)), 1e-4
