"""`solve`: train a model in one call from Python, and the result that it returns."""

import base64
import dataclasses
import functools
import html
import sys
import tempfile
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike

from lrnn_jax.diagnostics import fit_warnings, subnetwork_warnings
from lrnn_jax.errors import InputError
from lrnn_jax.fields import BoundModel, predict
from lrnn_jax.training import Interval, Trainer, Training, precision_context
from lrnn_jax.typing import Data, Model, Params, Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lrnn_jax.experiments.comparison import Comparison
    from lrnn_jax.experiments.progress import Display

__all__ = ["Solution", "solve"]

_INTERVAL_SECONDS = 0.5  # between two updates of the progress display

Callback = Callable[[int, dict[str, float]], bool | None]
"""callback(step, metrics); the training stops if it returns True."""


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """The result of `solve`.

    Attributes:
      model: the model.
      problem: the problem.
      training: the settings.
      params: the fitted parameters of the model.
      scores: the result of `problem.evaluate` for these parameters.
      evaluations: (step, scores) of every evaluation. The best of these scores is not a fair
        result: choosing it requires the ground truth.
      history: the loss and its terms at each step before the update, each of shape (steps,).
      seconds: the time that the steps took.
      stop_reason: why the training ended.
      fit_warnings: what the losses and the scores say of a fit that has failed; see
        `lrnn_jax.diagnostics.fit_warnings`.
    """

    model: Model
    problem: Problem
    training: Training
    params: Params
    scores: dict[str, float]
    evaluations: list[tuple[int, dict[str, float]]]
    history: dict[str, np.ndarray]
    seconds: float
    stop_reason: str
    fit_warnings: list[str]

    @functools.cached_property
    def warnings(self) -> list[str]:
        """What suggests that the fit has failed, and what to try: one line each.

        These are `fit_warnings`, and neurons and subnetworks that learned nothing
        (`lrnn_jax.diagnostics.subnetwork_warnings`), which are computed when this is first read.
        """
        with precision_context(self.training):
            return self.fit_warnings + subnetwork_warnings(self.model, self.params)

    @property
    def field(self) -> BoundModel:
        """The fitted field u(x), a JAX function.

        For a differential equation, the solution is `problem.solution(field)`.
        """
        return BoundModel(self.model, self.params)

    @property
    def losses(self) -> np.ndarray:
        """The loss at each step before the update, shape (steps,)."""
        return self.history["loss"]

    def predict(self, x: ArrayLike) -> np.ndarray:
        """The solution at any number of points (..., in_dim), in bounded memory.

        It differs from `field` where a differential equation has conditions or periods built in.
        """
        return predict(self.problem.solution(self.field), x)

    __call__ = predict

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the model and its parameters to a file that `lrnn_jax.load` reads."""
        from lrnn_jax.experiments import save

        return save(path, self.model, self.params)

    def render(self, folder: str | PathLike[str]) -> list[Path]:
        """Write what `lrnn-jax fit` writes: images, sounds or meshes of the field, and its error.

        Args:
          folder: the folder; it is created if it does not exist.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        with precision_context(self.training):
            return self.problem.render(self.field, self._data(), path)

    def plot(self) -> "Figure":
        """A matplotlib figure: the loss over the steps, and the images that `render` writes."""
        from lrnn_jax.plot import show_result

        with tempfile.TemporaryDirectory() as folder:
            images = [path for path in self.render(folder) if path.suffix == ".png"]
            return show_result(self.losses, images, self._title())

    def compare(self, *others: "Solution") -> "Comparison":
        """This and other solutions of the same problem: a table, curves, and a page to save.

        Raises:
          InputError: the problems differ.
        """
        from lrnn_jax.experiments.comparison import Comparison, Fit

        return Comparison(
            [
                Fit(
                    name=type(solution.model).__name__,
                    problem=solution.problem,
                    field=solution.field,
                    scores=solution.scores,
                    steps=list(range(len(solution.losses))),
                    losses=solution.losses,
                    seconds=solution.seconds,
                    warnings=solution.warnings,
                )
                for solution in (self, *others)
            ]
        )

    def _data(self) -> Data:
        return self.problem.load()

    def _title(self) -> str:
        scores = ", ".join(f"{name} {value:.4g}" for name, value in self.scores.items())
        return f"{type(self.model).__name__}: {scores}"

    def __repr__(self) -> str:
        lines = [f"<Solution of {type(self.problem).__name__} by {self._title()}>"]
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])

    def _repr_html_(self) -> str:
        """Scores and images, for notebooks."""
        with tempfile.TemporaryDirectory() as folder:
            images = [path for path in self.render(folder) if path.suffix == ".png"]
            sources = [base64.b64encode(path.read_bytes()).decode() for path in images]
        shown = "".join(
            f'<img src="data:image/png;base64,{source}" style="max-height: 20em">'
            for source in sources
        )
        lines = [self._title(), *(f"Warning: {warning}" for warning in self.warnings)]
        return "".join(f"<p>{html.escape(line)}</p>" for line in lines) + shown


