"""Recipes: the settings with which a model is fitted to a problem unless the user sets others.

`recipes.toml` holds one recipe for each pair of a problem and a model. `benchmarks/recipes.py`
chose them, by a sweep on data that its check does not use.
"""

import dataclasses
import functools
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.experiments.spec import (
    MODELS,
    PROBLEMS,
    ConfigTable,
    kind_name,
    kind_of,
    merge,
    model_from,
    problem_from,
)
from lrnn_jax.training import Training
from lrnn_jax.typing import Model, Problem

__all__ = [
    "SIZE_FIELDS",
    "Recipe",
    "complete",
    "default_model",
    "describe_recipes",
    "has_recipe",
    "recipe",
    "recipe_for",
    "recipes",
    "sized",
]

SIZE_FIELDS = {"lrnn": "rank", "grid": "resolution", "cp": "rank", "tucker": "rank"}
"""The field of a model that sets its number of parameters; 'width' for all others."""


@functools.cache
def recipes() -> dict[str, Any]:
    """The content of `recipes.toml`: by kind of problem, and then by kind of model."""
    return tomllib.loads(Path(__file__).with_name("recipes.toml").read_text(encoding="utf-8"))


def default_model(problem_kind: str) -> str:
    """The kind of model that a problem is fitted with unless the user names one."""
    return recipes().get(problem_kind, {}).get("default", "lrnn")


def has_recipe(problem_kind: str, model_kind: str) -> bool:
    """Whether a sweep has chosen settings for this pair; the defaults are used for other pairs."""
    return model_kind in recipes().get(problem_kind, {}).get("models", {})


def recipe(
    problem: Problem,
    problem_kind: str,
    model_kind: str,
    changes: ConfigTable | None = None,
    data: Any = None,
) -> ConfigTable:
    """The sections [model] and [training] of the recipe for a problem and a model.

    The size of the model follows the number of values to fit. A batch as large as the data is left
    out, and the first validation is at the last step at the latest. A pair without a recipe has the
    defaults of the model and those of the problem.

    Args:
      problem: the problem, whose data are read.
      problem_kind: the `kind` of the problem.
      model_kind: the `kind` of the model.
      changes: fields of the two sections that the user sets, which replace those of the recipe.
        They are never adapted to the data.
      data: the result of `problem.load`; None reads them.

    Raises:
      InputError: a field is invalid, or the data cannot be read.
    """
    common = recipes().get(problem_kind, {})
    entry = common.get("models", {}).get(model_kind, {})
    model = {"kind": model_kind, "in_dim": problem.in_dim, "out_dim": problem.out_dim}
    given = {"model": {}, "training": {}} | (changes or {})
    model |= merge(entry.get("model", {}), given["model"])
    training = common.get("training", {}) | entry.get("training", {})
    rule = common.get("parameters")
    if rule is not None:
        data = problem.loaded(data)
        if model_kind in MODELS and _size_field(model_kind) not in model:
            model = sized(model, parameters_for(data, rule))
        if training.get("batch", 0) >= len(jax.tree.leaves(data)[0]):
            training = {name: value for name, value in training.items() if name != "batch"}
    if "validate_every" in training:
        steps = given["training"].get("steps", training["steps"])
        training |= {"validate_every": min(training["validate_every"], steps)}
    return {"model": model, "training": merge(training, given["training"])}


class Recipe(NamedTuple):
    """A model and training settings for a problem."""

    model: Model
    training: Training


def recipe_for(
    problem: Problem, model: str | Model | None = None, steps: int | None = None
) -> Recipe:
    """The recipe for a problem.

    Args:
      problem: a problem of this package.
      model: the kind of the model, such as 'siren', or a model, which is kept as it is; None takes
        the problem's default.
      steps: number of steps, in place of that of the recipe.

    Raises:
      InputError: there is no such kind of model, or the data cannot be read.

    Example:
      >>> import lrnn_jax as lj
      >>> model, training = recipe_for(lj.Image(source="camera", size=(32, 32)), "siren")
      >>> model.omega0
      30.0
    """
    problem_kind = kind_of(type(problem), "problem", PROBLEMS)
    kind = default_model(problem_kind) if model is None else model
    if not isinstance(kind, str):
        kind = kind_of(type(kind), "model", MODELS)
    changes = {} if steps is None else {"training": {"steps": steps}}
    tables = recipe(problem, problem_kind, kind, changes)
    found = model_from(tables["model"]) if model is None or isinstance(model, str) else model
    return Recipe(found, Training(**tables["training"]))


