"""WIRE and WIRE-2D: complex Gabor wavelets as activations, in real arithmetic.

    z = W h + b,  psi(z) = exp(j omega0 z) exp(-|sigma0 z|^2)                        WIRE
    psi(z, z') = exp(j omega0 z) exp(-sigma0^2 (|z|^2 + |z'|^2)),  z' = W' h + b'    WIRE-2D
    y = Re(V h + v)

The first layer's W and b are real, all others complex. Real and imaginary parts are separate arrays
of real parameters, because an optimiser that uses |g|^2 of a complex gradient would couple them.
For z = p + j q, psi(z) = exp(-omega0 q - sigma0^2 (p^2 + q^2)) (cos(omega0 p) + j sin(omega0 p)).

Axis letters: n points, i inputs, o outputs, w width (complex neurons).
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.checks import require_positive
from lrnn_jax.kernels.activations import cospi, sinpi
from lrnn_jax.kernels.dense import affine, dot
from lrnn_jax.kernels.initializers import Uniform, fan_in_limit, linear
from lrnn_jax.models.network import DeepNetwork, Layer
from lrnn_jax.typing import Params


class _Complex(NamedTuple):
    """A complex array as its real and imaginary parts."""

    real: jax.Array
    imag: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class _WaveletNetwork(DeepNetwork):
    """Base class: `depth` wavelet layers and the real part of a complex linear head.

    Args:
      depth: number of wavelet layers, including the first: `hidden_layers=2` in the authors' code
        is 3 here.
      first_omega0: frequency of the first layer, > 0, `first_omega_0` in the authors' code; None
        means omega0.
    """

    citation: ClassVar[str] = (
        "Saragadam, LeJeune, Tan, Balakrishnan, Veeraraghavan, Baraniuk: WIRE: Wavelet Implicit "
        "Neural Representations. CVPR 2023, arXiv 2301.05187."
    )
    _maps: ClassVar[tuple[str, ...]]
    """The names of the linear maps of a wavelet layer."""

    omega0: float = 20.0
    first_omega0: float | None = None
    sigma0: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "omega0", "sigma0", "first_omega0")

    def plan(self) -> dict[str, Any]:
        def hidden(index: int) -> dict[str, Any]:
            if index == 0:
                return linear(self.in_dim, self.width, fan_in_limit(self.in_dim))
            return _complex_linear(self.width, self.width)

        layers = {
            f"layer_{index}": {name: hidden(index) for name in self._maps}
            for index in range(self.depth)
        }
        return layers | {"head": _complex_linear(self.width, self.out_dim)}

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        first = self.omega0 if self.first_omega0 is None else self.first_omega0
        frequencies = [first, *(self.omega0,) * (self.depth - 1)]
        hidden = (
            functools.partial(_gabor, omega0, self.sigma0, params[f"layer_{index}"])
            for index, omega0 in enumerate(frequencies)
        )
        return [*hidden, lambda h: _affine(params["head"], h).real]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wire(_WaveletNetwork):
    """WIRE: a network of complex Gabor wavelets with real inputs and outputs.

    Parameters: `{"layer_0": {"wave": {weight (i, w), bias (w,)}}, "layer_1": {"wave": {weight_real,
    weight_imag (w, w), bias_real, bias_imag (w,)}}, ..., "head": {weight_real, ... (w, o)}}`. Real
    and imaginary parts are ~ U(+-1 / sqrt(fan-in)), as in a complex linear layer of PyTorch.

    Args:
      width: complex neurons of each hidden layer; the authors use int(256 / sqrt(2)) = 181 in
        comparisons with real networks of width 256. For 2 -> 3 this gives 133,403 real parameters,
        the "67K" complex parameters of the literature.
      omega0: frequency, > 0, `hidden_omega_0` in the authors' code. omega0 = 20 and sigma0 = 10 are
        the values of the comparison on images by the authors of FINER; the scripts of WIRE's
        authors use 4 to 20.
      sigma0: inverse width of the Gaussian, > 0, `scale` in the authors' code; they recommend
        omega0 / sigma0 < 2.5, because |psi| reaches exp((omega0 / sigma0)^2 / 4).
    """

    _maps: ClassVar[tuple[str, ...]] = ("wave",)

    width: int = 181


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wire2D(_WaveletNetwork):
    """WIRE-2D: WIRE with a second linear map in the Gaussian factor.

    Parameters: as `Wire`; every layer also has "envelope", of the same structure as "wave".

    Args:
      width: complex neurons of each hidden layer; the authors use 256 / 2 = 128, which gives
        133,638 real parameters for 2 -> 3.
      omega0: frequency, > 0; omega0 = 10 and sigma0 = 10 are the values of the authors' script for
        tomography.
      sigma0: inverse width of the Gaussian, > 0.
    """

    _maps: ClassVar[tuple[str, ...]] = ("wave", "envelope")

    width: int = 128
    omega0: float = 10.0


def _gabor(omega0: float, sigma0: float, params: Params, h: jax.Array | _Complex) -> _Complex:
    """The wavelet psi of every neuron."""
    z = _affine(params["wave"], h)
    square = _square(z)
    if "envelope" in params:
        square = square + _square(_affine(params["envelope"], h))
    size = jnp.exp(-omega0 * z.imag - sigma0**2 * square)
    half_turns = (omega0 / math.pi) * z.real
    return _Complex(size * cospi(half_turns), size * sinpi(half_turns))


def _square(z: _Complex) -> jax.Array:
    """|z|^2."""
    return z.real * z.real + z.imag * z.imag


def _affine(params: Params, h: jax.Array | _Complex) -> _Complex:
    """W h + b; the parameters are real if h is real, and complex if h is complex."""
    if not isinstance(h, _Complex):
        z = affine(h, params["weight"], params["bias"])
        return _Complex(z, jnp.zeros_like(z))
    real, imag = params["weight_real"], params["weight_imag"]
    return _Complex(
        dot(h.real, real) - dot(h.imag, imag) + params["bias_real"],
        dot(h.real, imag) + dot(h.imag, real) + params["bias_imag"],
    )


def _complex_linear(fan_in: int, fan_out: int) -> dict[str, Any]:
    limit = fan_in_limit(fan_in)
    weight, bias = Uniform((fan_in, fan_out), limit), Uniform((fan_out,), limit)
    return {"weight_real": weight, "weight_imag": weight, "bias_real": bias, "bias_imag": bias}
