"""Studies that run every model at the best setting of a stated sweep, with several seeds.

A case is a problem and the settings to choose among. The sweep is decided by the final score of the
first seed. A row holds the sweep, final scores, the best scores on the way (oracle) and seconds.
"""

import argparse
import dataclasses
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import common
from common import Results, Row
from zoo import nearest

import lrnn_jax as lj
from lrnn_jax.errors import InputError
from lrnn_jax.experiments.spec import MODELS, PROBLEMS
from lrnn_jax.models import Network

SWEPT = ("omega0", "sigma0", "depth", "frequencies", "input_scale", "activation")
RATES = ("learning_rate", "subnetwork_rate")
SEEDS = (0, 1, 2, 3, 4)
Choice = tuple[Network, lj.Training]


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of a table: the best of `choices` is run with every seed."""

    stage: str
    name: str
    problem: Any
    choices: tuple[Choice, ...]


def cases(
    stage: str, label: str, problem: Any, models: Mapping[str, tuple[Choice, ...]]
) -> Iterator[Case]:
    """A case for each model, named "model, label"."""
    for name, choices in models.items():
        yield Case(stage, f"{name}, {label}", problem, choices)


def study_parser(description: str | None, stages: Iterable[str]) -> argparse.ArgumentParser:
    """A parser with the options `--only` and `--seeds`."""
    parser = common.stage_parser(description, stages)
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    return parser


def family(kind: type[Network], field: str, size: int, **fields: Any) -> list[Network]:
    """Models of about `size` parameters: `field` is adjusted, fields that are lists are swept."""
    swept = {name: value for name, value in fields.items() if isinstance(value, list)}
    combinations = itertools.product(*swept.values())
    settings = [fields | dict(zip(swept, values, strict=True)) for values in combinations]
    return [nearest(lambda v, s=s: kind(**s | {field: v}), size) for s in settings]


def trials(models: Iterable[Network], *trainings: lj.Training) -> tuple[Choice, ...]:
    """Every model with every training."""
    return tuple(itertools.product(models, trainings))


def at_rates(training: lj.Training, *rates: float) -> list[lj.Training]:
    """The training at each of the learning rates."""
    return [dataclasses.replace(training, learning_rate=rate) for rate in rates]


@dataclasses.dataclass(frozen=True)
class Study:
    """A results file and the score that decides its sweeps.

    Args:
      results: where rows are stored.
      score: name of a score of the problem.
      larger: whether a larger score is better.
    """

    results: Results
    score: str
    larger: bool

    def best(self, values: list[float]) -> float:
        """The best of several scores."""
        return max(values) if self.larger else min(values)

    def run(self, case: Case, seeds: list[int]) -> None:
        """Add a row: the sweep with the first seed, then the other seeds at its best setting."""
        sweep = [self.solve(case.problem, *choice, seeds[0]) for choice in case.choices]
        finals = [result["final"] for result in sweep]
        chosen = finals.index(self.best(finals))
        model, training = case.choices[chosen]
        rest = [self.solve(case.problem, model, training, seed) for seed in seeds[1:]]
        results = [sweep[chosen], *rest]
        self.results.add(
            {
                "stage": case.stage,
                "name": case.name,
                "problem": _without_folder(plain(case.problem, PROBLEMS)),
                "model": plain(model, MODELS),
                "training": plain(training, {}),
                "parameters": model.parameter_count,
                "sweep": [
                    {**setting(choice), "final": result["final"]}
                    for choice, result in zip(case.choices, sweep, strict=True)
                ],
                "seeds": seeds,
                **{key: [result.get(key) for result in results] for key in results[0]},
            }
        )

    def solve(self, problem: Any, model: Network, training: lj.Training, seed: int) -> Row:
        """One run: final score, best of twenty evaluations (oracle), seconds, reason of the end."""
        settings = dataclasses.replace(training, seed=seed)
        begun = time.perf_counter()
        try:
            solution = lj.solve(model, problem, settings, score_every=max(1, training.steps // 20))
        except InputError as error:
            if "the loss became" not in str(error):
                raise  # only divergence is a result
            worst = -math.inf if self.larger else math.inf
            return {"final": worst, "oracle": worst, "seconds": 0.0, "stop": str(error)}
        values = [scores[self.score] for _, scores in solution.evaluations]
        row = {
            "final": values[-1],
            "oracle": self.best(values),
            "seconds": round(time.perf_counter() - begun, 1),
            "stop": solution.stop_reason,
        }
        others = {name: value for name, value in solution.scores.items() if name != self.score}
        print(type(model).__name__, setting((model, training)), seed, row, others, flush=True)
        return row | ({} if self.score == "relative_l2" else others)


def plain(spec: Any, registry: dict[str, type]) -> Row:
    """The kind of a spec and its fields that differ from the defaults."""
    fields = {
        field.name: getattr(spec, field.name)
        for field in dataclasses.fields(spec)
        if getattr(spec, field.name) != field.default
    }
    kinds = {cls: name for name, cls in registry.items()}
    return {"kind": kinds[type(spec)], **fields} if registry else fields


def _without_folder(problem: Row) -> Row:
    """The problem with the file name of its source, as the folder differs between machines."""
    return problem | ({"source": Path(problem["source"]).name} if "source" in problem else {})


def setting(choice: Choice) -> Row:
    """What distinguishes a choice of the sweep: its learning rates and fields of its model."""
    model, training = choice
    fields = {name: getattr(model, name) for name in SWEPT if hasattr(model, name)}
    rates = {name: getattr(training, name) for name in RATES}
    if rates["subnetwork_rate"] == 1:
        del rates["subnetwork_rate"]
    return rates | fields
