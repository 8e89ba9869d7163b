"""MLPs with a fixed activation, each with the initialisation of its authors.

    h^(1) = sigma(W gamma(x) + b), ..., y = V h^(L) + v

`MLP` is the plain network. `Siren`, `Spder`, `Finer` and `Gauss` take the coordinates without an
encoding (gamma = identity) and use an activation that represents high frequencies. `FFN` and
`ReluPE` are ReLU networks on encoded coordinates.

Axis letters: n points, i inputs, o outputs, w width.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.checks import require_at_least, require_choice, require_flag, require_positive
from lrnn_jax.kernels.activations import activation, in_half_turns, smoothness
from lrnn_jax.kernels.dense import affine
from lrnn_jax.kernels.features import gaussian_features, positional_encoding
from lrnn_jax.kernels.initializers import (
    fan_in_limit,
    glorot_limit,
    he_limit,
    linear,
    siren_limit,
)
from lrnn_jax.models.network import Layer, Network
from lrnn_jax.typing import Activation, Params

__all__ = ["FFN", "MLP", "Finer", "Gauss", "ReluPE", "Siren", "Spder"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLP(Network):
    """The plain MLP: h = sigma(W x + b), without any encoding of the coordinates.

    Parameters: `{"layer_0": {weight (i, w), bias (w,)}, ..., "head": {weight (w, o), bias (o,)}}`.

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each hidden layer.
      depth: number of hidden layers.
      activation: sigma: 'tanh' (common in PINNs), 'relu', 'sin', ..., or any function.
      weight_init: 'glorot', U(+-sqrt(6 / (i + o))), biases 0; 'he', U(+-sqrt(6 / i)), biases 0;
        'fan_in', weights and biases U(+-1 / sqrt(i)), as in PyTorch.

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = (
        "Rumelhart, Hinton, Williams: Learning representations by back-propagating errors. "
        "Nature 323, 1986."
    )

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 3
    activation: Activation = "tanh"
    weight_init: Literal["glorot", "he", "fan_in"] = "glorot"

    def __post_init__(self) -> None:
        _check(self)
        require_choice(self, "weight_init")
        activation(self.activation)

    @property
    def smoothness(self) -> float:
        """As the activation."""
        return smoothness(self.activation)

    def plan(self) -> dict[str, Any]:
        """The initialisation selected by `weight_init`."""

        def dense(fan_in: int, fan_out: int, index: int) -> dict[str, Any]:
            if self.weight_init == "fan_in":
                return linear(fan_in, fan_out, fan_in_limit(fan_in))
            glorot = self.weight_init == "glorot"
            limit = glorot_limit(fan_in, fan_out) if glorot else he_limit(fan_in)
            return linear(fan_in, fan_out, limit, bias=0.0)

        return _stack(self, self.in_dim, dense)

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The hidden layers and the linear head."""
        return _layers(self, params, _scaled(self.activation, 1.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Siren(Network):
    """SIREN: an MLP with layers sin(omega0 (W x + b)); the first layer may have another omega0.

    Parameters: `{"layer_0": {weight (i, w), bias (w,)}, ..., "head": {weight (w, o), bias (o,)}}`.
    W ~ U(+-1/i) in the first layer and U(+-sqrt(6/i)/omega0) in the others; biases U(+-1/sqrt(i)).

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each hidden layer.
      depth: number of sine layers, including the first. 4 layers of width 256 have the 198,401
        parameters of the image studies for 2 -> 1 (`hidden_layers=3` in the authors' code).
      omega0: frequency, > 0, `hidden_omega_0` in the authors' code; it also multiplies the bias.
      first_omega0: frequency of the first layer, > 0, `first_omega_0` in the authors' code; the
        initialisation does not depend on it. None means omega0.

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = (
        "Sitzmann, Martel, Bergman, Lindell, Wetzstein: Implicit Neural Representations with "
        "Periodic Activation Functions. NeurIPS 2020, arXiv 2006.09661."
    )

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 4
    omega0: float = 30.0
    first_omega0: float | None = None

    def __post_init__(self) -> None:
        _check(self, "omega0")

    def plan(self) -> dict[str, Any]:
        """SIREN's limits."""
        return _siren_stack(self)

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The sine layers and the linear head."""
        return _layers(self, params, *(_scaled("sin", omega0) for omega0 in _frequencies(self)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spder(Network):
    """SPDER: SIREN with the damped activation sin(u) sqrt|u| or sin(u) arctan(u).

    Parameters and initialisation: as `Siren`.

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each hidden layer.
      depth: number of hidden layers, including the first.
      omega0: frequency of every layer, > 0; it also multiplies the bias.
      activation: the authors use 'spder' for images and 'sin_arctan' for sound.

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = (
        "Shah, Sitawarin: SPDER: Semiperiodic Damping-Enabled Object Representation. "
        "ICLR 2024, arXiv 2306.15242."
    )

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 4
    omega0: float = 30.0
    activation: Activation = "spder"

    def __post_init__(self) -> None:
        _check(self, "omega0")
        activation(self.activation)

    @property
    def smoothness(self) -> float:
        """As the activation: 1 for 'spder', whose second derivative diverges at 0."""
        return smoothness(self.activation)

    def plan(self) -> dict[str, Any]:
        """SIREN's limits."""
        return _siren_stack(self)

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The hidden layers and the linear head."""
        return _layers(self, params, _scaled(self.activation, self.omega0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finer(Network):
    """FINER: an MLP with the variable-periodic activation sin(omega0 (|z| + 1) z), z = W x + b.

    Parameters and initialisation of the weights: as `Siren`.

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each hidden layer.
      depth: number of hidden layers, including the first.
      omega0: frequency, > 0, `hidden_omega_0` in the authors' code.
      first_omega0: frequency of the first layer, > 0, `first_omega_0` in the authors' code; None
        means omega0.
      first_bias: the biases of the first layer are U(+-first_bias); larger values give higher
        frequencies. None means SIREN's U(+-1/sqrt(i)), the authors' default.
      scale_gradient: True differentiates the activation exactly. False treats |z| + 1 as a constant
        in the derivative, the default of the authors' code; do not use False for differential
        equations.

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = (
        "Liu, Zhu, Zhang, Fu, Deng, Ma, Guo, Cao: FINER: Flexible Spectral-bias Tuning in Implicit "
        "Neural Representation by Variable-periodic Activation Functions. CVPR 2024, "
        "arXiv 2312.02434."
    )

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 4
    omega0: float = 30.0
    first_omega0: float | None = None
    first_bias: float | None = None
    scale_gradient: bool = True

    def __post_init__(self) -> None:
        _check(self, "omega0")
        require_flag(self, "scale_gradient")

    @property
    def smoothness(self) -> float:
        """1: the second derivative of |z| z is discontinuous at 0."""
        return 1

    def plan(self) -> dict[str, Any]:
        """SIREN's limits, with `first_bias` in the first layer."""
        return _siren_stack(self, self.first_bias)

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The hidden layers and the linear head."""

        def periodic(omega0: float) -> Callable[[jax.Array], jax.Array]:
            sine = _scaled("sin", omega0)

            def sigma(z: jax.Array) -> jax.Array:
                scale = jnp.abs(z) + 1
                scale = scale if self.scale_gradient else jax.lax.stop_gradient(scale)
                return sine(scale * z)

            return sigma

        return _layers(self, params, *map(periodic, _frequencies(self)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gauss(Network):
    """Gaussian MLP: h = exp(-(scale (W x + b))^2), weights and biases U(+-1 / sqrt(i)).

    Parameters: as `MLP`.

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each hidden layer.
      depth: number of hidden layers.
      scale: inverse width of the Gaussian, > 0; 10 in WIRE's experiments, 30 in FINER's.

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = (
        "Ramasinghe, Lucey: Beyond Periodicity: Towards a Unifying Framework for Activations in "
        "Coordinate-MLPs. ECCV 2022, arXiv 2111.15135."
    )

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 3
    scale: float = 10.0

    def __post_init__(self) -> None:
        _check(self, "scale")

    def plan(self) -> dict[str, Any]:
        """PyTorch's default."""
        return _stack(self, self.in_dim, _fan_in_layer)

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The Gaussian layers and the linear head."""
        return _layers(self, params, lambda z: jnp.exp(-jnp.square(self.scale * z)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReluPE(Network):
    """ReLU+PE: a ReLU MLP on [x, sin(2^m pi x), cos(2^m pi x)], m = 0..frequencies - 1.

    Parameters: as `MLP` with in_dim (1 + 2 frequencies) inputs, all U(+-1 / sqrt(i)).

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each hidden layer.
      depth: number of hidden layers.
      frequencies: number of frequencies per axis, >= 1; for an image, WIRE uses
        floor(log2(side / 4)): 6 for 256 pixels.

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = (
        "Mildenhall, Srinivasan, Tancik, Barron, Ramamoorthi, Ng: NeRF: Representing Scenes as "
        "Neural Radiance Fields for View Synthesis. ECCV 2020, arXiv 2003.08934."
    )

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 3
    frequencies: int = 6

    def __post_init__(self) -> None:
        _check(self)
        require_at_least(self, 1, "frequencies")

    @property
    def smoothness(self) -> float:
        """0: ReLU has kinks."""
        return 0

    def plan(self) -> dict[str, Any]:
        """PyTorch's default."""
        return _stack(self, self.in_dim * (1 + 2 * self.frequencies), _fan_in_layer)

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The encoding, the ReLU layers and the linear head."""
        encode = lambda x: positional_encoding(x, self.frequencies)  # noqa: E731
        return [encode, *_layers(self, params, jax.nn.relu)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FFN(Network):
    """Fourier feature network: a ReLU MLP on [cos(2 pi B x), sin(2 pi B x)], B ~ N(0, sigma^2).

    Parameters: as `MLP` with 2 * features inputs, weights U(+-sqrt(6 / (i + o))), biases 0. B is
    drawn from `seed`. It is not a parameter, and it does not depend on the key of `init`.

    Differences from the authors' code: they use 256 rows, biases ~ N(0, 1e-4) and, for images with
    values in [0, 1], a final sigmoid. Here the default of 128 rows gives 256 features, the width of
    a hidden layer, and the output is linear.

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: neurons of each hidden layer.
      depth: number of hidden layers.
      features: number of rows of B, the random frequencies.
      sigma: standard deviation of the frequencies, > 0, in periods per unit of x; the authors' 10
        on [0, 1) corresponds to 5 on [-1, 1).
      seed: seed that B is drawn from, >= 0.

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = (
        "Tancik, Srinivasan, Mildenhall, Fridovich-Keil, Raghavan, Singhal, Ramamoorthi, Barron, "
        "Ng: Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional "
        "Domains. NeurIPS 2020, arXiv 2006.10739."
    )

    in_dim: int
    out_dim: int
    width: int = 256
    depth: int = 3
    features: int = 128
    sigma: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self, "sigma")
        require_at_least(self, 1, "features")
        require_at_least(self, 0, "seed")

    @property
    def smoothness(self) -> float:
        """0: ReLU has kinks."""
        return 0

    def plan(self) -> dict[str, Any]:
        """Glorot's limits. The distribution is uniform; the authors' `stax.Dense` uses a normal."""

        def dense(fan_in: int, fan_out: int, index: int) -> dict[str, Any]:
            return linear(fan_in, fan_out, glorot_limit(fan_in, fan_out), bias=0.0)

        return _stack(self, 2 * self.features, dense)

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The features, the ReLU layers and the linear head."""
        encode = lambda x: gaussian_features(x, self.features, self.sigma, self.seed)  # noqa: E731
        return [encode, *_layers(self, params, jax.nn.relu)]


def _check(model: Any, *positive: str) -> None:
    require_at_least(model, 1, "in_dim", "out_dim", "width", "depth")
    optional = [n for n in ("first_omega0", "first_bias") if getattr(model, n, None) is not None]
    require_positive(model, *positive, *optional)


def _frequencies(model: Siren | Finer) -> tuple[float, float]:
    """omega0 of the hidden layers, and omega0 of the first layer."""
    return model.omega0, model.omega0 if model.first_omega0 is None else model.first_omega0


def _stack(
    model: Any, fan_in: int, dense: Callable[[int, int, int], dict[str, Any]]
) -> dict[str, Any]:
    """The plan of `depth` layers and the head, each from dense(fan_in, fan_out, index)."""
    widths = (fan_in, *(model.width,) * model.depth, model.out_dim)
    names = [*(f"layer_{index}" for index in range(model.depth)), "head"]
    return {
        name: dense(widths[index], widths[index + 1], index) for index, name in enumerate(names)
    }


def _fan_in_layer(fan_in: int, fan_out: int, index: int) -> dict[str, Any]:
    del index
    return linear(fan_in, fan_out, fan_in_limit(fan_in))


def _siren_stack(model: Any, first_bias: float | None = None) -> dict[str, Any]:
    def dense(fan_in: int, fan_out: int, index: int) -> dict[str, Any]:
        limit = siren_limit(fan_in, model.omega0, first=index == 0)
        return linear(fan_in, fan_out, limit, first_bias if index == 0 else None)

    return _stack(model, model.in_dim, dense)


def _scaled(choice: Activation, omega0: float) -> Callable[[jax.Array], jax.Array]:
    """The function z -> sigma(omega0 z), with 1 / pi folded into omega0 for sines."""
    tau, unit = in_half_turns(choice)
    return tau if omega0 == unit else lambda z: tau((omega0 / unit) * z)


def _layers(
    model: Any,
    params: Params,
    sigma: Callable[[jax.Array], jax.Array],
    first_sigma: Callable[[jax.Array], jax.Array] | None = None,
) -> list[Layer]:
    """The hidden layers h -> sigma(W h + b), the first with `first_sigma`, and the linear head."""

    def dense(name: str) -> Layer:
        return lambda h: affine(h, params[name]["weight"], params[name]["bias"])

    def hidden(index: int) -> Layer:
        own = first_sigma if index == 0 and first_sigma is not None else sigma
        return lambda h: own(dense(f"layer_{index}")(h))

    return [*map(hidden, range(model.depth)), dense("head")]
