"""The training loop on the host: load, compile, advance and validate until training ends.

`Trainer.run` is the only such loop. `solve` calls it and keeps all results in memory. `experiments`
calls it and adds files, a progress display and the handling of signals.
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.checks import missing_members
from lrnn_jax.errors import InputError
from lrnn_jax.fields import BoundModel
from lrnn_jax.io import available_memory, require_memory
from lrnn_jax.models.network import Network
from lrnn_jax.models.separable import Spinn
from lrnn_jax.optimizers import Result, result_of
from lrnn_jax.training.early_stopping import initial_best
from lrnn_jax.training.least_squares import (
    LeastSquares,
    initial_weights,
    make_least_squares_step,
)
from lrnn_jax.training.loop import (
    State,
    Step,
    compiler_options,
    initial_state,
    make_advance,
    make_step,
)
from lrnn_jax.training.points import PointSharding, automatic, over_all_devices, point_sharding
from lrnn_jax.training.programs import Programs, count_compilation, structural_key
from lrnn_jax.training.settings import Numbers, Training
from lrnn_jax.trees import count_bytes
from lrnn_jax.typing import Data, Key, Model, Params, Problem, Terms

__all__ = [
    "Interval",
    "NonFiniteLossError",
    "Trainer",
    "check_compatible",
    "make_problem_step",
    "precision_context",
]

_CAPACITY = 256  # largest number of steps in one call of the compiled loop


class Interval(NamedTuple):
    """The steps between two yields of `Trainer.run`.

    Attributes:
      step: number of updates at the end of the interval.
      history: the loss and its terms at each step before the update, each of shape (steps,).
      scores: scores of the parameters at the end; None if they were not evaluated.
      seconds: time that the steps took, without the evaluation.
    """

    step: int
    history: dict[str, np.ndarray]
    scores: dict[str, float] | None
    seconds: float


class NonFiniteLossError(InputError):
    """The loss is not finite.

    Args:
      value: value of the loss.
      step: number of updates before it.
      hint: suggestion for the user.
    """

    def __init__(self, value: float, step: int, hint: str) -> None:
        super().__init__(f"the loss became {value} at step {step}; {hint}")
        self.value, self.step, self.hint = value, step, hint


@contextlib.contextmanager
def precision_context(training: Training) -> Iterator[None]:
    """Enable JAX's 64-bit types within the context if `training.precision` is 'float64'."""
    with jax.enable_x64(training.precision == "float64"):
        yield


