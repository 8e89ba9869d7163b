"""What every model promises, held to by one table of models."""

import dataclasses
import functools
import itertools
import pickle
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.zoo import oracle

from lrnn_jax import (
    FFN,
    KAN,
    LRNN,
    MLP,
    ChebyKAN,
    CPTensor,
    Finer,
    FourierNet,
    GaborNet,
    Gauss,
    Grid,
    InputError,
    LRNNLayer,
    NestedActivation,
    NestNet,
    ReluPE,
    Siren,
    Spder,
    Spinn,
    TuckerTensor,
    Wire,
    Wire2D,
    count_parameters,
    models,
)
from lrnn_jax.models.network import Network
from lrnn_jax.trees import named_leaves
from lrnn_jax.typing import Model

SMALL = {"in_dim": 2, "out_dim": 3}
NARROW = SMALL | {"width": 6, "depth": 2}
NEST = NARROW | {"frequencies": 2}
KNOTS = (
    ((-1.0, -0.3, 0.1, 1.1), (-2.0, 0.0, 0.5, 0.8)),
    tuple((-1.0 - i / 8, -0.2, 0.3, 0.9) for i in range(5)),
)

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
    "lrnn-layer": LRNNLayer(in_dim=2, rank=4, components=3),
}
NESTS = {
    "nest-relu": NestNet(**NEST, height=1),
    "nest": NestNet(**NEST),
    "nest-height-3": NestNet(**NEST, height=3, raw=True),
    "nest-height-4": NestNet(**NEST | {"width": 4, "depth": 1}, height=4, recursion="C"),
    "nest-net-groups": NestNet(**NEST, sharing="net", groups=2, fraction=0.6),
    "nest-deep-sub": NestNet(**NEST | {"depth": 1}, height=3, sub_depth=2, groups=2),
    "nest-tanh": NestNet(**NEST, activation="tanh", height=3, fraction=0.6),
    "nest-reference": NestNet(**NEST, height=3, groups=3, implementation="reference"),
    "nested-activation": NestedActivation(width=5, height=3, groups=2, sub_init="random"),
}
OTHERS = {
    "siren": Siren(**SMALL, width=8, depth=3),
    "siren-first": Siren(**SMALL, width=8, depth=3, omega0=5.0, first_omega0=12.0),
    "spder": Spder(**SMALL, width=8, depth=3),
    "spder-sound": Spder(**SMALL, width=8, depth=2, activation="sin_arctan"),
    "finer": Finer(**NARROW, omega0=5.0, first_bias=2.0),
    "finer-first": Finer(**NARROW, omega0=3.0, first_omega0=8.0),
    "gauss": Gauss(**NARROW, scale=3.0),
    "relu-pe": ReluPE(**NARROW, frequencies=3),
    "ffn": FFN(**NARROW, features=5, sigma=2.0, seed=7),
    "mlp": MLP(**NARROW),
    "mlp-relu": MLP(**NARROW, activation="relu", weight_init="he"),
    "wire": Wire(**NARROW),
    "wire-broad": Wire(**NARROW | {"depth": 3}, omega0=3.0, sigma0=1.0),
    "wire-2d": Wire2D(**NARROW, omega0=3.0, sigma0=1.0),
    "wire-first": Wire(**NARROW | {"depth": 3}, omega0=2.0, first_omega0=4.0, sigma0=1.0),
    "wire-2d-first": Wire2D(**NARROW, omega0=2.0, first_omega0=4.0, sigma0=1.0),
    "fourier-net": FourierNet(**NARROW, input_scale=8.0),
    "gabor-net": GaborNet(in_dim=3, out_dim=2, width=6, depth=3, input_scale=8.0),
    "kan": KAN(**SMALL, width=4),
    "kan-knots": KAN(**SMALL, width=5, intervals=3, order=2, knots=KNOTS),
    "kan-hats": KAN(in_dim=1, out_dim=2, width=3, intervals=2, order=1),
    "cheby-kan": ChebyKAN(**SMALL, width=4, degree=3),
    "grid": Grid(**SMALL, resolution=5),
    "grid-3d": Grid(in_dim=3, out_dim=2, resolution=(3, 4, 2)),
    "spinn": Spinn(in_dim=3, out_dim=2, rank=3, width=4),
    "cp": CPTensor(**SMALL, rank=4, resolution=(5, 3)),
    "tucker": TuckerTensor(in_dim=3, out_dim=2, rank=(2, 3, 1), resolution=(3, 4, 5)),
}
MODELS = LRNNS | NESTS | OTHERS
# Further variants, put through the comparison with the oracle in float64 alone.
MORE = {
    "nest-b": NestNet(**NEST, height=3, recursion="B", period=1.5, weight_init="he"),
    "nest-c-wide-sub": NestNet(**NEST, height=3, recursion="C", sub_width=5),
    "nest-wide-sub": NestNet(**NEST, sub_width=9),
    "nest-net": NestNet(**NEST, sharing="net", height=3),
    "nest-fraction": NestNet(**NEST, fraction=0.34, groups=2),
    "nest-sin": NestNet(**NEST | {"depth": 1}, activation="sin", sub_depth=2, sub_init="random"),
    "nested-activation-tanh": NestedActivation(width=5, activation="tanh"),
    "nest-random": NestNet(**NEST, sub_init="random", sub_width=2, height=3),
    "nest-coordinates": NestNet(**NARROW, frequencies=0),
    "nest-deeper-sub": NestNet(**NEST | {"depth": 1}, sub_depth=3, sub_width=4),
    "nest-reference-deep": NestNet(**NEST, sub_depth=2, fraction=0.7, implementation="reference"),
    "nested-high": NestedActivation(width=3, height=5, recursion="B"),
    "lrnn-layer-shared": LRNNLayer(in_dim=3, rank=4, sharing="shared", norm="none", hidden=2),
    "grid-1d": Grid(in_dim=1, out_dim=1, resolution=2),
    "gabor-one-filter": GaborNet(**NARROW | {"depth": 1}, input_scale=4.0),
    "kan-deep": KAN(**SMALL, width=3, depth=2, intervals=1, order=4),
    "cp-1d": CPTensor(in_dim=1, out_dim=2, rank=3, resolution=4),
}

