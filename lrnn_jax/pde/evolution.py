"""Time-dependent equations in one space dimension.

Solutions without a closed form are computed by `references`, which states their accuracy.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lrnn_jax.checks import require_at_least
from lrnn_jax.domains import Box
from lrnn_jax.operators import derivative
from lrnn_jax.pde import references, solutions
from lrnn_jax.pde.conditions import (
    Condition,
    PointField,
    dirichlet,
    initial,
    initial_velocity,
    periodic,
)
from lrnn_jax.pde.equation import PDE
from lrnn_jax.pde.solutions import Points, Values
from lrnn_jax.typing import Field

__all__ = [
    "AllenCahn",
    "Burgers",
    "Convection",
    "Heat",
    "KortewegDeVries",
    "ReactionDiffusion",
    "Wave",
]

_ENDS = ((0, 0), (0, 1))  # the two ends of the x axis
_X, _T = 0, 1
PointResidual = Callable[[Float[Array, "2"]], Float[Array, "1"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evolution(PDE):
    """Base class of the equations in (x, t).

    The initial value is u0. The solution is periodic in x, or zero at both ends. The ansatz is
    u = u0(x) + t w(x) v, where w is `vanishing`.
    """

    time = True
    test_grid = (256, 101)  # along x and t

    def start(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """u0, the solution at t = 0."""
        raise NotImplementedError

    def vanishing(self, x: Float[Array, "*n"]) -> Any:
        """w, which is zero where Dirichlet values are prescribed."""
        del x
        return 1.0

    def ansatz(self, v: Field, x: Float[Array, "*n 2"]) -> Float[Array, "*n 1"]:
        """u0(x) + t w(x) v."""
        place, time = x[..., :1], x[..., 1:]
        return self.start(place) + time * self.vanishing(place) * v(x)

    def initial_value(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        """u0 at a point (x, t)."""
        return self.start(x[_X])

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The initial value u0; periodicity of u and its x derivatives, or u = 0 at both ends."""
        if self.periodic_axes:
            at_ends = periodic(self.domain, 0, self.order - 1, self.boundary_weight)
        else:
            at_ends = dirichlet(self.domain, 0.0, _ENDS, self.boundary_weight)
        return initial(self.domain, self.initial_value, self.initial_weight), at_ends

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """The x and t coordinates of the test grid."""
        grid = self.test_points()
        points = grid.x.reshape(*(grid.shape or ()), 2)
        return points[:, 0, _X], points[0, :, _T]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convection(Evolution):
    """u_t + beta u_x = 0 on x in [0, 2 pi), t in [0, 1], periodic; u0 = sin x.

    The published set-up evaluates the residual at `points` = 1000 grid points with x > 0 and t > 0
    (their README; their code's default is 100; sampler 'grid'), u0 at 256 positions, and
    u(0, t) = u(2 pi, t) at 100 times. The error is taken over the 256 x 100 grid.

    Args:
      beta: convection speed, > 0.
      start_value: 'sin', u0 = sin x; 'one_plus_sin', u0 = 1 + sin x.

    References: Krishnapriyan et al., "Characterizing possible failure modes in physics-informed
    neural networks", NeurIPS 2021 (arXiv 2109.01050).
    """

    order = 1
    domain = Box((0.0, 0.0), (2 * math.pi, 1.0))
    periodic_axes = (0,)
    positive_fields = ("beta",)
    test_grid = (256, 100)  # the published grid

    beta: float = 30.0
    start_value: Literal["sin", "one_plus_sin"] = "sin"

    def start(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """sin x, or 1 + sin x."""
        return jnp.sin(x) + (self.start_value == "one_plus_sin")

    def exact(self, x: Points) -> Values:
        """u0(x - beta t)."""
        moved = solutions.convection(x, speed=self.beta)
        return moved + (self.start_value == "one_plus_sin")

    def residual(self, u: PointField) -> PointResidual:
        """u_t + beta u_x, as one directional derivative along (beta, 1)."""
        return lambda x: jax.jvp(u, (x,), (jnp.array([self.beta, 1.0], x.dtype),))[1]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The initial value and periodicity, on fixed grids."""
        at_start = self.domain.mesh((256, 1), (False, True))
        at_end = self.domain.mesh((1, 100))
        return (
            initial(self.domain, self.initial_value, self.initial_weight, at_start),
            periodic(self.domain, weight=self.boundary_weight, points=at_end),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heat(Evolution):
    """u_t = alpha u_xx on x in [0, 1], t in [0, 1]; u = 0 at the ends, u0 = sin(k pi x).

    `hard`: u = u0 + t x (1 - x) v.

    Args:
      diffusivity: diffusivity alpha, > 0.
      frequency: frequency k of the initial value, an integer >= 1.
    """

    domain = Box((0.0, 0.0), (1.0, 1.0))
    positive_fields = ("diffusivity",)

    diffusivity: float = 0.1
    frequency: int = 2

    def __post_init__(self) -> None:
        require_at_least(self, 1, "frequency")
        super().__post_init__()

    def start(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """sin(k pi x)."""
        return jnp.sin(self.frequency * jnp.pi * x)

    def vanishing(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """x (1 - x)."""
        return x * (1 - x)

    def exact(self, x: Points) -> Values:
        """exp(-alpha k^2 pi^2 t) sin(k pi x)."""
        return solutions.heat(x, diffusivity=self.diffusivity, frequency=self.frequency)

    def residual(self, u: PointField) -> PointResidual:
        """u_t - alpha u_xx."""
        u_t, u_xx = derivative(u, _T), derivative(u, _X, _X)
        return lambda x: u_t(x) - self.diffusivity * u_xx(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wave(Evolution):
    """u_tt = c^2 u_xx on [0, 1]^2, u = 0 at the ends, u_t = 0 at t = 0.

    u0 = sin(pi x) + sin(4 pi x) / 2. `hard`: u = u0 + t^2 x (1 - x) v.

    Args:
      speed: wave speed c, > 0.

    References: Wang, Yu and Perdikaris, "When and why PINNs fail to train" (arXiv 2007.14527):
    c = 2.
    """

    domain = Box((0.0, 0.0), (1.0, 1.0))
    positive_fields = ("speed",)

    speed: float = 2.0

    def start(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """sin(pi x) + sin(4 pi x) / 2."""
        return jnp.sin(jnp.pi * x) + jnp.sin(4 * jnp.pi * x) / 2

    def ansatz(self, v: Field, x: Float[Array, "*n 2"]) -> Float[Array, "*n 1"]:
        """u0 + t^2 x (1 - x) v."""
        place, time = x[..., :1], x[..., 1:]
        return self.start(place) + time**2 * place * (1 - place) * v(x)

    def exact(self, x: Points) -> Values:
        """sin(pi x) cos(c pi t) + sin(4 pi x) cos(4 c pi t) / 2."""
        return solutions.wave(x, speed=self.speed)

    def residual(self, u: PointField) -> PointResidual:
        """u_tt - c^2 u_xx."""
        u_tt, u_xx = derivative(u, _T, _T), derivative(u, _X, _X)
        return lambda x: u_tt(x) - self.speed**2 * u_xx(x)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The initial value u0, u_t = 0 at t = 0, and u = 0 at both ends."""
        return (
            initial(self.domain, self.initial_value, self.initial_weight),
            initial_velocity(self.domain, 0.0, self.initial_weight),
            dirichlet(self.domain, 0.0, _ENDS, self.boundary_weight),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Burgers(Evolution):
    """u_t + u u_x = nu u_xx on x in [-1, 1], t in [0, 1]; u0 = -sin(pi x), u = 0 at the ends.

    `hard`: u = u0 + t (1 - x^2) v.

    Args:
      viscosity: kinematic viscosity nu, > 0.

    References: Raissi, Perdikaris and Karniadakis, JCP 2019: nu = 0.01 / pi.
    """

    domain = Box((-1.0, 0.0), (1.0, 1.0))
    positive_fields = ("viscosity",)

    viscosity: float = 0.01 / math.pi

    def start(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """-sin(pi x)."""
        return -jnp.sin(jnp.pi * x)

    def vanishing(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """1 - x^2."""
        return 1 - x**2

    def residual(self, u: PointField) -> PointResidual:
        """u_t + u u_x - nu u_xx."""
        u_t, u_x, u_xx = derivative(u, _T), derivative(u, _X), derivative(u, _X, _X)
        return lambda x: u_t(x) + u(x) * u_x(x) - self.viscosity * u_xx(x)

    def truth(self) -> Float[np.ndarray, "m 1"]:
        """Reference solution by the Cole-Hopf transformation."""
        return references.burgers(*self.axes(), viscosity=self.viscosity).reshape(-1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllenCahn(Evolution):
    """u_t = D u_xx + r (u - u^3) on x in [-1, 1], t in [0, 1], periodic; u0 = x^2 cos(pi x).

    `hard`: u = u0 + t v. The slope of u0 = x^2 cos(pi x) jumps at the ends of the period. With
    `harmonics`, v is smooth there, so that u keeps this jump at all times.

    Args:
      diffusion: diffusivity D, > 0.
      reaction: reaction rate r, > 0.

    References: Raissi, Perdikaris and Karniadakis, JCP 2019: D = 1e-4, r = 5.
    """

    domain = Box((-1.0, 0.0), (1.0, 1.0))
    periodic_axes = (0,)
    positive_fields = ("diffusion", "reaction")

    diffusion: float = 1e-4
    reaction: float = 5.0

    def start(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """x^2 cos(pi x)."""
        return x**2 * jnp.cos(jnp.pi * x)

    def residual(self, u: PointField) -> PointResidual:
        """u_t - D u_xx - r (u - u^3)."""
        u_t, u_xx = derivative(u, _T), derivative(u, _X, _X)
        return lambda x: u_t(x) - self.diffusion * u_xx(x) - self.reaction * (u(x) - u(x) ** 3)

    def truth(self) -> Float[np.ndarray, "m 1"]:
        """Reference solution by a spectral solver."""
        values = references.allen_cahn(
            *self.axes(), diffusion=self.diffusion, reaction=self.reaction
        )
        return values.reshape(-1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KortewegDeVries(Evolution):
    """u_t + eta u u_x + mu^2 u_xxx = 0 on x in [-1, 1], t in [0, 1], periodic; u0 = cos(pi x).

    `hard`: u = u0 + t v.

    Args:
      eta: coefficient of the advection term, > 0.
      mu: square root of the dispersion coefficient, > 0.

    References: Zabusky and Kruskal, PRL 1965; eta = 1, mu = 0.022 as in arXiv 2308.08468.
    """

    order = 3
    domain = Box((-1.0, 0.0), (1.0, 1.0))
    periodic_axes = (0,)
    positive_fields = ("eta", "mu")

    eta: float = 1.0
    mu: float = 0.022

    def start(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """cos(pi x)."""
        return jnp.cos(jnp.pi * x)

    def residual(self, u: PointField) -> PointResidual:
        """u_t + eta u u_x + mu^2 u_xxx."""
        u_t, u_x, u_xxx = derivative(u, _T), derivative(u, _X), derivative(u, _X, _X, _X)
        return lambda x: u_t(x) + self.eta * u(x) * u_x(x) + self.mu**2 * u_xxx(x)

    def truth(self) -> Float[np.ndarray, "m 1"]:
        """Reference solution by a spectral solver."""
        return references.korteweg_de_vries(*self.axes(), eta=self.eta, mu=self.mu).reshape(-1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReactionDiffusion(Evolution):
    """u_t = nu u_xx + rho u (1 - u) on x in [0, 2 pi), t in [0, 1], periodic; u0 a Gaussian bump.

    u0 = exp(-(x - pi)^2 / (2 (pi / 4)^2)). `hard`: u = u0 + t v.

    Args:
      diffusion: diffusivity nu, > 0.
      rate: reaction rate rho, > 0.

    References: Krishnapriyan et al., NeurIPS 2021 (arXiv 2109.01050), who vary nu and rho. They
    require equal values at both ends only, which does not determine the solution. Here the slopes
    must be equal, too.
    """

    domain = Box((0.0, 0.0), (2 * math.pi, 1.0))
    periodic_axes = (0,)
    positive_fields = ("diffusion", "rate")

    diffusion: float = 3.0
    rate: float = 5.0

    def start(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The Gaussian bump."""
        return jnp.exp(-8 * (x / jnp.pi - 1) ** 2)

    def residual(self, u: PointField) -> PointResidual:
        """u_t - nu u_xx - rho u (1 - u)."""
        u_t, u_xx = derivative(u, _T), derivative(u, _X, _X)
        return lambda x: u_t(x) - self.diffusion * u_xx(x) - self.rate * u(x) * (1 - u(x))

    def truth(self) -> Float[np.ndarray, "m 1"]:
        """Reference solution by a spectral solver."""
        values = references.reaction_diffusion(
            *self.axes(), diffusion=self.diffusion, rate=self.rate
        )
        return values.reshape(-1, 1)
