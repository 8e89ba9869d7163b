"""`solve`: train a model in one call from Python."""

from typing import NamedTuple

import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.fields import BoundModel
from lrnn_jax.training.driver import Trainer, precision_context
from lrnn_jax.training.settings import Training
from lrnn_jax.typing import Model, Params, Problem

__all__ = ["Solution", "solve"]


class Solution(NamedTuple):
    """The result of `solve`.

    Attributes:
      params: the fitted parameters of the model.
      field: the fitted field u(x), a JAX function; `lrnn_jax.predict(field, x)` evaluates it at
        many points. For a differential equation, the solution is `problem.solution(field)`.
      scores: the result of `problem.evaluate` for these parameters.
      evaluations: (step, scores) of every evaluation. The best of these scores is not a fair
        result: choosing it requires the ground truth.
      history: the loss and its terms at each step before the update, each of shape (steps,).
      stop_reason: why the training ended.
    """

    params: Params
    field: BoundModel
    scores: dict[str, float]
    evaluations: list[tuple[int, dict[str, float]]]
    history: dict[str, np.ndarray]
    stop_reason: str


def solve(
    model: Model,
    problem: Problem,
    training: Training,
    *,
    score_every: int | None = None,
) -> Solution:
    """Fit a model to a problem with the settings of `training`, without writing files.

    An experiment file with the same settings, seed and data gives the same parameters bit for bit.

    Args:
      model: any model.
      problem: any problem.
      training: the settings; `training.seed` determines the initial parameters.
      score_every: number of steps between two evaluations. None evaluates at validations, if there
        are any, and at the last step.

    Raises:
      InputError: model, problem and settings are incompatible, score_every is below 1, or a loss
        is not finite.

    Example:
      >>> import lrnn_jax as lj
      >>> problem = lj.pde.Convection(beta=1.0, points=100)
      >>> model = lj.Siren(in_dim=2, out_dim=1, width=8, depth=2, omega0=2.0)
      >>> solution = solve(model, problem, Training(optimizer="levenberg_marquardt", steps=10))
      >>> solution.scores["relative_l2"] < 0.1
      True
    """
    if score_every is not None and score_every < 1:
        raise InputError(f"score_every: expected an integer >= 1 or None, got {score_every}")
    with precision_context(training):
        trainer = Trainer(model, problem, training)
        intervals = list(trainer.run(score_every=score_every))
        evaluations = [(i.step, i.scores) for i in intervals if i.scores is not None]
        if not evaluations or evaluations[-1][0] != trainer.step:
            evaluations.append((trainer.step, trainer.evaluate()))
        step, params = trainer.best
        terms = [interval.history for interval in intervals]
        return Solution(
            params=params,
            field=BoundModel(model, params),
            scores=dict(evaluations)[step],
            evaluations=evaluations,
            history={name: np.concatenate([part[name] for part in terms]) for name in terms[0]},
            stop_reason=trainer.stop_reason(),
        )
