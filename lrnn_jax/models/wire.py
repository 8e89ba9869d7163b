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

from lrnn_jax.checks import require_at_least, require_positive
from lrnn_jax.kernels.activations import cospi, sinpi
from lrnn_jax.kernels.dense import affine, dot
from lrnn_jax.kernels.initializers import Uniform, fan_in_limit, linear
from lrnn_jax.models.network import Layer, Network
from lrnn_jax.typing import Params

__all__ = ["Wire", "Wire2D"]


class _Complex(NamedTuple):
    """A complex array as its real and imaginary parts."""

    real: jax.Array
    imag: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wire(Network):
    """WIRE: a network of complex Gabor wavelets with real inputs and outputs.

    Parameters: `{"layer_0": {"wave": {weight (i, w), bias (w,)}}, "layer_1": {"wave": {weight_real,
    weight_imag (w, w), bias_real, bias_imag (w,)}}, ..., "head": {weight_real, ... (w, o)}}`. Real
    and imaginary parts are ~ U(+-1 / sqrt(fan-in)), as in a complex linear layer of PyTorch.

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: complex neurons of each hidden layer; the authors use int(256 / sqrt(2)) = 181 in
        comparisons with real networks of width 256. For 2 -> 3 this gives 133,403 real parameters,
        the "67K" complex parameters of the literature.
      depth: number of wavelet layers, including the first: `hidden_layers=2` in the authors' code
        is 3 here.
      omega0: frequency, > 0, `hidden_omega_0` in the authors' code. omega0 = 20 and sigma0 = 10 are
        the values of the comparison on images by the authors of FINER; the scripts of WIRE's
        authors use 4 to 20.
      first_omega0: frequency of the first layer, > 0, `first_omega_0` in the authors' code; None
        means omega0.
      sigma0: inverse width of the Gaussian, > 0, `scale` in the authors' code; they recommend
        omega0 / sigma0 < 2.5, because |psi| reaches exp((omega0 / sigma0)^2 / 4).

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = (
        "Saragadam, LeJeune, Tan, Balakrishnan, Veeraraghavan, Baraniuk: WIRE: Wavelet Implicit "
        "Neural Representations. CVPR 2023, arXiv 2301.05187."
    )

    in_dim: int
    out_dim: int
    width: int = 181
    depth: int = 3
    omega0: float = 20.0
    first_omega0: float | None = None
    sigma0: float = 10.0

    def __post_init__(self) -> None:
        _check(self)

    def plan(self) -> dict[str, Any]:
        """PyTorch's default."""
        return _plan(self, ("wave",))

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The wavelet layers and the real part of the linear head."""
        return _layers(self, params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wire2D(Network):
    """WIRE-2D: WIRE with a second linear map in the Gaussian factor.

    Parameters: as `Wire`; every layer also has "envelope", of the same structure as "wave".

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
      width: complex neurons of each hidden layer; the authors use 256 / 2 = 128, which gives
        133,638 real parameters for 2 -> 3.
      depth: number of wavelet layers, including the first.
      omega0: frequency, > 0; omega0 = 10 and sigma0 = 10 are the values of the authors' script for
        tomography.
      first_omega0: frequency of the first layer, > 0; None means omega0.
      sigma0: inverse width of the Gaussian, > 0.

    Raises:
      InputError: a field is out of its range.
    """

    citation: ClassVar[str] = Wire.citation

    in_dim: int
    out_dim: int
    width: int = 128
    depth: int = 3
    omega0: float = 10.0
    first_omega0: float | None = None
    sigma0: float = 10.0

    def __post_init__(self) -> None:
        _check(self)

    def plan(self) -> dict[str, Any]:
        """PyTorch's default."""
        return _plan(self, ("wave", "envelope"))

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The wavelet layers and the real part of the linear head."""
        return _layers(self, params)


def _check(model: Wire | Wire2D) -> None:
    require_at_least(model, 1, "in_dim", "out_dim", "width", "depth")
    require_positive(model, "omega0", "sigma0")
    if model.first_omega0 is not None:
        require_positive(model, "first_omega0")


def _layers(model: Wire | Wire2D, params: Params) -> list[Layer]:
    first = model.omega0 if model.first_omega0 is None else model.first_omega0
    frequencies = [first, *(model.omega0,) * (model.depth - 1)]
    hidden = (
        functools.partial(_gabor, omega0, model.sigma0, params[f"layer_{index}"])
        for index, omega0 in enumerate(frequencies)
    )
    return [*hidden, lambda h: _affine(params["head"], h).real]


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


def _plan(model: Wire | Wire2D, names: tuple[str, ...]) -> dict[str, Any]:
    def hidden(index: int) -> dict[str, Any]:
        if index == 0:
            return linear(model.in_dim, model.width, fan_in_limit(model.in_dim))
        return _complex_linear(model.width, model.width)

    layers = {
        f"layer_{index}": {name: hidden(index) for name in names} for index in range(model.depth)
    }
    return layers | {"head": _complex_linear(model.width, model.out_dim)}


def _complex_linear(fan_in: int, fan_out: int) -> dict[str, Any]:
    limit = fan_in_limit(fan_in)
    weight, bias = Uniform((fan_in, fan_out), limit), Uniform((fan_out,), limit)
    return {"weight_real": weight, "weight_imag": weight, "bias_real": bias, "bias_imag": bias}