class Trainer:
    """One training run: the data, the state, and the compiled program that advances the state.

    Create and use it within `precision_context(training)`.

    Args:
      model: any model.
      problem: any problem.
      training: the settings; `training.seed` determines the initial parameters.
      restore: restore(template) -> a stored state, where the template has the shapes and dtypes of
        the state; None starts from new parameters.

    Attributes:
      data: the result of `problem.load`, on the device.
      state: the current state. `run` replaces it, and donates the previous state to the program.

    Raises:
      InputError: model, problem and settings are incompatible, the data cannot be loaded, or the
        state needs more memory than is free. `compile` raises it if the training step does.
    """

    def __init__(
        self,
        model: Model,
        problem: Problem,
        training: Training,
        restore: Callable[[State], State] | None = None,
    ) -> None:
        check_compatible(model, problem, training)
        self.model, self.problem, self.training = model, problem, training
        self.data = automatic(jax.device_put(problem.load()))
        points = problem.loss_data(self.data)
        self._sharding = over_all_devices() if training.data_parallel else point_sharding(points)
        self._inputs = self._placed((points, training.numbers()))
        self._loop_key = self._placed(training.keys()[1])
        self.state: State = self._placed(
            self._start() if restore is None else restore(self._start(shapes_only=True))
        )
        self._compiled: Any = None

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(self.state.step)

    @property
    def result(self) -> Result:
        """Why the optimizer stopped, or RUNNING."""
        return Result(int(result_of(self.state.opt_state)))

    @property
    def stopped_early(self) -> bool:
        """Whether none of the last `patience` validations was an improvement."""
        stopping, best = self.training.early_stopping, self.state.best
        return stopping is not None and best is not None and stopping.is_exhausted(best)

    @property
    def ended(self) -> bool:
        """Whether all steps are done, the optimizer has stopped, or early stopping applies."""
        done = self.step >= self.training.steps
        return done or self.result is not Result.RUNNING or self.stopped_early

    @property
    def best(self) -> tuple[int, Params]:
        """The step and the parameters of the best validation, or the last ones without any."""
        best = self.state.best
        if best is None or not int(best.step):
            return self.step, self._local(self.state.params)
        return int(best.step), self._local(best.params)

    def initial_params(self) -> Params:
        """Draw the initial parameters again."""
        return self.model.init(self.training.keys()[0])

    def evaluate(self) -> dict[str, float]:
        """Return the scores of the current parameters."""
        field = BoundModel(self.model, self._local(self.state.params))
        return self.problem.evaluate(field, self.data)

    def compile(self) -> float:
        """Compile the loop, or reuse an equal compiled one, and return the seconds that it took.

        Training runs share a program if their data have equal shapes and they differ only in the
        fields that `Problem.program` and `Training.program` reset: where the data come from, the
        seed, the learning rate and its decay, the number of steps, the intervals of logging,
        checkpoints and validation.

        Raises:
          InputError: the step needs more memory than is free on the device.
        """
        begun = time.perf_counter()
        types = jax.tree.map(_type, (self.state, self._inputs, self._loop_key))
        program = (self.model, self.problem.program(), self.training.program(), self._sharding)

        def step(state: State, inputs: tuple[Data, Numbers], key: Key) -> tuple[State, Terms]:
            data, numbers = inputs
            return make_problem_step(*program, numbers)(state, data, key)

        def compiled() -> Any:
            count_compilation()
            shardings = jax.tree.map(lambda leaf: leaf.sharding, types[0])
            advance = make_advance(step, _CAPACITY, shardings)
            return advance.lower(*types, np.int32(1)).compile(compiler_options())

        program_key = _program_key("advance", program, types)
        self._compiled = _PROGRAMS.get(program_key, compiled)
        _require_working_memory(self._compiled, self.problem, self.training)
        return time.perf_counter() - begun

    def run(
        self,
        *,
        score_every: int | None = None,
        pause_every: Sequence[int] = (),
        seconds: float | None = None,
    ) -> Iterator[Interval]:
        """Train until the end, and yield after each interval of steps.

        An interval ends at the latest at a step where a validation, an evaluation or a pause is
        due.

        Args:
          score_every: number of steps between two evaluations; None evaluates at validations only.
          pause_every: numbers of steps; an interval ends at each multiple of one of them.
          seconds: target duration of an interval. The first interval is a single step, from which
            the number of steps of the next one is estimated. None uses the capacity of the program,
            256 steps.

        Yields:
          The steps since the last yield. The caller may stop iterating at any time.

        Raises:
          NonFiniteLossError: a loss is not finite; its interval is not yielded.
        """
        periods = [n for n in (score_every, *pause_every) if n is not None]
        periods += [self.training.validate_every] if self.training.early_stopping else []
        count = _CAPACITY if seconds is None else 1
        while not self.ended:
            step = self.step
            left = self.training.steps - step
            count = min(count, _CAPACITY, left, *(n - step % n for n in periods))
            begun = time.perf_counter()
            history = self._advance(count)
            took = time.perf_counter() - begun
            due = score_every is not None and self.step % score_every == 0
            yield Interval(self.step, history, self._validate(due), took)
            done = self.step - step
            count = _CAPACITY if seconds is None else max(1, round(seconds / took * done))

    def terms(self) -> dict[str, float]:
        """Compute the loss and the terms of the current parameters without an update.

        Returns:
          The values, empty if the optimizer has stopped.

        Raises:
          NonFiniteLossError: the loss is not finite.
        """
        if self.result is not Result.RUNNING:
            return {}
        copies = _copies(self.state)  # the program donates its argument
        history = self._program(copies, self._inputs, self._loop_key, np.int32(1))[1]
        terms = {name: np.asarray(values)[:1] for name, values in history.items()}
        self._require_finite(self.step, terms["loss"])
        return {name: float(values[0]) for name, values in terms.items()}

    def stop_reason(self) -> str:
        """Return one sentence: why training ended, and which parameters were kept."""
        step, best = self.step, self.state.best
        if self.result is not Result.RUNNING:
            return f"after {step} steps: {self.result.message}{_which(self.state)}"
        if best is not None and self.stopped_early:
            count = int(best.num_bad_validations)
            return f"after {step} steps: {count} validations no better{_which(self.state)}"
        if step >= self.training.steps:
            return f"all {self.training.steps} steps are done{_which(self.state)}"
        return f"interrupted after {step} steps"

    @property
    def _program(self) -> Any:
        """The compiled loop."""
        if self._compiled is None:
            self.compile()
        return self._compiled

    def _start(self, shapes_only: bool = False) -> State:
        """Return the state before the first step, computed by one program, or its shapes.

        No two of its arrays share memory: the loop donates its state, and the same buffer cannot be
        donated twice.
        """
        if jax.default_backend() == "cpu" and isinstance(self.model, Network):
            _require_room(self.model, self.training.transformation(), self.training.keys()[0])
        program = (self.model, self.problem.program(), self.training.program())
        stops_early = self.training.early_stopping is not None
        first = functools.partial(first_state, *program, stops_early)
        inputs = (self._placed(self.training.keys()), self._inputs[0])
        if shapes_only:
            return jax.eval_shape(first, *inputs)
        types = jax.tree.map(_type, inputs)
        start = _PROGRAMS.get(
            _program_key("start", (*program, stops_early), types),
            lambda: jax.jit(first, compiler_options=_start_options()),
        )
        return _copies(start(*inputs))

    def _placed(self, tree: Any) -> Any:
        """Copy arrays to the devices of this run."""
        return self._sharding.place(tree) if self._sharding else jax.device_put(tree)

    def _local(self, params: Params) -> Params:
        """Copies of parameters, which are equal on all devices, on one device of this process."""
        if self._sharding is None:
            return params
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), params)

    def _advance(self, count: int) -> dict[str, np.ndarray]:
        """Take `count` steps, or fewer if the optimizer stops, and return their terms."""
        step = self.step
        self.state, history, done = self._program(
            self.state, self._inputs, self._loop_key, np.int32(count)
        )
        terms = {name: v[: int(done)] for name, v in jax.device_get(history).items()}
        self._require_finite(step, terms["loss"])
        return terms

    def _require_finite(self, step: int, losses: np.ndarray) -> None:
        """Check that `losses`, those of `step` and the following steps, are finite.

        Raises:
          NonFiniteLossError: a loss is not finite.
        """
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            at = step + int(bad[0])
            raise NonFiniteLossError(float(losses[bad[0]]), at, _hint(self.training, at))

    def _validate(self, due: bool) -> dict[str, float] | None:
        """Evaluate if an evaluation is `due`, or if a validation is; record the validation.

        Returns:
          The scores, or None if neither is due.
        """
        stopping, state = self.training.early_stopping, self.state
        validated = stopping is not None and stopping.is_due(self.step)
        if not (due or validated):
            return None
        scores = self.evaluate()
        if stopping is not None and state.best is not None and validated:
            name = self.problem.validation_score
            value = math.nan if name is None else scores[name]
            best = stopping.update(state.best, state.params, state.step, value)
            self.state = state._replace(best=best)
        return scores