def solve(
    model: Model | str,
    problem: Problem,
    training: Training | None = None,
    *,
    steps: int | None = None,
    score_every: int | None = None,
    progress: bool | None = None,
    callback: Callback | None = None,
) -> Solution:
    """Fit a model to a problem, without writing files.

    An experiment file with the same settings, seed and data gives the same parameters bit for bit.

    Args:
      model: any model, or the name of a kind of model such as 'siren', whose recipe for the problem
        is used (`lrnn-jax list` shows the names).
      problem: any problem.
      training: the settings; `training.seed` determines the initial parameters. None uses the
        recipe of the model for the problem.
      steps: number of steps, in place of that of `training` or the recipe.
      score_every: number of steps between two evaluations. None evaluates at validations, if there
        are any, and at the last step.
      progress: whether to show the progress; None shows it in a terminal or a notebook.
      callback: callback(step, metrics), called every `training.log_every` steps with the loss, its
        terms and, where they were evaluated, the scores. Training stops if it returns True.

    Raises:
      InputError: model, problem and settings are incompatible, score_every is below 1, there is no
        recipe, or a loss is not finite.

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
    model, training = _with_recipe(model, problem, training, steps)
    display = _display(progress)
    with precision_context(training):
        trainer = Trainer(model, problem, training)
        display.compiling()
        try:
            trainer.compile()
            intervals = _train(trainer, score_every, display, callback)
        finally:
            display.end()
        evaluations = [(i.step, i.scores) for i in intervals if i.scores is not None]
        if not evaluations or evaluations[-1][0] != trainer.step:
            evaluations.append((trainer.step, trainer.evaluate()))
        step, params = trainer.best
        terms = [interval.history for interval in intervals]
        history = {name: np.concatenate([part[name] for part in terms]) for name in terms[0]}
        scores = dict(evaluations)[step]
        return Solution(
            model=model,
            problem=problem,
            training=training,
            params=params,
            scores=scores,
            evaluations=evaluations,
            history=history,
            seconds=sum(interval.seconds for interval in intervals),
            stop_reason=trainer.stop_reason(),
            fit_warnings=fit_warnings(problem, trainer.data, scores, history["loss"]),
        )


def _train(
    trainer: Trainer, score_every: int | None, display: "Display", callback: Callback | None
) -> list[Interval]:
    """Take all steps, unless the callback ends the training."""
    from lrnn_jax.experiments.progress import Display

    training, first, spent = trainer.training, trainer.step, 0.0
    pauses = [] if callback is None else [training.log_every]
    seconds = None if type(display) is Display else _INTERVAL_SECONDS
    intervals: list[Interval] = []
    display.begin(first, training.steps)
    for interval in trainer.run(score_every=score_every, pause_every=pauses, seconds=seconds):
        intervals.append(interval)
        spent += interval.seconds
        last = {name: float(values[-1]) for name, values in interval.history.items()}
        metrics = last | trainer.problem.progress(last)
        display.update(interval.step, metrics, (interval.step - first) / spent)
        if callback is not None and callback(interval.step, metrics | (interval.scores or {})):
            break
    return intervals


def _display(progress: bool | None) -> "Display":
    if progress is None:
        progress = sys.stderr.isatty() or "ipykernel" in sys.modules
    from rich.console import Console

    from lrnn_jax.experiments.progress import Display, display_for

    return display_for(Console(stderr=True)) if progress else Display()


def _with_recipe(
    model: Model | str, problem: Problem, training: Training | None, steps: int | None
) -> tuple[Model, Training]:
    """Take from the recipe what is not given."""
    if isinstance(model, str) or training is None:
        from lrnn_jax.experiments.recipes import recipe_for

        recipe = recipe_for(problem, model, steps)
        model, training = recipe.model, recipe.training if training is None else training
    changes: dict[str, Any] = {} if steps is None else {"steps": steps}
    return model, dataclasses.replace(training, **changes)
