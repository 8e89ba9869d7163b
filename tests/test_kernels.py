"""Kernels: values against NumPy in float64, derivatives in closed form, limits."""

import itertools
import math
from fractions import Fraction

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lrnn_jax import LRNN
from lrnn_jax.kernels.activations import (
    ACTIVATIONS,
    cos,
    cospi,
    exact,
    in_half_turns,
    root_mean_square,
    sin,
    sinpi,
    spder,
)
from lrnn_jax.kernels.dense import affine, dot, layer_norm
from lrnn_jax.kernels.initializers import Constant, Uniform, initialize
from lrnn_jax.kernels.product import pairwise_product

# Range of |x|, absolute error of the float32 sine and cosine over it, as their docstring states.
SINE_ERRORS = [(1.0, 3e-7), (1e3, 3e-7), (1e4, 3e-7), (1.0001e4, 2e-7), (1e6, 2e-7), (3e38, 2e-7)]


@pytest.mark.parametrize(("width", "bound"), SINE_ERRORS)
def test_the_fast_sine_and_cosine_are_as_accurate_as_they_say(width, bound):
    """From 1e4 on they are XLA's own, which are exact to float32's rounding."""
    x = np.linspace(-width, width, 200_001).astype(np.float32)
    exact = x.astype(np.float64)
    assert np.max(np.abs(jax.jit(sin)(x) - np.sin(exact))) <= bound
    assert np.max(np.abs(jax.jit(cos)(x) - np.cos(exact))) <= bound


@pytest.mark.parametrize("width", [1.0, 30.0, 1e4, 1e7, 1e12, 3e38])
def test_half_turns_have_no_range(width):
    """Relative error of the sine 4e-7, absolute error of the cosine 2e-7, at any finite argument.

    np.remainder is exact, so that the argument is reduced to a period without rounding.
    """
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-1, 1, 200_000) * width, np.arange(-9, 10) / 2, [1e-30]])
    x = x.astype(np.float32)
    reduced = np.remainder(x.astype(np.float64), 2.0)
    reduced = np.where(reduced > 1, reduced - 2, reduced)
    sine = np.where(np.abs(reduced) == 1, 0, np.sin(np.pi * reduced))
    assert np.all(np.abs(jax.jit(sinpi)(x) - sine) <= 4e-7 * np.abs(sine))
    assert np.max(np.abs(jax.jit(cospi)(x) - np.cos(np.pi * reduced))) <= 2e-7


@pytest.mark.parametrize(("f", "g"), [(sin, cos), (sinpi, cospi)])
def test_the_fast_sine_is_odd_and_keeps_zero_and_what_is_not_finite(f, g):
    x = jnp.linspace(0.0, 50.0, 1001)
    np.testing.assert_array_equal(f(-x), -f(x))
    np.testing.assert_array_equal(g(-x), g(x))
    assert f(jnp.zeros(())) == 0
    assert g(jnp.zeros(())) == 1
    assert jnp.isnan(f(jnp.array([jnp.inf, -jnp.inf, jnp.nan]))).all()
    assert jnp.isnan(g(jnp.array([jnp.inf, -jnp.inf, jnp.nan]))).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_in_radians_other_dtypes_take_the_exact_sine(dtype):
    x = jnp.linspace(-3, 3, 101, dtype=dtype)
    assert sin(x).dtype == dtype
    np.testing.assert_array_equal(sin(x), jnp.sin(x))


def turned(x):
    """(sin, cos) of pi x in float64, x reduced to [-1/2, 1/2] in rational arithmetic."""
    sines, cosines = [], []
    for value in np.asarray(x, np.float64).ravel():
        exact = Fraction(float(value))
        n = round(exact)
        t = exact - n
        sign = -1.0 if n % 2 else 1.0
        sines.append(sign * math.sin(math.pi * float(t)))
        # sin(pi (1/2 - |t|)): relative accuracy at the zeros of the cosine
        cosines.append(sign * math.sin(math.pi * float(Fraction(1, 2) - abs(t))))
    return np.array(sines), np.array(cosines)


