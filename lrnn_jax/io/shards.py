"""Save and load trees of arrays that are spread over several hosts, as Orbax checkpoints.

Every process makes the same calls, with the same folder of a file system that they share. Each
writes and reads only its parts of the arrays.
"""

import contextlib
import secrets
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from lrnn_jax.errors import InputError
from lrnn_jax.io.files import decoding, encoding, io_errors
from lrnn_jax.trees import first_difference, named_leaves


def is_spread(tree: Any) -> bool:
    """Whether no process has all values of some array of the tree."""
    return any(
        not (leaf.is_fully_addressable or leaf.is_fully_replicated)
        for leaf in jax.tree.leaves(tree)
        if isinstance(leaf, jax.Array)
    )


def save_shards(path: Path, tree: Any) -> Path:
    """Write a tree of arrays to the folder `path`, which replaces an earlier one atomically.

    Leaves that are not spread over processes must be equal in all of them.

    Raises:
      InputError: the folder cannot be written, or the processes do not share its parent.
    """
    _require_shared(path.parent)
    leaves = {name: _savable(leaf) for name, leaf in _nonempty(tree).items()}
    new = path.with_name(f".{path.name}")
    with encoding(path), _checkpointer() as (checkpointer, args):
        if jax.process_index() == 0:
            _remove_leftovers(path)
        checkpointer.save(new.absolute(), args=args.StandardSave(leaves))
        if jax.process_index() == 0:
            old = _set_aside(path)
            new.rename(path)
            if old is not None:
                shutil.rmtree(old)
    multihost_utils.sync_global_devices("saved")
    return path


def load_shards(path: Path, template: Any) -> Any:
    """Read a tree of arrays with the structure of `template`, of shapes and dtypes.

    A leaf whose template has a sharding becomes a JAX array with this sharding, of which each
    process reads its parts. All others become NumPy arrays.

    Raises:
      InputError: it is missing or damaged, it belongs to another model, or the processes were given
        different paths.
    """
    _require_equal(path)
    expected = _nonempty(template)
    difference = first_difference(_stored(path), expected)
    if difference:
        raise InputError(f"{path} belongs to another model: {difference}")
    targets = {name: _target(leaf) for name, leaf in expected.items()}
    with decoding(path, "Orbax checkpoint"), _checkpointer() as (checkpointer, args):
        restored = checkpointer.restore(path.absolute(), args=args.StandardRestore(targets))
    leaves = [
        restored[name] if leaf.size else placed(np.empty(leaf.shape, leaf.dtype), leaf)
        for name, leaf in named_leaves(template).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def placed(array: np.ndarray, kind: jax.ShapeDtypeStruct) -> Any:
    """The array as a JAX array with the sharding of `kind`, or as it is if there is none."""
    if kind.sharding is None:
        return array
    return jax.make_array_from_callback(array.shape, kind.sharding, lambda index: array[index])


def shard_names(path: Path) -> list[str]:
    """Return the names of the leaves of an Orbax checkpoint.

    Raises:
      InputError: it is missing or damaged.
    """
    return list(_stored(path))


def remove_folder(path: Path) -> None:
    """Delete a checkpoint, unless another process has done so."""
    old = _set_aside(path)
    if old is not None:
        shutil.rmtree(old)


@contextlib.contextmanager
def _checkpointer() -> Iterator[tuple[Any, Any]]:
    """Yield a checkpointer of Orbax and the module of its arguments."""
    import orbax.checkpoint

    with orbax.checkpoint.Checkpointer(orbax.checkpoint.StandardCheckpointHandler()) as one:
        yield one, orbax.checkpoint.args


def _stored(path: Path) -> dict[str, Any]:
    """The shapes and dtypes of the leaves of a checkpoint, by name."""
    with decoding(path, "Orbax checkpoint"), _checkpointer() as (checkpointer, _):
        metadata = checkpointer.metadata(path.absolute()).item_metadata
        if metadata is None:
            raise InputError(f"cannot read {path}: damaged, or no Orbax checkpoint (no metadata)")
        return metadata.tree


def _nonempty(tree: Any) -> dict[str, Any]:
    """The leaves that have elements, by name. Orbax does not store others."""
    return {name: leaf for name, leaf in named_leaves(tree).items() if leaf.size}


def _savable(leaf: Any) -> Any:
    """The leaf as Orbax takes it: arrays of one process are NumPy arrays."""
    is_global = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    return leaf if is_global else np.asarray(leaf)


def _target(leaf: Any) -> Any:
    """What Orbax restores: a JAX array if there is a sharding, and otherwise a NumPy array."""
    return np.empty(leaf.shape, leaf.dtype) if leaf.sharding is None else leaf


def _require_shared(folder: Path) -> None:
    """Check that all processes see the same folder, where the parts of a checkpoint come together.

    Raises:
      InputError: they do not; all of them raise it.
    """
    number = multihost_utils.broadcast_one_to_all(np.uint32(secrets.randbits(32)))
    marker = folder / f".{number:08x}"
    first = jax.process_index() == 0
    with io_errors(folder, "write"):
        if first:
            marker.touch()
        multihost_utils.sync_global_devices("marked")
        shared = multihost_utils.process_allgather(np.asarray(marker.exists())).all()
        if first:
            marker.unlink()
    if not shared:
        raise InputError(
            f"{folder} is not the same folder for all processes, and each of them writes its part "
            "of a checkpoint: choose one on a file system that all hosts share"
        )


def _require_equal(path: Path) -> None:
    """Check that all processes read the same checkpoint: a mixture of two would go unnoticed.

    Raises:
      InputError: they do not; all of them raise it.
    """
    code = np.uint32(zlib.crc32(path.name.encode()))
    if len(set(multihost_utils.process_allgather(code).tolist())) > 1:
        raise InputError(
            f"{path}: another process restores another checkpoint; all hosts must see the same "
            "files"
        )


def _set_aside(path: Path) -> Path | None:
    """Rename a checkpoint and return its new path, or None if there is none.

    A process that is killed while it deletes then leaves no damaged one with the old name.
    """
    with contextlib.suppress(FileNotFoundError):
        return path.rename(path.with_name(f".{secrets.token_hex(8)}{path.suffix}"))
    return None


def _remove_leftovers(path: Path) -> None:
    """Delete what processes left that were killed while they wrote or deleted a checkpoint."""
    for leftover in path.parent.glob(f".*{path.suffix}*"):
        shutil.rmtree(leftover)
