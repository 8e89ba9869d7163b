"""MLPs with periodic activations: SIREN and SPDER, as their authors initialise them.

    h^(1) = sigma(omega0 (W x + b)), ..., y = V h^(L) + v

Axis letters: n points, i inputs, o outputs, w width.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.checks import require_at_least, require_points, require_positive
from lrnn_jax.kernels.activations import activation
from lrnn_jax.kernels.dense import affine
from lrnn_jax.kernels.initializers import Uniform, draw, fan_in_limit, siren_limit
from lrnn_jax.typing import Activation, Key, Params

__all__ = ["Siren", "Spder"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Siren:
    """SIREN: an MLP whose activation is sin(omega0 (W x + b)).

    Parameters: `{"layer_0": {weight (i, w), bias (w,)}, ..., "head": {weight (w, o), bias (o,)}}`.

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each hidden layer.
      depth: sine layers, the first one counted: 4 of 256 are the 198,401 parameters of the image
        studies for 2 -> 1 (`hidden_layers=3` in the authors' code).
      omega0: frequency, > 0, in every layer; it multiplies the bias too, as in the authors' code.

    Raises:
      InputError: a field is out of its range.

    References: Sitzmann et al., "Implicit Neural Representations with Periodic Activation
    Functions", NeurIPS 2020 (arXiv 2006.09661).
    """

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 4
    omega0: float = 30.0

    def __post_init__(self) -> None:
        _check(self)

    def init(self, key: Key) -> Params:
        """W ~ U(+-1/i) first, U(+-sqrt(6/i)/omega0) then; biases U(+-1/sqrt(i))."""
        return _init(self, key)

    def apply(self, params: Params, x: Float[ArrayLike, "*n i"]) -> Float[Array, "*n o"]:
        """y(x) for a point (in_dim,) or any batch of points (..., in_dim)."""
        return _forward(self, "sin", params, x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spder:
    """SPDER: SIREN with the damped activation sin(u) sqrt|u| or sin(u) arctan(u).

    Parameters and initialisation are those of `Siren`.

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each hidden layer.
      depth: activated layers, the first one counted.
      omega0: frequency, > 0, in every layer; it multiplies the bias too.
      activation: 'spder', the authors' choice for images, or 'sin_arctan', theirs for sound.

    Raises:
      InputError: a field is out of its range.

    References: Shah and Sitawarin, "SPDER: Semiperiodic Damping-Enabled Object Representation",
    ICLR 2024 (arXiv 2306.15242).
    """

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 4
    omega0: float = 30.0
    activation: Activation = "spder"

    def __post_init__(self) -> None:
        _check(self)
        activation(self.activation)

    def init(self, key: Key) -> Params:
        """Drawn as `Siren.init`."""
        return _init(self, key)

    def apply(self, params: Params, x: Float[ArrayLike, "*n i"]) -> Float[Array, "*n o"]:
        """y(x) for a point (in_dim,) or any batch of points (..., in_dim)."""
        return _forward(self, self.activation, params, x)


def _check(model: Siren | Spder) -> None:
    require_at_least(model, 1, "in_dim", "out_dim", "width", "depth")
    require_positive(model, "omega0")


def _init(model: Siren | Spder, key: Key) -> Params:
    widths = (model.in_dim, *(model.width,) * model.depth, model.out_dim)
    plan = {}
    for index in range(model.depth + 1):
        fan_in, fan_out = widths[index], widths[index + 1]
        limit = siren_limit(fan_in, model.omega0, first=index == 0)
        plan[f"layer_{index}" if index < model.depth else "head"] = {
            "weight": Uniform((fan_in, fan_out), limit),
            "bias": Uniform((fan_out,), fan_in_limit(fan_in)),
        }
    return draw(key, plan)


def _forward(
    model: Siren | Spder, sigma: Activation, params: Params, points: Float[ArrayLike, "*n i"]
) -> jax.Array:
    x = jnp.asarray(points)
    require_points(model, x)
    for index in range(model.depth):
        weights = params[f"layer_{index}"]
        x = activation(sigma)(model.omega0 * affine(x, weights["weight"], weights["bias"]))
    return affine(x, params["head"]["weight"], params["head"]["bias"])
