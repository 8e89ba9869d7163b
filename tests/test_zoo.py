"""What is particular to each model of the zoo: its size, its start, its laws, its mistakes."""

import dataclasses
import functools
import math
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles.kan import splines_at_knots
from oracles.nestnet import nested_of, rho
from oracles.separable import grid as interpolated
from oracles.zoo import oracle
from scipy.stats import kstest

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
    domains,
    lrnn_from_cp,
    lrnn_from_mlp,
    operators,
)
from lrnn_jax.kernels.activations import activation
from lrnn_jax.kernels.features import gaussian_features, harmonics, positional_encoding
from lrnn_jax.kernels.nested import lean_subnetwork, unroll
from lrnn_jax.kernels.splines import b_splines, extend_knots
from lrnn_jax.models.nestnet import prescribed_start
from lrnn_jax.training import scale_subnetworks
from lrnn_jax.trees import named_leaves

KINDS = (
    *(LRNN, LRNNLayer, NestNet, NestedActivation, Siren, Spder, Finer, Gauss, ReluPE, FFN, MLP),
    *(Wire, Wire2D, FourierNet, GaborNet, KAN, ChebyKAN, Grid, Spinn, CPTensor, TuckerTensor),
)
EXACT = {"rtol": 1e-12, "atol": 1e-12}

apply = jax.jit(lambda model, params, x: model.apply(params, x), static_argnums=0)


def smallest(kind):
    """The fields without default."""
    names = {"in_dim": 2, "out_dim": 3, "width": 4, "rank": 4}
    return {
        field.name: names[field.name]
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING
    }


def params_like(model, seed=0, scale=1.0):
    """Parameters in float64 none of which has the value of an initialisation."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: scale * rng.uniform(-1, 1, leaf.shape), shapes)


def points(n, dimension, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (n, dimension))


# Sizes -------------------------------------------------------------------------------------------

COLOUR, GRAY = {"in_dim": 2, "out_dim": 3}, {"in_dim": 2, "out_dim": 1}
COUNTS = [
    (LRNN(**GRAY), 197_267),
    (LRNN(**GRAY, norm_affine=False), 196_843),
    (LRNN(**GRAY, outer_bias=True), 200_659),
    (LRNN(**COLOUR), 197_481),
    (LRNN(in_dim=1, out_dim=1), 195_571),
    (LRNN(**GRAY, rank=27), 16_120),
    (LRNN(**GRAY, rank=79, components=8), 56_644),
    # projection 2 * 5 * 4 + 5 * 4, functions 3 * 5 * 4, norm 2 * 4
    (LRNNLayer(in_dim=2, rank=4, components=5), 128),
    (NestNet(**COLOUR), 153_121),
    (NestNet(**COLOUR, raw=True), 153_633),
    (NestNet(**COLOUR, frequencies=19), 152_097),
    (NestNet(**COLOUR, frequencies=21), 154_145),
    (NestNet(**COLOUR, height=1), 153_091),
    (NestNet(**COLOUR, height=3), 153_151),
    (NestNet(**COLOUR, sharing="net"), 153_121 - 20),
    (NestNet(**COLOUR, groups=4), 153_121 + 90),
    (NestNet(**COLOUR, fraction=0.25), 153_121),
    # a subnetwork of width 9 has 28 parameters; one of two hidden layers 9 + 3 more than one
    (NestNet(**COLOUR, sub_width=9), 153_121 + 3 * 18),
    (NestNet(**COLOUR, sub_depth=2), 153_121 + 3 * 12),
    (NestNet(**COLOUR, frequencies=0), 153_121 - 78 * 256),
    (NestedActivation(width=50, height=4, groups=2), 60),
    (Siren(**GRAY), 198_401),
    (Siren(**GRAY, depth=3), 132_609),
    (Siren(**COLOUR, depth=3), 133_123),
    (Spder(**GRAY), 198_401),
    (Finer(**GRAY), 198_401),
    (Gauss(**COLOUR), 133_123),
    (MLP(**COLOUR), 133_123),
    (ReluPE(**COLOUR, frequencies=7), 140_291),
    (FFN(**COLOUR), 198_147),
    (Wire(**COLOUR), 133_403),
    (Wire2D(**COLOUR), 133_638),
    (FourierNet(**COLOUR, depth=3), 3 * 768 + 2 * 65_792 + 771),
    (GaborNet(**COLOUR, depth=3), 136_963),
    # [2, 5, 1]: 15 edges of 5 + 3 coefficients and two factors
    (KAN(**GRAY, width=5), 150),
    (ChebyKAN(**GRAY, width=5, degree=4), 75),
    (Grid(**GRAY, resolution=443), 196_249),
    (Grid(**COLOUR, resolution=(7, 5)), 105),
    # an axis: 1 -> 64 -> 64 -> 64 * 3
    (Spinn(**COLOUR), 2 * (128 + 4160 + 65 * 192)),
    (CPTensor(**COLOUR, rank=4, resolution=(7, 5)), 4 * 12 + 15),
    (TuckerTensor(**COLOUR, rank=(4, 2), resolution=(7, 5)), 28 + 10 + 24),
]


@pytest.mark.parametrize(("model", "count"), COUNTS, ids=lambda value: str(value)[:60])
def test_parameter_counts(model, count):
    """The published ones (lrnn_facts 1.3, baselines_facts 1.3 and 3.1), and the arithmetic."""
    assert model.parameter_count == count


def test_wire_counts_a_complex_parameter_twice():
    """The literature's 67K counts it once: real 2 -> 181, complex 181 -> 181 -> 181 -> 3."""
    complex_ones = 2 * (181 * 181 + 181) + 181 * 3 + 3
    assert 2 * 181 + 181 + complex_ones == 66_973
    assert Wire(**COLOUR).parameter_count == 66_973 + complex_ones


# Start -------------------------------------------------------------------------------------------

