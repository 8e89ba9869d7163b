"""Base class of the differential equations: points, coordinates, conditions, loss, scores.

    residual(u)(x) = 0 in a box,   condition(u)(x) = 0 on faces of it or at data

The network v receives coordinates in [-1, 1], or an exact periodic embedding of them. With hard
conditions the solution is an ansatz around the network: u(x) = ansatz(v, x).

Axis letters: n points, d coordinates of the equation, i inputs of the network, o outputs, k
equations. Time, if the equation has one, is the last coordinate.

References: Raissi, Perdikaris and Karniadakis, "Physics-informed neural networks", JCP 2019; Wang,
Sankaran and Perdikaris, "Respecting causality", CMAME 2024 (arXiv 2203.07404), eq. 16; Wu et al.,
"A comprehensive study of non-adaptive and residual-based adaptive sampling for PINNs", CMAME 2023
(arXiv 2207.10289), RAD; Dong and Ni, "A method for representing periodic functions and enforcing
exactly periodic boundary conditions with deep neural networks", JCP 2021.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.checks import (
    Keywords,
    check_types,
    require_at_least,
    require_nonnegative,
    require_positive,
)
from lrnn_jax.domains import Box, sample_box
from lrnn_jax.errors import InputError
from lrnn_jax.fields import precision_of, predict
from lrnn_jax.grids import SUFFIXES, write_grid
from lrnn_jax.io import make_folder
from lrnn_jax.kernels.activations import cospi, sinpi
from lrnn_jax.metrics import relative_l2
from lrnn_jax.pde.conditions import (
    Condition,
    PointField,
    Residual,
    require_inside,
    require_weight,
)
from lrnn_jax.residuals import Part, residual_rows, sum_of_parts
from lrnn_jax.typing import Field, Key, Problem, Section, Terms

if TYPE_CHECKING:
    from lrnn_jax.plot.solutions import SolutionGrid

__all__ = ["PDE", "PDESolution", "TestPoints", "place_test_points"]

_CANDIDATES = 4  # candidates per point in adaptive resampling
_BINS = 32  # time bins of the causal weights
_CHUNK = 4096  # points at which the residual is evaluated at a time
_SCATTERED = 10_000  # test points that are not on a grid


class TestPoints(NamedTuple):
    """Points (m, d) at which a solution is scored, and the shape of their grid or None."""

    x: Float[np.ndarray, "m d"]
    shape: tuple[int, ...] | None


class Declarations(Keywords, Problem):
    """Properties of an equation. They are not dataclass fields, so config files cannot set them.

    Attributes:
      domain: the box in which the equation holds.
      time: whether the last coordinate is time.
      order: the highest derivative in the residual.
      periodic_axes: the coordinates in which the solution is periodic.
      component_names: names of the components of the solution in plots.
      positive_fields: names of the dataclass fields that must be > 0.
      test_grid: number of test points along each axis; empty: 10,000 random points.
      exact: the exact solution, a function of points (*n, d) -> (*n, o); None if it is unknown.
    """

    main_score: ClassVar[str | None] = "relative_l2"

    domain: Box
    time: bool = False
    order: int = 2
    periodic_axes: tuple[int, ...] = ()
    component_names: tuple[str, ...] = ("u",)
    positive_fields: tuple[str, ...] = ()
    test_grid: tuple[int, ...] = ()
    exact: Callable[[Any], Any] | None = None

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Boundary conditions, initial conditions and measured data."""
        return ()

    def residual(self, u: PointField) -> Callable[[Float[Array, "d"]], Float[Array, "..."]]:
        """x -> left-hand side minus right-hand side of the equation, for u: (d,) -> (o,)."""
        raise NotImplementedError

    def ansatz(self, v: Field, x: Float[Array, "*n d"]) -> Float[Array, "*n o"]:
        """u(x), which satisfies the hard conditions for any network v."""
        return v(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PDE(Declarations):
    """Base class: solve a differential equation with conditions by training a network.

    Args:
      points: number of collocation points of the residual, >= 1.
      boundary_points: number of points of each condition without fixed points, >= 1.
      sampler: 'uniform', 'latin_hypercube', 'sobol', or 'grid', which draws without replacement
        from the test grid, excluding points on its faces except that of the final time.
      resample_every: steps between draws of the points; 0 keeps the first draw, 1 draws new points
        in every step.
      adaptive: draw new points from four times as many candidates, with probability proportional
        to |residual| + mean |residual| (RAD).
      causal: tolerance of causal weighting in time, >= 0. A point has weight exp(-causal * s),
        where s is the sum of the mean squared residuals of all earlier time bins; 0 disables it.
      harmonics: number of harmonics of the exact periodic embedding. The network receives cos and
        sin of 1..harmonics periods instead of each periodic coordinate, and the periodic condition
        is dropped from the loss; 0 keeps the coordinate and the condition.
      time_harmonics: number of harmonics of time. In addition to t, the network receives cos and
        sin of pi m (t - t0) / (t1 - t0), m = 1..time_harmonics. Their period is twice the time
        interval, so they do not force the solution to be periodic.
      hard: satisfy initial and boundary conditions by construction (ansatz) instead of by the loss.
      coordinates: 'unit' scales each coordinate to [-1, 1] for the network; 'raw' does not scale.
      residual_weight: weight of the equation in the loss, >= 0.
      initial_weight: weight of the initial conditions in the loss, >= 0.
      boundary_weight: weight of the boundary conditions in the loss, >= 0.
      point_seed: seed of the points drawn before training, >= 0.

    Raises:
      InputError: a field is out of its range; holds for all equations.
    """

    points: int = 1000
    boundary_points: int = 200
    sampler: Literal["uniform", "latin_hypercube", "sobol", "grid"] = "uniform"
    resample_every: int = 0
    adaptive: bool = False
    causal: float = 0.0
    harmonics: int = 0
    time_harmonics: int = 0
    hard: bool = False
    coordinates: Literal["unit", "raw"] = "unit"
    residual_weight: float = 1.0
    initial_weight: float = 1.0
    boundary_weight: float = 1.0
    point_seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "points", "boundary_points")
        require_at_least(self, 0, "resample_every", "point_seed", "harmonics", "time_harmonics")
        require_nonnegative(self, "causal", "residual_weight", "initial_weight", "boundary_weight")
        require_positive(self, *self.positive_fields)
        check_types(self)
        for name in ("causal", "time_harmonics"):
            if getattr(self, name) and not self.time:
                raise InputError(f"{name}: expected 0 for an equation without time")
        if self.harmonics and not self.periodic_axes:
            raise InputError("harmonics: expected 0 for an equation without a periodic coordinate")
        if self.hard and type(self).ansatz is Declarations.ansatz:
            raise InputError(f"hard: {type(self).__name__} has no ansatz for its conditions")
        if self.adaptive and not self.resample_every:
            raise InputError("adaptive: expected resample_every >= 1, which draws the new points")
        if self.sampler == "grid" and self.points > len(self._inner_points()):
            raise InputError(
                f"points: the grid has {len(self._inner_points())} inner points, got {self.points}"
            )

    def test_points(self) -> TestPoints:
        """The points at which the solution is scored; a periodic axis excludes its upper end."""
        return place_test_points(self.domain, self.test_grid, self.periodic_axes)

    def truth(self) -> Float[np.ndarray, "m o"] | None:
        """The solution at the test points, in float64; None if it is unknown."""
        if self.exact is None:
            return None
        with jax.enable_x64(True):
            return np.asarray(self.exact(jnp.asarray(self.test_points().x, jnp.float64)))

    # The solution around a network

    @property
    def out_dim(self) -> int:
        """Number of components o of the solution."""
        return len(self.component_names)

    @property
    def in_dim(self) -> int:
        """Number of inputs of the network: the coordinates or their embedding."""
        periods = 2 * self.harmonics - 1 if self.harmonics else 0
        return self.domain.dim + periods * len(self.periodic_axes) + 2 * self.time_harmonics

    def solution(self, field: Field) -> "PDESolution":
        """u(x) in the coordinates of the equation, from a network `field` of the inputs `embed`."""
        return PDESolution(self, field)

    def embed(self, x: Float[ArrayLike, "*n d"]) -> Float[Array, "*n i"]:
        """The inputs of the network at the points x."""
        x = jnp.asarray(x)
        low, high = jnp.array(self.domain.low, x.dtype), jnp.array(self.domain.high, x.dtype)
        unit = (2 * x - (low + high)) / (high - low)
        plain = unit if self.coordinates == "unit" else x
        inputs = []
        for axis in range(self.domain.dim):
            if self.harmonics and axis in self.periodic_axes:
                inputs += _waves(unit[..., axis], self.harmonics)
            else:
                inputs.append(plain[..., axis])
        if self.time_harmonics:
            inputs += _waves((unit[..., -1] + 1) / 2, self.time_harmonics)
        return jnp.stack(inputs, axis=-1)

    # The interface of a problem

    def program(self) -> "PDE":
        """This equation with `point_seed` 0: the points are data."""
        return dataclasses.replace(self, point_seed=0)

    def load(self) -> dict[str, Any]:
        """Draws the rows of every part of the loss with `point_seed`."""
        self._check_conditions()
        key = jax.random.key(self.point_seed)
        data = {name: part.rows for name, part in self.parts(self._draw(key)).items()}
        self._check_shapes(data)
        return data

    def parts(self, data: dict[str, Any]) -> dict[str, Part]:
        """The equation and the conditions at the rows of `data`."""
        scale = self._causal_weights if self.causal else None
        parts = {
            "residual": Part(data["residual"], self._of(self.residual), self.residual_weight, scale)
        }
        for condition in self._terms():
            rows = data[condition.name]
            parts[condition.name] = Part(rows, self._of(condition.residual), condition.weight)
        return parts

    def resample(self, field: Field, data: dict[str, Any], key: Key) -> dict[str, Any]:
        """Draws new points for the equation and for all conditions without fixed rows."""
        fresh = self._draw(key)
        for condition in self._terms():
            if condition.given:
                fresh[condition.name] = data[condition.name]
        if self.adaptive:
            fresh["residual"] = self._adapted(field, jax.random.fold_in(key, 1))
        return fresh

    def loss(self, field: Field, data: dict[str, Any], key: Key) -> tuple[jax.Array, Terms]:
        """The weighted sum of the mean squares of all parts, and the individual mean squares."""
        del key
        return sum_of_parts(self.parts(data), field)

    def evaluate(self, field: Field, data: Any = None) -> dict[str, float]:
        """Errors with respect to the truth at the test points, in float64.

        `relative_l2` is |u - truth| / |truth| in the Euclidean norm over all points and components,
        `relative_max` the same in the maximum norm, and `mse` the mean squared error. Empty if the
        truth is unknown.
        """
        del data
        truth = _truth(self)
        if truth is None:
            return {}
        value = predict(self.solution(field), self.test_points().x).astype(np.float64)
        error = np.abs(value - truth)
        return {
            "relative_l2": relative_l2(value, truth),
            "relative_max": float(error.max() / np.abs(truth).max()),
            "mse": float(np.mean(error**2)),
        }

    def trivial_scores(self, data: Any = None) -> dict[str, float]:
        """`relative_l2` of the mean of the truth over the test points; {} if it is unknown."""
        del data
        truth = _truth(self)
        if truth is None:
            return {}
        mean = np.broadcast_to(truth.mean(axis=0), truth.shape)
        return {"relative_l2": relative_l2(mean, truth)}

    def section(self, field: Field, data: Any = None) -> Section | None:
        """The first component on the test grid; a plane of it if there are more coordinates."""
        del data
        points = self.test_points()
        if points.shape is None:
            return None
        grid, truth = self._on_grid(field, points.x, points.shape), _truth(self)
        known = None if truth is None else grid.planes(truth[:, 0])
        return Section(known, grid.planes(grid.value[:, 0]))

    def render(self, field: Field, data: Any = None, folder: str | Path = ".") -> list[Path]:
        """`solution.png`: solution, truth, error, residual; `solution.gif` if there is time."""
        from lrnn_jax.plot.solutions import write_solution

        del data
        folder = make_folder(folder)
        x, shape = self.test_points()
        if shape is None:
            return []
        grid = self._on_grid(field, x, shape)
        grid = dataclasses.replace(grid, truth=_truth(self), residual=self.residual_at(field, x))
        return write_solution(grid, folder)

    def decode(
        self,
        field: Field,
        size: tuple[int, ...] | None = None,
        path: str | Path | None = None,
    ) -> Path:
        """Write the solution on a grid of `size` points per axis.

        The suffix of `path` says how: `.npz` with the arrays `x` and `u`; `.nc`, a NetCDF file
        (needs xarray); `.vti`, VTK image data; or an image.
        """
        from lrnn_jax.plot.solutions import write_values

        path = Path(path or self.decoded_file)
        counts = self.test_points().shape if size is None else size
        if counts is None or len(counts) != self.domain.dim or min(counts) < 2:
            raise InputError(f"size: expected {self.domain.dim} numbers of points >= 2, got {size}")
        if path.suffix in SUFFIXES:
            axes = dict(zip(self.coordinate_names, self.domain.axes(counts), strict=True))
            return write_grid(path, field, axes, self.component_names)
        x = self.domain.mesh(counts)
        return write_values(self._on_grid(field, x, counts), path, x)

    def residual_at(self, field: Field, x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
        """The residual at any points, evaluated in chunks."""
        rows = jax.jit(
            lambda x: residual_rows(Part(x, self._of(self.residual)), field)  # one compilation
        )
        with precision_of(field):
            values = [np.asarray(rows(x[i : i + _CHUNK])) for i in range(0, len(x), _CHUNK)]
        return np.concatenate(values)

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """x, y, z (x1, x2, ... in more than three dimensions), then t if there is time."""
        space = self.domain.dim - self.time
        names = tuple("xyz"[:space]) if space <= 3 else tuple(f"x{i + 1}" for i in range(space))
        return (*names, "t") if self.time else names

    # Internals

    def _on_grid(self, field: Field, x: np.ndarray, shape: tuple[int, ...]) -> "SolutionGrid":
        """The solution at the points x (m, d) of a grid, in float64."""
        from lrnn_jax.plot.solutions import SolutionGrid

        return SolutionGrid(
            domain=self.domain,
            names=self.coordinate_names,
            components=self.component_names,
            shape=shape,
            time=self.time,
            value=predict(self.solution(field), x).astype(np.float64),
        )

    def _terms(self) -> tuple[Condition, ...]:
        """The conditions that are terms of the loss, not satisfied by construction."""
        return tuple(
            condition
            for condition in self.conditions
            if not (self.hard and condition.hard)
            and not (self.harmonics and condition.periodic in self.periodic_axes)
        )

    def _of(self, residual: Residual) -> Residual:
        """A residual of the solution as a residual of the network."""
        return lambda field: residual(self.solution(field))  # pyright: ignore[reportArgumentType]

    def _draw(self, key: Key) -> dict[str, Any]:
        inner, *keys = jax.random.split(key, 1 + len(self._terms()))
        sampler = "uniform" if self.sampler == "grid" else self.sampler
        if self.sampler == "grid":
            grid = jnp.asarray(self._inner_points(), float)
            rows = grid[jax.random.choice(inner, len(grid), (self.points,), replace=False)]
        else:
            rows = sample_box(self.domain, inner, self.points, self.sampler)
        data = {"residual": rows}
        for condition, own in zip(self._terms(), keys, strict=True):
            data[condition.name] = condition.rows(own, self.boundary_points, sampler)
        return data

    def _inner_points(self) -> np.ndarray:
        """The test points that lie on no face, or only on the face of the final time."""
        x, low, high = self.test_points().x, np.array(self.domain.low), np.array(self.domain.high)
        if self.time:
            high[-1] = np.inf
        return x[np.all((x > low) & (x < high), axis=-1)]

    def _adapted(self, field: Field, key: Key) -> Float[Array, "n d"]:
        """Draws points without replacement, p ~ |r| + mean |r|, by the Gumbel top-k trick."""
        candidate_key, choice_key = jax.random.split(key)
        candidates = sample_box(self.domain, candidate_key, _CANDIDATES * self.points)
        r = residual_rows(Part(candidates, self._of(self.residual)), field)
        size = jnp.linalg.norm(r, axis=-1)
        chances = jnp.log(size + jnp.mean(size) + 1e-30)
        noisy = chances + jax.random.gumbel(choice_key, chances.shape, chances.dtype)
        return candidates[jax.lax.top_k(noisy, self.points)[1]]

    def _causal_weights(self, r: Float[Array, "n k"], x: Float[Array, "n d"]) -> Array:
        """exp(-causal * sum of the mean squared residuals of all earlier time bins)."""
        low, high = self.domain.low[-1], self.domain.high[-1]
        bins = jnp.clip(((x[:, -1] - low) / (high - low) * _BINS).astype(int), 0, _BINS - 1)
        sums = jax.ops.segment_sum(jnp.mean(r**2, axis=-1), bins, _BINS)
        counts = jax.ops.segment_sum(jnp.ones_like(r[:, 0]), bins, _BINS)
        means = sums / jnp.maximum(counts, 1)
        earlier = jnp.append(0.0, jnp.cumsum(means)[:-1])
        return jnp.exp(-self.causal * earlier)[bins]

    def _check_conditions(self) -> None:
        """Checks the conditions before points are drawn.

        Raises:
          InputError: an entry is not a `Condition`, has the name 'residual', or has a weight that
            is not finite and >= 0.
        """
        for condition in self.conditions:
            if not isinstance(condition, Condition):
                raise InputError(
                    f"conditions: expected what pde.dirichlet(...) and its like give, "
                    f"got {condition!r}"
                )
            if condition.name == "residual":
                raise InputError("conditions: 'residual' is the equation's name; choose another")
            require_weight(condition.name, condition.weight)

    def _check_shapes(self, data: dict[str, Any]) -> None:
        """Checks that every residual accepts u: (d,) -> (o,) and returns a scalar or a vector.

        Raises:
          InputError: a residual does not, or points of a condition lie outside the domain.
        """
        d, o = self.domain.dim, self.out_dim
        for name in (condition.name for condition in self._terms()):
            places = np.asarray(jax.tree.leaves(data[name])[0])
            require_inside(name, self.domain, places)
        u = lambda x: jnp.broadcast_to(jnp.sum(x**2), (o,))  # noqa: E731
        checked = {"residual": self.residual, **{c.name: c.residual for c in self._terms()}}
        for name, residual in checked.items():
            row = jax.tree.map(lambda a: a[0], data[name])
            try:
                value = jax.eval_shape(residual(u), row)
            except (AttributeError, IndexError, TypeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"{name}: fails for u: ({d},) -> ({o},): {reason}") from error
            if isinstance(value, tuple | list):
                raise InputError(f"{name}: expected one array, got several; jnp.stack makes it one")
            if len(value.shape) > 1:
                raise InputError(f"{name}: expected shape () or (k,) at a point, got {value.shape}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class PDESolution:
    """u(x) in the coordinates of an equation; a pytree if the network is one.

    Args:
      problem: the equation.
      network: the field v, whose inputs are those of `problem.embed`.
    """

    problem: PDE = dataclasses.field(metadata={"static": True})
    network: Field

    def __call__(self, x: Float[ArrayLike, "*n d"]) -> Float[Array, "*n o"]:
        """u(x); outside JAX transformations, in the precision of the network's parameters."""
        with contextlib.nullcontext() if isinstance(x, Tracer) else precision_of(self.network):
            points = jnp.asarray(x)
            return self.problem.ansatz(self._v, points) if self.problem.hard else self._v(points)

    def _v(self, x: Float[ArrayLike, "*n d"]) -> Float[Array, "*n o"]:
        """The network at points x of the equation."""
        return jnp.asarray(self.network(self.problem.embed(x)))


def place_test_points(
    box: Box, counts: tuple[int, ...], open_axes: tuple[int, ...] = ()
) -> TestPoints:
    """A grid of `counts` points, or 10,000 random points, the same in every run, if it is empty.

    The axes `open_axes` of the grid exclude their upper end.
    """
    if counts:
        closed = tuple(axis not in open_axes for axis in range(box.dim))
        return TestPoints(box.mesh(counts, closed), counts)
    low, high = np.array(box.low), np.array(box.high)
    unit = np.random.default_rng(0).uniform(size=(_SCATTERED, box.dim))
    return TestPoints(low + unit * (high - low), None)


def _waves(turns: Array, count: int) -> list[Array]:
    """cos and sin of pi m `turns` for m = 1..count."""
    return [wave(m * turns) for m in range(1, count + 1) for wave in (cospi, sinpi)]


@functools.lru_cache(maxsize=8)
def _truth(problem: PDE) -> Float[np.ndarray, "m o"] | None:
    return problem.truth()
