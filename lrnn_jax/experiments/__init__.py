"""Experiments: TOML files that are decoded to typed objects, and the functions that run them."""

from lrnn_jax.experiments.comparison import Comparison
from lrnn_jax.experiments.folder import RunFolder
from lrnn_jax.experiments.run import Outcome, resume, start
from lrnn_jax.experiments.saving import Run, load, load_run, save
from lrnn_jax.experiments.spec import MODELS, PROBLEMS, Experiment, experiment_from, table_of
from lrnn_jax.experiments.summary import unusable

__all__ = [
    "MODELS",
    "PROBLEMS",
    "Comparison",
    "Experiment",
    "Outcome",
    "Run",
    "RunFolder",
    "experiment_from",
    "load",
    "load_run",
    "resume",
    "save",
    "start",
    "table_of",
    "unusable",
]
