"""`Study`: many fits as one object, the three sections of an experiment and what varies."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from lrnn_jax.checks import Keywords, check_types, require_at_least
from lrnn_jax.errors import InputError, suggest
from lrnn_jax.experiments.recipes import default_model, recipe, recipes, sized
from lrnn_jax.experiments.spec import (
    PROBLEMS,
    ConfigTable,
    Experiment,
    experiment_from,
    kind_name,
    merge,
    model_from,
    problem_from,
    read_toml,
    training_from,
)
from lrnn_jax.io import extra
from lrnn_jax.training import check_compatible
from lrnn_jax.typing import Data, Problem

__all__ = ["Member", "Study", "experiment_of", "members", "read_study"]

_SECTIONS = ("model", "problem", "training")
Settings = dict[str, Any]
"""What distinguishes a member from others: values by dotted name, such as 'training.seed'."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Study(Keywords):
    """Fits of several models to several problems, with several settings and seeds.

    The members are all combinations of the values of `grid`, for each of the `cases`. What a member
    does not set comes from the recipe of its problem and its model.

    Args:
      grid: values by dotted name, such as {"model.kind": ["lrnn", "siren"], "training.seed": [0,
        1]}. The text "photos/*.png" for "problem.source" stands for the files that it matches, in
        alphabetical order. "budget" is a name, too.
      cases: settings by dotted name that vary together; by default one case without settings.
      model: fields that all models share, as in the [model] section of an experiment.
      problem: fields that all problems share.
      training: training settings that all members share.
      budget: largest number of parameters; each model has the size that comes closest. None takes
        the sizes of the recipes.
      targets: values of the problem's main score; a member states the first step that reaches each.
      score_every: number of steps between two evaluations, for targets and curves; by default a
        twentieth of the steps. Scores that follow from the loss are known at each step.
      stop_at_target: whether a member ends when it has reached all targets.
      block: number of members that are trained by one call of a program and stored in one file.
      width: number of members that each device trains at the same time, by `jax.vmap`. None
        measures which is fastest if the steps of a program take more than ten minutes, and is 1
        otherwise. A small network on a GPU is up to 5 times faster with a large width.
      keep_models: whether to store the fitted parameters.
      rows: format of the stored rows: "jsonl", JSON lines, or "parquet", which needs the extra
        `parquet`.

    Raises:
      InputError: a field is out of range or has the wrong form.

    Example:
      >>> study = Study(
      ...     problem={"kind": "image", "source": "camera", "size": [16, 16]},
      ...     grid={"model.kind": ["siren", "finer"], "training.seed": [0, 1, 2]},
      ...     budget=500,
      ... )
      >>> len(list(members(study)))
      6
    """

    grid: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cases: Sequence[Mapping[str, Any]] = ()
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    problem: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    budget: int | None = None
    targets: Sequence[float] = ()
    score_every: int | None = None
    stop_at_target: bool = False
    block: int = 32
    width: int | None = None
    keep_models: bool = True
    rows: Literal["jsonl", "parquet"] = "jsonl"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "block", "width", "score_every", "budget")
        check_types(self, "rows")
        if self.rows == "parquet":
            extra("pyarrow", "parquet")
        if self.stop_at_target and not self.targets:
            raise InputError("stop_at_target: there are no targets")
        for name, values in self.grid.items():
            _require_name("grid", name)
            if not isinstance(values, list | tuple | str) or not values:
                raise InputError(f"grid: expected a list of values of {name}, got {values!r}")
            if isinstance(values, str) and name != "problem.source":
                raise InputError(f"grid: {name}: expected a list of values, got {values!r}")
        for case in self.cases:
            for name in case:
                _require_name("cases", name)

    @classmethod
    def from_table(cls, table: ConfigTable) -> "Study":
        """Decode the sections [model], [problem], [training] and [study] of a file.

        Raises:
          InputError: a section or a field is unknown, or has the wrong form.
        """
        own = [f.name for f in dataclasses.fields(cls) if f.name not in _SECTIONS]
        fields = table.get("study", {})
        for name in fields:
            if name not in own:
                raise InputError(f"unknown field study.{name}; {suggest(name, own)}")
        for name in table:
            if name not in (*_SECTIONS, "study"):
                raise InputError(
                    f"unknown section [{name}]; {suggest(name, (*_SECTIONS, 'study'))}"
                )
        try:
            return cls(**fields, **{name: table.get(name, {}) for name in _SECTIONS})
        except InputError as error:
            raise InputError(f"study.{error}") from error

    def to_table(self) -> ConfigTable:
        """Encode the study as the sections of a file."""
        sections = {name: dict(getattr(self, name)) for name in _SECTIONS}
        own = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in _SECTIONS and getattr(self, field.name) is not None
        }
        own |= {"cases": [dict(case) for case in self.cases], "targets": list(self.targets)}
        own["grid"] = {n: v if isinstance(v, str) else list(v) for n, v in self.grid.items()}
        return sections | {"study": own}


