"""Warnings about a fit that failed, from its losses and its scores."""

import numpy as np
from jaxtyping import Float

from lrnn_jax.metrics import higher_is_better
from lrnn_jax.typing import Data, Problem

__all__ = ["fit_warnings"]

_HARDLY_FELL = 0.9  # last loss relative to the first
_ROSE = 10.0  # last loss relative to the lowest
_NOISE = 1e-4  # a loss below this fraction of the first one may fluctuate
_WORSE_ERROR = 2.0  # error on the test part relative to the training part
_WORSE_SHARE = 0.1  # accuracy on the training part minus that on the test part


def fit_warnings(
    problem: Problem,
    data: Data,
    scores: dict[str, float],
    losses: Float[np.ndarray, "steps"],
) -> list[str]:
    """What suggests that a fit has failed, and what to try: one line each, empty if nothing does.

    The lines are about a loss that hardly fell or rose again, a score that is no better than
    `problem.trivial_scores`, and a test part that is predicted much worse than the training part.

    Args:
      problem: the problem.
      data: the result of `problem.load`.
      scores: the scores of the fitted field.
      losses: the loss at each step, or at evenly spaced steps; at least one.
    """
    warnings = [_about_losses(losses), _about_test(scores)]
    for name, trivial in problem.trivial_scores(data).items():
        if name in scores and not _beats(name, scores[name], trivial):
            warnings.append(
                f"{name} {scores[name]:.4g} is no better than {trivial:.4g}, that of a trivial "
                "predictor: try other training.steps, training.learning_rate or model.kind"
            )
    return [warning for warning in warnings if warning]


def _about_losses(losses: np.ndarray) -> str:
    """A warning about losses that hardly fell, or rose again; "" if there is none."""
    window = max(1, len(losses) // 20)
    smooth = np.convolve(losses, np.full(window, 1 / window), "valid")
    first, last, lowest = losses[0], smooth[-1], smooth.min()
    if last > _HARDLY_FELL * first:
        return (
            f"the loss hardly fell, from {first:.3g} to {last:.3g}: try another "
            "training.learning_rate, or more training.steps"
        )
    if last > max(_ROSE * lowest, _NOISE * first):
        return (
            f"the loss rose again, from {lowest:.3g} to {last:.3g}: try a smaller "
            "training.learning_rate, or training.schedule 'cosine'"
        )
    return ""


def _about_test(scores: dict[str, float]) -> str:
    """A warning about a test part that is predicted much worse; "" if there is none."""
    for name, value in scores.items():
        training = scores.get(f"{name}_training")
        if training is None:
            continue
        worse = {
            "accuracy": training - value > _WORSE_SHARE,
            "rmse": value > _WORSE_ERROR * training,
        }
        if worse.get(name):
            return (
                f"{name} is {value:.4g} on the test part and {training:.4g} on the training part: "
                "try a smaller model, or a smaller training.patience"
            )
    return ""


def _beats(name: str, value: float, other: float) -> bool:
    """Whether a score is better than another, or perfect; no NaN is."""
    if higher_is_better(name):
        return value > other or value == np.inf
    return value < other or value == 0
