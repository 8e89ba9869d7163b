"""The training loop on the host: load, compile, advance, validate, until the training ends.

`Trainer.run` is the only such loop. `solve` drives it in memory; `experiments` drives it with
files, a progress display and signals.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.fields import BoundModel
from lrnn_jax.io import require_memory
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
from lrnn_jax.training.programs import Programs, structural_key
from lrnn_jax.training.settings import Training
from lrnn_jax.typing import Model, Params, Problem

__all__ = [
    "Interval",
    "NonFiniteLossError",
    "Trainer",
    "check_compatible",
    "make_problem_step",
    "precision_context",
]

_CAPACITY = 256  # steps of one call of the compiled loop, at most


class Interval(NamedTuple):
    """What happened between two yields of `Trainer.run`.

    Attributes:
      step: number of updates at its end.
      history: the terms of each of its steps, before the update; each of shape (steps,).
      scores: of the parameters at its end, if they were evaluated.
      seconds: the time that the steps took.
    """

    step: int
    history: dict[str, np.ndarray]
    scores: dict[str, float] | None
    seconds: float


class NonFiniteLossError(InputError):
    """The loss is not finite.

    Args:
      value: of the loss.
      step: its number.
      hint: what to try.
    """

    def __init__(self, value: float, step: int, hint: str) -> None:
        super().__init__(f"the loss became {value} at step {step}; {hint}")
        self.value, self.step, self.hint = value, step, hint


@contextlib.contextmanager
def precision_context(training: Training) -> Iterator[None]:
    """JAX in the precision of the settings: with 64-bit types if it is 'float64'."""
    with jax.enable_x64(training.precision == "float64"):
        yield


class Trainer:
    """One training: the data, the state, and the compiled program that advances the state.

    To be used within `precision_context(training)`.

    Args:
      model: any model.
      problem: any problem.
      training: the settings; `training.seed` draws the start.
      restore: returns a stored state, given the shapes and dtypes of one; None starts anew.

    Attributes:
      data: what `problem.load` gave, on the device.
      state: the current state. `run` moves it on and reuses the memory of the previous one.

    Raises:
      InputError: model, problem and settings do not go together, the data cannot be loaded, or the
        state needs more memory than is free.
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
        self.data = jax.device_put(problem.load())
        self._loop_key = self._keys()[1]
        state = restore(jax.eval_shape(self._start)) if restore else self._start()
        self.state: State = jax.device_put(state)
        self._compiled: Any = None

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(self.state.step)

    @property
    def result(self) -> Result:
        """How the optimizer ended, or RUNNING."""
        return Result(int(result_of(self.state.opt_state)))

    @property
    def stopped_early(self) -> bool:
        """Whether the last `patience` validations brought no improvement."""
        stopping, best = self.training.early_stopping, self.state.best
        return stopping is not None and best is not None and stopping.is_exhausted(best)

    @property
    def ended(self) -> bool:
        """All steps are done, the optimizer has ended, or validation no longer improves."""
        done = self.step >= self.training.steps
        return done or self.result is not Result.RUNNING or self.stopped_early

    @property
    def best(self) -> tuple[int, Params]:
        """The step and the parameters of the best validation; of the last step without one."""
        best = self.state.best
        if best is None or not int(best.step):
            return self.step, self.state.params
        return int(best.step), best.params

    def initial_params(self) -> Params:
        """The parameters that the training started from, drawn again."""
        return self.model.init(self._keys()[0])

    def evaluate(self) -> dict[str, float]:
        """The scores of the current parameters."""
        return self.problem.evaluate(BoundModel(self.model, self.state.params), self.data)

    def compile(self) -> float:
        """Compiles the loop if no equal one is compiled yet, and returns the seconds that it took.

        Programs are shared by trainings that differ in their seed, their number of steps or in what
        the host does between two calls.
        """
        begun = time.perf_counter()
        types = jax.tree.map(jax.typeof, (self.state, self.data, self._loop_key))
        leaves, structure = jax.tree.flatten(types)
        program = (self.model, self.problem, self.training.program())
        key = structural_key(*program, structure, leaves, _jax_settings())

        def compiled() -> Any:
            advance = make_advance(make_problem_step(*program), _CAPACITY)
            return advance.lower(*types, np.int32(1)).compile(compiler_options())

        self._compiled = _PROGRAMS.get(key, compiled)
        return time.perf_counter() - begun

    def run(
        self,
        *,
        score_every: int | None = None,
        pause_every: Sequence[int] = (),
        seconds: float | None = None,
    ) -> Iterator[Interval]:
        """Trains to the end, in intervals.

        An interval ends at the latest where a validation, an evaluation or a pause is due.

        Args:
          score_every: steps between two evaluations; None: at validations only.
          pause_every: numbers of steps, at whose multiples an interval ends.
          seconds: the length of an interval that is aimed at, from its second on; the first is one
            step. None: as many steps as one call of the program takes.

        Yields:
          The steps since the last yield. The caller may stop at any of them.

        Raises:
          NonFiniteLossError: a loss is not finite; nothing is yielded for its interval.
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

    def require_finite_loss(self) -> None:
        """Computes the loss of the current parameters, without an update.

        Raises:
          NonFiniteLossError: it is not finite.
        """
        if self.result is Result.RUNNING:
            copy = jax.tree.map(jnp.copy, self.state)  # the program takes the memory of its state
            history = self._program(copy, self.data, self._loop_key, np.int32(1))[1]
            self._require_finite(self.step, np.asarray(history["loss"])[:1])

    def stop_reason(self) -> str:
        """One sentence: why the training ended, and which parameters it kept."""
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

    def _keys(self) -> jax.Array:
        """The keys of the initial parameters and of the steps."""
        return jax.random.split(jax.random.key(self.training.seed))

    def _start(self) -> State:
        """The state before the first step.

        No two of its arrays share memory, since the program reuses the memory of its state.
        """
        optimizer = self.training.transformation()
        if jax.default_backend() == "cpu" and isinstance(self.model, Network):
            _require_room(self.model, optimizer, self._keys()[0])
        state = initial_state(self.initial_params(), optimizer)
        if isinstance(self.problem, LeastSquares):
            points = self.data if self.problem.resample_every else None
            fixed = self.training.balance == "fixed"
            weights = None if fixed else initial_weights(self.problem, self.data)
            state = state._replace(points=points, weights=weights)
        if self.training.early_stopping is not None:
            state = state._replace(best=initial_best(state.params))
        return jax.tree.map(jnp.copy, state)

    def _advance(self, count: int) -> dict[str, np.ndarray]:
        """Takes `count` steps, or fewer if the optimizer ends, and returns their terms."""
        step = self.step
        self.state, history, done = self._program(
            self.state, self.data, self._loop_key, np.int32(count)
        )
        terms = {name: v[: int(done)] for name, v in jax.device_get(history).items()}
        self._require_finite(step, terms["loss"])
        return terms

    def _require_finite(self, step: int, losses: np.ndarray) -> None:
        """Raises NonFiniteLossError unless the losses of `step` and the steps after it are."""
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            at = step + int(bad[0])
            raise NonFiniteLossError(float(losses[bad[0]]), at, _hint(self.training, at))

    def _validate(self, due: bool) -> dict[str, float] | None:
        """Evaluates and records a validation where they are due; else None."""
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


_PROGRAMS = Programs(16)


def _jax_settings() -> tuple[Any, ...]:
    """The devices, and those settings of JAX under which a program is compiled differently."""
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


def make_problem_step(model: Model, problem: Problem, training: Training) -> Step:
    """The training step that the settings ask for."""
    optimizer, chunk = training.transformation(), training.chunk_points
    if isinstance(problem, LeastSquares):
        return make_least_squares_step(
            model,
            problem,
            optimizer,
            chunk=chunk,
            balance=training.balance,
            balance_every=training.balance_every,
        )
    chunk = None if problem.full_batch_only else chunk
    return make_step(model, problem.loss, optimizer, batch=training.batch, chunk=chunk)


def _require_room(model: Model, optimizer: Any, key: jax.Array) -> None:
    """The state before the first step, and its copy, fit into the free memory.

    A GPU or a TPU refuses what is too large; on a CPU the operating system kills the process.

    Raises:
      InputError: they do not fit.
    """
    what = "the model with the state of its optimiser"
    try:
        state = jax.eval_shape(lambda key: initial_state(model.init(key), optimizer), key)
    except OverflowError as error:  # a size of more than 32 bits
        raise InputError(f"{what} would have more than 2**31 numbers along one axis") from error
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    require_memory(what, 2 * size)


def _hint(training: Training, step: int) -> str:
    """What to try if the loss of `step` is not finite."""
    if step == 0:
        return "try data and model settings of ordinary size, such as omega0"
    if training.optimizer in ("adam", "soap", "adam_lbfgs"):
        return f"try a smaller training.learning_rate than {training.learning_rate:g}"
    return "the data or the residual are not finite there"


def _which(state: State) -> str:
    """Which parameters were kept, if they can be those of a validation."""
    if state.best is None:
        return ""
    if int(state.best.step):
        return f"; the parameters are those of step {int(state.best.step)}, the best validation"
    what = "finite" if int(state.best.num_bad_validations) else "due"
    return f"; no validation was {what}, so that the parameters are the last"


# Compatibility -----------------------------------------------------------------------------------


def check_compatible(model: Model, problem: Problem, training: Training) -> None:
    """The model, the problem and the settings go together.

    Raises:
      InputError: the first thing that does not fit, and what would.
    """
    for name, value, kind in (("model", model, Model), ("problem", problem, Problem)):
        missing = [m for m in dir(kind) if not m.startswith("_") and not hasattr(value, m)]
        if missing:
            raise InputError(
                f"{name}: {type(value).__name__} has no {', '.join(missing)}; inherit from "
                f"lrnn_jax.typing.{kind.__name__} for the defaults"
            )
    for check in (_check_model, _check_settings, _check_squares):
        check(model, problem, training)


def _check_model(model: Model, problem: Problem, training: Training) -> None:
    """The dimensions agree, and the model has the derivatives that the loss takes."""
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
    """The steps suffice, and batches and validation are possible."""
    del model
    steps, kind = training.steps, type(problem).__name__
    if training.optimizer == "adam_lbfgs" and training.switch_at >= steps:
        raise InputError(
            f"switch_at: expected less than the {steps} steps, got {training.switch_at}; "
            "without L-BFGS it is 'adam'"
        )
    if problem.full_batch_only and training.batch is not None:
        raise InputError(f"batch: the loss of {kind} takes all its data at once; leave it out")
    if training.patience is not None and problem.validation_score is None:
        raise InputError(f"patience: {kind} has no validation part; leave it out")
    if training.patience is not None and training.validate_every > steps:
        raise InputError(
            f"validate_every: expected at most the {steps} steps, got {training.validate_every}"
        )


def _check_squares(model: Model, problem: Problem, training: Training) -> None:
    """What needs squared residuals, or draws its own points, gets such a problem."""
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
