"""Studies in which every model is run at the best of a stated sweep, with several seeds.

A case names a problem and what to choose among; the sweep is decided by the final score of the
first seed, and every row holds the sweep, the final scores beside oracle-best, seconds and commit.
"""

import dataclasses
import itertools
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timing
from zoo import nearest

import lrnn_jax as lj
from lrnn_jax.errors import InputError
from lrnn_jax.experiments.spec import MODELS, PROBLEMS
from lrnn_jax.models import Network

SWEPT = ("omega0", "sigma0", "depth", "frequencies", "input_scale", "activation")
RATES = ("learning_rate", "subnetwork_rate")
Choice = tuple[Network, lj.Training]
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of a table: settings to choose among, of which the best is run with every seed."""

    stage: str
    name: str
    problem: Any
    choices: tuple[Choice, ...]


def family(kind: type[Network], field: str, size: int, **fields: Any) -> list[Network]:
    """Models of about `size` parameters, which `field` sets; lists among the fields are swept."""
    swept = {name: value for name, value in fields.items() if isinstance(value, list)}
    combinations = itertools.product(*swept.values())
    settings = [fields | dict(zip(swept, values, strict=True)) for values in combinations]
    return [nearest(lambda v, s=s: kind(**s | {field: v}), size) for s in settings]


def trials(models: Iterable[Network], *trainings: lj.Training) -> tuple[Choice, ...]:
    """Every model with every training."""
    return tuple(itertools.product(models, trainings))


@dataclasses.dataclass(frozen=True)
class Study:
    """Where rows are kept, and by which score a sweep is decided.

    Attributes:
      results: a JSON file.
      score: the name of a score of the problem.
      larger: whether more of it is better.
    """

    results: Path
    score: str
    larger: bool

    def best(self, values: list[float]) -> float:
        """The best of several scores."""
        return max(values) if self.larger else min(values)

    def run(self, case: Case, seeds: list[int]) -> None:
        """The sweep with the first seed, then the others at its best."""
        sweep = [self.solve(case.problem, *choice, seeds[0]) for choice in case.choices]
        finals = [result["final"] for result in sweep]
        chosen = finals.index(self.best(finals))
        model, training = case.choices[chosen]
        rest = [self.solve(case.problem, model, training, seed) for seed in seeds[1:]]
        results = [sweep[chosen], *rest]
        timing.add_row(
            self.results,
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
            },
        )

    def solve(self, problem: Any, model: Network, training: lj.Training, seed: int) -> Row:
        """Final score, the best of twenty on the way (oracle), all final scores, seconds, why."""
        settings = dataclasses.replace(training, seed=seed)
        begun = time.perf_counter()
        try:
            found = lj.solve(model, problem, settings, score_every=max(1, training.steps // 20))
        except InputError as error:
            if "the loss became" not in str(error):
                raise  # a wrong setting is no result
            worst = -math.inf if self.larger else math.inf
            return {"final": worst, "oracle": worst, "seconds": 0.0, "stop": str(error)}
        values = [scores[self.score] for _, scores in found.evaluations]
        row = {
            "final": values[-1],
            "oracle": self.best(values),
            "seconds": round(time.perf_counter() - begun, 1),
            "stop": found.stop_reason,
        }
        others = {name: value for name, value in found.scores.items() if name != self.score}
        print(type(model).__name__, setting((model, training)), seed, row, others, flush=True)
        return row | ({} if self.score == "relative_l2" else others)

    def read_rows(self) -> list[Row]:
        """All rows so far."""
        return timing.read_rows(self.results)


def plain(spec: Any, registry: dict[str, type]) -> Row:
    """The fields of a spec that are not its defaults, and its kind."""
    fields = {
        field.name: getattr(spec, field.name)
        for field in dataclasses.fields(spec)
        if getattr(spec, field.name) != field.default
    }
    kinds = {cls: name for name, cls in registry.items()}
    return {"kind": kinds[type(spec)], **fields} if registry else fields


def _without_folder(problem: Row) -> Row:
    """The name of a source alone: where it lies is this machine's affair."""
    named = {"source": Path(problem["source"]).name} if "source" in problem else {}
    return problem | named


def setting(choice: Choice) -> Row:
    """What sets a choice of the sweep apart: its learning rates, and fields of its model."""
    model, training = choice
    fields = {name: getattr(model, name) for name in SWEPT if hasattr(model, name)}
    rates = {name: getattr(training, name) for name in RATES}
    if rates["subnetwork_rate"] == 1:
        del rates["subnetwork_rate"]
    return rates | fields
