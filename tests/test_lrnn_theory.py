"""The theory of LRNN, stated as tests: lemmas 1 and 2, theorems 1 and 2, special cases, symmetries.

A neuron is phi(z) = prod_{j=1..d} (1 + gamma g_j(z_j)), d the model's `components`; the paper's
gamma is d^(-1/2).
"""

import dataclasses
import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles.lrnn import SIGMA
from oracles.mlp import mlp
from scipy.stats import ks_2samp

from lrnn_jax import LRNN, count_parameters, fit
from lrnn_jax.models.lrnn import component, layer

POINTS = np.array([[0.0, 0.0], [0.3, -0.7], [1.0, 1.0]], np.float32)
EXACT = {"rtol": 1e-11, "atol": 1e-12}

apply = jax.jit(LRNN.apply, static_argnums=0)


def relative_error(value, reference):
    """||value - reference|| / ||reference||."""
    return np.linalg.norm(value - reference) / np.linalg.norm(reference)


def any_params(model, seed=0):
    """Parameters in float64 none of which has the value of an initialisation."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.uniform(-1, 1, leaf.shape), shapes)


def points(n, dimension, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (n, dimension))


def edited(params, layer_name, group, **leaves):
    """`params` with some leaves of one group of a layer replaced."""
    changed = params[layer_name] | {group: params[layer_name][group] | leaves}
    return params | {layer_name: changed}


def units_of(params, layer_name):
    """The projection and the component functions of a layer."""
    return {group: params[layer_name][group] for group in ("projection", "component")}


# Lemma 1: products keep their variance at initialisation ------------------------------------------

# The default network, and a smooth one whose components vary twice as much.
AT_INIT = {
    "default": {"activation": "spder", "omega0": 30.0, "sigma_g": 0.5},
    "wide": {"activation": "sin", "omega0": 5.0, "sigma_g": 1.0},
}


class Draw(NamedTuple):
    """A model's own draw, and g and dg/dz (n, k, r) of all its components at `POINTS`."""

    model: LRNN
    units: dict
    g: np.ndarray
    slope: np.ndarray


@pytest.fixture(scope="module", params=AT_INIT.values(), ids=AT_INIT.keys())
def draw(request):
    """16,384 neurons of 64 components.

    The law of a component does not depend on their number: d of the 64 make a neuron of d.
    """
    model = LRNN(in_dim=2, out_dim=1, depth=1, rank=16384, components=64, norm="none")
    model = dataclasses.replace(model, **request.param)
    units = jax.tree.map(np.asarray, units_of(model.init(jax.random.key(1)), "layer_0"))

    def at_point(x):
        return by_z(functools.partial(all_components, model, x=x), units)

    g, slope = jax.jit(jax.vmap(at_point))(POINTS)
    return Draw(model, units, np.asarray(g, np.float64), np.asarray(slope, np.float64))


@functools.partial(jax.jit, static_argnums=0)
def all_components(model, units, x):
    """g_j(z_j) of every neuron of a flex layer at one point, shape (k, r)."""
    of_neuron = jax.vmap(functools.partial(component, model), in_axes=(-1, None), out_axes=-1)
    return jax.vmap(of_neuron, in_axes=(-1, None), out_axes=-1)(units, x)


def by_z(f, units):
    """f(units), and the derivative of its sum by every z_k = w_k . x + b_k, taken by b_k."""

    def at(bias):
        return f(units | {"projection": units["projection"] | {"bias": bias}})

    value, pull = jax.vjp(at, units["projection"]["bias"])
    return value, pull(jnp.ones_like(value))[0]


@functools.partial(jax.jit, static_argnums=0)
def neurons(model, units, points):
    """phi (n, r) and dphi/dz (n, k, r)."""
    return jax.vmap(lambda x: by_z(lambda u: layer(model, u, x, 0), units))(points)


def variances(draw, d, gamma=None):
    """At each point: sigma_g^2, sigma_g'^2, E phi, Var phi and sum_k Var dphi/dz_k."""
    model = dataclasses.replace(draw.model, components=d, gamma=gamma)
    units = jax.tree.map(lambda leaf: leaf[..., :d, :], draw.units)
    samples = [np.asarray(a, np.float64) for a in neurons(model, units, POINTS)]
    for g, slope, phi, gradient in zip(draw.g, draw.slope, *samples, strict=True):
        yield g[:d].var(), slope[:d].var(), phi.mean(), phi.var(), gradient.var(-1).sum()


