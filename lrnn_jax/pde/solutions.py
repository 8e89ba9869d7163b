"""Closed-form solutions of partial differential equations.

Every function maps x (..., i) to u (..., o). The last axis of x holds the coordinates, space first
and time last; one point has shape (i,), and all other axes are batch axes. A NumPy array returns a
NumPy array of the same precision, so float64 on the host does not require `jax.enable_x64`. Any
other array is computed by JAX and is differentiable to any order. The other arguments are the
parameters of the equation. Every function raises InputError if the last axis has the wrong length.

Example:
  >>> wave(np.array([[0.5, 0.0], [0.5, 0.5]]), speed=2.0)
  array([[ 1.],
         [-1.]])
  >>> import jax
  >>> u = lambda x: convection(x, speed=30.0)
  >>> jax.jacfwd(u)(jnp.zeros(2)).tolist()  # u_x, u_t
  [[1.0, -30.0]]
"""

from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.errors import InputError

__all__ = [
    "convection",
    "heat",
    "helmholtz",
    "kovasznay",
    "poisson",
    "poisson_chirp",
    "taylor_green",
    "wave",
]

Points = Float[ArrayLike, "*batch i"]
Values = Float[Array, "*batch o"] | Float[np.ndarray, "*batch o"]


# Steady state -------------------------------------------------------------------------------------


def poisson(x: Points, *, frequency: float) -> Values:
    """prod_i sin(n pi x_i), so -Laplacian u = d (n pi)^2 u; zero on the faces of [-1, 1]^d.

    Args:
      x: points of any dimension d.
      frequency: n, an integer for zero boundary values.
    """
    xp, points = _array(x)
    return xp.prod(xp.sin(frequency * np.pi * points), axis=-1, keepdims=True)


def poisson_chirp(x: Points, *, frequency: float) -> Values:
    """sin(n pi x) sin(n pi y^2), a chirp in y; zero on the sides of [0, 1]^2.

    The local wavelength in y is 1 / (n y).

    -Laplacian u = (n pi)^2 (1 + 4 y^2) u - 2 n pi sin(n pi x) cos(n pi y^2).

    Args:
      x: points (x, y).
      frequency: n, an integer for zero boundary values.
    """
    xp, (first, second) = _coordinates(x, 2)
    rate = frequency * np.pi
    return (xp.sin(rate * first) * xp.sin(rate * second**2))[..., None]


def helmholtz(x: Points, *, frequencies: tuple[float, float]) -> Values:
    """sin(a_1 pi x) sin(a_2 pi y): Laplacian u + k^2 u = (k^2 - pi^2 (a_1^2 + a_2^2)) u for any k.

    It vanishes on the sides of [-1, 1]^2 for integers a_1, a_2.

    Args:
      x: points (x, y).
      frequencies: (a_1, a_2).

    References: Wang, Teng and Perdikaris, "Understanding and Mitigating Gradient Flow Pathologies
    in Physics-Informed Neural Networks", SIAM J. Sci. Comput. 43 (2021): (1, 4), k = 1.
    """
    xp, (first, second) = _coordinates(x, 2)
    waves = xp.sin(frequencies[0] * np.pi * first) * xp.sin(frequencies[1] * np.pi * second)
    return waves[..., None]


def kovasznay(x: Points, *, reynolds: float) -> Values:
    """The Kovasznay flow (u, v, p), the steady flow behind a grid of bars:

        u = 1 - e^{lambda x} cos(2 pi y),  v = lambda / (2 pi) e^{lambda x} sin(2 pi y),
        p = (1 - e^{2 lambda x}) / 2,  lambda = Re / 2 - (Re^2 / 4 + 4 pi^2)^{1/2},

    solves (w . grad) w = -grad p + Laplacian w / Re, div w = 0 for w = (u, v).

    Args:
      x: points (x, y).
      reynolds: Re > 0.

    References: Kovasznay, "Laminar Flow Behind a Two-Dimensional Grid", Proc. Camb. Phil. Soc. 44
    (1948).
    """
    xp, (first, second) = _coordinates(x, 2)
    half = reynolds / 2
    # Written as -4 pi^2 over a sum, because the difference in the definition cancels at large Re.
    rate = -4 * np.pi**2 / (half + (half**2 + 4 * np.pi**2) ** 0.5)
    decay, angle = xp.exp(rate * first), 2 * np.pi * second
    u = 1 - decay * xp.cos(angle)
    v = rate / (2 * np.pi) * decay * xp.sin(angle)
    return xp.stack([u, v, (1 - decay**2) / 2], axis=-1)


