"""The `lrnn-jax` command: fit, decode, export, compare, study, report, list, doctor."""

import argparse
import contextlib
import functools
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
import webbrowser
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import jax
from jax.experimental.compilation_cache import compilation_cache
from rich.console import Console

from lrnn_jax.errors import InputError
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
from lrnn_jax.experiments.comparison import Comparison, Fit, fit_of_run
from lrnn_jax.experiments.data_files import is_data_file, problem_of_file, require_readable
from lrnn_jax.experiments.doctor import check_installation
from lrnn_jax.experiments.exporting import FORMATS, export_run
from lrnn_jax.experiments.options import (
    common_help,
    dotted_options,
    parse_options,
    suggest_option,
    topic_help,
)
from lrnn_jax.experiments.output import tolerant_output
from lrnn_jax.experiments.progress import display_for
from lrnn_jax.experiments.recipes import complete, describe_recipes, recipes, sized
from lrnn_jax.experiments.spec import (
    ConfigTable,
    config_path,
    configs,
    kind_of,
    merge,
    read_table,
    study_configs,
)
from lrnn_jax.experiments.trackers import TRACKERS
from lrnn_jax.fields import BoundModel
from lrnn_jax.io import exists
from lrnn_jax.io.safetensors import load_tree
from lrnn_jax.studies import (
    describe,
    describe_seconds,
    load_study,
    plan,
    read_study,
    study,
    time_steps,
)
from lrnn_jax.training import precision_context

_BAD_INPUT = 2
_FAILED = 1
_INTERRUPTED = 130
_DEFAULT_CONFIG = "image/quickstart"

_FIT_HELP = """\
Fit a model to a problem.

WHAT is a data file (an image, a sound, a video, a volume, a mesh, a table), an experiment file, or
a name that `lrnn-jax list` shows. Without it, a small deep LRNN is fitted to a photograph, which
takes about a minute on two CPU cores. Any field of the experiment can be set, for example
--model.rank 64 --training.steps 200. What is not set comes from the experiment file or, for a data
file, from the recipe of the problem and the model.
"""
_TOPIC_HELP = "show this, or the fields of a TOPIC: problem.ct, model.siren, training"
_EXPORT_HELP = """\
Write the network of a saved run for other programs.

  onnx       for onnxruntime and others; needs pip install 'lrnn-jax[onnx]'
  stablehlo  for jax.export.deserialize, on CPU, GPU and TPU, without this package
  torch      safetensors with the names and layouts of the authors' PyTorch modules, for SIREN,
             FINER, Gauss, WIRE and KAN
"""
_COMPARE_HELP = """\
Compare fits to the same data: scores, parameters, seconds, curves and error maps on one page.

  lrnn-jax compare runs/image-lrnn runs/image-siren
  lrnn-jax compare --models lrnn siren finer photo.png --budget 20000 --training.steps 500

The first form compares finished runs. The second one fits each kind of model by its recipe first.
"""
_OPEN_HELP = "show the page in a browser; default: in a terminal with a graphical display"
_STUDY_HELP = """\
Fit many models to many problems with many settings and seeds, as a study file says.

A study file has the sections [model], [problem] and [training] of an experiment, for what all
members share, and [study] with what varies, for example

  [problem]
  kind = "image"
  size = [64, 64]

  [study]
  budget = 10_000
  targets = [30, 35]

  [study.grid]
  "model.kind" = ["lrnn", "siren", "nestnet"]
  "problem.source" = "photos/*.png"
  "training.seed" = [0, 1, 2]

A study that was interrupted goes on with the same command. Several processes that share the folder
divide the work among them.
"""
_REPORT_HELP = """\
Write one HTML page about a study: success, quality, costs, curves and pictures.

The page needs no other file and no network. --rows and --summary write the same numbers as CSV,
Markdown, JSON lines or Parquet, as the suffix of the name says. A study that still runs is reported
as far as it is.
"""
_FIT_EXAMPLES = """\
examples:
  lrnn-jax fit
  lrnn-jax fit photo.png --problem.size 256 256
  lrnn-jax fit sound.wav --model.kind lrnn
  lrnn-jax fit image/siren --training.learning_rate 1e-3
  lrnn-jax fit my.toml --out runs/mine
  lrnn-jax fit --resume runs/mine --training.steps 2000
  lrnn-jax fit photo.png --track tensorboard
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Errors when writing to standard output are ignored.

    Returns:
      The exit code: 0 success; 1 a check of `doctor` failed, a score is not finite, or all members
      of a study failed; 2 invalid input; 130 interrupted.
    """
    with tolerant_output(), _sigterm_as_ctrl_c():
        return _main(list(sys.argv[1:] if arguments is None else arguments))


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt at SIGTERM, which job schedulers send, so that files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _main(words: list[str]) -> int:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where it cannot keep caches
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
    changes = parse_options(vars(options))
    display = display_for(Console())
    if options.resume is not None:
        if options.config or options.out or set(changes) - {"training"}:
            raise InputError("--resume takes no WHAT, no --out and only --training fields")
        with _compilation_cache(options.compilation_cache):
            folder, training = RunFolder.open(options.resume), changes.get("training", {})
            outcome = resume(folder, training, display, track=options.track, render=options.render)
    else:
        table, origin = _completed(options.config, changes)
        experiment = experiment_from(table)
        with _compilation_cache(options.compilation_cache):
            outcome = start(
                experiment, options.out, display, track=options.track, render=options.render
            )
        problem = kind_of(type(experiment.problem), "problem", PROBLEMS)
        model = kind_of(type(experiment.model), "model", MODELS)
        print(f"fitted    {problem} by {model}, settings: {origin}")
    code = _print_result(outcome)
    if options.open and outcome.status == "finished":
        folder = outcome.folder.path
        page = Comparison([fit_of_run(folder)]).save(folder / "page.html")
        _show(page, open_it=True)
    return code


