"""Training on squared residuals: the loss and its Jacobian, weights, points, phases, resuming."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import lrnn_jax as lj
from lrnn_jax import InputError, Training, pde
from lrnn_jax.cli import main
from lrnn_jax.experiments import Experiment, RunFolder, resume, start
from lrnn_jax.optimizers import (
    factorize_weights,
    lbfgs,
    levenberg_marquardt,
    natural_gradient,
)
from lrnn_jax.residuals import sum_of_parts
from lrnn_jax.training import Trainer, make_problem_step
from lrnn_jax.training.least_squares import FrozenLoss

MODEL = lj.Siren(in_dim=2, out_dim=1, width=5, depth=1, omega0=2.0)
PROBLEM = pde.Heat(points=30, boundary_points=7, initial_weight=10.0)


def frozen_loss(problem=PROBLEM, chunk=None):
    parts = problem.parts(problem.load())
    ones = {name: (part.rows, jnp.ones(len(part.rows))) for name, part in parts.items()}
    return FrozenLoss(MODEL, parts, ones, chunk), {n: p.weight for n, p in parts.items()}


def loss_of(problem):
    data = problem.load()
    return lambda params: sum_of_parts(problem.parts(data), functools.partial(MODEL.apply, params))[
        0
    ]


# The loss and its derivatives ---------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 4])
def test_loss_gradient_and_jacobian_are_those_of_the_problem(chunk, x64):
    params = MODEL.init(jax.random.key(0))
    loss, weights = frozen_loss(chunk=chunk)
    expected, slope = jax.jit(jax.value_and_grad(loss_of(PROBLEM)))(params)
    (value, terms), grads = jax.jit(loss.gradient)(params, weights)
    r, j = jax.jit(loss.linearise)(params, weights)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(loss.value)(params, weights), expected, rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(r**2), expected, rtol=1e-12)
    np.testing.assert_allclose(sum(weights[n] * terms[n] for n in terms), expected, rtol=1e-12)
    flat = ravel_pytree(slope)[0]
    np.testing.assert_allclose(ravel_pytree(grads)[0], flat, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(2 * j.T @ r, flat, rtol=1e-9, atol=1e-12)
    assert j.shape == (30 + 2 * 7, MODEL.parameter_count)


def test_rows_of_the_jacobian_are_derivatives_of_the_residuals(x64):
    loss, weights = frozen_loss()
    flat, unravel = ravel_pytree(MODEL.init(jax.random.key(0)))
    at = jax.jit(lambda flat: loss.linearise(unravel(flat), weights))
    step = 1e-6 * jax.random.normal(jax.random.key(1), flat.shape)
    difference = (at(flat + step)[0] - at(flat - step)[0]) / 2
    np.testing.assert_allclose(at(flat)[1] @ step, difference, atol=1e-12)


def test_a_jacobian_without_room_is_refused():
    problem = dataclasses.replace(PROBLEM, points=10**9)
    shape = jax.ShapeDtypeStruct((10**9, 2), jnp.float32)
    loss, weights = frozen_loss()
    loss.frozen["residual"] = (shape, jax.ShapeDtypeStruct((10**9,), jnp.float32))
    with pytest.raises(InputError, match=r"optimizer: the Jacobian of 1000000014 residuals by"):
        loss.linearise(MODEL.init(jax.random.key(0)), weights)
    assert problem.points == 10**9


# Weights ------------------------------------------------------------------------------------------


def first_weights(balance):
    training = Training(balance=balance, balance_every=2, precision="float64")
    trainer = Trainer(MODEL, PROBLEM, training)
    state, data = trainer.state, trainer.data
    step = jax.jit(make_problem_step(MODEL, PROBLEM, training))
    first, _ = step(state, data, jax.random.key(1))
    second, _ = step(first, data, jax.random.key(1))
    third, _ = step(second, data, jax.random.key(1))
    return state, first.weights, second.weights, third.weights


def expected_weights(sizes):
    total = sum(sizes.values())
    own = {"residual": 1.0, "initial": 10.0, "boundary": 1.0}
    return {name: 0.9 * own[name] + 0.1 * total / sizes[name] for name in own}


def test_weights_by_the_norms_of_gradients(x64):
    state, first, second, third = first_weights("gradient_norm")
    sizes = {}
    for name, part in PROBLEM.parts(PROBLEM.load()).items():

        def mean(params, name=name, part=part):
            return sum_of_parts({name: part}, functools.partial(MODEL.apply, params))[1][name]

        sizes[name] = jnp.linalg.norm(ravel_pytree(jax.grad(mean)(state.params))[0])
    expected = expected_weights(sizes)
    for name, weight in expected.items():
        np.testing.assert_allclose(first[name], weight, rtol=1e-8)
    assert second == first  # they move every other step
    assert third != first


@pytest.mark.parametrize("balance", ["gradient_norm", "ntk"])
def test_balanced_weights_are_bounded_and_a_part_of_weight_zero_stays_out(balance):
    box = pde.Box((0.0,), (1.0,))
    nothing = pde.dirichlet(box, lambda x: x - x)._replace(
        name="nothing", residual=lambda u: lambda x: 0 * u(x)
    )
    problem = pde.Equation(
        domain=box,
        residual=lambda u: u,
        conditions=(nothing, pde.dirichlet(box, weight=0.0)),
        points=10,
    )
    model = lj.Siren(in_dim=1, out_dim=1, width=3, depth=1, omega0=1.0)
    training = Training(balance=balance, steps=1)
    trainer = Trainer(model, problem, training)
    state, data = trainer.state, trainer.data
    step = jax.jit(make_problem_step(model, problem, training))
    weights = step(state, data, jax.random.key(1))[0].weights
    assert weights["boundary"] == 0
    assert 1e3 < weights["nothing"] < 1.1e5


def test_weights_by_the_traces_of_tangent_kernels(x64):
    state, first, *_ = first_weights("ntk")
    flat, unravel = ravel_pytree(state.params)
    sizes = {}
    for name, part in PROBLEM.parts(PROBLEM.load()).items():

        def residuals(flat, part=part):
            field = functools.partial(MODEL.apply, unravel(flat))
            return jax.vmap(part.residual(field))(part.rows).ravel()

        sizes[name] = jnp.sum(jax.jacfwd(residuals)(flat) ** 2) / len(part.rows)
    for name, weight in expected_weights(sizes).items():
        np.testing.assert_allclose(first[name], weight, rtol=1e-8)


# Points -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "changes"), [(1, [1, 2, 3, 4]), (2, [2, 4])])
def test_points_are_drawn_when_they_are_due(every, changes):
    problem = dataclasses.replace(PROBLEM, resample_every=every)
    trainer = Trainer(MODEL, problem, Training())
    state, data = trainer.state, trainer.data
    step = jax.jit(make_problem_step(MODEL, problem, Training()))
    moved = []
    for number in range(5):
        before = np.asarray(state.points["residual"])
        state, _ = step(state, data, jax.random.key(1))
        if not np.array_equal(before, state.points["residual"]):
            moved.append(number)
    assert moved == changes


def test_points_that_stay_are_no_part_of_the_state():
    state = Trainer(MODEL, PROBLEM, Training()).state
    assert state.points is None
    assert state.weights is None


# Every optimiser ----------------------------------------------------------------------------------

OPTIMIZERS = {
    "adam": 200,
    "soap": 300,
    "lbfgs": 40,
    "adam_lbfgs": 60,
    "ssbroyden": 40,
    "levenberg_marquardt": 12,
    "natural_gradient": 30,
}


@pytest.mark.parametrize(("name", "steps"), OPTIMIZERS.items())
def test_every_optimizer_solves_a_small_equation(name, steps):
    fields = {"learning_rate": 1e-2, "schedule": "constant", "switch_at": 20}
    training = Training(optimizer=name, steps=steps, precision="float64", **fields)
    found = lj.solve(MODEL, PROBLEM, training)
    losses = found.history["loss"]
    assert losses[-1] < 0.1 * losses[0]
    assert len(losses) == steps
    assert found.stop_reason == f"all {steps} steps are done"


def test_a_solution_says_why_it_stopped():
    training = Training(optimizer="levenberg_marquardt", steps=400, precision="float64")
    line = pde.Equation(
        domain=pde.Box((0.0,), (1.0,)), residual=lambda u: lambda x: u(x) - 2.0, points=5
    )
    found = lj.solve(lj.MLP(in_dim=1, out_dim=1, width=2, depth=1), line, training)
    assert len(found.history["loss"]) < 400
    assert "converged" in found.stop_reason
    assert found.history["loss"][-1] < 1e-20


def test_the_trail_of_scores(x64):
    found = lj.solve(MODEL, PROBLEM, Training(steps=10), score_every=4)
    assert [step for step, _ in found.evaluations] == [4, 8, 10]
    assert found.scores == found.evaluations[-1][1]
    assert len(found.history["loss"]) == 10


# Runs ---------------------------------------------------------------------------------------------

RESUMED = {
    "adam_lbfgs": {"switch_at": 4},
    "ssbroyden": {},
    "levenberg_marquardt": {"balance": "gradient_norm", "balance_every": 3},
    "natural_gradient": {"weight_factorization": True},
    "soap": {"balance": "ntk", "balance_every": 3},
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_is_the_same_to_the_bit(name, tmp_path, monkeypatch):
    monkeypatch.setattr(pde.Convection, "render", lambda *_: [])  # drawn elsewhere
    problem = pde.Convection(beta=1.0, points=20, resample_every=3, adaptive=True)
    fields = {"optimizer": name, "precision": "float64", "log_every": 1, **RESUMED[name]}
    whole = Experiment(model=MODEL, problem=problem, training=Training(steps=8, **fields))
    part = dataclasses.replace(whole, training=Training(steps=5, **fields))
    start(whole, tmp_path / "whole")
    start(part, tmp_path / "part")
    resume(RunFolder.open(tmp_path / "part"), {"steps": 8})
    for file in ("model.safetensors", "checkpoints/8.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "part" / file).read_bytes()
    summary = json.loads((tmp_path / "part" / "summary.json").read_text())
    assert summary["stop_reason"] == "all 8 steps are done"
    assert summary["parameters"] == MODEL.parameter_count


def test_line_searches_take_any_problem():
    """Of a picture they are given the loss, chunk by chunk."""
    problem, model = lj.Image(source="camera", size=(8, 8)), lj.Siren(in_dim=2, out_dim=1, width=8)
    losses = {}
    for chunk in (None, 20):
        training = lj.Training(optimizer="lbfgs", steps=6, chunk=chunk, precision="float64")
        losses[chunk] = lj.solve(model, problem, training).history["loss"]
    assert losses[None][-1] < losses[None][0] / 2
    np.testing.assert_allclose(losses[None], losses[20], rtol=1e-6)


def test_nonsense_is_refused_before_training():
    problem = pde.Convection(points=10)
    with pytest.raises(InputError, match="switch_at: expected less than the 1000 steps"):
        lj.solve(MODEL, problem, lj.Training(optimizer="adam_lbfgs"))
    with pytest.raises(InputError, match="score_every: expected an integer >= 1"):
        lj.solve(MODEL, problem, lj.Training(), score_every=0)


def test_single_precision_is_single_where_double_is_on(x64):
    found = lj.solve(MODEL, pde.Convection(points=10), lj.Training(steps=1))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found.field)} == {"float32"}


def test_an_ended_run_says_why_it_cannot_go_on(tmp_path, capsys):
    command = [
        "fit", "--problem.kind", "poisson", "--problem.dim", "1", "--problem.points", "10",
        "--model.kind", "siren", "--model.width", "4", "--model.depth", "1",
        "--model.omega0", "3.0", "--training.optimizer", "levenberg_marquardt",
        "--training.precision", "float64", "--training.steps", "20000",
        "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "stopped   after" in said
    assert main(["fit", "--resume", str(tmp_path / "run")]) == 2
    assert "has ended: after" in capsys.readouterr().err


BAD = {
    "LRNN has 1 continuous derivatives and Heat takes 2": [
        "--model.kind", "lrnn", "--model.activation", "spder",
    ],
    "NestNet has 0 continuous derivatives": ["--model.kind", "nestnet"],
    "batch: Heat draws its own points": [
        "--training.batch", "10", "--training.optimizer", "adam",
    ],
    "model.in_dim is 3 but the problem has 2": ["--model.in_dim", "3"],
    "training.batch: 'lbfgs' needs all points": [
        "--training.batch", "10", "--training.optimizer", "lbfgs",
    ],
    "training.subnetwork_rate: 'lbfgs' has no learning rate": [
        "--training.subnetwork_rate", "0.5", "--training.optimizer", "lbfgs",
    ],
    "training.precision: expected one of": ["--training.precision", "half"],
    "problem.diffusivity: expected a finite number > 0": ["--problem.diffusivity", "0"],
    "unknown field problem.beta": ["--problem.beta", "3.0"],
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line_and_writes_nothing(message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = ["fit", "--problem.kind", "heat", "--problem.points", "10", "--training.steps", "2"]
    words = BAD[message]
    model = [] if "--model.kind" in words else ["--model.kind", "siren"]
    assert main([*base, *model, *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_picture_has_no_residuals(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, message in (
        (["--training.optimizer", "levenberg_marquardt"], "needs a problem of squared residuals"),
        (["--training.balance", "ntk"], "balance: 'ntk' needs a problem of squared residuals"),
    ):
        assert main(["fit", "--problem.size", "8", "8", "--training.batch", "none", *words]) == 2
        assert message in capsys.readouterr().err


# Random weight factorisation ----------------------------------------------------------------------


@pytest.mark.parametrize("model", [MODEL, lj.LRNN(in_dim=2, out_dim=1, rank=3, components=2)])
def test_factorized_weights_leave_the_function_and_change_the_gradient(model, x64):
    params, x = model.init(jax.random.key(0)), jnp.array([[0.3, -0.2], [0.1, 0.9]])
    optimizer = factorize_weights(optax.sgd(1e-3), jax.random.key(1), mean=1.0)
    state = optimizer.init(params)
    direction, scale = state.factors["direction"], state.factors["scale"]
    merged = direction["head"]["weight"] * jnp.exp(scale["head/weight"])
    np.testing.assert_allclose(merged, params["head"]["weight"], rtol=1e-12)
    spread = jnp.concatenate([s.ravel() for s in jax.tree.leaves(scale)])
    assert abs(spread.mean() - 1.0) < 0.1
    assert 0.05 < spread.std() < 0.2
    assert not any(name.endswith("bias") for name in scale)
    # dL/ds is the sum over a column of W dL/dW, and dL/dV is exp(s) dL/dW.
    outer = jax.jit(jax.grad(lambda p: jnp.sum(model.apply(p, x) ** 2)))(params)
    updates, after = jax.jit(optimizer.update)(outer, state, params)
    w, g, s = params["head"]["weight"], outer["head"]["weight"], scale["head/weight"]
    new_s, new_v = s - 1e-3 * jnp.sum(w * g, axis=0), (w - 1e-3 * jnp.exp(2 * s) * g) / jnp.exp(s)
    np.testing.assert_allclose(after.factors["scale"]["head/weight"], new_s, rtol=1e-12)
    np.testing.assert_allclose(w + updates["head"]["weight"], new_v * jnp.exp(new_s), rtol=1e-9)
    bias = outer["head"]["bias"]
    np.testing.assert_allclose(updates["head"]["bias"], -1e-3 * bias, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("optimizer", [levenberg_marquardt(), natural_gradient(), lbfgs()])
def test_a_wrapped_second_order_method_is_the_method_on_the_factors(optimizer, x64):
    """The same trajectory as the optimizer alone on the residuals as a function of (V, s)."""
    params = {"layer": {"weight": jnp.array([[0.5, -1.0], [2.0, 0.3]]), "bias": jnp.ones(2)}}
    wrapped = factorize_weights(optimizer, jax.random.key(3))
    state = wrapped.init(params)
    factors, plain = state.factors, optimizer.init(state.factors)

    def merge(factors):
        v, s = factors["direction"]["layer"], factors["scale"]["layer/weight"]
        return {"layer": {"weight": v["weight"] * jnp.exp(s), "bias": v["bias"]}}

    def residuals(p):
        weight, bias = p["layer"]["weight"], p["layer"]["bias"]
        return jnp.concatenate([(weight**3).ravel() - 1, jnp.tanh(bias)])

    def arguments(r, p):
        loss = lambda p: jnp.sum(r(p) ** 2)  # noqa: E731
        unravel = ravel_pytree(p)[1]
        value, grads = jax.value_and_grad(loss)(p)
        linearise = lambda p: (  # noqa: E731
            r(p),
            jax.jacrev(lambda flat: r(unravel(flat)))(ravel_pytree(p)[0]),
        )
        given = {"value": value, "grad": grads, "value_fn": loss}
        return grads, given | {"residual_fn": r, "linearise_fn": linearise}

    for _ in range(4):
        grads, given = arguments(residuals, params)
        updates, state = wrapped.update(grads, state, params, **given)
        params = optax.apply_updates(params, updates)
        grads, given = arguments(lambda f: residuals(merge(f)), factors)
        updates, plain = optimizer.update(grads, plain, factors, **given)
        factors = optax.apply_updates(factors, updates)
        expected, found = ravel_pytree(merge(factors))[0], ravel_pytree(params)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-7)
        assert state.result == plain.result
