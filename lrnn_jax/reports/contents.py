"""The page of a study or a comparison, from its rows."""

import dataclasses
import gzip
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrnn_jax.diagnostics import Learned
from lrnn_jax.metrics import higher_is_better
from lrnn_jax.reports.page import Page
from lrnn_jax.reports.statistics import (
    BUDGET,
    LEARNING_RATE,
    Configuration,
    Entry,
    Row,
    Task,
    describe,
    front,
    grouped,
    score_names,
    short_name,
    summary_rows,
    tasks,
)
from lrnn_jax.reports.tables import csv_text, markdown_text
from lrnn_jax.typing import Section

__all__ = ["Gallery", "fits_page"]

_COSTS = {"parameters": "parameters", "flops": "operations at a point", "seconds_alone": "seconds"}
_TITLES = {"psnr": "PSNR (dB)", "snr": "SNR (dB)", "ssim": "SSIM", "iou": "IoU", "rmse": "RMSE"}
_TITLES |= {"relative_l2": "relative L2 error", "seconds_alone": "seconds"}
_SPREADS = (
    "Means over signals and seeds, and standard deviations over signals / over seeds. "
    "“best step”: the mean of the best recorded score of each fit."
)
_MOST_BYTES = 3_000_000  # of the file of all rows that the page contains
_MOST_FAILED = 50
_SENSITIVE = 3  # values of a setting, for a curve over it
_VARIES = 1.05  # ratio of the largest to the smallest cost
_CORNERS = 100  # of a training curve


class Gallery(NamedTuple):
    """What a page shows of the fits to one signal: pixels or, for curves, a figure.

    Attributes:
      name: the signal.
      shown: `Pixels` with the fits by the label of their entry, a figure of matplotlib, or a text
        that says why there is nothing.
      notes: a text for each fit, such as its score.
      rows: the numbers of curves.
    """

    name: str
    shown: Any
    notes: Mapping[str, str]
    rows: Sequence[Mapping[str, float]] = ()

    @classmethod
    def of(cls, name: str, sections: Mapping[str, Section], notes: Mapping[str, str]) -> "Gallery":
        """Pixels of maps and images, and the figure of curves; use it within `page_style`."""
        from lrnn_jax.plot import draw_sections
        from lrnn_jax.plot.pixels import section_pixels

        first = next(iter(sections.values()))
        if first.value.ndim > 1:
            return cls(name, section_pixels(sections), notes)
        columns = {} if first.truth is None else {"truth": first.truth}
        columns |= {label: section.value for label, section in sections.items()}
        rows = [
            {"sample": index, **dict(zip(columns, map(float, values), strict=True))}
            for index, values in enumerate(zip(*columns.values(), strict=True))
        ]
        return cls(name, draw_sections(sections), notes, rows)


Galleries = Callable[[Task, Sequence[Entry]], Sequence[Gallery]]
Activations = Callable[[Task, Sequence[Entry]], Mapping[str, Learned]]