WIDE = {"in_dim": 3, "out_dim": 40, "width": 128, "depth": 2}
TORCH = {
    "layer_0/weight": ("uniform", 3**-0.5),
    "layer_0/bias": ("uniform", 3**-0.5),
    "layer_1/weight": ("uniform", 128**-0.5),
    "layer_1/bias": ("uniform", 128**-0.5),
    "head/weight": ("uniform", 128**-0.5),
    "head/bias": ("uniform", 128**-0.5),
}
SINE = TORCH | {
    "layer_0/weight": ("uniform", 1 / 3),
    "layer_1/weight": ("uniform", (6 / 128) ** 0.5 / 30),
    "head/weight": ("uniform", (6 / 128) ** 0.5 / 30),
}
UNBIASED = {name: ("constant", 0.0) for name in TORCH if name.endswith("bias")}
GLOROT = {
    "layer_0/weight": ("uniform", (6 / 131) ** 0.5),
    "layer_1/weight": ("uniform", (6 / 256) ** 0.5),
    "head/weight": ("uniform", (6 / 168) ** 0.5),
}
COMPLEX = {
    f"{layer}/{leaf}_{part}": ("uniform", 128**-0.5)
    for layer in ("layer_1/wave", "head")
    for leaf in ("weight", "bias")
    for part in ("real", "imag")
}
WAVE = {f"layer_0/wave/{leaf}": ("uniform", 3**-0.5) for leaf in ("weight", "bias")} | COMPLEX
FILTERS = {
    name: law
    for index in range(2)
    for name, law in {
        f"filter_{index}/weight": ("uniform", 256 / 6**0.5),
        f"filter_{index}/bias": ("uniform", math.pi),
    }.items()
} | {name: law for name, law in TORCH.items() if not name.startswith("layer_0")}
SPLINES = {
    "layer_0/base_weight": ("uniform", (6 / 131) ** 0.5),
    "layer_1/base_weight": ("uniform", (6 / 168) ** 0.5),
    "layer_0/spline_weight": ("constant", 1.0),
    "layer_1/spline_weight": ("constant", 1.0),
    "layer_0/coefficients": ("normal", 0.1),
    "layer_1/coefficients": ("normal", 0.1),
}
STARTS = {
    "siren": (Siren(**WIDE), SINE),
    "spder": (Spder(**WIDE), SINE),
    "finer": (Finer(**WIDE), SINE),
    "siren-first": (Siren(**WIDE, first_omega0=90.0), SINE),
    "finer-first": (Finer(**WIDE, first_omega0=90.0), SINE),
    "wire-first": (Wire(**WIDE, first_omega0=90.0), WAVE),
    "finer-bias": (Finer(**WIDE, first_bias=5.0), SINE | {"layer_0/bias": ("uniform", 5.0)}),
    "gauss": (Gauss(**WIDE), TORCH),
    "mlp": (MLP(**WIDE), GLOROT | UNBIASED),
    "mlp-fan-in": (MLP(**WIDE, weight_init="fan_in"), TORCH),
    "mlp-he": (
        MLP(**WIDE, weight_init="he"),
        {
            name: ("uniform", (6 / i) ** 0.5)
            for name, i in {"layer_0/weight": 3, "layer_1/weight": 128, "head/weight": 128}.items()
        }
        | UNBIASED,
    ),
    "relu-pe": (
        ReluPE(**WIDE, frequencies=4),
        TORCH | {f"layer_0/{leaf}": ("uniform", 27**-0.5) for leaf in ("weight", "bias")},
    ),
    "ffn": (
        FFN(**WIDE, features=50),
        GLOROT | UNBIASED | {"layer_0/weight": ("uniform", (6 / 228) ** 0.5)},
    ),
    "wire": (Wire(**WIDE), WAVE),
    "wire-2d": (
        Wire2D(**WIDE),
        WAVE | {name.replace("wave", "envelope"): law for name, law in WAVE.items()},
    ),
    "fourier-net": (FourierNet(**WIDE), FILTERS),
    "kan-paper": (KAN(**WIDE | {"depth": 1}, weight_init="paper"), SPLINES),
    "cheby-kan": (
        ChebyKAN(**WIDE | {"depth": 1}),
        {"layer_0/coefficients": ("normal", 1 / 15), "layer_1/coefficients": ("normal", 1 / 640)},
    ),
    "grid": (Grid(in_dim=2, out_dim=3, resolution=60), {"values": ("uniform", 1e-4)}),
    "spinn": (
        Spinn(in_dim=2, out_dim=3, rank=20, width=80, depth=1),
        {
            "layer_0/weight": ("normal", (2 / 81) ** 0.5),
            "head/weight": ("normal", (2 / 140) ** 0.5),
            "layer_0/bias": ("constant", 0.0),
            "head/bias": ("constant", 0.0),
        },
    ),
    "cp": (
        CPTensor(in_dim=2, out_dim=20, rank=40, resolution=60),
        {
            "factor_0": ("normal", 1.0),
            "factor_1": ("normal", 1.0),
            "head/weight": ("uniform", 40**-0.5),
            "head/bias": ("uniform", 40**-0.5),
        },
    ),
    "tucker": (
        TuckerTensor(in_dim=2, out_dim=5, rank=(40, 30), resolution=60),
        {"factor_0": ("normal", 1.0), "factor_1": ("normal", 1.0), "core": ("normal", 1200**-0.5)},
    ),
    "nestnet": (
        NestNet(**WIDE, height=1, frequencies=4),
        TORCH | {f"layer_0/{leaf}": ("uniform", 24**-0.5) for leaf in ("weight", "bias")},
    ),
    "nestnet-he": (
        NestNet(**WIDE, height=1, frequencies=4, raw=True, weight_init="he"),
        TORCH
        | {"layer_0/weight": ("uniform", (6 / 27) ** 0.5), "layer_0/bias": ("uniform", 27**-0.5)}
        | {f"{name}/weight": ("uniform", (6 / 128) ** 0.5) for name in ("layer_1", "head")},
    ),
    "nested-random": (
        NestedActivation(
            width=400, groups=300, sub_width=12, sub_depth=2, height=3, sub_init="random"
        ),
        {
            f"level_{k}/{leaf}": ("uniform", 1.0 if leaf.startswith("inner") else 12**-0.5)
            for k in (1, 2)
            for leaf in (
                *("inner_weight", "inner_bias", "outer_weight", "outer_bias"),
                *("hidden_weight", "hidden_bias"),
            )
        },
    ),
    "lrnn-siren": (
        LRNN(**COLOUR, rank=30, components=8, projection_init="siren", inner_init="uniform"),
        {
            "layer_0/projection/weight": ("uniform", 1 / 2),
            "layer_0/projection/bias": ("uniform", 2**-0.5),
            "layer_1/projection/weight": ("uniform", (6 / 30) ** 0.5 / 30),
            "layer_1/projection/bias": ("uniform", 30**-0.5),
            "layer_0/component/inner_weight": ("uniform", 1.0),
            "layer_0/component/inner_bias": ("uniform", 1.0),
            "layer_0/norm/scale": ("constant", 1.0),
            "layer_0/norm/shift": ("constant", 0.0),
            "head/weight": ("uniform", 30**-0.5),
        },
    ),
}


@pytest.mark.parametrize(("model", "laws"), STARTS.values(), ids=STARTS.keys())
def test_the_start_is_that_of_its_authors(model, laws):
    """Limits and deviations, of the whole and of each slice of a stack, and no number twice."""
    leaves = named_leaves(jax.jit(model.init)(jax.random.key(1)))
    if not isinstance(model, LRNN):
        assert leaves.keys() == laws.keys()
    seen = np.zeros(0)
    for name, (law, size) in laws.items():
        leaf = np.asarray(leaves[name], np.float64)
        if law == "constant":
            np.testing.assert_array_equal(leaf, size)
            continue
        seen = np.concatenate([seen, leaf.ravel() / size])
        stacks = leaf if leaf.ndim > 2 else leaf[None]
        for values in [leaf, *stacks] if len(stacks) < 5 else [leaf]:
            deviation = size / math.sqrt(3) if law == "uniform" else size
            # of n draws the deviation is within 4 / sqrt n of the law's, and the mean within it
            slack = 4 / math.sqrt(values.size)
            assert abs(values.std() / deviation - 1) < slack, name
            assert abs(values.mean()) < slack * deviation, name
        if law == "uniform":
            assert np.abs(leaf).max() <= size * (1 + 1e-6), name
            assert np.abs(leaf).max() >= size * (1 - 20 / leaf.size), name
        else:
            assert np.abs(leaf).max() > 2.5 * size, name
    # two of m float32 draws agree by chance once in some thousands; a shared stretch, always
    assert len(np.unique(seen)) > 0.97 * len(seen)


