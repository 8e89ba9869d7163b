"""`Training`: the settings of a training run, the [training] section of an experiment."""

import dataclasses
import re
from collections.abc import Callable, Hashable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import ArrayLike

import lrnn_jax.optimizers as optimizers
from lrnn_jax.checks import Keywords, check_types, require_at_least, require_positive
from lrnn_jax.errors import InputError
from lrnn_jax.optimizers.stopping import require_number
from lrnn_jax.training.early_stopping import EarlyStopping
from lrnn_jax.typing import Key, Params

Numbers = dict[str, jax.Array]
"""Fields of `Training` as scalars, by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Keywords):
    """Settings of a training run: the optimizer, its schedule, the batches and the logging.

    Args:
      steps: number of updates of the parameters, >= 1.
      optimizer: 'adam'; 'soap', Adam in the eigenbasis of Shampoo; 'lbfgs', limited-memory BFGS
        with a zoom line search; 'adam_lbfgs', Adam for switch_at steps, then L-BFGS; 'ssbroyden',
        self-scaled Broyden with a dense matrix, for up to 10,000 parameters; and, for problems
        whose loss is a sum of squares, 'levenberg_marquardt', damped Gauss-Newton, and
        'natural_gradient', energy natural gradient with a line search. Adam and SOAP use
        learning_rate; for the last four, precision 'float64' is recommended.
      switch_at: number of steps of Adam before L-BFGS with 'adam_lbfgs', less than `steps`.
      learning_rate: learning rate of the first step, > 0.
      schedule: learning rate over the steps: 'constant'; 'step', multiplied by decay_factor every
        decay_every steps; 'exponential', learning_rate decay_factor^(step / decay_every), the same
        decay without jumps; 'cosine', to 0 at the last step. WIRE's schedule, 0.1^(step / steps),
        is 'exponential' with decay_every = steps and decay_factor = 0.1.
      decay_every: number of steps in which 'step' and 'exponential' decay by decay_factor.
      decay_factor: factor of one such decay, in (0, 1].
      batch: number of points drawn for each step, with replacement; none uses all points.
      chunk: number of points whose gradient a device computes at a time. It bounds the memory and
        changes results by rounding only; none is 512 on a CPU and 65536 elsewhere.
      data_parallel: whether all devices, of all hosts, share the points of each step. Each stores
        all points. Without it, the points are shared if the arrays of the problem are spread over
        devices; each device then draws its part of a batch from its own points. In a study, only
        devices of one host share points, if they are more than the members of a block.
      precision: 'float32', or 'float64' for parameters, points and all arithmetic.
      balance: weights of the parts of a loss that is a sum of squares: 'fixed', as the problem sets
        them; 'gradient_norm', such that the weighted gradients have equal norms; 'ntk', such that
        the weighted tangent kernels have equal traces.
      balance_every: number of steps between two updates of balanced weights.
      weight_factorization: whether to use random weight factorization: each column of each matrix
        is trained as exp(s) v, with s ~ N(0.5, 0.1^2) at initialisation. The exported model has the
        plain matrices.
      seed: random seed of the initial parameters, of batches and of losses that draw, >= 0.
      subnetwork_rate: factor of the learning rate for the subnetworks of a NestNet, > 0; 0.2 in the
        NeurIPS 2022 paper.
      validate_every: number of steps between two validations, if patience is set.
      patience: number of consecutive validations without improvement after which training stops
        with the best parameters. None takes all steps and returns the last parameters.
      log_every: number of steps between two lines of metrics.jsonl.
      checkpoint_every: number of steps between two checkpoints.

    Raises:
      InputError: a field is out of range.
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
    data_parallel: bool = False
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
        check_types(
            self,
            "optimizer",
            "precision",
            "balance",
            "schedule",
            "weight_factorization",
            "data_parallel",
        )
        require_at_least(self, 0, "seed")
        if self.seed >= 2**32:
            raise InputError(f"seed: expected an integer below 2**32, got {self.seed}")
        require_positive(self, "learning_rate", most=1e38)
        require_positive(self, "decay_factor", "subnetwork_rate")
        require_at_least(self, 1, "batch", "chunk", "patience")
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
        """The chunk in use. By default 512 on a CPU: a chunk of this size stays in its cache."""
        if self.chunk is not None:
            return self.chunk
        return 512 if jax.default_backend() == "cpu" else 65536

    def numbers(self) -> Numbers:
        """Return the fields that a compiled program takes as arguments, as scalars.

        They are the learning rates, their decay and, for the cosine schedule, the number of steps.
        """
        return {name: jnp.asarray(float(getattr(self, name))) for name in _NUMBERS}

    def rate(self, numbers: Numbers | None = None) -> optax.Schedule:
        """Return the learning rate as a function of the step.

        Args:
          numbers: values in place of those of the fields, which may be traced.
        """
        given = self.numbers() if numbers is None else numbers
        first, factor = given["learning_rate"], given["decay_factor"]

        def decayed(step: ArrayLike) -> jax.Array:
            periods = jnp.asarray(step) / given["decay_every"]
            return first * factor ** (jnp.floor(periods) if self.schedule == "step" else periods)

        def cosine(step: ArrayLike) -> jax.Array:
            share = jnp.minimum(jnp.asarray(step) / given["steps"], 1)
            return first * (0.5 * (1 + jnp.cos(jnp.pi * share)))

        schedules = {"step": decayed, "exponential": decayed, "cosine": cosine}
        return schedules.get(self.schedule, lambda step: first)

    def transformation(
        self, numbers: Numbers | None = None, key: Key | None = None
    ) -> optax.GradientTransformation:
        """Build the optimizer. Adam has beta_1 = 0.9, beta_2 = 0.999 and epsilon = 1e-8.

        Args:
          numbers: values in place of those of the fields, which may be traced.
          key: random key of the factors of the weights; None takes that of the seed.
        """
        given = self.numbers() if numbers is None else numbers
        optimizer = _OPTIMIZERS[self.optimizer](self, self.rate(given))
        if self.subnetwork_rate != 1:
            optimizer = optax.chain(optimizer, _scale_subnetworks(given["subnetwork_rate"]))
        if self.weight_factorization:
            key = self.keys()[2] if key is None else key
            optimizer = optimizers.factorize_weights(optimizer, key)
        return optimizer

    def keys(self) -> jax.Array:
        """Return the random keys of the initial parameters, of the steps and of the factors."""
        return jax.random.split(jax.random.key(self.seed), 3)

    @property
    def early_stopping(self) -> EarlyStopping | None:
        """The early stopping of these settings; None if `patience` is None."""
        return None if self.patience is None else EarlyStopping(self.patience, self.validate_every)

    def program(self) -> "Training":
        """Return these settings with all fields reset that do not affect the compiled program.

        These are the seed, the intervals of host actions (logging, checkpoints and validation), and
        the fields of `numbers`. Equal results share a program.
        """
        intervals = {"log_every": 1, "checkpoint_every": 1, "validate_every": 1}
        numbers = {"learning_rate": 1.0, "decay_every": 1, "decay_factor": 1.0, "steps": 1}
        numbers["subnetwork_rate"] = 1.0 if self.subnetwork_rate == 1 else 0.5
        return dataclasses.replace(self, seed=0, patience=None, **intervals, **numbers)

    @property
    def needs_squares(self) -> bool:
        """Whether the optimizer needs the residuals of a loss that is a sum of squares."""
        return self.optimizer in ("levenberg_marquardt", "natural_gradient")


