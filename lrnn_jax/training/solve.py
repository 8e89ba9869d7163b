"""A whole training as one call, for use from Python."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.training.ending import (
    Validated,
    final_params,
    has_ended,
    is_validation_due,
    see_validation,
    why_it_stopped,
)
from lrnn_jax.training.loop import compiler_options, make_advance
from lrnn_jax.training.predict import HostField
from lrnn_jax.training.programs import Programs, structural_key
from lrnn_jax.training.settings import Training
from lrnn_jax.training.start import (
    check_fit,
    exported_params,
    starting_state,
    step_of,
    trained_model,
)
from lrnn_jax.typing import Model, Params, Problem

__all__ = ["Solution", "arithmetic", "solve", "what_may_help"]


class Solution(NamedTuple):
    """What `solve` found.

    Attributes:
      params: the parameters of the model.
      field: the network, point by point or in batches: u of `problem.solution(field)`.
      scores: of these parameters, as `problem.evaluate` gives them.
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
) -> Solution:
    """Fits a model to a problem as `training` says, in memory.

    The same settings, seed and data as in an experiment file give the same parameters; only files
    and progress are missing.

    Args:
      model: any model.
      problem: any problem.
      training: the settings; `training.seed` draws the start.
      score_every: steps between two evaluations on the way; None: those of validation, if training
        stops by it, and the last.

    Raises:
      InputError: they do not go together, score_every is below 1, or the loss becomes other than
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
    if score_every is not None and score_every < 1:
        raise InputError(f"score_every: expected an integer >= 1 or None, got {score_every}")
    with arithmetic(training):
        network = trained_model(model, training)
        init_key, loop_key = jax.random.split(jax.random.key(training.seed))
        data = jax.tree.map(jnp.asarray, problem.load())
        state = starting_state(network, problem, training, data, init_key)
        capacity = _until_look(0, training, score_every)
        advance = _advance(network, problem, training, capacity, (state, data, loop_key))
        pieces, trail = [], []
        while not has_ended(state, training):
            count = _until_look(int(state.step), training, score_every)
            state, history, done = advance(state, data, loop_key, np.int32(count))
            pieces.append({name: np.asarray(v)[: int(done)] for name, v in history.items()})
            if not np.isfinite(pieces[-1]["loss"]).all():
                raise InputError(
                    f"the loss became {pieces[-1]['loss'][-1]} at step {int(state.step) - 1}; "
                    f"{what_may_help(training, int(state.step) - 1)}"
                )
            field = HostField(model, exported_params(network, state.params))
            step, scores = int(state.step), problem.evaluate(field, data)
            trail.append((step, scores))
            if is_validation_due(step, training):
                value = cast(Validated, problem).to_validate(scores)  # check_fit has seen to it
                state = see_validation(state, value)
        step, params = final_params(state)
        params = exported_params(network, params)
        return Solution(
            params=params,
            field=HostField(model, params),
            scores=dict(trail)[step],
            trail=trail,
            history={name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]},
            stop=why_it_stopped(state, training),
        )


def _until_look(step: int, training: Training, score_every: int | None) -> int:
    """Steps to the next score, validation or end."""
    validated = None if training.patience is None else training.validate_every
    every = [n for n in (score_every, validated) if n is not None]
    return min([training.steps - step, *(n - step % n for n in every)])


@contextlib.contextmanager
def arithmetic(training: Training) -> Iterator[None]:
    """JAX in the precision that the settings name."""
    with jax.enable_x64(training.precision == "float64"):
        yield


def what_may_help(training: Training, step: int) -> str:
    """Against a loss that is not finite at `step`."""
    if step == 0:
        return "try data and model settings of ordinary size, such as omega0"
    if training.optimizer in ("adam", "soap", "adam_lbfgs"):
        return f"try a smaller training.learning_rate than {training.learning_rate:g}"
    return "the data or the residual are not finite there"


_PROGRAMS = Programs(8)


def _advance(model, problem, training, capacity, arguments) -> Any:
    """The compiled loop, shared by trainings that differ in their seed alone."""
    types = jax.tree.map(jax.typeof, arguments)
    leaves, structure = jax.tree.flatten(types)
    key = structural_key(model, problem, training.program(), capacity, structure, leaves)

    def compiled() -> Any:
        advance = make_advance(step_of(model, problem, training), capacity)
        return advance.lower(*types, np.int32(1)).compile(compiler_options())

    return _PROGRAMS.get(key, compiled)