@pytest.mark.parametrize(("alpha", "beta", "depth"), [(6.0, 1.0, 2), (9.0, 4.0, 3)])
def test_gabor_filters_start_with_precisions_of_a_gamma_law(alpha, beta, depth):
    """gamma ~ Gamma(alpha / depth, beta): mean alpha / (depth beta), variance mean / beta; and
    U has the factor sqrt(gamma) of its own filter and neuron."""
    model = GaborNet(in_dim=3, out_dim=1, width=2000, depth=depth, alpha=alpha, beta=beta)
    params = jax.jit(model.init)(jax.random.key(2))
    gamma = np.stack([params[f"filter_{index}"]["precision"] for index in range(depth)])
    mean = alpha / (depth * beta)
    np.testing.assert_allclose(gamma.mean(), mean, rtol=0.06)
    np.testing.assert_allclose(gamma.var(), mean / beta, rtol=0.15)
    assert len(np.unique(gamma)) > 0.99 * gamma.size
    limit = 256 / math.sqrt(3 * depth)
    for index in range(depth):
        own = params[f"filter_{index}"]
        plain = np.asarray(own["weight"]) / np.sqrt(gamma[index])
        np.testing.assert_allclose(np.abs(plain).max(), limit, rtol=0.01)
        np.testing.assert_allclose(plain.std(), limit / math.sqrt(3), rtol=0.03)
        np.testing.assert_allclose(np.abs(own["centre"]).max(), 1, rtol=0.01)
        np.testing.assert_allclose(np.abs(own["bias"]).max(), math.pi, rtol=0.01)


def test_the_matrix_of_fourier_features_belongs_to_the_model():
    """No parameter, the same for every key; another seed is another matrix."""
    model = FFN(in_dim=2, out_dim=2, width=6, depth=1, features=3)
    params, x = params_like(model), points(5, 2)
    assert {leaf.shape for leaf in jax.tree.leaves(params)} == {(6, 6), (6,), (6, 2), (2,)}
    y = [apply(dataclasses.replace(model, seed=seed), params, x) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(y[0], y[1])
    assert not np.allclose(y[0], y[2], atol=1e-3)
    inputs = jax.jit(lambda x: model.layers(params, x)[0](x))
    found = np.asarray(inputs(np.eye(2) / 1e3), np.float64)[:, 3:] * 1e3 / (2 * math.pi)
    assert 0.2 < found.std() / model.sigma < 2


# NestNet -----------------------------------------------------------------------------------------


def start_levels(model):
    """The parameters of a `NestedActivation` of one subnetwork at its start, in float64."""
    start = prescribed_start(model.height, model.recursion, model.sub_width, model.sub_depth)
    return {
        level: {name: leaf[None] for name, leaf in values.items() if leaf.size}
        for level, values in start.items()
    }


def start_of(model, z):
    """rho(z) at the start."""
    return apply(model, start_levels(model), z[:, None])[:, 0]


def nested(height, recursion="A", **fields):
    return NestedActivation(width=1, height=height, recursion=recursion, **fields)


def test_the_prescribed_start_has_the_papers_values(x64):
    level = prescribed_start(2)["level_1"]
    assert {name: leaf.tolist() for name, leaf in level.items() if leaf.size} == {
        "inner_weight": [1, 1, 1],
        "inner_bias": [-0.2, -0.1, 0],
        "outer_weight": [1, 1, -1],
        "outer_bias": 0,
    }
    z = np.linspace(-1, 1, 401)
    shape = [z < 0, z < 0.1, z < 0.2]
    expected = np.select(shape, [0 * z, -z, 0 * z - 0.1], z - 0.3)
    np.testing.assert_allclose(start_of(nested(2), z), expected, atol=1e-15)
    model = NestedActivation(width=3, groups=2)
    init = jax.jit(model.init)(jax.random.key(0))
    for name in ("inner_weight", "inner_bias", "outer_weight", "outer_bias"):
        np.testing.assert_array_equal(init["level_1"][name], np.stack([level[name]] * 2))


@pytest.mark.parametrize("recursion", ["A", "B", "C"])
@pytest.mark.parametrize("height", [2, 3, 4])
def test_units_beyond_the_third_and_layers_beyond_the_first_change_nothing_at_the_start(
    height, recursion, x64
):
    z = np.linspace(-1, 1.5, 101)
    plain = start_of(nested(height, recursion=recursion), z)
    wide = start_of(nested(height, recursion=recursion, sub_width=5), z)
    deep = start_of(nested(height, recursion=recursion, sub_depth=2), z)
    np.testing.assert_allclose(wide, plain, atol=1e-12)
    np.testing.assert_allclose(deep, plain, atol=1e-10)


MOMENTS = {2: (0.304, 0.26), 3: (0.177, 0.155)}  # as published, rounded


@pytest.mark.parametrize("height", [2, 3, 4, 5])
def test_recursion_a_is_a_shifted_relu_with_a_dip(height, x64):
    """Asymptote z - .3 (s - 1), minimum -.1 (s - 1), and the published moments for z ~ N(0, 1)."""
    levels = height - 1
    z = np.linspace(-10, 10, 40_001)
    y = np.asarray(start_of(nested(height), z))
    np.testing.assert_allclose(
        y[z > 0.2 * levels + 0.01], (z - 0.3 * levels)[z > 0.2 * levels + 0.01], atol=1e-12
    )
    np.testing.assert_allclose(y.min(), -0.1 * levels, atol=1e-12)
    np.testing.assert_array_equal(y[z < 0], 0)
    if height in MOMENTS:
        square, mean = MOMENTS[height]
        assert abs(gaussian_mean(z, y**2) - square) < 2e-3
        assert abs(gaussian_mean(z, y) - mean) < 5e-3


def gaussian_mean(z, values):
    """E[values(z)] for z ~ N(0, 1), on a uniform grid."""
    return np.sum(values * np.exp(-(z**2) / 2)) / math.sqrt(2 * math.pi) * (z[1] - z[0])


@pytest.mark.parametrize("height", [3, 4, 5])
def test_recursion_b_starts_as_height_2(height, x64):
    """Exactly, but its outer levels have gradients, and no two units the same ones."""
    z = np.linspace(-3, 3, 601)
    np.testing.assert_array_equal(start_of(nested(height, "B"), z), start_of(nested(2), z))
    model = nested(height, "B")
    gradient = jax.grad(lambda p: jnp.sum(model.apply(p, z[:, None]) ** 2))
    gradient = jax.jit(gradient)(start_levels(model))
    for level in range(1, height - 1):
        assert len(np.unique(np.round(gradient[f"level_{level}"]["outer_weight"], 6))) == 3


@pytest.mark.parametrize("fields", [{}, {"sub_width": 4}, {"sub_depth": 2}], ids=str)
@pytest.mark.parametrize("height", [2, 3, 4, 5])
def test_recursion_c_keeps_the_mean_square_of_relu(height, fields, x64):
    """E[rho(z)^2] = 1/2 for z ~ N(0, 1), of every level."""
    if height > 3 and fields:
        pytest.skip("hundreds of units a number: the same recursion as below")
    start = start_levels(nested(height, "C", **fields))
    z = np.linspace(-10, 10, 20_001)
    for outermost in range(1, height):
        inner = {
            f"level_{k - outermost + 1}": start[f"level_{k}"] for k in range(outermost, height)
        }
        y = jax.jit(lean_subnetwork)(inner, z[:, None])[:, 0]
        np.testing.assert_allclose(gaussian_mean(z, np.asarray(y) ** 2), 0.5, rtol=1e-5)


@pytest.mark.parametrize("height", [2, 3, 4, 5])
def test_the_closed_form_is_the_literal_subnetwork(height, x64):
    """Of random levels: rho(z) = constant + sum of h^(s - 1) weighted ReLUs, for each of two."""
    model = NestedActivation(width=2, height=height, groups=2)
    params = params_like(model, seed=height)
    form = jax.jit(unroll)(jax.tree.map(jnp.asarray, params))
    assert form.weight.shape == form.slope.shape == form.shift.shape == (2, 3 ** (height - 1))
    assert form.constant.shape == (2,)
    for group in range(2):
        own = nested_of(params, group)
        for z in np.linspace(-3, 3, 25):
            terms = form.weight * np.maximum(form.slope * z + form.shift, 0)
            value = form.constant[group] + np.asarray(terms)[group].sum()
            np.testing.assert_allclose(value, rho(own, float(z)), rtol=1e-11, atol=1e-13)


def test_a_nestnet_of_height_1_is_a_relu_mlp_on_its_features(x64):
    fields = {"out_dim": 3, "width": 5, "depth": 2}
    nest = NestNet(in_dim=2, height=1, frequencies=3, **fields)
    mlp = MLP(in_dim=12, activation="relu", **fields)
    params, x = params_like(nest), jnp.asarray(points(7, 2))
    expected = apply(mlp, params, harmonics(x, 3, 2.0))
    np.testing.assert_allclose(apply(nest, params, x), expected, **EXACT)


@pytest.mark.parametrize("period", [2.0, 1.0, 5.5])
def test_features_have_one_period_and_no_shorter_one(period, x64):
    """Its ends have equal features, so that a grid must hold one of them only: pixel centres do."""
    end = period / 2
    ends = np.asarray(harmonics(jnp.array([[-end], [end]]), 6, period))
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-13)
    x = np.arange(0.5, 64) / 64 * period - end
    features = np.asarray(harmonics(jnp.asarray(x)[:, None], 6, period))
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1) + 9 * np.eye(64)
    # the nearest are neighbours: 2 sqrt(sum of sin^2(pi m / 64))
    nearest = 2 * math.sqrt(sum(math.sin(math.pi * m / 64) ** 2 for m in range(1, 7)))
    np.testing.assert_allclose(distance.min(), nearest)