_PROGRAMS = Programs(32)


def _start_options() -> dict[str, Any]:
    """The XLA options of a program that runs once: on a CPU it is compiled without optimisations.

    They would take longer than the program: up to 0.6 s, where the program takes 0.02 s more
    without them for 500,000 parameters. The bits were the same for all kinds of models tried.
    """
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}


@jax.jit
def _copies(tree: Any) -> Any:
    """Copies of all arrays, made by one program."""
    return jax.tree.map(jnp.copy, tree)


def _program_key(name: str, program: tuple[Any, ...], types: Any) -> Hashable | None:
    """The key of a compiled function: what it computes, the types of its arguments, and JAX."""
    leaves, structure = jax.tree.flatten(types)
    return structural_key(name, *program, structure, leaves, _jax_settings())


def _type(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    """The type of an array and the devices to which it is bound, if it is bound to any."""
    kind = jax.typeof(leaf)
    sharding = leaf.sharding if leaf.committed else None
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype, sharding=sharding, weak_type=kind.weak_type)


def first_state(
    model: Model,
    problem: Problem,
    training: Training,
    stops_early: bool,
    keys: jax.Array,
    data: Data,
) -> State:
    """Compute the state before the first step with the keys of `training.keys()`."""
    optimizer = training.transformation(key=keys[2])
    state = initial_state(model.init(keys[0]), optimizer)
    if isinstance(problem, LeastSquares):
        points = data if problem.resample_every else None
        weights = None if training.balance == "fixed" else initial_weights(problem, data)
        state = state._replace(points=points, weights=weights)
    return state._replace(best=initial_best(state.params)) if stops_early else state