def fits_page(
    title: str,
    rows: Sequence[Row],
    names: Sequence[str],
    *,
    targets: Sequence[float] = (),
    pictures: Galleries | None = None,
    activations: Activations | None = None,
    settings: Sequence[Mapping[str, Any]] = (),
) -> Page:
    """The page of many fits: quality, success, costs, sensitivity, curves, pictures, failures.

    Args:
      title: its title.
      rows: the fits.
      names: the settings that vary.
      targets: values of the main scores.
      pictures: returns what is shown of the fits of the entries.
      activations: returns what the networks of the entries have learned.
      settings: a table of all settings, for a few fits.
    """
    found = tasks(rows, names)
    entries = [task.entries() for task in found]
    labels = list(dict.fromkeys(entry.label for own in entries for entry in own))
    page = Page(title, _lead(rows, found), labels)
    for task, own in zip(found, entries, strict=True):
        numbers = {label: number for number, label in enumerate(labels)}
        part = _Part(page, task, own, numbers, targets, page.sections)
        shown = pictures(task, own) if pictures else ()
        if part.single:  # a comparison of a few fits, whose pictures say more than rates
            part.quality()
            part.pictures(shown)
            part.success()
            part.costs()
        else:
            part.success()
            part.quality()
            part.costs()
            part.sensitivity()
            part.pictures(shown)
        part.learned(activations(task, own) if activations else {})
    _failures(page, rows)
    if settings:
        page.section("Settings")
        page.table(settings, "settings of the fits")
    _files(page, rows, found, targets)
    return page


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """The part of a page about one task.

    Attributes:
      page: the page.
      task: the task.
      entries: what the figures show, by their series.
      numbers: the numbers of the series on this page.
      targets: values of the main score.
      start: number of sections of the page before this part.
    """

    page: Page
    task: Task
    entries: Sequence[Entry]
    numbers: Mapping[str, int]
    targets: Sequence[float]
    start: int

    @property
    def score(self) -> str:
        return title_of(self.task.score)

    @property
    def single(self) -> bool:
        """Whether each configuration is one fit, so that there are no means and rates."""
        return all(len(c.rows) == 1 for c in self.task.configurations)

    def section(self, heading: str) -> None:
        """Begin a section; of several tasks, only the first sections are named at the top."""
        label = self.task.label
        link = heading if not label else label if self.page.sections == self.start else ""
        self.page.section(f"{label}: {heading}" if label else heading, link)

    def quality(self) -> None:
        rows = summary_rows(self.task, self.targets)
        self.section("Quality")
        names = {
            name for c in self.task.configurations for row in c.rows for name in score_names(row)
        }
        self.page.table(
            [_readable(row, self.task.score, self.single) for row in rows],
            "" if self.single else _SPREADS,
            {title_of(name): higher_is_better(name) for name in names},
        )

    def success(self) -> None:
        from lrnn_jax.plot.studies import draw_times

        self.section("Training" if self.single else "Success")
        most = max(len(entry.trials) for entry in self.entries)
        if most > 1:
            self.page.text(
                f"The figures show each series at the best of up to {most} learning rates: the "
                f"fewest failed fits, then the best mean {self.score}. The table has all rates."
            )
        steps = {t: [e.best.steps_to(t) for e in self.entries] for t in self.targets}
        reached = [t for t, each in steps.items() if any(np.isfinite(s).any() for s in each)]
        if missed := [_with_unit(self.task.score, t) for t in self.targets if t not in reached]:
            self.page.text(f"No fit reached {' or '.join(missed)}.")
        for what, label in (("seconds", "seconds of a fit that runs alone"), ("steps", "steps")):
            if reached:
                times = {
                    _with_unit(self.task.score, target): {
                        e.label: getattr(e.best, f"{what}_to")(target) for e in self.entries
                    }
                    for target in reached
                }
                rows = list(_times_rows(times, what))
                text = "; ".join(f"{r['series']}, {r['target']}: {r['reached']:.0%}" for r in rows)
                drawn = draw_times(times, self.numbers, label)
                self.page.figure(drawn, f"Success rate and {what} to the target", text, rows)
        if not self.single:
            self._attainment()
        self._curves()

    def _attainment(self) -> None:
        """How many fits end at which score."""
        from lrnn_jax.plot.studies import draw_attainment

        scores = {e.label: e.best.column(self.task.score) for e in self.entries}
        figure = draw_attainment(scores, self.numbers, self.score, self.task.higher, self.targets)
        quantiles = (0, 10, 25, 50, 75, 90, 100)
        rows = [
            {"series": label} | {f"{q} %": float(v) for q, v in zip(quantiles, values, strict=True)}
            for label, s in scores.items()
            if (finite := s[np.isfinite(s)]).size
            for values in [np.percentile(finite, quantiles)]
        ]
        summary = "; ".join(f"{row['series']}: median {row['50 %']:.4g}" for row in rows)
        self.page.figure(figure, f"How many fits reach which {self.score}", summary, rows)

    def costs(self) -> None:
        from lrnn_jax.plot.studies import Point, draw_tradeoffs

        known = [e for e in self.entries if math.isfinite(e.best.mean(self.task.score))]
        costs = {
            title: np.array([entry.best.mean(name) for entry in known])
            for name, title in _COSTS.items()
        }
        costs = {title: v for title, v in costs.items() if v.size and np.isfinite(v).all()}
        # A cost that hardly varies, such as equal parameters, is no trade-off.
        costs = {title: v for title, v in costs.items() if v.max() > _VARIES * v.min()}
        if len(known) < 2 or not costs:
            return
        self.section("Costs")
        scores = np.array([entry.best.mean(self.task.score) for entry in known])
        fronts = {title: front(values, scores, self.task.higher) for title, values in costs.items()}
        points = [
            Point(
                self.numbers[entry.label],
                entry.label,
                entry.family,
                {title: float(values[i]) for title, values in costs.items()},
                float(scores[i]),
                {title: bool(values[i]) for title, values in fronts.items()},
            )
            for i, entry in enumerate(known)
        ]
        rows = [
            {"series": point.label, self.score: point.score, **point.costs}
            | {f"best for its {title}": point.on_front[title] for title in costs}
            for point in points
        ]
        cheap = ", ".join(p.label for p in points if all(p.on_front.values()))
        log = not self.task.higher and _spans_decades(scores)
        self.page.figure(
            draw_tradeoffs(points, self.score, log),
            f"{self.score} and what it costs",
            f"on the Pareto front of every cost: {cheap or 'none'}",
            rows,
        )
        self.page.text(
            "Filled marks and the grey line: the Pareto front, nothing is both cheaper and better."
        )

    def sensitivity(self) -> None:
        names = list(dict.fromkeys(n for c in self.task.configurations for n in c.settings))
        shown = [name for name in names if len(self._values(name)) >= _SENSITIVE]
        if shown:
            self.section("Sensitivity")
        for name in shown:
            if name == LEARNING_RATE:
                self._over(name, grouped(self.task.configurations, [name]))
            else:
                best = [entry.best for entry in self.entries]
                self._over(name, grouped(best, [name, LEARNING_RATE]))

    def _values(self, name: str) -> set[float]:
        """The numbers that a setting has in the configurations."""
        values = (c.settings.get(name) for c in self.task.configurations)
        return {float(value) for value in values if value is not None and _is_number(value)}

    def _over(self, name: str, lines: Mapping[str, list[Configuration]]) -> None:
        """A figure of the main score over one setting."""
        from lrnn_jax.plot.studies import draw_bands

        bands, rows = {}, []
        for label, configurations in lines.items():
            own = [c for c in configurations if _is_number(c.settings.get(name))]
            own.sort(key=lambda c: c.settings[name])
            columns = [c.column(self.task.score) for c in own]
            bands[label] = _band([c.settings[name] for c in own], columns)
            rows += [
                {"series": label, short_name(name): c.settings[name], self.score: band[1]}
                | {"25 %": band[0], "75 %": band[2], "failed": c.failed}
                for c, band in zip(own, map(_quartiles, columns), strict=True)
            ]
        everywhere = np.concatenate([band.x for band in bands.values()])
        values = np.concatenate([[*band.low, *band.high] for band in bands.values()])
        logs = "x" if _spans_decades(everywhere) else ""
        logs += "y" if not self.task.higher and _spans_decades(values) else ""
        numbers = self.numbers if set(bands) <= set(self.numbers) else None
        figure = draw_bands(
            bands, short_name(name), self.score, numbers=numbers, logs=logs, markers=True
        )
        summary = f"{self.score} over {short_name(name)}: median and quartiles of the fits"
        self.page.figure(figure, f"Sensitivity to the {short_name(name)}", summary, rows)

    def _curves(self) -> None:
        """The score, or the loss, over the steps."""
        from lrnn_jax.plot.studies import draw_bands

        by_score = all(_has_scores(entry.best) for entry in self.entries)
        bands = {e.label: b for e in self.entries if (b := _training_band(e.best, by_score))}
        if not bands:
            return
        what = self.score if by_score else "loss"
        values = np.concatenate([[*band.low, *band.high] for band in bands.values()])
        logs = "y" if not (by_score and self.task.higher) and _spans_decades(values) else ""
        rows = [
            {"series": label, "step": int(step), "median": float(middle)}
            for label, band in bands.items()
            for step, middle in zip(band.x, band.middle, strict=True)
        ]
        figure = draw_bands(bands, "step", what, numbers=self.numbers, logs=logs)
        summary = f"{what} over the steps: median and quartiles of the fits"
        self.page.figure(figure, f"{what[:1].upper()}{what[1:]} over the steps", summary, rows)

    def pictures(self, pictures: Sequence[Gallery]) -> None:
        if pictures:
            self.section("Pictures")
        for name, shown, notes, rows in pictures:
            if isinstance(shown, str):
                self.page.text(f"{name}: {shown}", "warning")
            elif hasattr(shown, "savefig"):
                self.page.figure(shown, name, f"the fits to {name}", rows)
            else:
                self.page.pictures(name, shown, notes)

    def learned(self, figures: Mapping[str, Learned]) -> None:
        if figures:
            self.section("Learned functions")
        for label, figure in figures.items():
            drawn, rows = figure
            self.page.figure(drawn, label, f"functions that {label} has learned", rows)


