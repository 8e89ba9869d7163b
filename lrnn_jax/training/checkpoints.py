"""Checkpoints of a training state, through Orbax: whole or not at all, the newest two kept."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from lrnn_jax.errors import InputError
from lrnn_jax.io.trees import first_difference, named_leaves
from lrnn_jax.training.loop import State

__all__ = ["Checkpoints"]

_KEPT = 2


class Checkpoints:
    """The checkpoints of one run, numbered by their step.

    Args:
      folder: where they lie; made if it is missing.

    Raises:
      InputError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT, enable_async_checkpointing=False, create=True
        )
        with _one_line(f"cannot write checkpoints to {folder}"):
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
            )

    def latest(self) -> int | None:
        """The step of the newest checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(self, state: State) -> int:
        """Writes `state` under its step, unless it is there, and returns the step.

        Raises:
          InputError: it cannot be written (disk full, no permission).
        """
        step = int(state.step)
        if step not in self._manager.all_steps():
            with _one_line(f"cannot write checkpoint {step} to {self.folder}"):
                self._manager.save(step, args=ocp.args.StandardSave(_flat(state)))
        return step

    def restore(self, template: State) -> State:
        """The newest state, bit for bit.

        Args:
          template: a state of the same model and optimiser: arrays, or their shapes.

        Raises:
          InputError: there is no checkpoint, it is damaged, or it belongs to another model.
        """
        step = self.latest()
        if step is None:
            raise InputError(f"{self.folder} holds no checkpoint: nothing to resume from")
        wanted = _flat(template)
        with _one_line(f"cannot read checkpoint {step} in {self.folder}"):
            found = self._manager.item_metadata(step)
        difference = first_difference(found, wanted)
        if difference:
            raise InputError(
                f"checkpoint {step} in {self.folder} belongs to another model: {difference}"
            )
        shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in wanted.items()}
        with _one_line(f"cannot read checkpoint {step} in {self.folder}"):
            leaves = self._manager.restore(step, args=ocp.args.StandardRestore(shapes))
        return jax.tree.unflatten(jax.tree.structure(template), [leaves[name] for name in wanted])

    def close(self) -> None:
        """Waits for what is under way."""
        self._manager.close()


def _flat(state: State) -> dict[str, jax.Array]:
    return {name.replace("/", "."): leaf for name, leaf in named_leaves(state).items()}


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Orbax and TensorStore raise many types, at great length; the first line tells it."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{what}: {lines[0][:300]}") from error
