"""Operators: closed forms, identities, methods against each other, what they refuse."""

import functools
import itertools
import re
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_model_contract import MODELS

import lrnn_jax as lj
from lrnn_jax import InputError
from lrnn_jax.operators import (
    biharmonic,
    curl,
    derivative,
    divergence,
    grad,
    jacobian,
    laplacian,
    material_derivative,
    time_derivative,
)

METHODS = ("auto", "forward", "taylor", "forward_over_reverse")  # and "hessian", their measure
# Each program is run once: what XLA would optimise costs more than it gains.
once = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)
close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)


def field(model):
    return functools.partial(model.apply, model.init(jax.random.key(0)))


def points(count, dim, seed=1):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, (count, dim)))


def relative(found, expected):
    """The largest difference, in units of the largest entry."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    difference = max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs)
    return difference / max(float(jnp.max(jnp.abs(b))) for b in jax.tree.leaves(expected))


# Derivatives against closed forms ----------------------------------------------------------------


def wave(x):
    """sin(2 x_0) x_1^3 + x_0 x_1."""
    return jnp.sin(2 * x[0]) * x[1] ** 3 + x[0] * x[1]


def test_first_derivatives_of_a_wave(x64):
    a, b = x = jnp.array([0.3, -0.7])
    slope = [2 * np.cos(2 * a) * b**3 + b, 3 * np.sin(2 * a) * b**2 + a]
    close(grad(wave)(x), slope)
    close(grad(lambda x: wave(x)[None])(x), slope)
    close(jacobian(wave)(x), slope)
    close(jacobian(lambda x: jnp.stack([wave(x), x[0], 2.0]))(x), [slope, [1, 0], [0, 0]])
    close(derivative(wave, 1)(x), slope[1])
    close(time_derivative(wave)(x), slope[1])
    close(time_derivative(wave, axis=0)(x), slope[0])


def test_higher_partial_derivatives_of_a_wave(x64):
    a, b = x = jnp.array([0.3, -0.7])
    expected = -8 * np.sin(2 * a) * 3 * b**2 / 2
    for axes in set(itertools.permutations((0, 0, 1))):
        close(derivative(wave, *axes)(x), expected)
        nested = functools.reduce(derivative, axes, wave)
        close(nested(x), expected)
    close(derivative(wave, -2, -2, -2, -1, -1)(x), -8 * np.cos(2 * a) * 6 * b)
    close(derivative(lambda x: jnp.stack([wave(x), x[1]]), 1, 1)(x), [6 * np.sin(2 * a) * b, 0])


def test_divergence_and_curl_of_polynomials(x64):
    x, y, z = p = jnp.array([0.3, -0.7, 1.1])

    def flow(p):
        x, y, z = p
        return jnp.stack([x * y * z, x**2 * z, y**3 * x])

    close(divergence(flow)(p), y * z)
    close(curl(flow)(p), [3 * y**2 * x - x**2, x * y - y**3, 2 * x * z - x * z])
    plane = lambda p: flow(p)[:2]  # noqa: E731
    close(divergence(plane, axes=(0, 1))(p), y * z)
    close(divergence(plane, axes=(2, 1))(p), x * y)
    close(curl(plane, axes=(0, 1))(p), 2 * x * z - x * z)
    close(curl(lambda p: jnp.stack([-p[1], p[0]]))(p[:2]), 2)


def test_vector_calculus_of_a_network(x64):
    u = field(lj.MLP(in_dim=3, out_dim=1, width=5, depth=1))
    v = field(lj.MLP(in_dim=3, out_dim=3, width=5, depth=1))
    identities = {
        "curl grad = 0": (curl(grad(u)), lambda x: jnp.zeros(3)),
        "div curl = 0": (divergence(curl(v)), lambda x: jnp.zeros(())),
        "div grad": (divergence(grad(u)), lambda x: laplacian(u)(x)[0]),
        "curl curl": (curl(curl(v)), lambda x: grad(divergence(v))(x) - laplacian(v)(x)),
    }

    @once
    def both_sides(x):
        return [[jax.vmap(side)(x) for side in sides] for sides in identities.values()]

    for name, (left, right) in zip(identities, both_sides(points(3, 3)), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-14, err_msg=name)


def test_the_material_derivative(x64):
    x, y, t = p = jnp.array([0.3, -0.7, 1.1])

    def u(p):
        return jnp.stack([p[0] * p[2], p[1] ** 2, p[0] * p[1] * p[2] ** 2])

    rate = jnp.stack([x, 0, 2 * x * y * t])
    by_x, by_y = jnp.stack([t, 0, y * t**2]), jnp.stack([0, 2 * y, x * t**2])
    close(material_derivative(u)(p), rate + x * t * by_x + y**2 * by_y)
    close(material_derivative(u, jnp.array([2.0, 3.0]))(p), rate + 2 * by_x + 3 * by_y)
    close(material_derivative(u, lambda p: p[1:])(p), rate + y * by_x + t * by_y)
    close(material_derivative(lambda p: u(p)[0], (2, 3))(p), (rate + 2 * by_x + 3 * by_y)[0])
    first = lambda q: u(jnp.roll(q, -1))  # time in front  # noqa: E731
    close(material_derivative(first, (2, 3), axis=0)(jnp.roll(p, 1)), rate + 2 * by_x + 3 * by_y)


def test_a_wave_that_moves_has_no_material_derivative(x64):
    moving = lambda p: jnp.sin(p[0] - 3 * p[1])  # noqa: E731
    at = points(5, 2)
    close(jax.vmap(material_derivative(moving, jnp.array([3.0])))(at), 0)


def test_operators_go_through_vmap_jit_and_grad(x64):
    at = points(4, 2)

    @jax.jit
    def slope(frequency):
        u = lambda x: jnp.sin(frequency * x[0]) * x[1]  # noqa: E731
        every = [derivative(u, 0, 0), laplacian(u), time_derivative(u), lambda x: grad(u)(x)[1]]
        return [jnp.sum(jax.vmap(operator)(at)) for operator in every]

    found = jax.jacrev(slope)(2.0)
    a, b = at.T
    second = jnp.sum((-4 * np.sin(2 * a) - 4 * a * np.cos(2 * a)) * b)
    first = jnp.sum(a * np.cos(2 * a))
    close(found, [second, second, first, first])


# The Laplacian -----------------------------------------------------------------------------------


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
    at, step = points(4, 2), 1e-4
    axes = step * jnp.eye(2)
    differences = sum(u(at + e) - 2 * u(at) + u(at - e) for e in axes) / step**2
    np.testing.assert_allclose(jax.vmap(laplacian(u))(at), differences, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", (*METHODS, "hessian"))
def test_laplacian_over_some_axes(method, x64):
    x, y, t = p = jnp.array([0.3, -0.7, 1.1])
    u = lambda p: p[0] ** 3 * p[2] + jnp.sin(2 * p[1]) + jnp.exp(p[2])  # noqa: E731
    parts = [6 * x * t, -4 * np.sin(2 * y), np.exp(t)]
    choices = [(0,), (2,), (0, 1), (-1, 0), (2, 1, 0), None]
    found = once(lambda p: [laplacian(u, axes=axes, method=method)(p) for axes in choices])(p)
    close(found, [sum(parts[axis] for axis in axes or (0, 1, 2)) for axes in choices])


@pytest.mark.parametrize("method", (*METHODS, "hessian"))
def test_biharmonic_of_waves_and_polynomials(method, x64):
    u = lambda p: jnp.sin(2 * p[0]) * jnp.cos(p[1]) + p[0] ** 2 * p[1] ** 2  # noqa: E731
    both, first = biharmonic(u, method=method), biharmonic(u, axes=(0,), method=method)
    found = once(lambda p: (both(p), first(p)))(jnp.array([0.3, -0.7]))
    part = np.sin(0.6) * np.cos(0.7)
    close(found, (25 * part + 8, 16 * part))


PDE = {"rank": 3, "components": 3, "activation": "sin", "omega0": 3.0}
SMOOTH = {
    "siren": lambda d: lj.Siren(in_dim=d, out_dim=2, width=6, depth=2, omega0=3.0),
    "mlp": lambda d: lj.MLP(in_dim=d, out_dim=1, width=6, depth=2),
    "cheby-kan": lambda d: lj.ChebyKAN(in_dim=d, out_dim=2, width=3, degree=3),
    "lrnn": lambda d: lj.LRNN(in_dim=d, out_dim=1, hidden=2, depth=1, **PDE),
    "lrnn-shared": lambda d: lj.LRNN(in_dim=d, out_dim=1, sharing="shared", norm="none", **PDE),
}


def laplacians(name, dim, *methods, gradients=True):
    """For each method, at three points, and the gradient of their mean square."""
    model, at = SMOOTH[name](dim), points(3, dim)

    def values(params):
        u = functools.partial(model.apply, params)
        return [jax.vmap(laplacian(u, method=method))(at) for method in methods]

    def losses(params):
        return [jnp.mean(value**2) for value in values(params)]

    def every(params):
        return values(params), jax.jacrev(losses)(params) if gradients else None

    return once(every)(model.init(jax.random.key(dim)))


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("name", ["siren", "lrnn-shared"])
def test_methods_agree_with_the_hessian_in_every_dimension(name, dim, x64):
    (expected, *found), _ = laplacians(name, dim, "hessian", *METHODS, gradients=False)
    for value in found:
        assert relative(value, expected) < 1e-10


@pytest.mark.parametrize("name", SMOOTH)
def test_parameter_gradients_agree_with_the_hessians(name, x64):
    values, gradients = laplacians(name, 2, "hessian", "forward")
    assert relative(values[1], values[0]) < 1e-10
    assert relative(gradients[1], gradients[0]) < 1e-8


@pytest.mark.parametrize("method", METHODS[2:])
def test_parameter_gradients_of_every_method_agree(method, x64):
    values, gradients = laplacians("mlp", 3, "hessian", method)
    assert relative(values[1], values[0]) < 1e-10
    assert relative(gradients[1], gradients[0]) < 1e-8


@pytest.mark.parametrize("name", [name for name, m in MODELS.items() if m.smoothness >= 2])
def test_methods_agree_with_the_hessian_for_every_smooth_model(name, x64):
    model = lj.KAN(in_dim=2, out_dim=1, width=2, intervals=1) if name == "kan" else MODELS[name]
    u, at = field(model), points(2, model.in_dim, seed=2)

    def every(at):
        return [jax.vmap(laplacian(u, method=m))(at) for m in ("hessian", "forward", "taylor")]

    expected, *found = once(every)(at)
    for value in found:
        assert relative(value, expected) < 1e-10


def test_a_nested_forward_laplacian_of_a_network(x64):
    u, at = field(lj.LRNN(in_dim=2, out_dim=1, hidden=2, depth=1, **PDE)), points(2, 2)
    found = once(jax.vmap(biharmonic(u)))(at)
    expected = once(jax.vmap(laplacian(laplacian(u, method="taylor"), method="taylor")))(at)
    assert relative(found, expected) < 1e-10


def test_a_derivative_by_the_points_of_a_forward_laplacian(x64):
    u, x = field(SMOOTH["siren"](2)), points(1, 2)[0]
    parts = [derivative(laplacian(u, method="hessian"), axis) for axis in (0, 1)]
    third, *expected = once(lambda x: [f(x) for f in (jacobian(laplacian(u)), *parts)])(x)
    close(third, jnp.stack(expected, axis=-1))


@pytest.mark.usefixtures("x32")
def test_the_forward_laplacian_in_float32_is_as_exact_as_the_hessian():
    model = lj.LRNN(in_dim=2, out_dim=1, **PDE | {"hidden": 4})
    u, at = field(model), points(6, 2).astype(jnp.float32)
    methods = ("forward", "hessian")
    found, expected = once(lambda x: [jax.vmap(laplacian(u, method=m))(x) for m in methods])(at)
    assert found.dtype == jnp.float32
    assert relative(found, expected) < 1e-4


# Functions of every kind -------------------------------------------------------------------------


@jax.custom_jvp
def steered(x):
    return x


# sin x in place of x: second derivatives are those of the rule, not of the function
steered.defjvp(lambda at, along: (steered(at[0]), jnp.cos(at[0]) * along[0]))


@jax.custom_jvp
def mixed(x):
    return jnp.sum(x) * x


mixed.defjvp(lambda at, along: (mixed(*at), jnp.sum(at[0]) * along[0] + at[0] * jnp.sum(along[0])))


def recurrent(x):
    def turn(carry, row):
        state, count = carry
        state = jnp.tanh(row * state + x[:2])
        return (state, count + 1), state[0] * row

    (state, count), rows = lax.scan(turn, (jnp.ones(2), 0), jnp.arange(4.0) * x[2])
    return jnp.sum(state) * count + jnp.sum(rows**2)


def masked(x):
    y = jnp.where(x > 0, jnp.sin(x), x**3)
    return jnp.concatenate([y, jnp.maximum(x, 0.1) ** 2])[jnp.array([0, 4, 2])]


def complex_valued(x):
    z = jnp.exp(1j * x[0] * x[1]) * (x[2] + 1j * x[0])
    return jnp.abs(z) ** 2 + z.imag * jnp.real(z * z)


def remembered(x):
    return jax.checkpoint(lambda x, a: jnp.sin(x @ x) * a**2)(x, x[0])


def branched(x):
    y = lax.cond(jnp.sum(x) > 0, lambda x: (x**2, 1.0), lambda x: (x**3, x[0]), x)
    return jnp.sum(y[0]) * y[1] + lax.fori_loop(0, 3, lambda i, a: a * x[1] + i, 1.0)


def sliced(x):
    y = lax.dynamic_slice(jnp.cumsum(x) ** 2, (1,), (2,)) / x[1:]
    y = y.at[0].add(x[2] * x[1]).at[1].set(x[0] ** 3)
    return jnp.outer(y, x) @ x + jnp.linalg.norm(x) * jax.nn.softplus(y)


def odd_ones(x):
    rough = jnp.floor(3 * x) * x**2 + lax.stop_gradient(x) * x**3
    return jnp.prod(x) + jnp.max(x**2) + jnp.sort(x**3)[1] + jax.nn.logsumexp(x) + rough


def elementwise(x):
    y = jax.nn.gelu(x) * jnp.arctan(x) + jnp.arctan2(x, 1 + x**2) ** jnp.exp(x / 3)
    return jax.nn.swish(y) / (1 + y**2) + lax.clamp(0.0, x, 1.0) ** 2


FUNCTIONS = {
    "a rule that is not the derivative": lambda x: steered(2 * x) * steered(x)[::-1],
    "a rule over several entries": lambda x: mixed(jnp.sin(x)) * x,
    "a loop": recurrent,
    "a choice by the point": masked,
    "complex numbers": complex_valued,
    "a checkpoint": remembered,
    "branches": branched,
    "slices and updates": sliced,
    "functions without a rule of their own": odd_ones,
    "elementwise functions": elementwise,
    "a constant": lambda x: jnp.ones(2),
    "a point": lambda x: x,
    "a power": lambda x: x[0] ** 2.5 * x[2] ** -1,
    "a jitted function in another": jax.jit(lambda x: jax.jit(jnp.sin)(x) @ jnp.cos(x)),
    "a product over matrices": lambda x: jnp.outer(x, x) @ jnp.outer(jnp.sin(x), x),
    "a half-turn sine of all": lambda x: lj.kernels.activations.sin(x * x[0]),
}


@pytest.mark.parametrize("what", FUNCTIONS)
def test_the_forward_laplacian_of(what, x64):
    u = FUNCTIONS[what]
    x = jnp.array([0.3, 0.7, 1.2])
    methods, axes = ("taylor", "forward"), (None, (2, 0))
    cases = [laplacian(u, axes=own, method=m) for m in methods for own in axes]
    cases.append(lambda x: jax.vmap(laplacian(u))(jnp.stack([x, -x, x]))[2])
    whole, some, *found = once(lambda x: [operator(x) for operator in cases])(x)
    assert found[0].shape == whole.shape
    for value, expected in zip(found, (whole, some, whole), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)


def test_a_product_is_right_where_factors_are_zero(x64):
    u = lambda x: x[0] * x[1] * x[2] ** 2 * (x[0] + x[1])  # noqa: E731
    for x in (jnp.zeros(3), jnp.array([0.0, 1.0, 0.0]), jnp.array([0.0, 2.0, 3.0])):
        expected = 2 * x[1] * x[2] ** 2 + 2 * x[0] * x[2] ** 2 + 2 * x[0] * x[1] * (x[0] + x[1])
        close(laplacian(u)(x), expected)


def test_the_forward_laplacian_of_a_flax_module(x64):
    module = nn.Sequential(
        [nn.Dense(8, param_dtype=float), nn.LayerNorm(), nn.tanh, nn.Dense(2, param_dtype=float)]
    )

    def every(at):
        u = functools.partial(module.apply, module.init(jax.random.key(0), at))
        return [jax.vmap(laplacian(u, method=m))(at) for m in ("auto", "hessian")]

    found, expected = once(every)(points(3, 3))
    assert relative(found, expected) < 1e-10


def test_a_laplacian_of_many_outputs_keeps_their_shape(x64):
    u = lambda x: jnp.outer(jnp.sin(x), x**2)  # noqa: E731
    x = jnp.array([0.3, 0.7])
    close(laplacian(u)(x), laplacian(u, method="hessian")(x))


def test_a_sum_over_hidden_units_is_one_loop_that_keeps_no_unit(x64):
    """Neither forward nor backward is there an array with points, neurons and units."""
    model = lj.LRNN(in_dim=2, out_dim=1, **PDE | {"hidden": 7, "rank": 5})
    at = points(11, 2)

    params = model.init(jax.random.key(0))

    def loss(params):
        return jnp.mean(jax.vmap(laplacian(functools.partial(model.apply, params)))(at) ** 2)

    assert str(jax.make_jaxpr(loss)(params)).count(" scan[") == model.depth
    shapes = re.findall(r"f64\[([\d,]+)\]", str(jax.make_jaxpr(jax.grad(loss))(params)))
    sizes = {shape: np.prod([int(n) for n in shape.split(",")]) for shape in set(shapes)}
    assert max(sizes.values()) < 11 * 3 * 5 * 7, sizes


# Random estimates --------------------------------------------------------------------------------


def quartic(x):
    return jnp.stack([jnp.sum(x**4) + jnp.prod(x[:3]), x[0] * x[1] * jnp.sin(x[2])])


def draws(count, **options):
    """An estimate at one point for each of so many keys."""
    x = jnp.array([0.3, -0.7, 1.1, 0.2])

    def estimate(key):
        return laplacian(quartic, key=key, **options)(x)

    return x, np.asarray(once(jax.vmap(estimate))(jax.random.split(jax.random.key(5), count)))


@pytest.mark.parametrize("axes", [None, (0, 2, 3)])
def test_all_dimensions_are_the_laplacian(axes, x64):
    x, found = draws(3, axes=axes, method="dimensions", samples=len(axes or range(4)))
    exact = once(laplacian(quartic, axes=axes))(x)
    np.testing.assert_allclose(found, np.broadcast_to(exact, (3, 2)), rtol=1e-12)


def test_sampled_dimensions_are_second_derivatives_of_different_axes(x64):
    x, found = draws(40, method="dimensions", samples=2)
    seconds = np.einsum("kii->ik", once(jax.hessian(quartic))(x))
    pairs = np.stack([2 * (a + b) for a, b in itertools.combinations(seconds, 2)])
    distance = np.abs(found[:, None] - pairs).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-10
    assert set(distance.argmin(axis=1)) == set(range(6))


def test_hutchinson_of_one_vector_is_a_second_derivative_along_signs(x64):
    x, found = draws(20, axes=(0, 2), method="hutchinson", samples=1)
    hessian = np.asarray(once(jax.hessian(quartic))(x))
    signs = [np.array([a, 0, b, 0]) for a, b in itertools.product((1.0, -1.0), repeat=2)]
    forms = np.stack([np.einsum("kij,i,j->k", hessian, s, s) for s in signs])
    distance = np.abs(found[:, None] - forms).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-10
    assert set(distance.argmin(axis=1)) == {0, 1}  # v and -v are alike
    np.testing.assert_allclose(forms.mean(axis=0), once(laplacian(quartic, axes=(0, 2)))(x))


def test_hutchinson_of_many_vectors_is_their_mean(x64):
    x, found = draws(2, method="hutchinson", samples=4000)
    hessian = np.asarray(once(jax.hessian(quartic))(x))
    off = hessian * (1 - np.eye(4))
    deviation = np.sqrt(2 * (off**2).sum(axis=(1, 2)) / 4000)  # of signs: 2 ||off-diagonal||^2
    assert np.all(np.abs(found - np.einsum("kii->k", hessian)) < 5 * deviation)
    assert np.any(found[0] != found[1])


def test_one_draw_serves_all_points(key, x64):
    x = jnp.tile(jnp.array([0.3, -0.7, 1.1]), (8, 1))
    found = once(jax.vmap(laplacian(quartic, method="hutchinson", key=key, samples=1)))(x)
    assert len(np.unique(np.asarray(found[:, 0]))) == 1


# What is warned of and refused -------------------------------------------------------------------


def test_four_derivatives_of_a_model_of_two_are_warned_of():
    with pytest.warns(UserWarning, match="KAN has 2 continuous derivatives, and 4 are taken"):
        biharmonic(field(lj.KAN(in_dim=2, out_dim=1, width=2)))


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
@pytest.mark.parametrize("operator", [laplacian, biharmonic])
def test_a_laplacian_that_misses_kinks_is_warned_of(operator, model, what):
    with pytest.warns(UserWarning, match=f"{what}.*take a model of smoothness >= [24]") as caught:
        operator(field(model))
    assert [each.filename for each in caught] == [__file__]


def test_a_bound_model_is_looked_into():
    model = lj.Grid(in_dim=2, out_dim=1, resolution=4)
    with pytest.warns(UserWarning, match="Grid has kinks"):
        laplacian(lj.BoundModel(model, model.init(jax.random.key(0))))


def test_a_jitted_field_is_looked_into():
    with pytest.warns(UserWarning, match="Grid has kinks"):
        laplacian(jax.jit(field(lj.Grid(in_dim=2, out_dim=1, resolution=4))))


def test_a_relu_mlp_has_a_laplacian_of_zero():
    u = field(lj.MLP(in_dim=2, out_dim=1, width=8, activation="relu"))
    with pytest.warns(UserWarning, match="kinks"):
        operator = laplacian(u)
    assert not operator(jnp.array([0.3, 0.4])).any()


@pytest.mark.parametrize("height", [1, 2, 3])
def test_a_nestnet_has_the_curvature_of_its_features(height, x64):
    u = field(lj.NestNet(in_dim=2, out_dim=1, width=4, depth=2, frequencies=2, height=height))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, expected = (
            once(jax.vmap(laplacian(u, method=m)))(points(3, 2)) for m in ("auto", "taylor")
        )
    assert relative(found, expected) < 1e-10


@pytest.mark.parametrize("kind", [lj.Siren, lj.Gauss, lj.Wire, lj.FourierNet, lj.MLP, lj.ChebyKAN])
def test_smooth_models_are_not_warned_of(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        laplacian(field(kind(in_dim=2, out_dim=1, width=4)))


TWO, THREE = jnp.ones(2), jnp.ones(3)


def pair(x):
    return x[:2] ** 2


REFUSED = {
    "grad: expected u of one component, got shape (2,)": lambda: grad(pair)(TWO),
    "grad: expected one point of shape (d,), got (5, 2); take many points with jax.vmap": (
        lambda: grad(wave)(jnp.ones((5, 2)))
    ),
    "grad: expected one point of shape (d,), got ()": lambda: grad(wave)(1.0),
    "grad: expected a point of floats, got int32": lambda: grad(wave)(jnp.array([1, 2], jnp.int32)),
    "jacobian: expected u of one array, got a tuple": lambda: jacobian(lambda x: (x, x))(TWO),
    "derivative: expected at least one axis": lambda: derivative(wave),
    "derivative: axis 2 is out of range for 2 coordinates": lambda: derivative(wave, 0, 2)(TWO),
    "derivative: axis -3 is out of range for 2 coordinates": lambda: derivative(wave, -3)(TWO),
    "derivative: expected axes that are integers, got 0.5": lambda: derivative(wave, 0.5)(TWO),
    "divergence: expected u of 3 components for 3 coordinates, got shape (2,)": (
        lambda: divergence(pair)(THREE)
    ),
    "divergence: expected u of 1 components for 1 coordinates, got shape (2,)": (
        lambda: divergence(pair, axes=(0,))(THREE)
    ),
    "curl: expected u of 3 components for 3 coordinates, got shape (2,)": lambda: curl(pair)(THREE),
    "curl: expected 2 or 3 coordinates, got 4": lambda: curl(pair)(jnp.ones(4)),
    "time_derivative: axis 2 is out of range for 2 coordinates": (
        lambda: time_derivative(wave, axis=2)(TWO)
    ),
    "material_derivative: expected u of at least 2 components for 2 coordinates of space, "
    "got shape (1,)": lambda: material_derivative(wave)(THREE),
    "material_derivative: expected a velocity of 2 components for 2 coordinates of space, "
    "got shape (3,)": lambda: material_derivative(wave, THREE)(THREE),
    "material_derivative: axis 3 is out of range for 3 coordinates": (
        lambda: material_derivative(wave, TWO, axis=3)(THREE)
    ),
    "laplacian: axis 2 is out of range for 2 coordinates": (
        lambda: laplacian(wave, axes=(0, 2))(TWO)
    ),
    "laplacian: expected different axes, at least one, got (0, -2)": (
        lambda: laplacian(wave, axes=(0, -2))(TWO)
    ),
    "laplacian: expected different axes, at least one, got ()": (
        lambda: laplacian(wave, axes=())(TWO)
    ),
    "laplacian: expected u of one array, got a dict": lambda: laplacian(lambda x: {"u": x})(TWO),
    "laplacian: unknown method 'hesian'; did you mean 'hessian'?": (
        lambda: laplacian(wave, method="hesian")
    ),
    "laplacian: the method 'hutchinson' needs key": (
        lambda: laplacian(wave, method="hutchinson", samples=2)
    ),
    "biharmonic: expected an exact method, got 'hutchinson'": (
        lambda: biharmonic(wave, method="hutchinson")
    ),
    "laplacian: the method 'dimensions' needs samples": (
        lambda: laplacian(wave, method="dimensions", key=jax.random.key(0))
    ),
    "laplacian: samples is for 'hutchinson' and 'dimensions'": lambda: laplacian(wave, samples=2),
    "laplacian: expected samples >= 1, got 0": (
        lambda: laplacian(wave, method="hutchinson", key=jax.random.key(0), samples=0)
    ),
    "laplacian: expected samples <= 2 axes, got 3": (
        lambda: laplacian(wave, method="dimensions", key=jax.random.key(0), samples=3)(TWO)
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_it_is_refused_in_one_line(message):
    with pytest.raises(InputError) as error:
        REFUSED[message]()
    assert str(error.value) == message