def _jax_settings() -> tuple[Any, ...]:
    """Return the devices and the JAX settings that affect compilation, for the program's key."""
    names = (
        "jax_default_device",
        "jax_default_matmul_precision",
        "jax_default_prng_impl",
        "jax_debug_nans",
        "jax_debug_infs",
        "jax_enable_x64",
        "jax_numpy_dtype_promotion",
        "jax_threefry_partitionable",
    )
    return (*jax.devices(), *(getattr(jax.config, name) for name in names))


def make_problem_step(
    model: Model,
    problem: Problem,
    training: Training,
    sharding: PointSharding | None = None,
    numbers: Numbers | None = None,
) -> Step:
    """Build the training step for a model, a problem and the settings.

    Args:
      model: any model.
      problem: any problem.
      training: the settings.
      sharding: the devices that share the points of a step, if the loss is a mean over points.
      numbers: values in place of those of `training.numbers()`, which may be traced.
    """
    optimizer, chunk = training.transformation(numbers), training.chunk_points
    if isinstance(problem, LeastSquares):
        return make_least_squares_step(
            model,
            problem,
            optimizer,
            chunk=chunk,
            sharding=sharding,
            balance=training.balance,
            balance_every=training.balance_every,
        )
    if problem.full_batch_only:
        return make_step(model, problem.loss, optimizer)
    return make_step(
        model, problem.loss, optimizer, batch=training.batch, chunk=chunk, sharding=sharding
    )


def _require_room(model: Model, optimizer: Any, key: jax.Array) -> None:
    """Check that the initial state and its copy fit into the free memory.

    This check is for CPUs, where the operating system kills a process that takes too much memory.
    On a GPU or a TPU, the allocation raises an error.

    Raises:
      InputError: they do not fit.
    """
    what = "the model with the state of its optimiser"
    try:
        state = jax.eval_shape(lambda key: initial_state(model.init(key), optimizer), key)
    except OverflowError as error:  # a size of more than 32 bits
        raise InputError(f"{what} would have more than 2**31 numbers along one axis") from error
    require_memory(what, 2 * count_bytes(state))


def _require_working_memory(program: Any, problem: Problem, training: Training) -> None:
    """Check that the intermediate arrays of a compiled program fit into the free memory.

    Raises:
      InputError: they do not fit.
    """
    sizes = program.memory_analysis()
    if sizes is None:  # the platform does not report it
        return
    num_bytes = sizes.temp_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    fewer = f"set training.chunk to fewer than {training.chunk_points} points"
    advice = "take less data" if problem.full_batch_only else fewer
    advice += ", or take a smaller model"
    require_memory("a training step", num_bytes, _free_on_device, advice)


