"""Start a run in a new folder, or resume an interrupted one."""

import contextlib
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from lrnn_jax.checks import unrolled
from lrnn_jax.errors import InputError
from lrnn_jax.experiments.folder import RunFolder
from lrnn_jax.experiments.progress import Display
from lrnn_jax.experiments.session import train
from lrnn_jax.experiments.spec import Experiment, experiment_from, merge, table_of, write_table
from lrnn_jax.experiments.summary import read_summary, summarize
from lrnn_jax.experiments.trackers import (
    TrackedFit,
    Trackers,
    open_trackers,
    require_trackers,
)
from lrnn_jax.io import exists
from lrnn_jax.training import Checkpoints, Trainer, precision_context

__all__ = ["Outcome", "resume", "start"]

_SOON_COMPILED = 150  # unrolled layers or components; they compile in about 20 s on two cores


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended. The status is 'finished', or 'interrupted' if the run can be resumed."""

    status: str
    folder: RunFolder
    summary: dict[str, Any]


def start(
    experiment: Experiment,
    path: Path | None = None,
    display: Display | None = None,
    *,
    track: Sequence[str] = (),
    render: bool = True,
) -> Outcome:
    """Run an experiment in a new folder.

    The folder is created after the data are loaded and the program is compiled, so that invalid
    input leaves no folder.

    Args:
      experiment: the model, the problem and the training settings.
      path: the folder, which must not exist or be empty; None creates the next free one under
        `runs/`.
      display: progress display; None shows nothing.
      track: names of trackers that receive the metrics, too: "tensorboard", "wandb".
      render: write pictures and diagnostics of the fitted model, too.

    Raises:
      InputError: the input is invalid, the folder exists, a loss is not finite, the disk is full,
        or the package of a tracker is missing.
    """
    track = require_trackers(track)
    with precision_context(experiment.training), contextlib.ExitStack() as stack:
        path = stack.enter_context(_own_path(path, copy=False))
        RunFolder.require_free(path)
        table = table_of(experiment)
        trainer = Trainer(experiment.model, experiment.problem, experiment.training)
        compile_seconds = _compile(trainer)
        folder = RunFolder.create(path, table)
        try:
            stack.enter_context(folder.in_use())
            checkpoints = Checkpoints(folder.checkpoints)
            checkpoints.save(trainer.state)
            trackers = stack.enter_context(_trackers(track, folder))
        except BaseException:
            folder.remove()
            raise
        return _run(trainer, folder, checkpoints, display, compile_seconds, trackers, render=render)


def resume(
    folder: RunFolder,
    training: dict[str, Any] | None = None,
    display: Display | None = None,
    *,
    track: Sequence[str] = (),
    render: bool = True,
) -> Outcome:
    """Continue a run from its newest checkpoint, as if it had not been interrupted.

    A run that was ended before its first checkpoint begins at step 0.

    Args:
      folder: the folder of the run.
      training: changed fields of its [training] section, e.g. more steps.
      display: progress display; None shows nothing.
      track: as for `start`. A tracker that has not been used before receives all metrics of the
        run.
      render: as for `start`.

    Raises:
      InputError: there is nothing to continue, the checkpoint belongs to another model, another
        process trains the run, or the package of a tracker is missing.
    """
    track = require_trackers(track)
    with contextlib.ExitStack() as stack:
        folder = RunFolder(stack.enter_context(_own_path(folder.path, copy=True)) or folder.path)
        stack.enter_context(folder.in_use())
        folder.delete_unfinished()
        table = merge(table_of(folder.experiment()), {"training": training or {}})
        experiment = experiment_from(table)
        stack.enter_context(precision_context(experiment.training))
        is_new = not exists(folder.metrics.path)  # it was ended before its first checkpoint
        if not (is_new or exists(folder.checkpoints)):
            raise InputError(f"{folder.path} holds no checkpoint: nothing to resume from")
        checkpoints = Checkpoints(folder.checkpoints)
        is_new = is_new and checkpoints.latest() is None
        parts = (experiment.model, experiment.problem, experiment.training)
        trainer = Trainer(*parts, restore=None if is_new else checkpoints.restore)
        summary = read_summary(folder.summary)
        finished = (summary.get("status"), summary.get("step")) == ("finished", trainer.step)
        if trainer.ended and finished:
            raise InputError(f"{folder.path} has ended: {_what_next(trainer)}")
        compile_seconds = _compile(trainer)
        if is_new:
            checkpoints.save(trainer.state)
        earlier = folder.metrics.rewind(trainer.step)
        write_table(folder.config, table)
        spent = earlier[-1]["seconds"] if earlier else 0.0
        trackers = stack.enter_context(_trackers(track, folder, trainer.step, earlier))
        return _run(trainer, folder, checkpoints, display, compile_seconds, trackers, spent, render)


def _trackers(
    names: Sequence[str],
    folder: RunFolder,
    step: int = 0,
    earlier: Sequence[dict[str, float]] = (),
) -> contextlib.AbstractContextManager[Trackers]:
    """Context of the trackers of a run that goes on at `step`, in process 0 alone."""
    fit = TrackedFit(
        name=folder.path.resolve().name,
        config=folder.table(),
        folder=folder.path,
        events=folder.path / "tensorboard",
        step=step,
    )
    return open_trackers(names if jax.process_index() == 0 else (), fit, earlier)


@contextlib.contextmanager
def _own_path(path: Path | None, copy: bool) -> Iterator[Path | None]:
    """The path for process 0 of `jax.distributed`; for others, a temporary folder or a `copy`.

    All processes take the same steps, and the first alone writes the run.
    """
    if jax.process_index() == 0:
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        own = Path(scratch) / "run"
        if copy and path is not None:
            shutil.copytree(path, own, ignore=shutil.ignore_patterns(".lock", ".pid"))
        yield own


def _run(
    trainer: Trainer,
    folder: RunFolder,
    checkpoints: Checkpoints,
    display: Display | None,
    compile_seconds: float,
    trackers: Trackers,
    spent: float = 0.0,
    render: bool = True,
) -> Outcome:
    """Train until the end or a signal, then evaluate and write the summary."""
    costs = train(trainer, folder.metrics, checkpoints, display or Display(), spent, trackers)
    costs |= {"compile_seconds": compile_seconds}
    summary = summarize(trainer, folder, costs, render)
    if summary["status"] == "finished":
        pictures = [folder.path / name for name in summary["pictures"]]
        trackers.finish(summary["step"], summary["scores"], pictures)
    return Outcome(summary["status"], folder, summary)


def _what_next(trainer: Trainer) -> str:
    """Return why a run ended, and how to continue it."""
    reason, steps = trainer.stop_reason(), trainer.training.steps
    if trainer.stopped_early:
        return f"{reason}; wait for more with --training.patience, or 'none'"
    if trainer.step >= steps:
        return f"it has its {steps} steps: ask for more with --training.steps"
    return reason


def _compile(trainer: Trainer) -> float:
    """Compile the program, with a warning if this may take long; return the seconds it took."""
    count = unrolled(trainer.model)
    if count > _SOON_COMPILED:
        print(
            f"lrnn-jax: compiling: {count} layers or components are written out one by one, which "
            "may take minutes; a model of fewer compiles sooner",
            file=sys.stderr,
        )
    return trainer.compile()
