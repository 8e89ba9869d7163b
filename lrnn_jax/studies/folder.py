"""The folder of a study: its file, and the rows and the models of each block.

A block is the unit of work and of resuming. A process claims a block by a lock that the operating
system releases when the process ends for any reason, and writes the rows last. Several processes,
on one machine or on several that share the folder, therefore work on one study without talking to
each other, and a process that dies loses its block alone.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lrnn_jax.errors import InputError
from lrnn_jax.experiments.spec import write_table
from lrnn_jax.io import exists, io_errors, make_folder, read_bytes, write_bytes
from lrnn_jax.io.json_text import json_text
from lrnn_jax.reports.tables import parquet_bytes, read_parquet
from lrnn_jax.studies.spec import Study, read_study

__all__ = ["Row", "StudyFolder"]

_WRITTEN_BY_NOW = 3600  # seconds; writing a file takes less
Row = dict[str, Any]
"""A row of the result, by column."""


class StudyFolder:
    """A study on disk: `study.toml`, and `blocks/00000.jsonl`, `blocks/00000.safetensors`, ...

    `blocks/00000.tensorboard` and `blocks/00000.wandb` are empty; they exist if that tracker has
    received the members of the block.

    Args:
      path: the folder.
      rows: format of the rows, "jsonl" or "parquet".
    """

    def __init__(self, path: Path, rows: str = "jsonl") -> None:
        self.path, self.suffix = path, f".{rows}"
        self.file = path / "study.toml"
        self.blocks = path / "blocks"

    def prepare(self, study: Study) -> None:
        """Create the folder, or check that it is that of the same study.

        Raises:
          InputError: it is a folder of another study or of something else, or cannot be written.
        """
        if not exists(self.file):
            if exists(self.path) and not self._is_new():
                raise InputError(f"{self.path} exists and is not the folder of a study")
            make_folder(self.blocks)
            write_table(self.file, study.to_table())
        if read_study(self.file).to_table() != study.to_table():
            raise InputError(f"{self.path} holds another study: name another folder")
        make_folder(self.blocks)
        self._remove_unfinished()

    def _is_new(self) -> bool:
        """Whether the folder is empty, or another process is just creating it.

        That process makes the folder of the blocks, then a temporary file, then `study.toml`.
        """
        if not self.path.is_dir() or (self.blocks.is_dir() and any(self.blocks.iterdir())):
            return exists(self.file)
        others = [path for path in self.path.iterdir() if path not in (self.blocks, self.file)]
        return all(path.name.startswith(".") and path.suffix == ".toml" for path in others)

    def _remove_unfinished(self) -> None:
        """Remove the temporary files of processes that were killed while they wrote."""
        for path in self.blocks.glob(".*"):
            with contextlib.suppress(FileNotFoundError):  # another process removes them, too
                if time.time() - path.stat().st_mtime > _WRITTEN_BY_NOW:
                    path.unlink()

    def models(self, block: int) -> Path:
        """The file of the parameters of a block."""
        return self.blocks / f"{block:05d}.safetensors"

    def is_done(self, block: int) -> bool:
        """Whether the rows of a block are written."""
        return exists(self._rows(block))

    def is_tracked(self, block: int, tracker: str) -> bool:
        """Whether a tracker has received all members of a block."""
        return exists(self._tracked(block, tracker))

    def set_tracked(self, block: int, tracker: str) -> None:
        """Record that a tracker has received all members of a block."""
        write_bytes(self._tracked(block, tracker), b"")

    @contextlib.contextmanager
    def claimed(self, block: int) -> Iterator[bool]:
        """Lock a block within the context, and say whether this process holds the lock."""
        path = self.blocks / f"{block:05d}.lock"
        lock = FileLock(path)
        with io_errors(self.path, "lock"):
            try:
                lock.acquire(blocking=False)
            except Timeout:
                yield False
                return
        try:
            yield True
        finally:
            # Once the rows are written, whoever locks the deleted file finds them.
            if self.is_done(block):
                with contextlib.suppress(OSError):  # Windows does not delete open files
                    path.unlink()
            lock.release()

    def write(self, block: int, rows: Sequence[Row]) -> None:
        """Write the rows of a block, which marks it as done."""
        content = {
            ".jsonl": lambda: "".join(map(json_text, rows)).encode(),
            ".parquet": lambda: parquet_bytes(rows),
        }
        write_bytes(self._rows(block), content[self.suffix]())

    @contextlib.contextmanager
    def width_of(self, group: int) -> Iterator[int | None]:
        """The measured width of a program; None if it has not been measured.

        Within the context, no other process measures it.
        """
        path = self._width(group)
        with io_errors(path, "lock"), FileLock(path.with_suffix(".lock")):
            yield int(read_bytes(path)) if exists(path) else None

    def set_width(self, group: int, width: int) -> None:
        """Store the measured width of a program."""
        write_bytes(self._width(group), str(width).encode())

    def rows(self) -> list[Row]:
        """The rows of all blocks that are done, in the order of the members.

        Raises:
          InputError: a file is damaged.
        """
        # A process that was killed while it wrote has left a file whose name begins with a dot.
        paths = sorted(self.blocks.glob(f"[0-9]*{self.suffix}"))
        return sorted((row for path in paths for row in _read(path)), key=lambda row: row["member"])

    def rows_of(self, block: int) -> list[Row]:
        """The rows of a block that is done.

        Raises:
          InputError: the file is damaged.
        """
        return _read(self._rows(block))

    def _width(self, group: int) -> Path:
        return self.blocks / f"program-{group}.width"

    def _rows(self, block: int) -> Path:
        return self.blocks / f"{block:05d}{self.suffix}"

    def _tracked(self, block: int, tracker: str) -> Path:
        return self.blocks / f"{block:05d}.{tracker}"


def _read(path: Path) -> list[Row]:
    content = read_bytes(path)
    try:
        if path.suffix == ".parquet":
            return read_parquet(content)
        return [json.loads(line) for line in content.decode().splitlines()]
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; delete it to fit it again") from error
