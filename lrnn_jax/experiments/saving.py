"""Save and load fitted models, and load the runs of the command line, from Python."""

import json
import sys
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.experiments.folder import RunFolder
from lrnn_jax.experiments.spec import model_from, table_of_model
from lrnn_jax.experiments.summary import read_summary
from lrnn_jax.fields import BoundModel
from lrnn_jax.io.safetensors import load_tree, read_made_by, save_tree
from lrnn_jax.training import Training
from lrnn_jax.trees import first_difference, named_leaves
from lrnn_jax.typing import Model, Params, Problem

__all__ = ["Run", "load", "load_run", "save"]


def save(path: str | PathLike[str], model: Model, params: Params) -> Path:
    """Write a model and its parameters to one safetensors file.

    The file holds the arrays, and the kind and the fields of the model as text, but no code. Equal
    models and parameters give equal files. Run folders store the same file as `model.safetensors`.

    Args:
      path: the file, usually `*.safetensors`; an existing one is replaced atomically.
      model: a model of this package, or a dataclass of your own at the top level of a module.
      params: its parameters.

    Returns:
      The path.

    Raises:
      InputError: the parameters belong to another model, a field of the model is a Python function,
        or the file cannot be written.

    Example:
      >>> import lrnn_jax as lj
      >>> model = lj.Siren(in_dim=2, out_dim=1, width=8)
      >>> path = save("/tmp/siren.safetensors", model, model.init(jax.random.key(0)))
      >>> load(path)[0] == model
      True
    """
    made_by = {"version": version("lrnn-jax"), "model": table_of_model(model)}
    difference = first_difference(named_leaves(params), named_leaves(_template(model)))
    if difference:
        raise InputError(f"params belong to another model than this: {difference}")
    for name, leaf in named_leaves(params).items():
        if np.asarray(leaf).dtype.kind not in "fc":
            raise InputError(f"{name} is {leaf.dtype}: expected a dtype of NumPy, such as float32")
    return save_tree(Path(path), params, json.dumps(made_by))


def load(path: str | PathLike[str]) -> tuple[Model, Params]:
    """Read a file that `save` or a run has written.

    Args:
      path: the file. A model of your own is only found if its module is imported already: reading a
        file imports nothing.

    Returns:
      The model, and its parameters with the dtypes of the file.

    Raises:
      InputError: the file is missing or damaged, or it was not written by `save`.
    """
    return load_entry(Path(path), "")


def load_entry(path: Path, prefix: str) -> tuple[Model, Params]:
    """Read a model and the parameters that are an entry of the dict in a file.

    Args:
      path: the file.
      prefix: name of the entry; "" if the parameters are all of it.

    Raises:
      InputError: as `load`.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: take load_run, or the model.safetensors in it")
    made_by = read_made_by(path)
    try:
        table = json.loads(made_by)["model"]
        kind = table["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} names no model: expected a file that save has written") from error
    module = str(kind).partition(":")[0]
    if ":" in str(kind) and module not in sys.modules:
        raise InputError(f"{path} holds a {kind}: import {module} first")
    model = model_from(table)
    return model, load_params(path, model, prefix)


class Run(NamedTuple):
    """A run folder, loaded by `load_run`.

    Attributes:
      model: the model.
      params: its fitted parameters.
      field: the fitted field u(x), see `BoundModel`.
      problem: the problem.
      training: the training settings.
      history: the logged metrics by name, each of shape (lines,), including `step` and `seconds`.
      summary: the content of `summary.json`.
    """

    model: Model
    params: Params
    field: BoundModel
    problem: Problem
    training: Training
    history: dict[str, np.ndarray]
    summary: dict[str, Any]


def load_run(folder: str | PathLike[str]) -> Run:
    """Load a finished run of `lrnn-jax fit` or of `experiments.start`.

    Raises:
      InputError: the folder is not a run, the run has not finished, or a file is damaged.
    """
    run = RunFolder.open(Path(folder))
    if not run.params.is_file():
        raise InputError(f"{folder} has no {run.params.name}: finish it with --resume first")
    experiment = run.experiment()
    params = load_params(run.params, experiment.model)
    lines = run.metrics.read()
    names = lines[0] if lines else ()
    return Run(
        model=experiment.model,
        params=params,
        field=BoundModel(experiment.model, params),
        problem=experiment.problem,
        training=experiment.training,
        history={name: np.array([line[name] for line in lines]) for name in names},
        summary=read_summary(run.summary),
    )


def load_params(path: Path, model: Model, prefix: str = "") -> Params:
    """Read the parameters of a model with the dtypes of the file.

    Args:
      path: a safetensors file.
      model: the model.
      prefix: name of the entry of the stored dict that holds them; "" if they are all of it.

    Raises:
      InputError: the file is missing, is damaged, or belongs to another model.
    """
    with jax.enable_x64(True):  # otherwise JAX would round float64 parameters to float32
        return jax.tree.map(jnp.asarray, load_tree(path, _template(model), prefix))


def _template(model: Model) -> Any:
    """The tree of the parameters' shapes. Without dtypes, those of the file are taken."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: SimpleNamespace(shape=leaf.shape), shapes)
