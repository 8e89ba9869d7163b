"""`fit` on an iterable of batches: values, bounded memory, errors."""

import functools
import subprocess
import sys
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrnn_jax import InputError, Siren, fit
from lrnn_jax.training import compilations

MODEL = Siren(in_dim=1, out_dim=1, width=8, depth=2, omega0=3.0)
RATE = 1e-3


def mse(u, data, key):
    x, y = data
    return jnp.mean((u(x) - y) ** 2)


def wave(points=64):
    x = np.linspace(-1, 1, points)[:, None]
    return x, np.sin(3 * x)


def batches(size=16):
    x, y = wave()
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size]


class Epochs:
    """An iterable that begins again: four batches."""

    def __iter__(self):
        return batches()


def forever(batch):
    while True:
        yield batch


@pytest.mark.parametrize("chunk", [None, 16])
@pytest.mark.parametrize("optimizer", [RATE, optax.adam(RATE)], ids=["rate", "optax"])
def test_the_same_batch_at_each_step_gives_the_same_fit_as_an_array(x64, optimizer, chunk):
    fitted, losses = fit(MODEL, mse, wave(), optimizer, key=1, steps=20, chunk=chunk)
    streamed = fit(MODEL, mse, forever(wave()), optimizer, key=1, steps=20, chunk=chunk)
    np.testing.assert_allclose(streamed[1], losses, rtol=1e-9)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-7), streamed[0], fitted)


def test_each_step_takes_the_next_batch():
    zeros, ones = np.zeros((4, 1)), np.ones((4, 1))
    data = iter([(zeros, ones), (zeros, 3 * ones)])
    losses = fit(MODEL, lambda u, data, key: jnp.mean(data[1]), data, steps=2)[1]
    np.testing.assert_array_equal(losses, [1.0, 3.0])


def test_an_iterable_begins_again_and_an_iterator_ends_the_training():
    mean = lambda u, data, key: jnp.mean(data[0])  # noqa: E731
    means = [np.mean(x) for x, _ in batches()]
    again = fit(MODEL, mean, Epochs(), steps=6)[1]
    np.testing.assert_allclose(again, means + means[:2], rtol=1e-6)
    np.testing.assert_allclose(fit(MODEL, mean, batches(), steps=6)[1], means, rtol=1e-6)


def test_batches_of_equal_shape_compile_once():
    fit(MODEL, mse, Epochs(), RATE, steps=2)
    before = compilations()
    fit(MODEL, mse, Epochs(), 2 * RATE, key=7, steps=9)
    assert compilations() == before
    fit(MODEL, mse, batches(24), RATE, steps=3)  # 24, 24, 16
    assert compilations() == before + 1


def test_no_more_than_four_batches_are_alive():
    alive, most = 0, 0

    class Array(np.ndarray):
        """An array that can be counted."""

    def released():
        nonlocal alive
        alive -= 1

    def counted():
        nonlocal alive, most
        for _ in range(30):
            batch = Array((5, 1))  # it owns its memory, so that views keep it alive
            batch[:] = 0
            weakref.finalize(batch, released)
            alive += 1
            most = max(most, alive)
            yield (batch, batch)
            del batch

    fit(MODEL, mse, counted(), steps=30)
    assert most <= 4  # two queued, the present and the next one


def test_initial_parameters_are_not_donated():
    params = MODEL.init(jax.random.key(0))
    before = jax.tree.map(np.array, params)
    fit(MODEL, mse, Epochs(), RATE, params=params, steps=3)
    jax.tree.map(np.testing.assert_array_equal, params, before)


def test_the_callback_gets_the_losses():
    seen = {}
    losses = fit(MODEL, mse, Epochs(), steps=7, callback=seen.__setitem__)[1]
    assert seen == {step: float(loss) for step, loss in enumerate(losses)}


def nan_in(number):
    for count, (x, y) in enumerate(batches()):
        yield x, (y * np.nan if count == number else y)


@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_batch_that_is_not_finite_is_an_error_with_its_step(number):
    message = rf"the loss became nan at step {number}: the data have values that are not finite"
    with pytest.raises(InputError, match=message):
        fit(MODEL, mse, nan_in(number), RATE, steps=4)
    losses = fit(MODEL, mse, nan_in(number), RATE, steps=4, on_nonfinite="return")[1]
    assert np.flatnonzero(np.isnan(losses))[0] == number
    assert losses.shape == (4,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": iter([])}, "data: the iterable has no batch"),
        ({"data": Epochs(), "batch": 4}, "batch: the iterable `data` yields the batches"),
        ({"data": iter([(np.zeros((4, 1)), np.zeros((3, 1)))]), "chunk": 2}, "lengths"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        fit(MODEL, mse, **arguments)


def test_a_grain_dataset_is_an_iterable_of_batches():
    grain = pytest.importorskip("grain")
    x, y = wave()
    rows = grain.MapDataset.source(list(zip(x, y, strict=True))).shuffle(seed=0).repeat()
    losses = fit(MODEL, mse, rows.to_iter_dataset().batch(16), 1e-2, steps=300)[1]
    assert losses.shape == (300,)
    assert losses[-1] < losses[0] / 10


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_larger_than_the_memory_is_fitted(tmp_path):
    """4 GB of points on a sparse file, read in batches; the process grows by less than 1 GB."""
    code = """
import numpy as np, jax.numpy as jnp
import lrnn_jax as lj
def peak():  # KB; `ru_maxrss` would be that of pytest, which starts this process
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
model = lj.Siren(in_dim=1, out_dim=1, width=8, depth=1)
values = np.memmap("values.bin", np.float32, mode="r", shape=(10**9, 1))
rng = np.random.default_rng(0)
def batches():
    while True:
        start = rng.integers(0, len(values) - 1000)
        x = np.arange(start, start + 1000)[:, None] / len(values)
        yield x.astype(np.float32), values[start : start + 1000]
mse = lambda u, data, key: jnp.mean((u(data[0]) - data[1]) ** 2)
before = peak()
params, losses = lj.fit(model, mse, batches(), 1e-2, steps=20)
print(len(losses), peak() - before < 2**20)
"""
    with (tmp_path / "values.bin").open("wb") as file:
        file.truncate(4 * 10**9)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["20", "True"], done.stderr