def test_a_nestnet_repeats_itself_beyond_its_period_and_not_within(x64):
    model = NestNet(in_dim=1, out_dim=1, width=6, depth=2, frequencies=3)
    params = params_like(model)
    u = functools.partial(apply, model, params)
    x = points(9, 1)
    np.testing.assert_allclose(u(x + 2), u(x), rtol=1e-9, atol=1e-11)
    assert np.abs(u(x + 1) - u(x)).max() > 0.1
    centres = np.asarray(domains.grid((16,))).reshape(-1, 1)
    assert np.abs(u(centres)[0] - u(centres)[-1]) > 1e-3


def test_neurons_beyond_the_fraction_are_relu_and_groups_are_runs(x64):
    """Of 7 neurons round(.72 * 7) = 5 are nested, 0..2 by the first subnetwork, 3 and 4 by the
    second."""
    model = NestedActivation(width=7, groups=2, fraction=0.72)
    params, z = params_like(model), points(6, 7)
    y = apply(model, params, z)
    np.testing.assert_array_equal(y[:, 5:], np.maximum(z[:, 5:], 0))
    for j, group in enumerate([0, 0, 0, 1, 1]):
        expected = [rho(nested_of(params, group), value) for value in z[:, j]]
        np.testing.assert_allclose(y[:, j], expected, **EXACT)


def test_a_nestnet_is_as_smooth_as_its_innermost_activation(x64):
    """Of tanh it has the second derivative that differences find; of ReLU none."""
    fields = {"width": 5, "depth": 2, "frequencies": 2, "activation": "tanh"}
    model = NestNet(in_dim=2, out_dim=1, **fields)
    assert model.smoothness == math.inf
    assert NestNet(in_dim=2, out_dim=1).smoothness == 0
    u = jax.jit(functools.partial(model.apply, jax.tree.map(jnp.asarray, params_like(model))))
    x, step = jnp.array([0.2, -0.3]), 1e-4
    around = [u(x + step * move)[0] - u(x)[0] for move in (*np.eye(2), *-np.eye(2))]
    laplacian = operators.laplacian(lambda point: u(point)[0])(x)
    np.testing.assert_allclose(laplacian, sum(around) / step**2, rtol=1e-5)


def test_a_start_that_is_relus_is_refused_of_another_activation():
    for special in ({"recursion": "C"}, {"sub_depth": 2}):
        with pytest.raises(InputError, match=r"sub_init: .*'random' with activation 'tanh'"):
            nested(3, **special, activation="tanh")
        nested(3, **special, activation="tanh", sub_init="random")


def residual_sizes(f, *arguments):
    """Numbers of every array that the backward pass of f holds."""
    return sorted(leaf.size for leaf in jax.tree.leaves(jax.vjp(f, *arguments)[1]))


@pytest.mark.parametrize("fields", [{}, {"activation": "tanh"}, {"sub_depth": 2}], ids=str)
def test_the_memory_of_the_backward_pass_does_not_grow_with_the_height(fields):
    """It keeps the arguments z of the activations, and no (points, width, 3^(s - 1)) array."""
    n, width = 1000, 16
    for height in (2, 3) if "sub_depth" in fields else (2, 3, 4):
        model = NestedActivation(width=width, height=height, **fields)
        params = jax.tree.map(lambda leaf: leaf.astype(np.float32), params_like(model))
        rho = functools.partial(lean_subnetwork, sigma=activation(model.activation))
        held = residual_sizes(rho, params, jnp.ones((n, width)))
        assert [size for size in held if size >= n] == [n * width]


@pytest.mark.parametrize("sigma", ["relu", "tanh"])
def test_the_compiled_gradient_needs_no_more_memory_for_more_height(sigma):
    """Of the closed form. (With deeper subnetworks one activation at a time is unrolled.)"""
    sizes = []
    for height in (3, 4):
        fields = {"width": 16, "depth": 1, "frequencies": 1, "activation": sigma}
        model = NestNet(**GRAY, height=height, **fields)
        params = jax.eval_shape(model.init, jax.random.key(0))
        x = jax.ShapeDtypeStruct((1000, 2), jnp.float32)
        loss = lambda params, x, model=model: jnp.sum(model.apply(params, x) ** 2)  # noqa: E731
        compiled = jax.jit(jax.grad(loss)).lower(params, x).compile()
        sizes.append(compiled.memory_analysis().temp_size_in_bytes)
    assert sizes[1] < 1.5 * sizes[0]


# WIRE --------------------------------------------------------------------------------------------


def complex_wire(model, params, x):
    """WIRE on complex arrays, of complex parameters."""
    h = x
    for index in range(model.depth):
        layer = params[f"layer_{index}"]
        maps = [h @ own["weight"] + own["bias"] for own in layer.values()]
        square = sum(jnp.abs(z) ** 2 for z in maps)
        z = h @ layer["wave"]["weight"] + layer["wave"]["bias"]
        h = jnp.exp(1j * model.omega0 * z) * jnp.exp(-(model.sigma0**2) * square)
    return (h @ params["head"]["weight"] + params["head"]["bias"]).real


