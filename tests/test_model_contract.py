"""What every model promises, held to by one table of models."""

import dataclasses
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from oracles.lrnn import SIGMA, lrnn
from oracles.mlp import mlp

from lrnn_jax import LRNN, InputError, Siren, Spder, count_parameters
from lrnn_jax.typing import Model

SMALL = {"in_dim": 2, "out_dim": 3}
LRNNS = {
    "lrnn": LRNN(**SMALL, rank=4, components=4),
    "lrnn-one-component": LRNN(**SMALL, rank=5, components=1),
    "lrnn-odd-components": LRNN(**SMALL, rank=4, components=7, depth=1),
    "lrnn-ranks-hidden": LRNN(**SMALL, depth=3, rank=(3, 2, 4), components=3, hidden=2),
    "lrnn-shared": LRNN(**SMALL, rank=5, components=4, hidden=2, sharing="shared"),
    "lrnn-no-norm": LRNN(**SMALL, rank=5, components=4, norm="none", outer_bias=True),
    "lrnn-bare": LRNN(
        **SMALL,
        rank=5,
        components=4,
        norm_affine=False,
        norm_last=False,
        inner_bias=False,
        head_bias=False,
        inner_init="uniform",
        projection_init="siren",
        gamma=0.3,
    ),
    "lrnn-sin": LRNN(**SMALL, rank=3, components=3, activation="sin", omega0=5.0),
    "lrnn-sin-arctan": LRNN(
        **SMALL, depth=1, rank=3, components=3, activation="sin_arctan", omega0=5.0
    ),
    "lrnn-reference": LRNN(**SMALL, rank=5, components=4, implementation="reference"),
}
MLPS = {
    "siren": Siren(**SMALL, width=8, depth=3),
    "spder": Spder(**SMALL, width=8, depth=3),
    "spder-sound": Spder(**SMALL, width=8, depth=2, activation="sin_arctan"),
}
MODELS = LRNNS | MLPS
# sin and sin_arctan are smooth; spder is once continuously differentiable.
TWICE = ("lrnn-sin", "lrnn-sin-arctan", "siren", "spder-sound")

all_models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


@functools.cache
def drawn(model, points=4):
    params_key, x_key = jax.random.split(jax.random.key(3))
    return jax.jit(model.init)(params_key), jax.random.uniform(
        x_key, (points, 2), minval=-1, maxval=1
    )


