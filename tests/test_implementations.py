"""Every implementation of the product layer against the literal one, whose sine is XLA's own."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrnn_jax import LRNN, InputError, NestNet

FAST = ["lean", "pallas"]
SPEC = LRNN(in_dim=2, out_dim=2, depth=2, rank=7, components=5, hidden=3, activation="sin")
# Relative to the largest entry: rounding of the dtype, times some hundred operations in a row.
TOLERANCE = {"float64": 1e-10, "float32": 2e-5, "bfloat16": 0.15}
CASES = {
    "hidden 3": {},
    "hidden 1": {"hidden": 1},
    "one component": {"components": 1},
    "six components": {"components": 6},
    "shared": {"sharing": "shared"},
    "no bias": {"inner_bias": False},
    "outer bias": {"outer_bias": True},
    "spder": {"activation": "spder"},
    "sin_arctan": {"activation": "sin_arctan"},
    "tanh": {"activation": "tanh"},
    "no norm": {"norm": "none"},
}


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def setting(model, n=11, dtype="float64"):
    keys = jax.random.split(jax.random.key(0), 2)
    params = model.init(keys[0])
    x = jax.random.uniform(keys[1], (n, model.in_dim), minval=-1)
    return cast(params, dtype), x.astype(dtype)


def loss(model, params, x):
    """A scalar that sees every output."""
    return jnp.mean(jnp.sin(model.apply(params, x) + jnp.arange(model.out_dim, dtype=x.dtype)))


def value_and_gradients(model, params, x):
    run = jax.value_and_grad(functools.partial(loss, model), argnums=(0, 1))
    return jax.jit(run)(params, x)


def assert_close(found, expected, tolerance):
    found, expected = (jax.tree.leaves(tree) for tree in (found, expected))
    for ours, truth in zip(found, expected, strict=True):
        ours, truth = np.asarray(ours, np.float64), np.asarray(truth, np.float64)
        assert np.all(np.isfinite(ours))
        scale = max(np.max(np.abs(truth), initial=0), 1e-3)
        np.testing.assert_allclose(ours / scale, truth / scale, rtol=0, atol=tolerance)


def literal(model):
    return dataclasses.replace(model, implementation="reference")


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_literal_form(case, implementation, x64):
    model = dataclasses.replace(SPEC, **CASES[case], implementation=implementation)
    params, x = setting(model)
    found = value_and_gradients(model, params, x)
    assert_close(found, value_and_gradients(literal(model), params, x), TOLERANCE["float64"])


@pytest.mark.as_for_users
@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_above_32768_elements_in_every_dtype(dtype, implementation):
    """65,536 (point, neuron, component, unit) terms, against the literal form in float64.

    omega0 is 3 for float32 and 1 for bfloat16, whose arguments of the sine are off by 1 % of a
    period: what is compared is the arithmetic, not the conditioning of the network.
    """
    omega0 = {"float64": 30.0, "float32": 3.0, "bfloat16": 1.0}[dtype]
    model = LRNN(
        in_dim=3,
        out_dim=1,
        depth=1,
        rank=64,
        components=8,
        hidden=8 if dtype == "float64" else 2,
        activation="sin",
        omega0=omega0,
        norm="none",
        implementation=implementation,
    )
    with jax.enable_x64(True):
        params, x = setting(model, n=128)
        params, x = cast(cast(params, dtype), "float64"), x.astype(dtype).astype("float64")
        expected = value_and_gradients(literal(model), params, x)
        narrow = cast(params, dtype), x.astype(dtype)
    with jax.enable_x64(dtype == "float64"):
        found = value_and_gradients(model, *narrow)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
    assert_close(found, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("zeros", [1, 2, 3])
@pytest.mark.parametrize("hidden", [1, 3])
def test_zeros_among_the_factors(zeros, hidden, implementation, x64):
    """1 + gamma (v sigma + d) = 0 for v = 0 and d = -1 / gamma: the product is 0 everywhere.

    The gradient of d_j is the product of the other factors: of one zero factor it is all that
    reaches the parameters, of two or three nothing does.
    """
    model = dataclasses.replace(
        SPEC, depth=1, hidden=hidden, outer_bias=True, norm="none", implementation=implementation
    )
    params, x = setting(model)
    own = params["layer_0"]["component"]
    dead = jnp.arange(model.components) < zeros
    own["outer_weight"] = jnp.where(dead[:, None], 0, own["outer_weight"])
    own["outer_bias"] = jnp.where(dead[:, None], -1 / model.scale, own["outer_bias"])
    found = value_and_gradients(model, params, x)
    assert_close(found, value_and_gradients(literal(model), params, x), TOLERANCE["float64"])
    reached = jnp.abs(found[1][0]["layer_0"]["component"]["outer_bias"]).max(axis=-1) > 1e-6
    np.testing.assert_array_equal(reached, dead if zeros == 1 else jnp.zeros_like(dead))


@pytest.mark.parametrize("implementation", FAST)
def test_arguments_of_the_sine_up_to_1e4(implementation):
    """In float32 the argument itself is rounded by 1e4 * 2^-24 = 6e-4, a few times over."""
    model = LRNN(
        in_dim=1,
        out_dim=1,
        depth=1,
        rank=3,
        components=2,
        activation="sin",
        omega0=1e4,
        norm="none",
        implementation=implementation,
    )
    params, x = setting(model, n=200, dtype="float32")
    found = model.apply(params, x)
    with jax.enable_x64(True):
        expected = literal(model).apply(cast(params, "float64"), x.astype("float64"))
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize("implementation", FAST)
def test_under_vmap_over_parameters_and_under_checkpoint(implementation, x64):
    model = dataclasses.replace(SPEC, implementation=implementation)
    _, x = setting(model)
    population = jax.vmap(model.init)(jax.random.split(jax.random.key(3), 4))
    population = cast(population, "float64")
    run = jax.grad(functools.partial(loss, model))
    together = jax.jit(jax.vmap(run, in_axes=(0, None)))(population, x)
    alone = jax.jit(jax.vmap(jax.grad(functools.partial(loss, literal(model))), in_axes=(0, None)))
    assert_close(together, alone(population, x), TOLERANCE["float64"])
    one = jax.tree.map(lambda leaf: leaf[0], population)
    remade = jax.jit(jax.grad(jax.checkpoint(functools.partial(loss, model))))(one, x)
    assert_close(remade, jax.jit(run)(one, x), TOLERANCE["float64"])


def u_of(model, params):
    return lambda x: model.apply(params, x)[0]


FORWARD = {
    "jvp": lambda u: lambda x: jax.jvp(u, (x,), (jnp.ones_like(x),))[1],
    "jacfwd": jax.jacfwd,
    "forward over reverse": jax.hessian,
    "reverse over forward": lambda u: jax.jacrev(jax.jacfwd(u)),
    "forward over forward": lambda u: jax.jacfwd(jax.jacfwd(u)),
    "reverse over reverse": lambda u: jax.jacrev(jax.jacrev(u)),
}


@pytest.mark.parametrize("mode", FORWARD)
@pytest.mark.parametrize("hidden", [1, 3])
def test_forward_mode_and_second_derivatives(hidden, mode, x64):
    model = dataclasses.replace(SPEC, hidden=hidden, omega0=3.0, implementation="auto")
    params, x = setting(model, n=3)

    def derivative(model, params):
        return jax.jit(jax.vmap(FORWARD[mode](u_of(model, params))))(x)

    assert_close(derivative(model, params), derivative(literal(model), params), 1e-9)


def test_a_loss_of_second_derivatives_has_the_same_gradient(x64):
    """The parameters' gradient of mean (u_xx + u_yy)^2, as a PINN takes it."""
    model = dataclasses.replace(SPEC, omega0=3.0)
    params, x = setting(model, n=3)

    def residual(model, params):
        laplacian = lambda x: jnp.trace(jax.hessian(u_of(model, params))(x))  # noqa: E731
        return jnp.mean(jax.vmap(laplacian)(x) ** 2)

    found, expected = (
        jax.jit(jax.grad(functools.partial(residual, form)))(params)
        for form in (model, literal(model))
    )
    assert_close(found, expected, 1e-8)


