"""Models as Flax modules: the same values, and a good citizen of NNX and of Linen."""

import dataclasses
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lrnn_jax import LRNN, InputError, Siren, count_parameters
from lrnn_jax.flax import LinenModule, NNXModule
from lrnn_jax.io.safetensors import load_tree, save_tree
from lrnn_jax.trees import named_leaves


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A model from elsewhere, whose parameters are not grouped by layer."""

    in_dim: int = 4
    out_dim: int = 4

    def init(self, key):
        return {"scale": jax.random.normal(key, (self.in_dim,))}

    def apply(self, params, x):
        return jnp.tanh(params["scale"] * x)


@dataclasses.dataclass(frozen=True)
class Unhashable(Foreign):
    table: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(3))


LAYER = LRNN(in_dim=4, out_dim=3, depth=1, rank=8, components=2, omega0=1.0)
MODELS = {"lrnn": LAYER, "siren": Siren(in_dim=4, out_dim=3, width=8, depth=2), "else": Foreign()}
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)

all_models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


def nnx_module(model=LAYER, seed=0):
    return NNXModule(model, rngs=nnx.Rngs(seed))


def linen_variables(model, key):
    return LinenModule(model).init(key, X)


def equal(a, b):
    """Same structure, same numbers."""
    same = jax.tree.map(lambda u, v: bool(jnp.array_equal(u, v)), a, b)
    return jax.tree.all(same)


def squares(module, x=X):
    return jnp.mean(module(x) ** 2)


class Network(nnx.Module):
    """A layer between others, as users have it."""

    def __init__(self, rngs):
        self.before = nnx.Linear(4, 4, rngs=rngs)
        self.lrnn = NNXModule(LAYER, rngs=rngs)
        self.after = nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, x):
        return self.after(self.lrnn(self.before(x)))


class LinenNetwork(nn.Module):
    """The same in Linen, with the layer called twice."""

    @nn.compact
    def __call__(self, x):
        lrnn = LinenModule(LAYER, name="lrnn")
        return lrnn(nn.Dense(4)(x)) + lrnn(x)


@all_models
def test_values_are_the_models(model, key):
    module, variables = nnx_module(model), linen_variables(model, key)
    assert jnp.array_equal(module(X), model.apply(module.plain_params(), X))
    linen = LinenModule(model).apply(variables, X)
    assert jnp.array_equal(linen, model.apply(variables["params"], X))


@pytest.mark.parametrize("x", [X[0, 0], X[0], X], ids=["point", "batch", "batches"])
def test_leading_axes_are_batch_axes(x, key):
    for value in (nnx_module(Foreign())(x), LinenModule(Foreign()).init_with_output(key, x)[0]):
        assert value.shape == x.shape


def test_jit():
    module = nnx_module()
    variables = {"params": module.plain_params()}
    expected = jax.jit(LAYER.apply)(variables["params"], X)
    assert jnp.array_equal(nnx.jit(lambda module, x: module(x))(module, X), expected)
    assert jnp.array_equal(jax.jit(LinenModule(LAYER).apply)(variables, X), expected)
    assert jnp.array_equal(nn.jit(LinenModule)(LAYER).apply(variables, X), expected)


@all_models
def test_parameters_have_the_models_names_and_shapes(model, key):
    template = jax.eval_shape(model.init, jax.random.key(1))
    for params in (nnx_module(model).plain_params(), linen_variables(model, key)["params"]):
        assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, template)
        assert count_parameters(params) == count_parameters(template)


def test_parameters_are_one_draw_of_the_model():
    drawn = LAYER.init(nnx.Rngs(5).params())
    assert equal(nnx_module(seed=5).plain_params(), drawn)
    assert not equal(nnx_module(seed=6).plain_params(), drawn)


def test_linen_draws_differ_by_key_and_by_module():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return LinenModule(LAYER)(x) + LinenModule(LAYER)(x)

    first, second = (Two().init(jax.random.key(seed), X)["params"] for seed in range(2))
    assert not equal(first["LinenModule_0"], first["LinenModule_1"])
    assert not equal(first["LinenModule_0"], second["LinenModule_0"])


def test_every_leaf_is_a_param_of_its_own():
    module = nnx_module()
    paths = {"/".join(path) for path, _ in nnx.to_flat_state(nnx.state(module, nnx.Param))}
    assert paths == {f"params/{name}" for name in named_leaves(module.plain_params())}
    assert not nnx.state(module, nnx.Not(nnx.Param))


@all_models
def test_gradients_are_the_models(model, key):
    module = nnx_module(model)
    params = module.plain_params()
    expected = jax.jit(jax.grad(lambda params: squares(lambda x: model.apply(params, x))))(params)
    grads = nnx.to_pure_dict(nnx.jit(nnx.grad(squares))(module))
    assert equal(grads, {"params": expected})

    def linen(params):
        return squares(lambda x: LinenModule(model).apply({"params": params}, x))

    assert equal(jax.jit(jax.grad(linen))(params), expected)


@nnx.jit
def train(net, optimizer, x):
    value, grads = nnx.value_and_grad(squares)(net, x)
    optimizer.update(net, grads)
    return value


def test_a_step_of_the_optimizer_moves_every_parameter():
    net = Network(nnx.Rngs(0))
    before = named_leaves(nnx.as_pure(nnx.state(net, nnx.Param)))
    optimizer = nnx.Optimizer(net, optax.adam(1e-2), wrt=nnx.Param)
    losses = [float(train(net, optimizer, X)) for _ in range(5)]
    after = named_leaves(nnx.as_pure(nnx.state(net, nnx.Param)))
    assert losses[-1] < losses[0]
    assert [name for name in before if jnp.any(before[name] == after[name])] == []


def test_freezing_by_path_leaves_the_rest_as_it_was():
    net = Network(nnx.Rngs(0))
    trained = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("component")))
    before = named_leaves(nnx.as_pure(nnx.state(net, nnx.Param)))
    optimizer = nnx.Optimizer(net, optax.adam(1e-2), wrt=trained)
    grads = nnx.jit(nnx.grad(squares, argnums=nnx.DiffState(0, trained)))(net)
    optimizer.update(net, grads)
    after = named_leaves(nnx.as_pure(nnx.state(net, nnx.Param)))
    frozen = {name for name in before if jnp.array_equal(before[name], after[name])}
    assert frozen == {name for name in before if "component" in name} != set()


def test_split_and_merge():
    module = nnx_module()
    graphdef, state = nnx.split(module)
    assert jnp.array_equal(nnx.merge(graphdef, state)(X), module(X))
    assert nnx.graphdef(nnx_module(seed=1)) == graphdef
    assert hash(graphdef) == hash(nnx.graphdef(nnx_module(seed=1)))


def test_save_and_load(tmp_path):
    net, other = Network(nnx.Rngs(0)), Network(nnx.Rngs(1))
    path = save_tree(tmp_path / "net.safetensors", nnx.as_pure(nnx.state(net)), "test")
    assert not jnp.array_equal(other(X), net(X))
    loaded = load_tree(path, nnx.as_pure(nnx.state(other)))
    nnx.update(other, jax.tree.map(jnp.asarray, loaded))
    assert jnp.array_equal(other(X), net(X))


@pytest.mark.parametrize(
    "given",
    [
        lambda module: module.plain_params(),
        lambda module: module.params,
        lambda module: nnx.state(module)["params"],
        lambda module: jax.tree.map(np.asarray, module.plain_params()),
    ],
    ids=["plain", "params", "state", "numpy"],
)
def test_a_module_from_trained_parameters(given):
    module = nnx_module()
    again = NNXModule(LAYER, params=given(module))
    assert equal(again.plain_params(), module.plain_params())
    assert nnx.graphdef(again) == nnx.graphdef(module)


def test_the_dtype_of_given_parameters_is_kept():
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), nnx_module().plain_params())
    module = NNXModule(LAYER, params=half)
    assert {leaf.dtype for leaf in jax.tree.leaves(module.plain_params())} == {
        jnp.dtype("bfloat16")
    }


def test_parameters_move_between_nnx_and_linen():
    module = nnx_module()
    variables = {"params": module.plain_params()}
    assert jnp.array_equal(LinenModule(LAYER).apply(variables, X), module(X))


def test_a_population():
    keys = jax.random.split(jax.random.key(0), 3)
    draw = nnx.vmap(lambda key: NNXModule(LAYER, rngs=nnx.Rngs(key)))
    apply = nnx.vmap(lambda module, x: module(x), in_axes=(0, None))
    population = nnx.jit(draw)(keys)
    values = nnx.jit(apply)(population, X)
    assert values.shape == (3, *X.shape[:-1], 3)
    second = jax.tree.map(lambda leaf: leaf[1], population.plain_params())
    np.testing.assert_allclose(values[1], LAYER.apply(second, X), rtol=1e-4, atol=1e-5)
    assert not jnp.allclose(values[0], values[1])


def test_linen_lifted_transforms(key):
    options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
    population = nn.vmap(LinenModule, in_axes=None, axis_size=3, **options)(LAYER)
    variables = jax.jit(population.init)(key, X)
    third = jax.tree.map(lambda leaf: leaf[2], variables["params"])
    values = jax.jit(population.apply)(variables, X)
    np.testing.assert_allclose(values[2], LAYER.apply(third, X), rtol=1e-4, atol=1e-5)
    assert not jnp.allclose(values[0], values[1])


def test_linen_layer_shared_and_boxed(key):
    variables = LinenNetwork().init(key, X)
    assert set(variables["params"]) == {"Dense_0", "lrnn"}
    assert set(variables["params"]["lrnn"]) == {"layer_0", "head"}
    boxed = jax.tree.map(lambda leaf: nn.Partitioned(leaf, (None,) * leaf.ndim), variables)
    expected = LinenNetwork().apply(variables, X)
    assert jnp.array_equal(LinenNetwork().apply(boxed, X), expected)


def test_abstract_modules():
    template = jax.eval_shape(LAYER.init, jax.random.key(0))
    module = nnx.eval_shape(nnx_module)
    assert module.plain_params() == template
    assert jax.eval_shape(LinenModule(LAYER).init, jax.random.key(0), X) == {"params": template}


SHARDED = """
import jax, jax.numpy as jnp, optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from test_modules import X, Network, squares, train
mesh = Mesh(jax.devices(), ("rank",))
def place(leaf):
    axes = (None,) * (leaf.ndim - 1) + ("rank",) if leaf.shape[-1:] == (8,) else ()
    return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*axes)))
