"""The step, `fit` and `advance`: values against plain NumPy, then laws."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrnn_jax import LRNN, InputError, NestNet, Siren, Training, fit
from lrnn_jax.fields import BoundModel, predict
from lrnn_jax.training import initial_state, make_advance, make_step
from lrnn_jax.training.loop import with_gradient
from lrnn_jax.trees import named_leaves

MODEL = LRNN(in_dim=1, out_dim=1, rank=3, components=2, activation="sin", omega0=3.0)
ADAM = optax.adam(1e-2)


@dataclasses.dataclass(frozen=True)
class Line:
    """u(x) = w x: a user's own model, whose gradient is known."""

    in_dim: int = 1
    out_dim: int = 1

    def init(self, key):
        del key
        return {"w": jnp.zeros(())}

    def apply(self, params, x):
        return params["w"] * x


def mse(u, data, key):
    del key
    x, y = data
    return jnp.mean((u(x) - y) ** 2)


def wave(points=50):
    x = jnp.linspace(-1, 1, points)[:, None]
    return x, jnp.sin(3 * x)


def test_fit_follows_gradient_descent_by_hand():
    """w <- w - rate d/dw mean((w x - y)^2) = w - 2 rate mean((w x - y) x)."""
    x, y = wave()
    params, losses = fit(Line(), mse, (x, y), optax.sgd(0.3), key=jax.random.key(0), steps=5)
    w, expected = 0.0, []
    points, values = np.asarray(x, np.float64), np.asarray(y, np.float64)
    for _ in range(5):
        expected.append(np.mean((w * points - values) ** 2))
        w -= 0.3 * 2 * np.mean((w * points - values) * points)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(params["w"], w, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 50, 51])
def test_chunks_change_nothing_but_rounding(chunk):
    whole, losses = fit(MODEL, mse, wave(), ADAM, key=jax.random.key(1), steps=3)
    parts, part_losses = fit(MODEL, mse, wave(), ADAM, key=jax.random.key(1), steps=3, chunk=chunk)
    np.testing.assert_allclose(part_losses, losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), parts, whole)


def test_a_population_is_vmap_of_fit():
    keys = jax.random.split(jax.random.key(2), 3)

    def run(key):
        return fit(MODEL, mse, wave(), ADAM, key=key, steps=4)[1]

    together = jax.vmap(run)(keys)
    np.testing.assert_allclose(together, jnp.stack([run(key) for key in keys]), rtol=1e-4)
    assert not np.allclose(together[0], together[1])


def test_fit_compiles_once_for_equal_specs():
    calls = []

    def counted(u, data, key):
        calls.append(1)
        return mse(u, data, key)

    for seed in range(3):
        spec = dataclasses.replace(MODEL)
        fit(spec, counted, wave(), ADAM, key=jax.random.key(seed), steps=2)
    once = len(calls)
    fit(MODEL, counted, wave(), ADAM, key=jax.random.key(9), steps=2)
    assert len(calls) == once <= 2


def test_the_loss_that_a_line_search_differentiates_has_the_given_gradient():
    def value(params):
        return jnp.abs(params["z"] - 2j) ** 2 + jnp.sum(params["w"] ** 3)

    params = {"z": jnp.asarray(1 + 1j), "w": jnp.asarray([1.0, 2.0])}
    tangents = {"z": jnp.asarray(0.5 - 1j), "w": jnp.asarray([-1.0, 3.0])}
    gradient = jax.value_and_grad(lambda params: (value(params), {}), has_aux=True)
    function = with_gradient(value, gradient)
    expected = jax.jvp(value, (params,), (tangents,))
    chex.assert_trees_all_close(jax.jvp(function, (params,), (tangents,)), expected, rtol=1e-6)
    chex.assert_trees_all_close(jax.grad(function)(params), jax.grad(value)(params), rtol=1e-6)
    other = with_gradient(value, lambda params: ((value(params), {}), params))
    chex.assert_trees_all_equal(jax.grad(other)(params), params)


def test_named_terms_are_recorded_and_averaged_over_chunks():
    def loss(u, data, key):
        x, y = data
        fidelity, size = jnp.mean((u(x) - y) ** 2), jnp.mean(u(x) ** 2)
        return fidelity + 0.1 * size, {"fidelity": fidelity, "size": size}

    state = initial_state(MODEL.init(jax.random.key(0)), ADAM)
    terms = [
        jax.jit(make_step(MODEL, loss, ADAM, chunk=chunk))(state, wave(), jax.random.key(1))[1]
        for chunk in (None, 7)
    ]
    assert set(terms[0]) == {"loss", "fidelity", "size"}
    total = terms[0]["fidelity"] + 0.1 * terms[0]["size"]
    np.testing.assert_allclose(terms[0]["loss"], total, rtol=1e-6)
    for name, value in terms[0].items():
        np.testing.assert_allclose(terms[1][name], value, rtol=1e-5)