def _free_on_device() -> int | None:
    """Bytes that a program can still allocate on its device; None if that is unknown."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return available_memory()
    stats = device.memory_stats() or {}
    return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None


def _hint(training: Training, step: int) -> str:
    """Return a suggestion for the case that the loss of `step` is not finite."""
    if step == 0:
        return "try data and model settings of ordinary size, such as omega0"
    if training.optimizer in ("adam", "soap", "adam_lbfgs"):
        return f"try a smaller training.learning_rate than {training.learning_rate:g}"
    return "the data or the residual are not finite there"


def _which(state: State) -> str:
    """Say which parameters were kept; empty without early stopping."""
    if state.best is None:
        return ""
    if int(state.best.step):
        return f"; the parameters are those of step {int(state.best.step)}, the best validation"
    what = "finite" if int(state.best.num_bad_validations) else "due"
    return f"; no validation was {what}, so that the parameters are the last"


# Compatibility -----------------------------------------------------------------------------------


def check_compatible(model: Model, problem: Problem, training: Training) -> None:
    """Check that the model, the problem and the settings are compatible.

    Raises:
      InputError: they are not; the message names the first conflict and a valid choice.
    """
    for name, value, kind in (("model", model, Model), ("problem", problem, Problem)):
        if isinstance(value, type):
            raise InputError(f"{name}: expected a {value.__name__}(...), got the class itself")
        missing = missing_members(value, kind)
        if missing:
            raise InputError(
                f"{name}: {type(value).__name__} has no {', '.join(missing)}; inherit from "
                f"lrnn_jax.typing.{kind.__name__} for the defaults"
            )
    for check in (_check_model, _check_settings, _check_squares):
        check(model, problem, training)


def _check_model(model: Model, problem: Problem, training: Training) -> None:
    """Check that the dimensions agree and that the model is as smooth as the loss requires."""
    if (model.in_dim, model.out_dim) != (problem.in_dim, problem.out_dim):
        name = "in_dim" if model.in_dim != problem.in_dim else "out_dim"
        ours, theirs = getattr(model, name), getattr(problem, name)
        raise InputError(f"model.{name} is {ours} but the problem has {theirs}: leave it out")
    if problem.order >= 2 and model.smoothness < problem.order:
        raise InputError(
            f"model: {type(model).__name__} has {model.smoothness:g} continuous derivatives and "
            f"{type(problem).__name__} takes {problem.order}: take a smooth model, such as Siren, "
            "or a smooth activation, such as 'sin'"
        )
    if training.weight_factorization and isinstance(model, Spinn):
        raise InputError("weight_factorization: a Spinn's matrices are stacks by coordinate")


def _check_settings(model: Model, problem: Problem, training: Training) -> None:
    """Check the number of steps, and whether the problem supports batches and validation."""
    del model
    steps, kind = training.steps, type(problem).__name__
    if training.optimizer == "adam_lbfgs" and training.switch_at >= steps:
        raise InputError(
            f"switch_at: expected less than the {steps} steps, got {training.switch_at}; "
            "without L-BFGS it is 'adam'"
        )
    if problem.full_batch_only and training.batch is not None:
        raise InputError(f"batch: the loss of {kind} takes all its data at once; leave it out")
    if problem.full_batch_only and training.data_parallel:
        raise InputError(f"data_parallel: the loss of {kind} is no mean over points; leave it out")
    if training.patience is not None and problem.validation_score is None:
        raise InputError(f"patience: {kind} has no validation part; leave it out")
    if training.patience is not None and training.validate_every > steps:
        raise InputError(
            f"validate_every: expected at most the {steps} steps, got {training.validate_every}"
        )


def _check_squares(model: Model, problem: Problem, training: Training) -> None:
    """Check settings that require, or exclude, a problem of squared residuals."""
    del model
    kind = type(problem).__name__
    if isinstance(problem, LeastSquares):
        if training.batch is not None:
            raise InputError(f"batch: {kind} draws its own points; set problem.points instead")
    elif training.needs_squares:
        raise InputError(
            f"optimizer: {training.optimizer!r} needs a problem of squared residuals, and {kind} "
            "gives its loss alone; take 'adam', 'soap' or 'lbfgs'"
        )
    elif training.balance != "fixed":
        raise InputError(
            f"balance: {training.balance!r} needs a problem of squared residuals, and {kind} gives "
            "its loss alone; leave it 'fixed'"
        )
