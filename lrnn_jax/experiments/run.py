"""One run, start to finish: load, compile, train chunk by chunk, evaluate, render, summarise."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import platform
import signal
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.checks import unrolled
from lrnn_jax.diagnostics import report as diagnose
from lrnn_jax.errors import InputError
from lrnn_jax.experiments.folder import RunFolder
from lrnn_jax.experiments.spec import (
    Experiment,
    experiment_from,
    merge,
    table_of,
    write_table,
)
from lrnn_jax.io import exists, write_curves
from lrnn_jax.io.trees import count_parameters, save_tree
from lrnn_jax.training import (
    Checkpoints,
    HostField,
    State,
    Training,
    Validated,
    arithmetic,
    check_fit,
    compiler_options,
    exported_params,
    final_params,
    has_ended,
    is_overdue,
    is_validation_due,
    make_advance,
    see_validation,
    starting_state,
    step_of,
    trained_model,
    what_may_help,
    why_it_stopped,
)
from lrnn_jax.training.optimizers import stop_code
from lrnn_jax.typing import Data, Model, Params, Problem, Terms

if sys.platform != "win32":
    import resource

__all__ = ["Display", "Outcome", "resume", "start", "unusable"]

_CAPACITY = 256  # steps between two looks of the host, at most
_SOON_COMPILED = 150  # layers or components, in about 20 s on two cores
_LOOK_SECONDS = 0.5  # time between two looks that the number of steps is aimed at


class Display(Protocol):
    """Where a run shows how it goes."""

    def begin(self, step: int, steps: int) -> None:
        """Training starts at `step` of `steps`."""
        ...

    def update(self, step: int, values: dict[str, float], rate: float) -> None:
        """`step` is done; the loss and scores there; steps a second."""
        ...

    def end(self) -> None:
        """Training is over."""
        ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: 'finished', or 'interrupted' and ready to be resumed."""

    status: str
    folder: RunFolder
    summary: dict[str, Any]


@dataclasses.dataclass
class _Job:
    """A compiled run, about to train; `state` moves on."""

    experiment: Experiment
    network: Model
    data: Data
    state: State
    key: jax.Array
    advance: Any
    compile_seconds: float

    @property
    def step(self) -> int:
        """Updates taken so far."""
        return int(self.state.step)

    @property
    def ended(self) -> bool:
        """All steps are done, the optimiser can do no more, or validation is no better."""
        return has_ended(self.state, self.experiment.training)

    @property
    def final_params(self) -> Params:
        """The plain model's parameters that the run ends with."""
        return exported_params(self.network, final_params(self.state)[1])

    def validate(self) -> None:
        """Keeps the parameters if their validation is the best so far."""
        problem = cast(Validated, self.experiment.problem)  # check_fit has seen to it
        params = exported_params(self.network, self.state.params)
        field = HostField(self.experiment.model, params)
        scores = self.experiment.problem.evaluate(field, self.data)
        self.state = see_validation(self.state, problem.to_validate(scores))


def start(experiment: Experiment, path: Path | None, display: Display) -> Outcome:
    """Runs an experiment into a new folder; nothing is written before the first step can be taken.

    Args:
      experiment: the model, the problem and the training.
      path: the folder, which must not exist; None takes the next free one under `runs/`.
      display: where to show progress.

    Raises:
      InputError: unusable input, an existing folder, a loss that is not finite, a full disk.
    """
    if path is not None and exists(path):
        raise InputError(f"{path} exists: name another folder, or use --resume")
    with arithmetic(experiment.training), contextlib.ExitStack() as held:
        job = _compile(experiment, None)
        folder = RunFolder.create(path, experiment)
        try:
            held.enter_context(folder.in_use())
            checkpoints = Checkpoints(folder.checkpoints)
            checkpoints.save(job.state)
        except BaseException:
            folder.remove()
            raise
        return _run(job, folder, checkpoints, display)


def resume(folder: RunFolder, training: dict[str, Any], display: Display) -> Outcome:
    """Continues a run from its newest checkpoint, as if it had never stopped.

    Args:
      folder: the run.
      training: fields of its [training] section to change, e.g. more steps.
      display: where to show progress.

    Raises:
      InputError: nothing to continue, a checkpoint of another model, or another process trains it.
    """
    with folder.in_use():
        return _resume(folder, training, display)


def _resume(folder: RunFolder, training: dict[str, Any], display: Display) -> Outcome:
    table = merge(table_of(folder.experiment()), {"training": training})
    experiment = experiment_from(table)
    if not folder.checkpoints.is_dir():
        raise InputError(f"{folder.path} holds no checkpoint: nothing to resume from")
    with arithmetic(experiment.training):
        checkpoints = Checkpoints(folder.checkpoints)
        job = _compile(experiment, checkpoints)
        if job.ended and folder.is_finished(job.step):
            raise InputError(f"{folder.path} has ended: {_what_next(job)}")
        folder.read_metrics()
        write_table(folder.config, table)
        return _run(job, folder, checkpoints, display)