@pytest.mark.parametrize("d", [1, 2, 4, 8, 16, 32, 64])
def test_lemma_1_variances_are_bounded_for_any_number_of_components(draw, d):
    """Var phi <= exp(sigma_g^2) - 1 and sum_k Var dphi/dz_k <= sigma_g'^2 exp(sigma_g^2).

    They are (1 + sigma_g^2/d)^d - 1 and sigma_g'^2 (1 + sigma_g^2/d)^(d-1), and E phi = 1.
    """
    for sigma2, slope2, mean, var, gradient_var in variances(draw, d):
        bound, gradient_bound = math.exp(sigma2) - 1, slope2 * math.exp(sigma2)
        exact, gradient_exact = (1 + sigma2 / d) ** d - 1, slope2 * (1 + sigma2 / d) ** (d - 1)
        # A product's fourth moment is finite, about exp(6 sigma_g^2) at most, so a variance over
        # 16,384 neurons has a standard error of 1 to 5 %; four times that is the tolerance.
        assert var <= 1.2 * bound
        assert gradient_var <= 1.2 * gradient_bound
        assert var == pytest.approx(exact, rel=0.2)
        assert gradient_var == pytest.approx(gradient_exact, rel=0.2)
        assert abs(mean - 1) <= 4 * math.sqrt(bound / 16384)


@pytest.mark.parametrize("d", [4, 16, 64])
def test_lemma_1_fails_without_the_scaling(draw, d):
    """With gamma = 1 the variances grow like (1 + sigma_g^2)^d: past twice the bounds at d = 4."""
    for sigma2, slope2, _, var, gradient_var in variances(draw, d, gamma=1.0):
        assert var > 2 * (math.exp(sigma2) - 1)
        assert gradient_var > 2 * slope2 * math.exp(sigma2)


# Initialisation: many units, each drawn as one alone ----------------------------------------------


@pytest.mark.parametrize(("activation", "omega0"), [("spder", 30.0), ("sin", 30.0), ("tanh", 3.0)])
@pytest.mark.parametrize("hidden", [1, 4, 16])
def test_components_have_the_stated_deviation_whatever_their_width(activation, omega0, hidden):
    """std g(0) = sigma_g: there omega0 (a z + c) is uniform on (-omega0, omega0)."""
    model = LRNN(
        in_dim=1,
        out_dim=1,
        depth=1,
        rank=4096,
        components=4,
        hidden=hidden,
        activation=activation,
        omega0=omega0,
        sigma_g=0.7,
    )
    units = units_of(model.init(jax.random.key(2)), "layer_0")
    units["projection"]["bias"] = jnp.zeros((4, 4096))
    g = np.asarray(all_components(model, units, jnp.zeros(1)))
    # 16,384 draws of kurtosis at most 6: a standard error below 1 %
    assert g.std() == pytest.approx(0.7, rel=0.04)
    assert abs(g.mean()) < 0.04 * 0.7


DEEP = LRNN(in_dim=2, out_dim=1, rank=64, components=16, hidden=2, inner_init="uniform")


def test_components_have_about_the_stated_deviation_everywhere():
    """std g is within 30 % of sigma_g at points of the domain and after a LayerNorm.

    |omega0 (z + c)| is larger than omega0 |c|, and sin sqrt|.| grows: + 22 % at the corner (1, 1).
    """
    model = dataclasses.replace(DEEP, inner_init="ones")
    params = model.init(jax.random.key(3))
    first, second = units_of(params, "layer_0"), units_of(params, "layer_1")
    through = jax.jit(functools.partial(layer, model, index=0))
    for x in POINTS:
        inner = through(params["layer_0"], x)
        for g in (all_components(model, first, x), all_components(model, second, inner)):
            assert np.std(g) == pytest.approx(model.sigma_g, rel=0.3)


