"""Moving the parameters: the step, the loops, schedules, checkpoints, prediction."""

from lrnn_jax.training.checkpoints import Checkpoints
from lrnn_jax.training.loop import (
    State,
    Step,
    compiler_options,
    fit,
    initial_state,
    make_advance,
    make_step,
)
from lrnn_jax.training.predict import host_field
from lrnn_jax.training.settings import Training, scale_subnetworks

__all__ = [
    "Checkpoints",
    "State",
    "Step",
    "Training",
    "compiler_options",
    "fit",
    "host_field",
    "initial_state",
    "make_advance",
    "make_step",
    "scale_subnetworks",
]
