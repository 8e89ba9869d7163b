"""The form of the product layer for TPUs, computed on the CPU; what is lowered for a platform."""

import functools
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrnn_jax import LRNN, NestNet
from lrnn_jax.kernels import nested
from lrnn_jax.kernels.neurons import Neurons, streamed_neurons
from lrnn_jax.kernels.platform import traced_for
from lrnn_jax.kernels.product import pairwise_product, reduced_product
from lrnn_jax.models import lrnn
from lrnn_jax.operators.forward import forward_laplacian

# rank, components, hidden units, inputs: few inputs are projected elementwise, many by a product.
SIZES = [
    (1, 1, 1, 2),
    (1, 16, 8, 12),
    (3, 2, 1, 12),
    (3, 5, 8, 2),
    (106, 16, 1, 2),
    (106, 1, 8, 12),
    (128, 5, 1, 12),
    (128, 2, 8, 2),
    (2, 2, 17, 1),
]


def parameters(rank, components, hidden, inputs):
    draw = functools.partial(np.random.default_rng(0).normal, scale=0.5)
    units = (hidden, components, rank)
    return Neurons(
        weight=jnp.asarray(draw(size=(inputs, components, rank))),
        bias=jnp.asarray(draw(size=(components, rank))),
        slope=jnp.asarray(1 + draw(size=units)),
        shift=jnp.asarray(draw(size=units)),
        amplitude=jnp.asarray(draw(size=units)),
        base=jnp.asarray(1 + draw(size=(components, rank))),
    )


def literal(neurons, x, tau):
    """prod_k (base + sum_h amplitude_h tau(slope_h z + shift_h)) for x of shape (n, i)."""
    z = jnp.einsum("ni,ikr->nkr", x, neurons.weight) + neurons.bias
    units = neurons.amplitude * tau(neurons.slope * z[:, None] + neurons.shift)
    return jnp.prod(neurons.base + units.sum(axis=1), axis=1)


def derivatives(form, neurons, x):
    """Value, gradient, and the derivative of the gradient along a direction."""

    def loss(neurons, x):
        phi = form(neurons, x, jnp.sin)
        return jnp.mean(jnp.cos(phi + jnp.arange(phi.shape[-1]))), phi

    arguments = neurons, x
    direction = jax.tree.map(jnp.cos, arguments)
    gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
    run = jax.jit(lambda *moved: jax.jvp(lambda *a: gradient(*a), moved, direction))
    return run(*arguments)


def assert_close(found, expected, tolerance=1e-10):
    for ours, truth in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = max(float(jnp.max(jnp.abs(truth))), 1e-3)
        np.testing.assert_allclose(ours / scale, truth / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_two_derivatives_are_those_of_the_formula(size, x64):
    neurons = parameters(*size)
    x = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (3, size[-1])))
    expected = derivatives(literal, neurons, x)
    assert_close(derivatives(streamed_neurons, neurons, x), expected)


def test_one_point_and_more_axes_of_points():
    neurons = jax.tree.map(lambda leaf: leaf.astype("float32"), parameters(4, 3, 1, 2))
    x = jnp.linspace(-1, 1, 12).reshape(2, 3, 2)
    by_point = jax.vmap(jax.vmap(lambda x: streamed_neurons(neurons, x, jnp.sin)))(x)
    np.testing.assert_allclose(streamed_neurons(neurons, x, jnp.sin), by_point, rtol=1e-5)


DERIVATIVES = {
    "gradient": jax.grad,
    "Hessian": jax.hessian,
    "reverse over reverse": lambda f: jax.jacrev(jax.jacrev(f)),
    "third": lambda f: jax.jacfwd(jax.jacrev(jax.jacfwd(f))),
}


@pytest.mark.parametrize("order", DERIVATIVES)
def test_derivatives_of_the_product_where_factors_are_zero(order, x64):
    """Rows with no, one, two and three zeros among five factors."""
    factors = np.random.default_rng(0).normal(size=(4, 5, 2))
    for row, zeros in enumerate(((), (1,), (1, 3), (0, 2, 4))):
        factors[row, list(zeros)] = 0
    forms = (reduced_product, lambda f: pairwise_product([f[:, k] for k in range(5)]))
    found, expected = (
        jax.jit(DERIVATIVES[order](lambda f, form=form: jnp.sum(jnp.sin(form(f)))))(factors)
        for form in forms
    )
    assert_close(found, expected)


@pytest.fixture
def streamed(monkeypatch):
    """LRNNs compute in the form for TPUs."""
    monkeypatch.setattr(lrnn, "lean_neurons", streamed_neurons)


def test_under_vmap_checkpoint_and_scan(streamed):
    model = LRNN(in_dim=2, out_dim=1, rank=5, components=3, hidden=2, activation="sin", omega0=3.0)
    population = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 3))
    x = jnp.linspace(-1, 1, 14).reshape(7, 2)

    def loss(params):
        apply = jax.checkpoint(model.apply)
        return jax.lax.scan(lambda t, row: (t + apply(params, row)[0] ** 2, None), 0.0, x)[0]

    together = jax.jit(jax.vmap(jax.grad(loss)))(population)
    one = jax.tree.map(lambda leaf: leaf[1], population)
    alone = jax.grad(lambda params: jnp.sum(model.apply(params, x) ** 2))(one)
    assert_close(jax.tree.map(lambda leaf: leaf[1], together), alone, 1e-4)


