"""Checkpoints of a training state, written atomically; the newest two stay.

A checkpoint is a safetensors file. Only if arrays of the state are spread over several hosts, it is
an Orbax folder, to which each process writes its own parts.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from lrnn_jax.errors import InputError
from lrnn_jax.io.files import io_errors
from lrnn_jax.io.safetensors import leaf_names, load_tree, save_tree
from lrnn_jax.io.shards import (
    is_spread,
    load_shards,
    placed,
    remove_folder,
    save_shards,
    shard_names,
)
from lrnn_jax.training.early_stopping import Best, initial_best
from lrnn_jax.training.loop import State
from lrnn_jax.typing import Params

_MOST_CHECKPOINTS = 2  # older ones are deleted
_FILE, _FOLDER = ".safetensors", ".orbax"


class Checkpoints:
    """The checkpoints of one run: `<step>.safetensors`, or `<step>.orbax` for spread arrays.

    An array is spread if no process has all of its values: it is sharded over the devices of
    several hosts, and not replicated. If the state has such an array, every process makes the same
    calls, with the same folder of a file system that the hosts share.

    Args:
      folder: folder of the checkpoints; created if it does not exist.

    Raises:
      InputError: the folder cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with io_errors(folder, "make the folder"):
            folder.mkdir(exist_ok=True)

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints, in increasing order."""
        return sorted({int(path.stem) for path in self._paths()})

    def latest(self) -> int | None:
        """Return the step of the newest checkpoint, or None if there is none."""
        return max(self.steps(), default=None)

    def save(self, state: State) -> int:
        """Write `state` under the name of its step, and delete all but the newest two.

        Returns the step. Raises an InputError if it cannot be written (disk full, no permission,
        a folder that the hosts do not share).
        """
        step, arrays = int(state.step), _without_keys(state._asdict())
        if not is_spread(arrays):
            self._delete_others(save_tree(self._path(step, _FILE), arrays, "checkpoint"))
            return step
        path = save_shards(self._path(step, _FOLDER), arrays)
        if jax.process_index() == 0:
            self._delete_others(path)
        multihost_utils.sync_global_devices("deleted")
        return step

    def restore(self, template: State) -> State:
        """Read the newest checkpoint. The restored arrays equal the saved ones bit for bit.

        The number of devices and hosts may differ from those of the process that saved it.

        `template.best` decides whether the result has a best validation. If it is None, a stored
        one is dropped. If it is not None and none is stored, the restored parameters are the best.

        Args:
          template: a state of the same model and optimizer: arrays, or their shapes and dtypes. A
            leaf with a sharding is restored as a JAX array with this sharding. A leaf without one,
            such as an array that is not committed to a device, is restored as a NumPy array.

        Raises:
          InputError: there is no checkpoint, it is damaged, or it belongs to another model.
        """
        path = self._newest()
        names, load = (
            (shard_names, load_shards) if path.suffix == _FOLDER else (leaf_names, _load_file)
        )
        stored = any(name.startswith("best/") for name in names(path))
        best = (template.best or _any_best(template.params)) if stored else None
        types = jax.tree.map(_type, template._replace(best=best)._asdict())
        arrays = load(path, _without_keys(types))
        state = State(**jax.tree.map(_with_key, types, arrays))
        if template.best is None:
            return state._replace(best=None)
        return state if stored else state._replace(best=initial_best(state.params))

    def _path(self, step: int, suffix: str) -> Path:
        return self.folder / f"{step}{suffix}"

    def _paths(self) -> list[Path]:
        """All checkpoints. Unfinished ones have other names."""
        paths = self.folder.glob("*")
        return [p for p in paths if p.suffix in (_FILE, _FOLDER) and p.stem.isdigit()]

    def _newest(self) -> Path:
        """Return the newest checkpoint.

        Raises:
          InputError: there is none.
        """
        step = self.latest()
        if step is None:
            raise InputError(f"{self.folder} holds no checkpoint: nothing to resume from")
        return next(path for path in self._paths() if int(path.stem) == step)

    def _delete_others(self, newest: Path) -> None:
        """Delete all but the newest two checkpoints, and that of the other form of the same step.

        Processes that write the same files may delete at the same time.
        """
        kept = self.steps()[-_MOST_CHECKPOINTS:]
        for path in self._paths():
            if int(path.stem) in kept and (path == newest or path.stem != newest.stem):
                continue
            with io_errors(path, "remove"):
                if path.suffix == _FOLDER:
                    remove_folder(path)
                else:
                    path.unlink(missing_ok=True)


def _load_file(path: Path, types: Any) -> Any:
    """Read a file as `load_tree` does, and give the arrays the shardings of `types`."""
    return jax.tree.map(placed, load_tree(path, types), types)


def _any_best(params: Params) -> Best:
    """The types of a best validation of these parameters."""
    return jax.eval_shape(initial_best, params)._replace(params=params)


def _type(leaf: Any) -> jax.ShapeDtypeStruct:
    """The type of an array, and its devices if it is bound to any."""
    bound = leaf.committed if isinstance(leaf, jax.Array) else True
    sharding = getattr(leaf, "sharding", None) if bound else None
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _without_keys(tree: Any) -> Any:
    """The tree with the data of its typed random keys, or with the types of the data."""

    def data(leaf: Any) -> Any:
        if not _is_key(leaf):
            return leaf
        if isinstance(leaf, jax.Array):
            return jax.random.key_data(leaf)
        kind = jax.eval_shape(jax.random.key_data, leaf)
        return jax.ShapeDtypeStruct(kind.shape, kind.dtype, sharding=leaf.sharding)

    return jax.tree.map(data, tree)


def _with_key(kind: jax.ShapeDtypeStruct, array: Any) -> Any:
    """The array, or the typed keys of which it is the data if `kind` is that of keys."""
    if not _is_key(kind):
        return array
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(jnp.empty((), kind.dtype)))