def _completed(name: str | None, changes: ConfigTable) -> tuple[ConfigTable, str]:
    """The sections of the experiment that the command line asks for, and where they are from.

    Args:
      name: a data file, an experiment file, the name of a config, or None.
      changes: the fields that are set, by section.
    """
    problem = changes.get("problem", {})
    file = problem.get("source")
    if name is not None and is_data_file(name):
        if file is not None:
            raise InputError(f"problem.source: {name} is the source already, got {file!r} too")
        file, name = name, None
        problem = problem | {"source": file}
    elif name is not None or not ("kind" in problem or file or "kind" in changes.get("model", {})):
        name = _DEFAULT_CONFIG if name is None else name
        return complete(read_table(config_path(name)), changes, name)
    if isinstance(file, str):
        if "kind" in problem:
            require_readable(problem["kind"], file)
        elif is_data_file(file):
            problem = problem_of_file(file, problem.get("target")) | problem
    # Not `merge`, which drops the fields that are set to none.
    return complete({}, changes | {"problem": problem})


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


def _export(options: argparse.Namespace) -> int:
    print(export_run(options.run, options.to, options.out))
    return 0


def _compare(options: argparse.Namespace) -> int:
    if not options.models:
        fits = [fit_of_run(folder) for folder in options.what]
    else:
        kinds = [name for name in options.models if name in MODELS]
        # `--models siren lrnn photo.png`: argparse takes the file as another model.
        rest = [*options.what, *(name for name in options.models if name not in MODELS)]
        if len(rest) > 1 or not kinds:
            raise InputError(
                f"compare: expected kinds of models and one data file or experiment, got {rest}"
            )
        fits = [_fit_within(options.budget, kind, rest, options) for kind in kinds]
    comparison = Comparison(fits)
    print(comparison)
    page = comparison.save(options.out)
    _show(page, options.open)
    return 0


def _study(options: argparse.Namespace) -> int:
    file = config_path(options.file, study_configs())
    spec = read_study(file)
    # Members are trained side by side on the cores of a CPU; JAX fixes the number of its devices
    # when it is first used.
    jax.config.update("jax_num_cpu_devices", min(spec.block, _usable_cores()))
    if options.plan:
        blocks = plan(spec)
        print(describe(spec, blocks), flush=True)
        print(describe_seconds(blocks, time_steps(blocks)))
        return 0
    folder = options.out or Path("runs") / file.stem
    report = functools.partial(print, flush=True)
    result = study(spec, folder, report=report, track=options.track)
    print(result)
    print(result.folder)
    return _FAILED if all(row["reason"] for row in result.rows) else 0