def _what_next(job: _Job) -> str:
    """Why a run ended, and what would take it further."""
    training = job.experiment.training
    if is_overdue(job.state, training):
        why = why_it_stopped(job.state, training)
        return f"{why}; wait for more with --training.patience, or 'none'"
    if job.step >= training.steps:
        return f"it has its {training.steps} steps: ask for more with --training.steps"
    return why_it_stopped(job.state, training)


def _keys(experiment: Experiment) -> tuple[jax.Array, jax.Array]:
    init_key, loop_key = jax.random.split(jax.random.key(experiment.training.seed))
    return init_key, loop_key


def _compile(experiment: Experiment, checkpoints: Checkpoints | None) -> _Job:
    """Loads the data and compiles the loop, from the newest checkpoint or from the start."""
    model, problem, training = experiment.model, experiment.problem, experiment.training
    check_fit(model, problem, training)
    network = trained_model(model, training)
    data = jax.device_put(problem.load())
    init_key, key = _keys(experiment)
    begin = functools.partial(starting_state, network, problem, training, data, init_key)
    if checkpoints is None:
        first = jax.device_put(begin())
    else:
        first = jax.device_put(checkpoints.restore(jax.eval_shape(begin)))
    _warn_of_a_long_compilation(model)
    begun = time.perf_counter()
    arguments = (first, data, key, np.int32(1))
    leaves, structure = jax.tree.flatten(jax.tree.map(jax.typeof, arguments))
    advance = _executable(
        network, problem, training.program(), structure, tuple(leaves), _jax_settings()
    )
    seconds = time.perf_counter() - begun
    return _Job(experiment, network, data, first, key, advance, seconds)


def _warn_of_a_long_compilation(model: Model) -> None:
    count = unrolled(model)
    if count > _SOON_COMPILED:
        print(
            f"lrnn-jax: compiling: {count} layers or components are written out one by one, which "
            "may take minutes; a model of fewer compiles sooner",
            file=sys.stderr,
        )


@functools.lru_cache(maxsize=8)
def _executable(
    model: Model,
    problem: Problem,
    training: Training,
    structure: Any,
    types: tuple[Any, ...],
    settings: tuple[Any, ...],
) -> Any:
    """The compiled loop; runs of an equal spec, resumed ones too, share it within a process.

    Args:
      model: the model.
      problem: what it is fitted to.
      training: of which only what changes the program.
      structure: the tree of the loop's arguments.
      types: its leaves, shapes and dtypes.
      settings: JAX's own, under which programs differ.
    """
    del settings
    arguments = jax.tree.unflatten(structure, types)
    return (
        make_advance(step_of(model, problem, training), _CAPACITY)
        .lower(*arguments)
        .compile(compiler_options())
    )


def _jax_settings() -> tuple[Any, ...]:
    """The devices, and what of JAX's configuration a compiled program depends on."""
    names = (
        "jax_default_device",
        "jax_default_matmul_precision",
        "jax_debug_nans",
        "jax_enable_x64",
    )
    return (*jax.devices(), *(getattr(jax.config, name) for name in names))


def _run(job: _Job, folder: RunFolder, checkpoints: Checkpoints, display: Display) -> Outcome:
    """Trains to the end or to a signal, then scores and summarises."""
    begun_at = job.step
    earlier = folder.rewind_metrics(begun_at)
    before = earlier[-1]["seconds"] if earlier else 0.0
    display.begin(begun_at, job.experiment.training.steps)
    try:
        with _StopOnSignal() as stop:
            spent = _train(job, folder, checkpoints, display, stop, before)
    finally:
        display.end()
    costs = {
        "steps_per_second": (job.step - begun_at) / spent if spent else 0.0,
        "compile_seconds": job.compile_seconds,
        "train_seconds": before + spent,
    }
    return _finish(job, folder, costs)


def _train(
    job: _Job,
    folder: RunFolder,
    checkpoints: Checkpoints,
    display: Display,
    stop: "_StopOnSignal",
    before: float,
) -> float:
    """The host loop; between two calls of `advance`: metrics, progress, a checkpoint, signals.

    Returns the seconds spent in `advance`; `before` are those of earlier sessions of the run.
    """
    training, begun_at, spent, count = job.experiment.training, job.step, 0.0, 1
    while not job.ended and not stop.asked:
        step = job.step
        stops = [training.checkpoint_every]
        stops += [] if training.patience is None else [training.validate_every]
        count = min(count, _CAPACITY, training.steps - step, *(n - step % n for n in stops))
        begun = time.perf_counter()
        job.state, history, done = job.advance(job.state, job.data, job.key, np.int32(count))
        lines = _lines(job, step, jax.device_get(history), int(done))
        took = time.perf_counter() - begun
        spent += took
        for line in lines:
            line["seconds"] = round(before + spent, 3)
        _raise_if_not_finite(job, lines[-1], checkpoints)
        folder.append_metrics(line for line in lines if line["step"] % training.log_every == 0)
        display.update(job.step, lines[-1], (job.step - begun_at) / spent)
        if is_validation_due(job.step, training):
            job.validate()
        if job.step % training.checkpoint_every == 0:
            _save(job, checkpoints)
        count = max(1, round(_LOOK_SECONDS / took * len(lines)))
    _save(job, checkpoints)
    return spent


