"""The `lrnn-jax` command: fit, decode, list, doctor."""

import argparse
import contextlib
import dataclasses
import os
import sys
import textwrap
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import jax
from jax.experimental.compilation_cache import compilation_cache
from rich.console import Console

from lrnn_jax.errors import InputError, suggest
from lrnn_jax.experiments import (
    MODELS,
    PROBLEMS,
    Outcome,
    RunFolder,
    experiment_from,
    resume,
    start,
    unusable,
)
from lrnn_jax.experiments.doctor import check_installation
from lrnn_jax.experiments.output import tolerant_output
from lrnn_jax.experiments.progress import display_for
from lrnn_jax.experiments.spec import config_path, configs, field_help, merge, read_table
from lrnn_jax.fields import BoundModel
from lrnn_jax.io import exists
from lrnn_jax.io.safetensors import load_tree
from lrnn_jax.training import Training, precision_context

_BAD_INPUT = 2
_FAILED = 1
_INTERRUPTED = 130
_TRAINING = {"training": Training}
_DEFAULT_CONFIG = "image/quickstart"

_FIT_HELP = """\
Fit a model to a problem. Without CONFIG: a small deep LRNN to a photograph, about a minute on two
CPU cores. Any field of the experiment can be set: --model.rank 64 --training.steps 200.
"""
_FIT_EXAMPLES = """\
examples:
  lrnn-jax fit
  lrnn-jax fit --problem.source photo.png --problem.size 256 256
  lrnn-jax fit image/siren --training.learning_rate 1e-3
  lrnn-jax fit my.toml --out runs/mine
  lrnn-jax fit --resume runs/mine --training.steps 2000
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Errors when writing to standard output are ignored.

    Returns:
      The exit code: 0 success; 1 a check of `doctor` failed or a score is not finite; 2 invalid
      input; 130 interrupted.
    """
    with tolerant_output():
        return _main(list(sys.argv[1:] if arguments is None else arguments))