def test_pallas_says_that_it_has_no_forward_mode():
    model = dataclasses.replace(SPEC, implementation="pallas")
    params, x = setting(model, n=2, dtype="float32")
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: model.apply(params, x), (x,), (x,))


def test_no_array_of_all_units_exists_in_the_backward_pass():
    """(n, k r h) numbers are 8 slabs here; the temporary memory of a gradient is far less."""
    model = LRNN(in_dim=2, out_dim=1, depth=1, rank=64, components=8, hidden=64)
    params, x = setting(model, n=256, dtype="float32")
    memory = {}
    for form in (model, literal(model)):
        run = jax.jit(jax.grad(functools.partial(loss, form)))
        memory[form.implementation] = (
            run.lower(params, x).compile().memory_analysis().temp_size_in_bytes
        )
    slab = 4 * 256 * 64 * 8
    assert memory["auto"] < 12 * slab
    assert memory["reference"] > 64 * slab


def test_leaves_of_different_dtypes_promote_as_in_the_literal_form():
    """Projection and points in bfloat16, component functions in float32."""
    model = dataclasses.replace(SPEC, omega0=1.0)
    params, x = setting(model, dtype="float32")
    for layer in ("layer_0", "layer_1"):
        params[layer]["projection"] = cast(params[layer]["projection"], "bfloat16")
    found = model.apply(params, x.astype("bfloat16"))
    expected = literal(model).apply(params, x.astype("bfloat16"))
    assert found.dtype == expected.dtype == jnp.float32
    assert_close(found, expected, TOLERANCE["bfloat16"])


