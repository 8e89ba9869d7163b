"""When a training ends, why, and with which parameters."""

import math
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from lrnn_jax.training.loop import Best, State
from lrnn_jax.training.optimizers import stop_code, stop_reason
from lrnn_jax.training.settings import Training
from lrnn_jax.typing import Params

__all__ = [
    "Validated",
    "final_params",
    "has_ended",
    "is_overdue",
    "is_validation_due",
    "no_best",
    "see_validation",
    "why_it_stopped",
]


@runtime_checkable
class Validated(Protocol):
    """A problem with a validation part."""

    def to_validate(self, scores: dict[str, float]) -> float:
        """What training may be stopped by, of what `evaluate` gives: the less the better."""
        ...


def no_best(params: Params) -> Best:
    """The best before the first validation: infinitely bad."""
    value = jnp.asarray(math.inf, float)  # not weakly typed, as one that was restored
    return Best(
        jax.tree.map(jnp.copy, params), value, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    )


def is_validation_due(step: int, training: Training) -> bool:
    """Whether training stops by validation, and `step` is one of those that it looks at."""
    return training.patience is not None and step % training.validate_every == 0


def see_validation(state: State, value: float) -> State:
    """The state with its parameters kept if `value`, their validation, is less than the best."""
    best = state.best
    if best is None:
        return state
    found = jnp.asarray(value, best.value.dtype)
    if not found < best.value:
        return state._replace(best=best._replace(since=best.since + 1))
    kept = jax.tree.map(jnp.copy, state.params)  # the loop takes over the arrays of the state
    return state._replace(best=Best(kept, found, jnp.copy(state.step), jnp.zeros((), jnp.int32)))


def has_ended(state: State, training: Training) -> bool:
    """All steps are done, the optimiser can do no more, or validation has stopped improving."""
    steps_done = int(state.step) >= training.steps
    return steps_done or int(stop_code(state.opt_state)) != 0 or is_overdue(state, training)


def is_overdue(state: State, training: Training) -> bool:
    """The last `patience` validations were no better than the best."""
    if state.best is None or training.patience is None:
        return False
    return int(state.best.since) >= training.patience


def why_it_stopped(state: State, training: Training) -> str:
    """One line: what `has_ended` saw and whose parameters are taken, or that it was interrupted."""
    step, code = int(state.step), int(stop_code(state.opt_state))
    if code:
        return f"after {step} steps: {stop_reason(code)}{_whose(state)}"
    if state.best is not None and is_overdue(state, training):
        count = int(state.best.since)
        return f"after {step} steps: {count} validations no better{_whose(state)}"
    if step >= training.steps:
        return f"all {training.steps} steps are done{_whose(state)}"
    return f"interrupted after {step} steps"


def final_params(state: State) -> tuple[int, Params]:
    """The step and the parameters of the best validation, or without any of the last step."""
    if state.best is None or not int(state.best.step):
        return int(state.step), state.params
    return int(state.best.step), state.best.params


def _whose(state: State) -> str:
    """Whose the final parameters are, where they could be those of a validation."""
    if state.best is None:
        return ""
    if int(state.best.step):
        return f"; the parameters are those of step {int(state.best.step)}, the best validation"
    what = "finite" if int(state.best.since) else "due"
    return f"; no validation was {what}, so that the parameters are the last"
