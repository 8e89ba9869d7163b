"""Time-independent equations: Poisson and Helmholtz."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.checks import require_at_least
from lrnn_jax.domains import Box
from lrnn_jax.errors import InputError
from lrnn_jax.operators import laplacian
from lrnn_jax.pde import solutions
from lrnn_jax.pde.conditions import Condition, PointField, dirichlet
from lrnn_jax.pde.equation import PDE
from lrnn_jax.pde.solutions import Points, Values
from lrnn_jax.typing import Field

__all__ = ["Helmholtz", "Poisson"]

_SIDE = 101  # test points per axis in two dimensions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroOnFaces(PDE):
    """Base class of the equations on [-1, 1]^d with u = 0 on the faces."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """u = 0 on all faces."""
        return (dirichlet(self.domain, weight=self.boundary_weight),)

    def ansatz(self, v: Field, x: Float[Array, "*n d"]) -> Float[Array, "*n 1"]:
        """prod_i (1 - x_i^2) v."""
        return jnp.prod(1 - x**2, axis=-1, keepdims=True) * v(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Poisson(ZeroOnFaces):
    """-lap u = f on [-1, 1]^d with u = 0 on the faces; f is chosen for a known solution.

    The loss is that of the KAN paper: residual_weight * mean (lap u + f)^2 + mean u^2 on the faces.
    We read the "n" of the two papers as the frequency of these solutions. `hard`:
    u = prod_i (1 - x_i^2) v.

    Args:
      dim: dimension d, >= 1.
      frequency: frequency n of the solution, >= 1.
      source: 'sines', u = prod_i sin(n pi x_i); or 'chirp', u = sin(n pi x) sin(n pi y^2), for
        d = 2 only, which is the solution of the KAN paper for n = 1.

    References: Liu et al., "KAN: Kolmogorov-Arnold Networks", ICLR 2025 (arXiv 2404.19756):
    10,000 points inside, 800 on the faces, residual_weight 0.01.
    """

    dim: int = 2
    frequency: int = 1
    source: Literal["sines", "chirp"] = "sines"
    boundary_points: int = 800
    residual_weight: float = 0.01

    def __post_init__(self) -> None:
        require_at_least(self, 1, "dim", "frequency")
        if self.source == "chirp" and self.dim != 2:
            raise InputError(f"dim: the source 'chirp' needs 2, got {self.dim}")
        super().__post_init__()

    @property
    def domain(self) -> Box:  # pyright: ignore[reportIncompatibleVariableOverride]
        """[-1, 1]^d."""
        return Box((-1.0,) * self.dim, (1.0,) * self.dim)

    @property
    def test_grid(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """201 points for d = 1, 101 x 101 points for d = 2, otherwise 10,000 random points."""
        return {1: (2 * _SIDE - 1,), 2: (_SIDE, _SIDE)}.get(self.dim, ())

    def exact(self, x: Points) -> Values:
        """The exact solution."""
        if self.source == "chirp":
            return solutions.poisson_chirp(x, frequency=self.frequency)
        return solutions.poisson(x, frequency=self.frequency)

    def forcing(self, x: Float[Array, "d"]) -> Float[Array, "1"]:
        """f = -lap u of the exact solution, in closed form."""
        rate, u = self.frequency * jnp.pi, jnp.asarray(self.exact(x))
        if self.source == "sines":
            return self.dim * rate**2 * u
        slow = 2 * rate * jnp.sin(rate * x[0]) * jnp.cos(rate * x[1] ** 2)
        return rate**2 * (1 + 4 * x[1] ** 2) * u - slow

    def residual(self, u: PointField) -> Callable[[Float[Array, "d"]], Float[Array, "1"]]:
        """lap u + f."""
        curvature = laplacian(u)
        return lambda x: curvature(x) + self.forcing(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Helmholtz(ZeroOnFaces):
    """lap u + k^2 u = q on [-1, 1]^2, u = 0 on the faces; u = sin(a1 pi x) sin(a2 pi y).

    `hard`: u = (1 - x^2)(1 - y^2) v.

    Args:
      wavenumber: wavenumber k of the equation, > 0.
      frequencies: (a1, a2) of the solution, integers >= 1.

    References: Wang, Teng and Perdikaris (arXiv 2001.04536): k = 1, a = (1, 4).
    """

    domain = Box((-1.0, -1.0), (1.0, 1.0))
    test_grid = (_SIDE, _SIDE)
    positive_fields = ("wavenumber",)

    wavenumber: float = 1.0
    frequencies: tuple[int, int] = (1, 4)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "frequencies")
        super().__post_init__()

    def exact(self, x: Points) -> Values:
        """The exact solution."""
        return solutions.helmholtz(x, frequencies=self.frequencies)

    def residual(self, u: PointField) -> Callable[[Float[Array, "2"]], Float[Array, "1"]]:
        """lap u + k^2 u - q."""
        square, curvature = self.wavenumber**2, laplacian(u)
        rate = jnp.pi**2 * (self.frequencies[0] ** 2 + self.frequencies[1] ** 2)
        return lambda x: curvature(x) + square * u(x) - (square - rate) * self.exact(x)