# NestNet -----------------------------------------------------------------------------------------

NESTED = {
    "height 2": {},
    "height 3": {"height": 3},
    "125 terms, more than one pass": {"height": 4, "sub_width": 5},
    "groups that do not divide the width": {"height": 3, "groups": 3},
    "groups that do": {"height": 3, "groups": 4},
    "smooth": {"height": 3, "groups": 3, "activation": "tanh"},
    "smooth, more than one pass": {"height": 4, "sub_width": 5, "activation": "sin"},
}


@pytest.mark.parametrize("case", NESTED)
def test_nestnets_values_and_gradients_are_those_of_the_literal_form(case, x64):
    model = NestNet(in_dim=2, out_dim=2, width=8, depth=2, **NESTED[case])
    params, x = setting(model)
    reference = value_and_gradients(literal(model), params, x)
    assert_close(value_and_gradients(model, params, x), reference, TOLERANCE["float64"])
    tangents = jax.tree.map(jnp.cos, params)
    forward = [
        jax.jit(lambda p, form=form: jax.jvp(lambda p: form.apply(p, x), (p,), (tangents,))[1])
        for form in (model, literal(model))
    ]
    assert_close(forward[0](params), forward[1](params), TOLERANCE["float64"])


@pytest.mark.as_for_users
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nestnets_gradients_above_32768_elements(dtype):
    """The literal form in float64 is what both are held to; 300 x 128 arguments of activations."""
    model = NestNet(in_dim=2, out_dim=1, width=128, depth=1, height=3, frequencies=2)
    with jax.enable_x64(True):
        params, x = setting(model, n=300)
        params, x = cast(cast(params, dtype), "float64"), x.astype(dtype).astype("float64")
        expected = value_and_gradients(literal(model), params, x)[1][0]
        narrow = cast(params, dtype), x.astype(dtype)
    found = value_and_gradients(model, *narrow)[1][0]
    assert_close(found, expected, TOLERANCE[dtype])


def test_nestnets_under_vmap_over_parameters_and_under_checkpoint(x64):
    model = NestNet(in_dim=2, out_dim=2, width=6, depth=1, height=3, groups=2)
    _, x = setting(model)
    population = cast(jax.vmap(model.init)(jax.random.split(jax.random.key(3), 4)), "float64")
    run = jax.grad(jax.checkpoint(functools.partial(loss, model)))
    expected = jax.grad(functools.partial(loss, literal(model)))
    together, alone = (
        jax.jit(jax.vmap(f, in_axes=(0, None)))(population, x) for f in (run, expected)
    )
    assert_close(together, alone, TOLERANCE["float64"])


# Mixed precision ---------------------------------------------------------------------------------


def test_coordinates_are_never_rounded_to_bfloat16():
    """With eight bits, neighbouring pixels of a photograph would be one point."""
    model = dataclasses.replace(SPEC, compute_dtype="bfloat16")
    full = dataclasses.replace(model, compute_dtype="full")
    params, x = setting(model, dtype="float32")
    first = [form.layers(params, x)[0](x) for form in (model, full)]
    np.testing.assert_array_equal(*first)
    second = [form.layers(params, x)[1](first[0]) for form in (model, full)]
    assert not jnp.array_equal(*second)


def test_mixed_precision_keeps_parameters_and_gradients_in_float32():
    model = dataclasses.replace(SPEC, compute_dtype="bfloat16", omega0=3.0)
    params, x = setting(model, n=64, dtype="float32")
    mixed = value_and_gradients(model, params, x)
    full = value_and_gradients(dataclasses.replace(model, compute_dtype="full"), params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(mixed)} == {jnp.dtype("float32")}
    # eight significant bits: 2^-9 an operand, a few layers deep
    assert_close(mixed, full, 0.05)


def test_mixed_precision_of_coordinates_alone_is_refused():
    with pytest.raises(InputError, match="compute_dtype: expected 'full' with depth 1"):
        dataclasses.replace(SPEC, depth=1, compute_dtype="bfloat16")


def test_mixed_precision_is_refused_where_it_would_be_ignored():
    with pytest.raises(InputError, match="compute_dtype: 'bfloat16' needs the implementation"):
        dataclasses.replace(SPEC, compute_dtype="bfloat16", implementation="reference")
