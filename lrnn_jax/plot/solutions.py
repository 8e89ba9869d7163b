"""Figures of PDE solutions: maps of solution, error and residual; profiles; animations."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from PIL import Image

from lrnn_jax.domains import Box
from lrnn_jax.io import atomic, require_suffix
from lrnn_jax.plot.figures import save_figure

_SIGNED, _SIZES = "RdBu_r", "magma"  # colour maps of signed values and of magnitudes
_PROFILES, _FRAMES = 4, 50  # number of profiles; maximum number of animation frames

Panel = tuple[str, np.ndarray, str]
"""Title, values on a plane, colour map."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolutionGrid:
    """A solution on a tensor grid.

    Attributes:
      domain: the box.
      names: names of the coordinates, time last.
      components: names of the components of the solution.
      shape: number of points along each axis.
      time: whether the last axis is time.
      value: the solution; the first axis varies slowest.
      truth: the exact solution, or None if it is unknown.
      residual: residual of the equation, or None.
    """

    domain: Box
    names: tuple[str, ...]
    components: tuple[str, ...]
    shape: tuple[int, ...]
    time: bool
    value: Float[np.ndarray, "m o"]
    truth: Float[np.ndarray, "m o"] | None = None
    residual: Float[np.ndarray, "m k"] | None = None

    def planes(self, values: np.ndarray) -> np.ndarray:
        """Values (m,) on the first two axes, at the final time and the middle of other axes."""
        grid = values.reshape(self.shape)
        while grid.ndim > 2:
            last = self.time and grid.ndim == len(self.shape)
            grid = grid[..., -1] if last else grid[..., grid.shape[-1] // 2]
        return grid

    def series(self, values: np.ndarray) -> np.ndarray:
        """Values (m,) with time first, followed by one or two axes of space."""
        frames = np.moveaxis(values.reshape(self.shape), -1, 0)
        while frames.ndim > 3:
            frames = frames[..., frames.shape[-1] // 2]
        return frames


def write_solution(solution: SolutionGrid, folder: Path) -> list[Path]:
    """Writes `solution.png`, and with time `solution.gif` and, for (x, t), `profiles.png`."""
    files = [_write_image(solution, folder / "solution.png")]
    if solution.time and len(solution.shape) == 2:
        files.append(_write_profiles(solution, folder / "profiles.png"))
    if solution.time and len(solution.shape) > 1:
        files.append(_write_animation(solution, folder / "solution.gif"))
    return files


def write_values(solution: SolutionGrid, path: str | Path, x: np.ndarray) -> Path:
    """Writes a `.npz` with the arrays `x` and `u`, or an image of the solution."""
    path = require_suffix(path, ".npz", ".nc", ".vti", ".png", ".pdf", ".svg")
    if path.suffix == ".npz":
        with atomic(path) as temporary:
            np.savez(temporary, x=x, u=solution.value)
        return path
    return _write_image(solution, path)


def _write_image(solution: SolutionGrid, path: Path) -> Path:
    return _write_lines(solution, path) if len(solution.shape) == 1 else _write_maps(solution, path)


def _write_maps(solution: SolutionGrid, path: Path) -> Path:
    """Writes one row per component: solution, truth, |error|, |residual|."""
    rows = [_panels(solution, i) for i in range(len(solution.components))]
    if solution.residual is not None:
        size = np.linalg.norm(solution.residual, axis=-1)
        rows[0].append(("|residual|", solution.planes(size), _SIZES))
    columns = max(map(len, rows))
    figure = Figure(figsize=(3.4 * columns, 2.7 * len(rows)), dpi=120, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, panels in zip(axes, rows, strict=True):
        for panel in line[len(panels) :]:
            panel.set_axis_off()
        tops = _tops(panels)
        for panel, content in zip(line, panels, strict=False):
            _draw_plane(panel, solution, content, tops[content[0]])
    if len(solution.shape) > 2:
        figure.suptitle(_cut(solution), fontsize=10)
    return save_figure(figure, path)


def _panels(solution: SolutionGrid, i: int) -> list[Panel]:
    name, value = solution.components[i], solution.value[:, i]
    panels = [(name, solution.planes(value), _SIGNED)]
    if solution.truth is not None:
        truth = solution.truth[:, i]
        panels.append((f"exact {name}", solution.planes(truth), _SIGNED))
        panels.append((f"|error of {name}|", solution.planes(np.abs(value - truth)), _SIZES))
    return panels


def _tops(panels: list[Panel]) -> dict[str, float]:
    """Upper limit of the colour scale of each panel; solution and truth share one.

    It is the 99.9th percentile of the finite values, so that outliers do not hide the rest, and
    that of the truth where it is known.
    """
    tops = {title: _top(plane) for title, plane, _ in panels}
    signed = [title for title, _, colours in panels if colours == _SIGNED]
    shared = tops[signed[-1]]
    return tops | {title: shared for title, _, colours in panels if colours == _SIGNED}


def _top(plane: np.ndarray) -> float:
    sizes = np.abs(plane[np.isfinite(plane)])
    return max(float(np.percentile(sizes, 99.9)), 1e-300) if sizes.size else 1.0


def _draw_plane(axes: Any, solution: SolutionGrid, panel: Panel, top: float) -> None:
    """Draws one map; for (x, t), time is the horizontal axis."""
    title, plane, colours = panel
    low, high, names = solution.domain.low, solution.domain.high, solution.names
    across, up = (1, 0) if solution.time and len(solution.shape) == 2 else (0, 1)
    shown = plane if across == 1 else plane.T
    extent = (low[across], high[across], low[up], high[up])
    bottom = -top if colours == _SIGNED else 0
    style = {"origin": "lower", "aspect": "auto", "cmap": colours}
    image = axes.imshow(shown, extent=extent, vmin=bottom, vmax=top, **style)
    axes.set_title(title, fontsize=10)
    axes.set(xlabel=names[across], ylabel=names[up])
    numbers = ScalarFormatter()
    numbers.set_powerlimits((-2, 3))
    axes.figure.colorbar(image, ax=axes, format=numbers)


def _cut(solution: SolutionGrid) -> str:
    """Label with the fixed coordinates of the plane, for more than two coordinates."""
    fixed = solution.names[2:]
    low, high = solution.domain.low[2:], solution.domain.high[2:]
    places = [
        f"{name} = {b if solution.time and name == 't' else (a + b) / 2:g}"
        for name, a, b in zip(fixed, low, high, strict=True)
    ]
    return "at " + ", ".join(places)


def _coordinates(solution: SolutionGrid, axis: int) -> np.ndarray:
    low, high = solution.domain.low[axis], solution.domain.high[axis]
    return np.linspace(low, high, solution.shape[axis])


def _write_lines(solution: SolutionGrid, path: Path) -> Path:
    """Writes a solution of one coordinate as curves, with the error below."""
    figure = Figure(figsize=(6.4, 4.8), dpi=120, layout="constrained")
    axes = figure.subplots(2 if solution.truth is not None else 1, sharex=True, squeeze=False)[:, 0]
    x = _coordinates(solution, 0)
    for i, name in enumerate(solution.components):
        axes[0].plot(x, solution.value[:, i], label=name)
        if solution.truth is not None:
            axes[0].plot(x, solution.truth[:, i], "k--", linewidth=1, label=f"exact {name}")
            axes[1].semilogy(x, np.abs(solution.value - solution.truth)[:, i] + 1e-18, label=name)
    if solution.truth is not None:
        axes[1].set_ylabel("|error|")
    axes[0].legend()
    axes[-1].set_xlabel(solution.names[0])
    return save_figure(figure, path)


def _write_profiles(solution: SolutionGrid, path: Path) -> Path:
    """Writes the solution over space at a few times, with the exact solution dashed."""
    places = np.linspace(0, solution.shape[1] - 1, _PROFILES).round().astype(int)
    times, x = _coordinates(solution, 1), _coordinates(solution, 0)
    figure = Figure(figsize=(3.2 * _PROFILES, 2.8), dpi=120, layout="constrained")
    panels = figure.subplots(1, _PROFILES, sharey=True)
    value = solution.series(solution.value[:, 0])
    truth = None if solution.truth is None else solution.series(solution.truth[:, 0])
    for panel, place in zip(panels, places, strict=True):
        panel.plot(x, value[place], label=solution.components[0])
        if truth is not None:
            panel.plot(x, truth[place], "k--", linewidth=1, label="exact")
        panel.set_title(f"t = {times[place]:.3g}", fontsize=10)
        panel.set_xlabel(solution.names[0])
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(solution.components[0])
    panels[0].legend()
    return save_figure(figure, path)


def _write_animation(solution: SolutionGrid, path: Path) -> Path:
    """Writes an animation of the first component: a curve in one space dimension, a map in two.

    The static background is drawn once. Each frame redraws only the moving artists on it.
    """
    times = _coordinates(solution, len(solution.shape) - 1)
    figure = Figure(figsize=(5, 3.6), dpi=80, layout="constrained")
    canvas, panel = FigureCanvasAgg(figure), figure.subplots()
    panel.set_xlabel(solution.names[0])
    title = panel.set_title(f"t = {times[0]:.3f}")
    moving = (
        _moving_map(solution, panel) if len(solution.shape) > 2 else _moving_line(solution, panel)
    )
    for artist in (title, *(artist for artist, _, _ in moving)):
        artist.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)

    def frame(index: int) -> Image.Image:
        canvas.restore_region(background)
        for artist, setter, values in moving:
            setter(values[index])
            panel.draw_artist(artist)
        title.set_text(f"t = {times[index]:.3f}")
        panel.draw_artist(title)
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    indices = np.unique(np.linspace(0, len(times) - 1, _FRAMES).round().astype(int))
    first, *others = map(frame, indices)
    options = {"save_all": True, "append_images": others, "duration": 66, "loop": 0}
    with atomic(path) as temporary:
        first.save(temporary, format="GIF", **options)
    return path


Moving = list[tuple[Artist, Callable[[np.ndarray], None], np.ndarray]]
"""For each moving artist: the artist, the setter of its values, and its values over time."""


def _moving_line(solution: SolutionGrid, panel: Axes) -> Moving:
    """Draws the solution and, if it is known, the exact solution as curves."""
    curves = [(solution.components[0], solution.value, {})]
    if solution.truth is not None:
        curves.append(("exact", solution.truth, {"color": "k", "ls": "--", "linewidth": 1}))
    moving: Moving = []
    for label, values, style in curves:
        frames = solution.series(values[:, 0])
        (line,) = panel.plot(_coordinates(solution, 0), frames[0], label=label, **style)
        moving.append((line, line.set_ydata, frames))
    top = _largest(solution)
    panel.set_ylim(-1.1 * top, 1.1 * top)
    panel.legend(loc="upper right")
    return moving


def _moving_map(solution: SolutionGrid, panel: Axes) -> Moving:
    low, high, top = solution.domain.low, solution.domain.high, _largest(solution)
    extent = (low[0], high[0], low[1], high[1])
    frames = np.swapaxes(solution.series(solution.value[:, 0]), 1, 2)
    style: dict[str, Any] = {"origin": "lower", "cmap": _SIGNED}
    image = panel.imshow(frames[0], extent=extent, vmin=-top, vmax=top, **style)
    panel.set_ylabel(solution.names[1])
    panel.figure.colorbar(image, ax=panel, label=solution.components[0])
    return [(image, image.set_data, frames)]


def _largest(solution: SolutionGrid) -> float:
    """The largest absolute value of the first component, at least 1e-300."""
    return max(float(np.abs(solution.value[:, 0]).max()), 1e-300)
