"""The fused kernels, interpreted: values and gradients against the lean form, and in closed form.

That the compilers of GPUs and TPUs take them is tested as far as it can be without one: they lower.
`benchmarks/accelerators.py compile` compiles those for TPUs.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from jax.sharding import Mesh

from lrnn_jax.errors import InputError
from lrnn_jax.kernels import pallas, pallas_tpu
from lrnn_jax.kernels.activations import in_half_turns
from lrnn_jax.kernels.neurons import Neurons, lean_neurons
from lrnn_jax.kernels.pallas import pallas_neurons

SIN, SPDER, SOUND = (in_half_turns(name)[0] for name in ("sin", "spder", "sin_arctan"))
TAUS = [SIN, SPDER, SOUND, jnp.tanh, jax.nn.relu, jax.nn.gelu]
# n points, i inputs, h hidden units, k components, r rank: less than a block of each, and more than
# one; the last has more than 32,768 factors.
SIZES = [(1, 1, 1, 1, 1), (40, 40, 3, 2, 9), (33, 2, 3, 1, 140), (300, 2, 1, 5, 37)]


def interpreted_on_tpu(name, setting, *arguments):
    return getattr(pallas_tpu, name)(setting, *arguments, interpret=True)


@pytest.fixture(params=["gpu", "tpu"])
def kernels(request, monkeypatch):
    """The kernels for GPUs and those for TPUs, interpreted."""
    if request.param == "tpu":
        monkeypatch.setattr(pallas, "_on_platform", interpreted_on_tpu)


EVERY = pytest.mark.usefixtures("kernels")


def drawn(size, dtype=np.float32, seed=0) -> tuple[Neurons, jax.Array]:
    """Neurons and points at random."""
    n, i, h, k, r = size
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    weight = normal(i, k, r) / math.sqrt(i)
    rows = [0.5 * normal(h, k, r) for _ in range(3)]
    return Neurons(weight, normal(k, r), *rows, 1 + 0.3 * normal(k, r)), normal(n, i)


def loss(form, tau, neurons, x):
    """A sum in which every neuron at every point has its own weight, and phi."""
    phi = form(neurons, x, tau)
    weights = jnp.cos(jnp.arange(phi.size, dtype=phi.dtype)).reshape(phi.shape)
    return jnp.sum(phi * weights), phi


def differentiated(form, tau):
    """Of neurons and points, phi and the gradients of `loss`."""
    f = functools.partial(loss, form, tau)
    return jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))


def assert_close(found, expected, tolerance):
    """Every array within `tolerance` of the largest number of the expected one."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=0, atol=tolerance * np.max(np.abs(b), initial=1e-30)
        ),
        found,
        expected,
    )


def assert_agrees(neurons, x, tau, tolerance):
    both = [differentiated(form, tau)(neurons, x) for form in (pallas_neurons, lean_neurons)]
    assert_close(*both, tolerance)


@EVERY
@pytest.mark.parametrize("size", SIZES)
def test_value_and_gradients_are_those_of_the_lean_form_in_float64(size, x64):
    assert_agrees(*drawn(size, np.float64), SIN, 1e-9)


@EVERY
@pytest.mark.parametrize(("size", "tau"), [(SIZES[1], SIN), (SIZES[3], SPDER)])
def test_value_and_gradients_are_those_of_the_lean_form_in_float32(size, tau):
    assert_agrees(*drawn(size), tau, 1e-4)


@EVERY
def test_operands_of_the_products_are_rounded_to_bfloat16():
    neurons, x = drawn((40, 40, 3, 2, 9))
    weight, rounded_x = (
        leaf.astype(jnp.bfloat16).astype(jnp.float32) for leaf in (neurons.weight, x)
    )
    rounding = functools.partial(pallas_neurons, bf16_operands=True)
    found = differentiated(rounding, SIN)(neurons, x)
    expected = differentiated(pallas_neurons, SIN)(neurons._replace(weight=weight), rounded_x)
    (value, (gradient, dx)), (exact, (slopes, dx_exact)) = found, expected
    products = {"weight": None}
    assert_close((value, gradient._replace(**products)), (exact, slopes._replace(**products)), 1e-5)
    # The cotangent of z, too, is rounded, to 2^-9 of each number.
    assert_close((gradient.weight, dx), (slopes.weight, dx_exact), 2**-8)
    assert not jnp.array_equal(gradient.weight, slopes.weight)


