"""The incompressible Navier-Stokes equations in the plane: u = (u1, u2, p)."""

import abc
import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.domains import Box, Sampler, sample_box
from lrnn_jax.operators import jacobian, laplacian
from lrnn_jax.pde import solutions
from lrnn_jax.pde.conditions import Condition, PointField, dirichlet, initial, periodic
from lrnn_jax.pde.equation import PDE
from lrnn_jax.pde.solutions import Points, Values
from lrnn_jax.typing import Field, Key

__all__ = ["Kovasznay", "TaylorGreen"]

PointResidual = Callable[[Float[Array, "d"]], Float[Array, "3"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flow(PDE):
    """Base class: w_t + (w . grad) w = -grad p + nu lap w, div w = 0, w = (u1, u2).

    A flow without time is steady: w_t = 0.
    """

    component_names = ("u1", "u2", "p")

    @property
    @abc.abstractmethod
    def kinematic_viscosity(self) -> float:
        """nu."""

    def residual(self, u: PointField) -> PointResidual:
        """Residuals of the momentum equations along x and y, and of div w = 0."""
        slopes, curvature = jacobian(u), laplacian(u, axes=(0, 1))

        def residual(x: Float[Array, "d"]) -> Float[Array, "3"]:
            velocity, j = u(x)[:2], slopes(x)
            momentum = j[:2, :2] @ velocity + j[2, :2] - self.kinematic_viscosity * curvature(x)[:2]
            momentum = momentum + j[:2, 2] if self.time else momentum
            return jnp.append(momentum, j[0, 0] + j[1, 1])

        return residual


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kovasznay(Flow):
    """Kovasznay flow: (w . grad) w = -grad p + lap w / Re, div w = 0, w = (u1, u2).

    The steady laminar flow behind a grid of bars, on [-1/2, 1] x [-1/2, 3/2]. Velocity and pressure
    are prescribed on the faces.

    Args:
      reynolds: Reynolds number Re, > 0.

    References: Kovasznay 1948; Jin et al., "NSFnets", JCP 2021 (arXiv 2003.06496): Re = 40.
    """

    domain = Box((-0.5, -0.5), (1.0, 1.5))
    test_grid = (101, 101)
    positive_fields = ("reynolds",)

    reynolds: float = 40.0

    @property
    def kinematic_viscosity(self) -> float:
        """1 / Re."""
        return 1 / self.reynolds

    def exact(self, x: Points) -> Values:
        """The exact solution (u1, u2, p)."""
        return solutions.kovasznay(x, reynolds=self.reynolds)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The exact solution on all faces."""
        return (dirichlet(self.domain, self.exact, weight=self.boundary_weight),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaylorGreen(Flow):
    """w_t + (w . grad) w = -grad p + nu lap w, div w = 0, periodic on [0, 2 pi]^2, t in [0, 1].

    Decaying Taylor-Green vortices. The pressure is fixed by its value at the origin.
    `hard`: u = u0 + t v.

    Args:
      viscosity: kinematic viscosity nu, > 0.

    References: Taylor, "On the decay of vortices in a viscous fluid", Phil. Mag. 1923.
    """

    time = True
    domain = Box((0.0, 0.0, 0.0), (2 * math.pi, 2 * math.pi, 1.0))
    periodic_axes = (0, 1)
    test_grid = (32, 32, 21)
    positive_fields = ("viscosity",)

    viscosity: float = 0.1

    @property
    def kinematic_viscosity(self) -> float:
        """The field `viscosity`."""
        return self.viscosity

    def exact(self, x: Points) -> Values:
        """The exact solution (u1, u2, p)."""
        return solutions.taylor_green(x, viscosity=self.viscosity)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The initial values, periodicity in x and y, and the pressure at the origin."""
        return (
            initial(self.domain, self.exact, self.initial_weight),
            periodic(self.domain, 0, 1, weight=self.boundary_weight),
            periodic(self.domain, 1, 1, weight=self.boundary_weight),
            self._gauge(),
        )

    def ansatz(self, v: Field, x: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
        """u0 + t v."""
        return jnp.asarray(self.exact(x.at[..., -1].set(0.0))) + x[..., -1:] * v(x)

    def _gauge(self) -> Condition:
        def rows(key: Key, n: int, sampler: Sampler) -> Float[Array, "n 3"]:
            return sample_box(self.domain, key, n, sampler).at[:, :2].set(0.0)

        def residual(u: PointField):
            return lambda x: u(x)[2] - self.exact(x)[2]

        return Condition("pressure", residual, rows, self.boundary_weight)
