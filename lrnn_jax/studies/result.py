"""`StudyResult`: the rows of a study, its summary, its page, and the fields that it has fitted."""

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lrnn_jax.diagnostics import Learned, draw_learned
from lrnn_jax.errors import InputError
from lrnn_jax.experiments.saving import load_entry
from lrnn_jax.experiments.spec import Experiment
from lrnn_jax.fields import BoundModel, precision_of
from lrnn_jax.reports import Gallery, fits_page, summary_rows, tasks, write_rows
from lrnn_jax.reports.statistics import Entry, Task, source_name
from lrnn_jax.studies.folder import Row, StudyFolder
from lrnn_jax.studies.spec import Study, experiment_of, read_study
from lrnn_jax.typing import Section

__all__ = ["StudyResult", "load_study"]

_FAILED = 5  # failed members that are named
_SIGNALS = 3  # signals whose fits a page shows: the best, the median and the worst
_SERIES = 8  # series whose fits a page shows


@dataclasses.dataclass(frozen=True, eq=False)
class StudyResult:
    """The rows of a study.

    Attributes:
      study: the study.
      folder: its folder.
      rows: one row for each fitted member, by column: `member`, its number, and `block`; the
        settings by dotted name; `main_score`, the name of the problem's main score; the scores;
        `parameters`; `flops`, the operations of the model at one point; `steps`; `loss`, before the
        last step; `seconds_amortised`, the member's share of the time of its block, and
        `seconds_alone`, the time of its steps in a fit on one device; `steps_to_TARGET`, None if
        the target was not reached; `reason`, why a member has failed, "" if it has not; `curve`,
        triples of a step, its loss and the main score.
    """

    study: Study
    folder: Path
    rows: list[Row]

    def summary(self) -> list[dict[str, Any]]:
        """Means, spreads, success rates and times of the members over sources and seeds.

        Returns:
          One row for each combination of the other settings; the columns are those of
          `lrnn_jax.reports.summary_rows` and the settings of the problem.
        """
        found = tasks(self.rows, self._names())
        return [
            {**task.settings, "main_score": task.score, **row}
            for task in found
            for row in summary_rows(task, self.study.targets)
        ]

    def save_rows(self, path: str | PathLike[str]) -> Path:
        """Write all rows, without the curves in CSV and Markdown, as the suffix of the name says.

        Args:
          path: a file `*.csv`, `*.md`, `*.jsonl` or `*.parquet`.

        Raises:
          InputError: another suffix; the file cannot be written; pyarrow is not installed.
        """
        flat = Path(path).suffix.lower() in (".csv", ".md")
        rows = [{n: v for n, v in row.items() if not (flat and n == "curve")} for row in self.rows]
        return write_rows(rows, path)

    def save_summary(self, path: str | PathLike[str]) -> Path:
        """Write the summary as CSV, Markdown, JSON lines or Parquet; see `save_rows`."""
        return write_rows(self.summary(), path)

    def report(self, path: str | PathLike[str] | None = None) -> Path:
        """Write one HTML page about the study, which needs no other file and no network.

        It shows success rates and times to the targets, the summary, the score over parameters,
        operations and seconds with the Pareto front, the sensitivity to settings, training curves,
        and for three signals (the best, the median and the worst) the fits beside the truth.

        Args:
          path: the page; None is `report.html` in the folder.

        Raises:
          InputError: there are no rows, or the file cannot be written.
        """
        if not self.rows:
            raise InputError(f"{self.folder} has no finished block: nothing to report")
        show = self.study.keep_models
        page = fits_page(
            f"Study {self.folder.name}",
            self.rows,
            self._names(),
            targets=self.study.targets,
            pictures=self._pictures if show else None,
            activations=self._activations if show else None,
        )
        return page.save(self.folder / "report.html" if path is None else path)

    def experiment(self, member: int) -> Experiment:
        """The model, the problem and the training settings of a member.

        Raises:
          InputError: there is no such member, or its data can no longer be read.
        """
        row = self._row(member)
        return experiment_of(self.study, {n: row[n] for n in self._names() if n in row})

    def field(self, member: int) -> BoundModel:
        """The fitted field u(x) of a member, with its `model` and its `params`.

        Raises:
          InputError: there is no such member, or the study has not stored its parameters.
        """
        block = self._row(member)["block"]
        path = StudyFolder(self.folder, self.study.rows).models(block)
        return BoundModel(*load_entry(path, str(member)))

    def _row(self, member: int) -> Row:
        for row in self.rows:
            if row["member"] == member:
                return row
        raise InputError(f"{self.folder} has no finished member {member}")

    def _pictures(self, task: Task, entries: Sequence[Entry]) -> list[Gallery]:
        """The fits of the best entries to the best, the median and the worst signal."""
        ranked = sorted(entries, key=lambda entry: task.order(entry.best))[:_SERIES]
        by_source: dict[str, list[float]] = {}
        for row, score in zip(ranked[0].best.rows, ranked[0].best.column(task.score), strict=True):
            if np.isfinite(score):
                by_source.setdefault(row.get("problem.source", ""), []).append(score)
        sources = sorted(by_source, key=lambda source: float(np.mean(by_source[source])))
        sources = sources[::-1] if task.higher else sources
        places = np.unique(np.linspace(0, len(sources) - 1, _SIGNALS).round().astype(int))
        pictures = (self._picture(sources[place], task, ranked) for place in places if sources)
        return [picture for picture in pictures if picture is not None]

    def _picture(self, source: str, task: Task, entries: Sequence[Entry]) -> Gallery | None:
        from lrnn_jax.plot.svg import page_style

        rows = {entry.label: _first_row(entry, source) for entry in entries}
        shown = {label: row for label, row in rows.items() if row is not None}
        name = next((source_name(row) for row in shown.values()), "") or "the fits"
        try:
            sections = {label: self._section(row["member"]) for label, row in shown.items()}
        except InputError as error:  # the file has been moved: all else can be shown
            return Gallery(name, f"no pictures: {error}", {})
        found = {label: section for label, section in sections.items() if section is not None}
        notes = {label: f"{row[task.score]:.4g}" for label, row in shown.items()}
        with page_style():
            return Gallery.of(name, found, notes) if found else None

    def _section(self, member: int) -> Section | None:
        problem, field = self.experiment(member).problem, self.field(member)
        with precision_of(field):
            return problem.section(field, problem.load())

    def _activations(self, task: Task, entries: Sequence[Entry]) -> Mapping[str, Learned]:
        """What the first finished member of each entry has learned."""
        from lrnn_jax.plot.svg import page_style

        figures = {}
        for entry in sorted(entries, key=lambda entry: task.order(entry.best))[:_SERIES]:
            row = _first_row(entry, None)
            if row is not None:
                field = self.field(row["member"])
                with page_style(), precision_of(field):
                    figure = draw_learned(field.model, field.params)
                figures |= {} if figure is None else {entry.label: figure}
        return figures

    def __repr__(self) -> str:
        lines = [f"<{len(self.rows)} fits in {self.folder}>"]
        for row in self.summary():
            score, names = row["main_score"], list(row)
            shown = [f"{n} {row[n]}" for n in names[: names.index("fits")] if n != "main_score"]
            text = f"{score} {row[score]:.4g}, {row['fits']} fits, {row['failed']} failed"
            lines.append(f"{', '.join(shown) or 'all'}: {text}")
        failed = [f"member {row['member']}: {row['reason']}" for row in self.rows if row["reason"]]
        more = [f"{len(failed) - _FAILED} more failed"] if len(failed) > _FAILED else []
        return "\n".join([*lines, *failed[:_FAILED], *more])

    def _names(self) -> list[str]:
        """The names of the settings that vary."""
        cases = (name for case in self.study.cases for name in case)
        return list(dict.fromkeys([*self.study.grid, *cases]))


def load_study(folder: str | PathLike[str]) -> StudyResult:
    """Read the finished blocks of a study.

    Args:
      folder: the folder of the study.

    Raises:
      InputError: it is not the folder of a study, or a file is damaged.
    """
    store = StudyFolder(Path(folder))
    if not store.file.is_file():
        raise InputError(f"{folder} is not the folder of a study: it has no {store.file.name}")
    spec = read_study(store.file)
    return StudyResult(spec, store.path, StudyFolder(store.path, spec.rows).rows())


def _first_row(entry: Entry, source: str | None) -> Row | None:
    """The fit to a source with the smallest seed that has not failed."""
    found = [
        dict(row)
        for row in entry.best.rows
        if not row.get("reason") and (source is None or row.get("problem.source", "") == source)
    ]
    return min(found, key=lambda row: row.get("training.seed", 0), default=None)