all_models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
TWICE = {type(model): name for name, model in MODELS.items() if model.smoothness >= 2}


def test_the_table_holds_every_model_of_the_zoo():
    zoo = {kind for kind in vars(models).values() if isinstance(kind, type)} - {Network}
    assert {type(model) for model in MODELS.values()} == zoo


@functools.cache
def jitted_init(model):
    return jax.jit(model.init)


@functools.cache
def drawn(model, points=4):
    """The model's own draw, moved so that no parameter has a special value, and points."""
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda leaf: leaf + 0.02 * rng.standard_normal(leaf.shape).astype(np.float32),
        jax.device_get(jitted_init(model)(jax.random.key(3))),
    )
    return params, rng.uniform(-1.2, 1.2, (points, model.in_dim)).astype(np.float32)


def in_float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def random_like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.uniform(-1, 1, np.shape(leaf)), tree)


def inner(a, b):
    return sum(jnp.vdot(u, v) for u, v in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def moved(tree, *steps):
    """tree + sum of size * direction."""
    for size, direction in steps:
        tree = jax.tree.map(lambda leaf, d, size=size: leaf + size * d, tree, direction)
    return tree


# Values ------------------------------------------------------------------------------------------


class Forms(NamedTuple):
    """y at six points: as one batch, as two of three, under vmap, and of the first point alone."""

    batch: jax.Array
    batches: jax.Array
    vmapped: jax.Array
    point: jax.Array


@functools.cache
def forms(model):
    def every(params, x):
        return Forms(
            model.apply(params, x),
            model.apply(params, x.reshape(2, 3, -1)),
            jax.vmap(model.apply, (None, 0))(params, x),
            model.apply(params, x[0]),
        )

    return jax.jit(every)(*drawn(model, points=6))


@all_models
@pytest.mark.usefixtures("x32")
def test_values_agree_with_the_oracle(model):
    # float32 rounding of an argument of about 30 moves the sine by about 2e-6, a few times a layer
    expected = oracle(model, *drawn(model, points=6))
    assert forms(model).batch.dtype == jnp.float32
    np.testing.assert_allclose(forms(model).batch, expected, rtol=2e-4, atol=2e-4)


@all_models
def test_leading_axes_are_batch_axes(model):
    found = forms(model)
    assert found.batches.shape == (2, 3, model.out_dim)
    assert found.point.shape == (model.out_dim,)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-4)
    close(found.batches.reshape(6, -1), found.batch)
    close(found.vmapped, found.batch)
    close(found.point, found.batch[0])