@pytest.mark.parametrize("projection_init", ["siren", "fan_in"])
def test_a_unit_of_a_stack_has_the_law_of_a_unit_alone(projection_init):
    """64 neurons of 16 components are 1,024 draws of one component: limits know one unit's size."""
    stack = dataclasses.replace(DEEP, projection_init=projection_init)
    alone = dataclasses.replace(stack, depth=1, rank=1, components=1)
    keys = jax.random.split(jax.random.key(4), 1024)
    stacked_units = units_of(stack.init(jax.random.key(5)), "layer_0")
    lone_units = units_of(jax.vmap(alone.init)(keys), "layer_0")
    of_stack = np.concatenate([leaf.reshape(-1, 1024) for leaf in jax.tree.leaves(stacked_units)])
    of_one = np.concatenate([leaf.reshape(1024, -1).T for leaf in jax.tree.leaves(lone_units)])
    # the deviation of 1,024 uniform draws is known to 1.4 %
    np.testing.assert_allclose(of_stack.std(1), of_one.std(1), rtol=0.06)
    assert min(ks_2samp(a, b).pvalue for a, b in zip(of_stack, of_one, strict=True)) > 1e-3


def test_units_are_drawn_independently(draw):
    """No two components are equal, and no stretch of numbers is used twice, at any distance."""
    drawn = [leaf for leaf in jax.tree.leaves(draw.units) if np.ptp(leaf) > 0]
    components = np.concatenate([leaf.reshape(-1, 64 * 16384) for leaf in drawn])[:, :20_000]
    assert len(np.unique(components, axis=1).T) == 20_000
    numbers = np.concatenate([leaf.ravel() / leaf.std() for leaf in drawn])
    autocorrelation = np.fft.irfft(np.abs(np.fft.rfft(numbers)) ** 2) / len(numbers)
    # n independent numbers correlate by n^(-1/2) at a lag, and by 6 times that at the worst of n
    assert np.abs(autocorrelation[1:]).max() < 8 / math.sqrt(len(numbers))


def test_shared_components_differ_from_each_other():
    model = dataclasses.replace(DEEP, sharing="shared")
    params = model.init(jax.random.key(6))
    leaves = [params[name]["component"]["outer_weight"] for name in ("layer_0", "layer_1")]
    assert [leaf.shape for leaf in leaves] == [(2, 16)] * 2
    assert len(np.unique(leaves)) == 2 * 2 * 16


# Special cases: MLPs and separated representations ------------------------------------------------


def with_fixed_components(params):
    """Every g = sigma: inner weight 1, inner bias 0, outer weight 1."""
    fixed = {"inner_weight": 1.0, "inner_bias": 0.0, "outer_weight": 1.0}
    for name in params.keys() - {"head"}:
        component = params[name]["component"]
        leaves = {leaf: np.full_like(component[leaf], value) for leaf, value in fixed.items()}
        params = edited(params, name, "component", **leaves)
    return params


def as_mlp(params):
    """The MLP with sigma in place of 1 + sigma: W (1 + s) + b = W s + (b + W 1)."""
    layers = {name: params[name]["projection"] for name in sorted(params.keys() - {"head"})}
    network = {
        name: {"weight": p["weight"][:, 0], "bias": p["bias"][0]} for name, p in layers.items()
    }
    network["head"] = params["head"]
    for name in network.keys() - {"layer_0"}:
        weight, bias = network[name]["weight"], network[name]["bias"]
        network[name] = {"weight": weight, "bias": bias + weight.sum(0)}
    return network


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("sigma", ["tanh", "sin", "relu"])
def test_one_fixed_component_makes_an_mlp(sigma, depth, x64):
    """d = 1, g = sigma, gamma = 1: phi = 1 + sigma(W x + b)."""
    model = LRNN(
        in_dim=2,
        out_dim=3,
        depth=depth,
        rank=7,
        components=1,
        activation=sigma,
        omega0=1.0,
        norm="none",
    )
    params, x = with_fixed_components(any_params(model)), points(50, 2)
    np.testing.assert_allclose(
        apply(model, params, x), mlp(as_mlp(params), x, SIGMA[sigma]), **EXACT
    )


