"""Elementwise activations: fast on the CPU, with correct derivatives at every argument.

On a CPU, XLA's float32 sine takes more than ten times as long as a polynomial. `sinpi` and `cospi`
take their argument in half turns (units of pi radians). In every float dtype, the reduction of such
an argument to [-1/2, 1/2] is exact and works for every finite argument. The models fold the
division by pi into a frequency that they multiply by anyway. `sin` and `cos` take radians; for
dtypes other than float32 they call XLA's functions. `benchmarks/speed.py sine` measures all of
them.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Mapping
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
    "cospi",
    "exact",
    "in_half_turns",
    "root_mean_square",
    "sin",
    "sin_arctan",
    "sinpi",
    "smoothness",
    "spder",
]

Elementwise = Callable[[jax.Array], jax.Array]

_RADIANS = 1e4  # largest |x| for which the reduction of radians has the accuracy stated in `sin`
# pi as a sum of three parts. The first two have few bits, so n * part is exact for n < 2**14.
_PI_PARTS = (np.float32(3.140625), np.float32(9.670257568359375e-4), np.float32(6.2783295730e-7))


_BITS = contextvars.ContextVar("bits", default=True)


@contextlib.contextmanager
def without_bit_operations() -> Iterator[None]:
    """What is traced inside contains no operations on the bits of floats, which ONNX lacks."""
    token = _BITS.set(False)
    try:
        yield
    finally:
        _BITS.reset(token)


def _polynomial(f: Callable, powers: tuple[int, ...]) -> tuple[np.float32, ...]:
    """Least-squares coefficients of f(pi t) on [-1/2, 1/2], fitted at 2,000 Chebyshev points."""
    t = np.cos((np.arange(2000) + 0.5) / 2000 * np.pi) / 2
    design = np.stack([t**p for p in powers], axis=1)
    return tuple(np.float32(c) for c in np.linalg.lstsq(design, f(np.pi * t), rcond=None)[0])


_SIN = _polynomial(np.sin, (1, 3, 5, 7, 9))
_COS = _polynomial(np.cos, (0, 2, 4, 6, 8, 10))


def _horner(square: jax.Array, coefficients: tuple[np.float32, ...]) -> jax.Array:
    value = jnp.full_like(square, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * square + c
    return value


def _signed(value: jax.Array, n: jax.Array) -> jax.Array:
    """(-1)^n value, computed by flipping the sign bit."""
    if not _BITS.get():
        return jnp.where(_odd(n.astype(value.dtype)), -value, value)
    sign = n.astype(jnp.int32) << 31
    return lax.bitcast_convert_type(lax.bitcast_convert_type(value, jnp.int32) ^ sign, jnp.float32)


def _sine(t: jax.Array, n: jax.Array) -> jax.Array:
    """sin(pi (n + t)), |t| <= 1/2."""
    return _signed(t * _horner(t * t, _SIN), n)


def _cosine(t: jax.Array, n: jax.Array) -> jax.Array:
    """cos(pi (n + t)), |t| <= 1/2."""
    # Every float32 >= 2**24 is even, so it does not change the sign.
    return _signed(_horner(t * t, _COS), jnp.where(jnp.abs(n) < 2.0**24, n, 0))


def _odd(n: jax.Array) -> jax.Array:
    """Whether integer values of a float dtype are odd."""
    # Halving is exact in floating point, and every very large float is even.
    half = 0.5 * n
    return half != jnp.floor(half)


def _in_half_turns(fast: Callable, slow: Callable, plain: Elementwise, x: ArrayLike) -> jax.Array:
    """f(pi x), computed from x = n + t with n = round(x); t = x - round(x) is exact.

    Args:
      fast: maps (t, n) to the value, in float32. Narrower dtypes are computed in float32 and
        rounded once.
      slow: maps t to f(pi t), in float64.
      plain: f of radians; used for complex numbers, whose argument is not reduced.
      x: array of any dtype; integers are converted to JAX's default float dtype.
    """
    x = jnp.asarray(x)
    if jnp.iscomplexobj(x):
        return plain(np.pi * x)
    x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)
    if x.dtype == jnp.float64:
        n = jnp.round(x)
        value = slow(x - n)
        return jnp.where(_odd(n), -value, value)
    wide = x.astype(jnp.float32)
    n = jnp.round(wide)
    return fast(wide - n, n).astype(x.dtype)


@jax.custom_jvp
def sinpi(x: ArrayLike) -> jax.Array:
    """sin(pi x), x in half turns, at a small fraction of the cost of XLA's sine on a CPU.

    For every finite x, the relative error is 4e-7 in float32 and 5e-16 in float64. Narrower dtypes
    have the error of float32 plus one rounding. The result is NaN where x is not finite.
    Differentiable to any order, in forward and reverse mode.
    """
    return _in_half_turns(_sine, lambda t: jnp.sin(np.pi * t), jnp.sin, x)


@jax.custom_jvp
def cospi(x: ArrayLike) -> jax.Array:
    """cos(pi x), x in half turns.

    The absolute error is 2e-7 in float32 and 3e-16 in float64. In float64 the result is exactly 0
    at every half-integer. Other dtypes, non-finite x and derivatives: as `sinpi`.
    """
    # Near the zeros of the cosine a rounding error would matter; there 1/2 - |t| is exact.
    return _in_half_turns(_cosine, lambda t: jnp.sin(np.pi * (0.5 - jnp.abs(t))), jnp.cos, x)


sinpi.defjvps(lambda t, out, x: cospi(x) * (np.pi * t))
cospi.defjvps(lambda t, out, x: sinpi(x) * (-np.pi * t))


def _from_radians(fast: Callable, slow: Elementwise, x: ArrayLike) -> jax.Array:
    """fast(t, n) of x = pi (n + t); slow(x) for the full array if any element is out of range."""
    x = jnp.asarray(x)
    if x.dtype != jnp.float32:
        return slow(x)

    def reduced(x: jax.Array) -> jax.Array:
        n = jnp.round(x * np.float32(1 / np.pi))
        t = x
        for part in _PI_PARTS:
            t = t - n * part
        return fast(t * np.float32(1 / np.pi), n)

    return lax.cond(jnp.all(jnp.abs(x) <= _RADIANS), reduced, slow, x)


@jax.custom_jvp
def sin(x: ArrayLike) -> jax.Array:
    """sin x, x in radians, at a fraction of the cost of XLA's sine on a CPU.

    In float32 the absolute error is 3e-7 for |x| <= 1e4. The relative error has no such bound near
    a multiple of pi, because the argument is reduced in float32; `sinpi` has a relative error of
    4e-7. If any element exceeds 1e4 in absolute value or is not finite, `jnp.sin` is used for the
    full array. Under `jax.vmap` both branches are computed: use `sinpi` there. Other dtypes always
    use `jnp.sin`. Differentiable to any order, in forward and reverse mode.
    """
    return _from_radians(_sine, jnp.sin, x)


@jax.custom_jvp
def cos(x: ArrayLike) -> jax.Array:
    """cos x, x in radians, with the accuracy and the range of `sin`."""
    return _from_radians(_cosine, jnp.cos, x)


sin.defjvps(lambda t, out, x: cos(x) * t)
cos.defjvps(lambda t, out, x: -sin(x) * t)


def _damped(sine: Elementwise, cosine: Elementwise, unit: float) -> Elementwise:
    """The function t -> sin(u) sqrt|u| with u = unit t, given sine(t) = sin(u), cosine(t) = cos(u).

    Its derivative rule sets the slope at 0 to 0, where automatic differentiation yields NaN.
    """

    @jax.custom_jvp
    def spder(t: ArrayLike) -> jax.Array:
        return sine(jnp.asarray(t)) * jnp.sqrt(jnp.abs(unit * jnp.asarray(t)))

    @spder.defjvp
    def _(primals, tangents):
        (t,), (dt,) = primals, tangents
        root = jnp.sqrt(jnp.abs(unit * t))
        at_zero = root == 0
        damping = jnp.where(t < 0, -0.5, 0.5) / jnp.where(at_zero, jnp.inf, root)
        return spder(t), (cosine(t) * root + sine(t) * damping) * (unit * dt)

    return spder


_spder = _damped(sin, cos, 1.0)


def spder(x: ArrayLike) -> jax.Array:
    """SPDER's activation for images: sin(x) sqrt|x|.

    The slope at 0 is 0; plain automatic differentiation would yield NaN there. The function is odd
    and once continuously differentiable. Near 0 it behaves as sign(x) |x|^(3/2), whose second
    derivative diverges, so it is not suited to a Laplacian; use `sin` or `sin_arctan` instead.

    References: Shah and Sitawarin, "SPDER", ICLR 2024 (arXiv 2306.15242), eq. for images.
    """
    return _spder(jnp.asarray(x))


def sin_arctan(x: ArrayLike) -> jax.Array:
    """SPDER's activation for sound: sin(x) arctan(x). Even and smooth.

    References: Shah and Sitawarin, "SPDER", ICLR 2024 (arXiv 2306.15242); the LRNN slides, audio.
    """
    return sin(x) * jnp.arctan(x)


ACTIVATIONS: Mapping[str, Elementwise] = MappingProxyType(
    {"sin": sin, "spder": spder, "sin_arctan": sin_arctan, "tanh": jnp.tanh, "relu": jax.nn.relu}
)
"""The activations that a configuration can select by name."""


def activation(choice: Any) -> Elementwise:
    """Return the activation function for a name; a function is returned unchanged.

    Raises:
      InputError: the name is unknown, or `choice` is neither a name nor a function.
    """
    if callable(choice):
        return choice  # pyright: ignore[reportReturnType]
    if not isinstance(choice, str):
        raise InputError(f"activation: expected a name or a function, got {choice!r}")
    if choice not in ACTIVATIONS:
        raise InputError(f"activation: unknown name '{choice}'; {suggest(choice, ACTIVATIONS)}")
    return ACTIVATIONS[choice]


_HALF_TURNS: dict[Any, Elementwise] = {
    sin: sinpi,
    cos: cospi,
    spder: _damped(sinpi, cospi, np.pi),
    sin_arctan: lambda t: sinpi(t) * jnp.arctan(np.pi * t),
}
_EXACT: dict[Any, Elementwise] = {
    sin: jnp.sin,
    cos: jnp.cos,
    spder: _damped(jnp.sin, jnp.cos, 1.0),
    sin_arctan: lambda x: jnp.sin(x) * jnp.arctan(x),
}


def in_half_turns(choice: Activation) -> tuple[Elementwise, float]:
    """Return (tau, unit) with sigma(x) = tau(x / unit).

    `unit` is pi for activations built from sines and 1 for all others. Fold the division by `unit`
    into the frequency that multiplies x or into the preceding weights, where it costs nothing.
    """
    sigma = activation(choice)
    return (_HALF_TURNS[sigma], np.pi) if sigma in _HALF_TURNS else (sigma, 1.0)


def exact(choice: Activation) -> Elementwise:
    """The activation computed with XLA's sine: the reference for tests and benchmarks."""
    sigma = activation(choice)
    return _EXACT.get(sigma, sigma)


def smoothness(choice: Activation) -> float:
    """The number of continuous derivatives of an activation.

    It is 0 for 'relu', `jax.nn.relu6`, `jax.nn.leaky_relu` and `jnp.abs`, and 1 for 'spder'. Every
    other function is assumed to be smooth: infinity.
    """
    kinks = (jax.nn.relu, jax.nn.relu6, jax.nn.leaky_relu, jnp.abs)
    known: dict[Any, float] = dict.fromkeys(kinks, 0.0) | {spder: 1.0}
    return known.get(activation(choice), float("inf"))


@functools.cache
def root_mean_square(choice: Activation, half_width: float) -> float:
    """The scale of an activation: sqrt(E[sigma(u)^2]), u uniform on [-half_width, half_width]."""
    u = np.linspace(-half_width, half_width, 4001, dtype=np.float32)
    with jax.ensure_compile_time_eval():
        return float(jax.jit(lambda u: jnp.sqrt(jnp.mean(activation(choice)(u) ** 2)))(u))