def _report(options: argparse.Namespace) -> int:
    result = load_study(options.folder)
    if options.rows is not None:
        print(result.save_rows(options.rows))
    if options.summary is not None:
        print(result.save_summary(options.summary))
    _show(result.report(options.out), options.open)
    return 0


def _show(page: Path, open_it: bool | None) -> None:
    """Print the path of a page, and show it in a browser where there is a display."""
    print(page)
    if _has_display() if open_it is None else open_it:
        webbrowser.open(page.resolve().as_uri())


def _usable_cores() -> int:
    """The number of cores on which this process may run."""
    affinity = getattr(os, "sched_getaffinity", None)
    return os.cpu_count() or 1 if affinity is None else len(affinity(0))


def _has_display() -> bool:
    """Whether a person at a terminal with a graphical display reads the output."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.stdout.isatty() and bool(display or sys.platform in ("darwin", "win32"))


def _fit_within(
    budget: int | None, kind: str, what: Sequence[str], options: argparse.Namespace
) -> Fit:
    """Fit a kind of model with at most `budget` parameters by its recipe, in a new run folder."""
    changes = merge(parse_options(vars(options)), {"model": {"kind": kind}})
    table, origin = _completed(what[0] if what else None, changes)
    experiment = experiment_from(table)
    if budget is not None:
        dimensions = {n: getattr(experiment.problem, n) for n in ("in_dim", "out_dim")}
        table["model"] = sized(table["model"] | dimensions, budget)
        experiment = experiment_from(table)
    print(f"{kind}: settings: {origin}", flush=True)
    outcome = start(experiment, None, display_for(Console()))
    return fit_of_run(outcome.folder.path, kind)


def _list(options: argparse.Namespace) -> int:
    if options.problem is not None:
        print("\n".join(describe_recipes(options.problem)))
        return 0
    texts = {
        "models": {name: _summary(kind) for name, kind in MODELS.items()},
        "problems": {name: _summary(kind) for name, kind in PROBLEMS.items()},
        "configs": {name: _first_comment(path) for name, path in configs().items()},
        "studies": {name: _first_comment(path) for name, path in study_configs().items()},
        "recipes (list PROBLEM shows them)": {
            name: ", ".join(common["models"]) or "defaults" for name, common in recipes().items()
        },
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
    first, *rest = [*summary["pictures"], *figures, "model.safetensors"]
    print(f"files     {', '.join([str(folder / first), *rest])}")
    print(f"run       {folder}")
    print(f"next      lrnn-jax compare {shlex.quote(str(folder))} --open")
    for warning in summary["diagnostics"]["warnings"]:
        print(f"warning   {warning}")
    return _FAILED if unusable(summary["scores"]) else 0


# The parser ---------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """An argument parser with errors of one line, which suggest the most similar option."""

    def __init__(self, **options: Any) -> None:
        options |= {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**options)

    def parse_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            words = list(sys.argv[1:] if args is None else args)
            words = words[words.index(rest[0]) :] if rest[0] in words else rest
            raise InputError(f"unknown argument {rest[0]}; {suggest_option(words, options.known)}")
        return options

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


class _Help(argparse.Action):
    """Print the help of `fit`: of one topic, of all fields, or the usual options."""

    def __call__(self, parser, namespace, values, option_string=None):
        del namespace
        if isinstance(values, str):
            print(topic_help(values))
        else:
            parser.print_help()
            print(topic_help("all") if option_string == "--help-all" else "", end="")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lrnn-jax", description="Fit networks whose activations are learned.")
    parser.add_argument("--version", action="version", version=version("lrnn-jax"))
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    fit = _add(verbs, "fit", _fit, _FIT_HELP, add_help=False)
    fit.epilog = f"{common_help()}\n\n{_FIT_EXAMPLES}"
    fit.add_argument("-h", "--help", action=_Help, nargs="?", metavar="TOPIC", help=_TOPIC_HELP)
    fit.add_argument("--help-all", action=_Help, nargs=0, help="show the fields of all kinds")
    fit.add_argument("config", nargs="?", metavar="WHAT", help="a data file or an experiment")
    fit.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; must not exist")
    fit.add_argument("--resume", type=Path, metavar="RUN", help="continue an interrupted run")
    page_help = "afterwards, write the page of the run, and show it in a browser"
    fit.add_argument("--open", action="store_true", help=page_help)
    no_render_help = "write no pictures and no diagnostics, which takes less time"
    fit.add_argument("--no-render", dest="render", action="store_false", help=no_render_help)
    cache_help = "keep compiled programs in DIR and take them from there: later fits start sooner"
    fit.add_argument("--compilation-cache", type=Path, metavar="DIR", help=cache_help)
    _add_track(fit)
    _add_dotted_options(fit)
    _add_outputs(verbs)
    compare = _add(verbs, "compare", _compare, _COMPARE_HELP)
    compare.add_argument("what", nargs="*", metavar="RUN", help="run folders, or the data")
    compare.add_argument("--models", nargs="+", metavar="KIND", help="fit these kinds of models")
    budget_help = "largest number of parameters of each model; default: those of the recipes"
    compare.add_argument("--budget", type=int, metavar="N", help=budget_help)
    page = Path("comparison.html")
    compare.add_argument("--out", type=Path, default=page, help=f"the page; default: {page}")
    compare.add_argument("--open", action=argparse.BooleanOptionalAction, help=_OPEN_HELP)
    _add_dotted_options(compare)
    _add_study(verbs)
    lists = _add(verbs, "list", _list, "Show models, problems, configs and recipes.")
    list_help = "a kind of problem: show its recipes, one line for each model"
    lists.add_argument("problem", nargs="?", metavar="PROBLEM", help=list_help)
    _add(verbs, "doctor", _doctor, "Show versions and devices; check that the compiler is right.")
    for verb in verbs.choices.values():
        verb.set_defaults(known=[option for a in verb._actions for option in a.option_strings])
    return parser


def _add_outputs(verbs: Any) -> None:
    decode = _add(verbs, "decode", _decode, "Render a saved run at any resolution.")
    decode.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    size_help = "pixels, or points along each coordinate; default: those of the data"
    decode.add_argument("--size", type=int, nargs="+", metavar="N", help=size_help)
    out_help = "the file to write, for an equation .npz, .nc (NetCDF) or .vti (ParaView); "
    out_help += "default: RUN/decoded.*"
    decode.add_argument("--out", type=Path, help=out_help)
    export = _add(verbs, "export", _export, _EXPORT_HELP)
    export.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    export.add_argument("--to", choices=list(FORMATS), required=True, help="the format")
    out_help = "the file to write; default: RUN/model.* with the suffix of the format"
    export.add_argument("--out", type=Path, metavar="FILE", help=out_help)


def _add_study(verbs: Any) -> None:
    studies = _add(verbs, "study", _study, _STUDY_HELP)
    study_help = "a study file, or a name that `lrnn-jax list` shows"
    studies.add_argument("file", metavar="STUDY", help=study_help)
    folder_help = "the study's folder; default: runs/ and the name of the file"
    studies.add_argument("--out", type=Path, metavar="DIR", help=folder_help)
    plan_help = "show what the study takes, and fit nothing"
    studies.add_argument("--plan", action="store_true", help=plan_help)
    _add_track(studies)
    report = _add(verbs, "report", _report, _REPORT_HELP)
    report.add_argument("folder", type=Path, metavar="STUDY", help="the study's folder")
    out_help = "the page; default: report.html in the folder"
    report.add_argument("--out", type=Path, metavar="FILE", help=out_help)
    for name, what in (("rows", "one row for each fit"), ("summary", "means and success rates")):
        formats = f"{what}, as *.csv, *.md, *.jsonl or *.parquet"
        report.add_argument(f"--{name}", type=Path, metavar="FILE", help=formats)
    report.add_argument("--open", action=argparse.BooleanOptionalAction, help=_OPEN_HELP)


def _add_track(verb: argparse.ArgumentParser) -> None:
    track_help = f"send the metrics to these trackers, too: {', '.join(TRACKERS)}"
    options: dict[str, Any] = {"nargs": "+", "default": [], "metavar": "TRACKER"}
    verb.add_argument("--track", choices=list(TRACKERS), help=track_help, **options)


def _add_dotted_options(verb: argparse.ArgumentParser) -> None:
    for dotted in dotted_options():
        verb.add_argument(
            f"--{dotted}", dest=dotted, nargs="+", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )


def _add(verbs: Any, name: str, action: Any, text: str, **options: Any) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text.partition("\n")[0], description=text, **options)
    verb.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verb.set_defaults(action=action)
    return verb