def _save(job: _Job, checkpoints: Checkpoints) -> None:
    """A checkpoint of the state, once its own loss is known to be finite."""
    if int(stop_code(job.state.opt_state)):
        checkpoints.save(job.state)
        return
    copy = jax.tree.map(jnp.copy, job.state)
    history = job.advance(copy, job.data, job.key, np.int32(1))[1]
    _raise_if_not_finite(job, _lines(job, job.step, jax.device_get(history), 1)[0], checkpoints)
    checkpoints.save(job.state)


def _lines(job: _Job, step: int, history: Terms, done: int) -> list[dict[str, float]]:
    """One line of metrics for each step done: its number, its terms and what they say."""
    rows = [{name: float(values[i]) for name, values in history.items()} for i in range(done)]
    progress = job.experiment.problem.progress
    return [{"step": step + i, **row, **progress(row)} for i, row in enumerate(rows)]


def _raise_if_not_finite(job: _Job, line: dict[str, float], checkpoints: Checkpoints) -> None:
    if math.isfinite(line["loss"]):
        return
    raise InputError(
        f"the loss became {line['loss']} at step {line['step']:.0f}; the last good checkpoint, "
        f"step {checkpoints.latest()}, is in {checkpoints.folder}; "
        f"{what_may_help(job.experiment.training, int(line['step']))}"
    )


def _finish(job: _Job, folder: RunFolder, costs: dict[str, float]) -> Outcome:
    """Scores, pictures, the exported model and the summary; only the summary if interrupted."""
    experiment = job.experiment
    status = "finished" if job.ended else "interrupted"
    stop = why_it_stopped(job.state, experiment.training)
    summary: dict[str, Any] = {"status": status, "step": job.step, "stop": stop}
    summary["params_step"] = final_params(job.state)[0]
    if status == "finished":
        params = job.final_params
        field = HostField(experiment.model, params)
        summary["scores"] = experiment.problem.evaluate(field, job.data)
        made_by = {"version": version("lrnn-jax"), "model": table_of(experiment)["model"]}
        save_tree(folder.params, params, json.dumps(made_by))
        pictures = experiment.problem.render(field, job.data, folder.path)
        summary["pictures"] = [path.name for path in pictures]
        summary["best"] = _draw_curves(folder)
    summary |= {name: round(value, 3) for name, value in costs.items()}
    summary["peak_memory_mb"] = peak_memory_mb()
    summary["parameters"] = count_parameters(job.final_params)
    summary["machine"] = {
        "device": jax.devices()[0].device_kind,
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "lrnn_jax": version("lrnn-jax"),
    }
    if status == "finished":
        summary["diagnostics"] = _diagnose(job, folder)
        summary["diagnostics"]["warnings"] += list(map(_of_score, unusable(summary["scores"])))
    folder.write_summary(summary)
    return Outcome(status, folder, summary)


def _diagnose(job: _Job, folder: RunFolder) -> dict[str, Any]:
    """What the model has learned since its start, which is drawn once more.

    The run is finished by now, and its summary is worth more than this part of it: whatever fails
    here is a warning with its reason.
    """
    try:
        initial = exported_params(job.network, job.network.init(_keys(job.experiment)[0]))
        return diagnose(job.experiment.model, job.final_params, folder.path, initial)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        return {"warnings": [f"no diagnostics: {type(error).__name__}: {reason}"]}


def unusable(scores: dict[str, float]) -> list[str]:
    """The names of the scores that are not finite, but for the +inf dB of a perfect fit."""

    def perfect(name: str, value: float) -> bool:
        return value == math.inf and name.startswith(("psnr", "snr"))

    return [n for n, value in scores.items() if not (math.isfinite(value) or perfect(n, value))]


def _of_score(name: str) -> str:
    return f"{name} is not finite: the field or the data overflow where it is computed"


def _draw_curves(folder: RunFolder) -> dict[str, float]:
    """Writes the training curve and returns the logged line of least loss (oracle-best).

    Nothing where no line was logged, as after the metrics of an earlier session were deleted.
    """
    lines = folder.read_metrics()
    if not lines:
        return {}
    terms = [name for name in lines[0] if name not in ("step", "seconds", "loss")]
    names = ["loss", *terms]
    curves = {name: [line[name] for line in lines] for name in names}
    write_curves(folder.curve, [int(line["step"]) for line in lines], curves, folder.path.name)
    return min(lines, key=lambda line: line["loss"])


def peak_memory_mb() -> float | None:
    """The largest resident size of this process so far, in MB (10^6 bytes); None on Windows."""
    if sys.platform == "win32":
        return None
    status = Path("/proc/self/status")  # on Linux, which hands a parent's ru_maxrss to its children
    lines = status.read_text().splitlines() if status.exists() else []
    own = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    if own:
        return round(int(own[0]) * 1024 / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


class _StopOnSignal:
    """Ctrl-C and SIGTERM ask the loop to stop after its step; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, Any] = {}

    def _ask(self, number: int, frame: Any) -> None:
        del frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> "_StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