def test_axis_aligned_projections_make_a_separated_representation(x64):
    """z_j = x_j: y = sum_l s_l prod_j (1 + gamma g_j^l(x_j)), on a grid a CP tensor of rank r."""
    model = LRNN(
        in_dim=3,
        out_dim=1,
        depth=1,
        rank=2,
        components=3,
        hidden=2,
        omega0=3.0,
        norm="none",
        head_bias=False,
    )
    params = any_params(model)
    identity = np.tile(np.eye(3)[:, :, None], 2)
    params = edited(params, "layer_0", "projection", weight=identity, bias=np.zeros((3, 2)))
    g = params["layer_0"]["component"]
    axes = [np.linspace(-1, 1, n) for n in (5, 6, 7)]

    def factor(j):
        """1 + gamma g_j^l(x_j) at the grid's coordinates, (n_j, r)."""
        u = 3.0 * (g["inner_weight"][:, j] * axes[j][:, None, None] + g["inner_bias"][:, j])
        return 1 + (g["outer_weight"][:, j] * SIGMA["spder"](u)).sum(1) / math.sqrt(3)

    s = params["head"]["weight"][:, 0]
    expected = np.einsum("l,al,bl,cl->abc", s, factor(0), factor(1), factor(2))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    tensor = np.asarray(apply(model, params, grid)[..., 0])
    np.testing.assert_allclose(tensor, expected, **EXACT)
    for axis in range(3):
        unfolding = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
        assert np.linalg.matrix_rank(unfolding, tol=1e-10) == model.rank


# Laws of the network ------------------------------------------------------------------------------

SMALL = {"in_dim": 2, "out_dim": 3, "rank": (5, 6), "components": 4, "omega0": 3.0}
LAWFUL = {
    "flex": LRNN(**SMALL, hidden=2),
    "shared": LRNN(**SMALL, hidden=2, sharing="shared", outer_bias=True),
}
lawful = pytest.mark.parametrize("model", LAWFUL.values(), ids=LAWFUL.keys())
LAYERS = ("layer_0", "layer_1")


def mapped(params, layer_name, **functions):
    """`params` with a function mapped over every leaf of the named groups of one layer."""
    changed = {group: jax.tree.map(f, params[layer_name][group]) for group, f in functions.items()}
    return params | {layer_name: params[layer_name] | changed}


def component_axis(model):
    """The axis of the components in the leaves of "component"."""
    return -2 if model.sharing == "flex" else -1


@lawful
def test_a_component_that_is_zero_switches_its_factor_off(model, x64):
    """Automatic relevance determination: the factor 1 + gamma 0 = 1 might as well not be there."""
    model = dataclasses.replace(model, gamma=model.scale)
    fewer = dataclasses.replace(model, components=model.components - 1)
    params, x = any_params(model), points(20, 2)
    axis = component_axis(model)

    def silence(leaf):
        keep = np.arange(model.components) != 1
        return leaf * (keep[:, None] if axis == -2 else keep)

    silent, pruned = params, params
    for name in LAYERS:
        g = silent[name]["component"]
        outer = {leaf: silence(g[leaf]) for leaf in ("outer_weight", "outer_bias") if leaf in g}
        silent = edited(silent, name, "component", **outer)
        pruned = mapped(
            pruned,
            name,
            projection=lambda leaf: np.delete(leaf, 1, axis=-2),
            component=lambda leaf: np.delete(leaf, 1, axis=axis),
        )
    y = apply(model, silent, x)
    np.testing.assert_allclose(y, apply(fewer, pruned, x), **EXACT)
    assert relative_error(apply(model, params, x), y) > 0.05


@lawful
def test_the_order_of_components_is_immaterial(model, x64):
    params, x = any_params(model), points(20, 2)
    order = np.array([2, 0, 3, 1])
    move_projection = functools.partial(np.take, indices=order, axis=-2)
    move_component = functools.partial(np.take, indices=order, axis=component_axis(model))
    permuted = params
    for name in LAYERS:
        permuted = mapped(permuted, name, projection=move_projection, component=move_component)
    torn = mapped(params, "layer_0", projection=move_projection)
    y = apply(model, params, x)
    np.testing.assert_allclose(apply(model, permuted, x), y, **EXACT)
    assert relative_error(apply(model, torn, x), y) > 0.05