def joined(params):
    """Complex leaves of real and imaginary parts; gradients are conjugated by the caller."""
    if "weight" in params:
        return params
    if "weight_real" in params:
        return {k: params[f"{k}_real"] + 1j * params[f"{k}_imag"] for k in ("weight", "bias")}
    return {name: joined(own) for name, own in params.items()}


@pytest.mark.parametrize("kind", [Wire, Wire2D])
def test_real_arithmetic_is_complex_arithmetic(kind, x64):
    """Values, and gradients: JAX's dL/dRe - j dL/dIm of a complex parameter."""
    model = kind(in_dim=2, out_dim=2, width=4, depth=3, omega0=3.0, sigma0=1.0)
    params, x = params_like(model, scale=0.5), jnp.asarray(points(5, 2))

    @jax.jit
    def both(params):
        real = jax.grad(lambda p: jnp.sum(model.apply(p, x) ** 3))(params)
        other = jax.grad(lambda p: jnp.sum(complex_wire(model, p, x) ** 3))(joined(params))
        values = model.apply(params, x), complex_wire(model, joined(params), x)
        return values, joined(real), jax.tree.map(jnp.conj, other)

    (real, other), real_gradient, complex_gradient = both(params)
    np.testing.assert_allclose(real, other, **EXACT)
    assert float(jnp.abs(real).max()) > 0.1
    for found, expected in zip(
        *map(jax.tree.leaves, (real_gradient, complex_gradient)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_adam_treats_real_and_imaginary_parts_apart(x64):
    """As PyTorch does: two second moments. The two first steps by hand."""
    model = Wire(in_dim=1, out_dim=1, width=2, depth=2, omega0=3.0, sigma0=1.0)
    params, x = params_like(model, scale=0.5), jnp.asarray(points(5, 1))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum((model.apply(p, x) - 1) ** 2)))
    adam, start = optax.adam(0.1), params
    state, held = adam.init(params), []
    for _ in range(2):
        held.append(gradient(params))
        updates, state = adam.update(held[-1], state)
        params = optax.apply_updates(params, updates)
    for now, before, g1, g2 in zip(*map(jax.tree.leaves, (params, start, *held)), strict=True):
        first = before - 0.1 * g1 / (np.abs(g1) + 1e-8)
        m = (0.1 * 0.9 * g1 + 0.1 * g2) / (1 - 0.9**2)
        v = (0.001 * 0.999 * g1**2 + 0.001 * g2**2) / (1 - 0.999**2)
        np.testing.assert_allclose(now, first - 0.1 * m / (np.sqrt(v) + 1e-8), rtol=1e-9)
    assert not any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(params))


# KAN ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_b_splines_are_a_partition_of_unity(order, x64):
    """Non-negative, each on order + 1 intervals, of sum 1 between the inner knots."""
    knots = np.array([[-1.0, -0.5, 0.2, 1.0], [0.0, 0.1, 2.0, 3.0]])
    x = np.random.default_rng(0).uniform(knots[:, 0], knots[:, -1], (200, 2))
    basis = np.stack(jax.jit(lambda x: b_splines(x, extend_knots(knots, order), order))(x), axis=-1)
    assert basis.shape == (200, 2, 3 + order)
    np.testing.assert_allclose(basis.sum(-1), 1, rtol=1e-12)
    assert basis.min() >= 0
    assert np.count_nonzero(basis, axis=-1).max() == order + 1


@pytest.mark.parametrize("order", [1, 3, 4])
@pytest.mark.parametrize(("intervals", "noise", "limit"), [(5, None, 0.03), (2, 0.8, 0.2)])
def test_a_kan_starts_as_pykan_does(order, intervals, noise, limit, x64):
    """Values at the knots U(+-noise / (2 G)), 0.3 by default, of the least coefficients; weights of
    the base U(+-1/sqrt(i)) and of the spline 1/sqrt(i)."""
    model = KAN(in_dim=9, out_dim=70, width=64, intervals=intervals, order=order, noise=noise)
    params = model.init(jax.random.key(4))
    for layer, i in enumerate((9, 64)):
        own = params[f"layer_{layer}"]
        values, least = splines_at_knots(model, params, layer)
        np.testing.assert_allclose(own["coefficients"], least, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(own["spline_weight"], i**-0.5)
        for drawn, half_width in ((values, limit), (own["base_weight"], i**-0.5)):
            drawn = np.ravel(drawn) / half_width
            assert np.abs(drawn).max() <= 1 + 1e-12
            assert kstest(drawn, "uniform", (-1, 2)).pvalue > 1e-3


def test_a_kan_of_given_knots_starts_with_the_least_coefficients_on_them(x64):
    knots = (((-1.0, 0.5, 0.7), (0.0, 1.0, 3.0)), ((-2.0, 0.0, 1.0),) * 40)
    model = KAN(in_dim=2, out_dim=30, width=40, intervals=2, noise=4.0, knots=knots)
    params = model.init(jax.random.key(5))
    for layer in range(2):
        values, least = splines_at_knots(model, params, layer)
        np.testing.assert_allclose(
            params[f"layer_{layer}"]["coefficients"], least, rtol=1e-9, atol=1e-12
        )
        assert kstest(values.ravel(), "uniform", (-1, 2)).pvalue > 1e-3


def kan_and_data(n=400):
    model = KAN(in_dim=2, out_dim=2, width=3, intervals=4)
    x = np.random.default_rng(2).uniform((-0.5, 0.2), (0.4, 0.9), (n, 2))
    return model, jax.tree.map(jnp.asarray, params_like(model)), x


def test_update_grid_moves_the_knots_to_the_data_and_keeps_the_function(x64):
    model, params, x = kan_and_data()
    before = apply(model, params, x)
    moved, fitted = model.update_grid(params, x)
    assert moved.intervals == model.intervals
    assert hash(moved) == hash(dataclasses.replace(moved))
    hidden = np.asarray(jax.jit(lambda x: model.layers(params, x)[0](x))(x))
    for knots, inputs in zip(moved.knots, (x, hidden), strict=True):
        knots = np.array(knots)
        np.testing.assert_allclose(knots[:, 0], inputs.min(axis=0), rtol=1e-6)
        np.testing.assert_allclose(knots[:, -1], inputs.max(axis=0), rtol=1e-6)
        # .98 of the quantiles and .02 of equal spacing
        shares = np.linspace(0, 1, 5)
        even = inputs.min(axis=0) + np.ptp(inputs, axis=0) * shares[:, None]
        expected = 0.98 * np.quantile(inputs, shares, axis=0) + 0.02 * even
        np.testing.assert_allclose(knots.T, expected, rtol=1e-6, atol=1e-9)
    scale = np.std(before)
    worst = np.abs(apply(moved, fitted, x) - before).max()
    finer, refitted = model.update_grid(params, x, intervals=24)
    assert finer.intervals == 24
    assert finer.parameter_count == sum(leaf.size for leaf in jax.tree.leaves(refitted))
    better = np.abs(apply(finer, refitted, x) - before).max()
    assert worst < 0.05 * scale
    assert better < 0.1 * worst
    np.testing.assert_allclose(apply(finer, refitted, x), oracle(finer, refitted, x), rtol=1e-9)


def test_update_grid_keeps_what_it_does_not_fit(x64):
    """Base and spline weights; and equal coefficients, whose spline is constant on any knots."""
    model, params, x = kan_and_data()
    _, fitted = model.update_grid(params, x, uniform=1.0)
    for layer, name in (("layer_0", "base_weight"), ("layer_1", "spline_weight")):
        np.testing.assert_array_equal(fitted[layer][name], params[layer][name])
    flat = jax.tree.map(jnp.ones_like, params)
    _, fitted = model.update_grid(flat, x)
    np.testing.assert_allclose(fitted["layer_0"]["coefficients"], 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:6], r"x: expected shape \(n, 2\) with 7 points or more, got \(6, 2\)"),
        (lambda x: x[0], r"x: expected shape \(n, 2\) with 7 points or more, got \(2,\)"),
        (lambda x: x[:, :1], r"x: expected shape \(..., 2\), got \(400, 1\)"),
        (lambda x: x * [1, 0], r"x: input 1 of layer 0 is constant"),
    ],
)
def test_update_grid_names_unusable_points(change, message):
    model, params, x = kan_and_data()
    with pytest.raises(InputError, match=message):
        model.update_grid(params, change(x))


