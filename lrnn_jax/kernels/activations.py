"""Elementwise activations: fast on the CPU, with derivatives that are right everywhere.

XLA's own float32 sine costs a CPU ten times a polynomial and more. `sinpi` and `cospi` take their
argument in half turns, so that its reduction to [-1/2, 1/2] is exact and has no range, in every
float dtype; the models divide by pi where they multiply by a frequency anyway. `sin` and `cos` are
for radians; other dtypes than float32 take XLA's functions there. `benchmarks/speed.py sine`
measures them.
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

_RADIANS = 1e4  # |x| up to which the reduction of radians is as accurate as `sin` says
# pi in three parts of which the first two have few bits: n * part is exact for n < 2**14.
_PI_PARTS = (np.float32(3.140625), np.float32(9.670257568359375e-4), np.float32(6.2783295730e-7))


def _polynomial(f: Callable, powers: tuple[int, ...]) -> tuple[np.float32, ...]:
    """Coefficients of f(pi t) on [-1/2, 1/2], least squares at 2,000 Chebyshev points."""
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
    """(-1)^n value, through the sign bit."""
    sign = n.astype(jnp.int32) << 31
    return lax.bitcast_convert_type(lax.bitcast_convert_type(value, jnp.int32) ^ sign, jnp.float32)


def _sine(t: jax.Array, n: jax.Array) -> jax.Array:
    """sin(pi (n + t)), |t| <= 1/2."""
    return _signed(t * _horner(t * t, _SIN), n)


def _cosine(t: jax.Array, n: jax.Array) -> jax.Array:
    """cos(pi (n + t)), |t| <= 1/2; every float from 2**24 on is even."""
    return _signed(_horner(t * t, _COS), jnp.where(jnp.abs(n) < 2.0**24, n, 0))


def _odd(n: jax.Array) -> jax.Array:
    """Whether integers of a float dtype are odd: halving is exact, and every huge float is even."""
    half = 0.5 * n
    return half != jnp.floor(half)


def _in_half_turns(fast: Callable, slow: Callable, plain: Elementwise, x: ArrayLike) -> jax.Array:
    """f(pi x) from x = n + t, where x - round(x) is exact.

    Args:
      fast: (t, n) to the value in float32, which narrower dtypes are computed in and rounded once.
      slow: t to f(pi t) in float64.
      plain: f of radians, for complex numbers, which are not reduced.
      x: of any dtype; integers take JAX's default float dtype.
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

    For every finite x, however large, the relative error is 4e-7 in float32, 5e-16 in float64 and
    one rounding more than float32's in narrower dtypes; NaN for others. Differentiable to any
    order, forward and reverse.
    """
    return _in_half_turns(_sine, lambda t: jnp.sin(np.pi * t), jnp.sin, x)


@jax.custom_jvp
def cospi(x: ArrayLike) -> jax.Array:
    """cos(pi x), x in half turns. Absolute error 2e-7 in float32, 3e-16 in float64, where it is 0
    at each half-integer; for the rest see `sinpi`.
    """
    # 1/2 - |t| is exact near the zeros of the cosine, where its rounding would matter
    return _in_half_turns(_cosine, lambda t: jnp.sin(np.pi * (0.5 - jnp.abs(t))), jnp.cos, x)


sinpi.defjvps(lambda t, out, x: cospi(x) * (np.pi * t))
cospi.defjvps(lambda t, out, x: sinpi(x) * (-np.pi * t))


def _from_radians(fast: Callable, slow: Elementwise, x: ArrayLike) -> jax.Array:
    """fast(t, n) of x = pi (n + t); all of x takes `slow` where any of it is out of range."""
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

    Error in float32, relative to the amplitude 1: 3e-7 for |x| <= 1e4. (Relative to the value it is
    4e-7 for `sinpi`; here no float32 reduction can hold that near a multiple of pi.) If any element
    is beyond 1e4 or not finite, all take `jnp.sin`. Under `jax.vmap` both are computed: take
    `sinpi` there. Other dtypes: `jnp.sin`. Differentiable to any order, forward and reverse.
    """
    return _from_radians(_sine, jnp.sin, x)


