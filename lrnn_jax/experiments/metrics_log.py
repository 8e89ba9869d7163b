"""The metrics of a run, one line of JSON per logged step."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

from lrnn_jax.errors import InputError
from lrnn_jax.io import exists, io_errors, write_bytes
from lrnn_jax.io.json_text import json_text

__all__ = ["MetricsLog"]


class MetricsLog:
    """A file of metrics: each line has a step, seconds, the loss, its terms and their scores.

    Args:
      path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, float]]:
        """Return the lines with NaN for null; no lines if the file is missing.

        Raises:
          InputError: a line is not a JSON object with a step.
        """
        if not exists(self.path):
            return []
        with io_errors(self.path, "read"):
            content = self.path.read_bytes()
        try:
            lines = [json.loads(line) for line in content.decode().splitlines()]
            return [
                {name: math.nan if value is None else value for name, value in line.items()}
                | {"step": int(line["step"])}
                for line in lines
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.path} is damaged: {error}") from error

    def rewind(self, step: int) -> list[dict[str, float]]:
        """Delete the lines of `step` and later steps, and return the remaining ones."""
        lines = [line for line in self.read() if line["step"] < step]
        write_bytes(self.path, "".join(map(json_text, lines)).encode())
        return lines

    def append(self, lines: Iterable[dict[str, float]]) -> None:
        """Append lines; if writing fails, the file is restored so that no partial line remains.

        Raises:
          InputError: the file cannot be written.
        """
        text = "".join(map(json_text, lines)).encode()
        with io_errors(self.path, "write"), self.path.open("ab") as file:
            end = file.tell()
            try:
                file.write(text)
                file.flush()
            except OSError:
                file.truncate(end)
                raise