EVEN = ((0.0, 1.0, 2.0),)


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        ((EVEN,), r"knots: expected 3 for each of \[1, 2\] inputs of the layers, got \[\[3\]\]"),
        ((EVEN, EVEN), r"knots: expected 3 for each of \[1, 2\] inputs of the layers, got"),
        ((EVEN, (*EVEN, (0.0, 1.0))), r"knots: expected 3 for each of"),
        (
            (EVEN, (*EVEN, (0.0, 2.0, 1.0))),
            r"knots: expected finite, increasing numbers, got \[0.0, 2.0",
        ),
        ((EVEN, (*EVEN, (0.0, 1.0, 1.0))), r"knots: expected finite, increasing numbers"),
        ((EVEN, (*EVEN, (0.0, 1.0, math.nan))), r"knots: expected finite, increasing numbers"),
    ],
)
def test_impossible_knots_are_named(knots, message):
    with pytest.raises(InputError, match=message):
        KAN(in_dim=1, out_dim=1, width=2, intervals=2, knots=knots)


# Grids and separated representations -------------------------------------------------------------


def nodes(*counts):
    """All nodes of a grid on [-1, 1]^d, (prod of counts, d)."""
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in counts), indexing="ij")
    return np.stack(axes, axis=-1)


@pytest.mark.parametrize("counts", [(2,), (5,), (4, 3), (2, 3, 4)])
def test_a_grid_holds_its_values_and_every_multilinear_function(counts, x64):
    """At its nodes what it is told; between them a multilinear function, with its derivative."""
    d = len(counts)
    model = Grid(in_dim=d, out_dim=2, resolution=counts)
    anything = params_like(model)
    np.testing.assert_allclose(
        apply(model, anything, nodes(*counts)), anything["values"], rtol=1e-12, atol=1e-12
    )

    def multilinear(x):
        a, b = (x * (1 + np.arange(d)) + 2).prod(-1), (x - 3).prod(-1)
        return np.stack([a, b + 1], axis=-1)

    params, x = {"values": multilinear(nodes(*counts))}, points(20, d)
    np.testing.assert_allclose(apply(model, params, x), multilinear(x), **EXACT)
    beyond = x * 3
    inside = np.clip(beyond, -1, 1)
    np.testing.assert_allclose(apply(model, params, beyond), multilinear(inside), **EXACT)


def test_cp_and_tucker_hold_low_rank_functions(x64):
    """sum_l prod_a f_{a,l}(x_a) with linear f at and between nodes, whatever their number."""
    rng = np.random.default_rng(4)
    counts, rank, out = (4, 2, 5), 3, 2
    slope, offset = rng.uniform(-1, 1, (2, 3, rank))
    factors = {
        f"factor_{a}": np.linspace(-1, 1, counts[a])[:, None] * slope[a] + offset[a]
        for a in range(3)
    }
    weight, bias = rng.uniform(-1, 1, (rank, out)), rng.uniform(-1, 1, out)
    cp = CPTensor(in_dim=3, out_dim=out, rank=rank, resolution=counts)
    for x in (points(30, 3), nodes(*counts)):
        terms = np.prod(x[..., None] * slope + offset, axis=-2)
        found = apply(cp, factors | {"head": {"weight": weight, "bias": bias}}, x)
        np.testing.assert_allclose(found, terms @ weight + bias, **EXACT)
        core = np.zeros((rank, rank, rank, out))
        for term in range(rank):
            core[term, term, term] = weight[term]
        tucker = TuckerTensor(in_dim=3, out_dim=out, rank=rank, resolution=counts)
        found = apply(tucker, factors | {"core": core}, x)
        np.testing.assert_allclose(found, terms @ weight, **EXACT)


def test_a_full_tucker_tensor_is_a_grid(x64):
    """With identities for factors the core is the grid's values."""
    counts = (3, 4)
    tucker = TuckerTensor(in_dim=2, out_dim=2, rank=counts, resolution=counts)
    params, x = params_like(tucker), points(20, 2)
    factors = {f"factor_{a}": np.eye(count) for a, count in enumerate(counts)}
    model = Grid(in_dim=2, out_dim=2, resolution=counts)
    expected = interpolated(model, {"values": params["core"]}, x)
    np.testing.assert_allclose(apply(tucker, params | factors, x), expected, **EXACT)


@pytest.mark.parametrize("counts", [(5,), (4, 3), (2, 4, 3)])
def test_spinn_on_a_mesh_is_spinn_at_its_points(counts, x64):
    model = Spinn(in_dim=len(counts), out_dim=2, rank=3, width=4)
    params = params_like(model)
    axes = [np.sort(points(count, 1, seed=a)[:, 0]) for a, count in enumerate(counts)]
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    found = jax.jit(model.apply_grid)(params, axes)
    assert found.shape == (*counts, 2)
    np.testing.assert_allclose(found, apply(model, params, mesh), **EXACT)
    with pytest.raises(InputError, match=rf"axes: expected {len(counts)} of them, got 4"):
        model.apply_grid(params, [np.zeros(2)] * 4)


@pytest.mark.parametrize("kind", [Siren, Finer, Wire, Wire2D])
def test_one_omega0_is_that_of_every_layer_and_of_the_first_unless_it_has_its_own(kind, x64):
    """To the bit; and the first layer's alone moves with it: a net of one layer has that one."""
    fields = {"in_dim": 2, "out_dim": 3, "width": 4, "depth": 2}
    plain, x = kind(**fields, omega0=3.0), points(7, 2)
    params = params_like(plain, scale=0.5)
    same = kind(**fields, omega0=3.0, first_omega0=3.0)
    np.testing.assert_array_equal(apply(plain, params, x), apply(same, params, x))
    np.testing.assert_equal(plain.plan(), kind(**fields, omega0=3.0, first_omega0=9.0).plan())
    shallow = fields | {"depth": 1}
    params = params_like(kind(**shallow), scale=0.5)
    own = apply(kind(**shallow, omega0=8.0, first_omega0=3.0), params, x)
    np.testing.assert_array_equal(own, apply(kind(**shallow, omega0=3.0), params, x))
    for bad in (0.0, -1.0, math.inf, "fast"):
        with pytest.raises(InputError, match=r"^first_omega0: expected a finite number"):
            kind(**fields, first_omega0=bad)


# What an LRNN holds ------------------------------------------------------------------------------

