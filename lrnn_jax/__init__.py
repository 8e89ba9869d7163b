"""Networks whose activations are learned, and their rivals, as pure JAX functions.

>>> import jax, lrnn_jax
>>> model = lrnn_jax.LRNN(in_dim=2, out_dim=1, rank=8, components=4)
>>> params = model.init(jax.random.key(0))
>>> model.apply(params, jax.numpy.zeros((5, 2))).shape
(5, 1)
"""

from lrnn_jax import domains, metrics, models, operators
from lrnn_jax.errors import InputError
from lrnn_jax.fields import BoundModel, predict
from lrnn_jax.io.trees import count_parameters
from lrnn_jax.models import (
    FFN,
    KAN,
    LRNN,
    MLP,
    ChebyKAN,
    CPTensor,
    Finer,
    FourierNet,
    GaborNet,
    Gauss,
    Grid,
    LRNNLayer,
    NestedActivation,
    NestNet,
    ReluPE,
    Siren,
    Spder,
    Spinn,
    TuckerTensor,
    Wire,
    Wire2D,
    lrnn_from_cp,
    lrnn_from_mlp,
)
from lrnn_jax.problems import (
    Audio,
    Classification,
    Image,
    Occupancy,
    Regression,
    SignedDistance,
    Video,
    inverse,
    pde,
)
from lrnn_jax.training import Training, fit, solve

__all__ = [
    "FFN",
    "KAN",
    "LRNN",
    "MLP",
    "Audio",
    "BoundModel",
    "CPTensor",
    "ChebyKAN",
    "Classification",
    "Finer",
    "FourierNet",
    "GaborNet",
    "Gauss",
    "Grid",
    "Image",
    "InputError",
    "LRNNLayer",
    "NestNet",
    "NestedActivation",
    "Occupancy",
    "Regression",
    "ReluPE",
    "SignedDistance",
    "Siren",
    "Spder",
    "Spinn",
    "Training",
    "TuckerTensor",
    "Video",
    "Wire",
    "Wire2D",
    "count_parameters",
    "domains",
    "fit",
    "inverse",
    "lrnn_from_cp",
    "lrnn_from_mlp",
    "metrics",
    "models",
    "operators",
    "pde",
    "predict",
    "solve",
]
