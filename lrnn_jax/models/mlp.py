"""MLPs with a fixed activation, each with the initialisation of its authors.

    h^(1) = sigma(W gamma(x) + b), ..., y = V h^(L) + v

`MLP` is the plain network. `Siren`, `Spder`, `Finer` and `Gauss` take the coordinates without an
encoding (gamma = identity) and use an activation that represents high frequencies. `FFN` and
`ReluPE` are ReLU networks on encoded coordinates.

Axis letters: n points, i inputs, o outputs, w width.
"""

import abc
import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.checks import check_types, require_at_least, require_positive
from lrnn_jax.kernels.activations import Elementwise, activation, in_half_turns
from lrnn_jax.kernels.dense import affine
from lrnn_jax.kernels.features import gaussian_features, positional_encoding
from lrnn_jax.kernels.initializers import fan_in_limit, glorot_limit, he_limit, linear, siren_limit
from lrnn_jax.models.network import DeepNetwork, Layer
from lrnn_jax.typing import Activation, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DenseNetwork(DeepNetwork):
    """Base class: `depth` layers h -> sigma(W h + b), possibly on encoded coordinates, and a head.

    Parameters: `{"layer_0": {weight (i, w), bias (w,)}, ..., "head": {weight (w, o), bias (o,)}}`.
    """

    @abc.abstractmethod
    def _sigma(self, index: int) -> Elementwise:
        """The activation of layer `index`."""

    def _dense_plan(self, fan_in: int, fan_out: int, index: int) -> dict[str, Any]:
        """The distribution of layer `index`, `depth` for the head: PyTorch's default."""
        return linear(fan_in, fan_out, fan_in_limit(fan_in))

    def _encoded_dim(self) -> int:
        """The number of inputs of the first layer."""
        return self.in_dim

    def plan(self) -> dict[str, Any]:
        widths = (self._encoded_dim(), *(self.width,) * self.depth, self.out_dim)
        names = [*(f"layer_{index}" for index in range(self.depth)), "head"]
        return {
            name: self._dense_plan(widths[index], widths[index + 1], index)
            for index, name in enumerate(names)
        }

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        def dense(name: str) -> Layer:
            return lambda h: affine(h, params[name]["weight"], params[name]["bias"])

        def hidden(index: int) -> Layer:
            sigma = self._sigma(index)
            return lambda h: sigma(dense(f"layer_{index}")(h))

        return [*map(hidden, range(self.depth)), dense("head")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _SineNetwork(_DenseNetwork):
    """Base class of the networks with SIREN's frequency and initialisation.

    W ~ U(+-1/i) in the first layer and U(+-sqrt(6/i)/omega0) in the others; biases U(+-1/sqrt(i)).

    Args:
      depth: number of hidden layers, including the first.
      omega0: frequency, > 0, `hidden_omega_0` in the authors' code; it also multiplies the bias.
    """

    depth: int = 4
    omega0: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "omega0")

    def _dense_plan(self, fan_in: int, fan_out: int, index: int) -> dict[str, Any]:
        return linear(fan_in, fan_out, siren_limit(fan_in, self.omega0, first=index == 0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TwoFrequencies(_SineNetwork):
    """Base class of the networks whose first layer may have another frequency.

    Args:
      first_omega0: frequency of the first layer, > 0, `first_omega_0` in the authors' code; the
        initialisation does not depend on it. None means omega0.
    """

    first_omega0: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "first_omega0")

    def _sine(self, index: int) -> Elementwise:
        """z -> sin(omega0 z) with the frequency of layer `index`."""
        first_omega0 = self.omega0 if self.first_omega0 is None else self.first_omega0
        return _scaled("sin", self.omega0 if index else first_omega0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _EncodedReluNetwork(_DenseNetwork):
    """Base class of the ReLU networks on encoded coordinates."""

    smoothness: ClassVar[float] = 0  # ReLU has kinks

    @abc.abstractmethod
    def _encode(self, x: Float[Array, "*n i"]) -> Float[Array, "*n f"]:
        """The encoding of the coordinates, f = `_encoded_dim` features."""

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        return [self._encode, *super().layers(params, x)]

    def _sigma(self, index: int) -> Elementwise:
        return jax.nn.relu


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLP(_DenseNetwork):
    """The plain MLP: h = sigma(W x + b), without any encoding of the coordinates.

    Args:
      activation: sigma: 'tanh' (common in PINNs), 'relu', 'sin', ..., or any function.
      weight_init: 'glorot', U(+-sqrt(6 / (i + o))), biases 0; 'he', U(+-sqrt(6 / i)), biases 0;
        'fan_in', weights and biases U(+-1 / sqrt(i)), as in PyTorch.
    """

    citation: ClassVar[str] = (
        "Rumelhart, Hinton, Williams: Learning representations by back-propagating errors. "
        "Nature 323, 1986."
    )

    activation: Activation = "tanh"
    weight_init: Literal["glorot", "he", "fan_in"] = "glorot"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_types(self, "weight_init")
        activation(self.activation)

    def _dense_plan(self, fan_in: int, fan_out: int, index: int) -> dict[str, Any]:
        if self.weight_init == "fan_in":
            return super()._dense_plan(fan_in, fan_out, index)
        glorot = self.weight_init == "glorot"
        limit = glorot_limit(fan_in, fan_out) if glorot else he_limit(fan_in)
        return linear(fan_in, fan_out, limit, bias=0.0)

    def _sigma(self, index: int) -> Elementwise:
        return _scaled(self.activation, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Siren(_TwoFrequencies):
    """SIREN: an MLP with layers sin(omega0 (W x + b)); the first layer may have another omega0.

    Args:
      depth: number of sine layers, including the first. 4 layers of width 256 have the 198,401
        parameters of the image studies for 2 -> 1 (`hidden_layers=3` in the authors' code).
    """

    citation: ClassVar[str] = (
        "Sitzmann, Martel, Bergman, Lindell, Wetzstein: Implicit Neural Representations with "
        "Periodic Activation Functions. NeurIPS 2020, arXiv 2006.09661."
    )

    def _sigma(self, index: int) -> Elementwise:
        return self._sine(index)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spder(_SineNetwork):
    """SPDER: SIREN with the damped activation sin(u) sqrt|u| or sin(u) arctan(u).

    Args:
      omega0: frequency of every layer, > 0; it also multiplies the bias.
      activation: the authors use 'spder' for images and 'sin_arctan' for sound.
    """

    citation: ClassVar[str] = (
        "Shah, Sitawarin: SPDER: Semiperiodic Damping-Enabled Object Representation. "
        "ICLR 2024, arXiv 2306.15242."
    )

    activation: Activation = "spder"

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.activation)

    def _sigma(self, index: int) -> Elementwise:
        return _scaled(self.activation, self.omega0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finer(_TwoFrequencies):
    """FINER: an MLP with the variable-periodic activation sin(omega0 (|z| + 1) z), z = W x + b.

    Args:
      omega0: frequency, > 0, `hidden_omega_0` in the authors' code.
      first_bias: the biases of the first layer are U(+-first_bias); larger values give higher
        frequencies. None means SIREN's U(+-1/sqrt(i)), the authors' default.
      scale_gradient: True differentiates the activation exactly. False treats |z| + 1 as a constant
        in the derivative, the default of the authors' code; do not use False for differential
        equations.
    """

    citation: ClassVar[str] = (
        "Liu, Zhu, Zhang, Fu, Deng, Ma, Guo, Cao: FINER: Flexible Spectral-bias Tuning in Implicit "
        "Neural Representation by Variable-periodic Activation Functions. CVPR 2024, "
        "arXiv 2312.02434."
    )

    smoothness: ClassVar[float] = 1  # the second derivative of |z| z is discontinuous at 0

    first_bias: float | None = None
    scale_gradient: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "first_bias")
        check_types(self, "scale_gradient")

    def _dense_plan(self, fan_in: int, fan_out: int, index: int) -> dict[str, Any]:
        limit = siren_limit(fan_in, self.omega0, first=index == 0)
        return linear(fan_in, fan_out, limit, self.first_bias if index == 0 else None)

    def _sigma(self, index: int) -> Elementwise:
        sine = self._sine(index)

        def sigma(z: jax.Array) -> jax.Array:
            scale = jnp.abs(z) + 1
            scale = scale if self.scale_gradient else jax.lax.stop_gradient(scale)
            return sine(scale * z)

        return sigma


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gauss(_DenseNetwork):
    """Gaussian MLP: h = exp(-(scale (W x + b))^2), weights and biases U(+-1 / sqrt(i)).

    Args:
      scale: inverse width of the Gaussian, > 0; 10 in WIRE's experiments, 30 in FINER's.
    """

    citation: ClassVar[str] = (
        "Ramasinghe, Lucey: Beyond Periodicity: Towards a Unifying Framework for Activations in "
        "Coordinate-MLPs. ECCV 2022, arXiv 2111.15135."
    )

    scale: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "scale")

    def _sigma(self, index: int) -> Elementwise:
        return lambda z: jnp.exp(-jnp.square(self.scale * z))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReluPE(_EncodedReluNetwork):
    """ReLU+PE: a ReLU MLP on [x, sin(2^m pi x), cos(2^m pi x)], m = 0..frequencies - 1.

    The first layer has in_dim (1 + 2 frequencies) inputs; all parameters are U(+-1 / sqrt(i)).

    Args:
      frequencies: number of frequencies per axis, >= 1; for an image, WIRE uses
        floor(log2(side / 4)): 6 for 256 pixels.
    """

    citation: ClassVar[str] = (
        "Mildenhall, Srinivasan, Tancik, Barron, Ramamoorthi, Ng: NeRF: Representing Scenes as "
        "Neural Radiance Fields for View Synthesis. ECCV 2020, arXiv 2003.08934."
    )

    frequencies: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "frequencies")

    def _encoded_dim(self) -> int:
        return self.in_dim * (1 + 2 * self.frequencies)

    def _encode(self, x: Float[Array, "*n i"]) -> Float[Array, "*n f"]:
        return positional_encoding(x, self.frequencies)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FFN(_EncodedReluNetwork):
    """Fourier feature network: a ReLU MLP on [cos(2 pi B x), sin(2 pi B x)], B ~ N(0, sigma^2).

    The first layer has 2 * features inputs; weights are U(+-sqrt(6 / (i + o))), biases 0. B is
    drawn from `seed`. It is not a parameter, and it does not depend on the key of `init`.

    Differences from the authors' code: they use 256 rows, normal weights, biases ~ N(0, 1e-4) and,
    for images with values in [0, 1], a final sigmoid. Here the default of 128 rows gives 256
    features, the width of a hidden layer, and the output is linear.

    Args:
      features: number of rows of B, the random frequencies.
      sigma: standard deviation of the frequencies, > 0, in periods per unit of x; the authors' 10
        on [0, 1) corresponds to 5 on [-1, 1).
      seed: seed that B is drawn from, >= 0.
    """

    citation: ClassVar[str] = (
        "Tancik, Srinivasan, Mildenhall, Fridovich-Keil, Raghavan, Singhal, Ramamoorthi, Barron, "
        "Ng: Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional "
        "Domains. NeurIPS 2020, arXiv 2006.10739."
    )

    features: int = 128
    sigma: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "sigma")
        require_at_least(self, 1, "features")
        require_at_least(self, 0, "seed")

    def _dense_plan(self, fan_in: int, fan_out: int, index: int) -> dict[str, Any]:
        return linear(fan_in, fan_out, glorot_limit(fan_in, fan_out), bias=0.0)

    def _encoded_dim(self) -> int:
        return 2 * self.features

    def _encode(self, x: Float[Array, "*n i"]) -> Float[Array, "*n f"]:
        return gaussian_features(x, self.features, self.sigma, self.seed)


def _scaled(choice: Activation, omega0: float) -> Elementwise:
    """The function z -> sigma(omega0 z), with 1 / pi folded into omega0 for sines."""
    tau, unit = in_half_turns(choice)
    return tau if omega0 == unit else lambda z: tau((omega0 / unit) * z)
