"""Statistics of many fits: mean and spread, success rates, times to targets, the Pareto front."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from lrnn_jax.metrics import higher_is_better

__all__ = [
    "Configuration",
    "Entry",
    "Row",
    "Task",
    "describe",
    "front",
    "grouped",
    "score_names",
    "source_name",
    "summary_rows",
    "tasks",
]

Row = Mapping[str, Any]
"""One fit: its settings by dotted name, its scores, parameters, steps, seconds and curve."""

LEARNING_RATE, BUDGET = "training.learning_rate", "budget"
KINDS = ("problem.kind", "model.kind", "fit.name")
_SOURCE, _SEED = "problem.source", "training.seed"
_POOLED = (_SOURCE, _SEED)
_OTHER = {"member", "block", BUDGET, "main_score", "parameters", "flops", "steps", "loss"}
_OTHER |= {"seconds_amortised", "seconds_alone", "reason", "warnings", "curve"}


@dataclasses.dataclass(frozen=True, eq=False)
class Configuration:
    """Fits whose settings differ in the source and the seed alone.

    Attributes:
      settings: the settings that they share, by dotted name.
      rows: the fits.
    """

    settings: dict[str, Any]
    rows: list[Row]

    def column(self, name: str) -> Float[np.ndarray, "n"]:
        """A number of each fit; NaN where it is not known."""
        values = [row.get(name) for row in self.rows]
        return np.array([math.nan if value is None else float(value) for value in values])

    def mean(self, name: str) -> float:
        """Mean over the fits in which the number is finite; NaN if there are none."""
        return _mean(self.column(name))

    def spread(self, name: str) -> tuple[float, float]:
        """Standard deviation over the sources, of the means over seeds, and over the seeds.

        The second one is the root of the mean variance of the fits to one source.
        """
        by_source: dict[str, list[float]] = {}
        for row, value in zip(self.rows, self.column(name), strict=True):
            if math.isfinite(value):
                by_source.setdefault(str(row.get(_SOURCE)), []).append(value)
        if not by_source:
            return math.nan, math.nan
        means = [float(np.mean(values)) for values in by_source.values()]
        variances = [float(np.var(values)) for values in by_source.values()]
        return float(np.std(means)), float(np.mean(variances) ** 0.5)

    @property
    def failed(self) -> int:
        """Number of fits that have failed, such as those that diverged."""
        return sum(bool(row.get("reason")) for row in self.rows)

    def best(self, score: str) -> Float[np.ndarray, "n"]:
        """The best value of the main score of each fit at any recorded step (oracle stopping)."""
        pick = np.nanmax if higher_is_better(score) else np.nanmin
        found = []
        for row, last in zip(self.rows, self.column(score), strict=True):
            values = [math.nan if v is None else v for _, _, v in row.get("curve", [])]
            values = np.array([*values, last])
            found.append(math.nan if np.isnan(values).all() else float(pick(values)))
        return np.array(found)

    def steps_to(self, target: float) -> Float[np.ndarray, "n"]:
        """The step at which each fit reached a target; inf if it did not."""
        steps = self.column(f"steps_to_{target:g}")
        return np.where(np.isnan(steps), math.inf, steps)

    def seconds_to(self, target: float) -> Float[np.ndarray, "n"]:
        """Seconds of a fit that runs alone until it reached a target; inf if it did not."""
        a_step = self.column("seconds_alone") / np.maximum(self.column("steps"), 1)
        steps = self.steps_to(target)
        return np.where(np.isinf(steps), math.inf, steps * a_step)


class Entry(NamedTuple):
    """What a figure shows under one name: a configuration at the best of its learning rates.

    Attributes:
      label: its settings as text.
      family: the label without the budget.
      best: the configuration with the fewest failed fits and, among these, the best mean score.
      trials: all configurations that it was chosen from; they differ in the learning rate.
    """

    label: str
    family: str
    best: Configuration
    trials: list[Configuration]


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Fits to problems of one kind, which are compared by one score.

    Attributes:
      settings: the settings of the problem that vary, without the source.
      score: name of the main score.
      configurations: the fits, grouped.
    """

    settings: dict[str, Any]
    score: str
    configurations: list[Configuration]

    @property
    def label(self) -> str:
        """The settings as text; "" if none varies."""
        return describe(self.settings)

    @property
    def higher(self) -> bool:
        """Whether a larger score is better."""
        return higher_is_better(self.score)

    def entries(self) -> list[Entry]:
        """One entry for each combination of settings other than the learning rate."""
        found = []
        for label, trials in grouped(self.configurations, [LEARNING_RATE]).items():
            best = min(trials, key=self.order)
            family = describe(best.settings, [LEARNING_RATE, BUDGET])
            found.append(Entry(label, family, best, trials))
        return found

    def order(self, configuration: Configuration) -> tuple[int, float]:
        """The key of the order from the best to the worst: failed fits, then the mean score."""
        mean = configuration.mean(self.score)
        worse = -mean if self.higher else mean
        return configuration.failed, math.inf if math.isnan(worse) else worse


