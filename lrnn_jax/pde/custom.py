"""User-defined equations."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from lrnn_jax.checks import check_types, require_at_least
from lrnn_jax.domains import Box
from lrnn_jax.errors import InputError
from lrnn_jax.pde.conditions import Condition, Residual
from lrnn_jax.pde.equation import PDE, TestPoints, place_test_points
from lrnn_jax.typing import Field

__all__ = ["Equation"]

_SIDES = {1: 201, 2: 101, 3: 25}  # test points per axis, by dimension


@dataclasses.dataclass(frozen=True, kw_only=True)
class Equation(PDE):
    """A user-defined equation residual(u)(x) = 0 in a box, with any conditions.

    Args:
      domain: a `Box`.
      residual: u -> (x -> residual, which must be zero), where u is a function of one point
        (d,) -> (o,). Differential operators are in `lrnn_jax.operators`.
      conditions: made by `dirichlet`, `neumann`, `initial`, `initial_velocity`, `periodic` and
        `measured` of `lrnn_jax.pde`.
      component_names: names of the o components of the solution.
      time: whether the last coordinate is time.
      order: the highest derivative in the residual; a model with fewer derivatives is rejected.
      periodic_axes: coordinates in which the solution is periodic.
      exact: the exact solution, a function of points (*n, d) -> (*n, o); None if it is unknown.
      ansatz: (v, x) -> u that satisfies the conditions for any network v; used with `hard`.

    Example:
      >>> from lrnn_jax import pde
      >>> from lrnn_jax.operators import derivative
      >>> box = pde.Box((0.0,), (1.0,))
      >>> problem = Equation(
      ...     domain=box,
      ...     residual=lambda u: lambda x: derivative(u, 0)(x) - u(x),
      ...     conditions=(pde.dirichlet(box, 1.0, faces=((0, 0),)),),
      ... )
      >>> sorted(problem.load())
      ['boundary', 'residual']
    """

    # These override names of `Declarations`; field() hides the inherited defaults.
    domain: Box = dataclasses.field()
    residual: Residual = dataclasses.field()
    conditions: tuple[Condition, ...] = ()
    component_names: tuple[str, ...] = ("u",)
    time: bool = False
    order: int = 2
    periodic_axes: tuple[int, ...] = ()
    exact: Callable[[Array], Array] | None = None
    ansatz: Callable[[Field, Array], Array] | None = None

    def __post_init__(self) -> None:
        require_at_least(self, 0, "order")
        check_types(self, "residual", "periodic_axes", "exact", "ansatz")
        if not isinstance(self.domain, Box):
            raise InputError(f"domain: expected a Box, got {self.domain!r}")
        names = self.component_names
        several = isinstance(names, tuple) and names and all(isinstance(n, str) for n in names)
        if not several or len(set(names)) < len(names):
            raise InputError(f"component_names: expected a tuple of different names, got {names!r}")
        self._check_given_conditions()
        axes = set(range(self.domain.dim))
        if len(set(self.periodic_axes)) < len(self.periodic_axes) or (
            not set(self.periodic_axes) <= axes
        ):
            raise InputError(
                f"periodic_axes: expected different axes of {sorted(axes)}, "
                f"got {self.periodic_axes}"
            )
        for name in ("initial_weight", "boundary_weight"):
            if getattr(self, name) != 1:
                raise InputError(f"{name}: expected 1; give the condition itself a weight")
        if self.hard != (self.ansatz is not None):
            raise InputError("hard: expected True with a function ansatz(v, x), False without")
        super().__post_init__()

    def _check_given_conditions(self) -> None:
        """Checks that `conditions` holds conditions with distinct names.

        Raises:
          InputError: it does not.
        """
        several = isinstance(self.conditions, tuple)
        if not (several and all(isinstance(one, Condition) for one in self.conditions)):
            raise InputError(
                "conditions: expected a tuple of conditions, as pde.dirichlet(...) gives"
            )
        names = [condition.name for condition in self.conditions]
        if len(set(names)) < len(names):
            raise InputError(
                f"conditions: expected different names, got {names}; rename one with "
                "._replace(name=...)"
            )

    def load(self) -> dict[str, Any]:
        """Draws the rows of every part of the loss."""
        self.truth()
        return super().load()

    def test_points(self) -> TestPoints:
        """A grid for up to three coordinates, otherwise 10,000 random points."""
        side = _SIDES.get(self.domain.dim)
        return place_test_points(self.domain, (side,) * self.domain.dim if side else ())

    def truth(self) -> Float[np.ndarray, "m o"] | None:
        """The exact solution at the test points, in float64; None if it is unknown."""
        value = super().truth()
        if value is not None and value.shape != (expected := (len(value), self.out_dim)):
            raise InputError(f"exact: expected shape {expected}, got {value.shape}")
        return value
