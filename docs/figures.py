"""Draw the diagrams of the front page: an LRNN neuron, a NestNet, and what they reach.

    python docs/figures.py    # about a minute on two cores

The learned functions are those of two small networks that are fitted here; the chart is drawn from
benchmarks/results/zoo.json. Each picture is written in light and in dark to docs/images/.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

import lrnn_jax as lj
from lrnn_jax.diagnostics import learned_activations
from lrnn_jax.models.lrnn import component
from lrnn_jax.typing import Params

FOLDER = Path(__file__).parent
RESULTS = FOLDER.parent / "benchmarks" / "results" / "zoo.json"
PROBLEM = lj.Image("camera", size=(64, 64))
COLORS = ("#2f7ed8", "#d9822b", "#3a9d5d", "#b0519c")


class Theme(NamedTuple):
    """Colours of text, of faint lines and of boxes."""

    name: str
    text: str
    faint: str
    box: str


THEMES = (
    Theme("light", "#24292f", "#9aa4b0", "#eef2f7"),
    Theme("dark", "#d8dee6", "#6b7684", "#222830"),
)


# What two networks have learned ------------------------------------------------------------------


class Neuron(NamedTuple):
    """A neuron of the first layer of an LRNN.

    Attributes:
      z: the projections w_j . x + b_j where the curves are drawn, shape (k, points).
      curves: the factors 1 + gamma g_j there, shape (k, points).
      maps: the factors over the square [-1, 1]^2, shape (k, side, side).
    """

    z: np.ndarray
    curves: np.ndarray
    maps: np.ndarray


def learned_neuron() -> Neuron:
    """The factors of the neuron of a fitted LRNN whose product varies most."""
    model = lj.LRNN(in_dim=2, out_dim=1, depth=1, rank=16, components=4, omega0=8.0, hidden=4)
    settings = lj.Training(steps=600, learning_rate=5e-3, schedule="cosine")
    params = lj.solve(model, PROBLEM, settings).params["layer_0"]
    side = 96
    x = lj.domains.grid((side, side)).reshape(-1, 2)
    neurons = [factors_of(model, params, number, x) for number in range(16)]
    best = max(neurons, key=lambda factors: np.prod(factors[1], axis=0).std())
    z, values = best
    places = np.linspace(z.min(axis=1), z.max(axis=1), 200, axis=1)
    order = np.argsort(z, axis=1)
    known = np.take_along_axis(z, order, 1), np.take_along_axis(values, order, 1)
    curves = [np.interp(*line) for line in zip(places, *known, strict=True)]
    return Neuron(z=places, curves=np.array(curves), maps=values.reshape(-1, side, side))


def factors_of(
    model: lj.LRNN, params: Params, number: int, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """w_j . x + b_j and 1 + gamma g_j of one neuron at points x, shape (k, points) each."""
    leaves = {name: params[name] for name in ("projection", "component")}
    own = jax.tree.map(lambda leaf: leaf[..., number], leaves)
    one = jax.vmap(lambda unit, x: component(model, unit, x), in_axes=(-1, None))
    values = 1 + model.scale * jax.vmap(lambda x: one(own, x), out_axes=1)(jnp.asarray(x))
    weight, bias = own["projection"]["weight"], own["projection"]["bias"]
    return np.asarray((x @ weight + bias).T), np.asarray(values)


def learned_subnetworks() -> list[Any]:
    """The activations of a fitted NestNet of height 2, one for each layer."""
    model = lj.NestNet(in_dim=2, out_dim=1, width=48, depth=3, frequencies=6)
    settings = lj.Training(steps=600, learning_rate=1e-2, schedule="cosine")
    return learned_activations(model, lj.solve(model, PROBLEM, settings).params)


# Diagrams ----------------------------------------------------------------------------------------


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without a background; its one axes has the units of the figure, inches."""
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def inset(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Axes at (left, bottom, width, height) in inches, without ticks."""
    width, height = figure.get_size_inches()
    left, bottom, across, up = box
    axes = figure.add_axes((left / width, bottom / height, across / width, up / height))
    axes.set(xticks=[], yticks=[])
    return axes


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], theme: Theme) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "color": theme.faint, "lw": 1.1}
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **style))


def frame(axes: Axes, theme: Theme) -> None:
    axes.patch.set_facecolor(theme.box)
    for spine in axes.spines.values():
        spine.set_color(theme.faint)


def draw_lrnn(theme: Theme, neuron: Neuron) -> Figure:
    """Directions, learned curves, their stripes over the plane, and the product."""
    figure, axes = canvas(8.3, 3.15)
    count, size = len(neuron.z), 1.25
    left = [0.1 + 1.62 * index for index in range(count)]
    axes.text(
        0.1,
        0.17,
        "above: learned functions of one projection each; below: their values "
        "over the plane of the inputs",
        va="center",
        fontsize=8.5,
    )
    for index, start in enumerate(left):
        top = inset(figure, (start, 1.97, size, 0.95))
        frame(top, theme)
        top.axhline(1, color=theme.faint, lw=0.7)
        top.plot(neuron.z[index], neuron.curves[index], color=COLORS[index], lw=1.8)
        top.set_title(
            f"$1 + \\gamma\\, g_{index + 1}(w_{index + 1} \\cdot x + b_{index + 1})$",
            fontsize=9,
            pad=3,
        )
        draw_map(inset(figure, (start, 0.45, size, size)), neuron.maps[index])
        arrow(axes, (start + size / 2, 1.95), (start + size / 2, 1.72), theme)
        sign = r"$\times$" if index + 1 < count else "$=$"
        axes.text(start + size + 0.185, 1.07, sign, ha="center", va="center", fontsize=15)
    end = left[-1] + size + 0.37
    draw_map(inset(figure, (end, 0.45, size, size)), np.prod(neuron.maps, axis=0))
    axes.text(end, 2.45, "an LRNN neuron:\nthe product of\n$k = 4$ learned\nfunctions", va="center")
    return figure


def draw_map(axes: Axes, values: np.ndarray) -> None:
    reach = np.abs(values - np.median(values)).max()
    middle = np.median(values)
    axes.imshow(
        values, interpolation="none", cmap="viridis", vmin=middle - reach, vmax=middle + reach
    )
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_nestnet(theme: Theme, learned: list[Any]) -> Figure:
    """A network, the network of ReLUs inside of a neuron, and the learned activations."""
    figure, axes = canvas(9.4, 2.9)
    nodes = [
        [(0.35 + 0.75 * layer, 1.45 + 0.5 * (i - (n - 1) / 2)) for i in range(n)]
        for layer, n in enumerate((2, 4, 4, 1))
    ]
    draw_network(axes, nodes, theme, COLORS[0])
    axes.text(1.47, 0.12, "network", ha="center")
    inner = (3.35, 0.55, 2.1, 1.8)
    zoom(axes, nodes[2][1], 0.15, inner, theme)
    small = [
        [(3.6 + 0.8 * layer, 1.45 + 0.5 * (i - (n - 1) / 2)) for i in range(n)]
        for layer, n in enumerate((1, 3, 1))
    ]
    draw_network(axes, small, theme, COLORS[1])
    axes.text(4.4, 0.12, "its activation is a network\nwith a hidden layer of 3 ReLUs", ha="center")
    right = inset(figure, (6.35, 0.55, 2.85, 1.8))
    frame(right, theme)
    z = np.linspace(-1.2, 1.2, 400)
    right.plot(z, np.maximum(z, 0), color=theme.faint, lw=1.2, ls="--", label="ReLU")
    for index, rho in enumerate(learned):
        color = COLORS[index]
        right.plot(z, rho(z) - rho.at_zero, color=color, lw=1.8, label=f"layer {index + 1}")
    right.axhline(0, color=theme.faint, lw=0.5)
    right.axvline(0, color=theme.faint, lw=0.5)
    right.legend(fontsize=7.5, frameon=False, labelcolor=theme.text)
    axes.text(7.78, 0.12, r"learned activations $\varrho(z) - \varrho(0)$", ha="center")
    arrow(axes, (5.5, 1.45), (6.25, 1.45), theme)
    return figure


def draw_network(axes: Axes, nodes: list[list[Any]], theme: Theme, color: str) -> None:
    for before, after in itertools.pairwise(nodes):
        for one in before:
            for other in after:
                axes.plot(*zip(one, other, strict=True), color=theme.faint, lw=0.6, zorder=2)
    for layer, column in enumerate(nodes):
        hidden = 0 < layer < len(nodes) - 1
        for place in column:
            face = color if hidden else theme.box
            axes.add_patch(Circle(place, 0.13, fc=face, ec=theme.faint, lw=0.8, zorder=3))


def zoom(
    axes: Axes,
    place: tuple[float, float],
    radius: float,
    box: tuple[float, float, float, float],
    theme: Theme,
) -> None:
    """A box that shows what is inside of a node, with lines from the node to its corners."""
    left, bottom, width, height = box
    style = FancyBboxPatch(
        (left, bottom),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.1",
        fc=theme.box,
        ec=theme.faint,
        lw=1,
        zorder=1,
    )
    axes.add_patch(style)
    for corner in (bottom, bottom + height):
        axes.plot(
            (place[0] + radius, left), (place[1], corner), color=theme.faint, lw=0.9, zorder=0
        )


def draw_reach(theme: Theme) -> Figure:
    """PSNR after 1000 steps at 20,000 parameters, from the results of benchmarks/zoo.py."""
    rows = [row for row in json.loads(RESULTS.read_text()) if row["stage"] == "fit"]
    scores = {
        row["model"]: float(np.median(row["psnr_1000"])) for row in rows if row["size"] == 20_000
    }
    shown = sorted(scores.items(), key=lambda item: item[1])
    figure, axes = plt.subplots(figsize=(7.2, 4.3), layout="constrained")
    ours = {"LRNN-SPDER", "LRNN-sin", "NestNet", "NestNet, height 3"}
    for place, (name, value) in enumerate(shown):
        color = COLORS[1] if name in ours else COLORS[0]
        axes.barh(place, value, color=color, height=0.68)
        axes.text(value + 1.5, place, f"{value:.0f}", va="center", fontsize=8)
    names = [name.replace("its ReLU version", "NestNet with ReLU") for name, _ in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8.5)
    axes.set(xlabel="PSNR (dB) after 1000 steps, about 20,000 parameters", xlim=(0, 165))
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.faint)
    axes.margins(y=0.01)
    return figure


def main() -> None:
    neuron, learned = learned_neuron(), learned_subnetworks()
    drawings: dict[str, Callable[[Theme], Figure]] = {
        "lrnn": lambda theme: draw_lrnn(theme, neuron),
        "nestnet": lambda theme: draw_nestnet(theme, learned),
        "reach": draw_reach,
    }
    for theme in THEMES:
        colors = dict.fromkeys(
            ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor"),
            theme.text,
        )
        style = colors | {
            "font.size": 9.5,
            "axes.facecolor": "none",
            "savefig.transparent": True,
            "svg.hashsalt": "lrnn_jax",
            "savefig.dpi": 150,
        }
        for name, draw in drawings.items():
            with mpl.rc_context(style):
                figure = draw(theme)
                path = FOLDER / "images" / f"{name}-{theme.name}.svg"
                figure.savefig(path, metadata={"Date": None}, transparent=False, facecolor="none")
                plt.close(figure)
                print(path.name, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