@lawful
def test_the_order_of_neurons_is_immaterial(model, x64):
    """Neurons, their LayerNorm and the weights that read them are permuted together."""
    params, x = any_params(model), points(20, 2)
    orders = np.array([3, 0, 4, 2, 1]), np.array([5, 3, 1, 0, 2, 4])
    permuted = params
    for name, order in zip(LAYERS, orders, strict=True):
        groups = ["projection", "norm"] + ["component"] * (model.sharing == "flex")
        move = functools.partial(np.take, indices=order, axis=-1)
        permuted = mapped(permuted, name, **dict.fromkeys(groups, move))
    second, head = permuted["layer_1"]["projection"]["weight"], permuted["head"]
    permuted = edited(permuted, "layer_1", "projection", weight=second[orders[0]])
    torn = permuted
    permuted = permuted | {"head": head | {"weight": head["weight"][orders[1]]}}
    y = apply(model, params, x)
    np.testing.assert_allclose(apply(model, permuted, x), y, **EXACT)
    assert relative_error(apply(model, torn, x), y) > 0.05


def test_sharing_ties_the_components_of_all_neurons(x64):
    """g_j^l = g_j for every neuron l."""
    shared = LAWFUL["shared"]
    flex = dataclasses.replace(shared, sharing="flex")
    params, x = any_params(shared), points(20, 2)
    tied = params
    for name, rank in zip(LAYERS, shared.ranks, strict=True):
        tied = mapped(tied, name, component=lambda leaf, r=rank: np.tile(leaf[..., None], r))
    np.testing.assert_allclose(apply(shared, params, x), apply(flex, tied, x), **EXACT)


VARIANTS = {
    **LAWFUL,
    "odd": LRNN(**SMALL | {"components": 7}, gamma=0.3, outer_bias=True),
    "bare": LRNN(**SMALL, norm_affine=False, norm_last=False, head_bias=False),
    "deep": LRNN(**SMALL | {"rank": (5, 6, 4)}, depth=3, norm="none", activation="sin_arctan"),
    "no-inner-bias": LRNN(**SMALL, inner_bias=False),
}


@pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_lean_form_is_the_literal_one(model, x64):
    """The batched arithmetic and the nested vmap of the formulas agree in float64."""
    params, x = any_params(model), points(20, 2)
    lean, reference = (
        apply(dataclasses.replace(model, implementation=name), params, x)
        for name in ("lean", "reference")
    )
    np.testing.assert_allclose(lean, reference, **EXACT)


# Lemma 2: a product of sines holds all sums and differences of their frequencies ------------------


def sine_neuron(frequencies):
    """One neuron of sine components, of integer frequencies along a unit line in the plane.

    Returns y(t), and the amplitude gamma v_j of each component.
    """
    model = LRNN(
        in_dim=2,
        out_dim=1,
        depth=1,
        rank=1,
        components=len(frequencies),
        activation="sin",
        norm="none",
        head_bias=False,
    )
    line, normal = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    turns = 2 * np.pi * np.array(frequencies) / model.omega0
    weight = np.outer(line, turns) + np.outer(normal, np.arange(len(frequencies)))
    params = any_params(model)
    ones = np.ones_like(params["layer_0"]["component"]["inner_weight"])
    params = edited(params, "layer_0", "projection", weight=weight[:, :, None])
    params = edited(params, "layer_0", "component", inner_weight=ones)
    params["head"] = {"weight": np.ones((1, 1))}
    amplitudes = model.scale * params["layer_0"]["component"]["outer_weight"][0, :, 0]
    return lambda t: apply(model, params, t[:, None] * line)[:, 0], amplitudes


def synthesised(frequencies, amplitudes):
    """{frequency: amplitude} of prod_j (1 + a_j sin(2 pi f_j t + p_j)), by the product formula.

    m sines make 2^(m-1) cosines, |f_1 +- f_2 .. +- f_m|, of the amplitude |prod a_j| / 2^(m-1).
    """
    lines = {0: 1.0}
    for m in range(1, len(frequencies) + 1):
        for chosen in itertools.combinations(range(len(frequencies)), m):
            first, *others = (frequencies[j] for j in chosen)
            amplitude = abs(math.prod(amplitudes[j] for j in chosen)) / 2 ** (m - 1)
            for signs in itertools.product((-1, 1), repeat=m - 1):
                signed = (sign * f for sign, f in zip(signs, others, strict=True))
                lines[abs(first + sum(signed))] = amplitude
    return lines


