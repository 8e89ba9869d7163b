"""A whole training as one call, for use from Python."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.training.loop import compiler_options, make_advance
from lrnn_jax.training.optimizers import stop_code, stop_reason
from lrnn_jax.training.predict import HostField
from lrnn_jax.training.settings import Training
from lrnn_jax.training.start import (
    check_fit,
    exported_params,
    starting_state,
    step_of,
    trained_model,
)
from lrnn_jax.typing import Model, Params, Problem

__all__ = ["Solution", "arithmetic", "solve", "what_may_help", "why_it_stopped"]


class Solution(NamedTuple):
    """What `solve` found.

    Attributes:
      params: the parameters of the model.
      field: the network, point by point or in batches: u of `problem.solution(field)`.
      scores: of the last step, as `problem.evaluate` gives them.
      trail: (step, scores) of every evaluation, of which the best is an oracle's choice.
      history: the terms of each step, before its update.
      stop: why it ended.
    """

    params: Params
    field: HostField
    scores: dict[str, float]
    trail: list[tuple[int, dict[str, float]]]
    history: dict[str, np.ndarray]
    stop: str


def solve(
    model: Model,
    problem: Problem,
    training: Training,
    *,
    score_every: int | None = None,
    patience: int | None = None,
) -> Solution:
    """Fits a model to a problem as `training` says, in memory.

    The same settings, seed and data as in an experiment file give the same parameters; only files
    and progress are missing.

    Args:
      model: any model.
      problem: any problem.
      training: the settings; `training.seed` draws the start.
      score_every: steps between two evaluations on the way; None: only the last.
      patience: evaluations without a better `problem.to_validate(scores)` before training stops,
        and the parameters of the best are taken; None: all steps, and the last parameters.

    Raises:
      InputError: they do not go together, score_every or patience is below 1, patience without
        score_every or for a problem without a validation part, or the loss becomes other than
        finite.

    Example:
      >>> import lrnn_jax as lj
      >>> problem = lj.pde.Convection(beta=1.0, points=100)
      >>> model = lj.Siren(in_dim=2, out_dim=1, width=8, depth=2, omega0=2.0)
      >>> found = solve(model, problem, Training(optimizer="levenberg_marquardt", steps=10))
      >>> found.scores["relative_l2"] < 0.1
      True
    """
    check_fit(model, problem, training)
    _check_scoring(problem, score_every, patience)
    with arithmetic(training):
        network = trained_model(model, training)
        init_key, loop_key = jax.random.split(jax.random.key(training.seed))
        data = jax.tree.map(jnp.asarray, problem.load())
        state = starting_state(network, problem, training, data, init_key)
        capacity = min(training.steps, score_every or training.steps)
        advance = _advance(network, problem, training, capacity, (state, data, loop_key))
        pieces, trail, best = [], [], _Best(problem, patience)
        while int(state.step) < training.steps and not int(stop_code(state.opt_state)):
            count = min(capacity, training.steps - int(state.step))
            state, history, done = advance(state, data, loop_key, np.int32(count))
            pieces.append({name: np.asarray(v)[: int(done)] for name, v in history.items()})
            if not np.isfinite(pieces[-1]["loss"]).all():
                raise InputError(
                    f"the loss became {pieces[-1]['loss'][-1]} at step {int(state.step) - 1}; "
                    f"{what_may_help(training)}"
                )
            field = HostField(model, exported_params(network, state.params))
            trail.append((int(state.step), problem.evaluate(field, data)))
            best.see(field, *trail[-1])
            if best.is_old:
                break
        field, scores = (field, trail[-1][1]) if best.field is None else (best.field, best.scores)
        return Solution(
            params=field.params,
            field=field,
            scores=scores,
            trail=trail,
            history={name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]},
            stop=best.why() if best.is_old else why_it_stopped(state, training),
        )


class _Best:
    """The field of the best validation so far; does nothing without patience."""

    def __init__(self, problem: Problem, patience: int | None) -> None:
        self.field: HostField | None = None
        self.scores: dict[str, float] = {}
        self._problem, self._patience = problem, patience
        self._value, self._step, self._last, self._since = math.inf, 0, 0, 0

    def see(self, field: HostField, step: int, scores: dict[str, float]) -> None:
        """Keeps the field if it is better than all before."""
        if self._patience is None:
            return
        value = cast(Any, self._problem).to_validate(scores)
        self._last, self._since = step, self._since + 1
        if self.field is None or value < self._value:
            kept = jax.device_get(field.params)  # the loop takes over the arrays of the device
            self.field = dataclasses.replace(field, params=kept)
            self.scores, self._value, self._step, self._since = scores, value, step, 0

    @property
    def is_old(self) -> bool:
        """Whether the last `patience` evaluations were no better."""
        return self._patience is not None and self._since >= self._patience

    def why(self) -> str:
        """One line."""
        return (
            f"after {self._last} steps: {self._since} evaluations no better than that of step "
            f"{self._step}, whose parameters are kept"
        )


def _check_scoring(problem: Problem, score_every: int | None, patience: int | None) -> None:
    for name, value in (("score_every", score_every), ("patience", patience)):
        if value is not None and value < 1:
            raise InputError(f"{name}: expected an integer >= 1 or None, got {value}")
    if patience is None:
        return
    if score_every is None:
        raise InputError("patience: expected score_every too, the steps between two evaluations")
    if not hasattr(problem, "to_validate"):
        raise InputError(f"patience: {type(problem).__name__} has no validation part; leave it out")


@contextlib.contextmanager
def arithmetic(training: Training) -> Iterator[None]:
    """JAX in the precision that the settings name."""
    with jax.enable_x64(training.precision == "float64"):
        yield


def what_may_help(training: Training) -> str:
    """Against a loss that is not finite."""
    if training.optimizer in ("adam", "soap", "adam_lbfgs"):
        return f"try a smaller training.learning_rate than {training.learning_rate:g}"
    return "the data or the residual are not finite there"


def why_it_stopped(state: Any, training: Training) -> str:
    """One line: the steps are done, or what the optimiser says."""
    code = int(stop_code(state.opt_state))
    if code:
        return f"after {int(state.step)} steps: {stop_reason(code)}"
    if int(state.step) >= training.steps:
        return f"all {training.steps} steps are done"
    return f"interrupted after {int(state.step)} steps"


@functools.lru_cache(maxsize=8)
def _compiled(model, problem, training, capacity, structure, types) -> Any:
    arguments = jax.tree.unflatten(structure, types)
    advance = make_advance(step_of(model, problem, training), capacity)
    return advance.lower(*arguments, np.int32(1)).compile(compiler_options())


def _advance(model, problem, training, capacity, arguments) -> Any:
    """The compiled loop, shared by trainings that differ in their seed alone."""
    leaves, structure = jax.tree.flatten(jax.tree.map(jax.typeof, arguments))
    return _compiled(model, problem, training.program(), capacity, structure, tuple(leaves))
