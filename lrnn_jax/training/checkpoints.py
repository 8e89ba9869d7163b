"""Checkpoints of a training state: safetensors files, written atomically; the newest two stay."""

from pathlib import Path

import jax

from lrnn_jax.errors import InputError
from lrnn_jax.io.files import io_errors
from lrnn_jax.io.safetensors import leaf_names, load_tree, save_tree
from lrnn_jax.training.early_stopping import initial_best
from lrnn_jax.training.loop import State

_MOST_CHECKPOINTS = 2  # older ones are deleted


class Checkpoints:
    """The checkpoints of one run, `<step>.safetensors`.

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
        return sorted(int(p.stem) for p in self.folder.glob("*.safetensors") if p.stem.isdigit())

    def latest(self) -> int | None:
        """Return the step of the newest checkpoint, or None if there is none."""
        return max(self.steps(), default=None)

    def save(self, state: State) -> int:
        """Write `state` to a file named by its step, and delete all but the newest two.

        Returns the step. Raises an InputError if the file cannot be written (disk full, no
        permission).
        """
        step = int(state.step)
        save_tree(self._path(step), state._asdict(), "checkpoint")
        for old in self.steps()[:-_MOST_CHECKPOINTS]:
            with io_errors(self._path(old), "remove"):
                self._path(old).unlink()
        return step

    def restore(self, template: State) -> State:
        """Read the newest checkpoint. The restored arrays equal the saved ones bit for bit.

        `template.best` decides whether the result has a best validation. If it is None, a stored
        one is dropped. If it is not None and none is stored, the restored parameters are the best.

        Args:
          template: a state of the same model and optimizer: arrays, or their shapes and dtypes.

        Raises:
          InputError: there is no checkpoint, it is damaged, or it belongs to another model.
        """
        step = self.latest()
        if step is None:
            raise InputError(f"{self.folder} holds no checkpoint: nothing to resume from")
        path = self._path(step)
        stored = any(name.startswith("best/") for name in leaf_names(path))
        best = jax.eval_shape(initial_best, template.params) if stored else None
        state = State(**load_tree(path, template._replace(best=best)._asdict()))
        if template.best is None:
            return state._replace(best=None)
        return state if stored else state._replace(best=initial_best(state.params))

    def _path(self, step: int) -> Path:
        return self.folder / f"{step}.safetensors"
