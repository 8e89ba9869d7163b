"""A training loop whose matrices are divided among the devices of all processes.

python spread_state.py NUMBER PORT FOLDER   one of two processes that save, with four devices each
python spread_state.py FOLDER               one process that restores, with two devices
"""

import json
import os
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import lrnn_jax as lj
from lrnn_jax.training import Checkpoints, State, initial_state, make_step
from lrnn_jax.training.early_stopping import initial_best
from lrnn_jax.trees import count_bytes, named_leaves

X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
KEY = np.array([0, 1], np.uint32)
STEPS = 3  # at each of them a checkpoint is saved


def loss(u, x, key):
    return jnp.mean((u(x) - jnp.sin(9 * x)) ** 2)


class Program:
    """A user's program: `spec` divides the square matrices of the state among the devices."""

    def __init__(self, spec: PartitionSpec, width: int = 512) -> None:
        model = lj.Siren(in_dim=1, out_dim=1, width=width, depth=2)
        optimizer = optax.adam(1e-3)
        mesh = Mesh(np.asarray(jax.devices()), ("model",))

        def start(key: jax.Array) -> State:
            state = initial_state(model.init(key), optimizer)
            keys = jax.random.split(jax.random.wrap_key_data(key))
            return state._replace(points=keys, best=initial_best(state.params))

        def sharding(leaf: jax.ShapeDtypeStruct) -> NamedSharding:
            divided = leaf.shape == (width, width)
            return NamedSharding(mesh, spec if divided else PartitionSpec())

        shardings = jax.tree.map(sharding, jax.eval_shape(start, KEY))
        self.start = jax.jit(start, out_shardings=shardings)
        self.template = self.start.eval_shape(KEY)
        self.step = jax.jit(make_step(model, loss, optimizer), out_shardings=(shardings, None))

    def train(self, state: State, steps: int) -> tuple[State, list[float]]:
        losses = []
        for _ in range(steps):
            state, terms = self.step(state, X, KEY)
            losses.append(float(terms["loss"]))
        return state, losses


def raw(leaf: jax.Array) -> jax.Array:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def read_bytes() -> int:
    """The number of bytes that Orbax has read from files in this process."""
    import tensorstore

    name = "/tensorstore/kvstore/file/bytes_read"
    (metric,) = tensorstore.experimental_collect_matching_metrics(name)
    return metric["values"][0]["value"]


def save(folder: Path) -> None:
    """Save and restore checkpoints in two processes, and die while the last one is written."""
    program = Program(PartitionSpec(None, "model"))
    state = program.start(KEY)
    matrix = state.params["layer_1"]["weight"]
    assert not matrix.is_fully_addressable and not matrix.is_fully_replicated
    checkpoints = Checkpoints(folder / "checkpoints")
    for _ in range(STEPS):
        state, _ = program.train(state, 1)
        checkpoints.save(state)
    assert checkpoints.steps() == [STEPS - 1, STEPS]
    # The same step again, as an array of this process alone.
    checkpoints.save(state._replace(step=jnp.asarray(STEPS, jnp.int32)))
    before = read_bytes()
    restored = checkpoints.restore(program.template)
    assert read_bytes() - before < 0.6 * count_bytes(jax.tree.map(raw, state))
    assert_local_parts_are_equal(restored, state)
    _, losses = program.train(restored, 5)
    write_expected(folder, state, losses)
    own = Checkpoints(folder / f"own_{jax.process_index()}")
    with pytest.raises(lj.InputError, match="is not the same folder for all processes"):
        own.save(state)
    assert not list(own.folder.iterdir())
    newest = folder / "checkpoints" / f"{STEPS}.orbax"
    shutil.copytree(newest, own.folder / f"{jax.process_index()}.orbax")
    with pytest.raises(lj.InputError, match="another process restores another checkpoint"):
        own.restore(program.template)
    print("saved", flush=True)
    die_when_all_parts_are_written()
    checkpoints.save(state._replace(step=state.step + 1))


def assert_local_parts_are_equal(restored: State, state: State) -> None:
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for found, want in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert found.dtype == want.dtype and found.sharding.is_equivalent_to(
            want.sharding, want.ndim
        )
        for a, b in zip(raw(found).addressable_shards, raw(want).addressable_shards, strict=True):
            np.testing.assert_array_equal(np.asarray(a.data), np.asarray(b.data))


def write_expected(folder: Path, state: State, losses: list[float]) -> None:
    replicated = NamedSharding(Mesh(np.asarray(jax.devices()), ("model",)), PartitionSpec())
    gathered = jax.jit(lambda tree: tree, out_shardings=replicated)(jax.tree.map(raw, state))
    if jax.process_index() == 0:
        np.savez(folder / "expected.npz", **named_leaves(gathered))
        (folder / "losses.json").write_text(json.dumps(losses))


def die_when_all_parts_are_written() -> None:
    """End the first process, as by `kill -9`, when Orbax would make the checkpoint complete."""
    import orbax.checkpoint

    orbax.checkpoint.StandardCheckpointHandler.finalize = lambda *_: os._exit(9)


def assert_expected(folder: Path, state: State) -> None:
    """The values are equal bit for bit to those that were saved."""
    expected = np.load(folder / "expected.npz")
    found = named_leaves(jax.tree.map(raw, state))
    assert set(found) == set(expected.files)
    for name, leaf in found.items():
        assert leaf.dtype == expected[name].dtype
        assert np.asarray(leaf).tobytes() == expected[name].tobytes(), name


def restore(folder: Path) -> None:
    """Restore on another number of devices, with rows divided in place of columns; train on."""
    program = Program(PartitionSpec("model"))
    state = Checkpoints(folder / "checkpoints").restore(program.template)
    matrix = state.params["layer_1"]["weight"]
    assert {part.data.shape for part in matrix.addressable_shards} == {(256, 512)}
    assert_expected(folder, state)
    _, losses = program.train(state, 5)
    np.testing.assert_allclose(losses, json.loads((folder / "losses.json").read_text()), rtol=1e-5)
    assert_damaged_data_are_one_line(folder, program.template)


def assert_damaged_data_are_one_line(folder: Path, template: State) -> None:
    newest = folder / "checkpoints" / f"{STEPS}.orbax"
    part = max(newest.glob("ocdbt.process_1/d/*"), key=lambda file: file.stat().st_size)
    for damage in (
        lambda: part.write_bytes(part.read_bytes()[:99]),
        part.unlink,
        (newest / "manifest.ocdbt").unlink,
    ):
        damage()
        with pytest.raises(lj.InputError, match="damaged, or no Orbax checkpoint") as error:
            Checkpoints(folder / "checkpoints").restore(template)
        assert "\n" not in str(error.value)


if __name__ == "__main__":
    *distributed, path = sys.argv[1:]
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_num_cpu_devices", 4 if distributed else 2)
    if distributed:
        number, port = distributed
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", 2, int(number))
        assert (jax.process_count(), jax.device_count()) == (2, 8)
    (save if distributed else restore)(Path(path))
