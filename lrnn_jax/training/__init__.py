"""Training: one update step, the training loops, early stopping, checkpoints."""

from lrnn_jax.training.checkpoints import Checkpoints
from lrnn_jax.training.driver import (
    Interval,
    NonFiniteLossError,
    Trainer,
    check_compatible,
    make_problem_step,
    precision_context,
)
from lrnn_jax.training.early_stopping import Best, EarlyStopping
from lrnn_jax.training.fitting import fit
from lrnn_jax.training.loop import (
    State,
    Step,
    compiler_options,
    initial_state,
    make_advance,
    make_step,
)
from lrnn_jax.training.programs import compilations
from lrnn_jax.training.settings import Training, scale_subnetworks

__all__ = [
    "Best",
    "Checkpoints",
    "EarlyStopping",
    "Interval",
    "NonFiniteLossError",
    "State",
    "Step",
    "Trainer",
    "Training",
    "check_compatible",
    "compilations",
    "compiler_options",
    "fit",
    "initial_state",
    "make_advance",
    "make_problem_step",
    "make_step",
    "precision_context",
    "scale_subnetworks",
]
