"""Train a block of members by one program.

The program maps the loop of a single fit over the members: over the devices with `jax.shard_map`,
and on each device with `jax.lax.map`, `width` members at a time with `jax.vmap`. A member that has
ended takes no further steps. If there are fewer members than devices, several devices may share the
points of one member (`Training.data_parallel`), as in a single fit.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lrnn_jax.experiments.spec import Experiment
from lrnn_jax.fields import BoundModel
from lrnn_jax.metrics import higher_is_better
from lrnn_jax.optimizers import Result, result_of
from lrnn_jax.training import Best, State, Training, compiler_options
from lrnn_jax.training.driver import first_state, make_problem_step
from lrnn_jax.training.early_stopping import initial_best
from lrnn_jax.training.loop import advance_steps
from lrnn_jax.training.points import PointSharding
from lrnn_jax.training.programs import count_compilation, structural_key
from lrnn_jax.typing import Data, Model, Params, Problem

__all__ = ["Fitted", "Goals", "Program", "fastest_program", "fit_block", "program_key"]

_CAPACITY = 256  # largest number of steps in one call of a program
_CURVE = 100  # points of a curve


def program_key(experiment: Experiment, shapes: Data) -> Any:
    """Members with equal keys are trained by one program."""
    training = experiment.training
    program = (experiment.model, experiment.problem.program(), training.program())
    leaves, structure = jax.tree.flatten(jax.tree.map(lambda leaf: leaf.shape, shapes))
    return structural_key(*program, training.steps, training.patience, leaves, structure)


class Program:
    """The compiled program of a group of members.

    Create and use it within `precision_context(training)`.

    Args:
      experiment: one of the members.
      size: number of members of a block; it is rounded up to a multiple of the groups of devices.
        With `training.data_parallel`, there are as many groups as members, or slightly more so that
        the groups are equally large, and the devices of a group share the points of a step.
        Otherwise, and if there are as many members as devices, each device is a group.
      width: number of members of a device that are trained at the same time; at most all of them.
    """

    def __init__(self, experiment: Experiment, size: int, width: int = 1) -> None:
        self.experiment = experiment
        devices = jax.local_devices()  # hosts share the blocks of a study, and nothing else
        groups = len(devices)
        if experiment.training.data_parallel:
            groups = min((n for n in range(size, groups) if groups % n == 0), default=groups)
        per_group = math.ceil(size / groups)
        # One member is not batched: `jax.vmap` is slower, and JAX cannot lower the index of a
        # device within it if the points are shared.
        self.size, self.width = per_group * groups, min(width, per_group)
        self._mesh = Mesh(np.asarray(devices).reshape(groups, -1), ("members", "points"))
        shared = PointSharding(self._mesh, ("points",), stored=False)
        self._sharding = shared if shared.size > 1 else None
        self._spread = NamedSharding(self._mesh, PartitionSpec("members"))
        self._advance: Any = None
        self._start = jax.jit(self._mapped(self._first))

    def start(self, members: Sequence["_Member"]) -> tuple[State, Any, jax.Array]:
        """Place the members on the devices, and compile the program if it is not compiled yet.

        Returns:
          The states before the first step, the data and the numbers, and the keys of the steps. The
          last member is repeated until the block is full.
        """
        filled = [*members, *[members[-1]] * (self.size - len(members))]
        data = self._place([member.problem.loss_data(member.data) for member in filled])
        numbers = self._place([member.training.numbers() for member in filled])
        keys = self._place([jax.random.key_data(member.training.keys()) for member in filled])
        keys = jax.random.wrap_key_data(keys)
        state, loop_keys = self._start(keys, data)
        inputs = (data, numbers)
        if self._advance is None:
            count_compilation()
            counts = jax.device_put(np.zeros(self.size, np.int32), self._spread)
            mapped = jax.jit(self._mapped(self._steps), donate_argnums=0)
            lowered = mapped.lower(state, inputs, loop_keys, counts)
            self._advance = lowered.compile(compiler_options())
        return state, inputs, loop_keys

    def advance(self, state: State, inputs: Any, keys: jax.Array, counts: np.ndarray) -> Any:
        """Take `counts` steps of each member, at most 256; return states, terms and steps taken."""
        return self._advance(state, inputs, keys, jax.device_put(counts, self._spread))

    def _place(self, members: Sequence[Any]) -> Any:
        """Stack trees of arrays, one for each member, and spread them over the devices."""
        stacked = jax.tree.map(lambda *leaves: np.stack(list(map(np.asarray, leaves))), *members)
        return jax.device_put(stacked, self._spread)

    def _mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function of one member, for a block of members."""

        def local(*members: Any) -> Any:
            # A batch of one would be a `jax.vmap`, which is slower on a CPU.
            width = None if self.width == 1 else self.width
            return lax.map(lambda member: function(*member), members, batch_size=width)

        spec = PartitionSpec("members")
        # Members do not communicate: the types of the checks, which loops in optimizers do not
        # have, are not needed.
        axes = {"members"} if self._sharding else set(self._mesh.axis_names)
        return jax.shard_map(
            local,
            mesh=self._mesh,
            in_specs=spec,
            out_specs=spec,
            axis_names=axes,
            check_vma=False,
        )

    def _parts(self) -> tuple[Model, Problem, Training]:
        experiment = self.experiment
        return experiment.model, experiment.problem.program(), experiment.training.program()

    def _first(self, keys: jax.Array, data: Data) -> tuple[State, jax.Array]:
        # Early stopping keeps its parameters on the host.
        return first_state(*self._parts(), False, keys, data), keys[1]

    def _steps(self, state: State, inputs: Any, key: jax.Array, count: jax.Array) -> Any:
        def step(state: State, inputs: Any, key: jax.Array) -> Any:
            data, numbers = inputs
            return make_problem_step(*self._parts(), self._sharding, numbers)(state, data, key)

        advance = functools.partial(advance_steps, step, _CAPACITY)
        if self._sharding:
            # With its checks on, JAX averages the gradient of the loss that a line search
            # differentiates (`require_checks`). Loops in optimizers pass them here, because their
            # values are equal on all devices of a member.
            everywhere = PartitionSpec()
            advance = jax.shard_map(
                advance, in_specs=everywhere, out_specs=everywhere, axis_names={"points"}
            )
        return advance(state, inputs, key, count)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """The result of one member.

    Attributes:
      params: the fitted parameters; with early stopping, those of the best validation.
      scores: the result of `problem.evaluate` for these parameters.
      main_score: the name of the problem's main score; None if it has none.
      steps: number of steps taken.
      loss: the loss before the last step.
      diverged: whether the loss is not finite.
      reached: the first step at which each target was reached; None if it was not.
      curve: (step, loss before its update, main score) at about a hundred steps; NaN where a value
        is not known.
    """

    params: Params
    scores: dict[str, float]
    main_score: str | None
    steps: int
    loss: float
    diverged: bool
    reached: list[int | None]
    curve: list[tuple[int, float, float]]