def complete(base: ConfigTable, changes: ConfigTable, name: str = "") -> tuple[ConfigTable, str]:
    """The sections of an experiment: those of a file with the user's changes, and a recipe.

    A section that is in the file and whose kind does not change is taken from the file. Other
    sections come from the recipe of the problem and the model, [training] also if the model is
    another one.

    Args:
      base: the sections of a file; {} without one.
      changes: fields that the user sets; None stands for the default of a class.
      name: the name of the file.

    Returns:
      The sections, and in words where the fields that the user did not set are from.

    Raises:
      InputError: a field is invalid, or the data that the recipe depends on cannot be read.
    """

    def changed(section: str) -> bool:
        kind = changes.get(section, {}).get("kind")
        return kind is not None and kind != base.get(section, {}).get("kind")

    if changed("problem"):
        base = {}
    elif changed("model"):
        base = {name: fields for name, fields in base.items() if name == "problem"}
    table = merge(base, changes)
    if {"model", "training"} <= base.keys():
        return table, name
    problem_kind = kind_name("problem", table, "image")
    model_kind = kind_name("model", table, default_model(problem_kind))
    if "problem" not in base:
        own = recipes().get(problem_kind, {}).get("problem", {})
        table["problem"] = merge({"kind": problem_kind} | own, table.get("problem", {}))
    found = recipe(problem_from(table), problem_kind, model_kind, changes)
    table |= {section: fields for section, fields in found.items() if section not in base}
    if has_recipe(problem_kind, model_kind):
        return table, "the recipe of the pair"
    return table, f"defaults, because there is no recipe of {model_kind!r} for {problem_kind!r}"


def describe_recipes(problem_kind: str) -> list[str]:
    """The recipes of a kind of problem in words: what all models share, and a line for each.

    Raises:
      InputError: there is no such kind of problem, or none of its models has a recipe.
    """
    kind_name("problem", {"problem": {"kind": problem_kind}}, problem_kind)
    common = recipes().get(problem_kind, {})
    if not common.get("models"):
        raise InputError(f"{problem_kind}: no recipes; its models take their defaults")
    rule = common["parameters"]
    size = f"at most {rule['per_value']:g} parameters for each value of the data"
    size += f", between {rule['least']} and {rule['most']}"
    width = max(map(len, common["models"]))
    shared = [_fields(common[section]) for section in ("problem", "training") if section in common]
    return [
        f"{problem_kind}, by default with {common['default']}: {'; '.join([*shared, size])}",
        *(
            f"  {name:<{width}}  {_fields(entry['model'] | entry['training'])}"
            for name, entry in common["models"].items()
        ),
    ]


def _fields(values: ConfigTable) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def parameters_for(data: Any, rule: dict[str, float]) -> int:
    """The largest number of parameters for data: a share of their values, within bounds."""
    arrays = [data.y] if hasattr(data, "y") else jax.tree.leaves(data)
    share = rule["per_value"] * sum(map(np.size, arrays))
    return int(min(max(share, rule["least"]), rule["most"]))


def _size_field(model_kind: str) -> str:
    return SIZE_FIELDS.get(model_kind, "width")


def sized(fields: ConfigTable, parameters: int) -> ConfigTable:
    """The fields of a model with the size that has at most `parameters` parameters.

    Args:
      fields: the [model] section with `kind`, `in_dim` and `out_dim`.
      parameters: upper bound of the number of parameters; the smallest model has a size of 2.
    """
    name, least = _size_field(fields["kind"]), 2
    return fields | {name: _size(model_from(fields | {name: least}), name, parameters)}


@functools.lru_cache(maxsize=1024)
def _size(model: Any, name: str, parameters: int) -> int:
    """The largest value of the field `name` with at most `parameters` parameters, at least 2."""

    def count(size: int) -> int:
        return dataclasses.replace(model, **{name: size}).parameter_count

    low, high = 2, 4
    while count(high) <= parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= parameters else (low, middle)
    return low