# Time-dependent -----------------------------------------------------------------------------------


def convection(x: Points, *, speed: float) -> Values:
    """sin(x - beta t), which solves u_t + beta u_x = 0 with period 2 pi in x.

    Args:
      x: points (x, t).
      speed: beta.

    References: Krishnapriyan et al., "Characterizing Possible Failure Modes in Physics-Informed
    Neural Networks", NeurIPS 2021.
    """
    xp, (place, time) = _coordinates(x, 2)
    return xp.sin(place - speed * time)[..., None]


def heat(x: Points, *, diffusivity: float, frequency: float) -> Values:
    """exp(-alpha k^2 pi^2 t) sin(k pi x): u_t = alpha u_xx; zero at x = 0, 1 for an integer k.

    Args:
      x: points (x, t).
      diffusivity: alpha.
      frequency: k.
    """
    xp, (place, time) = _coordinates(x, 2)
    rate = frequency * np.pi
    return (xp.exp(-diffusivity * rate**2 * time) * xp.sin(rate * place))[..., None]


def wave(x: Points, *, speed: float) -> Values:
    """sin(pi x) cos(c pi t) + 1/2 sin(4 pi x) cos(4 c pi t): u_tt = c^2 u_xx.

    It is zero at x = 0 and 1, and u_t = 0 at t = 0.

    Args:
      x: points (x, t).
      speed: c.

    References: Wang, Yu and Perdikaris, "When and Why PINNs Fail to Train: A Neural Tangent Kernel
    Perspective", J. Comput. Phys. 449 (2022).
    """
    xp, (place, time) = _coordinates(x, 2)
    place, time = np.pi * place, np.pi * time
    slow = xp.sin(place) * xp.cos(speed * time)
    fast = xp.sin(4 * place) * xp.cos(4 * speed * time)
    return (slow + fast / 2)[..., None]


def taylor_green(x: Points, *, viscosity: float) -> Values:
    """Decaying vortices (u, v, p), of period 2 pi in x and y:

        u = sin(x) cos(y) F,  v = -cos(x) sin(y) F,  p = (cos(2 x) + cos(2 y)) F^2 / 4,

    F = exp(-2 nu t), solve w_t + (w . grad) w = -grad p + nu Laplacian w, div w = 0 for w = (u, v).

    Args:
      x: points (x, y, t).
      viscosity: nu.

    References: Taylor, "On the Decay of Vortices in a Viscous Fluid", Phil. Mag. 46 (1923).
    """
    xp, (first, second, time) = _coordinates(x, 3)
    decay = xp.exp(-2 * viscosity * time)
    u = xp.sin(first) * xp.cos(second) * decay
    v = -xp.cos(first) * xp.sin(second) * decay
    p = (xp.cos(2 * first) + xp.cos(2 * second)) / 4 * decay**2
    return xp.stack([u, v, p], axis=-1)


def _array(x: Points) -> tuple[ModuleType, Any]:
    """The array module, NumPy or jax.numpy, and x as an array of real numbers."""
    xp = np if isinstance(x, np.ndarray) else jnp
    return xp, xp.asarray(x) * 1.0


def _coordinates(x: Points, count: int) -> tuple[ModuleType, list[Any]]:
    """The array module, NumPy or jax.numpy, and a list of the coordinates."""
    xp, points = _array(x)
    if not points.ndim or points.shape[-1] != count:
        raise InputError(f"x: expected shape (..., {count}), got {tuple(points.shape)}")
    return xp, [points[..., i] for i in range(count)]
