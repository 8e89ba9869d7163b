"""Operators on callables: closed forms, differences, and the warning for functions with kinks."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax.operators import laplacian


def field(model):
    return functools.partial(model.apply, model.init(jax.random.key(0)))


def test_laplacian_of_polynomials():
    x = jnp.array([0.3, -0.7, 1.1])
    assert laplacian(lambda x: x[0] ** 2 - x[1] ** 2)(x) == 0
    np.testing.assert_allclose(laplacian(lambda x: jnp.sum(x**4))(x), 12 * jnp.sum(x**2), rtol=1e-6)


def test_laplacian_of_a_vector_is_that_of_its_components():
    x = jnp.array([0.3, -0.7])
    both = laplacian(lambda x: jnp.stack([x[0] ** 2, x[0] * x[1] ** 3]))(x)
    np.testing.assert_allclose(both, [2.0, 6 * x[0] * x[1]], rtol=1e-6)


def test_laplacian_agrees_with_differences_on_a_batch(x64):
    u = field(lj.Siren(in_dim=2, out_dim=1, width=8, depth=2, omega0=3.0))
    points, step = jax.random.uniform(jax.random.key(1), (4, 2), minval=-1), 1e-4
    axes = step * jnp.eye(2)
    differences = sum(u(points + e) - 2 * u(points) + u(points - e) for e in axes) / step**2
    np.testing.assert_allclose(jax.vmap(laplacian(u))(points), differences, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (lj.NestNet(in_dim=2, out_dim=1, width=4), "NestNet has kinks"),
        (lj.ReluPE(in_dim=2, out_dim=1, width=4), "ReluPE has kinks"),
        (lj.MLP(in_dim=2, out_dim=1, width=4, activation="relu"), "MLP has kinks"),
        (lj.Grid(in_dim=2, out_dim=1, resolution=4), "Grid has kinks"),
        (lj.LRNN(in_dim=2, out_dim=1, rank=2, components=2), "LRNN has one continuous derivative"),
    ],
)
def test_a_laplacian_that_misses_kinks_is_warned_of(model, what):
    with pytest.warns(UserWarning, match=f"{what}.*take a model of smoothness >= 2"):
        laplacian(field(model))


def test_a_jitted_field_is_looked_into():
    with pytest.warns(UserWarning, match="Grid has kinks"):
        laplacian(jax.jit(field(lj.Grid(in_dim=2, out_dim=1, resolution=4))))


def test_a_relu_mlp_has_a_laplacian_of_zero():
    u = field(lj.MLP(in_dim=2, out_dim=1, width=8, activation="relu"))
    with pytest.warns(UserWarning, match="kinks"):
        operator = laplacian(u)
    assert not operator(jnp.array([0.3, 0.4])).any()


@pytest.mark.parametrize("kind", [lj.Siren, lj.Gauss, lj.Wire, lj.FourierNet, lj.MLP, lj.ChebyKAN])
def test_smooth_models_are_not_warned_of(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        laplacian(field(kind(in_dim=2, out_dim=1, width=4)))
