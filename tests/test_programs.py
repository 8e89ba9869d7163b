"""Programs are kept by what they compute: equal ones compile once, and what is dropped is freed."""

import dataclasses
import functools
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_compilation import compilations

import lrnn_jax as lj
from lrnn_jax import optimizers, pde
from lrnn_jax.training import scale_subnetworks
from lrnn_jax.training.programs import Programs, structural_key

X = jnp.linspace(-1, 1, 16)[:, None]
MODEL = lj.MLP(in_dim=1, out_dim=1, width=4, depth=1)
OFFSET = 0.0  # a global that losses read


def made(rate=2e-3, factor=1.0):
    """A loss and an optimiser that are new objects in every call."""

    def loss(u, data, key):
        return factor * jnp.mean((u(data[0]) - data[1] + OFFSET) ** 2)

    return loss, optax.adam(rate)


def fitted(loss, optimizer, seed=0, **options):
    key = jax.random.key(seed)
    return lj.fit(MODEL, loss, (X, X**2), optimizer, key=key, steps=3, **options)


def loops(names):
    return sum(name in ("run", "jit(run)", "jit_run") for name in names)


def test_equal_losses_and_optimisers_compile_once_and_give_the_same_bits():
    shared = made(rate=1.1e-3)
    expected = [np.asarray(fitted(*shared, seed=seed)[1]) for seed in range(3)]
    before = lj.training.compilations()
    with compilations() as names:
        found = [np.asarray(fitted(*made(rate=1.1e-3), seed=seed)[1]) for seed in range(3)]
    assert names == []
    assert lj.training.compilations() == before
    np.testing.assert_array_equal(found, expected)


def test_a_loss_or_an_optimiser_that_differs_is_compiled_anew():
    _, expected = fitted(*made(rate=1.2e-3))
    for rate, factor in ((1.3e-3, 1.0), (1.2e-3, 3.0), (1.2e-3, 3)):
        before = lj.training.compilations()
        with compilations() as names:
            _, losses = fitted(*made(rate, factor))
        assert loops(names) == 1, (rate, factor, names)
        assert lj.training.compilations() == before + 1
        assert float(losses[0]) == pytest.approx(factor * float(expected[0]), rel=1e-6)


def test_another_learning_rate_compiles_nothing():
    loss, _ = made()
    expected = [np.asarray(fitted(loss, optax.adam(rate))[1]) for rate in (1e-3, 5e-2)]
    fitted(loss, 3e-3)
    with compilations() as names:
        found = [np.asarray(fitted(loss, rate)[1]) for rate in (1e-3, np.float64(5e-2))]
    assert names == []
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    several = jax.vmap(lambda rate: fitted(loss, rate)[1])(jnp.array([1e-3, 5e-2]))
    np.testing.assert_allclose(several, expected, rtol=1e-4)


def test_a_global_that_is_set_anew_is_not_missed(monkeypatch):
    before = fitted(*made())[1][0]
    monkeypatch.setattr(sys.modules[__name__], "OFFSET", 5.0)
    assert fitted(*made())[1][0] > before + 10