@pytest.mark.as_for_users
@pytest.mark.parametrize("name", ["lrnn", "siren", "nest-height-3"])
def test_eager_values_agree_with_jitted_ones(name):
    params, x = jax.tree.map(jnp.asarray, drawn(MODELS[name], points=6))
    found = MODELS[name].apply(params, x)
    np.testing.assert_allclose(found, forms(MODELS[name]).batch, rtol=1e-4, atol=1e-5)


@all_models
def test_points_of_another_dimension_are_named(model):
    params, x = drawn(model)
    for wrong in (x[:, :-1], np.concatenate([x, x], axis=1), np.zeros(()), x[..., None, :, :0]):
        shape = re.escape(str(wrong.shape))
        message = rf"^x: expected shape \(..., {model.in_dim}\), got {shape}$"
        with pytest.raises(InputError, match=message):
            model.apply(params, wrong)


@pytest.mark.parametrize("model", MORE.values(), ids=MORE.keys())
def test_values_of_further_variants_agree_with_the_oracle_in_float64(model, x64):
    at = in_float64(drawn(model, points=2))
    found = jax.jit(model.apply)(*at)
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, oracle(model, *at), rtol=1e-9, atol=1e-11)


# Derivatives -------------------------------------------------------------------------------------


class First(NamedTuple):
    y: jax.Array
    forward: jax.Array
    reverse: jax.Array


@functools.partial(jax.jit, static_argnums=0)
def first(model, at, along, weights):
    """y, <weights, dy> along a direction, and the gradient of <weights, y>, at (params, x)."""
    y, tangent = jax.jvp(model.apply, at, along)
    gradient = jax.grad(lambda at: jnp.vdot(weights, model.apply(*at)))(at)
    return First(y, jnp.vdot(weights, tangent), gradient)


