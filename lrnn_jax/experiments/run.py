"""A run from start to end: load, compile, train in intervals, evaluate, render, summarise."""

import contextlib
import dataclasses
import json
import math
import os
import platform
import signal
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import jax

from lrnn_jax.checks import unrolled
from lrnn_jax.diagnostics import report as diagnose
from lrnn_jax.errors import InputError
from lrnn_jax.experiments.folder import RunFolder
from lrnn_jax.experiments.spec import (
    Experiment,
    experiment_from,
    merge,
    table_of,
    write_table,
)
from lrnn_jax.fields import BoundModel
from lrnn_jax.io import exists
from lrnn_jax.io.safetensors import save_tree
from lrnn_jax.training import (
    Checkpoints,
    Interval,
    NonFiniteLossError,
    Trainer,
    precision_context,
)
from lrnn_jax.trees import count_parameters
from lrnn_jax.typing import Params

if sys.platform != "win32":
    import resource

__all__ = ["Display", "Outcome", "resume", "start", "unusable"]

_SOON_COMPILED = 150  # unrolled layers or components; they compile in about 20 s on two cores
_INTERVAL_SECONDS = 0.5  # between two updates of the metrics and of the progress display


class Display(Protocol):
    """A progress display of a run."""

    def begin(self, step: int, steps: int) -> None:
        """Start the display: training begins at `step` of `steps`."""
        ...

    def update(self, step: int, values: dict[str, float], rate: float) -> None:
        """Show the number of steps taken, the latest metrics, and the steps per second."""
        ...

    def end(self) -> None:
        """End the display: training has ended."""
        ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended. The status is 'finished', or 'interrupted' if the run can be resumed."""

    status: str
    folder: RunFolder
    summary: dict[str, Any]


def start(experiment: Experiment, path: Path | None, display: Display) -> Outcome:
    """Run an experiment in a new folder.

    The folder is created after the data are loaded and the program is compiled, so that invalid
    input leaves no folder.

    Args:
      experiment: the model, the problem and the training settings.
      path: the folder, which must not exist; None creates the next free one under `runs/`.
      display: progress display.

    Raises:
      InputError: the input is invalid, the folder exists, a loss is not finite, or the disk is
        full.
    """
    if path is not None and exists(path):
        raise InputError(f"{path} exists: name another folder, or use --resume")
    with precision_context(experiment.training), contextlib.ExitStack() as held:
        table = table_of(experiment)
        trainer = Trainer(experiment.model, experiment.problem, experiment.training)
        compile_seconds = _compile(trainer)
        folder = RunFolder.create(path, table)
        try:
            held.enter_context(folder.in_use())
            checkpoints = Checkpoints(folder.checkpoints)
            checkpoints.save(trainer.state)
        except BaseException:
            folder.remove()
            raise
        return _run(trainer, folder, checkpoints, display, compile_seconds)


def resume(folder: RunFolder, training: dict[str, Any], display: Display) -> Outcome:
    """Continue a run from its newest checkpoint, as if it had not been interrupted.

    Args:
      folder: the folder of the run.
      training: changed fields of its [training] section, e.g. more steps.
      display: progress display.

    Raises:
      InputError: there is nothing to continue, the checkpoint belongs to another model, or another
        process trains the run.
    """
    with folder.in_use():
        return _resume(folder, training, display)


def _resume(folder: RunFolder, training: dict[str, Any], display: Display) -> Outcome:
    table = merge(table_of(folder.experiment()), {"training": training})
    experiment = experiment_from(table)
    if not folder.checkpoints.is_dir():
        raise InputError(f"{folder.path} holds no checkpoint: nothing to resume from")
    with precision_context(experiment.training):
        checkpoints = Checkpoints(folder.checkpoints)
        parts = (experiment.model, experiment.problem, experiment.training)
        trainer = Trainer(*parts, restore=checkpoints.restore)
        if trainer.ended and folder.is_finished(trainer.step):
            raise InputError(f"{folder.path} has ended: {_what_next(trainer)}")
        compile_seconds = _compile(trainer)
        folder.read_metrics()
        write_table(folder.config, table)
        return _run(trainer, folder, checkpoints, display, compile_seconds)


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


def _run(
    trainer: Trainer,
    folder: RunFolder,
    checkpoints: Checkpoints,
    display: Display,
    compile_seconds: float,
) -> Outcome:
    """Train until the end or a signal, then evaluate and write the summary."""
    first = trainer.step
    earlier = folder.rewind_metrics(first)
    before = earlier[-1]["seconds"] if earlier else 0.0
    display.begin(first, trainer.training.steps)
    try:
        with _StopOnSignal() as stop:
            spent = _train(trainer, folder, checkpoints, display, stop, before)
    except NonFiniteLossError as error:
        raise InputError(
            f"the loss became {error.value} at step {error.step}; the last good checkpoint, "
            f"step {checkpoints.latest()}, is in {checkpoints.folder}; {error.hint}"
        ) from error
    finally:
        display.end()
    costs = {
        "steps_per_second": (trainer.step - first) / spent if spent else 0.0,
        "compile_seconds": compile_seconds,
        "train_seconds": before + spent,
    }
    return _finish(trainer, folder, costs)


def _train(
    trainer: Trainer,
    folder: RunFolder,
    checkpoints: Checkpoints,
    display: Display,
    stop: "_StopOnSignal",
    before: float,
) -> float:
    """Train, and write metrics, progress and checkpoints after each interval.

    Args:
      trainer: the training run.
      folder: the folder of the run.
      checkpoints: its checkpoints.
      display: progress display.
      stop: whether a signal has asked to stop.
      before: seconds spent on steps in earlier sessions of the run.

    Returns:
      The seconds spent on steps in this session.
    """
    training, first, spent = trainer.training, trainer.step, 0.0
    every = training.checkpoint_every
    intervals = trainer.run(pause_every=[every], seconds=_INTERVAL_SECONDS)
    while not stop.asked and (interval := next(intervals, None)) is not None:
        spent += interval.seconds
        lines = _lines(trainer, interval)
        for line in lines:
            line["seconds"] = round(before + spent, 3)
        folder.append_metrics(line for line in lines if line["step"] % training.log_every == 0)
        display.update(interval.step, lines[-1], (interval.step - first) / spent)
        if interval.step % every == 0:
            _save(trainer, checkpoints)
    _save(trainer, checkpoints)
    return spent


def _save(trainer: Trainer, checkpoints: Checkpoints) -> None:
    """Save a checkpoint, after checking that the loss of its parameters is finite.

    The losses recorded so far were computed before the last update.
    """
    trainer.require_finite_loss()
    checkpoints.save(trainer.state)


def _lines(trainer: Trainer, interval: Interval) -> list[dict[str, float]]:
    """Return one line of metrics per step: its number, its terms, and `progress` of the terms."""
    names, columns = interval.history.keys(), interval.history.values()
    rows = [dict(zip(names, map(float, row), strict=True)) for row in zip(*columns, strict=True)]
    first, progress = interval.step - len(rows), trainer.problem.progress
    return [{"step": first + i, **row, **progress(row)} for i, row in enumerate(rows)]


def _finish(trainer: Trainer, folder: RunFolder, costs: dict[str, float]) -> Outcome:
    """Write the summary and, if the run has finished, scores, pictures and the exported model."""
    problem, (step, params) = trainer.problem, trainer.best
    status = "finished" if trainer.ended else "interrupted"
    summary: dict[str, Any] = {"status": status, "step": trainer.step}
    summary |= {"stop_reason": trainer.stop_reason(), "params_step": step}
    if status == "finished":
        field = BoundModel(trainer.model, params)
        made_by = {"version": version("lrnn-jax"), "model": folder.table()["model"]}
        save_tree(folder.params, params, json.dumps(made_by))
        summary["scores"] = problem.evaluate(field, trainer.data)
        pictures = problem.render(field, trainer.data, folder.path)
        summary["pictures"] = [path.name for path in pictures]
        summary["best"] = _draw_curves(folder)
    summary |= {name: round(value, 3) for name, value in costs.items()}
    summary["peak_memory_mb"] = peak_memory_mb()
    summary["parameters"] = count_parameters(params)
    summary["machine"] = {
        "device": jax.devices()[0].device_kind,
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "lrnn_jax": version("lrnn-jax"),
    }
    if status == "finished":
        summary["diagnostics"] = _diagnose(trainer, params, folder)
        summary["diagnostics"]["warnings"] += list(map(_of_score, unusable(summary["scores"])))
    folder.write_summary(summary)
    return Outcome(status, folder, summary)


def _diagnose(trainer: Trainer, params: Params, folder: RunFolder) -> dict[str, Any]:
    """Compute the diagnostics of the fitted model, compared with its initial parameters.

    The run has finished, and an error in its diagnostics must not prevent its summary. An exception
    therefore becomes a warning with its reason.
    """
    try:
        return diagnose(trainer.model, params, folder.path, trainer.initial_params())
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        return {"warnings": [f"no diagnostics: {type(error).__name__}: {reason}"]}


def unusable(scores: dict[str, float]) -> list[str]:
    """Return the names of the scores that are not finite, except the +inf dB of a perfect fit."""

    def perfect(name: str, value: float) -> bool:
        return value == math.inf and name.startswith(("psnr", "snr"))

    return [n for n, value in scores.items() if not (math.isfinite(value) or perfect(n, value))]


def _of_score(name: str) -> str:
    return f"{name} is not finite: the field or the data overflow where it is computed"


def _draw_curves(folder: RunFolder) -> dict[str, float]:
    """Write the training curve and return the logged line with the lowest loss (oracle-best).

    If there are no logged lines, for example because the metrics of an earlier session were
    deleted, write nothing and return {}.
    """
    from lrnn_jax.plotting import write_curves

    lines = folder.read_metrics()
    if not lines:
        return {}
    terms = [name for name in lines[0] if name not in ("step", "seconds", "loss")]
    names = ["loss", *terms]
    curves = {name: [line[name] for line in lines] for name in names}
    write_curves(folder.curve, [int(line["step"]) for line in lines], curves, folder.path.name)
    return min(lines, key=lambda line: line["loss"])


def peak_memory_mb() -> float | None:
    """Return the peak resident memory of this process in MB (10^6 bytes); None on Windows."""
    if sys.platform == "win32":
        return None
    # Prefer /proc on Linux, where a process inherits ru_maxrss from its parent.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    own = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    if own:
        return round(int(own[0]) * 1024 / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


class _StopOnSignal:
    """Context that handles Ctrl-C and SIGTERM.

    The first signal sets `asked`, upon which the loop stops after its current interval. A second
    signal raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, Any] = {}

    def _ask(self, number: int, frame: Any) -> None:
        del frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> "_StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
