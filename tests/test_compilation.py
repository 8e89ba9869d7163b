"""How often a program is compiled: once, whatever the run does with it."""

import contextlib
import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lrnn_jax as lj
from lrnn_jax import LRNN, Image, Training, solve
from lrnn_jax.experiments import Experiment, resume, start
from lrnn_jax.training import initial_state, make_advance, make_step

EVENT = "/jax/core/compile/backend_compile_duration"
MODEL = LRNN(in_dim=2, out_dim=1, depth=1, rank=4, components=2)


@contextlib.contextmanager
def compilations():
    """The names of what XLA compiles within the block."""
    names: list[str] = []

    def listen(event, _, **details):
        if event == EVENT:
            names.append(details["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def experiment(**training):
    return Experiment(
        model=MODEL,
        problem=Image(source="camera", size=(8, 8)),
        training=Training(chunk=20, log_every=1, **training),
    )


def test_the_compilations_are_counted():
    with compilations() as names:
        jax.jit(lambda x: x * 17.25)(jnp.ones(3))
    assert len(names) >= 1


def test_a_run_compiles_its_loop_once_and_an_equal_run_and_a_resumed_one_nothing(tmp_path):
    """The host looks several times, and checkpoints; the last chunk of 64 points is short."""
    spec = {"steps": 30, "checkpoint_every": 7, "learning_rate": 1.7e-3}
    with compilations() as names:
        first = start(experiment(**spec), tmp_path / "first")
    assert sum("advance" in name for name in names) == 1
    with compilations() as names:
        start(experiment(**spec), tmp_path / "second")
        start(experiment(**spec, seed=5), tmp_path / "seed")
        resume(first.folder, {"steps": 40})
    assert names == []


def test_a_run_that_stops_by_validation_is_resumed_without_compiling(tmp_path):
    training = lj.Training(steps=20, validate_every=5, patience=9, learning_rate=1.3e-3)
    model = lj.MLP(in_dim=10, out_dim=1, width=5, depth=1)
    spec = Experiment(model=model, problem=lj.Regression(), training=training)
    first = start(spec, tmp_path / "first")
    with compilations() as names:
        resume(first.folder, {"steps": 30})
    assert not any("advance" in name for name in names)


def test_a_fit_that_differs_where_the_program_does_is_compiled_anew(tmp_path):
    for name, change in {"batch": {"batch": 7}, "cosine": {"schedule": "cosine"}}.items():
        with compilations() as names:
            start(experiment(steps=5, **change), tmp_path / name)
        assert sum("advance" in name for name in names) == 1


def test_another_signal_rate_decay_length_or_seed_compiles_nothing(tmp_path):
    first = experiment(steps=5, schedule="cosine")
    pixels = np.random.default_rng(0).random((8, 8))
    problems = [Image("camera", size=(8, 8), crop=(20, 30, 64, 64)), Image("phantom", size=(8, 8))]
    changes = [
        {"learning_rate": 3e-3},
        {"steps": 7},
        {"seed": 5},
        {"decay_factor": 0.5, "decay_every": 3},
    ]
    others = [dataclasses.replace(first, problem=problem) for problem in problems]
    others += [
        dataclasses.replace(first, training=dataclasses.replace(first.training, **change))
        for change in changes
    ]
    start(first, tmp_path / "first")
    with compilations() as names:
        for number, other in enumerate(others):
            start(other, tmp_path / str(number))
        others.append(dataclasses.replace(first, problem=Image(pixels)))
        results = [solve(e.model, e.problem, e.training) for e in (first, *others)]
    assert names == []
    losses = {float(result.losses[-1]) for result in results}
    assert len(losses) == len(others)  # a decay does not change a cosine schedule


def test_the_state_is_donated():
    """Its buffers become the next state's: parameters and moments exist once."""
    optimizer = optax.adam(1e-3)
    mse = lambda u, data, key: jnp.mean((u(data[0]) - data[1]) ** 2)  # noqa: E731
    state = initial_state(MODEL.init(jax.random.key(0)), optimizer)
    data = (jnp.ones((6, 2)), jnp.ones((6, 1)))
    advance = make_advance(make_step(MODEL, mse, optimizer), 4)
    after = advance(state, data, jax.random.key(1), np.int32(2))[0]
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def test_a_second_process_takes_the_loop_from_the_cache(tmp_path):
    code = "import sys; from lrnn_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    fit = "fit --problem.source camera --problem.size 8 8 --training.steps 2 --model.width 4"
    kept = []
    for number in range(2):
        words = [*fit.split(), "--out", f"run-{number}", "--compilation-cache", "kept/programs"]
        command = [sys.executable, "-c", code, *words]
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        files = (tmp_path / "kept" / "programs").glob("*advance*-cache")
        kept.append({path.name for path in files})
    assert len(kept[0]) == 1
    assert kept[0] == kept[1]
