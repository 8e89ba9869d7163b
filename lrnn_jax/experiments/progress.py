"""Progress display of a run: a bar on a terminal, or a line every few seconds elsewhere."""

import sys
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

__all__ = ["BarDisplay", "Display", "LineDisplay", "display_for"]

_HIDDEN = ("step", "seconds")


def _text(step: int, steps: int, values: dict[str, float], rate: float) -> str:
    shown = [f"{name} {_number(value)}" for name, value in values.items() if name not in _HIDDEN]
    costs = [f"{rate:.3g} steps/s", f"{_clock((steps - step) / rate)} left"]
    return "  ".join([f"step {step}/{steps}", *shown, *costs])


def _number(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= abs(value) < 1000 else f"{value:.3g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Display:
    """A progress display that shows nothing; the base class of the others."""

    def compiling(self) -> None:
        """Say that the program is being compiled."""

    def begin(self, step: int, steps: int) -> None:
        """Start the display: training begins at `step` of `steps`."""

    def update(self, step: int, values: dict[str, float], rate: float) -> None:
        """Show the number of steps taken, the latest metrics, and the steps per second."""

    def end(self) -> None:
        """End the display: training has ended."""


class BarDisplay(Display):
    """Show a progress bar: step, loss, scores, steps per second, time left."""

    def __init__(self, console: Console) -> None:
        columns = BarColumn(bar_width=24), TextColumn("{task.description}")
        self._progress = Progress(*columns, console=console)
        self._task = TaskID(-1)

    def compiling(self) -> None:
        self._progress.start()
        self._task = self._progress.add_task("compiling ...", total=None)

    def begin(self, step: int, steps: int) -> None:
        self._steps = steps
        if not self._progress.tasks:
            self.compiling()
        self._progress.update(self._task, description="compiled", total=steps, completed=step)

    def update(self, step: int, values: dict[str, float], rate: float) -> None:
        text = _text(step, self._steps, values, rate)
        self._progress.update(self._task, completed=step, description=text)

    def end(self) -> None:
        self._progress.stop()


class LineDisplay(Display):
    """Print the same values as lines: at most one line in `every` seconds, and the last step."""

    def __init__(self, every: float = 10.0, file: TextIO | None = None) -> None:
        self._every, self._file = every, file

    def compiling(self) -> None:
        print("compiling ...", file=self._file, flush=True)

    def begin(self, step: int, steps: int) -> None:
        self._steps, self._shown = steps, time.monotonic()

    def update(self, step: int, values: dict[str, float], rate: float) -> None:
        now = time.monotonic()
        if now - self._shown >= self._every or step == self._steps:
            self._shown = now
            print(_text(step, self._steps, values, rate), file=self._file, flush=True)


def display_for(console: Console) -> Display:
    """Return a bar for a terminal, and lines if the output goes to a file or a pipe."""
    if console.is_terminal:
        return BarDisplay(console)
    return LineDisplay(file=sys.stderr if console.stderr else None)
