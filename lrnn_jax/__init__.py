"""Networks whose activations are learned, and their rivals, as pure JAX functions.

>>> import jax, lrnn_jax
>>> model = lrnn_jax.LRNN(in_dim=2, out_dim=1, rank=8, components=4)
>>> params = model.init(jax.random.key(0))
>>> model.apply(params, jax.numpy.zeros((5, 2))).shape
(5, 1)
"""

from lrnn_jax import domains, metrics
from lrnn_jax.errors import InputError
from lrnn_jax.io.trees import count_parameters
from lrnn_jax.models import LRNN, Siren, Spder
from lrnn_jax.problems import Image
from lrnn_jax.training import Training, fit

__all__ = [
    "LRNN",
    "Image",
    "InputError",
    "Siren",
    "Spder",
    "Training",
    "count_parameters",
    "domains",
    "fit",
    "metrics",
]