@jax.custom_jvp
def cos(x: ArrayLike) -> jax.Array:
    """cos x, with the accuracy and the range of `sin`."""
    return _from_radians(_cosine, jnp.cos, x)


sin.defjvps(lambda t, out, x: cos(x) * t)
cos.defjvps(lambda t, out, x: -sin(x) * t)


def _damped(sine: Elementwise, cosine: Elementwise, unit: float) -> Elementwise:
    """t -> sin(u) sqrt|u|, u = unit t, of sine(t) = sin(u) and cosine(t) = cos(u)."""

    @jax.custom_jvp
    def spder(t: ArrayLike) -> jax.Array:
        return sine(jnp.asarray(t)) * jnp.sqrt(jnp.abs(unit * jnp.asarray(t)))

    @spder.defjvp
    def _(primals, tangents):
        (t,), (dt,) = primals, tangents
        root = jnp.sqrt(jnp.abs(unit * t))
        at_zero = root == 0
        damping = jnp.where(at_zero, 0, 0.5 * jnp.sign(t) / jnp.where(at_zero, 1, root))
        return spder(t), (cosine(t) * root + sine(t) * damping) * (unit * dt)

    return spder


_spder = _damped(sin, cos, 1.0)
_EXACT_SPDER = _damped(jnp.sin, jnp.cos, 1.0)
_SPDER_PI = _damped(sinpi, cospi, np.pi)


def spder(x: ArrayLike) -> jax.Array:
    """SPDER's activation sin(x) sqrt|x|, with slope 0 at 0, which autodiff alone gets as NaN.

    Odd, once continuously differentiable: near 0 it is sign(x) |x|^(3/2), whose second derivative
    diverges, so it is unfit for a Laplacian; take `sin` or `sin_arctan` there.

    References: Shah and Sitawarin, "SPDER", ICLR 2024 (arXiv 2306.15242), eq. for images.
    """
    return _spder(jnp.asarray(x))


def sin_arctan(x: ArrayLike) -> jax.Array:
    """sin(x) arctan(x): SPDER's activation for sound. Even and smooth.

    References: Shah and Sitawarin, "SPDER", ICLR 2024 (arXiv 2306.15242); the LRNN slides, audio.
    """
    return sin(x) * jnp.arctan(x)


def _exact_sin_arctan(x: jax.Array) -> jax.Array:
    return jnp.sin(x) * jnp.arctan(x)


def _sin_arctan_pi(t: jax.Array) -> jax.Array:
    return sinpi(t) * jnp.arctan(np.pi * t)


ACTIVATIONS: Mapping[str, Elementwise] = MappingProxyType(
    {"sin": sin, "spder": spder, "sin_arctan": sin_arctan, "tanh": jnp.tanh, "relu": jax.nn.relu}
)
"""Every activation that a configuration can name."""


def activation(choice: Any) -> Elementwise:
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


_HALF_TURNS: dict[Any, Elementwise] = {
    sin: sinpi,
    cos: cospi,
    spder: _SPDER_PI,
    sin_arctan: _sin_arctan_pi,
}
_EXACT: dict[Any, Elementwise] = {
    sin: jnp.sin,
    cos: jnp.cos,
    spder: _EXACT_SPDER,
    sin_arctan: _exact_sin_arctan,
}


def in_half_turns(choice: Activation) -> tuple[Elementwise, float]:
    """(tau, unit) with sigma(x) = tau(x / unit): unit is pi for what is made of sines, 1 else.

    The division belongs to the frequency that multiplies x, or to the weights in front.
    """
    sigma = activation(choice)
    return (_HALF_TURNS[sigma], np.pi) if sigma in _HALF_TURNS else (sigma, 1.0)


def exact(choice: Activation) -> Elementwise:
    """The same function with XLA's own sine, which the fast one is measured and tested against."""
    sigma = activation(choice)
    return _EXACT.get(sigma, sigma)


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