def test_two_threads_share_one_program():
    results = []
    work = [
        threading.Thread(target=lambda: results.append(fitted(*made(1.7e-3))[1])) for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    for losses in results[1:]:
        np.testing.assert_array_equal(losses, results[0])


def test_under_a_transformation_no_tracer_is_kept():
    """A closure over a tracer has no key, and its program is not stored."""

    def after(scale):
        loss = lambda u, data, key: scale * jnp.mean((u(data[0]) - data[1]) ** 2)  # noqa: E731
        return fitted(loss, optax.sgd(1e-2))[1][-1]

    with jax.checking_leaks():
        values = jax.vmap(after)(jnp.array([1.0, 2.0]))
        slope = jax.grad(after)(1.0)
    one, below, above = (float(after(scale)) for scale in (1.0, 0.99, 1.01))
    assert float(values[0]) == pytest.approx(one, rel=1e-6)
    assert float(slope) == pytest.approx((above - below) / 0.02, rel=1e-2)


OPTIMIZERS = {
    "adam": lambda c: optax.adam(c),
    "schedule": lambda c: optax.adam(optax.cosine_decay_schedule(c, 100)),
    "own schedule": lambda c: optax.sgd(lambda count: c / (1 + count)),
    "chain": lambda c: optax.chain(optax.clip(1.0), optax.adamw(c)),
    "masked": lambda c: optax.masked(optax.sgd(c), lambda tree: jax.tree.map(jnp.ndim, tree)),
    "partition": lambda c: optax.partition(
        {"a": optax.sgd(c), "b": optax.set_to_zero()},
        lambda tree: jax.tree.map(lambda _: "a", tree),
    ),
    "injected": lambda c: optax.inject_hyperparams(optax.adam)(learning_rate=c),
    "several steps": lambda c: optax.MultiSteps(optax.adam(c), 2),
    "lookahead": lambda c: optax.lookahead(optax.sgd(c), 5, 0.5),
    "soap": lambda c: optimizers.soap(c),
    "switch": lambda c: optimizers.switch(optax.adam(c), optimizers.lbfgs(), 10),
    "subnetworks": lambda c: optax.chain(optax.adam(1e-3), scale_subnetworks(c)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_are_equal_when_their_settings_are(name):
    make = OPTIMIZERS[name]
    assert structural_key(make(1e-3)) == structural_key(make(1e-3)) is not None
    assert structural_key(make(1e-3)) != structural_key(make(2e-3))


@dataclasses.dataclass(frozen=True)
class Spec:
    f: object
    cached: int = dataclasses.field(default=0, compare=False)


class Scaled:
    """A callable object that compares by identity, as Python's objects do."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x


class Slots:
    __slots__ = ()

    def __call__(self, x):
        return x


SAME = Slots()
ARRAY = np.arange(3.0)
PAIRS = {
    "integer and float": (1, 1.0),
    "integer and boolean": (1, True),
    "signs of zero": (0.0, -0.0),
    "arrays": (np.array([1.0, 2.0]), np.array([1.0, 3.0])),
    "dtypes": (np.array([1, 2], np.int32), np.array([1, 2], np.int64)),
    "shapes": (np.zeros((2, 1)), np.zeros((1, 2))),
    "NumPy and JAX": (np.ones(2, np.float32), jnp.ones(2)),
    "keys": (jax.random.key(0), jax.random.key(1)),
    "lists": ([1, 2], [2, 1]),
    "list and tuple": ([1], (1,)),
    "dictionaries": ({"a": 1}, {"a": 2}),
    "specs": (Spec(lambda x: x), Spec(lambda x: -x)),
    "objects": (Scaled(1.0), Scaled(2.0)),
    "objects without attributes": (Slots(), Slots()),
    "jitted functions": (jax.jit(abs), jax.jit(abs)),
    "partials": (functools.partial(max, 1), functools.partial(max, 2)),
    "defaults": (lambda x, y=1: x, lambda x, y=2: x),
}
EQUALS = {
    "not a number": (float("nan"), float("nan")),
    "arrays": (np.arange(3.0), np.arange(3.0)),
    "JAX arrays": (jnp.arange(3.0), jnp.arange(3.0)),
    "keys": (jax.random.key(3), jax.random.key(3)),
    "one object": (SAME, SAME),
    "objects": (Scaled(1.0), Scaled(1.0)),
    "custom rules": tuple(jax.custom_jvp(lambda x: x) for _ in range(2)),
    "specs, but for what they do not compare": (Spec(SAME, 1), Spec(SAME, 2)),
    "sets": ({1, 2, 3}, {3, 2, 1}),
    "methods": (ARRAY.sum, ARRAY.sum),
    "what refers to itself": tuple(pair for pair in ([[]], [[]])),
}


@pytest.mark.parametrize("name", PAIRS)
def test_values_that_differ_have_different_keys(name):
    first, second = PAIRS[name]
    assert structural_key(first) != structural_key(second)
    assert structural_key(first) == structural_key(first)


@pytest.mark.parametrize("name", EQUALS)
def test_values_that_are_equal_have_equal_keys(name):
    first, second = EQUALS[name]
    assert structural_key(first) == structural_key(second)
    assert hash(structural_key(first)) == hash(structural_key(second))


def test_one_function_stays_equal_to_itself_whatever_it_closes_over():
    seen = []
    f = lambda x: seen.append(x)  # noqa: E731
    before = structural_key(f)
    seen.append(1)
    assert structural_key(f) == before


def test_a_value_that_contains_itself_has_a_key():
    loop = []
    loop.append(loop)
    assert structural_key(loop) is not None


def test_a_value_of_too_many_parts_is_compared_by_identity():
    long, again = list(range(100_000)), list(range(100_000))
    assert structural_key(long, 1) == structural_key(long, 1)
    assert structural_key(long, 1) != structural_key(again, 1)


def test_nothing_is_kept_without_a_key():
    programs = Programs(4)
    assert programs.get(None, object) is not programs.get(None, object)


def test_the_least_recently_used_program_is_dropped():
    programs = Programs(2)
    first = programs.get("a", object)
    programs.get("b", object)
    assert programs.get("a", object) is first
    programs.get("c", object)
    assert programs.get("a", object) is first
    assert programs.get("b", lambda: "made again") == "made again"


def test_an_equation_that_is_written_anew_compiles_nothing():
    def problem():
        box = pde.Box((0.0,), (1.0,))
        return pde.Equation(
            domain=box,
            residual=lambda u: lambda x: lj.operators.derivative(u, 0, 0)(x) + 1,
            conditions=(pde.dirichlet(box, 0.0),),
            points=8,
        )

    model = lj.Siren(in_dim=1, out_dim=1, width=4, depth=1, omega0=2.0)
    training = lj.Training(steps=2)
    expected = lj.solve(model, problem(), training).scores
    with compilations() as names:
        assert lj.solve(model, problem(), training).scores == expected
    assert not any("advance" in name for name in names)


MANY = """
import gc, sys
import jax, jax.numpy as jnp, optax
import lrnn_jax as lj
from lrnn_jax.training import fitting

x = jnp.linspace(-1, 1, 16)[:, None]
model = lj.MLP(in_dim=1, out_dim=1, width=4, depth=1)
fitting._PROGRAMS.capacity = 3

def used():
    gc.collect()
    with open("/proc/self/maps") as maps, open("/proc/self/statm") as pages:
        return sum(1 for _ in maps), int(pages.read().split()[1]) * 4096 / 1e6

def fit(rate):
    loss = lambda u, data, key: jnp.mean((u(data[0]) - data[1]) ** 2)
    key = jax.random.key(0)
    jax.block_until_ready(lj.fit(model, loss, (x, x), optax.adam(rate), key=key, steps=2))

for rate in range(1, 9):
    fit(rate * 1e-3)
before = used()
for turn in range(24):
    fit(1e-2 + turn * 1e-4)
distinct = used()
for turn in range(400):
    fit(1e-2)
print(*before, *distinct, *used())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_dropped_is_freed():
    """24 programs through a store of three, and 400 equal fits: maps and memory stay flat."""
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=True)
    maps, megabytes, maps_distinct, mb_distinct, maps_equal, mb_equal = map(
        float, done.stdout.split()
    )
    assert maps_distinct <= maps + 30  # about 200 a program where nothing is freed
    assert maps_equal <= maps + 30
    assert mb_distinct <= megabytes + 40
    assert mb_equal <= mb_distinct + 10


SETTINGS = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, lrnn_jax as lj
from test_compilation import compilations

model = lj.Siren(in_dim=2, out_dim=1, width=4, depth=1)
problem = lj.Image(source="camera", size=(6, 6))

def loops(**context):
    with compilations() as names:
        found = lj.solve(model, problem, lj.Training(steps=2))
    (device,) = jax.tree.leaves(found.params)[0].devices()
    return sum("advance" in name for name in names), device.id

print(loops(), loops())
with jax.default_device(jax.devices()[1]):
    print(loops(), loops())
with jax.default_matmul_precision("bfloat16"):
    print(loops(), loops())
with jax.enable_x64(True):  # `solve` sets the precision of its settings
    print(loops())
print(loops())
"""


def test_a_program_is_of_its_device_and_of_jax_settings():
    """Another device or matmul precision compiles anew, an earlier one does not."""
    found = subprocess.run(
        [sys.executable, "-c", SETTINGS],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    expected = ["(1, 0) (0, 0)", "(1, 1) (0, 1)", "(1, 0) (0, 0)", "(0, 0)", "(0, 0)"]
    assert found.stdout.splitlines() == expected