def tasks(rows: Iterable[Row], names: Sequence[str]) -> list[Task]:
    """Group fits by their problem, then by their other settings.

    Args:
      rows: the fits. Those without a main score are compared by their loss; those without a loss,
        such as unreadable files, are left out.
      names: the names of the settings; those with one value for all fits are left out, but for
        the kinds of models and problems.
    """
    rows = list(rows)
    names = [name for name in names if name in KINDS or _varies(rows, name)]
    problem = [n for n in names if n.startswith("problem.") and n not in _POOLED]
    other = [n for n in names if n not in problem and n not in _POOLED]
    groups: dict[str, tuple[dict[str, Any], str, dict[str, Configuration]]] = {}
    for row in rows:
        score = row.get("main_score") or ("loss" if "loss" in row else None)
        if score is None:
            continue
        about = {n: row[n] for n in problem if n in row}
        settings = {n: row[n] for n in other if n in row}
        key = _key(about | {"score": score})
        _, _, found = groups.setdefault(key, (about, score, {}))
        found.setdefault(_key(settings), Configuration(settings, [])).rows.append(row)
    return [Task(about, score, list(found.values())) for about, score, found in groups.values()]


def grouped(
    configurations: Sequence[Configuration], without: Sequence[str]
) -> dict[str, list[Configuration]]:
    """Configurations that differ in the settings `without` alone, by their description."""
    groups: dict[str, list[Configuration]] = {}
    for configuration in configurations:
        label = describe(configuration.settings, without) or "all fits"
        groups.setdefault(label, []).append(configuration)
    return groups


def describe(settings: Mapping[str, Any], without: Sequence[str] = ()) -> str:
    """Settings as short text; the kind of a model or a problem without its name.

    >>> describe({"model.kind": "lrnn", "model.rank": 8, "training.learning_rate": 0.01})
    'lrnn, rank 8, learning rate 0.01'
    """
    ordered = sorted((n for n in settings if n not in without), key=lambda n: n not in KINDS)
    return ", ".join(
        str(settings[n]) if n in KINDS else f"{short_name(n)} {_value(settings[n])}"
        for n in ordered
    )


def short_name(name: str) -> str:
    """A dotted name as words.

    >>> short_name("training.learning_rate")
    'learning rate'
    """
    return name.rpartition(".")[2].replace("_", " ")


def source_name(row: Row) -> str:
    """The source of a fit without its folder and its suffix.

    >>> source_name({"problem.source": "photos/cat.png"})
    'cat'
    """
    return PurePath(str(row.get(_SOURCE, ""))).stem


def summary_rows(task: Task, targets: Sequence[float] = ()) -> list[dict[str, Any]]:
    """One row for each configuration, the best mean of the main score first.

    Columns: the settings; `fits` and `failed`, numbers of fits; for each score its mean, and as
    `SCORE_std_sources` and `SCORE_std_seeds` its standard deviation over sources and over seeds;
    `SCORE_best`, the mean of the best main score at any recorded step; the means of `parameters`,
    `flops`, `steps` and `seconds_alone`; and for each target `reached_TARGET`, the share of the
    fits that reached it, and the medians of steps and seconds among those.
    """
    rows = [_summary(task, configuration, targets) for configuration in task.configurations]
    sign = -1 if task.higher else 1
    return sorted(
        rows, key=lambda row: (math.isnan(row[task.score]), sign * np.nan_to_num(row[task.score]))
    )


def _summary(task: Task, found: Configuration, targets: Sequence[float]) -> dict[str, Any]:
    row: dict[str, Any] = {**found.settings, "fits": len(found.rows), "failed": found.failed}
    for name in [task.score, *(n for n in _scores(found) if n != task.score)]:
        sources, seeds = found.spread(name)
        row |= {name: found.mean(name), f"{name}_std_sources": sources, f"{name}_std_seeds": seeds}
    row[f"{task.score}_best"] = _mean(found.best(task.score))
    row |= {name: found.mean(name) for name in ("parameters", "flops", "steps", "seconds_alone")}
    for target in targets:
        steps, seconds = found.steps_to(target), found.seconds_to(target)
        row[f"reached_{target:g}"] = float(np.mean(np.isfinite(steps)))
        row[f"median_steps_to_{target:g}"] = _median(steps)
        row[f"median_seconds_to_{target:g}"] = _median(seconds)
    return row


def front(
    costs: Float[np.ndarray, "n"], scores: Float[np.ndarray, "n"], higher: bool
) -> Bool[np.ndarray, "n"]:
    """Which points are on the Pareto front: none is both cheaper and better.

    Args:
      costs: the smaller, the better.
      scores: scores of the same points; those that are not finite are not on the front.
      higher: whether a larger score is better.
    """
    value = np.where(np.isfinite(scores), scores if higher else -scores, -math.inf)
    better = (value[None] >= value[:, None]) & (costs[None] <= costs[:, None])
    strictly = (value[None] > value[:, None]) | (costs[None] < costs[:, None])
    return np.isfinite(scores) & ~(better & strictly).any(axis=1)


def score_names(row: Row) -> list[str]:
    """The names of the scores of a row: the columns that are neither settings nor costs."""
    return [
        name
        for name, value in row.items()
        if value is not None
        and "." not in name
        and name not in _OTHER
        and not name.startswith("steps_to_")
    ]


def _scores(found: Configuration) -> list[str]:
    return list(dict.fromkeys(name for row in found.rows for name in score_names(row)))


def _varies(rows: Sequence[Row], name: str) -> bool:
    first = rows[0].get(name) if rows else None
    return any(row.get(name) != first for row in rows)


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " x ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mean(values: Float[np.ndarray, "n"]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else math.nan


def _median(values: Float[np.ndarray, "n"]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan
