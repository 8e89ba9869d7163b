"""Training with files: metrics, checkpoints, a progress display, and the handling of signals."""

import signal
import threading
from typing import Any

import jax
import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.experiments.metrics_log import MetricsLog
from lrnn_jax.experiments.progress import Display
from lrnn_jax.experiments.trackers import Trackers
from lrnn_jax.training import Checkpoints, Interval, NonFiniteLossError, Trainer

__all__ = ["train"]

_INTERVAL_SECONDS = 0.5  # between two updates of the metrics and of the progress display


def train(
    trainer: Trainer,
    metrics: MetricsLog,
    checkpoints: Checkpoints,
    display: Display,
    before: float = 0.0,
    trackers: Trackers | None = None,
) -> dict[str, float]:
    """Train until the end or a signal; write metrics, progress and checkpoints.

    Args:
      trainer: the training run.
      metrics: its metrics.
      checkpoints: its checkpoints.
      display: progress display.
      before: seconds spent on steps in earlier sessions of the run.
      trackers: receive the metrics, too.

    Returns:
      `train_seconds`, the time spent on steps in all sessions of the run, and `steps_per_second` of
      this session.

    Raises:
      InputError: a loss is not finite, or a file cannot be written.
    """
    first, spent = trainer.step, 0.0
    every, log_every = trainer.training.checkpoint_every, trainer.training.log_every
    display.begin(first, trainer.training.steps)
    try:
        with _StopOnSignal() as stop:
            # Several processes must take the same numbers of steps, whatever their clocks say.
            seconds = _INTERVAL_SECONDS if jax.process_count() == 1 else None
            intervals = trainer.run(pause_every=[every], seconds=seconds)
            while not stop.requested and (interval := next(intervals, None)) is not None:
                spent += interval.seconds
                lines = _lines(trainer, interval, seconds=round(before + spent, 3))
                logged = [line for line in lines if line["step"] % log_every == 0]
                rate = (interval.step - first) / spent
                metrics.append(logged)
                display.update(interval.step, lines[-1], rate)
                if trackers and logged:
                    trackers.log([*logged[:-1], logged[-1] | _rates(trainer, logged[-1], rate)])
                if interval.step % every == 0:
                    _save(trainer, checkpoints)
            terms = _save(trainer, checkpoints)
            if trainer.ended and terms:
                line = {"step": trainer.step} | terms | trainer.problem.progress(terms)
                line |= {"seconds": round(before + spent, 3)}
                metrics.append([line])
                if trackers:
                    trackers.log([line])
    except NonFiniteLossError as error:
        raise InputError(
            f"the loss became {error.value} at step {error.step}; the last good checkpoint, "
            f"step {checkpoints.latest()}, is in {checkpoints.folder}; {error.hint}"
        ) from error
    finally:
        display.end()
    rate = (trainer.step - first) / spent if spent else 0.0
    return {"steps_per_second": rate, "train_seconds": before + spent}


def _save(trainer: Trainer, checkpoints: Checkpoints) -> dict[str, float]:
    """Save a checkpoint, after checking that the loss of its parameters is finite; return terms.

    The losses recorded so far were computed before the last update.
    """
    terms = trainer.terms()
    checkpoints.save(trainer.state)
    return terms


def _lines(trainer: Trainer, interval: Interval, seconds: float) -> list[dict[str, float]]:
    """Return one line of metrics per step: step, terms, `progress` of the terms, seconds."""
    names, columns = interval.history.keys(), interval.history.values()
    rows = [dict(zip(names, map(float, row), strict=True)) for row in zip(*columns, strict=True)]
    first, progress = interval.step - len(rows), trainer.problem.progress
    return [
        {"step": first + i, **row, **progress(row), "seconds": seconds}
        for i, row in enumerate(rows)
    ]


def _rates(trainer: Trainer, line: dict[str, float], rate: float) -> dict[str, float]:
    """What a tracker shows in addition: steps per second and, for Adam and SOAP, the learning rate.

    The other optimizers have no learning rate or, after Adam, a phase without one.
    """
    rates = {"steps_per_second": rate}
    if trainer.training.optimizer in ("adam", "soap"):
        rates["learning_rate"] = float(np.asarray(trainer.training.rate()(line["step"])))
    return rates


class _StopOnSignal:
    """Context that handles Ctrl-C and SIGTERM.

    The first signal sets `requested`, upon which the loop stops after its current interval. A
    second signal raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def _handle(self, number: int, frame: Any) -> None:
        del number, frame
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> "_StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