def title_of(score: str) -> str:
    """The name of a score as a heading, with its unit."""
    return _TITLES.get(score, score.replace("_", " "))


def _with_unit(score: str, value: float) -> str:
    """A value of a score as text, such as "PSNR 35 dB"."""
    name, _, unit = title_of(score).partition(" (")
    return f"{name} {value:g} {unit.removesuffix(')')}".strip()


def _lead(rows: Sequence[Row], found: Sequence[Task]) -> str:
    failed = sum(bool(row.get("reason")) for row in rows)
    sources = {row["problem.source"] for row in rows if row.get("problem.source")}
    seeds = {row["training.seed"] for row in rows if "training.seed" in row}
    counts = {"fit": len(rows), "signal": len(sources), "seed": len(seeds)}
    parts = [f"{n:,} {name}{'s' * (n != 1)}" for name, n in counts.items() if n]
    text = f"{', '.join(parts)}; {f'{failed:,} failed' if failed else 'none failed'}."
    if len(found) == 1:
        task = found[0]
        ranked = sorted(task.entries(), key=lambda entry: task.order(entry.best))
        means = [f"{e.label} {e.best.mean(task.score):.4g}" for e in ranked[:4]]
        mean = "" if len(rows) == len(ranked) else "Mean "
        text += f" {mean}{title_of(task.score)}: {'; '.join(means)}."
    return text


