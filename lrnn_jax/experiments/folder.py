"""The folder of a run: what lies where, and how it is opened, checked and continued."""

import contextlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lrnn_jax.errors import InputError
from lrnn_jax.experiments.spec import (
    ConfigTable,
    Experiment,
    experiment_from,
    read_table,
    write_table,
)
from lrnn_jax.io import exists, io_errors, write_bytes

__all__ = ["RunFolder"]

_TRIES = 10  # to make a folder whose parent other processes remove


class RunFolder:
    """A run on disk: `config.toml`, `metrics.jsonl`, `checkpoints/`, `model.safetensors`, pictures,
    `summary.json`.

    Args:
      path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.params = path / "model.safetensors"
        self.curve = path / "training.png"
        self.summary = path / "summary.json"
        self._lock = path / ".lock"
        self._holder = path / ".pid"
        self._made: list[Path] = []

    @classmethod
    def create(cls, path: Path | None, table: ConfigTable) -> "RunFolder":
        """A new folder with the resolved config; without a path, the next free one under `runs/`.

        A folder belongs to the process that made it: of several that ask for the same one at the
        same time, one gets it. Those that ask for a free one get different ones.

        Raises:
          InputError: the folder exists or cannot be made.
        """
        for candidate in _free_paths(table) if path is None else [path]:
            run = cls(candidate)
            try:
                with io_errors(run.path, "make the folder"), contextlib.suppress(FileExistsError):
                    _make_folder(run.path, run._made)
                if run.path not in run._made:
                    continue
                write_table(run.config, table)
            except BaseException:
                run.remove()
                raise
            return run
        raise InputError(f"{path} exists: name another folder, or use --resume")

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run.

        Raises:
          InputError: there is no such folder, or it is not a run's.
        """
        run = cls(path)
        if not exists(run.config) or not run.config.is_file():
            raise InputError(f"{path} is not a run folder: it has no config.toml")
        return run

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps other processes from training this run while the block lasts.

        The operating system drops the lock when the process ends, however it ends.

        Raises:
          InputError: another process trains it, or the folder cannot be written to.
        """
        lock = FileLock(self._lock)
        with io_errors(self.path, "lock"):
            try:
                lock.acquire(blocking=False)
            except Timeout as error:
                raise InputError(
                    f"{self.path} is in use by another process{self._pid()}: wait until it ends, "
                    "or stop it with Ctrl-C"
                ) from error
        try:
            with io_errors(self.path, "lock"):
                self._holder.write_text(str(os.getpid()))
            yield
        finally:
            # Before the release: after it, the number might be another process's. `.lock` stays: a
            # process that has opened it and one that makes it anew would both hold a lock.
            with contextlib.suppress(OSError):  # Windows deletes no open file
                self._holder.unlink()
            lock.release()

    def _pid(self) -> str:
        """The holder of the lock in brackets; nothing if it has not written its number yet."""
        try:
            return f" (pid {int(self._holder.read_bytes())})"
        except (OSError, ValueError):
            return ""

    def table(self) -> ConfigTable:
        """The resolved config, as nested dicts."""
        return read_table(self.config)

    def experiment(self) -> Experiment:
        """The model, the problem and the training of the config."""
        try:
            return experiment_from(self.table())
        except InputError as error:
            where = "" if str(self.config) in str(error) else f"{self.config}: "
            raise InputError(f"{where}{error}") from error

    def read_metrics(self) -> list[dict[str, float]]:
        """The lines of `metrics.jsonl`, null as NaN; none where there is no such file.

        Raises:
          InputError: a line is no JSON object of a step.
        """
        if not exists(self.metrics):
            return []
        with io_errors(self.metrics, "read"):
            content = self.metrics.read_bytes()
        try:
            lines = [json.loads(line) for line in content.decode().splitlines()]
            return [_with_nan(line) | {"step": int(line["step"])} for line in lines]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.metrics} is damaged: {error}") from error

    def is_finished(self, step: int) -> bool:
        """Whether the summary says that the run was finished at `step`.

        Raises:
          InputError: the summary is no JSON object of a run.
        """
        if not exists(self.summary):
            return False
        with io_errors(self.summary, "read"):
            content = self.summary.read_bytes()
        try:
            summary = json.loads(content)
            return (summary["status"], summary["step"]) == ("finished", step)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.summary} is damaged: {error}; delete it to go on") from error

    def rewind_metrics(self, step: int) -> list[dict[str, float]]:
        """Drops the lines of `step` and later, and returns those that stay."""
        lines = [line for line in self.read_metrics() if line["step"] < step]
        write_bytes(self.metrics, "".join(_json_line(line) for line in lines).encode())
        return lines

    def append_metrics(self, lines: Iterable[dict[str, float]]) -> None:
        """Appends whole lines or none.

        Raises:
          InputError: the file cannot be written.
        """
        text = "".join(_json_line(line) for line in lines).encode()
        with io_errors(self.metrics, "write"), self.metrics.open("ab") as file:
            good = file.tell()
            try:
                file.write(text)
                file.flush()
            except OSError:
                file.truncate(good)
                raise

    def write_summary(self, summary: dict[str, Any]) -> Path:
        """Writes `summary.json`; a number that is not finite becomes null."""
        text = json.dumps(_with_null(summary), indent=2, allow_nan=False)
        return write_bytes(self.summary, f"{text}\n".encode())

    def remove(self) -> None:
        """Deletes the folder and all in it, and those parents made for it that are empty.

        What `create` did not make stays.
        """
        if self.path not in self._made:
            return
        *parents, _ = self._made
        # From here on the name is free: another process may make a folder of it.
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in reversed(parents):
            with contextlib.suppress(OSError):  # another process has put its run there
                parent.rmdir()


def _free_paths(table: ConfigTable) -> Iterator[Path]:
    """runs/image-lrnn, runs/image-lrnn-2, -3, ..."""
    stem = f"{table['problem']['kind']}-{table['model']['kind']}"
    yield Path("runs", stem)
    yield from (Path("runs", f"{stem}-{number}") for number in itertools.count(2))


def _make_folder(path: Path, made: list[Path]) -> None:
    """Makes a folder and the parents that it lacks; adds those that this call made to `made`.

    Raises:
      FileExistsError: `path` exists.
      OSError: the system refuses.
    """
    for last in [False] * (_TRIES - 1) + [True]:
        try:
            path.mkdir()
        except FileNotFoundError:
            if last or path == path.parent:
                raise
            with contextlib.suppress(FileExistsError):  # another process has made it
                _make_folder(path.parent, made)
        else:
            made.append(path)
            return


def _with_null(value: Any) -> Any:
    """`value` with null for what JSON has no number for: NaN and infinities."""
    if isinstance(value, dict):
        return {name: _with_null(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_with_null, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(line: dict[str, Any]) -> dict[str, float]:
    """A line of metrics with NaN for null."""
    return {name: math.nan if value is None else value for name, value in line.items()}


def _json_line(line: dict[str, float]) -> str:
    return json.dumps(_with_null(line), allow_nan=False) + "\n"