@all_models
def test_values_and_first_derivatives_agree_with_the_oracle_in_float64(model, x64):
    """Forward and reverse, by the parameters and the points, against differences of the oracle.

    The points are away from the kinks of the piecewise linear models: no step of 1e-6 meets one.
    """
    at = in_float64(drawn(model, points=2))
    along, weights = random_like(at, 4), random_like(np.zeros((2, model.out_dim)), 5)
    found = first(model, at, along, weights)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float64)}
    np.testing.assert_allclose(found.y, oracle(model, *at), rtol=1e-9, atol=1e-11)
    ahead, behind = (np.vdot(weights, oracle(model, *moved(at, (e, along)))) for e in (1e-6, -1e-6))
    difference = (ahead - behind) / 2e-6
    np.testing.assert_allclose(found.forward, difference, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(inner(found.reverse, along), found.forward, rtol=1e-9, atol=1e-11)


@functools.partial(jax.jit, static_argnums=0)
def second(model, at, u, v, weights):
    """d^2 <weights, y> along u and v, forward over forward and forward over reverse."""

    def value(at):
        return jnp.vdot(weights, model.apply(*at))

    def along_u(at):
        return jax.jvp(value, (at,), (u,))[1]

    return (
        jax.jvp(along_u, (at,), (v,))[1],
        inner(jax.jvp(jax.grad(value), (at,), (v,))[1], u),
    )


@pytest.mark.parametrize("name", TWICE.values())
def test_second_derivatives_agree_with_the_oracle(name, x64):
    """Of every model that says it has them; frequencies are low, so that differences are exact."""
    model = MODELS[name]
    low = {"omega0": 2.0, "first_omega0": 1.0, "scale": 1.5, "input_scale": 4.0}
    fields = {field.name for field in dataclasses.fields(model)} & low.keys()
    model = dataclasses.replace(model, **{field: low[field] for field in fields})
    at = in_float64(drawn(MODELS[name], points=2))
    u, v, weights = (
        random_like(tree, seed)
        for tree, seed in ((at, 6), (at, 7), (np.zeros((2, model.out_dim)), 8))
    )
    e = 1e-4
    corners = {
        (a, b): np.vdot(weights, oracle(model, *moved(at, (a * e, u), (b * e, v))))
        for a, b in itertools.product((1, -1), repeat=2)
    }
    difference = sum(a * b * value for (a, b), value in corners.items()) / (4 * e * e)
    for found in second(model, at, u, v, weights):
        np.testing.assert_allclose(found, difference, rtol=1e-5, atol=1e-5)


# Values of the language --------------------------------------------------------------------------


@all_models
def test_it_is_a_value(model):
    twin = pickle.loads(pickle.dumps(model))
    assert isinstance(model, Model)
    assert twin == model
    assert hash(twin) == hash(model)
    for name in ("in_dim", dataclasses.fields(model)[-1].name):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(model, name, 3)
    with pytest.raises(InputError, match="by name"):
        type(model)(*dataclasses.astuple(model))


@all_models
def test_equal_specs_compile_once(model):
    traces = []

    def apply(spec, params, x):
        traces.append(spec)
        return spec.apply(params, x)

    jitted = jax.jit(apply, static_argnums=0)
    params, x = drawn(model)
    jitted.trace(model, params, x)
    jitted.trace(dataclasses.replace(model), params, x)
    assert len(traces) == 1


# Parameters --------------------------------------------------------------------------------------


@all_models
@pytest.mark.usefixtures("x32")
def test_init_depends_on_the_key_alone(model):
    init = jitted_init(model)
    same, again, other = (init(jax.random.key(seed)) for seed in (5, 5, 6))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, same, again))
    assert {leaf.dtype for leaf in jax.tree.leaves(same)} == {jnp.dtype(jnp.float32)}
    # a leaf is either drawn, and another key gives another, or the same for every key
    plan = named_leaves(model.plan())
    size = {name: getattr(leaf, "limit", getattr(leaf, "scale", 0)) for name, leaf in plan.items()}
    drawn_leaves = {name for name in plan if size[name]}
    drawn_leaves |= {name for name in plan if name.endswith("precision")}
    others = named_leaves(other)
    for name, leaf in named_leaves(same).items():
        moves = not jnp.any(leaf == others[name])
        unmoved = bool(jnp.array_equal(leaf, others[name]))
        assert moves if name in drawn_leaves else unmoved, name


@all_models
def test_init_has_the_default_float_and_the_planned_shapes(model, x64):
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float64)}
    planned = {name: leaf.shape for name, leaf in named_leaves(model.plan()).items()}
    assert {name: leaf.shape for name, leaf in named_leaves(shapes).items()} == planned
    assert model.parameter_count == count_parameters(shapes)