def test_the_kernels_of_a_tpu_divide_the_rank_into_blocks(monkeypatch):
    monkeypatch.setattr(pallas_tpu, "_MEMORY", 0)
    neurons, x = drawn((300, 3, 2, 5, 37))
    assert pallas_tpu._block(neurons, x) == (128, 8)
    monkeypatch.setattr(pallas, "_on_platform", interpreted_on_tpu)
    assert_agrees(neurons, x, SIN, 1e-4)


@EVERY
@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_gradients_are_exact_where_factors_are_zero(zeros):
    """d phi / d f_j is the product of the others: 0 but for the single zero factor, and exact."""
    neurons, x = drawn((1, 2, 1, 5, 3))
    # powers of two, whose products are exact
    base = 2.0 ** np.array([1, -2, 3, -1, 2], np.float32)[:, None] * np.ones((1, 3), np.float32)
    gradient = jax.jit(jax.grad(lambda neurons: jnp.sum(pallas_neurons(neurons, x, SIN))))
    for where in itertools.combinations(range(5), zeros):
        factors = base.copy()
        factors[list(where)] = 0
        found = gradient(neurons._replace(base=factors, amplitude=jnp.zeros((1, 5, 3))))
        others = [np.prod(np.delete(factors, j, axis=0), axis=0) for j in range(5)]
        np.testing.assert_array_equal(found.base, others)


@EVERY
def test_it_may_be_mapped_over_points_and_parameters_and_checkpointed():
    neurons, x = drawn((6, 2, 3, 3, 5))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), neurons)

    def of_each(form):
        phi = functools.partial(form, tau=SIN)
        summed = jax.checkpoint(lambda *given: loss(form, SIN, *given)[0])
        return jax.jit(
            lambda x: (
                jax.vmap(phi, (None, 0))(neurons, x),
                jax.vmap(phi, (0, None))(many, x.reshape(2, 3, 2)),
                jax.vmap(jax.grad(summed, argnums=(0, 1)), (0, None))(many, x),
                jax.vmap(jax.grad(summed), (None, 0))(neurons, x),
            )
        )(x)

    assert_close(of_each(pallas_neurons), of_each(lean_neurons), 1e-4)


@EVERY
def test_no_points_have_no_values_and_no_gradient():
    neurons, x = drawn((0, 2, 1, 2, 3))
    assert pallas_neurons(neurons, x, SIN).shape == (0, 3)
    gradient = jax.grad(lambda neurons: jnp.sum(pallas_neurons(neurons, x, SIN)))(neurons)
    assert all(not leaf.any() for leaf in gradient)


@EVERY
@pytest.mark.parametrize("hidden", [1, 3])
def test_padding_is_finite_where_the_points_and_parameters_are(hidden):
    """1 / u is infinite at 0, where padding with zeros would evaluate it."""
    neurons, x = drawn((5, 2, hidden, 3, 3))
    positive = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.5, (neurons, x))
    assert_agrees(*positive, lambda u: 1 / u, 1e-4)


@EVERY
def test_rounding_inside_of_an_activation_is_to_nearest_even():
    """Triton has no rounding of its own, and the sines are made of one."""
    one, zero = jnp.ones((1, 1, 1)), jnp.zeros((1, 1, 1))
    neurons = Neurons(one, zero[0], one, zero, one, zero[0])
    x = np.concatenate([np.arange(-9, 10) / 2, [0.49999997, 4194303.5, 8388609, 2e7, -3e38]])
    x = np.concatenate([x, np.linspace(-5, 5, 50)]).astype(np.float32)
    phi = pallas_neurons(neurons, jnp.asarray(x)[:, None], jnp.round)
    np.testing.assert_array_equal(phi[:, 0], np.round(x))


