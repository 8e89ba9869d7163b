"""Kolmogorov-Arnold networks: a learnable univariate function on every edge.

    y_o = sum_i phi_{i,o}(x_i)
    phi(x) = w_b silu(x) + w_s sum_m c_m B_m(x)          KAN, B-splines B_m on a grid
    phi(x) = sum_m c_m T_m(tanh x)                       ChebyKAN, Chebyshev polynomials T_m

Axis letters: n points, i inputs of a layer, o outputs, m basis functions.
"""

import abc
import dataclasses
import functools
import itertools
import math
from typing import Any, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.checks import check_types, require_at_least, require_positive
from lrnn_jax.errors import InputError
from lrnn_jax.kernels.dense import dot
from lrnn_jax.kernels.initializers import (
    Constant,
    Mapped,
    Normal,
    Uniform,
    fan_in_limit,
    glorot_limit,
)
from lrnn_jax.kernels.splines import b_splines, chebyshev, extend_knots
from lrnn_jax.models.network import DeepNetwork, Layer
from lrnn_jax.typing import Params

Knots = tuple[tuple[tuple[float, ...], ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _EdgeNetwork(DeepNetwork):
    """Base class of the networks with a learnable function on every edge.

    The parameters are `{"layer_0": ..., ...}` for layers 0..depth; layer `depth` maps to the
    outputs.

    Args:
      width: nodes of each hidden layer.
    """

    width: int = 16
    depth: int = 1

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of nodes of every layer, including inputs and outputs."""
        return (self.in_dim, *(self.width,) * self.depth, self.out_dim)

    @abc.abstractmethod
    def _layer_plan(self, index: int, i: int, o: int) -> dict[str, Any]:
        """The plan of layer `index`, from i to o nodes."""

    @abc.abstractmethod
    def _layer(self, index: int, params: Params, x: jax.Array) -> jax.Array:
        """Layer `index` with its parameters."""

    def plan(self) -> dict[str, Any]:
        pairs = enumerate(itertools.pairwise(self.widths))
        return {f"layer_{index}": self._layer_plan(index, i, o) for index, (i, o) in pairs}

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        return [
            functools.partial(self._layer, index, params[f"layer_{index}"])
            for index in range(self.depth + 1)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class KAN(_EdgeNetwork):
    """KAN with B-splines; [2, 5, 1] in the paper's notation is depth 1, width 5.

    Parameters of a layer: `{base_weight w_b (i, o), spline_weight w_s (i, o), coefficients c
    (i, m, o)}` with m = intervals + order.

    The initialisation 'pykan' is that of the authors' code: w_b ~ U(+-1/sqrt(i)), w_s = 1/sqrt(i),
    and c are the coefficients of smallest Euclidean norm for which the spline at the G + 1 knots
    takes values ~ U(+-noise/(2 G)). 'paper' is that of the paper's section 2.2:
    w_b ~ U(+-sqrt(6 / (i + o))), w_s = 1, c ~ N(0, noise^2).

    Args:
      intervals: number of grid intervals G, >= 1.
      order: degree of the splines, >= 1.
      weight_init: 'pykan' or 'paper', see above.
      noise: scale of the splines at initialisation, > 0. None means 0.3 for 'pykan' (pykan's
        default) and 0.1 for 'paper'.
      knots: intervals + 1 increasing numbers for each input of each layer, as returned by
        `update_grid`. None means equally spaced knots on [-1, 1]. The grid is extended by `order`
        knots at each end; outside it phi is w_b silu.
    """

    citation: ClassVar[str] = (
        "Liu, Wang, Vaidya, Ruehle, Halverson, Soljacic, Hou, Tegmark: KAN: Kolmogorov-Arnold "
        "Networks. ICLR 2025, arXiv 2404.19756."
    )

    intervals: int = 5
    order: int = 3
    weight_init: Literal["pykan", "paper"] = "pykan"
    noise: float | None = None
    knots: Knots | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "intervals", "order")
        check_types(self, "weight_init")
        require_positive(self, "noise")
        if self.knots is not None:
            self._check_knots(self.knots)

    @property
    def smoothness(self) -> float:
        """order - 1, the smoothness of the splines."""
        return self.order - 1

    def _layer_plan(self, index: int, i: int, o: int) -> dict[str, Any]:
        """The initialisation selected by `weight_init`.

        References: pykan 0.2.8, `KANLayer.__init__` and the defaults of `MultKAN`.
        """
        shape = (i, self.intervals + self.order, o)
        if self.weight_init == "paper":
            return {
                "base_weight": Uniform((i, o), glorot_limit(i, o)),
                "spline_weight": Constant((i, o), 1.0),
                "coefficients": Normal(shape, 0.1 if self.noise is None else self.noise),
            }
        noise = 0.3 if self.noise is None else self.noise
        even = (tuple(np.linspace(-1, 1, self.intervals + 1).tolist()),) * i
        knots = even if self.knots is None else self.knots[index]
        return {
            "base_weight": Uniform((i, o), fan_in_limit(i)),
            "spline_weight": Constant((i, o), fan_in_limit(i)),
            "coefficients": Mapped(
                shape,
                noise / (2 * self.intervals),
                np.stack([_interpolation(grid, self.order) for grid in knots]),
            ),
        }

    def update_grid(
        self,
        params: Params,
        x: Float[ArrayLike, "n i"],
        *,
        intervals: int | None = None,
        uniform: float = 0.02,
    ) -> tuple[Self, Params]:
        """Adapt every grid to the distribution of its inputs and refit the splines.

        The new coefficients are a least-squares fit to the old splines at the points `x`. Call this
        method on the host, not under `jax.jit`.

        Args:
          params: the parameters.
          x: points of the data, shape (n, in_dim).
          intervals: number of intervals of the new grids; None keeps the current number. A larger
            number is the paper's grid extension.
          uniform: weight, in (0, 1], of the equally spaced grid between the extremes of an input;
            the quantiles of the input have the weight 1 - uniform.

        Returns:
          The model with the new knots, and its parameters.

        Raises:
          InputError: there are too few points or non-finite points; an input of a layer is
            constant; intervals < 1; uniform is outside (0, 1]; `params` belong to another model.
        """
        grown = {} if intervals is None else {"intervals": intervals, "knots": None}
        count = dataclasses.replace(self, **grown).intervals
        if not isinstance(uniform, int | float) or not 0 < uniform <= 1:
            raise InputError(f"uniform: expected a share in (0, 1], got {uniform!r}")
        h = self.as_points(x)
        self.require_own(params)
        if not jnp.isfinite(h).all():
            raise InputError("x: expected finite numbers")
        if h.ndim != 2 or h.shape[0] < count + self.order:
            raise InputError(
                f"x: expected shape (n, {self.in_dim}) with {count + self.order} points or more, "
                f"got {h.shape}"
            )
        knots, fitted = [], {}
        for index, layer in enumerate(self.layers(params, h)):
            layer_params, points = params[f"layer_{index}"], np.asarray(h, np.float64)
            knots.append(_knots_at(points, count, uniform, index))
            grids = self.extended_knots(index), extend_knots(knots[-1], self.order)
            old, new = (np.stack(b_splines(h, grid, self.order), -1) for grid in grids)
            old_coefficients = layer_params["coefficients"]
            coefficients = _refit(old, new, np.asarray(old_coefficients))
            fitted[f"layer_{index}"] = layer_params | {
                "coefficients": jnp.asarray(coefficients, old_coefficients.dtype)
            }
            h = layer(h)
        spec = tuple(tuple(map(tuple, grid.tolist())) for grid in knots)
        return dataclasses.replace(self, knots=spec, intervals=count), fitted

    def _layer(self, index: int, params: Params, x: jax.Array) -> jax.Array:
        spline = params["coefficients"] * params["spline_weight"][:, None, :]
        base = dot(jax.nn.silu(x), params["base_weight"])
        return base + _combine(b_splines(x, self.extended_knots(index), self.order), spline)

    def extended_knots(self, index: int) -> np.ndarray:
        """The knots of the inputs of a layer, extended by `order` knots at each end."""
        if self.knots is not None:
            return extend_knots(np.array(self.knots[index]), self.order)
        grid = np.linspace(-1, 1, self.intervals + 1)
        return extend_knots(np.tile(grid, (self.widths[index], 1)), self.order)

    def _check_knots(self, knots: Knots) -> None:
        nested_tuples = isinstance(knots, tuple) and all(
            isinstance(layer, tuple) and all(isinstance(grid, tuple) for grid in layer)
            for layer in knots
        )
        if not nested_tuples:
            raise InputError("knots: expected numbers in tuples in tuples in a tuple")
        shape = [[len(grid) for grid in layer] for layer in knots]
        if shape != [[self.intervals + 1] * i for i in self.widths[:-1]]:
            raise InputError(
                f"knots: expected {self.intervals + 1} for each of {list(self.widths[:-1])} inputs "
                f"of the layers, got {shape}"
            )
        for grid in itertools.chain.from_iterable(knots):
            rising = all(a < b for a, b in itertools.pairwise(grid))
            if not rising or math.isinf(grid[-1] - grid[0]):
                raise InputError(f"knots: expected finite, increasing numbers, got {list(grid)}")


@functools.lru_cache(maxsize=1024)
def _interpolation(knots: tuple[float, ...], order: int) -> Float[np.ndarray, "m k"]:
    """The matrix from values at the k knots to the minimum-norm coefficients of the spline."""
    from scipy.interpolate import BSpline

    inner = np.asarray(knots, np.float64)
    extended = extend_knots(inner[None], order)[0]
    return np.linalg.pinv(BSpline.design_matrix(inner, extended, order).toarray())


def _knots_at(x: np.ndarray, intervals: int, uniform: float, index: int) -> np.ndarray:
    """The weighted mean of equally spaced knots and the quantiles of each input."""
    low, high = x.min(axis=0), x.max(axis=0)
    if not np.all(high > low):
        raise InputError(f"x: input {int(np.argmin(high - low))} of layer {index} is constant")
    adaptive = np.quantile(x, np.linspace(0, 1, intervals + 1), axis=0).T
    share = np.linspace(0, 1, intervals + 1)
    even = low[:, None] + (high - low)[:, None] * share
    return uniform * even + (1 - uniform) * adaptive


def _refit(old: np.ndarray, new: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Solve new_basis @ result = old_basis @ coefficients by least squares, for each input."""
    old, new, coefficients = (np.asarray(a, np.float64) for a in (old, new, coefficients))
    values = np.einsum("nim,imo->ino", old, coefficients)
    pairs = zip(new.transpose(1, 0, 2), values, strict=True)
    return np.stack([np.linalg.lstsq(basis, y, rcond=None)[0] for basis, y in pairs])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChebyKAN(_EdgeNetwork):
    """KAN with Chebyshev polynomials of tanh x.

    Parameters of a layer: `{"coefficients": c (i, degree + 1, o)}`; c ~ N(0, 1 / (i (degree +
    1))^2), as in the authors' code.

    Args:
      degree: degree of the polynomials, >= 1.
    """

    citation: ClassVar[str] = (
        "Sidharth, Keerthana, Gokul, Anas: Chebyshev Polynomial-Based Kolmogorov-Arnold Networks: "
        "An Efficient Architecture for Nonlinear Function Approximation. arXiv 2405.07200, 2024."
    )

    degree: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "degree")

    def _layer_plan(self, index: int, i: int, o: int) -> dict[str, Any]:
        terms = self.degree + 1
        return {"coefficients": Normal((i, terms, o), 1 / (i * terms))}

    def _layer(self, index: int, params: Params, x: jax.Array) -> jax.Array:
        return _combine(chebyshev(jnp.tanh(x), self.degree), params["coefficients"])


def _combine(
    basis: list[Float[Array, "*n i"]], coefficients: Float[Array, "i m o"]
) -> Float[Array, "*n o"]:
    """sum_{i,m} c_{imo} B_m(x_i), as one matrix product."""
    rows = jnp.swapaxes(coefficients, 0, 1).reshape(-1, coefficients.shape[-1])
    return dot(jnp.concatenate(basis, axis=-1), rows)
