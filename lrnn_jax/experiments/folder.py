"""The folder of a run: what lies where, and how it is opened, checked and continued."""

import contextlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lrnn_jax.errors import InputError
from lrnn_jax.experiments.spec import Experiment, experiment_from, read_table, table_of, write_table
from lrnn_jax.io import exists, io_errors, write_bytes

__all__ = ["RunFolder"]


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
        self._made: list[Path] = []

    @classmethod
    def create(cls, path: Path | None, experiment: Experiment) -> "RunFolder":
        """A new folder with the resolved config; without a path, the next free one under `runs/`.

        Raises:
          InputError: the folder exists or cannot be made.
        """
        table = table_of(experiment)
        run = cls(_free_path(table) if path is None else path)
        if exists(run.path):
            raise InputError(f"{run.path} exists: name another folder, or use --resume")
        run._made = [folder for folder in (run.path, *run.path.parents) if not exists(folder)]
        try:
            with io_errors(run.path, "make the folder"):
                run.path.mkdir(parents=True)
            write_table(run.config, table)
        except BaseException:
            run.remove()
            raise
        return run

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

    def experiment(self) -> Experiment:
        """What the run was configured to do."""
        try:
            return experiment_from(read_table(self.config))
        except InputError as error:
            where = "" if str(self.config) in str(error) else f"{self.config}: "
            raise InputError(f"{where}{error}") from error

    def read_metrics(self) -> list[dict[str, float]]:
        """The lines of `metrics.jsonl`; none where there is no such file.

        Raises:
          InputError: a line is no JSON object of a step.
        """
        if not exists(self.metrics):
            return []
        with io_errors(self.metrics, "read"):
            content = self.metrics.read_bytes()
        try:
            lines = [json.loads(line) for line in content.decode().splitlines()]
            return [line | {"step": int(line["step"])} for line in lines]
        except (ValueError, KeyError, TypeError) as error:
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
        """Writes `summary.json`."""
        return write_bytes(self.summary, (json.dumps(summary, indent=2) + "\n").encode())

    def remove(self) -> None:
        """Deletes the folder and all in it, and the parents that were made for it."""
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in self._made[1:]:
            with contextlib.suppress(FileNotFoundError):
                parent.rmdir()


def _free_path(table: dict[str, Any]) -> Path:
    """runs/image-lrnn, or the first of runs/image-lrnn-2, -3, ... that does not exist."""
    stem = f"{table['problem']['kind']}-{table['model']['kind']}"
    path, number = Path("runs", stem), 1
    while exists(path):
        number += 1
        path = Path("runs", f"{stem}-{number}")
    return path


def _json_line(line: dict[str, float]) -> str:
    return json.dumps(line) + "\n"
