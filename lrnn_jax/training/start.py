"""From a model, a problem and settings to a training step and the state before its first."""

import jax
import jax.numpy as jnp
import optax

from lrnn_jax.errors import InputError
from lrnn_jax.io import require_memory
from lrnn_jax.models import Factorized
from lrnn_jax.models.network import Network
from lrnn_jax.training.ending import Validated, no_best
from lrnn_jax.training.least_squares import (
    LeastSquares,
    initial_weights,
    make_least_squares_step,
)
from lrnn_jax.training.loop import State, Step, initial_state, make_step
from lrnn_jax.training.settings import Training
from lrnn_jax.typing import Data, Key, Model, Params, Problem

__all__ = ["check_fit", "exported_params", "starting_state", "step_of", "trained_model"]


def check_fit(model: Model, problem: Problem, training: Training) -> None:
    """The model, the problem and the settings go together.

    Raises:
      InputError: dimensions differ; the equation takes more derivatives than the model has; the
        optimiser, batches or balanced weights need another kind of problem; the second phase of
        the optimiser begins after the last step; training is to stop by validation and the problem
        has no validation part.
    """
    for name in ("in_dim", "out_dim"):
        ours, theirs = getattr(model, name), getattr(problem, name)
        if ours != theirs:
            raise InputError(f"model.{name} is {ours} but the problem has {theirs}: leave it out")
    order, smoothness = getattr(problem, "order", 0), getattr(model, "smoothness", float("inf"))
    if order >= 2 and smoothness < order:
        raise InputError(
            f"model: {type(model).__name__} has {smoothness:g} continuous derivatives and "
            f"{type(problem).__name__} takes {order}: take a smooth model, such as Siren, or a "
            "smooth activation, such as 'sin'"
        )
    if training.optimizer == "adam_lbfgs" and training.switch_at >= training.steps:
        raise InputError(
            f"switch_at: expected less than the {training.steps} steps, got {training.switch_at}; "
            "without L-BFGS it is 'adam'"
        )
    kind = type(problem).__name__
    if takes_all(problem) and training.batch is not None:
        raise InputError(f"batch: the loss of {kind} takes all its data at once; leave it out")
    if training.patience is not None and not isinstance(problem, Validated):
        raise InputError(f"patience: {kind} has no validation part; leave it out")
    if training.patience is not None and training.validate_every > training.steps:
        raise InputError(
            f"validate_every: expected at most the {training.steps} steps, "
            f"got {training.validate_every}"
        )
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


def trained_model(model: Model, training: Training) -> Model:
    """The model in the parameters that are trained."""
    return Factorized(model=model) if training.weight_factorization else model


def exported_params(model: Model, params: Params) -> Params:
    """The parameters of the plain model, of those that were trained."""
    return model.merged(params) if isinstance(model, Factorized) else params


def step_of(model: Model, problem: Problem, training: Training) -> Step:
    """The step that `training` asks for."""
    transformation, chunk = training.transformation(), training.chunk_points
    if isinstance(problem, LeastSquares):
        return make_least_squares_step(
            model,
            problem,
            transformation,
            chunk=chunk,
            balance=training.balance,
            balance_every=training.balance_every,
        )
    parts = None if takes_all(problem) else chunk
    return make_step(model, problem.loss, transformation, batch=training.batch, chunk=parts)


def _require_room(model: Model, optimizer: optax.GradientTransformation, key: Key) -> None:
    """The state before the first step, and its copy, fit into the memory that is free.

    An accelerator refuses what is too large by itself; a CPU's operating system ends the process.

    Raises:
      InputError: they do not.
    """
    what = "the model with the state of its optimiser"
    try:
        state = jax.eval_shape(lambda key: initial_state(model.init(key), optimizer), key)
    except OverflowError as error:  # a size of more than 32 bits
        raise InputError(f"{what} would have more than 2**31 numbers along one axis") from error
    require_memory(
        what, 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    )


def takes_all(problem: Problem) -> bool:
    """Whether the loss is no mean over points: `whole = True` on the problem."""
    return getattr(problem, "whole", False)


def starting_state(
    model: Model, problem: Problem, training: Training, data: Data, key: Key
) -> State:
    """The state before the first step, with points and weights where training moves them.

    No two of its arrays share memory, which is what a loop that takes the state over needs.

    Raises:
      InputError: on a CPU, the parameters and the optimiser's state need more memory than is free.
    """
    optimizer = training.transformation()
    if jax.default_backend() == "cpu" and isinstance(model, Network | Factorized):
        _require_room(model, optimizer, key)
    state = initial_state(model.init(key), optimizer)
    if isinstance(problem, LeastSquares):
        points = data if problem.resample_every else None
        weights = None if training.balance == "fixed" else initial_weights(problem, data)
        state = state._replace(points=points, weights=weights)
    if training.patience is not None:
        state = state._replace(best=no_best(state.params))
    return jax.tree.map(jnp.copy, state)