_NUMBERS = ("learning_rate", "decay_every", "decay_factor", "steps", "subnetwork_rate")
_OPTIMIZERS: dict[str, Callable[[Training, optax.Schedule], optax.GradientTransformation]] = {
    "adam": lambda t, rate: optax.adam(rate),
    "soap": lambda t, rate: optimizers.soap(rate),
    "lbfgs": lambda t, rate: optimizers.lbfgs(),
    "adam_lbfgs": lambda t, rate: optimizers.switch(
        optax.adam(rate), optimizers.lbfgs(), t.switch_at
    ),
    "ssbroyden": lambda t, rate: optimizers.ssbroyden(),
    "levenberg_marquardt": lambda t, rate: optimizers.levenberg_marquardt(),
    "natural_gradient": lambda t, rate: optimizers.natural_gradient(damping=1e-4),
}


def scale_subnetworks(factor: float) -> optax.GradientTransformation:
    """Return an optax transformation that multiplies updates of NestNet's subnetworks by `factor`.

    Raises:
      InputError: factor <= 0; in `init`, the parameters contain no subnetworks.

    Example:
      >>> optimizer = optax.chain(optax.adam(5e-3), scale_subnetworks(0.2))
    """
    require_number("factor", factor, "a number > 0", lambda factor: factor > 0)
    return _scale_subnetworks(factor)


def _scale_subnetworks(factor: ArrayLike) -> optax.GradientTransformation:
    parts: dict[Hashable, Any] = {"subnetwork": optax.scale(factor), "rest": optax.identity()}
    return optax.partition(parts, _label_subnetworks)


def _label_subnetworks(params: Params) -> Params:
    """Label the leaves of subnetwork levels with 'subnetwork', and all others with 'rest'."""
    level = re.compile(r"(^|/)level_[0-9]+/(inner|outer|hidden)_(weight|bias)($|/)")

    def label(path: Any, _: Any) -> str:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return "subnetwork" if level.search(name) else "rest"

    labels = jax.tree_util.tree_map_with_path(label, params)
    if "subnetwork" not in jax.tree.leaves(labels):
        raise InputError("subnetwork_rate: the model has no subnetworks; leave it at 1")
    return labels
