"""The theory of LRNN, stated as tests: lemmas 1 and 2, theorems 1 and 2, special cases, symmetries.

A neuron is phi(z) = prod_{j=1..d} (1 + gamma g_j(z_j)), d the model's `components`; the paper's
gamma is d^(-1/2).
"""

import dataclasses
import functools
import itertools
import math

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


def relative_error(value, reference):
    """||value - reference|| / ||reference||."""
    return jnp.linalg.norm(value - reference) / jnp.linalg.norm(reference)


def mean_squared_error(u, data, key):
    x, y = data
    return jnp.mean((u(x) - y) ** 2)


def edited(params, layer_name, group, **leaves):
    """`params` with some leaves of one group of a layer replaced."""
    changed = params[layer_name] | {group: params[layer_name][group] | leaves}
    return params | {layer_name: changed}


# Lemma 1: products keep their variance at initialisation ------------------------------------------

# The default network, and a smooth one whose components vary twice as much.
AT_INIT = {
    "default": {"activation": "spder", "omega0": 30.0, "sigma_g": 0.5},
    "wide": {"activation": "sin", "omega0": 5.0, "sigma_g": 1.0},
}
at_init_of = pytest.mark.parametrize("fields", AT_INIT.values(), ids=AT_INIT.keys())


def all_components(model, params, x):
    """g_j(z_j) of every neuron of a flex layer at one point, shape (k, r)."""
    of_neuron = jax.vmap(functools.partial(component, model), in_axes=(-1, None), out_axes=-1)
    return jax.vmap(of_neuron, in_axes=(-1, None), out_axes=-1)(params, x)


@functools.partial(jax.jit, static_argnums=0)
def neurons_at_init(model, key, points):
    """g and dg/dz (n, k, r), phi (n, r) and dphi/dz (n, k, r) of the model's own draw.

    z_k = w_k . x + b_k, so the derivative by z_k is the one by b_k.
    """
    params = model.init(key)["layer_0"]
    params = {name: params[name] for name in ("projection", "component")}
    bias = params["projection"]["bias"]

    def at_point(x):
        def at_bias(f):
            return lambda b: f(params | {"projection": params["projection"] | {"bias": b}})

        components = at_bias(lambda p: all_components(model, p, x))
        g, slope = jax.jvp(components, (bias,), (jnp.ones_like(bias),))
        phi, pull = jax.vjp(at_bias(lambda p: layer(model, p, x, 0)), bias)
        return g, slope, phi, pull(jnp.ones_like(phi))[0]

    return jax.vmap(at_point)(points)


def variance(samples):
    """Var over the last axis, summed over any other axes, and its standard error."""
    centred = samples - samples.mean(-1, keepdims=True)
    squares = (centred**2).reshape(-1, samples.shape[-1]).sum(0)
    return squares.mean(), squares.std() / math.sqrt(len(squares))


def moments(fields, components, gamma=None):
    """Per point: sigma_g^2, sigma_g'^2, Var phi, sum_k Var dphi/dz_k (the last two with errors)."""
    model = LRNN(
        in_dim=2,
        out_dim=1,
        depth=1,
        rank=16384,
        components=components,
        norm="none",
        gamma=gamma,
        **fields,
    )
    drawn = neurons_at_init(model, jax.random.key(components), POINTS)
    for g, slope, phi, gradient in zip(*(np.asarray(a, np.float64) for a in drawn), strict=True):
        # a product of d factors is nearly log-normal: four errors of its mean are a fair band
        assert abs(phi.mean() - 1) <= 4 * phi.std() / math.sqrt(len(phi))
        yield g.var(), slope.var(), variance(phi), variance(gradient)


