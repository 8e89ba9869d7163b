"""Recipes: the settings with which a model is fitted to a problem unless the user sets others.

`recipes.toml` holds one recipe for each pair of a problem and a model. `benchmarks/recipes.py`
chose them, by a sweep on data that its check does not use.
"""

import functools
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.experiments.spec import MODELS, PROBLEMS, ConfigTable, kind_of, model_from
from lrnn_jax.training import Training
from lrnn_jax.typing import Model, Problem

__all__ = [
    "SIZE_FIELDS",
    "Recipe",
    "default_model",
    "parameters_for",
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


def recipe(problem: Problem, problem_kind: str, model_kind: str) -> ConfigTable:
    """The sections [model] and [training] of the recipe for a problem and a model.

    The size of the model follows the number of values to fit.

    Args:
      problem: the problem, whose data are read if the size of the model depends on them.
      problem_kind: a key of PROBLEMS.
      model_kind: a key of MODELS.

    Raises:
      InputError: there is no such recipe, or the data cannot be read.
    """
    common = recipes().get(problem_kind, {})
    entry = common.get("models", {}).get(model_kind)
    if entry is None:
        known = ", ".join(common.get("models", {})) or "none"
        raise InputError(
            f"model.kind: no recipe of {model_kind!r} for {problem_kind!r} (known: {known}); set "
            "the fields of [model] and [training] in a file"
        )
    model = {"kind": model_kind, "in_dim": problem.in_dim, "out_dim": problem.out_dim}
    return {
        "model": sized(model | entry["model"], parameters_for(problem, problem_kind)),
        "training": common["training"] | entry["training"],
    }


class Recipe(NamedTuple):
    """A model and training settings for a problem."""

    model: Model
    training: Training


def recipe_for(problem: Problem, model: str | Model | None = None) -> Recipe:
    """The recipe for a problem.

    Args:
      problem: a problem of this package.
      model: the kind of the model, such as 'siren', or a model, which is kept as it is; None takes
        the problem's default.

    Raises:
      InputError: there is no recipe.

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
    tables = recipe(problem, problem_kind, kind)
    found = model_from(tables["model"]) if model is None or isinstance(model, str) else model
    return Recipe(found, Training(**tables["training"]))


def parameters_for(problem: Problem, problem_kind: str) -> int:
    """The largest number of parameters for a problem: a share of its values, within bounds."""
    rule = recipes()[problem_kind]["parameters"]
    data = problem.load()
    arrays = [data.y] if hasattr(data, "y") else jax.tree.leaves(data)
    share = rule["per_value"] * sum(map(np.size, arrays))
    return int(min(max(share, rule["least"]), rule["most"]))


def sized(fields: ConfigTable, parameters: int) -> ConfigTable:
    """The fields of a model with the size that has at most `parameters` parameters.

    Args:
      fields: the [model] section with `kind`, `in_dim` and `out_dim`.
      parameters: upper bound of the number of parameters; the smallest model has a size of 2.
    """
    kind, values = MODELS[fields["kind"]], {n: v for n, v in fields.items() if n != "kind"}
    name = SIZE_FIELDS.get(fields["kind"], "width")

    def count(size: int) -> int:
        return kind(**values | {name: size}).parameter_count

    low, high = 2, 4
    while count(high) <= parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= parameters else (low, middle)
    return fields | {name: low}
