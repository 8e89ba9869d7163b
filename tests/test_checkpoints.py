"""Checkpoints: one file of one host, and folders that several hosts write and others read."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from launching import run_two_processes

import lrnn_jax as lj
from lrnn_jax.training import Checkpoints, initial_state
from lrnn_jax.training.early_stopping import initial_best
from lrnn_jax.trees import named_leaves

OPTIMIZER = optax.adam(1e-3)


def state_of(width=32, step=0, **fields):
    model = lj.Siren(in_dim=1, out_dim=1, width=width, depth=2)
    state = initial_state(model.init(jax.random.key(0)), OPTIMIZER)
    return state._replace(step=jnp.asarray(step, jnp.int32), **fields)


@pytest.fixture
def spread(monkeypatch):
    """Every state is saved as if its arrays were spread over several hosts."""
    monkeypatch.setattr("lrnn_jax.training.checkpoints.is_spread", lambda tree: True)


@pytest.fixture
def checkpoints(tmp_path, spread):
    """Checkpoints of several hosts at the steps 2 and 3."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        checkpoints.save(state_of(step=step))
    return checkpoints


def names(folder):
    return {path.name for path in folder.iterdir()}


def assert_equal_states(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_two_processes_save_what_one_with_other_devices_restores(tmp_path):
    """Each process writes its part; one that is killed leaves nothing that is restored."""
    both = run_two_processes("spread_state.py", tmp_path, cwd=tmp_path)
    assert ["saved" in process.out for process in both] == [True, True], both
    assert both[0].code == 9
    folder = tmp_path / "checkpoints"
    assert Checkpoints(folder).steps() == [2, 3]
    assert names(folder) > {"2.orbax", "3.orbax"}  # and what the killed process left
    sizes = [
        sum(
            file.stat().st_size for file in (folder / "3.orbax" / part).rglob("*") if file.is_file()
        )
        for part in ("ocdbt.process_0", "ocdbt.process_1")
    ]
    whole = (tmp_path / "expected.npz").stat().st_size
    assert all(0.4 * whole < size < 0.6 * whole for size in sizes)
    program = Path(__file__).with_name("spread_state.py")
    command = [sys.executable, str(program), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


def test_a_state_of_one_host_is_a_safetensors_file(tmp_path):
    checkpoints, state = Checkpoints(tmp_path), state_of(step=7)
    assert checkpoints.save(state) == 7
    assert names(tmp_path) == {"7.safetensors"}
    arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(state._asdict()).items()}
    expected = safetensors.numpy.save(arrays, {"lrnn_jax": "checkpoint"})
    assert (tmp_path / "7.safetensors").read_bytes() == expected
    assert_equal_states(checkpoints.restore(state), state)


def test_the_newest_two_stay(checkpoints):
    assert names(checkpoints.folder) == {"2.orbax", "3.orbax"}
    assert_equal_states(checkpoints.restore(state_of()), state_of(step=3))


def test_a_step_has_the_form_that_was_saved_last(checkpoints, monkeypatch):
    state = state_of(step=3)
    changed = state._replace(params=jax.tree.map(lambda leaf: leaf + 1, state.params))
    with monkeypatch.context() as patch:
        patch.setattr("lrnn_jax.training.checkpoints.is_spread", lambda tree: False)
        checkpoints.save(changed)
    assert names(checkpoints.folder) == {"2.orbax", "3.safetensors"}
    assert_equal_states(checkpoints.restore(state), changed)
    checkpoints.save(state)
    assert names(checkpoints.folder) == {"2.orbax", "3.orbax"}
    assert_equal_states(checkpoints.restore(state), state)


@pytest.mark.parametrize("form", ["file", "folder"])
def test_random_keys_and_unusual_numbers_are_restored(tmp_path, form, request):
    if form == "folder":
        request.getfixturevalue("spread")
    points = {
        "keys": jax.random.split(jax.random.key(1, impl="rbg")),
        "numbers": jnp.array([0.0, -0.0, jnp.nan, jnp.inf, 1e-45]),
        "half": jnp.ones(3, jnp.float16 if form == "file" else jnp.bfloat16),
        "empty": jnp.zeros((0, 2)),
    }
    state = state_of(points=points)
    Checkpoints(tmp_path).save(state)
    found = Checkpoints(tmp_path).restore(jax.eval_shape(lambda: state))
    assert found.points["keys"].dtype == points["keys"].dtype
    data = [{**s.points, "keys": jax.random.key_data(s.points["keys"])} for s in (found, state)]
    assert_equal_states(*data)


def test_the_template_decides_the_devices_and_the_best_validation(checkpoints):
    mesh = Mesh(np.asarray(jax.devices()), ("model",))
    sharding = NamedSharding(mesh, PartitionSpec("model"))
    state = state_of(step=3)
    params = jax.device_put(state.params, sharding)
    found = checkpoints.restore(state._replace(params=params))
    assert {leaf.sharding for leaf in jax.tree.leaves(found.params)} == {sharding}
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found.opt_state))
    best = initial_best(params)
    found = checkpoints.restore(state._replace(params=params, best=best))
    assert_equal_states(found.best.params, state.params)
    checkpoints.save(state._replace(best=best._replace(value=jnp.asarray(0.5))))
    assert checkpoints.restore(state).best is None
    assert checkpoints.restore(state._replace(best=best)).best.value == 0.5