@at_init_of
@pytest.mark.parametrize("d", [1, 2, 4, 8, 16, 32, 64])
def test_lemma_1_variances_are_bounded_for_any_number_of_components(fields, d):
    """Var phi = (1 + sigma_g^2/d)^d - 1 <= exp(sigma_g^2) - 1, and E phi = 1.

    sum_k Var dphi/dz_k = sigma_g'^2 (1 + sigma_g^2/d)^(d-1) <= sigma_g'^2 exp(sigma_g^2).
    """
    for sigma2, slope2, (var, var_error), (grad, grad_error) in moments(fields, d):
        # The fourth moments of 16,384 products are finite, exp(6 sigma_g^2) at most, so their
        # variances are known to a standard error of 2 to 9 %; four of them are the tolerance.
        assert var <= math.exp(sigma2) - 1 + 4 * var_error
        assert grad <= slope2 * math.exp(sigma2) + 4 * grad_error
        assert abs(var - ((1 + sigma2 / d) ** d - 1)) <= 4 * var_error
        assert abs(grad - slope2 * (1 + sigma2 / d) ** (d - 1)) <= 4 * grad_error


@at_init_of
@pytest.mark.parametrize("d", [4, 8, 16])
def test_lemma_1_fails_without_the_scaling(fields, d):
    """With gamma = 1 both variances grow like (1 + sigma_g^2)^d, past twice the bounds."""
    for sigma2, slope2, (var, _), (grad, _) in moments(fields, d, gamma=1.0):
        assert var > 2 * (math.exp(sigma2) - 1)
        assert grad > 2 * slope2 * math.exp(sigma2)


# Initialisation: one component drawn, many stacked ------------------------------------------------


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
    params = model.init(jax.random.key(1))
    bias = jnp.zeros_like(params["layer_0"]["projection"]["bias"])
    at_zero = edited(params, "layer_0", "projection", bias=bias)["layer_0"]
    g = all_components(model, {k: at_zero[k] for k in ("projection", "component")}, jnp.zeros(1))
    # 16,384 draws of kurtosis at most 6: a standard error below 1 %
    assert float(g.std()) == pytest.approx(0.7, rel=0.04)
    assert abs(float(g.mean())) < 0.04 * 0.7


def test_components_have_about_the_stated_deviation_over_the_domain():
    """std g is within 20 % of sigma_g at any point and layer; sin sqrt|.| grows with |z|."""
    model = LRNN(in_dim=2, out_dim=1, depth=2, rank=512, components=16)
    params = model.init(jax.random.key(2))
    for x in POINTS:
        inner = layer(model, params["layer_0"], x, 0)
        for index, point in enumerate((x, inner)):
            units = {k: params[f"layer_{index}"][k] for k in ("projection", "component")}
            g = all_components(model, units, point)
            assert float(g.std()) == pytest.approx(model.sigma_g, rel=0.2)


def unit_draws(model, key):
    """Every scalar of every component: (scalars of one component, k, r)."""
    units = model.init(key)["layer_0"]
    leaves = (*units["projection"].values(), *units["component"].values())
    return jnp.concatenate([leaf.reshape(-1, *leaf.shape[-2:]) for leaf in leaves])


@pytest.mark.parametrize("projection_init", ["siren", "fan_in"])
def test_a_unit_of_a_stack_has_the_law_of_a_unit_alone(projection_init):
    """Initialise one, vmap many: 64 neurons of 16 components are 1,024 draws of one component."""
    model = LRNN(
        in_dim=2,
        out_dim=1,
        depth=1,
        rank=64,
        components=16,
        hidden=2,
        inner_init="uniform",
        projection_init=projection_init,
    )
    stack = unit_draws(model, jax.random.key(3)).reshape(-1, 1024)
    single = dataclasses.replace(model, rank=1, components=1)
    keys = jax.random.split(jax.random.key(4), 1024)
    alone = jax.vmap(functools.partial(unit_draws, single))(keys).reshape(1024, -1).T
    # the deviation of 1,024 uniform draws is known to 1.4 %
    np.testing.assert_allclose(stack.std(1), alone.std(1), rtol=0.06)
    assert min(ks_2samp(a, b).pvalue for a, b in zip(stack, alone, strict=True)) > 1e-3


