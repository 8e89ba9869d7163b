"""Trackers: TensorBoard event files and Weights & Biases, which receive the metrics of a fit.

Their packages are optional, and are imported when a tracker is opened.
"""

import contextlib
import dataclasses
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import tomli_w

from lrnn_jax.errors import InputError, suggest
from lrnn_jax.experiments.spec import ConfigTable
from lrnn_jax.io import exists, extra, io_errors, make_folder, read_bytes, read_picture, write_bytes

__all__ = ["TRACKERS", "TrackedFit", "Tracker", "Trackers", "open_trackers", "require_trackers"]

Line = Mapping[str, float]
"""Metrics of a step: `step`, and values by name."""

_PROJECT = "lrnn-jax"  # of Weights & Biases, unless WANDB_PROJECT names another one


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackedFit:
    """What a tracker knows about a fit before it receives metrics.

    Attributes:
      name: its name.
      config: its settings, as sections of fields.
      folder: where Weights & Biases creates its folder `wandb`.
      events: folder of the TensorBoard event files.
      step: the number of steps taken before; later steps that were logged before are replaced.
      wandb_id: its id in Weights & Biases; None takes the one in the file `wandb_id` of the folder,
        which is created with a new id if it does not exist.
      group: the group of fits to which it belongs in Weights & Biases; None if there is none.
      quiet: whether Weights & Biases prints nothing.
    """

    name: str
    config: ConfigTable
    folder: Path
    events: Path
    step: int = 0
    wandb_id: str | None = None
    group: str | None = None
    quiet: bool = False


class Tracker(Protocol):
    """Receives the metrics of a fit."""

    def begin(self, earlier: Sequence[Line]) -> None:
        """Log the settings and, if the fit has not been tracked before, its earlier metrics."""

    def log(self, lines: Sequence[Line]) -> None:
        """Log metrics, one line for each step."""

    def finish(self, step: int, scores: Mapping[str, float], pictures: Sequence[Path]) -> None:
        """Log the final scores and the PNG files of a fit that has ended at `step`."""

    def close(self, failed: bool) -> None:
        """Write what is left and close the tracker; `failed` says that an exception was raised."""


class Trackers:
    """Forwards the metrics of a fit to several trackers; false if there are none.

    Args:
      trackers: the trackers.
    """

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self._trackers = trackers

    def __bool__(self) -> bool:
        return bool(self._trackers)

    def log(self, lines: Sequence[Line]) -> None:
        """Log metrics, one line for each step."""
        for tracker in self._trackers:
            tracker.log(lines)

    def finish(self, step: int, scores: Mapping[str, float], pictures: Sequence[Path] = ()) -> None:
        """Log the final scores and the PNG files of a fit that has ended at `step`."""
        pictures = [path for path in pictures if path.suffix == ".png"]
        for tracker in self._trackers:
            tracker.finish(step, scores, pictures)


