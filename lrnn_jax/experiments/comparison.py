"""Compare fits to one problem: a table, the training curves, and the truth beside each fit."""

import base64
import dataclasses
import html
import io
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float

from lrnn_jax.errors import InputError
from lrnn_jax.experiments.saving import load_run
from lrnn_jax.fields import BoundModel, precision_of
from lrnn_jax.io import write_bytes
from lrnn_jax.kernels.cost import count_flops
from lrnn_jax.metrics import higher_is_better
from lrnn_jax.trees import count_parameters
from lrnn_jax.typing import Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "Fit", "fit_of_run"]

_STYLE = """
body { font-family: system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: 0.3em 0.9em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
td.best { font-weight: bold; }
img { max-width: 100%; }
.warning { color: #a33; }
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """One fit of a comparison.

    Attributes:
      name: its name in tables and figures.
      problem: the problem.
      field: the fitted field.
      scores: its scores.
      steps: the steps at which the loss was recorded.
      losses: the losses, shape (n,).
      seconds: the time that the steps took.
      warnings: what suggests that the fit has failed.
    """

    name: str
    problem: Problem
    field: BoundModel
    scores: dict[str, float]
    steps: list[int]
    losses: Float[np.ndarray, "n"]
    seconds: float
    warnings: list[str]

    @property
    def parameters(self) -> int:
        """Number of parameters; a complex number counts twice."""
        return count_parameters(self.field.params)

    @property
    def flops(self) -> int:
        """Floating-point operations of the field at one point."""
        x = jax.ShapeDtypeStruct((self.problem.in_dim,), "float32")
        return count_flops(self.field.model.apply, self.field.params, x)


def fit_of_run(folder: str | PathLike[str], name: str = "") -> Fit:
    """A finished run as a fit of a comparison.

    Args:
      folder: the folder of the run.
      name: name of the fit; "" takes that of the folder.

    Raises:
      InputError: the folder is not a run, or the run has not finished.
    """
    run = load_run(folder)
    return Fit(
        name=name or Path(folder).name,
        problem=run.problem,
        field=run.field,
        scores={n: np.nan if v is None else v for n, v in run.summary["scores"].items()},
        steps=run.history["step"].tolist(),
        losses=run.history["loss"],
        seconds=run.summary["train_seconds"],
        warnings=run.summary["diagnostics"]["warnings"],
    )


class Comparison:
    """Several fits to one problem, compared in a table and two figures.

    Args:
      fits: the fits; equal names get a number.

    Raises:
      InputError: there are no fits, or their problems differ.
    """

    def __init__(self, fits: list[Fit]) -> None:
        if not fits:
            raise InputError("a comparison needs at least one fit")
        for fit in fits[1:]:
            if fit.problem != fits[0].problem:
                raise InputError(
                    f"{fit.name} and {fits[0].name} are fits to different problems: a comparison "
                    "needs the same data"
                )
        names = [fit.name for fit in fits]
        counts = [names[: i + 1].count(name) for i, name in enumerate(names)]
        self.fits = [
            fit if count == 1 else dataclasses.replace(fit, name=f"{fit.name}-{count}")
            for fit, count in zip(fits, counts, strict=True)
        ]
        self.problem = fits[0].problem

    @property
    def rows(self) -> list[dict[str, str | float]]:
        """One row for each fit: name, scores, parameters, operations, seconds; the best first."""
        rows = [
            {"model": fit.name}
            | fit.scores
            | {"parameters": fit.parameters, "flops": fit.flops, "seconds": fit.seconds}
            for fit in self.fits
        ]
        score = self.problem.main_score
        if score is None or any(score not in fit.scores for fit in self.fits):
            return rows
        return sorted(rows, key=lambda row: row[score], reverse=higher_is_better(score))

    def plot_losses(self) -> "Figure":
        """The losses of all fits over their steps."""
        from lrnn_jax.plot import draw_losses

        return draw_losses({fit.name: (fit.steps, fit.losses) for fit in self.fits}, "loss")

    def plot_fields(self) -> "Figure | None":
        """The truth beside each fit, with the errors on one scale; None for a table."""
        from lrnn_jax.plot import draw_sections

        data, sections = self.problem.load(), {}
        for fit in self.fits:
            with precision_of(fit.field):
                sections[fit.name] = self.problem.section(fit.field, data)
        return None if None in sections.values() else draw_sections(sections)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the comparison as an HTML page that needs no other file.

        Raises:
          InputError: the file cannot be written.
        """
        kind = type(self.problem).__name__
        body = f"<h1>{html.escape(kind)}: {len(self.fits)} fits</h1>{self._repr_html_()}"
        head = f'<meta charset="utf-8"><title>{html.escape(kind)}</title><style>{_STYLE}</style>'
        page = f"<!DOCTYPE html><html lang='en'><head>{head}</head><body>{body}</body></html>"
        return write_bytes(Path(path), page.encode())

    def __repr__(self) -> str:
        rows = self.rows
        cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            [cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in cells
        ]
        return "\n".join("  ".join([line[0].strip().ljust(widths[0]), *line[1:]]) for line in lines)

    def _repr_html_(self) -> str:
        figures = [self.plot_fields(), self.plot_losses()]
        images = "".join(_image(figure) for figure in figures if figure is not None)
        notes = "".join(
            f'<p class="warning">{html.escape(f"{fit.name}: {warning}")}</p>'
            for fit in self.fits
            for warning in fit.warnings
        )
        return _table(self.rows) + notes + images


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _table(rows: list[dict[str, str | float]]) -> str:
    """An HTML table; the best score of each column is bold."""
    best = {
        name: (max if higher_is_better(name) else min)(row[name] for row in rows)
        for name in rows[0]
        if name not in ("model", "parameters")
    }
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    lines = [
        "".join(
            f"<td{' class=best' if len(rows) > 1 and best.get(name) == value else ''}>"
            f"{html.escape(_text(value))}</td>"
            for name, value in row.items()
        )
        for row in rows
    ]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _image(figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    source = base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img src="data:image/png;base64,{source}" alt=""></p>'
