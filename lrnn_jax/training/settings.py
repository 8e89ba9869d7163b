"""How a model is trained: the [training] section of an experiment."""

import dataclasses
import re
from collections.abc import Callable, Hashable
from typing import Any, Literal

import jax
import optax

import lrnn_jax.optimizers as optimizers
from lrnn_jax.checks import require_at_least, require_choice, require_flag, require_positive
from lrnn_jax.errors import InputError
from lrnn_jax.training.early_stopping import EarlyStopping
from lrnn_jax.typing import Params

__all__ = ["Training", "scale_subnetworks"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How the parameters move: an optimiser, its schedule, and what a step is taken over.

    Args:
      steps: updates of the parameters, >= 1.
      optimizer: 'adam'; 'soap', Adam in the eigenbasis of Shampoo; 'lbfgs', limited memory with a
        zoom line search; 'adam_lbfgs', Adam for switch_at steps, then L-BFGS; 'ssbroyden',
        self-scaled Broyden, dense: up to 10,000 parameters; 'levenberg_marquardt', damped
        Gauss-Newton, and 'natural_gradient', energy natural gradient with a line search: for
        problems whose loss is a sum of squares. Adam's and 'soap' have a learning rate; the last
        four want precision 'float64'.
      switch_at: steps of Adam before L-BFGS, with 'adam_lbfgs'; below `steps`.
      learning_rate: of the first step, > 0.
      schedule: 'constant'; 'step', times decay_factor every decay_every steps; 'exponential', the
        same decay spread smoothly over the steps, learning_rate decay_factor^(step / decay_every);
        'cosine', to 0 at the last step. WIRE's schedule, 0.1^(step / steps), is 'exponential' with
        decay_every = steps and decay_factor = 0.1.
      decay_every: steps in which 'step' and 'exponential' decay by decay_factor.
      decay_factor: factor of one such decay, in (0, 1].
      batch: points drawn for each step, with replacement; none takes all points.
      chunk: points whose gradient is computed at a time: bounds memory and changes no result but
        its rounding; none is 512 on a CPU and 65536 elsewhere.
      precision: 'float32', or 'float64' for parameters, points and all arithmetic.
      balance: weights of the parts of a loss that is a sum of squares: 'fixed'; 'gradient_norm', as
        if each had a gradient of one norm; 'ntk', as if each had a tangent kernel of one trace.
      balance_every: steps between two updates of balanced weights.
      weight_factorization: random weight factorisation: each column of each matrix is trained as
        exp(s) v, s ~ N(0.5, 0.1) at the start; the exported model is the plain one.
      seed: of the initial parameters, of batches and of losses that draw, >= 0.
      subnetwork_rate: factor of the learning rate for the subnetworks of a NestNet, > 0; 0.2 in the
        NeurIPS 2022 paper.
      validate_every: steps between two validations, of a problem that has a validation part.
      patience: validations without a better one before training stops; the parameters of the best
        are taken. None: all steps, and the last parameters.
      log_every: steps between two lines of metrics.jsonl.
      checkpoint_every: steps between two checkpoints.

    Raises:
      InputError: a field is out of its range.
    """

    steps: int = 1000
    optimizer: Literal[
        "adam",
        "soap",
        "lbfgs",
        "adam_lbfgs",
        "ssbroyden",
        "levenberg_marquardt",
        "natural_gradient",
    ] = "adam"
    switch_at: int = 1000
    learning_rate: float = 1e-3
    schedule: Literal["constant", "step", "exponential", "cosine"] = "step"
    decay_every: int = 100
    decay_factor: float = 0.8
    batch: int | None = None
    chunk: int | None = None
    precision: Literal["float32", "float64"] = "float32"
    balance: Literal["fixed", "gradient_norm", "ntk"] = "fixed"
    balance_every: int = 100
    weight_factorization: bool = False
    seed: int = 0
    subnetwork_rate: float = 1.0
    validate_every: int = 100
    patience: int | None = None
    log_every: int = 10
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        require_at_least(self, 1, "steps", "decay_every", "log_every", "checkpoint_every")
        require_at_least(self, 1, "switch_at", "balance_every", "validate_every")
        require_choice(self, "optimizer", "precision", "balance")
        require_flag(self, "weight_factorization")
        require_at_least(self, 0, "seed")
        if self.seed >= 2**32:
            raise InputError(f"seed: expected an integer below 2**32, got {self.seed}")
        require_positive(self, "learning_rate", most=1e38)
        require_positive(self, "decay_factor", "subnetwork_rate")
        require_choice(self, "schedule")
        for name in ("batch", "chunk", "patience"):
            if getattr(self, name) is not None:
                require_at_least(self, 1, name)
        if self.batch is not None and self.optimizer not in ("adam", "soap"):
            raise InputError(
                f"batch: {self.optimizer!r} needs all points in each step; leave batch out, or "
                "take the optimizer 'adam' or 'soap'"
            )
        if self.subnetwork_rate != 1 and self.optimizer not in ("adam", "soap"):
            raise InputError(
                f"subnetwork_rate: {self.optimizer!r} has no learning rate; leave it at 1"
            )
        if self.decay_factor > 1:
            raise InputError(f"decay_factor: expected a number in (0, 1], got {self.decay_factor}")

    @property
    def chunk_points(self) -> int:
        """The chunk in use: a chunk of 512 points stays in a CPU's cache."""
        if self.chunk is not None:
            return self.chunk
        return 512 if jax.default_backend() == "cpu" else 65536

    def rate(self) -> optax.Schedule:
        """The learning rate as a function of the step."""
        if self.schedule in ("step", "exponential"):
            staircase = self.schedule == "step"
            return optax.exponential_decay(
                self.learning_rate, self.decay_every, self.decay_factor, staircase=staircase
            )
        if self.schedule == "cosine":
            return optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return optax.constant_schedule(self.learning_rate)

    def transformation(self) -> optax.GradientTransformation:
        """The optimiser of that name; Adam has beta 0.9 and 0.999, epsilon 1e-8."""
        optimizer = _OPTIMIZERS[self.optimizer](self)
        if self.subnetwork_rate != 1:
            optimizer = optax.chain(optimizer, scale_subnetworks(self.subnetwork_rate))
        if self.weight_factorization:
            # `Trainer` uses the first two.
            key = jax.random.split(jax.random.key(self.seed), 3)[2]
            optimizer = optimizers.factorize_weights(optimizer, key)
        return optimizer

    @property
    def early_stopping(self) -> EarlyStopping | None:
        """When to validate and to stop; None without `patience`."""
        return None if self.patience is None else EarlyStopping(self.patience, self.validate_every)

    def program(self) -> "Training":
        """These settings less what is data to a compiled loop: seeds, and when the host looks."""
        same: dict[str, Any] = {"seed": 0, "log_every": 1, "checkpoint_every": 1}
        same |= {"validate_every": 1, "patience": None}
        if self.schedule != "cosine":
            same["steps"] = 1
        return dataclasses.replace(self, **same)

    @property
    def needs_squares(self) -> bool:
        """Whether the optimiser works on residuals, of which the loss must be a sum of squares."""
        return self.optimizer in ("levenberg_marquardt", "natural_gradient")


_OPTIMIZERS: dict[str, Callable[[Training], optax.GradientTransformation]] = {
    "adam": lambda t: optax.adam(t.rate()),
    "soap": lambda t: optimizers.soap(t.rate()),
    "lbfgs": lambda t: optimizers.lbfgs(),
    "adam_lbfgs": lambda t: optimizers.switch(
        optax.adam(t.rate()), optimizers.lbfgs(), t.switch_at
    ),
    "ssbroyden": lambda t: optimizers.ssbroyden(),
    "levenberg_marquardt": lambda t: optimizers.levenberg_marquardt(),
    "natural_gradient": lambda t: optimizers.natural_gradient(damping=1e-4),
}


def scale_subnetworks(factor: float) -> optax.GradientTransformation:
    """An optax transformation that multiplies the updates of NestNet's subnetworks by `factor`.

    Raises:
      InputError: factor <= 0; and in `init`, the parameters have no subnetworks.

    Example:
      >>> optimizer = optax.chain(optax.adam(5e-3), scale_subnetworks(0.2))
    """
    if not factor > 0:
        raise InputError(f"factor: expected a number > 0, got {factor!r}")
    parts: dict[Hashable, Any] = {"subnetwork": optax.scale(factor), "rest": optax.identity()}
    return optax.partition(parts, _label_subnetworks)


def _label_subnetworks(params: Params) -> Params:
    """'subnetwork' for every leaf of a level of a subnetwork, 'rest' for others.

    Raises:
      InputError: there is no subnetwork.
    """
    level = re.compile(r"(^|/)level_[0-9]+/(inner|outer|hidden)_(weight|bias)($|/)")

    def label(path: Any, _: Any) -> str:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return "subnetwork" if level.search(name) else "rest"

    labels = jax.tree_util.tree_map_with_path(label, params)
    if "subnetwork" not in jax.tree.leaves(labels):
        raise InputError("subnetwork_rate: the model has no subnetworks; leave it at 1")
    return labels