SMALL = {"in_dim": 2, "out_dim": 3, "width": 5}
AS_LRNN = {
    "tanh": MLP(**SMALL),
    "relu": MLP(**SMALL, activation="relu", depth=1),
    "siren": Siren(**SMALL, depth=2),
    "siren-first": Siren(**SMALL, depth=2, omega0=4.0, first_omega0=11.0),
    "spder": Spder(**SMALL, depth=2),
    "spder-sound": Spder(**SMALL, depth=1, activation="sin_arctan", omega0=7.0),
}


@pytest.mark.parametrize("model", AS_LRNN.values(), ids=AS_LRNN.keys())
def test_an_mlp_is_an_lrnn_of_one_component(model, x64):
    params, x = params_like(model, scale=0.3), points(9, 2)
    lrnn, same = lrnn_from_mlp(model, jax.tree.map(jnp.asarray, params))
    assert (lrnn.depth, lrnn.components, lrnn.ranks[0]) == (model.depth, 1, model.width)
    # the difference is rounding: 1 + (sigma - 1), amplified by omega0 in the next layer
    expected = oracle(model, params, x)
    np.testing.assert_allclose(apply(lrnn, same, x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("counts", [(5, 5), (6, 2), (2, 7, 3)])
def test_a_cp_tensor_is_a_shallow_lrnn(counts, x64):
    model = CPTensor(in_dim=len(counts), out_dim=2, rank=3, resolution=counts)
    params, x = params_like(model), points(40, len(counts))
    lrnn, same = lrnn_from_cp(model, jax.tree.map(jnp.asarray, params))
    assert lrnn.hidden == max(counts) - 1
    assert (lrnn.depth, lrnn.components) == (1, len(counts))
    for at in (x, nodes(*counts).reshape(-1, len(counts))):
        np.testing.assert_allclose(apply(lrnn, same, at), oracle(model, params, at), **EXACT)


@pytest.mark.parametrize(
    ("convert", "kinds"),
    [(lrnn_from_mlp, "an MLP, a Siren or a Spder"), (lrnn_from_cp, "a CPTensor")],
)
def test_what_is_no_special_case_is_named(convert, kinds):
    with pytest.raises(InputError, match=rf"^model: expected {kinds}, got Gauss$"):
        convert(Gauss(**SMALL), {})


# Derivatives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale_gradient", [True, False])
def test_finers_scale_is_held_constant_in_the_derivative_if_asked(scale_gradient, x64):
    """d sin(w (|z| + 1) z) / dz is cos(...) w (2 |z| + 1), or cos(...) w (|z| + 1) if it is."""
    model = Finer(in_dim=1, out_dim=1, width=1, depth=1, omega0=3.0, scale_gradient=scale_gradient)
    one, zero = jnp.ones((1, 1)), jnp.zeros(1)
    params = {name: {"weight": one, "bias": zero} for name in ("layer_0", "head")}
    z = np.linspace(-2, 2, 21)
    slope = jax.jit(jax.vmap(jax.grad(lambda z: model.apply(params, z[None])[0])))(z)
    factor = 2 * np.abs(z) + 1 if scale_gradient else np.abs(z) + 1
    expected = np.cos(3 * (np.abs(z) + 1) * z) * 3 * factor
    np.testing.assert_allclose(slope, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        apply(model, params, z[:, None])[:, 0], np.sin(3 * (np.abs(z) + 1) * z), **EXACT
    )


SMOOTHNESS = [
    *((kind(**smallest(kind)), 0) for kind in (NestNet, NestedActivation, ReluPE, FFN)),
    *((kind(**smallest(kind)), 0) for kind in (Grid, CPTensor, TuckerTensor)),
    *((kind(**COLOUR, activation="relu"), 0) for kind in (MLP, LRNN, Spinn)),
    *((kind(**COLOUR), 1) for kind in (LRNN, Spder, Finer)),
    *((KAN(**COLOUR, order=order), order - 1) for order in (1, 2, 3, 5)),
    *((kind(**COLOUR), math.inf) for kind in (Siren, Gauss, MLP, Wire, Wire2D, Spinn)),
    *((kind(**COLOUR), math.inf) for kind in (FourierNet, GaborNet, ChebyKAN)),
    (Spder(**COLOUR, activation="sin_arctan"), math.inf),
    (LRNNLayer(in_dim=2, rank=3), math.inf),
    (LRNNLayer(in_dim=2, rank=3, activation="spder"), 1),
]


@pytest.mark.parametrize(("model", "order"), SMOOTHNESS, ids=lambda value: str(value)[:40])
def test_smoothness(model, order):
    assert model.smoothness == order


# Mistakes ----------------------------------------------------------------------------------------

OPTIONAL = {"gamma", "first_bias"}  # floats that may be None
LEAST = {("NestNet", "frequencies"): 0, ("FFN", "seed"): 0, ("NestedActivation", "height"): 2}
LEAST |= {(kind.__name__, "resolution"): 2 for kind in (Grid, CPTensor, TuckerTensor)}


def impossible():
    """Every number and every choice among the fields of every model, with what it cannot be."""
    for kind in KINDS:
        for name, hint in typing.get_type_hints(kind).items():
            if name not in {field.name for field in dataclasses.fields(kind)}:
                continue
            least = LEAST.get((kind.__name__, name), 1)
            if hint is int or name in ("rank", "resolution"):
                for value in (least - 1, -7, 2.5, "2", True, None):
                    yield kind, name, value, f"expected an integer >= {least}"
            elif hint is float or name in OPTIONAL:
                for value in (0, -1.5, math.nan, math.inf, "1"):
                    yield kind, name, value, "expected a finite number > 0"
            elif typing.get_origin(hint) is typing.Literal:
                choices = ", ".join(repr(choice) for choice in typing.get_args(hint))
                for value in ("no such", 1, None):
                    yield kind, name, value, f"expected one of {choices}"


CASES = list(impossible())


@pytest.mark.parametrize("kind", KINDS)
def test_impossible_fields_are_named_with_what_would_be_right(kind):
    own = [case[1:] for case in CASES if case[0] is kind]
    assert own
    for name, value, expected in own:
        with pytest.raises(InputError) as error:
            kind(**smallest(kind) | {name: value})
        assert str(error.value) == f"{name}: {expected}, got {value!r}"


NESTED = [(NestNet, {"width": 4}), (NestedActivation, {"width": 4})]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (LRNN, {"rank": (4, 4, 4)}, "rank: expected one rank or 2 of them (depth), got 3"),
        (LRNN, {"rank": ()}, "rank: expected an integer >= 1, got ()"),
        (LRNN, {"rank": (4, 0)}, "rank: expected an integer >= 1, got (4, 0)"),
        (LRNN, {"activation": "sine"}, "activation: unknown name 'sine'; did you mean 'sin'?"),
        (Spder, {"activation": "tan"}, "activation: unknown name 'tan'"),
        (MLP, {"activation": "tan"}, "activation: unknown name 'tan'; did you mean 'tanh'?"),
        (Spinn, {"activation": "tan"}, "activation: unknown name 'tan'; did you mean 'tanh'?"),
        (LRNNLayer, {"activation": "spider"}, "activation: unknown name 'spider'"),
        (Grid, {"resolution": (4, 4, 4)}, "resolution: expected one number or 2 of them (in_dim)"),
        (CPTensor, {"resolution": (4,)}, "resolution: expected one number or 2 of them (in_dim)"),
        (TuckerTensor, {"rank": (4,)}, "rank: expected one number or 2 of them (in_dim), got 1"),
        (TuckerTensor, {"resolution": (4, 1)}, "resolution: expected an integer >= 2, got (4, 1)"),
        *(
            (kind, width | fields, message)
            for kind, width in NESTED
            for fields, message in (
                ({"groups": 5}, "groups: expected 1 to 4, the nested neurons of a layer, got 5"),
                ({"groups": 3, "fraction": 0.5}, "groups: expected 1 to 2, the nested neurons"),
                ({"fraction": 1.5}, "fraction: expected a share in (0, 1]"),
                ({"fraction": 0.01}, "fraction: expected a share in (0, 1] that is a neuron or"),
                ({"sub_width": 2}, "sub_width: the prescribed start has 3 units or more: expected"),
                (
                    {"height": 10},
                    "height: expected (sub_width sub_depth)^(height - 1) <= 6561, the terms",
                ),
            )
        ),
    ],
)
def test_other_impossible_fields_are_named(kind, fields, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}") as error:
        kind(**smallest(kind) | fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_and_positional_fields_are_refused(kind):
    with pytest.raises(InputError, match="no_such"):
        kind(**smallest(kind), no_such=1)
    with pytest.raises(InputError, match="given by name"):
        kind(2, 3)


# Arguments that are not what they should be ------------------------------------------------------


@pytest.mark.parametrize("kind", [ReluPE, FFN, KAN, Siren])
def test_integer_points_are_points(kind):
    model = kind(in_dim=2, out_dim=1, width=4)
    params = model.init(jax.random.key(0))
    whole = np.array([[1, 0], [-1, 1]])
    np.testing.assert_array_equal(model.apply(params, whole), model.apply(params, 1.0 * whole))


def test_the_mesh_of_a_spinn_has_the_dtype_of_its_parameters_and_refuses_others():
    model = Spinn(in_dim=2, out_dim=1, rank=2, width=3)
    params = model.init(jax.random.key(0))
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    axes = [jnp.zeros(2, jnp.bfloat16)] * 2
    assert model.apply_grid(narrow, axes).dtype == jnp.bfloat16
    with pytest.raises(InputError, match="head/bias is missing"):
        model.apply_grid({}, axes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"intervals": 0}, "intervals: expected an integer >= 1, got 0"),
        ({"intervals": 2.5}, "intervals: expected an integer >= 1, got 2.5"),
        ({"uniform": 2.0}, r"uniform: expected a share in \(0, 1\], got 2.0"),
        ({"uniform": 0}, r"uniform: expected a share in \(0, 1\], got 0"),
        ({"x": np.full((40, 2), np.nan)}, "x: expected finite numbers"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(arguments, message):
    model = KAN(in_dim=2, out_dim=1, width=2)
    x = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    with pytest.raises(InputError, match=f"^{message}"):
        model.update_grid(model.init(jax.random.key(0)), **({"x": x} | arguments))


def test_data_with_ties_have_a_grid():
    model = KAN(in_dim=1, out_dim=1, width=2)
    x = np.repeat([[-1.0], [0.0], [1.0]], 20, axis=0)
    moved, params = model.update_grid(model.init(jax.random.key(0)), x)
    assert jnp.isfinite(moved.apply(params, x)).all()


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (NestNet, {"fraction": 1.05}, r"fraction: expected a share in \(0, 1\]"),
        (NestNet, {"raw": "no"}, "raw: expected True or False, got 'no'"),
        (Finer, {"scale_gradient": 0}, "scale_gradient: expected True or False, got 0"),
        (LRNN, {"norm_last": 1}, "norm_last: expected True or False, got 1"),
        (KAN, {"width": 1, "intervals": 1, "knots": (((0.0, np.inf),) * 2, ((0.0, 1.0),))}, "fini"),
        (KAN, {"width": 1, "intervals": 1, "knots": [[(0.0, 1.0)] * 2, [(0.0, 1.0)]]}, "tuples"),
        (KAN, {"width": 1, "intervals": 1, "knots": (((0.0, 1.0),) * 2, ([0.0, 1.0],))}, "tuples"),
        (KAN, {"knots": 3}, "tuples"),
        (NestNet, {"sub_width": 50, "height": 5}, "height: expected .* <= 6561, .* got 6250000"),
        (NestNet, {"fraction": True}, "fraction: expected a finite number > 0, got True"),
        (MLP, {"width": (3, 4)}, r"width: expected an integer >= 1, got \(3, 4\)"),
        (MLP, {"activation": 3}, "activation: expected a name or a function, got 3"),
    ],
)
def test_more_impossible_fields_are_named(kind, fields, message):
    with pytest.raises(InputError, match=message):
        kind(in_dim=2, out_dim=1, **fields)