def test_what_killed_writers_left_is_ignored_and_deleted(checkpoints):
    """A copy that is not complete, one without its final name, and one that is half deleted."""
    folder = checkpoints.folder
    for name in (".4.orbax.orbax-checkpoint-tmp", ".4.orbax", ".0123.orbax"):
        shutil.copytree(folder / "3.orbax", folder / name)
    assert checkpoints.steps() == [2, 3]
    assert_equal_states(checkpoints.restore(state_of()), state_of(step=3))
    checkpoints.save(state_of(step=4))
    assert names(folder) == {"3.orbax", "4.orbax"}


@pytest.mark.parametrize("step", [3, 4])
@pytest.mark.parametrize(
    "point",
    ["orbax.checkpoint.StandardCheckpointHandler.finalize", "lrnn_jax.io.shards._set_aside"],
)
def test_a_writer_that_is_killed_leaves_the_older_checkpoint(checkpoints, monkeypatch, point, step):
    """Before Orbax has completed the folder, and before the folder gets its name."""

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(point, kill)
        checkpoints.save(state_of(step=step, weights={"a": jnp.ones(2)}))
    assert checkpoints.steps() == [2, 3]
    assert_equal_states(checkpoints.restore(state_of()), state_of(step=3))


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def to_file(folder):
    shutil.rmtree(folder)
    folder.write_text("text")


DAMAGES = {
    "no metadata": lambda folder: (folder / "_METADATA").unlink(),
    "empty": empty,
    "a file": to_file,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_one_line(checkpoints, damage):
    """Damaged data are tested in `spread_state.py`: Orbax then leaves errors in its threads."""
    DAMAGES[damage](checkpoints.folder / "3.orbax")
    with pytest.raises(lj.InputError, match=r"3.orbax: damaged, or no Orbax checkpoint") as error:
        checkpoints.restore(state_of())
    assert not re.search("\n|NoneType", str(error.value))


def test_another_model_is_one_line(checkpoints):
    cases = {
        r"mu/head/weight is float32\[32, 1\], expected float32\[9, 1\]": state_of(9),
        r"points is missing": state_of(points=jnp.ones(3)),
        r"params/head/bias is float32\[1\], expected float16\[1\]": state_of()._replace(
            params=jax.tree.map(lambda leaf: leaf.astype(jnp.float16), state_of().params)
        ),
        r"opt_state/0/count is not a parameter": state_of()._replace(opt_state=()),
    }
    for message, template in cases.items():
        with pytest.raises(lj.InputError, match=f"3.orbax belongs to another model: .*{message}"):
            checkpoints.restore(template)


def test_a_folder_that_cannot_be_written_is_one_line(checkpoints):
    shutil.rmtree(checkpoints.folder)
    with pytest.raises(lj.InputError, match=r"cannot write .*: No such file or directory"):
        checkpoints.save(state_of())