def read_study(path: Path) -> Study:
    """Read a study from a TOML file with the sections [model], [problem], [training] and [study].

    Raises:
      InputError: the file is missing or is not TOML; as `Study.from_table`.
    """
    return Study.from_table(read_toml(path))


class Member(NamedTuple):
    """One fit of a study.

    Attributes:
      number: its place in the study, from 0.
      settings: the values of the grid and of the case by dotted name.
      experiment: what is fitted; None if there is a reason why it cannot be.
      reason: why the data cannot be read, or why the parts do not fit together; "" if they do.
      shapes: shapes and dtypes of the data that the loss reads.
    """

    number: int
    settings: Settings
    experiment: Experiment | None
    reason: str
    shapes: Data


def members(study: Study) -> Iterator[Member]:
    """Yield the members of a study, in the order of the grid.

    The data of each problem are read once, because the sizes of models follow them.

    Raises:
      InputError: a field is unknown or out of range, a glob matches nothing, or no width of a model
        meets the budget. Data that cannot be read raise nothing.
    """
    names = sorted(study.grid, key=lambda name: not name.startswith("problem."))
    choices = [_values(name, study.grid[name]) for name in names]
    number = itertools.count()
    for values in itertools.product(*choices):
        for case in study.cases or [{}]:
            settings = {**case, **dict(zip(names, values, strict=True))}
            yield _member(study, next(number), settings)


def _values(name: str, values: Any) -> Sequence[Any]:
    """The values of a field of the grid; for the text of a glob, the files that it matches."""
    if not isinstance(values, str):
        return values
    anchor = Path(values).anchor
    found = Path(anchor).glob(str(Path(values).relative_to(anchor)))
    files = sorted(str(path) for path in found if path.is_file())
    if not files:
        raise InputError(f"grid: {name}: no file matches {values!r}")
    return files


def _require_name(what: str, name: str) -> None:
    if name != "budget" and name.partition(".")[0] not in _SECTIONS:
        raise InputError(
            f"{what}: expected names such as 'model.kind', 'problem.source', 'training.seed' or "
            f"'budget', got {name!r}"
        )


def experiment_of(study: Study, settings: Settings) -> Experiment:
    """The experiment of the member with these settings.

    Raises:
      InputError: its data cannot be read, or its parts do not fit together.
    """
    member = _member(study, 0, settings)
    if member.experiment is None:
        raise InputError(member.reason)
    return member.experiment


def _member(study: Study, number: int, settings: Settings) -> Member:
    """Complete the settings of a member by the recipe of its problem and its model."""
    given = {name: dict(getattr(study, name)) for name in _SECTIONS}
    for dotted, value in settings.items():
        section, _, name = dotted.partition(".")
        if section in _SECTIONS:
            given[section][name] = list(value) if isinstance(value, tuple) else value
    problem_kind = kind_name("problem", given, "image")
    model_kind = kind_name("model", given, default_model(problem_kind))
    own = recipes().get(problem_kind, {}).get("problem", {})
    given["problem"] = merge({"kind": problem_kind} | own, given["problem"])
    problem = problem_from(given)
    try:
        data = _load(problem)
    except InputError as error:
        # The fields are checked all the same; of the model with any dimensions.
        model_from({"in_dim": 1, "out_dim": 1} | given["model"] | {"kind": model_kind})
        training_from(given)
        return Member(number, settings, None, str(error), None)
    found = recipe(problem, problem_kind, model_kind, given, data)
    budget = settings.get("budget", study.budget)
    if budget is not None:
        found["model"] = sized(found["model"], budget)
        _require_budget(found["model"], budget)
    experiment = experiment_from(given | found)
    _require_score(study, experiment.problem)
    try:
        check_compatible(experiment.model, experiment.problem, experiment.training)
    except InputError as error:
        return Member(number, settings, None, str(error), None)
    return Member(number, settings, experiment, "", _shapes(problem, data))


@functools.lru_cache(maxsize=4)
def _load(problem: Problem) -> Data:
    return problem.load()


def _shapes(problem: Problem, data: Data) -> Data:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jax.numpy.shape(leaf), leaf.dtype),
        problem.loss_data(data),
    )


def _require_budget(fields: ConfigTable, budget: int) -> None:
    model: Any = model_from(fields)
    if model.parameter_count > budget:
        raise InputError(
            f"budget: the smallest {fields['kind']} has {model.parameter_count} parameters, more "
            f"than {budget}"
        )


def _require_score(study: Study, problem: Problem) -> None:
    if study.targets and problem.main_score is None:
        kind = next((n for n, k in PROBLEMS.items() if type(problem) is k), type(problem).__name__)
        raise InputError(f"targets: the problem {kind!r} has no main score; leave them out")