def test_a_batch_is_drawn_from_the_data_and_anew_each_step():
    data = (jnp.arange(100.0)[:, None], jnp.zeros((100, 1)))

    def seen(u, data, key):
        del key
        return jnp.mean(u(data[0])), {"points": jnp.mean(data[0]), "most": jnp.max(data[0])}

    step = make_step(Line(), seen, optax.sgd(0.0), batch=10)
    state = initial_state({"w": jnp.ones(())}, optax.sgd(0.0))
    means = []
    for _ in range(50):
        state, terms = step(state, data, jax.random.key(0))
        means.append(float(terms["points"]))
        assert 0 <= float(terms["most"]) <= 99
    assert len(set(means)) > 40
    # the mean of 10 of 0..99 has standard deviation 28.9 / sqrt(10); of 50 such, 1.3
    assert abs(np.mean(means) - 49.5) < 5


def test_advance_takes_any_number_of_steps_with_one_executable_and_the_same_bits():
    traced = []

    def counted(u, data, key):
        traced.append(1)
        return mse(u, data, key)

    step = make_step(MODEL, counted, ADAM, chunk=16)
    advance = make_advance(step, capacity=8)
    data, key = wave(), jax.random.key(4)

    def run(*counts):
        state, losses = initial_state(MODEL.init(jax.random.key(5)), ADAM), []
        for count in counts:
            state, history, done = advance(state, data, key, jnp.int32(count))
            losses += history["loss"][: int(done)].tolist()
        return state, losses

    whole, losses = run(8)
    once = len(traced)
    pieces, piece_losses = run(1, 5, 2)
    assert len(traced) == once
    assert losses == piece_losses
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), whole, pieces))


def test_advance_stops_at_the_first_loss_that_is_not_finite():
    def doomed(u, data, key):
        return mse(u, data, key) / jnp.where(u(data[0][0])[0] > 0.35, 0.0, 1.0)

    x = jnp.ones((4, 1))
    step = make_step(Line(), doomed, optax.sgd(0.1))
    state = initial_state({"w": jnp.zeros(())}, optax.sgd(0.1))
    # w: 0, 0.2, 0.36: the third loss divides by zero
    _, history, done = make_advance(step, 10)(state, (x, x), jax.random.key(0), jnp.int32(10))
    assert int(done) == 3
    assert np.isfinite(history["loss"][:2]).all()
    assert not np.isfinite(history["loss"][2])


@pytest.mark.parametrize("points", [0, 1, 5, 6, 13])
def test_predictions_equal_apply_at_any_number_of_points(points):
    params = MODEL.init(jax.random.key(0))
    x = np.linspace(-1, 1, points, dtype=np.float32)[:, None]
    field = BoundModel(MODEL, params)
    expected = jax.jit(MODEL.apply)(params, x)  # eagerly, its rounding would be another
    for u in (field, lambda x: MODEL.apply(params, x)):
        values = predict(u, x, chunk=6)
        assert type(values) is np.ndarray
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
        assert predict(u, x[None], chunk=6).shape == (1, points, 1)


def test_a_prediction_of_no_points_at_a_time_is_refused():
    with pytest.raises(InputError, match="chunk: expected an integer >= 1, got 0"):
        predict(lambda x: x, np.ones((3, 1)), chunk=0)


def test_a_bound_model_is_a_function_of_jax(x64):
    """NumPy constants under jit, derivatives, and a pytree whose leaves are the parameters."""
    field = BoundModel(MODEL, MODEL.init(jax.random.key(0)))
    x = np.array([0.3])
    value = field(x)
    np.testing.assert_allclose(jax.jit(lambda: field(x))(), value, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(lambda u: u(x))(field), value, rtol=1e-12)
    slope = jax.grad(lambda x: field(x)[0])(x)
    step = (field(x + 1e-6) - field(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, step, rtol=1e-6)
    assert len(jax.tree.leaves(field)) == len(jax.tree.leaves(field.params))


def test_float64_parameters_are_used_in_float64_whatever_the_default(x64):
    field = BoundModel(MODEL, MODEL.init(jax.random.key(0)))
    x = np.linspace(-1, 1, 7)[:, None]
    expected = np.asarray(field(x))
    with jax.enable_x64(False):
        for values in (np.asarray(field(x)), predict(field, x)):
            assert values.dtype == np.float64
            np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="steps: expected an integer >= 1, got 0"):
        fit(MODEL, mse, wave(), ADAM, key=jax.random.key(0), steps=0)
    with pytest.raises(InputError, match="chunk: expected an integer >= 1, got 0"):
        fit(MODEL, mse, wave(), ADAM, key=jax.random.key(0), steps=1, chunk=0)
    unequal = (jnp.zeros((4, 1)), jnp.zeros((5, 1)))
    with pytest.raises(InputError, match=r"one common first axis, got lengths \['4', '5'\]"):
        fit(MODEL, mse, unequal, ADAM, key=jax.random.key(0), steps=1, chunk=2)


