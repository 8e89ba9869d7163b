"""Neural networks with learned activation functions, and baselines, as pure JAX functions.

>>> import jax, lrnn_jax
>>> model = lrnn_jax.LRNN(in_dim=2, out_dim=1, rank=8, components=4)
>>> params = model.init(jax.random.key(0))
>>> model.apply(params, jax.numpy.zeros((5, 2))).shape
(5, 1)
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lrnn_jax import (
    diagnostics,
    domains,
    inverse,
    metrics,
    models,
    operators,
    optimizers,
    pde,
    signals,
    tabular,
    training,
    typing,
)
from lrnn_jax.errors import InputError, elsewhere
from lrnn_jax.fields import BoundModel, predict
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
from lrnn_jax.signals import (
    Audio,
    Image,
    Occupancy,
    SampledField,
    SignedDistance,
    Video,
    Volume,
)
from lrnn_jax.solving import Solution, solve
from lrnn_jax.tabular import Classification, Regression
from lrnn_jax.training import Training, fit
from lrnn_jax.trees import count_parameters

if TYPE_CHECKING:
    from lrnn_jax import experiments, flax, interop, plot, studies
    from lrnn_jax.experiments import load, load_run, save
    from lrnn_jax.studies import Study, load_study, study

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
    "SampledField",
    "SignedDistance",
    "Siren",
    "Solution",
    "Spder",
    "Spinn",
    "Study",
    "Training",
    "TuckerTensor",
    "Video",
    "Volume",
    "Wire",
    "Wire2D",
    "count_parameters",
    "diagnostics",
    "domains",
    "experiments",
    "fit",
    "flax",
    "interop",
    "inverse",
    "load",
    "load_run",
    "load_study",
    "lrnn_from_cp",
    "lrnn_from_mlp",
    "metrics",
    "models",
    "operators",
    "optimizers",
    "pde",
    "plot",
    "predict",
    "save",
    "signals",
    "solve",
    "studies",
    "study",
    "tabular",
    "training",
    "typing",
]


def __getattr__(name: str) -> Any:
    """Import on first use what takes as long as all other modules together."""
    if name in ("experiments", "flax", "interop", "plot", "studies"):
        return importlib.import_module(f"lrnn_jax.{name}")
    if name in ("load", "load_run", "save"):
        return getattr(importlib.import_module("lrnn_jax.experiments"), name)
    if name in ("Study", "load_study", "study"):
        return getattr(importlib.import_module("lrnn_jax.studies"), name)
    if name == "__version__":
        return version("lrnn-jax")
    packages = {"": __all__, "pde.": pde.__all__, "inverse.": inverse.__all__}
    packages |= {"training.": training.__all__, "optimizers.": optimizers.__all__}
    packages |= {"operators.": operators.__all__, "diagnostics.": diagnostics.__all__}
    hint = elsewhere(name, packages)
    raise AttributeError(f"module 'lrnn_jax' has no attribute {name!r}{hint}")
