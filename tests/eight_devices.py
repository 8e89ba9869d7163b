"""Checks on eight virtual devices; `test_data_parallel.py` runs them in a process of its own."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import lrnn_jax as lj
from lrnn_jax.experiments import Experiment, RunFolder, load_run, resume, start
from lrnn_jax.studies import planning
from lrnn_jax.studies.engine import Goals, Program, fit_block
from lrnn_jax.training import Checkpoints, Trainer, initial_state, make_step, precision_context

DEVICES = np.array(jax.devices())
MESHES = {"auto": Mesh(DEVICES, ("points",)), "explicit": jax.make_mesh((8,), ("points",))}
NET = lj.Siren(in_dim=2, out_dim=1, width=16, depth=1)
PRODUCTS = lj.LRNN(in_dim=2, out_dim=1, depth=1, rank=4, components=2, activation="sin", omega0=3.0)
POINTS = 4096
COLLECTIVES = r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread(lj.Image):
    """An image whose points are spread over the devices."""

    mesh: str = "auto"

    def load(self):
        data = super().load()
        sharding = NamedSharding(MESHES[self.mesh], PartitionSpec("points"))
        x, y = jax.device_put((data.x, data.y), sharding)
        return dataclasses.replace(data, x=x, y=y)


ONE = lj.Image("camera", size=(64, 64))
CONVECTION = lj.pde.Convection(beta=1.0, points=100, resample_every=2)
TANH = lj.MLP(in_dim=2, out_dim=1, width=8, depth=1, activation="tanh")
CASES = {
    "data_parallel": (ONE, {"data_parallel": True}),
    "spread, auto": (Spread("camera", size=(64, 64)), {}),
    "spread, explicit": (Spread("camera", size=(64, 64), mesh="explicit"), {}),
}


def compiled(problem, **settings):
    trainer = Trainer(NET, problem, lj.Training(steps=20, **settings))
    trainer.compile()
    return trainer._compiled


def collectives(program):
    return re.findall(COLLECTIVES, program.as_text())


def losses_of(problem, model=NET, **settings):
    training = lj.Training(**({"chunk": 64, "steps": 10} | settings))
    return lj.solve(model, problem, training).losses


@pytest.mark.parametrize("case", CASES)
def test_a_step_divides_its_work_and_communicates_once(case):
    problem, settings = CASES[case]
    alone, shared = compiled(ONE, chunk=64), compiled(problem, chunk=64, **settings)
    assert (collectives(alone), collectives(shared)) == ([], ["all-reduce"])
    trips = [re.findall(r'known_trip_count":{"n":"(\d+)"', c.as_text()) for c in (alone, shared)]
    assert trips == [["64"], ["8"]]  # chunks of 64 points
    alone, shared = compiled(ONE, chunk=POINTS), compiled(problem, chunk=POINTS, **settings)
    share = shared.cost_analysis()["flops"] / alone.cost_analysis()["flops"]
    assert 1 / 8 <= share <= 1.2 / 8
    assert collectives(shared) == ["all-reduce"]
    np.testing.assert_allclose(losses_of(problem, **settings), losses_of(ONE), rtol=3e-6)


def test_points_that_cannot_be_shared_equally_are_all_counted():
    image = lj.Image("camera", size=(9, 7))
    settings = {"chunk": 3, "precision": "float64"}  # 7 points on each device, and 7 on all of them
    losses = losses_of(image, **settings, data_parallel=True)
    np.testing.assert_allclose(losses, losses_of(image, **settings), rtol=1e-9)
    few = lj.Image("camera", size=(1, 5))
    np.testing.assert_allclose(losses_of(few, data_parallel=True), losses_of(few), rtol=3e-6)


def test_batches():
    """Of replicated points all devices draw the batch of one device; of spread ones their own."""
    expected = losses_of(ONE, batch=512)
    losses = losses_of(ONE, batch=512, data_parallel=True)
    np.testing.assert_allclose(losses, expected, rtol=3e-6)
    spread = losses_of(CASES["spread, auto"][0], batch=512)
    assert abs(np.mean(spread[:5]) / np.mean(expected[:5]) - 1) < 0.1  # 2,560 points each
    assert spread[-1] < spread[0]
    assert collectives(compiled(CASES["spread, auto"][0], batch=512)) == ["all-reduce"]
    with pytest.raises(lj.InputError, match="batch: expected a multiple of the 8 parts"):
        losses_of(CASES["spread, auto"][0], batch=30)


@pytest.mark.parametrize("optimizer", ["lbfgs", "ssbroyden"])
@pytest.mark.parametrize("problem", [ONE, CONVECTION], ids=["image", "equation"])
def test_a_line_search_differentiates_the_shared_loss(problem, optimizer):
    model = NET if problem is ONE else TANH
    settings = {"optimizer": optimizer, "steps": 5, "precision": "float64"}
    losses = losses_of(problem, model, **settings, data_parallel=True)
    np.testing.assert_allclose(losses, losses_of(problem, model, **settings), rtol=1e-6)
    assert losses[-1] < 0.9 * losses[0]


def test_equations_that_resample_and_balance():
    settings = {"balance": "gradient_norm", "balance_every": 3, "precision": "float64"}
    expected = losses_of(CONVECTION, TANH, **settings)
    losses = losses_of(CONVECTION, TANH, **settings, data_parallel=True)
    np.testing.assert_allclose(losses, expected, rtol=1e-9)


def test_a_run_is_resumed_on_another_number_of_devices(tmp_path):
    def experiment(steps, **settings):
        training = lj.Training(steps=steps, precision="float64", checkpoint_every=10, **settings)
        return Experiment(model=NET, problem=ONE, training=training)

    start(experiment(20), tmp_path / "alone")
    start(experiment(10, data_parallel=True), tmp_path / "shared")
    resume(RunFolder(tmp_path / "shared"), {"steps": 20, "data_parallel": False})
    runs = [load_run(tmp_path / name).params for name in ("alone", "shared")]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), *runs)


def test_a_state_divided_among_the_devices_of_one_host_is_one_file(tmp_path):
    state = initial_state(NET.init(jax.random.key(0)), optax.adam(1e-3))
    rows = NamedSharding(MESHES["auto"], PartitionSpec("points"))
    everywhere = NamedSharding(MESHES["auto"], PartitionSpec())
    divided = jax.tree.map(lambda a: rows if a.shape[:1] == (16,) else everywhere, state)
    for name, saved in {"one": state, "divided": jax.device_put(state, divided)}.items():
        Checkpoints(tmp_path / name).save(saved)
    files = [(tmp_path / name / "0.safetensors").read_bytes() for name in ("one", "divided")]
    assert files[0] == files[1]
    restored = Checkpoints(tmp_path / "one").restore(jax.device_put(state, divided))
    assert jax.tree.map(lambda leaf: leaf.sharding, restored) == divided
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_fit_takes_points_that_are_spread():
    x = np.random.default_rng(0).random((POINTS, 2), np.float32)
    data = (x, np.sin(9 * x[:, :1]))
    loss = lambda u, data, key: jnp.mean((u(data[0]) - data[1]) ** 2)  # noqa: E731
    for options in ({}, {"chunk": 100}):
        expected = lj.fit(NET, loss, data, steps=10, **options)[1]
        for mesh in MESHES.values():
            spread = jax.device_put(data, NamedSharding(mesh, PartitionSpec("points")))
            losses = lj.fit(NET, loss, spread, steps=10, **options)[1]
            np.testing.assert_allclose(losses, expected, rtol=3e-6)
    other = (spread[0], jax.device_put(data[1], NamedSharding(MESHES["auto"], PartitionSpec())))
    with pytest.raises(lj.InputError, match="spread over devices in different ways"):
        lj.fit(NET, loss, other, chunk=64)


def stepped(loss, check_vma=True, **options):
    """One step of gradient descent within `jax.shard_map` on spread points."""
    optimizer = optax.sgd(0.1)
    step = make_step(PRODUCTS, loss, optimizer, **options)
    state = initial_state(PRODUCTS.init(jax.random.key(0)), optimizer)
    x = np.random.default_rng(0).random((POINTS, 2), np.float32)
    data = (x, np.sin(9 * x[:, :1]))
    points, everywhere = PartitionSpec("points"), PartitionSpec()
    key = jax.random.key(1)
    alone = make_step(PRODUCTS, squares, optimizer)(state, data, key)[0].params
    spread = jax.jit(
        jax.shard_map(
            lambda data: step(state, data, key)[0].params,
            mesh=MESHES["auto"],
            in_specs=points,
            out_specs=everywhere,
            check_vma=check_vma,
        )
    )
    return spread(data), alone


def squares(u, data, key):
    return jnp.mean((u(data[0]) - data[1]) ** 2)


def averaged(u, data, key):
    return jax.lax.pmean(squares(u, data, key), "points")


@pytest.mark.parametrize("options", [{}, {"chunk": 100}])
def test_within_shard_map_a_loss_that_averages_over_the_devices_has_the_gradient_of_the_mean(
    options,
):
    spread, alone = stepped(averaged, **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), spread, alone)


def test_within_shard_map_a_loss_of_one_device_is_refused():
    with pytest.raises(lj.InputError, match="'loss' differs between the devices"):
        stepped(squares)
    with pytest.raises(lj.InputError, match="'first' differs between"):
        stepped(lambda u, data, key: (averaged(u, data, key), {"first": data[0][0, 0]}))
    with pytest.raises(lj.InputError, match="needs check_vma=True"):
        stepped(averaged, check_vma=False)


def test_members_that_are_spread_need_no_average():
    """Each device trains a model of its own."""
    data = tuple(np.random.default_rng(0).random((2, 64, 2), np.float32))
    data = (data[0], data[1][:, :1])
    fit = lambda key: lj.fit(PRODUCTS, squares, data, key=key, steps=5, chunk=16)[1]  # noqa: E731
    keys = jax.random.split(jax.random.key(0), 8)
    spec = PartitionSpec("points")
    spread = jax.shard_map(jax.vmap(fit), mesh=MESHES["auto"], in_specs=spec, out_specs=spec)
    program = jax.jit(spread).lower(keys).compile()
    assert collectives(program) == []
    np.testing.assert_allclose(program(keys), jax.vmap(fit)(keys), rtol=1e-5)


def experiments(count, problem=ONE, model=NET, **settings):
    """Members that differ in their seeds."""
    given = {"steps": 12, "precision": "float64", "data_parallel": True} | settings
    trainings = [lj.Training(seed=seed, **given) for seed in range(count)]
    return [Experiment(model=model, problem=problem, training=training) for training in trainings]


def trained(block, goals=None):
    with precision_context(block[0].training):
        program = Program(block[0], len(block))
        return program, fit_block(program, block, goals)[0]


def assert_is_single_fit(fitted, experiment, rtol=1e-9):
    training = dataclasses.replace(experiment.training, data_parallel=False)
    alone = lj.solve(experiment.model, experiment.problem, training)
    np.testing.assert_allclose(fitted.loss, alone.losses[-1], rtol=rtol)
    for ours, theirs in zip(*map(jax.tree.leaves, (fitted.params, alone.params)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("count", "groups"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 8)]
)
def test_the_devices_are_divided_among_the_members_of_a_block(count, groups):
    (shared,), (apart,) = experiments(1), experiments(1, data_parallel=False)
    program = Program(shared, count, width=4)
    assert dict(program._mesh.shape) == {"members": groups, "points": 8 // groups}
    assert (program.size, program.width) == ((16, 2) if count == 9 else (groups, 1))
    assert dict(Program(apart, count)._mesh.shape) == {"members": 8, "points": 1}


def test_the_devices_of_a_member_share_its_points():
    block = experiments(2, chunk=POINTS)
    program, fitted = trained(block)
    assert collectives(program._advance) == ["all-reduce"]
    training = dataclasses.replace(block[0].training, data_parallel=False)
    with precision_context(training):
        trainer = Trainer(NET, ONE, training)
        trainer.compile()
    alone = trainer._compiled.cost_analysis()["flops"]
    share = program._advance.cost_analysis()["flops"] / (2 * alone)
    assert 1 / 8 <= share <= 1.2 / 8
    for fit, experiment in zip(fitted, block, strict=True):
        assert_is_single_fit(fit, experiment)


# 9 x 7 points cannot be shared equally. A line search evaluates the loss at three places.
SHARED = {
    "line search": (experiments(2, lj.Image("camera", size=(9, 7)), optimizer="lbfgs", steps=4), 3),
    "resampled": (experiments(2, CONVECTION, TANH), 2),  # the loss has two parts
}


@pytest.mark.parametrize("case", SHARED)
def test_a_member_whose_points_are_shared_is_a_single_fit(case):
    block, count = SHARED[case]
    program, fitted = trained(block)
    assert collectives(program._advance) == ["all-reduce"] * count
    assert_is_single_fit(fitted[1], block[1])


def test_members_whose_points_are_shared_end_at_different_steps():
    """Also, all devices of a member draw the batch of one device."""
    block = experiments(2, batch=512, precision="float32")
    training = dataclasses.replace(block[0].training, learning_rate=1e37)
    block[0] = dataclasses.replace(block[0], training=training)
    _, fitted = trained(block, Goals(targets=(100.0,), every=5))
    assert [fit.diverged for fit in fitted] == [True, False]
    assert fitted[0].steps < 5
    assert fitted[1].steps == 12
    assert_is_single_fit(fitted[1], block[1], rtol=1e-4)


def test_as_many_members_as_devices_do_not_communicate():
    block = experiments(8, lj.Image("camera", size=(8, 8)))
    program, _ = trained(block)
    assert collectives(program._advance) == []


def test_the_step_of_a_member_is_timed_on_one_device(monkeypatch):
    trainers = []

    def recorded(*arguments):
        trainers.append(Trainer(*arguments))
        return trainers[-1]

    monkeypatch.setattr(planning, "Trainer", recorded)
    assert planning.time_step(experiments(1)[0]) > 0
    assert [len(trainer.state.step.sharding.device_set) for trainer in trainers] == [1]
