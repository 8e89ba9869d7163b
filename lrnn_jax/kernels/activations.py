"""Elementwise activations: fast on the CPU, with derivatives that are right everywhere.

XLA's own float32 sine costs about ten times a polynomial on a CPU. `sin` and `cos` here reduce the
argument to [-pi/2, pi/2] and evaluate an odd, or even, polynomial; any other dtype takes XLA's.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import ArrayLike

from lrnn_jax.errors import InputError, suggest
from lrnn_jax.typing import Activation

__all__ = [
    "ACTIVATIONS",
    "activation",
    "cos",
    "root_mean_square",
    "sin",
    "sin_arctan",
    "smoothness",
    "spder",
]

# pi in three parts of which the first two have few bits: n * part is exact for n < 2**13 and 2**15.
_PI_PARTS = (np.float32(3.140625), np.float32(9.670257568359375e-4), np.float32(6.277114152908e-7))


def _polynomial(f: Callable, powers: tuple[int, ...], lead: Callable) -> tuple[np.float32, ...]:
    """Coefficients of f(t) - lead(t) on [-pi/2, pi/2], least squares at 2,000 Chebyshev points."""
    t = np.cos((np.arange(2000) + 0.5) / 2000 * np.pi) * (np.pi / 2)
    design = np.stack([t**p for p in powers], axis=1)
    solution = np.linalg.lstsq(design, f(t) - lead(t), rcond=None)[0]
    return tuple(np.float32(c) for c in solution)


_SIN = _polynomial(np.sin, (3, 5, 7, 9), lambda t: t)
_COS = _polynomial(np.cos, (2, 4, 6, 8, 10), np.ones_like)


def _horner(square: jax.Array, coefficients: tuple[np.float32, ...]) -> jax.Array:
    value = coefficients[-1] * square
    for c in coefficients[-2::-1]:
        value = (value + c) * square
    return value


def _sincos(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """sin x and cos x with one range reduction x = n pi + t, |t| about <= pi/2."""
    if x.dtype != jnp.float32:
        return jnp.sin(x), jnp.cos(x)
    n = jnp.round(x * np.float32(1 / np.pi))
    t = x
    for part in _PI_PARTS:
        t = t - n * part
    t = jnp.clip(t, -2, 2)  # n is off by one where x / pi is rounded across a half: |t| > pi / 2
    sign = n.astype(jnp.int32) << 31

    def flip(value: jax.Array) -> jax.Array:
        return lax.bitcast_convert_type(lax.bitcast_convert_type(value, jnp.int32) ^ sign, x.dtype)

    square = t * t
    return flip(t + t * _horner(square, _SIN)), flip(1 + _horner(square, _COS))


@jax.custom_jvp
def sin(x: ArrayLike) -> jax.Array:
    """sin x, several times faster than XLA's float32 sine on a CPU.

    Absolute error in float32: 2e-7 for |x| <= 1e3, 5e-7 for |x| <= 1e4, 5e-5 for |x| <= 1e6, which
    is a thousandth of the spacing of floats there; NaN for x that is not finite. Other dtypes:
    `jnp.sin`. Differentiable to any order, forward and reverse.
    """
    return _sincos(jnp.asarray(x))[0]


@jax.custom_jvp
def cos(x: ArrayLike) -> jax.Array:
    """cos x, with the accuracy and the range of `sin`."""
    return _sincos(jnp.asarray(x))[1]


sin.defjvps(lambda t, out, x: cos(x) * t)
cos.defjvps(lambda t, out, x: -sin(x) * t)


@jax.custom_jvp
def spder(x: ArrayLike) -> jax.Array:
    """SPDER's activation sin(x) sqrt|x|, with slope 0 at 0, which autodiff alone gets as NaN.

    Odd, once continuously differentiable: near 0 it is sign(x) |x|^(3/2), whose second derivative
    diverges, so it is unfit for a Laplacian; take `sin` or `sin_arctan` there.

    References: Shah and Sitawarin, "SPDER", ICLR 2024 (arXiv 2306.15242), eq. for images.
    """
    return sin(x) * jnp.sqrt(jnp.abs(x))


@spder.defjvp
def _spder_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    root = jnp.sqrt(jnp.abs(x))
    at_zero = root == 0
    damping = jnp.where(at_zero, 0, 0.5 * jnp.sign(x) / jnp.where(at_zero, 1, root))
    slope = cos(x) * root + sin(x) * damping
    return spder(x), slope * t


def sin_arctan(x: ArrayLike) -> jax.Array:
    """sin(x) arctan(x): SPDER's activation for sound. Even and smooth.

    References: Shah and Sitawarin, "SPDER", ICLR 2024 (arXiv 2306.15242); the LRNN slides, audio.
    """
    return sin(x) * jnp.arctan(x)


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = MappingProxyType(
    {"sin": sin, "spder": spder, "sin_arctan": sin_arctan, "tanh": jnp.tanh, "relu": jax.nn.relu}
)
"""Every activation that a configuration can name."""


def activation(choice: Any) -> Callable[[jax.Array], jax.Array]:
    """The function that `choice` names, or `choice` itself if it is one.

    Raises:
      InputError: the name is unknown, or it is neither a name nor a function.
    """
    if callable(choice):
        return choice  # pyright: ignore[reportReturnType]
    if not isinstance(choice, str):
        raise InputError(f"activation: expected a name or a function, got {choice!r}")
    if choice not in ACTIVATIONS:
        raise InputError(f"activation: unknown name '{choice}'; {suggest(choice, ACTIVATIONS)}")
    return ACTIVATIONS[choice]


def smoothness(choice: Activation) -> float:
    """Continuous derivatives of an activation: 0 for 'relu' and its kin, 1 for 'spder'.

    Any other function counts as smooth: infinity.
    """
    kinks = (jax.nn.relu, jax.nn.relu6, jax.nn.leaky_relu, jnp.abs)
    known: dict[Any, float] = dict.fromkeys(kinks, 0.0) | {spder: 1.0}
    return known.get(activation(choice), float("inf"))


@functools.cache
def root_mean_square(choice: Activation, half_width: float) -> float:
    """sqrt(E[sigma(u)^2]) for u uniform on [-half_width, half_width]: an activation's scale."""
    u = np.linspace(-half_width, half_width, 4001, dtype=np.float32)
    with jax.ensure_compile_time_eval():
        return float(jax.jit(lambda u: jnp.sqrt(jnp.mean(activation(choice)(u) ** 2)))(u))