def test_units_are_drawn_independently():
    """No two components are equal, and no two scalars of a neuron are correlated."""
    model = LRNN(in_dim=2, out_dim=1, depth=1, rank=4096, components=4, inner_init="uniform")
    draws = unit_draws(model, jax.random.key(5))
    scalars, k, r = draws.shape
    assert len(np.unique(draws.reshape(scalars, -1), axis=1).T) == k * r
    correlation = np.corrcoef(draws.reshape(scalars * k, r)) - np.eye(scalars * k)
    # the correlation of independent columns has a standard error of r^(-1/2)
    assert np.abs(correlation).max() < 5 / math.sqrt(r)


def test_shared_components_differ_from_each_other():
    model = LRNN(in_dim=2, out_dim=1, depth=2, rank=3, components=64, sharing="shared")
    params = model.init(jax.random.key(6))
    leaves = [params[f"layer_{index}"]["component"]["outer_weight"] for index in range(2)]
    assert len(np.unique(np.concatenate(leaves, axis=None))) == 2 * 64


# Special cases: MLPs and separated representations ------------------------------------------------


def with_identity_components(params, depth):
    """Every g = sigma: inner weight 1, inner bias 0, outer weight 1."""
    for index in range(depth):
        g = params[f"layer_{index}"]["component"]
        params = edited(
            params,
            f"layer_{index}",
            "component",
            inner_weight=jnp.ones_like(g["inner_weight"]),
            inner_bias=jnp.zeros_like(g["inner_bias"]),
            outer_weight=jnp.ones_like(g["outer_weight"]),
        )
    return params


def as_mlp(params, depth):
    """The MLP with sigma in place of 1 + sigma: W(1 + s) + b = W s + (b + W 1)."""
    layers = {}
    for index in range(depth):
        projection = params[f"layer_{index}"]["projection"]
        weight, bias = projection["weight"][:, 0, :], projection["bias"][0, :]
        layers[f"layer_{index}"] = {"weight": weight, "bias": bias + (index > 0) * weight.sum(0)}
    weight, bias = params["head"]["weight"], params["head"]["bias"]
    return layers | {"head": {"weight": weight, "bias": bias + weight.sum(0)}}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("sigma", ["tanh", "sin", "relu"])
def test_one_fixed_component_makes_an_mlp(sigma, depth, x64):
    """d = 1, g = sigma, gamma = 1: y = S (1 + sigma(W x + b)) + s."""
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
    params = with_identity_components(model.init(jax.random.key(7)), depth)
    x = jax.random.uniform(jax.random.key(8), (50, 2), minval=-1, maxval=1)
    expected = mlp(as_mlp(params, depth), x, SIGMA[sigma])
    np.testing.assert_allclose(model.apply(params, x), expected, **EXACT)