@pytest.mark.parametrize("frequencies", [(29,), (3, 11), (3, 11, 29), (3, 11, 29, 90)])
def test_lemma_2_a_neuron_synthesises_sums_and_differences(frequencies, x64):
    """Lines at f_j, f_i +- f_j, f_1 +- f_2 +- f_3, ..: (3^d - 1) / 2 of them and no others.

    With d = 1, the neuron of an MLP, the fundamental alone.
    """
    y, amplitudes = sine_neuron(frequencies)
    lines = synthesised(frequencies, amplitudes)
    assert len(lines) == 1 + (3 ** len(frequencies) - 1) // 2
    spectrum = np.abs(np.fft.rfft(y(np.arange(512) / 512), norm="forward"))
    spectrum[1:] *= 2
    expected = np.zeros_like(spectrum)
    expected[list(lines)] = list(lines.values())
    np.testing.assert_allclose(spectrum, expected, rtol=0, atol=1e-10 * min(lines.values()))


# Theorems 1 and 2: what can be fitted, and at what cost -------------------------------------------

SINES = LRNN(
    in_dim=2,
    out_dim=1,
    depth=1,
    rank=16,
    components=4,
    activation="sin",
    omega0=5.0,
    norm="none",
)


def test_theorem_1_error_falls_with_rank():
    """f(x, y) = sin(6 x y + y) is not separable: four times the rank at least halves the error."""

    def f(x):
        return np.sin(6 * x[:, :1] * x[:, 1:] + x[:, 1:])

    def loss(u, data, key):
        x, y = data
        return jnp.mean((u(x) - y) ** 2)

    axis = np.linspace(-1, 1, 20, dtype=np.float32)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    data = jnp.asarray(x), jnp.asarray(f(x))
    held_out = jnp.asarray(points(500, 2), jnp.float32)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-2, 400))
    seeds = jax.random.split(jax.random.key(7), (3, 5))

    def median_error(rank, keys):
        model = dataclasses.replace(SINES, rank=rank)

        @jax.vmap
        def fitted(key):
            params, _ = fit(model, loss, data, optimizer, key=key, steps=400)
            return model.apply(params, held_out)

        return np.median([relative_error(y, f(held_out)) for y in jax.jit(fitted)(keys)])

    errors = [median_error(rank, seeds[i]) for i, rank in enumerate((1, 4, 16))]
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[1] / 2
    assert errors[2] < 0.05


@pytest.mark.parametrize("d", [2, 4, 8, 16])
def test_theorem_2_at_fixed_error_the_parameters_grow_as_a_polynomial_in_d(d):
    """sum_i sin(2 x_i) + sum_i x_i x_{i+1} on [-1, 1]^d, of order m = 2, to 5 % at every d.

    Rank d, 4 d^2 + 17 d + 1 parameters, is enough: 51, 133, 393, 1,297, where a grid of three nodes
    a variable has 9, 81, 6,561 and 43 million values. Half the rank is not, from d = 4 on, so that
    the number which is needed does grow.
    """

    def additive(x):
        return jnp.sum(jnp.sin(2 * x), axis=-1, keepdims=True)

    def f(x):
        return additive(x) + jnp.sum(x[:, :-1] * x[:, 1:], axis=-1, keepdims=True)

    def loss(u, data, key):
        x = jax.random.uniform(key, (512, d), minval=-1, maxval=1)
        return jnp.mean((u(x) - f(x)) ** 2)

    x = points(4096, d).astype(np.float32)
    y = np.asarray(f(x))
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-2, 1500))

    def error(rank):
        model = dataclasses.replace(SINES, in_dim=d, rank=rank, omega0=3.0)
        params, _ = fit(model, loss, (), optimizer, key=jax.random.key(9), steps=1500)
        return relative_error(apply(model, params, x), y), count_parameters(params)

    reached, count = error(d)
    assert reached < 5e-2
    assert count == 4 * d**2 + 17 * d + 1
    if d > 2:
        assert error(d // 2)[0] > 7e-2
    # what is of order 0 or 1, or linear, does not come near
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    linear = design @ np.linalg.lstsq(design, y)[0]
    assert relative_error(y.mean(), y) > 0.9
    assert relative_error(linear, y) > 0.3
    assert relative_error(additive(x), y) > 0.25