def _main(words: list[str]) -> int:
    try:
        options = _parser().parse_args(words)
        return options.action(options)
    except InputError as error:
        if "--debug" in words:
            traceback.print_exc()
        print(f"lrnn-jax: {' '.join(str(error).split())}", file=sys.stderr)
        return _BAD_INPUT
    except (MemoryError, OverflowError, jax.errors.JaxRuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        # JAX raises ValueError, too, for an operation outside of `jax.jit`.
        texts = {jax.errors.JaxRuntimeError: "emory", ValueError: "RESOURCE_EXHAUSTED"}
        if any(isinstance(error, kind) and text not in reason for kind, text in texts.items()):
            raise
        print(f"lrnn-jax: not enough memory for this size: {reason[:200]}", file=sys.stderr)
        return _BAD_INPUT
    except KeyboardInterrupt:
        print("lrnn-jax: stopped", file=sys.stderr)
        return _INTERRUPTED


# The commands -------------------------------------------------------------------------------------


def _fit(options: argparse.Namespace) -> int:
    changes = _changes(options)
    display = display_for(Console())
    if options.resume is not None:
        if options.config or options.out or set(changes) - {"training"}:
            raise InputError("--resume takes no CONFIG, no --out and only --training fields")
        with _compilation_cache(options.compilation_cache):
            outcome = resume(RunFolder.open(options.resume), changes.get("training", {}), display)
    else:
        name = _DEFAULT_CONFIG if options.config is None else options.config
        base = read_table(config_path(name))
        experiment = experiment_from(merge(_without_stale_fields(base, changes), changes))
        with _compilation_cache(options.compilation_cache):
            outcome = start(experiment, options.out, display)
    return _print_result(outcome)


@contextlib.contextmanager
def _compilation_cache(folder: Path | None) -> Iterator[None]:
    """Use `folder` as JAX's persistent compilation cache within the context.

    Raises:
      InputError: `folder` cannot be created or is not writable.
    """
    if folder is None:
        yield
        return
    existing = next(path for path in (folder, *folder.absolute().parents) if exists(path))
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise InputError(f"--compilation-cache: cannot write to a folder {folder}")
    new: dict[str, Any] = {
        "jax_compilation_cache_dir": str(folder.absolute()),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    old = {name: getattr(jax.config, name) for name in new}
    try:
        for name, value in new.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in old.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # JAX would go on to use the cache that it has opened


def _decode(options: argparse.Namespace) -> int:
    folder = RunFolder.open(options.run)
    if not folder.params.is_file():
        raise InputError(
            f"{folder.path} has no {folder.params.name}: finish it with --resume first"
        )
    experiment = folder.experiment()
    size = None if options.size is None else tuple(options.size)
    with precision_context(experiment.training):
        template = jax.eval_shape(experiment.model.init, jax.random.key(0))
        field = BoundModel(experiment.model, load_tree(folder.params, template))
        name = experiment.problem.decoded_file
        print(experiment.problem.decode(field, size, options.out or folder.path / name))
    return 0


def _list(options: argparse.Namespace) -> int:
    del options
    texts = {
        "models": {name: _summary(kind) for name, kind in MODELS.items()},
        "problems": {name: _summary(kind) for name, kind in PROBLEMS.items()},
        "configs": {name: _first_comment(path) for name, path in configs().items()},
    }
    width = max(len(name) for lines in texts.values() for name in lines)
    for title, lines in texts.items():
        print(f"{title}:")
        for name, text in lines.items():
            print(f"  {name:<{width}}  {text}")
    return 0


def _first_comment(config: Path) -> str:
    return config.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def _summary(kind: type) -> str:
    """Return the first line of the docstring of a dataclass.

    `python -OO` strips docstrings, and `dataclasses` then uses the signature as docstring. The
    result is empty in this case.
    """
    text = kind.__doc__ or ""
    return "" if text.startswith(f"{kind.__name__}(") else text.partition("\n")[0]


def _doctor(options: argparse.Namespace) -> int:
    del options
    all_passed = True
    for line, passed in check_installation():
        print(line)
        all_passed = all_passed and passed
    return 0 if all_passed else _FAILED


def _print_result(outcome: Outcome) -> int:
    """Print the result of a fit (scores, costs and paths), and return the exit code."""
    summary, folder = outcome.summary, outcome.folder.path
    if outcome.status == "interrupted":
        print(f"stopped at step {summary['step']}; continue with: lrnn-jax fit --resume {folder}")
        return _INTERRUPTED
    scores = "  ".join(f"{name} {value:.4g}" for name, value in summary["scores"].items())
    memory = summary["peak_memory_mb"]
    print(f"reached   {scores} after {summary['params_step']} steps")
    if summary["params_step"] < outcome.folder.experiment().training.steps:
        print(f"stopped   {summary['stop_reason']}")
    costs = [
        f"{summary['steps_per_second']:.3g} steps/s",
        f"compiled in {summary['compile_seconds']:.1f} s",
        f"peak memory {'unknown' if memory is None else f'{memory:.0f} MB'}",
        f"{summary['parameters']:,} parameters",
    ]
    print(f"cost      {', '.join(costs)}")
    figures = [name for name in ("training.png", "diagnostics.png") if (folder / name).is_file()]
    first, *rest = [*summary["pictures"], *figures]
    print(f"files     {', '.join([str(folder / first), *rest])}")
    print(f"run       {folder}")
    for warning in summary["diagnostics"]["warnings"]:
        print(f"warning   {warning}")
    return _FAILED if unusable(summary["scores"]) else 0


# Overrides: --section.field VALUE ... -------------------------------------------------------------


def _changes(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the dotted options of the command line as nested dicts of TOML values."""
    changes: dict[str, dict[str, Any]] = {}
    for dotted, words in vars(options).items():
        if "." in dotted:
            section, name = dotted.split(".")
            values = [_value(word) for word in words]
            changes.setdefault(section, {})[name] = values[0] if len(values) == 1 else values
    return changes


def _value(word: str) -> Any:
    """Parse a word as a TOML value. 'none' gives None; a word that is not TOML is a string."""
    if word == "none":
        return None
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except RecursionError as error:
        raise InputError(f"{word[:40]}... nests lists too deeply") from error
    except tomllib.TOMLDecodeError:
        return word
    except ValueError as error:  # an integer with more digits than Python's limit
        raise InputError(f"{word[:40]}... is an integer of too many digits") from error


def _without_stale_fields(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Remove from `base` the sections whose kind `changes` replaces; all, for a new problem."""

    def replaced(section: str) -> bool:
        kind = changes.get(section, {}).get("kind")
        return kind is not None and kind != base.get(section, {}).get("kind")

    if replaced("problem"):
        return {}
    return {section: {} if replaced(section) else fields for section, fields in base.items()}


# The parser ---------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """An argument parser with errors of one line, which suggest the most similar option."""

    def __init__(self, **options: Any) -> None:
        options |= {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**options)

    def parse_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            raise InputError(f"unknown argument {rest[0]}; {suggest(rest[0], options.known)}")
        return options

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lrnn-jax", description="Fit networks whose activations are learned.")
    parser.add_argument("--version", action="version", version=version("lrnn-jax"))
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    fit = _add(verbs, "fit", _fit, _FIT_HELP)
    fit.epilog = _FIT_EXAMPLES + _fields_text()
    fit.add_argument("config", nargs="?", metavar="CONFIG", help="a TOML file or a name of `list`")
    fit.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; must not exist")
    fit.add_argument("--resume", type=Path, metavar="RUN", help="continue an interrupted run")
    cache_help = "keep compiled programs in DIR and take them from there: later fits start sooner"
    fit.add_argument("--compilation-cache", type=Path, metavar="DIR", help=cache_help)
    dotted_names = {f"{s}.{f.name}" for s, _, kind in _kinds() for f in dataclasses.fields(kind)}
    for dotted in sorted(dotted_names | {"model.kind", "problem.kind"}):
        fit.add_argument(
            f"--{dotted}", dest=dotted, nargs="+", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    decode = _add(verbs, "decode", _decode, "Render a saved run at any resolution.")
    decode.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    size_help = "pixels, or points along each coordinate; default: those of the data"
    decode.add_argument("--size", type=int, nargs="+", metavar="N", help=size_help)
    out_help = "the file to write, .npz for an equation's values; default: RUN/decoded.*"
    decode.add_argument("--out", type=Path, help=out_help)
    _add(verbs, "list", _list, "Show models, problems and configs.")
    _add(verbs, "doctor", _doctor, "Show versions and devices; check that the compiler is right.")
    for verb in verbs.choices.values():
        verb.set_defaults(known=[option for a in verb._actions for option in a.option_strings])
    return parser


def _add(verbs: Any, name: str, action: Any, text: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text.splitlines()[0], description=text)
    verb.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verb.set_defaults(action=action)
    return verb


def _kinds() -> Iterator[tuple[str, str, type]]:
    """Yield (section, kind, class) for all classes that an experiment can contain."""
    for section, registry in (("problem", PROBLEMS), ("model", MODELS), ("training", _TRAINING)):
        for name, kind in registry.items():
            yield section, name, kind


def _fields_text() -> str:
    """Return the help of all fields with their defaults, by section and kind."""
    lines = []
    for section, name, kind in _kinds():
        heading = section if section == "training" else f"{section}, --{section}.kind {name}"
        lines.append(f"\n{heading}:")
        texts = field_help(kind)
        for field in dataclasses.fields(kind):
            default = "none" if field.default is None else field.default
            default = "the problem's" if default is dataclasses.MISSING else default
            text = f"--{section}.{field.name}  {texts[field.name]} Default: {default}."
            lines += textwrap.wrap(text, 96, initial_indent="  ", subsequent_indent=" " * 6)
    return "\n".join(lines)