def test_axis_aligned_projections_make_a_separated_representation(x64):
    """z_j = x_j: y = sum_l s_l prod_j (1 + gamma g_j^l(x_j)), on a grid a CP tensor of rank r."""
    model = LRNN(
        in_dim=3, out_dim=1, depth=1, rank=2, components=3, hidden=2, norm="none", head_bias=False
    )
    params = model.init(jax.random.key(9))
    identity = jnp.broadcast_to(jnp.eye(3)[:, :, None], (3, 3, 2))
    params = edited(params, "layer_0", "projection", weight=identity, bias=jnp.zeros((3, 2)))
    axes = [np.linspace(-1, 1, n) for n in (5, 6, 7)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    a, c, v = (
        np.asarray(params["layer_0"]["component"][name])
        for name in ("inner_weight", "inner_bias", "outer_weight")
    )

    def factor(j):
        """1 + gamma g_j^l(x_j) at the grid's points, (n_j, r)."""
        u = 30 * (a[:, j] * axes[j][:, None, None] + c[:, j])
        return 1 + (v[:, j] * SIGMA["spder"](u)).sum(1) / math.sqrt(3)

    s = np.asarray(params["head"]["weight"][:, 0])
    expected = np.einsum("l,al,bl,cl->abc", s, factor(0), factor(1), factor(2))
    tensor = np.asarray(model.apply(params, grid)[..., 0])
    np.testing.assert_allclose(tensor, expected, **EXACT)
    for axis in range(3):
        unfolding = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
        assert np.linalg.matrix_rank(unfolding, tol=1e-10) == model.rank


# Laws of the network ------------------------------------------------------------------------------

LAWFUL = {
    "flex": LRNN(in_dim=2, out_dim=3, rank=(5, 6), components=4, hidden=2),
    "shared": LRNN(in_dim=2, out_dim=3, rank=(5, 6), components=4, hidden=2, sharing="shared"),
    "outer-bias": LRNN(in_dim=2, out_dim=3, rank=(5, 6), components=4, outer_bias=True),
}
lawful = pytest.mark.parametrize("model", LAWFUL.values(), ids=LAWFUL.keys())


def drawn(model):
    """Parameters none of which is a constant of the initialisation, and points."""
    params_key, noise_key, x_key = jax.random.split(jax.random.key(10), 3)
    leaves, tree = jax.tree.flatten(model.init(params_key))
    keys = jax.random.split(noise_key, len(leaves))
    noisy = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    x = jax.random.uniform(x_key, (20, model.in_dim), minval=-1, maxval=1)
    return jax.tree.unflatten(tree, noisy), x


def over_units(params, layer_name, *, projection=None, component=None, norm=None):
    """`params` with a function mapped over every leaf of the named groups of one layer."""
    groups = {"projection": projection, "component": component, "norm": norm}
    changed = {name: jax.tree.map(f, params[layer_name][name]) for name, f in groups.items() if f}
    return params | {layer_name: params[layer_name] | changed}


def component_axis(model):
    return -2 if model.sharing == "flex" else -1


@lawful
def test_a_component_that_is_zero_switches_its_factor_off(model, x64):
    """Automatic relevance determination: 1 + gamma 0 = 1, the factor is not there."""
    model = dataclasses.replace(model, gamma=model.scale)
    params, x = drawn(model)
    silent, pruned = params, params
    axis = component_axis(model)
    drop_unit = functools.partial(jnp.delete, obj=1, axis=axis)
    drop_projection = functools.partial(jnp.delete, obj=1, axis=-2)
    where = (Ellipsis, 1) + (slice(None),) * (-1 - axis)
    for name in ("layer_0", "layer_1"):
        g = params[name]["component"]
        outer = {k: g[k].at[where].set(0) for k in ("outer_weight", "outer_bias") if k in g}
        silent = edited(silent, name, "component", **outer)
        pruned = over_units(pruned, name, projection=drop_projection, component=drop_unit)
    fewer = dataclasses.replace(model, components=model.components - 1)
    np.testing.assert_allclose(model.apply(silent, x), fewer.apply(pruned, x), **EXACT)
    assert relative_error(model.apply(params, x), model.apply(silent, x)) > 0.05


@lawful
def test_the_order_of_components_is_immaterial(model, x64):
    params, x = drawn(model)
    order = jnp.array([2, 0, 3, 1])
    permuted = params
    for name in ("layer_0", "layer_1"):
        permuted = over_units(
            permuted,
            name,
            projection=lambda leaf: jnp.take(leaf, order, axis=-2),
            component=lambda leaf: jnp.take(leaf, order, axis=component_axis(model)),
        )
    np.testing.assert_allclose(model.apply(permuted, x), model.apply(params, x), **EXACT)
    halfway = over_units(params, "layer_0", projection=lambda leaf: jnp.take(leaf, order, axis=-2))
    assert relative_error(model.apply(halfway, x), model.apply(params, x)) > 0.05


@lawful
def test_the_order_of_neurons_is_immaterial(model, x64):
    """Neurons, their LayerNorm and the rows that read them are permuted together."""
    params, x = drawn(model)
    permuted = params
    for name, order in (("layer_0", jnp.array([3, 0, 4, 2, 1])), ("layer_1", jnp.arange(6)[::-1])):
        move = functools.partial(jnp.take, indices=order, axis=-1)
        own = move if model.sharing == "flex" else None
        permuted = over_units(permuted, name, projection=move, component=own, norm=move)
        if name == "layer_0":
            weight = permuted["layer_1"]["projection"]["weight"][order]
            permuted = edited(permuted, "layer_1", "projection", weight=weight)
        else:
            head = permuted["head"] | {"weight": permuted["head"]["weight"][order]}
            permuted = permuted | {"head": head}
    np.testing.assert_allclose(model.apply(permuted, x), model.apply(params, x), **EXACT)


@pytest.mark.parametrize("outer_bias", [False, True])
def test_sharing_ties_the_components_of_all_neurons(outer_bias, x64):
    """g_j^l = g_j for every neuron l."""
    shared = dataclasses.replace(LAWFUL["shared"], outer_bias=outer_bias)
    params, x = drawn(shared)
    tied = params
    for name, rank in zip(("layer_0", "layer_1"), shared.ranks, strict=True):
        spread = functools.partial(jnp.repeat, repeats=rank, axis=-1)
        tied = over_units(tied, name, component=lambda leaf, f=spread: f(leaf[..., None]))
    flex = dataclasses.replace(shared, sharing="flex")
    np.testing.assert_allclose(shared.apply(params, x), flex.apply(tied, x), **EXACT)


VARIANTS = [
    {},
    {"hidden": 1, "components": 7},
    {"inner_init": "uniform", "projection_init": "fan_in", "gamma": 0.3},
    {"norm_affine": False, "norm_last": False, "head_bias": False},
    {"norm": "none", "depth": 3, "rank": (5, 6, 4), "omega0": 2.0},
    pytest.param(
        {"inner_bias": False},
        marks=pytest.mark.xfail(raises=KeyError, strict=True, reason="univariate needs inner_bias"),
    ),
]


@lawful
@pytest.mark.parametrize("fields", VARIANTS)
def test_the_lean_form_is_the_literal_one(model, fields, x64):
    lean, reference = (
        dataclasses.replace(model, **fields, implementation=name) for name in ("lean", "reference")
    )
    params, x = drawn(lean)
    np.testing.assert_allclose(lean.apply(params, x), reference.apply(params, x), **EXACT)


# Lemma 2: a product of sines holds all sums and differences of their frequencies ------------------


def sine_neuron(frequencies):
    """One neuron of sine components that have integer frequencies along a unit line in the plane.

    Returns y(t) for t in [0, 1), and gamma v_j of each component.
    """
    model = LRNN(
        in_dim=2,
        out_dim=1,
        depth=1,
        rank=1,
        components=len(frequencies),
        activation="sin",
        norm="none",
        sigma_g=2.0,
    )
    params = model.init(jax.random.key(11))
    along, across = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    turns = 2 * np.pi * np.array(frequencies) / model.omega0
    weight = np.outer(along, turns) + np.outer(across, np.arange(len(frequencies)))
    params = edited(params, "layer_0", "projection", weight=jnp.asarray(weight)[:, :, None])
    params["head"] = {"weight": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    amplitudes = model.scale * params["layer_0"]["component"]["outer_weight"][0, :, 0]
    return lambda t: model.apply(params, t[:, None] * along)[:, 0], np.asarray(amplitudes)


def synthesised(frequencies, amplitudes):
    """{frequency: amplitude} of prod_j (1 + a_j sin(2 pi f_j t + p_j)), by the product formula.

    m sines f_1, .., f_m make the 2^(m-1) cosines |f_1 +- f_2 .. +- f_m| of prod a_j / 2^(m-1).
    """
    lines = {0: 1.0}
    for m in range(1, len(frequencies) + 1):
        for chosen in itertools.combinations(range(len(frequencies)), m):
            first, *others = (frequencies[j] for j in chosen)
            size = abs(math.prod(amplitudes[j] for j in chosen)) / 2 ** (m - 1)
            for signs in itertools.product((-1, 1), repeat=m - 1):
                combined = sum((s * f for s, f in zip(signs, others, strict=True)), first)
                lines[abs(combined)] = size
    return lines


@pytest.mark.parametrize("frequencies", [(29,), (3, 11), (3, 11, 29), (3, 11, 29, 90)])
def test_lemma_2_a_neuron_synthesises_sums_and_differences(frequencies, x64):
    """Lines at 0, f_j, f_i +- f_j, f_1 +- f_2 +- f_3, ..: (3^d - 1) / 2 beside 0, and no others.

    With d = 1, an MLP's neuron, that is the fundamental alone.
    """
    y, amplitudes = sine_neuron(frequencies)
    lines = synthesised(frequencies, amplitudes)
    assert len(lines) == 1 + (3 ** len(frequencies) - 1) // 2
    spectrum = np.abs(np.fft.rfft(np.asarray(y(jnp.arange(512) / 512)), norm="forward"))
    spectrum[1:] *= 2
    expected = np.zeros_like(spectrum)
    for frequency, amplitude in lines.items():
        expected[frequency] = amplitude
    np.testing.assert_allclose(spectrum, expected, atol=1e-10 * min(lines.values()))


# Theorems 1 and 2: what can be fitted, and at what cost -------------------------------------------


def test_theorem_1_error_falls_with_rank():
    """f(x, y) = sin(6 x y + y) is not separable: four times the rank at least halves the error."""

    def f(x):
        return jnp.sin(6 * x[:, :1] * x[:, 1:] + x[:, 1:])

    axis = jnp.linspace(-1, 1, 20)
    x = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    points_key, seeds_key = jax.random.split(jax.random.key(12))
    held_out = jax.random.uniform(points_key, (500, 2), minval=-1, maxval=1)
    seeds = jax.random.split(seeds_key, 5)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-2, 400))

    def error(rank, key):
        model = LRNN(
            in_dim=2,
            out_dim=1,
            depth=1,
            rank=rank,
            components=4,
            activation="sin",
            omega0=4.0,
            norm="none",
        )
        params, _ = fit(model, mean_squared_error, (x, f(x)), optimizer, key=key, steps=400)
        return relative_error(model.apply(params, held_out), f(held_out))

    errors = [
        float(jnp.median(jax.vmap(functools.partial(error, rank))(seeds))) for rank in (1, 4, 16)
    ]
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[1] / 2
    assert errors[2] < 0.05