def test_coordinates_are_not_rounded_where_slabs_are_stored_in_bfloat16(streamed):
    mixed = LRNN(in_dim=2, out_dim=1, rank=5, components=3, compute_dtype="bfloat16")
    full = LRNN(in_dim=2, out_dim=1, rank=5, components=3)
    params, x = full.init(jax.random.key(0)), jnp.linspace(-1, 1, 64).reshape(32, 2)
    first = [model.layers(params, x)[0](x) for model in (mixed, full)]
    np.testing.assert_array_equal(*first)
    second = [model.layers(params, x)[1](first[0]) for model in (mixed, full)]
    assert not jnp.array_equal(*second)


# What is lowered ---------------------------------------------------------------------------------


def lowered_gradient(platform, **fields):
    """The StableHLO of the gradient of a mean squared value at 32 points, rank 6, 4 components."""
    model = LRNN(in_dim=2, out_dim=1, rank=6, components=4, activation="sin", **fields)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    x = jax.ShapeDtypeStruct((32, 2), jnp.float32)
    gradient = jax.jit(jax.grad(lambda params, x: jnp.mean(model.apply(params, x) ** 2)))
    with traced_for(platform):
        traced = gradient.trace(params, x)
    return traced.lower(lowering_platforms=(platform,)).as_text()


SLAB = r"-> tensor<(32x24|32x4x6|4x32x6)xf32>"


@pytest.mark.parametrize("hidden", [1, 8])
def test_no_slab_is_concatenated_on_a_tpu(hidden):
    """The transpose of the split into components would be one: two passes over a slab."""
    concatenates = {
        platform: re.findall(
            rf"stablehlo.concatenate.*{SLAB}", lowered_gradient(platform, hidden=hidden)
        )
        for platform in ("tpu", "cpu")
    }
    assert not concatenates["tpu"]
    assert concatenates["cpu"]  # the expression finds what it is meant to


def test_the_platform_that_a_program_is_traced_for_selects_the_form():
    """On a CPU, hidden units are a loop; on a TPU, they share one pass over the slab."""
    assert "stablehlo.while" in lowered_gradient("cpu", hidden=8)
    assert "stablehlo.while" not in lowered_gradient("tpu", hidden=8)


def test_only_the_second_layers_slabs_are_bfloat16():
    """z and its cotangent; the first layer, of two coordinates, stores no slab."""
    text = lowered_gradient("tpu", compute_dtype="bfloat16")
    barriers = re.findall(r"stablehlo.optimization_barrier.*: (.*)", text)
    assert sum("32x4x6xbf16" in types for types in barriers) >= 2


def test_a_forward_laplacian_has_the_form_for_gpus():
    """Its products are slices of one slab; those of the form for TPUs would be quotients."""
    model = LRNN(in_dim=2, out_dim=1, rank=6, components=4, activation="sin", norm="none")
    params = model.init(jax.random.key(0))
    of = functools.partial(model.apply, params)
    with traced_for("tpu"):
        text = str(
            jax.make_jaxpr(lambda x: forward_laplacian(lambda x: of(x)[0], x, (0, 1)))(jnp.zeros(2))
        )
        plain = str(jax.make_jaxpr(lambda x: of(x))(jnp.zeros(2)))
    assert "reduce_prod" in plain and "reduce_prod" not in text


# NestNet -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [2, 3])
def test_nestnets_tangent_in_one_pass(height, monkeypatch):
    model = NestNet(in_dim=2, out_dim=1, width=8, depth=2, height=height)
    params, x = model.init(jax.random.key(0)), jnp.linspace(-1, 1, 22).reshape(11, 2)
    loss = lambda params: jnp.mean(jnp.sin(model.apply(params, x)))  # noqa: E731
    expected = jax.grad(loss)(params)
    monkeypatch.setattr(nested, "_tangent", nested._fused_tangent)
    assert_close(jax.grad(loss)(params), expected, 1e-5)


# The table of the documentation -------------------------------------------------------------------

NAMES = {
    "SIREN, 198k parameters": "SIREN",
    "the paper's LRNN": "paper",
    "the same, bfloat16": "paper, bfloat16",
    "the same, `pallas`, float32 or bfloat16": "paper, fused",
    "8 hidden units (h8: rank 128, 8 components)": "h8",
    "the same, `pallas`": "h8, fused",
    "NestNet, height 1 (ReLU)": "NestNet, height 1 (ReLU)",
    "NestNet, height 2": "NestNet, height 2",
    "NestNet, height 3": "NestNet, height 3",
}


def test_the_table_of_bytes_is_that_of_the_results():
    root = Path(__file__).parents[1]
    rows = json.loads((root / "benchmarks/results/tpu_v5e.json").read_text())
    found = {row["name"]: row for row in rows if row["part"] == "steps"}
    section = (
        (root / "docs/performance.md")
        .read_text()
        .partition("## Bytes on a TPU\n")[2]
        .partition("\n## ")[0]
    )
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    table = {cells[0]: cells[1:] for cells in table if cells[0] in NAMES}
    assert table.keys() == NAMES.keys()
    for name, (_, size, plain, _, memory) in table.items():
        row = found[NAMES[name]]
        assert size == f"{row['gigabytes']:.2f} GB"
        assert plain == f"{row['without_copies']:.2f} GB"
        assert memory == f"{row['megabytes']:,.0f} MB"
        assert row["concatenates"] == 0
