"""A self-contained HTML page of figures, tables and pictures, without any other file.

The page works without a network and without JavaScript, which only adds sorting, hiding of series
and the slider. Colours follow the reader's light or dark theme. Each figure has its numbers as a
table and as a CSV file.
"""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrnn_jax.io import write_bytes
from lrnn_jax.reports.tables import TableRow, columns, csv_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lrnn_jax.plot.pixels import Pixels

__all__ = ["Page", "html_table"]

_MOST_SHOWN = 60  # rows of the table below a figure; its file has all
_MARKS = {  # the markers of lrnn_jax.plot.svg in a square of 10
    "o": '<circle cx="0" cy="0" r="4"/>',
    "s": '<path d="M-4 -4H4V4H-4Z"/>',
    "^": '<path d="M0 -4.5L4.5 4H-4.5Z"/>',
    "D": '<path d="M0 -5L5 0L0 5L-5 0Z"/>',
    "v": '<path d="M0 4.5L4.5 -4H-4.5Z"/>',
    "P": '<path d="M-1.5 -5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5V-1.5H-1.5Z"/>',
    "X": '<path d="M-5 -3L-3 -5L0 -2L3 -5L5 -3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0Z"/>',
    "*": (
        '<path d="M0 -5.5L1.6 -1.6L5.5 -1.6L2.4 1L3.5 5L0 2.6L-3.5 5L-2.4 1L-5.5 -1.6L-1.6 -1.6Z"/>'
    ),
}


class Page:
    """A page that is written from the top to the bottom.

    Args:
      title: its title.
      lead: what it shows, in one or two sentences.
      series: the names of the series, in the order of their numbers in all figures.
    """

    def __init__(self, title: str, lead: str, series: Sequence[str]) -> None:
        self.title, self.lead, self.series = title, lead, list(series)
        self._figures = 0
        self._sections: list[tuple[str, str, list[str]]] = []

    def section(self, heading: str, link: str | None = None) -> None:
        """Begin a section.

        Args:
          heading: its heading.
          link: its name at the top of the page; None is the heading, "" leaves it out there.
        """
        self._sections.append((heading, heading if link is None else link, []))

    @property
    def sections(self) -> int:
        """The number of sections that have begun."""
        return len(self._sections)

    def text(self, text: str, kind: str = "faint") -> None:
        """Add a paragraph: "faint", "warning" or "" as its kind."""
        self._add(f'<p class="{kind}">{html.escape(text)}</p>')

    def figure(
        self, figure: "Figure", heading: str, summary: str, rows: Sequence[TableRow]
    ) -> None:
        """Add a figure with its numbers.

        Args:
          figure: the figure, of `lrnn_jax.plot.studies`.
          heading: its heading.
          summary: what it shows, for readers who do not see it.
          rows: its numbers.
        """
        from lrnn_jax.plot.svg import as_svg

        self._figures += 1
        drawn = as_svg(figure, summary, self._figures)
        data = _details(rows, heading) if rows else ""
        caption = f"<figcaption><h3>{html.escape(heading)}</h3></figcaption>"
        self._add(f"<figure class='plot'>{caption}{drawn}{data}</figure>")

    def table(
        self, rows: Sequence[TableRow], caption: str, best: Mapping[str, bool] | None = None
    ) -> None:
        """Add a table that its headings sort.

        Args:
          rows: the rows, all with the same columns.
          caption: what the table shows.
          best: columns whose best value is marked, and whether a larger value is better.
        """
        self._add(f'<div class="scroll" tabindex="0">{html_table(rows, caption, best or {})}</div>')

    def pictures(self, name: str, pixels: "Pixels", notes: Mapping[str, str]) -> None:
        """Add the truth under each fit, with a slider between the two, and the errors.

        Args:
          name: what is shown.
          pixels: the images.
          notes: a text for each fit, such as its score.
        """
        cards = "".join(_card(fit, pixels, notes.get(fit, "")) for fit in pixels.values)
        slider = scale = ""
        if pixels.truth is not None:
            about = f"left of the line: the truth; right: the fit, {name}"
            slider = (
                f'<label>truth <input type="range" min="0" max="100" value="50" '
                f'aria-label="{html.escape(about)}"> fit</label>'
            )
            scale = (
                '<span class="scale">error 0 <i role="img" aria-label="black to yellow"></i> '
                f"{pixels.largest_error:.3g} or more</span>"
            )
        self._add(
            f'<h3>{html.escape(name)}</h3><div class="pictures">'
            f'<div class="slider">{slider}{scale}</div><div class="cards">{cards}</div></div>'
        )

    def download(self, name: str, content: bytes, text: str) -> None:
        """Add a link that saves `content` as the file `name`."""
        self._add(f"<p>{_link(name, content, text)}</p>")

    def html(self) -> str:
        """The page as text."""
        source = files("lrnn_jax.reports")
        style, script = (source.joinpath(f"page.{kind}").read_text() for kind in ("css", "js"))
        entries, sections = [], []
        for number, (heading, link, parts) in enumerate(self._sections):
            entries += [f'<a href="#s{number}">{html.escape(link)}</a>'] if link else []
            title = f'<h2 id="s{number}">{html.escape(heading)}</h2>'
            sections.append(
                f'<section aria-labelledby="s{number}">{title}{"".join(parts)}</section>'
            )
        title = html.escape(self.title)
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{style}</style></head><body>"
            '<a class="skip" href="#s0">skip to the results</a>'
            f"<header><h1>{title}</h1><p>{html.escape(self.lead)}</p></header>"
            f'<div class="bar"><nav aria-label="sections">{"".join(entries)}</nav>'
            f"{self._legend()}</div><main>{''.join(sections)}</main>"
            f"<script>{script}</script></body></html>\n"
        )

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the page.

        Raises:
          InputError: the file cannot be written.
        """
        return write_bytes(Path(path), self.html().encode())

    def _add(self, text: str) -> None:
        self._sections[-1][-1].append(text)

    def _legend(self) -> str:
        from lrnn_jax.plot.svg import series_style

        items = []
        for number, name in enumerate(self.series):
            style = series_style(number)
            dashes = "" if style["linestyle"] == "-" else " ".join(map(str, style["linestyle"][1]))
            symbol = (
                f'<svg viewBox="-16 -7 32 14" aria-hidden="true" fill="{style["color"]}">'
                f'<path d="M-16 0H16" stroke="{style["color"]}" stroke-width="2.5" '
                f'stroke-dasharray="{dashes}"/>{_MARKS[style["marker"]]}</svg>'
            )
            items.append(
                f'<li><label><input type="checkbox" checked data-series="{number}">{symbol}'
                f"{html.escape(name)}</label></li>"
            )
        return f'<ul aria-label="series; uncheck to hide">{"".join(items)}</ul>'


def text_of(value: Any) -> str:
    """A value of a table: numbers with four digits, a dash for what is not known.

    >>> text_of(1234567), text_of(33.44567), text_of(None)
    ('1,234,567', '33.45', '–')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | float):
        whole = float(value).is_integer() or abs(value) >= 1e3
        return f"{value:,.0f}" if whole and abs(value) < 1e15 else f"{value:.4g}"
    return " x ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def html_table(rows: Sequence[TableRow], caption: str, best: Mapping[str, bool]) -> str:
    """A table whose headings sort it on a page.

    Args:
      rows: the rows.
      caption: what the table shows.
      best: columns whose best value is marked, and whether a larger value is better.
    """
    names = columns(rows)
    marked = {n: _best_of([row.get(n) for row in rows], higher) for n, higher in best.items()}
    head = "".join(
        f'<th scope="col"><button type="button">{html.escape(name)}</button></th>' for name in names
    )
    lines = []
    for row in rows:
        values = [(row.get(name), marked.get(name)) for name in names]
        lines.append(
            "".join(_cell(v, len(rows) > 1 and v is not None and v == b) for v, b in values)
        )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<table class="sortable"><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(value: Any, best: bool) -> str:
    kinds = " ".join(
        kind for kind, holds in (("text", isinstance(value, str)), ("best", best)) if holds
    )
    number = isinstance(value, int | float) and not isinstance(value, bool)
    data = f' data-value="{value:.6g}"' if number and math.isfinite(value) else ""
    kind = f' class="{kinds}"' if kinds else ""
    return f"<td{kind}{data}>{html.escape(text_of(value))}</td>"