def test_theorem_2_low_order_functions_need_few_parameters():
    """sum_i sin(2 x_i) + sum_i x_i x_{i+1} on [-1, 1]^8: 3e-2 with 801 parameters.

    A grid of two nodes a variable has 256 and is no better than the linear predictor.
    """

    def additive(x):
        return jnp.sum(jnp.sin(2 * x), axis=-1, keepdims=True)

    def f(x):
        return additive(x) + jnp.sum(x[:, :-1] * x[:, 1:], axis=-1, keepdims=True)

    def points(key, n):
        return jax.random.uniform(key, (n, 8), minval=-1, maxval=1)

    def loss(u, data, key):
        x = points(key, 512)
        return jnp.mean((u(x) - f(x)) ** 2)

    model = LRNN(
        in_dim=8,
        out_dim=1,
        depth=1,
        rank=32,
        components=2,
        activation="sin",
        omega0=2.0,
        norm="none",
    )
    fit_key, fresh_key = jax.random.split(jax.random.key(13))
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-2, 1000))
    params, _ = fit(model, loss, (), optimizer, key=fit_key, steps=1000)
    x = points(fresh_key, 4096)
    y = f(x)
    design = jnp.concatenate([x, jnp.ones((len(x), 1))], axis=1)
    linear = design @ jnp.linalg.lstsq(design, y)[0]
    assert count_parameters(params) == 801
    assert relative_error(model.apply(params, x), y) < 3e-2
    assert relative_error(y.mean(), y) > 0.9
    assert relative_error(linear, y) > 0.3
    assert relative_error(additive(x), y) > 0.3