def half_turns_of(dtype):
    """Random points of every size that a dtype has, integers and half-integers of both parities,
    the points where floats become integers and even, and the largest."""
    info = jnp.finfo(dtype)
    rng = np.random.default_rng(11)
    exponents = rng.uniform(-6, float(np.log2(float(info.max))) - 0.1, 1500)
    edge = 2.0 ** (info.nmant + np.arange(-1, 4))[:, None]
    points = np.concatenate(
        [
            rng.choice([-1, 1], 1500) * 2.0**exponents,
            rng.uniform(-200, 200, 1500),
            np.arange(-40, 41) / 2,
            (edge * [1, 1 + float(info.eps), 1 - float(info.eps), -1 - float(info.eps)]).ravel(),
            [100.0, 1e4, float(info.max), -float(info.max), 0.0, -0.0],
        ]
    )
    return jnp.asarray(points, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_half_turns_are_reduced_exactly_in_every_dtype(dtype, x64):
    """Values, slopes and curvatures within a few roundings, at any size of the argument."""
    x = half_turns_of(jnp.dtype(dtype))
    assert jnp.isfinite(x).all()
    eps = float(jnp.finfo(x.dtype).eps)
    sine, cosine = turned(x)
    for f, value, slope in ((sinpi, sine, np.pi * cosine), (cospi, cosine, -np.pi * sine)):
        assert jax.jit(f)(x).dtype == x.dtype
        relative = eps if dtype.endswith("16") else 4e-7 if dtype == "float32" else 5e-16
        # the cosine in float32 has an absolute bound, which the narrower ones inherit
        absolute = 0.0 if f is sinpi else {"float64": 3e-16}.get(dtype, 2e-7)
        error = np.abs(np.asarray(jax.jit(f)(x), np.float64) - value)
        assert np.all(error <= relative * np.abs(value) + absolute)
        for derivative, size in ((jax.grad(f), 1), (jax.jacfwd(jax.grad(f)), 2)):
            expected = slope if size == 1 else -(np.pi**2) * value
            found = np.asarray(jax.vmap(derivative)(x), np.float64)
            np.testing.assert_allclose(
                found, expected, rtol=0, atol=np.pi**size * 4 * max(eps, 6e-17)
            )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_half_turns_of_what_is_not_finite_are_nan_and_of_integers_exact(dtype, x64):
    bad = jnp.array([jnp.inf, -jnp.inf, jnp.nan], dtype)
    assert jnp.isnan(sinpi(bad)).all()
    assert jnp.isnan(cospi(bad)).all()
    whole = jnp.arange(-130, 131).astype(dtype)
    np.testing.assert_array_equal(sinpi(whole), 0)
    np.testing.assert_array_equal(cospi(whole).astype(float), (-1.0) ** np.arange(-130, 131))
    # one more than the last float with a neighbour at distance 1 has no odd one above it
    last = 2.0 ** (jnp.finfo(jnp.dtype(dtype)).nmant + 1)
    ends = jnp.array([last - 1, last, jnp.finfo(jnp.dtype(dtype)).max], dtype)
    np.testing.assert_array_equal(cospi(ends).astype(float), [-1, 1, 1])


def test_half_turns_of_integers_and_of_complex_numbers(x64):
    np.testing.assert_array_equal(cospi(np.array([0, 1, 2, 10**6 + 1])), [1, -1, 1, -1])
    z = np.array([0.3 + 0.2j, -1.7 - 0.4j])
    np.testing.assert_allclose(sinpi(z), np.sin(np.pi * z), rtol=1e-13)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_half_turns_and_exact_forms_are_the_same_function(name, x64):
    """sigma(x) = tau(x / unit), in value and slope, and tau is compiled without a condition."""
    tau, unit = in_half_turns(name)
    x = jnp.concatenate([jnp.linspace(-50.0, 50.0, 1001), jnp.zeros(1)])
    for form in (lambda x: tau(x / unit), exact(name)):
        np.testing.assert_allclose(form(x), ACTIVATIONS[name](x), rtol=1e-12, atol=1e-12)
        slopes = [jax.vmap(jax.grad(f))(x) for f in (form, ACTIVATIONS[name])]
        np.testing.assert_allclose(*slopes, rtol=1e-11, atol=1e-11)
    assert "cond" not in str(jax.make_jaxpr(jax.grad(tau))(jnp.float32(1.0)))


def test_derivatives_of_the_fast_sine_cycle():
    """sin, cos, -sin, -cos, in forward and in reverse mode."""
    x = jnp.linspace(-40.0, 40.0, 257)
    expected = [np.cos, lambda t: -np.sin(t), lambda t: -np.cos(t)]
    for derive in (jax.grad, jax.jacfwd):
        f = sin
        for derivative in expected:
            f = derive(f)
            exact = derivative(np.asarray(x, np.float64))
            np.testing.assert_allclose(jax.vmap(f)(x), exact, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_differentiable_both_ways_in_float64(name, x64):
    x = jnp.array([-7.3, -1.1, -0.2, 0.4, 2.5, 31.0])
    order = 1 if name == "relu" else 2
    check_grads(jax.jit(ACTIVATIONS[name]), (x,), order=order, modes=("fwd", "rev"), eps=1e-6)


def test_spder_has_slope_zero_at_zero_and_the_right_slope_beside_it():
    """d/dx sin(x) sqrt|x| = cos(x) sqrt|x| + sin(x) sign(x) / (2 sqrt|x|); near 0, 3/2 sqrt|x|."""
    for derive in (jax.grad, jax.jacfwd):
        assert derive(spder)(0.0) == 0.0
        assert derive(spder)(-0.0) == 0.0
    x = np.concatenate([[1e-30, 1e-12, 1e-6, 1e-3], np.linspace(0.1, 60, 500)])
    x = np.concatenate([-x, x])
    root = np.sqrt(np.abs(x))
    exact = np.cos(x) * root + np.sin(x) * np.sign(x) / (2 * root)
    slopes = jax.vmap(jax.grad(spder))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(slopes, exact, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(slopes[:4], 1.5 * np.sqrt(np.abs(x[:4])), rtol=1e-4)


def test_autodiff_alone_has_no_slope_at_zero_and_the_second_derivative_diverges_there():
    """Near 0 the function is |x|^(3/2): its second derivative is 3/4 |x|^(-1/2)."""
    assert jnp.isnan(jax.grad(lambda x: jnp.sin(x) * jnp.sqrt(jnp.abs(x)))(0.0))
    np.testing.assert_allclose(jax.grad(jax.grad(spder))(1e-6), 750, rtol=1e-3)


def test_the_root_mean_square_of_a_sine_is_half_the_square_of_its_amplitude():
    """Over full periods E[sin^2] = 1/2."""
    assert abs(root_mean_square("sin", 10 * np.pi) - np.sqrt(0.5)) < 1e-3
    assert abs(root_mean_square(lambda u: 3 * u, 1.0) - np.sqrt(3.0)) < 1e-3


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 16])
def test_the_product_and_its_gradient(count):
    factors = 1 + 0.3 * np.random.default_rng(count).normal(size=(count, 11)).astype(np.float32)
    product = lambda f: jnp.sum(pairwise_product(list(f)))  # noqa: E731
    chex.assert_trees_all_close(
        pairwise_product(list(jnp.asarray(factors))), np.prod(factors, axis=0), rtol=1e-5
    )
    others = np.stack([np.prod(np.delete(factors, i, axis=0), axis=0) for i in range(count)])
    np.testing.assert_allclose(jax.grad(product)(jnp.asarray(factors)), others, rtol=1e-4)


@pytest.mark.parametrize("zeros", [1, 2, 3])
def test_the_gradient_of_a_product_is_right_where_factors_are_zero(zeros):
    """d prod / d f_j = prod of the others: non-zero only for the single zero factor."""
    for where in itertools.combinations(range(5), zeros):
        f = np.array([2.0, -3.0, 0.5, 7.0, -1.5])
        f[list(where)] = 0
        gradient = jax.grad(lambda f: pairwise_product(list(f)))(jnp.asarray(f, jnp.float32))
        expected = [np.prod(np.delete(f, j)) for j in range(5)]
        np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_a_product_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one factor"):
        pairwise_product([])


def test_affine_and_layer_norm_agree_with_numpy():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.normal(size=(9, 4)), rng.normal(size=(4, 6)), rng.normal(size=6)
    single = [jnp.asarray(array, jnp.float32) for array in (x, weight, bias)]
    y = x @ weight + bias
    np.testing.assert_allclose(affine(*single), y, rtol=1e-5, atol=1e-5)
    expected = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-3)
    found = layer_norm(jnp.asarray(y, jnp.float32), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_matrix_products_are_not_rounded_to_bfloat16_or_tf32():
    """On an accelerator the default precision of a float32 product is not float32."""
    arrays = jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.ones(4)
    assert "precision = [HIGHEST, HIGHEST]" in jax.jit(affine).lower(*arrays).as_text()
    with jax.default_matmul_precision("high"):
        assert "precision = [HIGH, HIGH]" in jax.jit(affine).lower(*arrays).as_text()


def test_rounded_products_have_bfloat16_operands_and_float32_sums_and_gradients():
    rng = np.random.default_rng(0)
    x, weight = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((40, 300), (300, 20)))
    to_bfloat16 = lambda a: np.asarray(a.astype(jnp.bfloat16), np.float64)  # noqa: E731
    expected = to_bfloat16(x) @ to_bfloat16(weight)
    found = jax.jit(dot, static_argnums=2)(x, weight, True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    cotangent = jnp.asarray(rng.normal(size=(40, 20)), jnp.float32)
    pull = jax.vjp(lambda x, w: dot(x, w, True), x, weight)[1]
    dx, dweight = jax.jit(pull)(cotangent)
    assert dx.dtype == dweight.dtype == jnp.float32
    rounded = to_bfloat16(cotangent)
    np.testing.assert_allclose(dx, rounded @ to_bfloat16(weight).T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dweight, to_bfloat16(x).T @ rounded, rtol=1e-4, atol=1e-4)


def test_a_plan_is_drawn_with_its_limits_and_no_number_twice():
    plan = {"a": Uniform((300, 4, 5), 0.2), "b": Constant((3,), 7.0), "c": Uniform((6000,), 3.0)}
    params = initialize(jax.random.key(0), plan)
    assert params["a"].shape == (300, 4, 5)
    np.testing.assert_array_equal(params["b"], [7.0, 7.0, 7.0])
    for name, limit in (("a", 0.2), ("c", 3.0)):
        assert jnp.abs(params[name]).max() <= limit
        # the standard deviation of U(-l, l) is l / sqrt 3; of 6,000 draws within 2 %
        np.testing.assert_allclose(params[name].std(), limit / np.sqrt(3), rtol=0.02)
        assert abs(float(params[name].mean())) < 0.05 * limit
    assert not jnp.allclose(params["a"].ravel() / 0.2, params["c"] / 3.0)


def test_curvature_at_the_origin_is_tame_at_initialisation(x64):
    """LayerNorm after zero biases divides by sqrt(epsilon), so |u_xx| would be 5e7."""
    model = LRNN(in_dim=1, out_dim=1, rank=32, components=8, activation="sin", omega0=3.0)
    x = jnp.linspace(-1, 1, 41)[:, None]

    def largest(params):
        u = lambda x: model.apply(params, x)[0]  # noqa: E731
        return jnp.max(jnp.abs(jax.vmap(jax.hessian(u))(x)))

    params = model.init(jax.random.key(0))
    assert jax.jit(largest)(params) < 1e3
    unbiased = {
        name: layer
        if name == "head"
        else layer
        | {"projection": layer["projection"] | {"bias": jnp.zeros((8, 32))}}
        | {"component": layer["component"] | {"inner_bias": jnp.zeros((1, 8, 32))}}
        for name, layer in params.items()
    }
    assert jax.jit(largest)(unbiased) > 1e6
