"""When a training ends, why, and with which parameters."""

import math
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.training.loop import Best, State
from lrnn_jax.training.optimizers import stop_code, stop_reason
from lrnn_jax.training.settings import Training
from lrnn_jax.typing import Params

__all__ = [
    "Validated",
    "final_params",
    "has_ended",
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
    zero = jnp.zeros((), jnp.int32)
    return Best(jax.tree.map(jnp.copy, params), jnp.asarray(math.inf), zero, zero)


def see_validation(state: State, value: float) -> State:
    """The state with its parameters kept if `value`, their validation, is less than the best."""
    best = state.best
    if best is None:
        return state
    if np.asarray(value, best.value.dtype) < np.asarray(best.value):
        kept = jax.tree.map(jnp.copy, state.params)  # the loop takes over the arrays of the state
        new = Best(kept, jnp.asarray(value), jnp.copy(state.step), jnp.zeros((), jnp.int32))
        return state._replace(best=new)
    return state._replace(best=best._replace(since=best.since + 1))


def has_ended(state: State, training: Training) -> bool:
    """All steps are done, the optimiser can do no more, or validation has stopped improving."""
    steps_done = int(state.step) >= training.steps
    return steps_done or int(stop_code(state.opt_state)) != 0 or _is_overdue(state, training)


def why_it_stopped(state: State, training: Training) -> str:
    """One line: what `has_ended` saw, or that it was interrupted."""
    step, code = int(state.step), int(stop_code(state.opt_state))
    if code:
        return f"after {step} steps: {stop_reason(code)}"
    if state.best is not None and _is_overdue(state, training):
        return (
            f"after {step} steps: {int(state.best.since)} validations no better than that of step "
            f"{int(state.best.step)}, whose parameters are kept"
        )
    if step >= training.steps:
        return f"all {training.steps} steps are done"
    return f"interrupted after {step} steps"


def final_params(state: State) -> tuple[int, Params]:
    """The step and the parameters of the best validation, or without any of the last step."""
    if state.best is None or not int(state.best.step):
        return int(state.step), state.params
    return int(state.best.step), state.best.params


def _is_overdue(state: State, training: Training) -> bool:
    if state.best is None or training.patience is None:
        return False
    return int(state.best.since) >= training.patience
