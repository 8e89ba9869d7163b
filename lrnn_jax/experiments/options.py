"""The options `--section.field VALUE ...` of the command line: parsing, suggestions, help."""

import dataclasses
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrnn_jax.errors import InputError, suggest
from lrnn_jax.experiments.spec import MODELS, PROBLEMS, ConfigTable, field_help
from lrnn_jax.training import Training

__all__ = ["common_help", "dotted_options", "parse_options", "suggest_option", "topic_help"]

_REGISTRIES: dict[str, dict[str, type]] = {
    "problem": PROBLEMS,
    "model": MODELS,
    "training": {"": Training},
}
_EXPONENT = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?[eE]\+?[0-9]{1,2}")
_COMMON = {
    "problem.kind": "the problem, unless the file says it: denoising, ct, poisson, ...",
    "problem.source": "the data: a file or a sample",
    "problem.size": "width and height to which an image is resized",
    "model.kind": "the model: lrnn, nestnet, siren, wire, kan, ...",
    "model.rank": "separation rank of an LRNN, its width",
    "model.width": "neurons of a hidden layer of the other models",
    "model.depth": "number of layers",
    "model.omega0": "frequency scale of sine activations",
    "training.steps": "number of steps",
    "training.learning_rate": "learning rate",
    "training.batch": "points drawn for each step; none takes all",
    "training.optimizer": "adam, soap, lbfgs, levenberg_marquardt, ...",
    "training.precision": "float32 or float64",
    "training.seed": "random seed",
}


def dotted_options() -> list[str]:
    """The names of all options, such as 'model.rank', sorted."""
    fields = {f"{s}.{f.name}" for s, _, kind in _kinds() for f in dataclasses.fields(kind)}
    return sorted(fields | {"model.kind", "problem.kind"})


def parse_options(options: Mapping[str, Any]) -> ConfigTable:
    """Return dotted options with their words as nested dicts of TOML values.

    Other entries of `options` are ignored.

    >>> parse_options({"training.steps": ["1e3"], "problem.size": ["8", "4"], "out": "runs/a"})
    {'training': {'steps': 1000}, 'problem': {'size': [8, 4]}}
    """
    changes: ConfigTable = {}
    for dotted, words in options.items():
        if "." in dotted:
            section, name = dotted.split(".")
            values = [_value(word) for word in words]
            changes.setdefault(section, {})[name] = values[0] if len(values) == 1 else values
    return changes


def _value(word: str) -> Any:
    """Parse a word as a TOML value.

    'none' gives None, a whole number in exponent form such as 1e3 an integer, and a word that is
    not TOML a string.
    """
    if word == "none":
        return None
    if _EXPONENT.fullmatch(word) and float(word).is_integer():
        return int(float(word))
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except RecursionError as error:
        raise InputError(f"{word[:40]}... nests lists too deeply") from error
    except tomllib.TOMLDecodeError:
        return word
    except ValueError as error:  # an integer with more digits than Python's limit
        raise InputError(f"{word[:40]}... is an integer of too many digits") from error


def suggest_option(words: Sequence[str], known: Sequence[str]) -> str:
    """The end of a message about the unknown argument `words[0]`, which the others follow.

    >>> suggest_option(["--steps", "9"], ["--training.steps", "--model.kind"])
    "did you mean '--training.steps'?"
    >>> suggest_option(["--model", "siren"], ["--training.steps", "--model.kind"])
    "did you mean '--model.kind siren'?"
    """
    option, *values = words
    name = option.removeprefix("--")
    if f"--{name}.kind" in known:
        return f"did you mean '{' '.join([f'--{name}.kind', *values[:1]])}'?"
    if option.startswith("--") and "." not in option:
        by_field = {dotted.rpartition(".")[2]: dotted for dotted in known if "." in dotted}
        near = re.search("'(.*)'", suggest(name, by_field))
        if near:
            return f"did you mean '{by_field[near[1]]}'?"
    return suggest(option, known)


def common_help() -> str:
    """The options that most fits need."""
    lines = [f"  --{dotted:<24}  {text}" for dotted, text in _COMMON.items()]
    return "\n".join(["the usual fields:", *lines])


def topic_help(topic: str) -> str:
    """The help of all fields of a topic, with their defaults.

    Args:
      topic: 'all', a section ('training'), a kind ('problem.ct', 'ct'), or a field ('omega0').

    Raises:
      InputError: there is no such topic.
    """
    topic = topic.removeprefix("--")
    blocks = {}
    for section, name, kind in _kinds():
        texts = [_field_text(section, field, kind) for field in dataclasses.fields(kind)]
        names = {"all", section, name, f"{section}.{name}"} - {""}
        if topic in names:
            blocks[_heading(section, name)] = texts
            continue
        chosen = [text for text in texts if topic in _names_of(text)]
        if chosen:
            blocks[_heading(section, name)] = chosen
    if not blocks:
        topics = ["all", "training", *(f"{s}.{n}" for s, n, _ in _kinds() if n)]
        raise InputError(f"--help: unknown topic {topic!r}; {suggest(topic, topics)}")
    return "\n\n".join("\n".join([f"{title}:", *texts]) for title, texts in blocks.items())


def _heading(section: str, name: str) -> str:
    return f"{section}, --{section}.kind {name}" if name else section


def _names_of(text: str) -> tuple[str, str]:
    """The dotted and the plain name of the field that a text is about."""
    dotted = text.split()[0].removeprefix("--")
    return dotted, dotted.partition(".")[2]


def _field_text(section: str, field: dataclasses.Field, kind: type) -> str:
    default = "none" if field.default is None else field.default
    default = "the problem's" if default is dataclasses.MISSING else default
    text = f"--{section}.{field.name}  {field_help(kind)[field.name]} Default: {default}."
    return textwrap.fill(text, 96, initial_indent="  ", subsequent_indent=" " * 6)


def _kinds() -> Iterator[tuple[str, str, type]]:
    """Yield (section, kind, class) for all classes that an experiment can contain."""
    for section, registry in _REGISTRIES.items():
        for name, kind in registry.items():
            yield section, name, kind