def _best_of(values: Sequence[Any], higher: bool) -> Any:
    finite = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return (max if higher else min)(finite, default=None)


def _details(rows: Sequence[TableRow], heading: str) -> str:
    """The numbers of a figure: a table that opens, and a file."""
    name = "-".join("".join(c if c.isalnum() else " " for c in heading).lower().split())
    link = _link(f"{name}.csv", csv_text(rows).encode(), "CSV")
    more = f" (the first {_MOST_SHOWN} of {len(rows)} rows)" if len(rows) > _MOST_SHOWN else ""
    table = html_table(rows[:_MOST_SHOWN], f"{heading}{more}", {})
    return f'<details><summary>Numbers</summary>{link}<div class="scroll">{table}</div></details>'


def _link(name: str, content: bytes, text: str) -> str:
    source = base64.b64encode(content).decode()
    kind = "application/gzip" if name.endswith(".gz") else "text/plain;charset=utf-8"
    return f'<a download="{name}" href="data:{kind};base64,{source}">{html.escape(text)}</a>'


def _card(name: str, pixels: "Pixels", note: str) -> str:
    caption = html.escape(f"{name}: {note}" if note else name)
    height, width = pixels.values[name].shape[:2]
    tall = f"{min(max(height / width, 0.3), 1.3):.3f}"
    shape = f'style="aspect-ratio:1/{tall}"'
    value = f'<img class="fit" {shape} alt="{html.escape(name)}" src="{_png(pixels.values[name])}">'
    if pixels.truth is None:
        value = value.replace('class="fit" ', "")
        return f'<figure class="card"><figcaption>{caption}</figcaption>{value}</figure>'
    truth = f'<img {shape} alt="truth" src="{_png(pixels.truth)}">'
    error = f'src="{_png(pixels.errors[name])}"'
    return (
        f'<figure class="card"><figcaption>{caption}</figcaption>'
        f'<div class="stack">{truth}{value}</div>'
        f'<img class="error" {shape} alt="error of {html.escape(name)}" {error}></figure>'
    )


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