@pytest.mark.parametrize("make", [lrnn_from_mlp, lrnn_from_cp])
def test_a_special_case_of_other_parameters_is_refused(make):
    model = MLP(in_dim=1, out_dim=1) if make is lrnn_from_mlp else CPTensor(in_dim=1, out_dim=1)
    with pytest.raises(InputError, match="params belong to another model than this"):
        make(model, {"layer_0": jnp.zeros(1)})
    with pytest.raises(InputError, match=r"model: expected .*, got Gauss"):
        make(Gauss(in_dim=1, out_dim=1), {})


@pytest.mark.parametrize("axis", [0.5, np.zeros((3, 1))])
def test_axes_of_a_mesh_are_one_dimensional(axis):
    model = Spinn(in_dim=2, out_dim=1, rank=2, width=3)
    with pytest.raises(InputError, match=r"axes: expected arrays \(m,\), got shape"):
        model.apply_grid(model.init(jax.random.key(0)), [axis, np.zeros(2)])


@pytest.mark.parametrize("factor", [0, -1.0, math.nan])
def test_a_rate_of_subnetworks_is_positive(factor):
    with pytest.raises(InputError, match="factor: expected a number > 0"):
        scale_subnetworks(factor)


@pytest.mark.parametrize("kind", [NestNet, ReluPE, FFN, KAN, LRNN, Wire])
def test_no_points_have_no_values(kind):
    model = kind(in_dim=2, out_dim=3)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.eval_shape(model.apply, params, jnp.zeros((0, 2))).shape == (0, 3)


@pytest.mark.parametrize(
    "features",
    [
        lambda x: harmonics(x, 20, 2.0),
        lambda x: positional_encoding(x, 6),
        lambda x: gaussian_features(x, 16, 10.0, 0),
    ],
)
def test_features_of_bfloat16_points_are_as_good_as_their_dtype(features):
    x = jax.random.uniform(jax.random.key(0), (200, 2), jnp.bfloat16, minval=-1, maxval=1)
    assert features(x).dtype == jnp.bfloat16
    difference = features(x).astype(jnp.float32) - features(x.astype(jnp.float32))
    assert float(jnp.abs(difference).max()) < 2**-8


@pytest.mark.parametrize(("sub_width", "height"), [(4, 3), (4, 4), (10, 2)])
def test_terms_that_fill_no_block_are_summed_too(sub_width, height, x64):
    """16, 64 and 10 ReLUs: more than one block of nine, and no multiple of it."""
    model = NestedActivation(width=3, height=height, sub_width=sub_width, sub_init="random")
    params = jax.jit(model.init)(jax.random.key(0))
    z = np.linspace(-2, 2, 15).reshape(5, 3)
    expected = [[rho(nested_of(params, 0), value) for value in row] for row in z]
    np.testing.assert_allclose(jax.jit(model.apply)(params, z), expected, rtol=1e-10)
