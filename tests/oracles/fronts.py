"""Travelling waves on the real line that solve an equation of `lrnn_jax.pde` exactly.

Every function maps x (..., 2), whose last axis holds a position and a time, to u (..., 1). A NumPy
array is computed by NumPy, any other array by JAX.
"""

import jax.numpy as jnp
import numpy as np


def korteweg_de_vries_soliton(x, *, height=1.0, eta=1.0, mu=0.022, centre=0.0):
    """A sech^2(kappa (x - x_0 - c t)): u_t + eta u u_x + mu^2 u_xxx = 0.

    c = eta A / 3 and kappa^2 = eta A / (12 mu^2).

    Args:
      x: points (x, t).
      height: amplitude A, with the sign of eta.
      eta: coefficient of the advection term.
      mu: square root of the dispersion coefficient, > 0.
      centre: x_0, position of the peak at t = 0.

    References: Zabusky and Kruskal, "Interaction of Solitons in a Collisionless Plasma and the
    Recurrence of Initial States", Phys. Rev. Lett. 15 (1965).
    """
    xp, (place, time) = _coordinates(x)
    scale = (eta * height / 12) ** 0.5 / mu
    phase = scale * (place - centre - eta * height / 3 * time)
    slope = xp.tanh(phase)  # sech^2 as 1 - tanh^2, which does not overflow
    return (height * (1 - slope) * (1 + slope))[..., None]


def allen_cahn_front(x, *, diffusion=1e-4, reaction=5.0, centre=0.0):
    """(1 - tanh(kappa (x - x_0 - c t))) / 2: u_t = D u_xx + r (u - u^3).

    c = 3 (r D / 2)^{1/2} and kappa^2 = r / (8 D): the state 1 invades the unstable state 0.

    Args:
      x: points (x, t).
      diffusion: D > 0.
      reaction: r > 0.
      centre: x_0, the position of u = 1/2 at t = 0.
    """
    xp, (place, time) = _coordinates(x)
    speed = 3 * (reaction * diffusion / 2) ** 0.5
    phase = (reaction / (8 * diffusion)) ** 0.5 * (place - centre - speed * time)
    return (0.5 - 0.5 * xp.tanh(phase))[..., None]


def burgers_front(
    x,
    *,
    viscosity=0.01,
    left=1.0,
    right=0.0,
    centre=0.0,
):
    """c - a tanh(a (x - x_0 - c t) / (2 nu)): u_t + u u_x = nu u_xx.

    c = (left + right) / 2 and a = (left - right) / 2.

    Args:
      x: points (x, t).
      viscosity: nu > 0.
      left: limit of u for x -> -inf, > right.
      right: limit of u for x -> inf.
      centre: x_0, centre of the front at t = 0.

    References: Whitham, "Linear and Nonlinear Waves", Wiley 1974.
    """
    xp, (place, time) = _coordinates(x)
    speed, jump = (left + right) / 2, (left - right) / 2
    phase = jump / (2 * viscosity) * (place - centre - speed * time)
    return (speed - jump * xp.tanh(phase))[..., None]


def _coordinates(x):
    """The array module, the positions and the times."""
    xp = np if isinstance(x, np.ndarray) else jnp
    return xp, (x[..., 0], x[..., 1])
