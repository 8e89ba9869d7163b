"""Experiments as files: TOML decoded strictly into the three typed objects, and back."""

import collections.abc
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
from lrnn_jax.errors import InputError, suggest
from lrnn_jax.io import exists, io_errors, read_bytes, write_bytes
from lrnn_jax.signals import Audio, Image, Occupancy, SignedDistance, Video
from lrnn_jax.tabular import Classification, Regression
from lrnn_jax.training import Training
from lrnn_jax.typing import Model, Problem

__all__ = [
    "MODELS",
    "PROBLEMS",
    "ConfigTable",
    "Experiment",
    "config_path",
    "configs",
    "experiment_from",
    "field_help",
    "merge",
    "read_table",
    "table_of",
    "write_table",
]

_LARGEST = 10**6  # bytes of an experiment file

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
"""Every model that `[model] kind = "..."` can name."""

PROBLEMS: dict[str, type] = {
    "image": Image,
    "audio": Audio,
    "video": Video,
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
"""Every problem that `[problem] kind = "..."` can name."""

ConfigTable = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A model, what it is fitted to, and how."""

    model: Model
    problem: Problem
    training: Training


def experiment_from(table: ConfigTable) -> Experiment:
    """Decodes the three sections; a model without `in_dim` and `out_dim` takes the problem's.

    Raises:
      InputError: an unknown section or field, a value of the wrong type or out of its range; the
        message gives the dotted name.
    """
    _check_sections(table)
    problem = _decode("problem", table.get("problem", {}), _kind("problem", table, PROBLEMS))
    training = _decode("training", table.get("training", {}), Training)
    model_table = dict(table.get("model", {}))
    for name in ("in_dim", "out_dim"):
        if name not in model_table:
            model_table[name] = getattr(problem, name)
    model = _decode("model", model_table, _kind("model", table, MODELS))
    return Experiment(model=model, problem=problem, training=training)


def table_of(experiment: Experiment) -> ConfigTable:
    """The experiment with every default written out; a field that is None is left out.

    Raises:
      InputError: a value or a class has no form in a file, such as a Python function.
    """
    return {
        "model": _section("model", experiment.model, MODELS),
        "problem": _section("problem", experiment.problem, PROBLEMS),
        "training": _section("training", experiment.training, {}),
    }


def read_table(path: Path) -> ConfigTable:
    """The sections of an experiment file, not yet decoded.

    Raises:
      InputError: it is missing, is not TOML, or holds something else than the three sections.
    """
    content = read_bytes(path)
    if len(content) > _LARGEST:
        raise InputError(f"{path} has {len(content)} bytes: expected at most {_LARGEST}")
    try:
        table = tomllib.loads(content.decode())
    except RecursionError as error:
        raise InputError(f"{path} nests lists or tables too deeply") from error
    except ValueError as error:  # TOML's, Unicode's, and Python's limit for digits
        raise InputError(f"{path} is not TOML: {error}") from error
    _check_sections(table)
    return table


def write_table(path: Path, table: ConfigTable) -> Path:
    """Writes nested dicts as TOML.

    Raises:
      InputError: the file cannot be written, or a string is not Unicode.
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
    """`base` with every field of `changes` in place of its own; None takes a field out.

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
    """The experiments that come with the package, by name, e.g. 'image/lrnn_spder'."""
    package = Path(__file__).parents[1]
    folder = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
    paths = sorted(folder.rglob("*.toml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def config_path(name: str) -> Path:
    """The file of a config: the path itself, or the one that comes with the package by that name.

    Raises:
      InputError: there is neither.
    """
    path = Path(name)
    if exists(path) and path.is_file():
        return path
    known = configs()
    short = name.removeprefix("configs/").removesuffix(".toml")
    if short in known:
        return known[short]
    raise InputError(f"no config file '{name}'; {suggest(short, known)}")


def field_help(kind: type) -> dict[str, str]:
    """One line of help for each field of a spec, from the Args of its docstring and its bases'.

    Docstrings are read without their common indentation, which Python 3.13 strips. A field that no
    docstring names (python -OO strips them all) has an empty text.
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


def _kind(section: str, table: ConfigTable, registry: dict[str, type]) -> type:
    """The class that `kind` names: one of the registry, or "module:Class" of the user's own."""
    kind = table.get(section, {}).get("kind", next(iter(registry)))
    if isinstance(kind, str) and kind in registry:
        return registry[kind]
    if isinstance(kind, str) and ":" in kind:
        return _imported(section, kind)
    raise InputError(f"{section}.kind: unknown {section} {kind!r}; {suggest(str(kind), registry)}")


def _imported(section: str, path: str) -> type:
    """The dataclass at an import path "module:Class".

    Raises:
      InputError: there is none.
    """
    module, _, names = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{section}.kind: cannot import {path!r}: {error}") from error
    protocol = {"model": Model, "problem": Problem}[section]
    members = [name for name in dir(protocol) if not name.startswith("_")]
    missing = [name for name in members if not hasattr(found, name)]
    fields = getattr(found, "__dataclass_fields__", {})
    missing = [name for name in missing if name not in fields]
    if not isinstance(found, type) or not dataclasses.is_dataclass(found) or missing:
        raise InputError(
            f"{section}.kind: {path!r} is no dataclass with the members of "
            f"lrnn_jax.typing.{protocol.__name__}"
        )
    return found


def _name(cls: type, section: str, registry: dict[str, type]) -> str:
    """What `kind` calls a class.

    Raises:
      InputError: it cannot be imported by a name.
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
    """The fields of a spec as TOML has them; one that is None is left out.

    Raises:
      InputError: a value has no form in TOML.
    """
    kind = {"kind": _name(type(spec), section, registry)} if registry else {}
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    return kind | {n: _to_toml(n, value) for n, value in fields.items() if value is not None}


def _to_toml(name: str, value: Any) -> Any:
    """A number, a string or a flag as it is, and a tuple of them as a list."""
    if isinstance(value, tuple):
        return [_to_toml(name, entry) for entry in value]
    if not isinstance(value, bool | int | float | str):
        what = "a Python function" if callable(value) else f"a {type(value).__name__}"
        raise InputError(f"{name}: {what} cannot be written to a file, got {value!r}")
    return value


def _decode(section: str, table: ConfigTable, kind: type) -> Any:
    chosen = ("kind",) if section != "training" else ()  # by `_kind`, of several
    values = {name: value for name, value in table.items() if name not in chosen}
    known = [field.name for field in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            raise InputError(f"unknown field {section}.{name}; {suggest(name, known)}")
    hints = typing.get_type_hints(kind)
    try:
        return kind(
            **{name: _structure(name, value, hints[name]) for name, value in values.items()}
        )
    except InputError as error:
        raise InputError(f"{section}.{error}") from error


# Strict decoding: TOML's types are taken as they are, none is converted into another --------------


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a TOML value fits a field's annotation."""
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
    if origin is collections.abc.Callable:
        return False
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint


def _describe(hint: Any) -> str:
    """An annotation in words."""
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
    """What a list of that annotation has in it, in words."""
    arguments = typing.get_args(hint)
    count = "" if arguments[-1] is ... else f"{len(arguments)} "
    words = {int: "integers", float: "numbers", str: "strings"}
    entry = arguments[0]
    return count + (words[entry] if entry in words else f"lists of {_plural(entry)}")


def _structure(name: str, value: Any, hint: Any) -> Any:
    """The field's value, a list as a tuple and a whole number as a float where one is asked for."""
    if not _is_a(value, hint):
        raise InputError(f"{name}: expected {_describe(hint)}, got {value!r}")
    if isinstance(value, list):
        return _tuple(value)
    floats = float in (hint, *typing.get_args(hint)) and int not in typing.get_args(hint)
    return float(value) if floats else value


def _tuple(value: Any) -> Any:
    """A list as a tuple, and the lists in it."""
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
