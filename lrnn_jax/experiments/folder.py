"""The folder of a run: its files, and how it is created, opened, locked and continued."""

import contextlib
import itertools
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lrnn_jax.errors import InputError
from lrnn_jax.experiments.metrics_log import MetricsLog
from lrnn_jax.experiments.spec import (
    ConfigTable,
    Experiment,
    experiment_from,
    read_table,
    write_table,
)
from lrnn_jax.io import exists, io_errors
from lrnn_jax.io.files import is_temporary

__all__ = ["RunFolder"]

_TRIES = 10  # attempts to create a folder while other processes remove its parent


class RunFolder:
    """A run on disk.

    The folder contains `config.toml`, `metrics.jsonl`, `checkpoints/`, `model.safetensors`,
    pictures and `summary.json`.

    Args:
      path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = MetricsLog(path / "metrics.jsonl")
        self.checkpoints = path / "checkpoints"
        self.params = path / "model.safetensors"
        self.curve = path / "training.png"
        self.summary = path / "summary.json"
        self._lock = path / ".lock"
        self._holder = path / ".pid"
        self._own: Path | None = None  # the folder, once `create` has made it
        self._parents: list[Path] = []  # that `create` has made

    @classmethod
    def create(cls, path: Path | None, table: ConfigTable) -> "RunFolder":
        """Create a new folder and write the resolved config into it.

        If several processes create the same path at the same time, only one of them succeeds. If
        they create folders without a path, they get different ones. An empty folder is replaced.

        Args:
          path: the folder; None creates the next free one under `runs/`.
          table: the resolved config.

        Raises:
          InputError: the folder exists and is not empty, or it cannot be created.
        """
        for candidate in _free_paths(table) if path is None else [path]:
            run = cls(candidate)
            try:
                if run._publish(table):
                    return run
            except BaseException:
                run.remove()
                raise
        raise _taken(path)

    @staticmethod
    def require_free(path: Path | None) -> None:
        """Check that `create` can use a path.

        Raises:
          InputError: there is a file or a folder that is not empty.
        """
        if path is None or not exists(path):
            return
        with io_errors(path, "look at"):
            if not path.is_dir() or any(path.iterdir()):
                raise _taken(path)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open the folder of an existing run.

        Raises:
          InputError: the folder does not exist, or it has no `config.toml`.
        """
        run = cls(path)
        if not exists(run.config) or not run.config.is_file():
            raise InputError(f"{path} is not a run folder: it has no config.toml")
        return run

    def _publish(self, table: ConfigTable) -> bool:
        """Create the folder with its config; return False if the path is taken.

        The folder gets its name last, so that a process that is killed leaves none without config.
        """
        temporary = self.path.with_name(f".{secrets.token_hex(8)}")
        with io_errors(self.path, "make the folder"):
            _make_folder(temporary, self._parents)
        self._own = self._parents.pop()
        try:
            write_table(temporary / self.config.name, table)
        except InputError as error:
            raise InputError(str(error).replace(str(temporary), str(self.path))) from error
        with io_errors(self.path, "make the folder"):
            try:
                temporary.rename(self.path)
            except OSError:
                if not exists(self.path):
                    raise
                shutil.rmtree(temporary, ignore_errors=True)
                return False
        self._own = self.path
        return True

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Lock the run within the context, so that no other process can train it.

        The operating system releases the lock when the process ends for any reason.

        Raises:
          InputError: another process holds the lock, or the folder is not writable.
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
            # Delete `.pid` before the release: afterwards, it may contain the number of another
            # process. Do not delete `.lock`: a process that has opened it and a process that
            # creates it again would both hold a lock.
            with contextlib.suppress(OSError):  # Windows does not delete open files
                self._holder.unlink()
            lock.release()

    def delete_unfinished(self) -> None:
        """Delete the temporary files of a process that was killed; call it within `in_use`."""
        with io_errors(self.path, "clean"):
            for folder in (self.path, self.checkpoints):
                for path in folder.glob(".*"):
                    if is_temporary(path) and path.is_file():
                        path.unlink(missing_ok=True)

    def _pid(self) -> str:
        """Return the process that holds the lock in brackets, or "" if it is not known yet."""
        try:
            return f" (pid {int(self._holder.read_bytes())})"
        except (OSError, ValueError):
            return ""

    def table(self) -> ConfigTable:
        """Return the resolved config as nested dicts."""
        return read_table(self.config)

    def experiment(self) -> Experiment:
        """Return the model, the problem and the training settings of the config."""
        try:
            return experiment_from(self.table())
        except InputError as error:
            where = "" if str(self.config) in str(error) else f"{self.config}: "
            raise InputError(f"{where}{error}") from error

    def remove(self) -> None:
        """Delete the folder, and the empty parents that were created for it.

        Folders that `create` did not create are not deleted.
        """
        if self._own is None:
            return
        # After this line, the name is free, and another process may create a folder there.
        shutil.rmtree(self._own, ignore_errors=True)
        for parent in reversed(self._parents):
            with contextlib.suppress(OSError):  # another process has put its run there
                parent.rmdir()


def _taken(path: Path | None) -> InputError:
    return InputError(f"{path} exists: name another folder, or use --resume")


def _free_paths(table: ConfigTable) -> Iterator[Path]:
    """Yield candidates for a new folder: runs/image-lrnn, runs/image-lrnn-2, -3, ..."""
    stem = f"{table['problem']['kind']}-{table['model']['kind']}"
    yield Path("runs", stem)
    yield from (Path("runs", f"{stem}-{number}") for number in itertools.count(2))


def _make_folder(path: Path, made: list[Path]) -> None:
    """Create a folder and its missing parents, and append each created one to `made`.

    Raises:
      FileExistsError: `path` exists.
      OSError: the folder cannot be created.
    """
    for last in [False] * (_TRIES - 1) + [True]:
        try:
            path.mkdir()
        except FileNotFoundError:
            if last or path == path.parent:
                raise
            with contextlib.suppress(FileExistsError):  # another process has created it
                _make_folder(path.parent, made)
        else:
            made.append(path)
            return