net = Network(nnx.Rngs(0))
optimizer = nnx.Optimizer(net, optax.sgd(1e-2), wrt=nnx.Param)
expected = squares(net)
nnx.update((net, optimizer), jax.tree.map(place, nnx.state((net, optimizer))))
losses = [train(net, optimizer, X) for _ in range(2)]
assert jnp.allclose(losses[0], expected, rtol=1e-4), (losses, expected)
assert losses[1] < losses[0], losses
weight = net.lrnn.params["layer_0"]["projection"]["weight"]
assert mesh.size == 4, mesh
assert weight.sharding.spec == PartitionSpec(None, None, "rank"), weight.sharding
assert {shard.data.shape for shard in weight.addressable_shards} == {(4, 2, 2)}
"""


def test_training_on_four_devices():
    """In a process of its own, because the number of devices is fixed when JAX starts."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    folder = os.path.dirname(__file__)  # noqa: PTH120
    result = subprocess.run(
        [sys.executable, "-c", SHARDED], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("make", [nnx_module, LinenModule], ids=["nnx", "linen"])
@pytest.mark.parametrize("model, word", [(3, "got 3"), (LRNN, "got <cl"), (Unhashable(), "hash")])
def test_what_is_no_model(make, model, word):
    with pytest.raises(InputError, match=f"model: expected.*{word}"):
        make(model)


def test_neither_or_both_of_rngs_and_params():
    with pytest.raises(InputError, match="rngs, params: expected one of the two, got neither"):
        NNXModule(LAYER)
    with pytest.raises(InputError, match="got both"):
        NNXModule(LAYER, rngs=nnx.Rngs(0), params=nnx_module().plain_params())


@pytest.mark.usefixtures("x32")
def test_parameters_of_another_model_name_the_first_difference(key):
    wider = dataclasses.replace(LAYER, out_dim=5).init(key)
    with pytest.raises(InputError, match=r"another model.*LRNN.*head/bias is float32\[5\].*\[3\]"):
        NNXModule(LAYER, params=wider)
    with pytest.raises(InputError, match=r"another model.*head/bias is missing"):
        NNXModule(LAYER, params={})
    with pytest.raises(InputError, match=r"another model.*extra is not a parameter"):
        NNXModule(LAYER, params=nnx_module().plain_params() | {"extra": np.ones(2)})
    with pytest.raises(InputError, match=r"another model.*head/bias is float32\[5\]"):
        LinenModule(LAYER).apply({"params": wider}, X)
    with pytest.raises(InputError, match=r"another model.*head/bias is missing"):
        LinenModule(LAYER).apply({}, X)