def test_schedules():
    """step: rate factor^(step // every); exponential: rate factor^(step / every), which is WIRE's
    rate 0.1^(step / steps) at every = steps; cosine: rate (1 + cos(pi step / steps)) / 2."""
    staircase = Training(learning_rate=1e-3, schedule="step").rate()
    for step in (0, 99, 100, 999):
        np.testing.assert_allclose(staircase(step), 1e-3 * 0.8 ** (step // 100), rtol=1e-5)
    smooth = Training(learning_rate=1e-3, schedule="exponential").rate()
    for step in (0, 1, 37, 100, 999):
        np.testing.assert_allclose(smooth(step), 1e-3 * 0.8 ** (step / 100), rtol=1e-5)
    decay = {"steps": 700, "decay_every": 700, "decay_factor": 0.1}
    wire = Training(learning_rate=5e-3, schedule="exponential", **decay)
    for step in (0, 1, 350, 700):
        np.testing.assert_allclose(wire.rate()(step), 5e-3 * 0.1 ** (step / 700), rtol=1e-5)
    assert dataclasses.replace(wire, steps=900).rate()(350) == wire.rate()(350)
    cosine = Training(learning_rate=2e-3, schedule="cosine", steps=400).rate()
    for step in (0, 100, 200, 400):
        expected = 2e-3 * (1 + np.cos(np.pi * step / 400)) / 2
        np.testing.assert_allclose(cosine(step), expected, rtol=1e-5, atol=1e-12)
    constant = Training(learning_rate=2e-3, schedule="constant").rate()
    assert constant(0) == constant(10_000) == np.float32(2e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps: expected an integer >= 1, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a finite number > 0"),
        ({"decay_factor": 1.5}, r"decay_factor: expected a number in \(0, 1\], got 1.5"),
        ({"batch": 0}, "batch: expected an integer >= 1, got 0"),
        ({"seed": -1}, "seed: expected an integer >= 0, got -1"),
        ({"schedule": "linear"}, "expected one of 'constant', 'step', 'exponential', 'cosine'"),
    ],
)
def test_training_names_impossible_fields(fields, message):
    with pytest.raises(InputError, match=message):
        Training(**fields)


def test_a_siren_reaches_a_wave():
    """200 steps of Adam at 1e-3 on 3 sin(3x)-like data: below 1e-5, from about 0.5."""
    model = Siren(in_dim=1, out_dim=1, width=16, depth=2, omega0=10.0)
    _, losses = fit(model, mse, wave(), optax.adam(3e-3), key=jax.random.key(0), steps=300)
    assert losses[0] > 0.1
    assert losses[-1] < 1e-4


def test_subnetworks_learn_at_their_own_rate():
    model = NestNet(in_dim=1, out_dim=1, width=4, depth=2, frequencies=2)
    params = model.init(jax.random.key(0))
    grads = jax.tree.map(jnp.ones_like, params)

    def updates(**fields):
        optimizer = Training(learning_rate=1e-2, schedule="constant", **fields).transformation()
        return optimizer.update(grads, optimizer.init(params), params)[0]

    plain, scaled = updates(), updates(subnetwork_rate=0.2)
    for name, leaf in named_leaves(scaled).items():
        factor = 0.2 if "subnetwork" in name else 1.0
        np.testing.assert_allclose(leaf, factor * named_leaves(plain)[name], rtol=1e-6)
    assert any("subnetwork" in name for name in named_leaves(scaled))


def test_a_rate_for_subnetworks_needs_some():
    optimizer = Training(subnetwork_rate=0.2).transformation()
    with pytest.raises(InputError, match="subnetwork_rate: the model has no subnetworks"):
        optimizer.init(Siren(in_dim=1, out_dim=1, width=4).init(jax.random.key(0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y.at[3].set(jnp.nan)), "the data have values that are not finite"),
        (lambda x, y: (x[:0], y[:0]), "the data have no rows"),
        (lambda x, y: (x, y * 1e30), "at step 0: the loss or the parameters are not finite"),
    ],
)
def test_a_fit_to_unusable_data_is_an_error(key, change, message):
    with pytest.raises(InputError, match=message):
        fit(MODEL, mse, change(*wave()), ADAM, key=key, steps=3)


def test_a_fit_that_diverges_is_an_error_or_returns_its_losses():
    fast, keys = optax.sgd(1e30), functools.partial(jax.random.key, 0)
    with pytest.raises(InputError, match=r"the loss became \S+ at step [1-9]: try a smaller"):
        fit(MODEL, mse, wave(), fast, key=keys(), steps=5)
    losses = fit(MODEL, mse, wave(), fast, key=keys(), steps=5, on_nonfinite="return")[1]
    assert np.isfinite(losses[0])
    assert not np.isfinite(losses[-1])
    together = jax.vmap(lambda k: fit(MODEL, mse, wave(), fast, key=k, steps=5)[1])
    assert not np.isfinite(together(jax.random.split(keys(), 2))[:, -1]).any()