def _readable(row: Mapping[str, Any], score: str, single: bool) -> dict[str, Any]:
    """A row of the summary as a person reads it: spreads in one column, or none of single fits."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if f"{name}_std_sources" in row:
            shown[title_of(name)] = value
            if single:
                continue
            spread = (row[f"{name}_std_sources"], row[f"{name}_std_seeds"])
            shown["± " + title_of(name).partition(" (")[0]] = "{:.2g} / {:.2g}".format(*spread)
        elif single and name in ("fits", "failed", f"{score}_best"):
            continue
        elif name == f"{score}_best":
            shown["best step"] = value
        elif not name.startswith("median_") and "_std_" not in name:
            shown[_COSTS.get(name, short_name(name))] = value
    return shown


def _times_rows(times: Mapping[str, Mapping[str, np.ndarray]], what: str) -> Iterator[dict]:
    for target, by_series in times.items():
        for label, values in by_series.items():
            finite = values[np.isfinite(values)]
            low, middle, high = _quartiles(finite)
            yield {
                "target": target,
                "series": label,
                "fits": int(values.size),
                "reached": float(finite.size / max(1, values.size)),
                f"median {what}": middle,
                "25 %": low,
                "75 %": high,
            }


def _quartiles(values: np.ndarray) -> tuple[float, float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return math.nan, math.nan, math.nan
    low, middle, high = np.percentile(finite, (25, 50, 75))
    return float(low), float(middle), float(high)


def _band(x: Sequence[float], columns: Sequence[np.ndarray]) -> Any:
    from lrnn_jax.plot.studies import Band

    low, middle, high = np.array([_quartiles(column) for column in columns]).reshape(-1, 3).T
    return Band(np.array(x, float), middle, low, high)


def _spans_decades(values: np.ndarray) -> bool:
    """Whether values are positive and span more than a decade, for a logarithmic axis."""
    finite = values[np.isfinite(values)]
    return bool(finite.size) and bool(0 < 10 * finite.min() < finite.max())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _points(row: Row, by_score: bool) -> np.ndarray:
    """The finite points (step, value) of the curve of a fit, shape (n, 2)."""
    values = [(step, score if by_score else loss) for step, loss, score in row.get("curve", ())]
    return np.array([(s, v) for s, v in values if v is not None and math.isfinite(v)]).reshape(
        -1, 2
    )


def _has_scores(configuration: Configuration) -> bool:
    return any(len(_points(row, True)) > 2 for row in configuration.rows)


def _training_band(configuration: Configuration, by_score: bool) -> Any:
    """Median and quartiles of the curves; a fit that has ended keeps its last value."""
    curves = [points for row in configuration.rows if len(points := _points(row, by_score)) > 2]
    if not curves:
        return None
    longest = max(curves, key=lambda points: points[-1, 0])[:, 0]
    steps = longest[np.unique(np.linspace(0, len(longest) - 1, _CORNERS).astype(int))]
    values = np.array([np.interp(steps, points[:, 0], points[:, 1]) for points in curves])
    return _band(list(steps), list(values.T))


def _failures(page: Page, rows: Sequence[Row]) -> None:
    failed = [row for row in rows if row.get("reason")]
    warned = [f"{_settings_text(row)}: {text}" for row in rows for text in row.get("warnings", ())]
    if warned:
        page.section("Warnings")
    for text in warned[:_MOST_FAILED]:
        page.text(text, "warning")
    if failed:
        page.section("Failed fits")
        shown = [
            {"member": row.get("member"), "reason": row["reason"], "fit": _settings_text(row)}
            for row in failed[:_MOST_FAILED]
        ]
        rest = len(failed) - len(shown)
        page.table(shown, f"{len(failed)} fits" + (f", {rest} not shown" if rest else ""))


def _settings_text(row: Row) -> str:
    return describe({n: v for n, v in row.items() if "." in n or n == BUDGET})


def _files(
    page: Page, rows: Sequence[Row], found: Sequence[Task], targets: Sequence[float]
) -> None:
    page.section("Files")
    summary = [row for task in found for row in summary_rows(task, targets)]
    page.download("summary.csv", csv_text(summary).encode(), "the summary as CSV")
    page.download("summary.md", markdown_text(summary).encode(), "the summary as Markdown")
    flat = [{n: v for n, v in row.items() if n != "curve"} for row in rows]
    packed = gzip.compress(csv_text(flat).encode(), mtime=0)
    if len(packed) <= _MOST_BYTES:
        page.download("rows.csv.gz", packed, "all fits as compressed CSV")
    else:
        page.text(f"The {len(rows):,} fits are too large for this page: write them with --rows.")
