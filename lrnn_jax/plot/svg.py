"""Figures as SVG text for a page: colours that follow its theme, series that it can hide."""

import contextlib
import html
import io
import re
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.figure import Figure

__all__ = ["COLOURS", "as_svg", "mark", "page_style", "series_style"]

COLOURS = (
    "#2f7ed8",
    "#e0742c",
    "#2a9d5c",
    "#c2508f",
    "#8a63d2",
    "#a9841a",
    "#1998a8",
    "#d64545",
)
"""Colours of series that are legible on a white and on a black page."""

_MARKERS = "os^DvPX*"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
_TEXT = "#010203"  # a colour that no artist has; the page replaces it by that of its text
_MARK = re.compile(r'<g id="series (\d+): ?([^"]*)">')
_ID = re.compile(r' id="([^"]+)"')


@contextlib.contextmanager
def page_style() -> Iterator[None]:
    """Create figures for a page within the context."""
    parts = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: Any = dict.fromkeys((*parts, "grid.color", "legend.labelcolor"), _TEXT)
    settings |= {"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none"}
    settings |= {"svg.fonttype": "none", "font.size": 9}
    settings |= {"axes.spines.top": False, "axes.spines.right": False, "legend.framealpha": 0}
    settings |= {"axes.prop_cycle": cycler(color=COLOURS)}
    with mpl.rc_context(settings):
        yield


def series_style(number: int) -> dict[str, Any]:
    """Colour, marker and dashes of a series: 32 that differ."""
    turn = number // len(COLOURS) % len(_DASHES)
    index = number % len(COLOURS)
    return {"color": COLOURS[index], "marker": _MARKERS[index], "linestyle": _DASHES[turn]}


def mark(artist: Artist, number: int, text: str = "") -> None:
    """Let the page hide an artist with its series, and show a text when it is pointed at."""
    plain = text.replace('"', "'")  # the name of an element, which Matplotlib quotes
    artist.set_gid(f"series {number}: {plain}")


def as_svg(figure: Figure, summary: str, number: int = 0) -> str:
    """A figure, created within `page_style`, as an element of a page.

    Args:
      figure: the figure.
      summary: what it shows, for readers that do not see it.
      number: its number on the page, so that the names of its parts are unique.
    """
    buffer = io.StringIO()
    with page_style(), mpl.rc_context({"svg.hashsalt": f"lrnn-jax {number}"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_TEXT, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = _MARK.sub(_class_and_title, text)
    # Names of parts that nothing refers to, such as "axes_1", are those of other figures, too.
    used = set(re.findall(r"#([^)\"]+)[)\"]", text))
    text = _ID.sub(lambda found: found[0] if found[1] in used else "", text)
    width, height = (72 * inches for inches in figure.get_size_inches())
    text = re.sub(r' (?:width|height)="[0-9.]+pt"', "", text, count=2)
    size = f'style="width:{width:.0f}pt;aspect-ratio:{width:.0f}/{height:.0f}"'
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(summary)}" {size}', 1)


def _class_and_title(found: re.Match[str]) -> str:
    title = f"<title>{found[2]}</title>" if found[2] else ""
    return f'<g class="series-{found[1]}">{title}'
