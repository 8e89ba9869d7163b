"""Moving the parameters: the step, the loops, schedules, checkpoints, prediction."""

from lrnn_jax.training.checkpoints import Checkpoints
from lrnn_jax.training.ending import (
    Validated,
    final_params,
    has_ended,
    is_overdue,
    is_validation_due,
    see_validation,
    why_it_stopped,
)
from lrnn_jax.training.loop import (
    Best,
    State,
    Step,
    compiler_options,
    fit,
    initial_state,
    make_advance,
    make_step,
)
from lrnn_jax.training.predict import HostField
from lrnn_jax.training.settings import Training, scale_subnetworks
from lrnn_jax.training.solve import Solution, arithmetic, solve, what_may_help
from lrnn_jax.training.start import (
    check_fit,
    exported_params,
    starting_state,
    step_of,
    trained_model,
)

__all__ = [
    "Best",
    "Checkpoints",
    "HostField",
    "Solution",
    "State",
    "Step",
    "Training",
    "Validated",
    "arithmetic",
    "check_fit",
    "compiler_options",
    "exported_params",
    "final_params",
    "fit",
    "has_ended",
    "initial_state",
    "is_overdue",
    "is_validation_due",
    "make_advance",
    "make_step",
    "scale_subnetworks",
    "see_validation",
    "solve",
    "starting_state",
    "step_of",
    "trained_model",
    "what_may_help",
    "why_it_stopped",
]