@EVERY
def test_the_backward_pass_keeps_the_parameters_and_points_alone():
    neurons, x = drawn((50, 2, 3, 2, 10))
    _, pull = jax.vjp(functools.partial(pallas_neurons, tau=SIN), neurons, x)
    kept = sum(leaf.size for leaf in jax.tree.leaves(pull))
    assert kept <= sum(leaf.size for leaf in (*neurons, x))


@EVERY
def test_forward_mode_is_an_error():
    neurons, x = drawn((1, 1, 1, 1, 1))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: pallas_neurons(neurons, x, SIN), (x,), (x,))


@pytest.mark.skipif(
    jaxlib.version.__version_info__[:3] > (0, 10, 1),
    reason="lowers by compiling for the GPU, with what comes with its drivers",
)
@pytest.mark.parametrize("tau", TAUS)
def test_both_kernels_lower_for_a_gpu(tau):
    """Also under `jax.vmap`, with one hidden unit and with many, and in more blocks than one."""
    for mapped, size in [(False, (70, 2, 1, 5, 40)), (True, (3, 40, 3, 2, 3))]:
        neurons, x = drawn(size)
        f = differentiated(functools.partial(pallas_neurons, bf16_operands=mapped), tau)
        f, x = (jax.vmap(f, (None, 0)), x[None]) if mapped else (f, x)
        lowered = jax.jit(f).trace(neurons, x).lower(lowering_platforms=("cuda",))
        assert lowered.as_text().count("xla.gpu.triton") == 2


@pytest.mark.parametrize("tau", TAUS)
def test_both_kernels_lower_for_a_tpu(tau):
    """The platform of the program decides, and not that of the host."""
    for mapped, size in [(False, (70, 2, 1, 5, 40)), (True, (3, 40, 3, 2, 3))]:
        neurons, x = drawn(size)
        f = differentiated(functools.partial(pallas_neurons, bf16_operands=mapped), tau)
        f, x = (jax.vmap(f, (None, 0)), x[None]) if mapped else (f, x)
        traced = jax.jit(f).trace(neurons, x)
        assert traced.lower(lowering_platforms=("tpu",)).as_text().count("tpu_custom_call") == 2
        assert "custom_call" not in traced.lower(lowering_platforms=("cpu",)).as_text()


def test_a_program_in_float64_is_refused_for_a_tpu(x64):
    traced = jax.jit(differentiated(pallas_neurons, SIN)).trace(*drawn(SIZES[1], np.float64))
    with pytest.raises(InputError, match="kernels of 'pallas' for TPUs have no float64"):
        traced.lower(lowering_platforms=("tpu",))


@pytest.mark.parametrize("bound", [2, 1e6])
def test_the_arctangent_of_the_tpu(bound):
    x = np.linspace(-bound, bound, 100_001, dtype=np.float32)
    error = pallas_tpu._arctan(jnp.asarray(x)) - np.arctan(x.astype(np.float64))
    assert np.max(np.abs(error)) < 3e-7
    assert np.isnan(pallas_tpu._arctan(jnp.asarray(np.nan)))


def test_within_shard_map_they_lower_for_a_tpu_with_its_checks_on():
    """Pallas' interpret mode cannot: the loops in it have no axes of a mesh."""
    mesh, spec = Mesh(np.array(jax.devices()[:1]), ("points",)), jax.P("points")

    def local(neurons, x):
        return jax.lax.pmean(loss(pallas_neurons, SIN, neurons, x)[0], "points")

    spread = jax.shard_map(local, mesh=mesh, in_specs=(jax.P(), spec), out_specs=jax.P())
    traced = jax.jit(jax.value_and_grad(spread, argnums=(0, 1))).trace(*drawn(SIZES[1]))
    assert traced.lower(lowering_platforms=("tpu",)).as_text().count("tpu_custom_call") == 2
