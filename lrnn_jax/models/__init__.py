"""The zoo: every network as a frozen dataclass with pure `init` and `apply`."""

from lrnn_jax.models.lrnn import LRNN
from lrnn_jax.models.mlp import Siren, Spder

__all__ = ["LRNN", "Siren", "Spder"]
