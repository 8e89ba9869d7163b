"""The model zoo: every network is a frozen dataclass with pure functions `init` and `apply`."""

from lrnn_jax.models.grid import Grid
from lrnn_jax.models.kan import KAN, ChebyKAN
from lrnn_jax.models.lrnn import LRNN, LRNNLayer
from lrnn_jax.models.mfn import FourierNet, GaborNet
from lrnn_jax.models.mlp import FFN, MLP, Finer, Gauss, ReluPE, Siren, Spder
from lrnn_jax.models.nestnet import NestedActivation, NestNet
from lrnn_jax.models.network import Network
from lrnn_jax.models.separable import CPTensor, Spinn, TuckerTensor
from lrnn_jax.models.special_cases import lrnn_from_cp, lrnn_from_mlp
from lrnn_jax.models.wire import Wire, Wire2D

__all__ = [
    "FFN",
    "KAN",
    "LRNN",
    "MLP",
    "CPTensor",
    "ChebyKAN",
    "Finer",
    "FourierNet",
    "GaborNet",
    "Gauss",
    "Grid",
    "LRNNLayer",
    "NestNet",
    "NestedActivation",
    "Network",
    "ReluPE",
    "Siren",
    "Spder",
    "Spinn",
    "TuckerTensor",
    "Wire",
    "Wire2D",
    "lrnn_from_cp",
    "lrnn_from_mlp",
]