def doubled(model, points=4):
    """The same in float64."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), drawn(model, points))


def oracle(model, params, x):
    if isinstance(model, LRNN):
        return lrnn(model, params, x)
    sigma = "sin" if isinstance(model, Siren) else model.activation
    return mlp(params, x, SIGMA[sigma], model.omega0)


@all_models
def test_values_agree_with_the_oracle(model):
    params, x = drawn(model)
    # float32 rounding of an argument of about 30 moves the sine by about 2e-6, a few times a layer
    found = jax.jit(model.apply)(params, x)
    np.testing.assert_allclose(found, oracle(model, params, x), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["lrnn", "siren"])
def test_eager_values_agree_with_jitted_ones(name):
    params, x = drawn(MODELS[name])
    found = MODELS[name].apply(params, x)
    np.testing.assert_allclose(found, jax.jit(MODELS[name].apply)(params, x), rtol=1e-4, atol=1e-5)


@all_models
def test_values_agree_with_the_oracle_in_float64(model, x64):
    params, x = doubled(model)
    y = jax.jit(model.apply)(params, x)
    assert y.dtype == jnp.float64
    np.testing.assert_allclose(y, oracle(model, params, x), rtol=1e-9, atol=1e-11)


@all_models
def test_leading_axes_are_batch_axes(model):
    params, x = drawn(model, points=6)
    apply = jax.jit(model.apply)
    batch = apply(params, x.reshape(2, 3, 2))
    points = jnp.stack([apply(params, point) for point in x])
    vmapped = jax.jit(jax.vmap(model.apply, (None, 0)))(params, x)
    assert batch.shape == (2, 3, model.out_dim)
    np.testing.assert_allclose(batch.reshape(6, -1), points, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(vmapped, points, rtol=1e-4, atol=1e-5)


@all_models
@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 1), ()])
def test_points_of_another_dimension_are_named(model, shape):
    params, _ = drawn(model)
    with pytest.raises(InputError, match=r"x: expected shape \(..., 2\), got"):
        model.apply(params, jnp.zeros(shape))


@all_models
def test_first_derivatives_agree_with_differences_forward_and_reverse(model, x64):
    params, x = doubled(model, points=2)
    smooth = dataclasses.replace(model, omega0=2.0)
    check_grads(jax.jit(smooth.apply), (params, x), order=1, modes=("fwd", "rev"), eps=1e-6)


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives_agree_with_differences(name, x64):
    model = dataclasses.replace(MODELS[name], omega0=2.0)
    params, x = doubled(model, points=2)
    check_grads(jax.jit(model.apply), (params, x), order=2, modes=("fwd", "rev"), eps=1e-6)


@all_models
def test_it_is_a_value(model):
    twin = pickle.loads(pickle.dumps(model))
    assert isinstance(model, Model)
    assert twin == model
    assert hash(twin) == hash(model)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.in_dim = 3


@all_models
def test_equal_specs_compile_once(model):
    traces = []

    def apply(spec, params, x):
        traces.append(spec)
        return spec.apply(params, x)

    jitted = jax.jit(apply, static_argnums=0)
    params, x = drawn(model)
    jitted(model, params, x)
    jitted(dataclasses.replace(model), params, x)
    assert len(traces) == 1


@all_models
def test_init_depends_on_the_key_alone(model):
    init = jax.jit(model.init)
    same, again, other = (init(jax.random.key(seed)) for seed in (5, 5, 6))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, same, again))
    assert not jnp.array_equal(same["head"]["weight"], other["head"]["weight"])
    assert {leaf.dtype for leaf in jax.tree.leaves(same)} == {jnp.dtype(jnp.float32)}


@all_models
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_dtypes_are_kept(model, dtype):
    params, x = drawn(model)
    narrow = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    y = jax.jit(model.apply)(narrow, x.astype(dtype))
    assert y.dtype == dtype
    assert bool(jnp.isfinite(y).all())


@pytest.mark.parametrize("name", ["in_dim", "out_dim", "depth"])
@pytest.mark.parametrize("kind", [LRNN, Siren, Spder])
@pytest.mark.parametrize("value", [0, -1, 2.5, "2", True])
def test_impossible_sizes_are_named(kind, name, value):
    with pytest.raises(InputError, match=rf"{name}: expected an integer >= 1, got"):
        kind(**(SMALL | {name: value}))


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (LRNN, {"rank": 0}, "rank: expected an integer >= 1, got 0"),
        (LRNN, {"rank": (4, 4, 4)}, "rank: expected one rank or 2 of them"),
        (LRNN, {"rank": ()}, "rank: expected an integer >= 1"),
        (LRNN, {"components": 0}, "components: expected an integer >= 1"),
        (LRNN, {"hidden": 0}, "hidden: expected an integer >= 1"),
        (LRNN, {"omega0": float("nan")}, "omega0: expected a finite number > 0"),
        (LRNN, {"sigma_g": 0.0}, "sigma_g: expected a finite number > 0"),
        (LRNN, {"gamma": float("inf")}, "gamma: expected a finite number > 0"),
        (LRNN, {"sharing": "flx"}, "sharing: expected one of 'flex', 'shared', got 'flx'"),
        (LRNN, {"activation": "sine"}, "activation: unknown name 'sine'; did you mean 'sin'"),
        (Siren, {"width": 0}, "width: expected an integer >= 1"),
        (Siren, {"omega0": -1.0}, "omega0: expected a finite number > 0"),
        (Spder, {"activation": "tan"}, "activation: unknown name 'tan'"),
    ],
)
def test_other_impossible_fields_are_named(kind, fields, message):
    with pytest.raises(InputError, match=message):
        kind(**SMALL, **fields)


def test_parameter_counts():
    """lrnn_facts 1.3: the arithmetic behind the paper's "~197k", and its baselines."""

    def count(model):
        return count_parameters(jax.eval_shape(model.init, jax.random.key(0)))

    assert count(LRNN(in_dim=2, out_dim=1)) == 197_267
    assert count(LRNN(in_dim=2, out_dim=1, norm_affine=False)) == 196_843
    assert count(LRNN(in_dim=2, out_dim=1, outer_bias=True)) == 200_659
    assert count(LRNN(in_dim=2, out_dim=3)) == 197_481
    assert count(LRNN(in_dim=1, out_dim=1)) == 195_571
    assert count(LRNN(in_dim=2, out_dim=1, rank=27)) == 16_120
    assert count(LRNN(in_dim=2, out_dim=1, rank=79, components=8)) == 56_644
    assert count(Siren(in_dim=2, out_dim=1)) == 198_401
    assert count(Siren(in_dim=2, out_dim=1, depth=3)) == 132_609
    assert count(Spder(in_dim=2, out_dim=1)) == 198_401
