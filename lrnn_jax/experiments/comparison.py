"""Compare fits to one problem: a table, the training curves, and the truth beside each fit."""

import base64
import dataclasses
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float

from lrnn_jax.diagnostics import Learned, draw_learned
from lrnn_jax.errors import InputError
from lrnn_jax.experiments.folder import RunFolder
from lrnn_jax.experiments.saving import load_run
from lrnn_jax.fields import BoundModel, precision_of
from lrnn_jax.kernels.cost import count_flops
from lrnn_jax.metrics import higher_is_better
from lrnn_jax.reports import Gallery, fits_page, html_table, text_of
from lrnn_jax.reports.statistics import Entry, Task
from lrnn_jax.trees import count_parameters
from lrnn_jax.typing import Problem, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "Fit", "fit_of_run"]

_NAME = "fit.name"  # the column of a fit's name


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
      settings: its settings by dotted name; empty if they are not known.
    """

    name: str
    problem: Problem
    field: BoundModel
    scores: dict[str, float]
    steps: list[int]
    losses: Float[np.ndarray, "n"]
    seconds: float
    warnings: list[str]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

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
        name=name or Path(folder).resolve().name,
        problem=run.problem,
        field=run.field,
        scores={n: np.nan if v is None else v for n, v in run.summary["scores"].items()},
        steps=run.history["step"].tolist(),
        losses=run.history["loss"],
        seconds=run.summary["train_seconds"],
        warnings=run.summary["diagnostics"]["warnings"],
        settings={
            f"{section}.{name}": value
            for section, fields in RunFolder.open(Path(folder)).table().items()
            for name, value in fields.items()
        },
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

        sections = self._sections(fit.name for fit in self.fits)
        return None if sections is None else draw_sections(sections)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the comparison as an HTML page that needs no other file; see `StudyResult.report`.

        Raises:
          InputError: the file cannot be written.
        """
        names = [fit.name for fit in self.fits]
        title = f"{type(self.problem).__name__}: {', '.join(names)}"
        rows = [_row(number, fit) for number, fit in enumerate(self.fits)]
        page = fits_page(
            title,
            rows,
            [_NAME],
            pictures=self._pictures,
            activations=self._learned,
            settings=self._settings(),
        )
        return page.save(path)

    def _settings(self) -> list[dict[str, Any]]:
        """One row for each setting, with a column for each fit."""
        known = dict.fromkeys(name for fit in self.fits for name in fit.settings)
        return [
            {"setting": name} | {fit.name: text_of(fit.settings.get(name)) for fit in self.fits}
            for name in known
        ]

    def _pictures(self, task: Task, entries: Sequence[Entry]) -> list[Gallery]:
        from lrnn_jax.plot.svg import page_style

        sections = self._sections(entry.label for entry in entries)
        if sections is None:
            return []
        notes = {e.label: f"{e.best.mean(task.score):.4g}" for e in entries}
        with page_style():
            return [Gallery.of("the fits", sections, notes)]

    def _learned(self, task: Task, entries: Sequence[Entry]) -> dict[str, Learned]:
        from lrnn_jax.plot.svg import page_style

        del task
        figures = {}
        for entry in entries:
            field = self._named(entry.label).field
            with page_style(), precision_of(field):
                figures[entry.label] = draw_learned(field.model, field.params)
        return {label: figure for label, figure in figures.items() if figure is not None}

    def _sections(self, names: Iterable[str]) -> dict[str, Section] | None:
        """The same part of each fit; None for a table."""
        data, sections = self.problem.load(), {}
        for name in names:
            field = self._named(name).field
            with precision_of(field):
                section = self.problem.section(field, data)
            if section is None:
                return None
            sections[name] = section
        return sections

    def _named(self, name: str) -> Fit:
        return next(fit for fit in self.fits if fit.name == name)

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
        score = self.problem.main_score
        best = {} if score is None else {score: higher_is_better(score)}
        return html_table(self.rows, "", best) + notes + images


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _row(number: int, fit: Fit) -> dict[str, Any]:
    """A fit as the row of a study."""
    score = fit.problem.main_score
    return {
        "member": number,
        _NAME: fit.name,
        "main_score": score,
        **fit.scores,
        "parameters": fit.parameters,
        "flops": fit.flops,
        "steps": fit.steps[-1] if fit.steps else 0,
        "loss": float(fit.losses[-1]) if len(fit.losses) else math.nan,
        "seconds_alone": fit.seconds,
        "reason": "",
        "warnings": fit.warnings,
        "curve": [(step, float(v), None) for step, v in zip(fit.steps, fit.losses, strict=True)],
    }


def _image(figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    source = base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img src="data:image/png;base64,{source}" alt=""></p>'
