"""Experiment files: strict decoding of TOML to three typed objects, and encoding to TOML."""

import dataclasses
import importlib
import inspect
import re
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

import tomli_w

import lrnn_jax.inverse as inverse
import lrnn_jax.models as models
import lrnn_jax.pde as pde
from lrnn_jax.checks import field_types, missing_members
from lrnn_jax.errors import InputError, suggest
from lrnn_jax.io import exists, io_errors, read_bytes, write_bytes
from lrnn_jax.signals import (
    Audio,
    Image,
    Occupancy,
    SampledField,
    SignedDistance,
    Video,
    Volume,
)
from lrnn_jax.tabular import Classification, Regression
from lrnn_jax.training import Training
from lrnn_jax.typing import Model, Problem

_LARGEST = 10**6  # largest size of an experiment file in bytes

MODELS: dict[str, type] = {
    "lrnn": models.LRNN,
    "nestnet": models.NestNet,
    "siren": models.Siren,
    "spder": models.Spder,
    "finer": models.Finer,
    "gauss": models.Gauss,
    "wire": models.Wire,
    "wire2d": models.Wire2D,
    "fourier_net": models.FourierNet,
    "gabor_net": models.GaborNet,
    "relu_pe": models.ReluPE,
    "ffn": models.FFN,
    "mlp": models.MLP,
    "kan": models.KAN,
    "cheby_kan": models.ChebyKAN,
    "grid": models.Grid,
    "spinn": models.Spinn,
    "cp": models.CPTensor,
    "tucker": models.TuckerTensor,
}
"""All models by the name that `[model] kind = "..."` uses."""

PROBLEMS: dict[str, type] = {
    "image": Image,
    "audio": Audio,
    "video": Video,
    "volume": Volume,
    "field": SampledField,
    "occupancy": Occupancy,
    "signed_distance": SignedDistance,
    "denoising": inverse.Denoising,
    "inpainting": inverse.Inpainting,
    "super_resolution": inverse.SuperResolution,
    "multi_frame_super_resolution": inverse.MultiFrameSuperResolution,
    "ct": inverse.CT,
    "regression": Regression,
    "classification": Classification,
    "poisson": pde.Poisson,
    "helmholtz": pde.Helmholtz,
    "convection": pde.Convection,
    "heat": pde.Heat,
    "wave": pde.Wave,
    "burgers": pde.Burgers,
    "allen_cahn": pde.AllenCahn,
    "kdv": pde.KortewegDeVries,
    "reaction_diffusion": pde.ReactionDiffusion,
    "kovasznay": pde.Kovasznay,
    "taylor_green": pde.TaylorGreen,
}
"""All problems by the name that `[problem] kind = "..."` uses."""

