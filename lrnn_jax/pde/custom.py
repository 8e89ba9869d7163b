"""A user's own equation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from lrnn_jax.checks import require_at_least, require_flag
from lrnn_jax.domains import Box
from lrnn_jax.errors import InputError
from lrnn_jax.pde.conditions import Condition, PointField, Residual
from lrnn_jax.pde.equation import PDE, TestPoints, in_float64
from lrnn_jax.typing import Field

__all__ = ["Equation"]

_SIDES = {1: 201, 2: 101, 3: 25}  # test points along an axis
_SCATTERED = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Equation(PDE):
    """Any equation residual(u)(x) = 0 in a box, with any conditions.

    Args:
      box: the domain; time, where there is one, is the last coordinate.
      equation: u -> (x -> what must vanish), u a function of one point (d,) -> (o,); operators are
        in `lrnn_jax.operators`.
      holds: conditions, made by `dirichlet`, `neumann`, `initial`, `initial_velocity`, `periodic`
        and `measured` of `lrnn_jax.pde`.
      components: of the solution, o.
      evolves: the last coordinate is time.
      derivatives: the highest in the equation; a model that has fewer is refused.
      period_of: coordinates that the solution is periodic in.
      solution_is: the exact solution, a function of points (*n, d) -> (*n, o), where it is known.
      built_in: (v, x) -> u that fulfils the conditions for any network v, for `hard`.

    Raises:
      InputError: a field is out of its range.

    Example:
      >>> from lrnn_jax import pde
      >>> from lrnn_jax.operators import partial
      >>> box = pde.Box((0.0,), (1.0,))
      >>> growth = lambda u: lambda x: partial(u, 0)(x) - u(x)
      >>> problem = Equation(box=box, equation=growth, holds=(pde.dirichlet(box, 1.0, ((0, 0),)),))
      >>> sorted(problem.load())
      ['boundary', 'residual']
    """

    box: Box
    equation: Residual
    holds: tuple[Condition, ...] = ()
    components: int = 1
    evolves: bool = False
    derivatives: int = 2
    period_of: tuple[int, ...] = ()
    solution_is: Callable[[Array], Array] | None = None
    built_in: Callable[[Field, Array], Array] | None = None

    def __post_init__(self) -> None:
        require_at_least(self, 1, "components")
        require_at_least(self, 0, "derivatives")
        require_flag(self, "evolves")
        if not isinstance(self.box, Box):
            raise InputError(f"box: expected a Box, got {self.box!r}")
        self._check_holds()
        axes = set(range(self.box.dim))
        if len(set(self.period_of)) < len(self.period_of) or not set(self.period_of) <= axes:
            raise InputError(
                f"period_of: expected different axes of {sorted(axes)}, got {self.period_of}"
            )
        for name in ("initial_weight", "boundary_weight"):
            if getattr(self, name) != 1:
                raise InputError(f"{name}: expected 1; give the condition itself a weight")
        if self.hard != (self.built_in is not None):
            raise InputError("hard: expected True with a function built_in(v, x), False without")
        super().__post_init__()

    def _check_holds(self) -> None:
        """Conditions of different names."""
        several = isinstance(self.holds, tuple)
        if not (several and all(isinstance(one, Condition) for one in self.holds)):
            raise InputError("holds: expected a tuple of conditions, as pde.dirichlet(...) gives")
        names = [condition.name for condition in self.holds]
        if len(set(names)) < len(names):
            raise InputError(
                f"holds: expected conditions of different names, got {names}; rename one with "
                "._replace(name=...)"
            )

    def load(self) -> dict[str, Any]:
        """The rows of every part of the loss."""
        self.truth()
        return super().load()

    @property
    def domain(self) -> Box:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The box."""
        return self.box

    @property
    def component_names(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """u, or u1, u2, ..."""
        count = self.components
        return ("u",) if count == 1 else tuple(f"u{i + 1}" for i in range(count))

    @property
    def time(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the last coordinate is time."""
        return self.evolves

    @property
    def order(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The highest derivative."""
        return self.derivatives

    @property
    def periodic_axes(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The coordinates of `period_of`."""
        return self.period_of

    def residual(self, u: PointField) -> Callable[[Float[Array, "d"]], Float[Array, "..."]]:
        """The equation."""
        return self.equation(u)

    def conditions(self) -> tuple[Condition, ...]:
        """Those given."""
        return self.holds

    def ansatz(self, v: Field, x: Float[Array, "*n d"]) -> Float[Array, "*n o"]:
        """`built_in`."""
        return v(x) if self.built_in is None else self.built_in(v, x)

    def test_points(self) -> TestPoints:
        """A grid of up to three coordinates; of more, 10,000 points at random."""
        if self.box.dim in _SIDES:
            counts = (_SIDES[self.box.dim],) * self.box.dim
            return TestPoints(self.box.mesh(counts), counts)
        low, high = np.array(self.box.low), np.array(self.box.high)
        unit = np.random.default_rng(0).uniform(size=(_SCATTERED, self.box.dim))
        return TestPoints(low + unit * (high - low), None)

    def truth(self) -> Float[np.ndarray, "m o"] | None:
        """The exact solution, where it is known."""
        if self.solution_is is None:
            return None
        value = in_float64(self.solution_is, self.test_points().x)
        expected = (len(value), self.components)
        if value.shape != expected:
            raise InputError(f"solution_is: expected shape {expected}, got {value.shape}")
        return value