@all_models
def test_params_of_another_model_are_refused(model):
    params, x = drawn(model)
    names = list(named_leaves(params))

    def changed(name, leaf):
        """`params` with one leaf replaced; left out if it is None."""
        tree = jax.tree.map(lambda own: own, params)
        *path, last = name.split("/")
        place = functools.reduce(lambda node, key: node[key], path, tree)
        place.pop(last, None)
        if leaf is not None:
            place[last] = leaf
        return tree

    middle = names[len(names) // 2]
    found, expected = [9, 9, 9, 9, 9, 9], list(named_leaves(params)[middle].shape)
    cases = {
        f"{middle} is missing": changed(middle, None),
        f"{middle} is float32{found}, expected {expected}": changed(
            middle, np.zeros(found, np.float32)
        ),
        "stranger is not a parameter of this model": changed("stranger", np.zeros(1)),
        f"{names[0]} is missing": {},
    }
    for difference, tree in cases.items():
        with pytest.raises(InputError, match=re.escape(f": {difference}")) as error:
            model.apply(tree, x)
        assert str(error.value).startswith(
            f"params belong to another model than this {type(model).__name__}: "
        )


# Dtypes ------------------------------------------------------------------------------------------


@all_models
def test_narrow_dtypes_are_kept(model):
    params, x = drawn(model)

    @jax.jit
    def narrow(params, x):
        dtypes = (jnp.bfloat16, jnp.float16)
        trees = [jax.tree.map(lambda a, d=dtype: a.astype(d), (params, x)) for dtype in dtypes]
        return [model.apply(*tree) for tree in trees]

    values = narrow(params, x)
    assert [y.dtype for y in values] == [jnp.bfloat16, jnp.float16]
    for y in values:
        assert bool(jnp.isfinite(y).all())


@all_models
@pytest.mark.parametrize("dtypes", [("float16", "float32"), ("float32", "bfloat16")])
def test_dtypes_of_points_and_params_are_promoted(model, dtypes):
    params, x = drawn(model)
    found = jax.eval_shape(
        model.apply, jax.tree.map(lambda leaf: leaf.astype(dtypes[0]), params), x.astype(dtypes[1])
    )
    assert found.dtype == jnp.promote_types(*dtypes)


# Facts -------------------------------------------------------------------------------------------


@all_models
def test_flops_grow_by_the_same_for_every_point(model):
    one, two, four = (model.flops(points) for points in (1, 2, 4))
    assert isinstance(one, int)
    assert 0 < two - one <= one
    assert four - two == 2 * (two - one)


def test_flops_of_a_small_siren():
    """Of a layer i -> o: (2 i - 1) o for the product, then bias, omega0 and sine; of the head,
    product and bias."""
    layers = (2 * 2 - 1) * 8 + 3 * 8 + (2 * 8 - 1) * 8 + 3 * 8
    assert Siren(**SMALL, width=8, depth=2).flops(5) == 5 * (layers + (2 * 8 - 1) * 3 + 3)


@all_models
def test_it_cites_a_publication_of_a_year(model):
    assert re.search(r"\b(19|20)\d\d\b", model.citation)
    assert model.citation.endswith(".")
    assert "\n" not in model.citation


def test_flops_count_every_hidden_unit_and_every_kink():
    """A unit is two multiplications, two additions and its activation at every factor."""
    counts = [LRNN(**SMALL, rank=6, components=4, hidden=h).flops(50) for h in (2, 3, 4)]
    assert counts[2] - counts[1] == counts[1] - counts[0]
    assert counts[1] - counts[0] == pytest.approx(2 * 50 * 5 * 4 * 6, rel=0.1)
    heights = [NestNet(**SMALL, width=8, depth=2, height=s).flops(50) for s in (2, 3, 4)]
    # 3, 9 and 27 terms of two multiplications, two additions and a ReLU
    assert heights[2] - heights[1] == pytest.approx(3 * (heights[1] - heights[0]), rel=0.1)
    assert heights[1] - heights[0] == pytest.approx(2 * 50 * 8 * 6 * 5, rel=0.2)
