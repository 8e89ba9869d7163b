"""Figures of a run, drawn without pyplot, so that they use no global state and no display."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lrnn_jax.io import atomic

_MOST_NAMED = 30  # maximum number of classes with readable names and counts
# In characters; longer text would widen the figure until it might not fit into memory.
_LONGEST_TITLE, _LONGEST_CLASS = 80, 40
_PLAIN: dict[str, Any] = {"parse_math": False, "usetex": False}  # user text: $ is a plain character


def _printable(text: str, longest: int = _LONGEST_TITLE) -> str:
    """A printable name: invalid UTF-8 bytes are replaced, and long text is truncated."""
    text = text.encode(errors="surrogateescape").decode(errors="replace")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def write_error_map(
    path: Path,
    truth: Float[np.ndarray, "height width c"],
    value: Float[np.ndarray, "height width c"],
    title: str,
) -> Path:
    """Writes an image, its reconstruction, and the absolute error as a heat map, side by side.

    The error is the mean over the channels, in 8-bit levels (0 to 255). Its colour scale ends at
    the 99.9th percentile, so that outliers do not darken the rest.

    Args:
      path: a PNG file.
      truth: the image; values in [0, 1].
      value: the reconstruction.
      title: title of the reconstruction.
    """
    levels = 255 * np.abs(value - truth).mean(axis=-1)
    height, width = levels.shape
    side = 4.5 / max(height, width)
    size = (3 * max(2.0, side * width) + 1.3, max(1.6, side * height) + 0.5)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, pixels in zip(panels, (truth, value), strict=False):
        shown = np.clip(pixels[..., 0] if pixels.shape[-1] < 3 else pixels, 0, 1)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    top = max(float(np.percentile(levels, 99.9)), 1e-12)
    error = panels[2].imshow(levels, cmap="inferno", vmin=0, vmax=top, interpolation="nearest")
    figure.colorbar(error, ax=panels[2], label="levels of 255", extend="max")
    titles = ("truth", f"reconstruction, {title}", "absolute error")
    for axes, text in zip(panels, titles, strict=True):
        axes.set_title(_printable(text), fontsize=10, **_PLAIN)
        axes.set(xticks=[], yticks=[])
    return save_figure(figure, path)


def write_curves(
    path: Path, steps: Sequence[int], curves: Mapping[str, Sequence[float]], title: str
) -> Path:
    """Writes training curves over steps, one panel per quantity.

    An axis is logarithmic if its values are positive, and it shows the loss or spans more than two
    decades.
    """
    figure = Figure(figsize=(6.4, 0.6 + 2.4 * len(curves)), dpi=120)
    panels = figure.subplots(len(curves), sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, curves.items(), strict=True):
        axes.plot(steps, values, linewidth=1.2)
        axes.set_ylabel(_printable(name), **_PLAIN)
        finite = list(filter(math.isfinite, values)) or [0.0]
        if min(finite) > 0 and (name == "loss" or max(finite) > 100 * min(finite)):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
    panels[0].set_title(_printable(title), **_PLAIN)
    panels[-1].set_xlabel("step")
    return save_figure(figure, path)


def write_sound_error(
    path: Path, value: Float[np.ndarray, "n c"], truth: Float[np.ndarray, "n c"], rate: int
) -> Path:
    """Writes a sound and the error of its reconstruction over time and over frequency."""
    signals = {"sound": ("0.6", truth), "error": ("tab:red", value - truth)}
    return save_figure(sound_figure(signals, rate), path)


def sound_figure(signals: Mapping[str, tuple[str, Float[np.ndarray, "n c"]]], rate: int) -> Figure:
    """Signals over time and over frequency; all channels are combined.

    Time panel: the envelope, from the minimum to the maximum sample of each of 1,000 segments.
    Frequency panel: the level of each of 200 logarithmically spaced bands, in dB relative to the
    loudest band of the first signal.

    Args:
      signals: colour and samples by name.
      rate: samples per second.
    """
    figure = Figure(figsize=(7.2, 5.6), dpi=120, layout="constrained")
    above, below = figure.subplots(2)
    loudest = max(_bands(next(iter(signals.values()))[1], rate)[1].max(), 1e-300)
    for name, (colour, samples) in signals.items():
        times, low, high = _envelope(samples, rate)
        above.fill_between(times, low, high, color=colour, linewidth=0.3, label=name)
        frequencies, power = _bands(samples, rate)
        decibels = 10 * np.log10(np.maximum(power / loudest, 1e-20))
        below.plot(frequencies, decibels, color=colour, linewidth=1.2, label=name)
    above.set(xlabel="time (s)", ylabel="amplitude")
    above.legend(loc="upper right", ncols=2)
    below.set(xscale="log", xlabel="frequency (Hz)", ylabel="level (dB)")
    below.grid(alpha=0.3, which="both")
    return figure


def write_slices(
    path: Path, truth: Bool[np.ndarray, "a b c"], value: Bool[np.ndarray, "a b c"]
) -> Path:
    """Writes a solid and its reconstruction on the three central planes of the grid."""
    colours = ListedColormap(["white", "tab:red", "tab:blue", "0.75"])
    names = ("outside", "too much", "missing", "inside")
    figure = Figure(figsize=(9.6, 3.8), dpi=120, layout="constrained")
    for axis, axes in enumerate(figure.subplots(1, 3)):
        middle = truth.shape[axis] // 2
        plane = 2 * np.take(truth, middle, axis) + np.take(value, middle, axis)
        axes.imshow(plane, cmap=colours, vmin=-0.5, vmax=3.5, interpolation="nearest")
        axes.set(title=f"plane {middle} of axis {axis}", xticks=[], yticks=[])
    patches = [Patch(fc=colours(index), ec="0.5", label=name) for index, name in enumerate(names)]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, frameon=False)
    return save_figure(figure, path)


def write_predictions(
    path: Path, said: Float[np.ndarray, "n"], true: Float[np.ndarray, "n"]
) -> Path:
    """Writes a scatter plot of predictions over targets, with the identity line."""
    figure, axes = _single_panel(4.8, 4.8)
    ends = [min(true.min(), said.min()), max(true.max(), said.max())]
    axes.plot(ends, ends, color="0.6", linewidth=1)
    axes.plot(true, said, ".", markersize=4, alpha=0.7)
    axes.set(xlabel="target", ylabel="prediction")
    axes.set_aspect("equal", "datalim")
    return save_figure(figure, path)


def write_confusion(path: Path, counts: Int[np.ndarray, "k k"], classes: Sequence[str]) -> Path:
    """Writes a confusion matrix: true classes as rows, predicted classes as columns.

    With more than 30 classes, names and counts are omitted.
    """
    named = len(classes) <= _MOST_NAMED
    names = [_printable(name, _LONGEST_CLASS) for name in classes] if named else []
    side = 2.4 + 0.42 * min(len(classes), _MOST_NAMED)
    side += 0.13 * max(0, max(map(len, names), default=0) - 10)  # inches for long names
    figure, axes = _single_panel(side, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts) if named else ():
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    if named:
        rotation = 90 if max(map(len, names)) > 3 else 0
        axes.set_xticks(range(len(names)), names, rotation=rotation, **_PLAIN)
        axes.set_yticks(range(len(names)), names, **_PLAIN)
    axes.set(xlabel="prediction", ylabel="class")
    return save_figure(figure, path)


def write_frame_scores(path: Path, scores: Sequence[float]) -> Path:
    """Writes the PSNR of each frame of a video; frames with an infinite PSNR are omitted."""
    figure, axes = _single_panel(6.4, 3.2)
    finite = np.where(np.isfinite(scores), scores, np.nan)
    axes.plot(range(1, len(scores) + 1), finite, marker=".", linewidth=1.2)
    axes.set(xlabel="frame", ylabel="PSNR (dB)")
    axes.grid(alpha=0.3)
    return save_figure(figure, path)


def _single_panel(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    return figure, figure.subplots()


def _envelope(samples: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times in seconds, and the minimum and maximum sample of each segment."""
    starts = np.unique(np.linspace(0, len(samples), 1000, endpoint=False).astype(int))
    low = np.minimum.reduceat(samples.min(axis=1), starts)
    high = np.maximum.reduceat(samples.max(axis=1), starts)
    return starts / rate, low, high


def _bands(samples: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Centre frequencies in Hz and mean power of all non-empty bands, without zero frequency."""
    power = np.sum(np.abs(np.fft.rfft(samples, axis=0)) ** 2, axis=1)[1:]
    frequencies = np.fft.rfftfreq(len(samples), 1 / rate)[1:]
    edges = np.geomspace(frequencies[0], frequencies[-1], 201)
    band = np.clip(np.searchsorted(edges, frequencies, side="right") - 1, 0, 199)
    counts, sums = np.bincount(band, minlength=200), np.bincount(band, power, minlength=200)
    filled = counts > 0
    return np.sqrt(edges[:-1] * edges[1:])[filled], sums[filled] / counts[filled]


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a figure atomically; equal figures give identical files.

    A character that is missing from matplotlib's font is drawn as a box.
    """
    with atomic(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(temporary, bbox_inches="tight", metadata={"Software": None})
    return path