def require_trackers(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of trackers, each once; check that their packages are installed.

    Raises:
      InputError: a name is unknown, or a package is missing.
    """
    unique = tuple(dict.fromkeys([names] if isinstance(names, str) else names))
    for name in unique:
        if name not in TRACKERS:
            raise InputError(f"track: unknown tracker {name!r}; {suggest(str(name), TRACKERS)}")
        extra(TRACKERS[name].package, name)
    return unique


@contextlib.contextmanager
def open_trackers(
    names: Sequence[str], fit: TrackedFit, earlier: Sequence[Line] = ()
) -> Iterator[Trackers]:
    """Open trackers of a fit within the context.

    Args:
      names: names of the trackers, as `require_trackers` returns them.
      fit: the fit.
      earlier: metrics of earlier sessions, which a tracker receives that has not been used before.

    Raises:
      InputError: a tracker cannot be opened, or a file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        trackers = [stack.enter_context(_opened(name, fit, earlier)) for name in names]
        yield Trackers(trackers)


@contextlib.contextmanager
def _opened(name: str, fit: TrackedFit, earlier: Sequence[Line]) -> Iterator[Tracker]:
    tracker = TRACKERS[name](fit)
    failed = True
    try:
        tracker.begin(earlier)
        yield tracker
        failed = False
    finally:
        tracker.close(failed)


class _TensorBoard:
    """An event file of TensorBoard.

    It is written record by record, because `tensorboardX.SummaryWriter` writes in a thread. That
    thread ends at the first error, for example of a full disk, and then the writer waits for it.
    """

    package = "tensorboardX"

    def __init__(self, fit: TrackedFit) -> None:
        self._fit = fit
        self._summary = extra("tensorboardX.summary", "tensorboard")
        self._event = extra("tensorboardX.proto.event_pb2", "tensorboard")
        self._is_new = not any(make_folder(fit.events).glob("events.*"))
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{int(time.time()):010d}.{fit.step:09d}"
        records = extra("tensorboardX.record_writer", "tensorboard")
        with io_errors(fit.events, "write"):
            self._records = records.RecordWriter(str(fit.events / name))

    def begin(self, earlier: Sequence[Line]) -> None:
        step, config = self._fit.step, self._fit.config
        # Without the description of an experiment, which `add_hparams` writes, TensorBoard shows
        # the settings and scores of all runs in a table, not only those of the first run.
        _, settings, self._end = self._summary.hparams(_flat(config), {})
        text = f"```toml\n{tomli_w.dumps(config)}```"
        with self._flushed():
            self._write(0, file_version="brain.Event:2")
            # On reading this, TensorBoard discards the events of earlier files from the step on.
            self._write(step, session_log={"status": self._event.SessionLog.START})
            self._write(step, summary=settings)
            self._write(step, summary=self._summary.text("config", text))
        if self._is_new:
            self.log(earlier)

    def log(self, lines: Sequence[Line]) -> None:
        with self._flushed():
            for line in lines:
                self._write_scalars(int(line["step"]), _values(line))

    def finish(self, step: int, scores: Mapping[str, float], pictures: Sequence[Path]) -> None:
        with self._flushed():
            self._write_scalars(step, _final(scores))
            for path in pictures:
                self._write(step, summary=self._image(path))
            self._write(step, summary=self._end)

    def close(self, failed: bool) -> None:
        del failed
        with io_errors(self._fit.events, "write"):
            self._records.close()

    @contextlib.contextmanager
    def _flushed(self) -> Iterator[None]:
        with io_errors(self._fit.events, "write"):
            yield
            self._records.flush()

    def _write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [{"tag": name, "simple_value": value} for name, value in values.items()]
        self._write(step, summary={"value": scalars})

    def _image(self, path: Path) -> dict[str, Any]:
        height, width, channels = read_picture(str(path)).pixels.shape
        size = {"height": height, "width": width, "colorspace": channels}
        image = size | {"encoded_image_string": read_bytes(path)}
        return {"value": [{"tag": path.stem, "image": image}]}

    def _write(self, step: int, **content: Any) -> None:
        event = self._event.Event(wall_time=time.time(), step=step, **content)
        self._records.write(event.SerializeToString())


class _WeightsAndBiases:
    """A run of Weights & Biases."""

    package = "wandb"

    def __init__(self, fit: TrackedFit) -> None:
        self._fit = fit
        self._wandb = wandb = extra("wandb", "wandb")
        known = _stored_id(fit)
        self._is_new = known is None
        id_ = known or secrets.token_hex(4)
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or _PROJECT,
                name=fit.name,
                group=fit.group,
                id=id_,
                dir=str(fit.folder),
                resume="allow",
                reinit="create_new",  # a run that the user has opened stays as it is
                settings=wandb.Settings(console="off", silent=fit.quiet),
            )
        except wandb.Error as error:
            raise InputError(f"wandb: {error}") from error
        if known is None:
            write_bytes(_id_file(fit), id_.encode())
        # Weights & Biases takes each step once. A run that is resumed at an earlier checkpoint
        # computes the same metrics again.
        self._first = self._run.step

    def begin(self, earlier: Sequence[Line]) -> None:
        self._run.config.update(self._fit.config, allow_val_change=True)
        if self._is_new:
            self.log(earlier)

    def log(self, lines: Sequence[Line]) -> None:
        for line in lines:
            if line["step"] >= self._first:
                self._run.log(_values(line), step=int(line["step"]))

    def finish(self, step: int, scores: Mapping[str, float], pictures: Sequence[Path]) -> None:
        if pictures:
            images = {path.stem: self._wandb.Image(str(path)) for path in pictures}
            self._run.log(images, step=max(step, self._first))
        self._run.summary.update(_final(scores))

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


TRACKERS: dict[str, Any] = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases}
"""All trackers by name, which is the name of the extra of their package, too."""


def _id_file(fit: TrackedFit) -> Path:
    return fit.folder / "wandb_id"


def _stored_id(fit: TrackedFit) -> str | None:
    """The id of a fit in Weights & Biases; None if it has none yet."""
    if fit.wandb_id is not None or not exists(_id_file(fit)):
        return fit.wandb_id
    with io_errors(_id_file(fit), "read"):
        return read_bytes(_id_file(fit)).decode().strip() or None


def _values(line: Line) -> dict[str, float]:
    return {name: value for name, value in line.items() if name != "step"}


def _final(scores: Mapping[str, float]) -> dict[str, float]:
    """Names that differ from those of the metrics, which are computed during the training."""
    return {f"final/{name}": value for name, value in scores.items()}


def _flat(config: ConfigTable) -> dict[str, bool | int | float | str]:
    """Settings by dotted name; lists become text.

    >>> _flat({"model": {"kind": "lrnn", "rank": [8, 4]}, "budget": 500})
    {'model.kind': 'lrnn', 'model.rank': '[8, 4]', 'budget': 500}
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        fields = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name}.{field}".removesuffix("."): entry for field, entry in fields.items()}
    simple = (bool, int, float, str)
    return {
        name: value if isinstance(value, simple) else str(value) for name, value in flat.items()
    }