ConfigTable = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A model, the problem to which it is fitted, and the training settings."""

    model: Model
    problem: Problem
    training: Training


def experiment_from(table: ConfigTable) -> Experiment:
    """Decode the three sections of an experiment.

    If `in_dim` or `out_dim` of the model is missing, the value of the problem is used.

    Raises:
      InputError: a section or a field is unknown, or a value has the wrong type or is out of range.
        The message contains the dotted name of the field.
    """
    problem = problem_from(table)
    training = training_from(table)
    fields = table.get("model", {})
    fields = fields | {n: getattr(problem, n) for n in ("in_dim", "out_dim") if n not in fields}
    return Experiment(model=model_from(fields), problem=problem, training=training)


def table_of(experiment: Experiment) -> ConfigTable:
    """Encode an experiment with all defaults; fields that are None are omitted.

    Raises:
      InputError: a value or a class cannot be written to a file, for example a Python function.
    """
    return {
        "model": table_of_model(experiment.model),
        "problem": _section("problem", experiment.problem, PROBLEMS),
        "training": _section("training", experiment.training, {}),
    }


def table_of_model(model: Model) -> ConfigTable:
    """Encode a model as the [model] section of an experiment.

    Raises:
      InputError: a value or a class cannot be written to a file, for example a Python function.
    """
    return _section("model", model, MODELS)


def model_from(table: ConfigTable) -> Model:
    """Decode the [model] section of an experiment, which must have in_dim and out_dim.

    Raises:
      InputError: as `experiment_from`.
    """
    return _decode("model", table, _kind("model", {"model": table}, MODELS))


def training_from(table: ConfigTable) -> Training:
    """Decode the [training] section of an experiment.

    Raises:
      InputError: as `experiment_from`.
    """
    return _decode("training", table.get("training", {}), Training)


def problem_from(table: ConfigTable) -> Problem:
    """Decode the [problem] section of an experiment.

    Raises:
      InputError: as `experiment_from`.
    """
    _check_sections(table)
    return _decode("problem", table.get("problem", {}), _kind("problem", table, PROBLEMS))


def read_table(path: Path) -> ConfigTable:
    """Read the sections of an experiment file without decoding them.

    Raises:
      InputError: the file is missing, is not TOML, or contains anything but the three sections.
    """
    table = read_toml(path)
    _check_sections(table)
    return table


def read_toml(path: Path) -> ConfigTable:
    """Read a TOML file.

    Raises:
      InputError: the file is missing, too large or not TOML.
    """
    content = read_bytes(path)
    if len(content) > _LARGEST:
        raise InputError(f"{path} has {len(content)} bytes: expected at most {_LARGEST}")
    try:
        return tomllib.loads(content.decode())
    except RecursionError as error:
        raise InputError(f"{path} nests lists or tables too deeply") from error
    except ValueError as error:  # invalid TOML, invalid UTF-8, or an integer of too many digits
        raise InputError(f"{path} is not TOML: {error}") from error


def write_table(path: Path, table: ConfigTable) -> Path:
    """Write nested dicts as a TOML file.

    Raises:
      InputError: the file cannot be written, or a string is not valid Unicode.
    """
    with io_errors(path, "write"):
        text = tomli_w.dumps(table)
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        line = text.split("\n")[text[: error.start].count("\n")].strip()
        raise InputError(
            f"{line[:60]}: {path.name} holds UTF-8 text only; rename the file, or in a locale "
            "without UTF-8 set PYTHONUTF8=1"
        ) from error
    return write_bytes(path, content)


def merge(base: ConfigTable, changes: ConfigTable) -> ConfigTable:
    """Return a copy of `base` updated with the fields of `changes`; None removes a field.

    >>> merge({"model": {"rank": 4, "gamma": 1.0}}, {"model": {"rank": 8, "gamma": None}})
    {'model': {'rank': 8}}
    """
    merged = dict(base)
    for name, value in changes.items():
        if isinstance(value, dict):
            merged[name] = merge(merged.get(name, {}), value)
        elif value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged


def configs() -> dict[str, Path]:
    """Return the experiment files of the package by name, e.g. 'image/lrnn_spder'."""
    return {name: path for name, path in _files().items() if not name.startswith("studies/")}


def study_configs() -> dict[str, Path]:
    """Return the study files of the package by name, e.g. 'studies/images_small'."""
    return {name: path for name, path in _files().items() if name.startswith("studies/")}


def _files() -> dict[str, Path]:
    package = Path(__file__).parents[1]
    folder = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
    paths = sorted(folder.rglob("*.toml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def config_path(name: str, known: dict[str, Path] | None = None) -> Path:
    """Return the path of a config, given as a path or as the name of a config of the package.

    Args:
      name: the path or the name.
      known: the files of the package by name; None takes the experiments.

    Raises:
      InputError: there is no such file and no such config.
    """
    path = Path(name)
    if exists(path) and path.is_file():
        return path
    known = configs() if known is None else known
    short = name.removeprefix("configs/").removesuffix(".toml")
    if short in known:
        return known[short]
    raise InputError(f"no config file '{name}'; {suggest(short, known)}")


def field_help(kind: type) -> dict[str, str]:
    """Return one line of help for each field of a dataclass.

    The texts are the `Args` entries in the docstrings of the class and of its base classes. Python
    3.13 strips the common indentation of docstrings; it is removed here for all versions. A field
    without an entry has an empty text, as have all fields under `python -OO`.
    """
    texts = {field.name: "" for field in dataclasses.fields(kind)}
    for cls in reversed(kind.__mro__):
        text = re.sub(r"\n {4,}", " ", inspect.cleandoc(cls.__doc__ or ""))
        texts |= dict(re.findall(r"^ {2}(\w+): (.+)$", text, flags=re.MULTILINE))
    return texts


def _check_sections(table: ConfigTable) -> None:
    sections = ("model", "problem", "training")
    for name, section in table.items():
        if name not in sections:
            raise InputError(f"unknown section [{name}]; {suggest(name, sections)}")
        if not isinstance(section, dict):
            raise InputError(f"{name}: expected a section [{name}], got {section!r}")


def kind_name(section: str, table: ConfigTable, default: str) -> str:
    """Return the `kind` of a section, or the default; check that there is such a kind.

    Raises:
      InputError: there is no such kind.
    """
    registry = {"model": MODELS, "problem": PROBLEMS}[section]
    fields = {"kind": default} | table.get(section, {})
    _kind(section, {section: fields}, registry)
    return fields["kind"]


def _kind(section: str, table: ConfigTable, registry: dict[str, type]) -> type:
    """Return the class that `kind` names: a key of the registry, or "module:Class"."""
    kind = table.get(section, {}).get("kind", next(iter(registry)))
    if isinstance(kind, str) and kind in registry:
        return registry[kind]
    if isinstance(kind, str) and ":" in kind:
        return _imported(section, kind)
    raise InputError(f"{section}.kind: unknown {section} {kind!r}; {suggest(str(kind), registry)}")


def _imported(section: str, path: str) -> type:
    """Import the dataclass at a path "module:Class".

    Raises:
      InputError: the import fails, or the result is not a dataclass with the required members.
    """
    module, _, names = path.partition(":")
    try:
        kind: Any = importlib.import_module(module)
        for name in names.split("."):
            kind = getattr(kind, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{section}.kind: cannot import {path!r}: {error}") from error
    protocol = {"model": Model, "problem": Problem}[section]
    is_dataclass = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    if not is_dataclass or missing_members(kind, protocol):
        raise InputError(
            f"{section}.kind: {path!r} is no dataclass with the members of "
            f"lrnn_jax.typing.{protocol.__name__}"
        )
    return kind


def kind_of(cls: type, section: str, registry: dict[str, type]) -> str:
    """Return the `kind` of a class: its key in the registry, or "module:Class".

    Raises:
      InputError: the class cannot be imported by name, or is not a dataclass.
    """
    known = {kind: name for name, kind in registry.items()}
    if cls in known:
        return known[cls]
    if "<" in cls.__qualname__ or not dataclasses.is_dataclass(cls):
        raise InputError(
            f"{section}: a file cannot name {cls.__qualname__}: make it a dataclass at the top "
            "level of a module"
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def _section(section: str, spec: Any, registry: dict[str, type]) -> ConfigTable:
    """Encode the kind and the fields of a dataclass for TOML; fields that are None are omitted."""
    kind = {"kind": kind_of(type(spec), section, registry)} if registry else {}
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    return kind | {n: _to_toml(n, value) for n, value in fields.items() if value is not None}


def _to_toml(name: str, value: Any) -> Any:
    """Encode a value for TOML: tuples become lists; numbers, strings and flags are unchanged."""
    if isinstance(value, tuple):
        return [_to_toml(name, entry) for entry in value]
    if not isinstance(value, bool | int | float | str):
        what = "a Python function" if callable(value) else f"a {type(value).__name__}"
        what = getattr(value, "description", what)
        raise InputError(f"{name}: {what} cannot be written to a file, got {value!r}")
    return value


def _decode(section: str, table: ConfigTable, kind: type) -> Any:
    values = dict(table)
    if section != "training":
        values.pop("kind", None)  # `_kind` has read it already
    known = [field.name for field in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            raise InputError(f"unknown field {section}.{name}; {suggest(name, known)}")
    hints = field_types(kind)
    try:
        return kind(**{name: _structure(name, values[name], hints[name]) for name in values})
    except InputError as error:
        raise InputError(f"{section}.{error}") from error


# Strict decoding: values must have the annotated type; only an integer may become a float ---------


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a TOML value matches the annotation of a field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, list):
            return False
        if arguments[-1] is ...:
            return all(_is_a(entry, arguments[0]) for entry in value)
        return len(value) == len(arguments) and all(map(_is_a, value, arguments))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint


def _describe(hint: Any) -> str:
    """Describe an annotation in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(filter(None, map(_describe, arguments)))
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple:
        return f"a list of {_plural(hint)}"
    words = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    return words.get(hint, "")


def _plural(hint: Any) -> str:
    """Describe the entries of a list with a tuple annotation in words."""
    arguments = typing.get_args(hint)
    count = "" if arguments[-1] is ... else f"{len(arguments)} "
    words = {int: "integers", float: "numbers", str: "strings"}
    entry = arguments[0]
    return count + (words[entry] if entry in words else f"lists of {_plural(entry)}")


def _structure(name: str, value: Any, hint: Any) -> Any:
    """Convert a TOML value to the value of a field: lists to tuples, and integers to floats.

    An integer is converted only if the annotation allows floats and does not allow integers.
    """
    if not _is_a(value, hint):
        raise InputError(f"{name}: expected {_describe(hint)}, got {value!r}")
    if isinstance(value, list):
        return _tuple(value)
    floats = float in (hint, *typing.get_args(hint)) and int not in typing.get_args(hint)
    return float(value) if floats else value


def _tuple(value: Any) -> Any:
    """Convert a list and the lists in it to tuples."""
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