@dataclasses.dataclass(frozen=True)
class Goals:
    """What a study records of its members, and when they end.

    Attributes:
      targets: values of the main score.
      every: number of steps between two evaluations; None is a twentieth of the steps.
      stop: whether a member ends when it has reached all targets.
    """

    targets: tuple[float, ...] = ()
    every: int | None = None
    stop: bool = False


class _Member:
    """One member while it is trained: what is recorded of it, and whether it has ended."""

    def __init__(self, experiment: Experiment, goals: Goals) -> None:
        self.problem, self.training = experiment.problem, experiment.training
        self.model, self.goals = experiment.model, goals
        self.data = self.problem.load()
        self.main = self.problem.main_score
        self.reached: list[int | None] = [None] * len(goals.targets)
        self.curve: list[tuple[int, float, float]] = []
        self.step, self.loss, self.diverged = 0, math.nan, False
        self.best: Best | None = None
        # The mean loss of all points determines the score, that of a batch only estimates it.
        known = self.main in self.problem.progress({"loss": 1.0})
        partial = self.training.batch is not None or getattr(self.problem, "hold_out", 0)
        self.by_loss = known and not partial

    def count(self, running: bool) -> int:
        """The number of steps until something is due; 0 if the member has ended."""
        steps, stopping = self.training.steps, self.training.early_stopping
        met = self.goals.stop and None not in self.reached
        exhausted = stopping and self.best and stopping.is_exhausted(self.best)
        if not running or self.diverged or met or exhausted:
            return 0
        periods = [] if self.by_loss or not self.goals.targets else [self._interval]
        periods += [self.training.validate_every] if stopping else []
        return min(_CAPACITY, steps - self.step, *(n - self.step % n for n in periods))

    @property
    def _interval(self) -> int:
        return self.goals.every or max(1, self.training.steps // 20)

    def record(self, terms: dict[str, np.ndarray]) -> None:
        """Record the terms of further steps."""
        every = max(1, self.training.steps // _CURVE)
        for index, loss in enumerate(terms["loss"].tolist()):
            step, value = self.step + index, math.nan
            due = step % every == 0
            if self.by_loss and (due or None in self.reached):
                known = {name: float(values[index]) for name, values in terms.items()}
                value = self.problem.progress(known)[self.main or ""]
                self._reach(step, value)
            if due:
                self.curve.append((step, loss, value))
            self.loss, self.diverged = loss, self.diverged or not math.isfinite(loss)
        self.step += len(terms["loss"])

    def is_due(self) -> bool:
        """Whether an evaluation is due after this step."""
        stopping = self.training.early_stopping
        validation = stopping is not None and stopping.is_due(self.step)
        scored = bool(self.goals.targets) and not self.by_loss
        return not self.diverged and (validation or (scored and self.step % self._interval == 0))

    def evaluate(self, params: Params) -> None:
        """Record the scores of parameters, and the best validation."""
        scores = self._scores(params)
        self._score(scores)
        stopping, name = self.training.early_stopping, self.problem.validation_score
        if stopping is not None and name is not None and stopping.is_due(self.step):
            best = self.best or initial_best(params)
            step = jnp.asarray(self.step, jnp.int32)
            self.best = stopping.update(best, params, step, scores[name])

    def result(self, params: Params) -> Fitted:
        """The result, with the last parameters or those of the best validation."""
        if self.best is not None and int(self.best.step):
            params = jax.device_get(self.best.params)
        scores = self._scores(params)
        self._score(scores)
        return Fitted(
            params=params,
            scores=scores,
            main_score=self.main,
            steps=self.step,
            loss=self.loss,
            diverged=self.diverged,
            reached=self.reached,
            curve=self.curve,
        )

    def _scores(self, params: Params) -> dict[str, float]:
        return self.problem.evaluate(BoundModel(self.model, params), self.data)

    def _score(self, scores: dict[str, float]) -> None:
        value = math.nan if self.main is None else scores[self.main]
        self._reach(self.step, value)
        self.curve.append((self.step, math.nan, value))

    def _reach(self, step: int, value: float) -> None:
        larger = self.main is not None and higher_is_better(self.main)
        for index, target in enumerate(self.goals.targets):
            good = value >= target if larger else value <= target
            if good and self.reached[index] is None:
                self.reached[index] = step


def fit_block(
    program: Program, experiments: Sequence[Experiment], goals: Goals | None = None
) -> tuple[list[Fitted], float]:
    """Train members of one program.

    Args:
      program: the program.
      experiments: the members, at most `program.size`.
      goals: what is recorded; None is the losses and the scores at the end.

    Returns:
      The results, and the seconds that all steps took, without compilation and evaluations.
    """
    members = [_Member(experiment, goals or Goals()) for experiment in experiments]
    state, inputs, keys = program.start(members)
    seconds = 0.0
    while True:
        running = np.asarray(_results(state)) == Result.RUNNING
        counts = np.zeros(program.size, np.int32)
        for index, member in enumerate(members):
            counts[index] = member.count(bool(running[index]))
        if not counts.any():
            break
        begun = time.perf_counter()
        state, history, done = program.advance(state, inputs, keys, counts)
        history, done = jax.device_get((history, done))
        seconds += time.perf_counter() - begun
        for index, member in enumerate(members):
            member.record({name: terms[index, : done[index]] for name, terms in history.items()})
        due = [i for i, member in enumerate(members) if counts[i] and member.is_due()]
        params = jax.device_get(state.params) if due else None
        for index in due:
            members[index].evaluate(_of(params, index))
    params = jax.device_get(state.params)
    return [member.result(_of(params, index)) for index, member in enumerate(members)], seconds


def fastest_program(
    experiments: Sequence[Experiment], widths: Sequence[int] = (1, 4, 16, 64)
) -> Program:
    """The program of a block at the width at which its steps are fastest.

    Widths are tried in ascending order, each with twice 8 steps, until one is slower than the one
    before, or does not fit into the memory of a device. Use it within `precision_context`.

    Args:
      experiments: the members.
      widths: the widths, those above the number of members of a device are left out.
    """
    count, members = len(experiments), [_Member(e, Goals()) for e in experiments]
    fastest, seconds = Program(experiments[0], count, 1), math.inf
    per_device = fastest.size // jax.local_device_count()
    for width in (width for width in widths if width <= max(1, per_device)):
        program = Program(experiments[0], count, width)
        try:
            spent = _seconds_of_steps(program, members)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            break
        if spent > seconds:
            break
        fastest, seconds = program, spent
    return fastest


def _seconds_of_steps(program: Program, members: Sequence["_Member"]) -> float:
    """The seconds of 8 steps of all members; the program is compiled and run once before."""
    state, inputs, keys = program.start(members)
    counts = np.full(program.size, min(8, members[0].training.steps // 2), np.int32)
    for _ in range(2):
        begun = time.perf_counter()
        state, _, done = program.advance(state, inputs, keys, counts)
        jax.block_until_ready(done)
    return time.perf_counter() - begun


def _of(tree: Any, index: int) -> Any:
    """The arrays of one member."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


@jax.jit
def _results(state: State) -> jax.Array:
    return jax.vmap(lambda state: result_of(state.opt_state))(state)
