"""The training step of a problem whose loss is a sum of squared residuals.

In addition to updating the parameters, a step resamples the collocation points, balances the
weights of the parts of the loss, and passes to the optimizer what second-order methods need: the
loss as a function, and the residuals with their Jacobian.

References: Wang, Teng and Perdikaris, "Understanding and Mitigating Gradient Flow Pathologies in
PINNs" (arXiv 2001.04536) for 'gradient_norm'; Wang, Yu and Perdikaris, "When and Why PINNs Fail to
Train" (arXiv 2007.14527) for 'ntk'; both in the form of arXiv 2308.08468, eq. 5.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from lrnn_jax.errors import InputError
from lrnn_jax.residuals import Part, residual_rows, row_scales
from lrnn_jax.training.loop import State, Step, apply_update, with_gradient
from lrnn_jax.training.points import PointSharding, mean_over_points
from lrnn_jax.typing import Data, Field, Key, ModelLike, Params, Terms

Balance = Literal["fixed", "gradient_norm", "ntk"]
"""How the weights of the parts are chosen; see `Training.balance`."""

_MEMORY = 0.9  # decay rate of the running mean of a weight
_LEAST = 1e-5  # lower bound of a part's share of the sum of all sizes; it bounds the weight
_JACOBIAN_BYTES = 8e9  # largest size of a dense Jacobian


@runtime_checkable
class LeastSquares(Protocol):
    """A problem whose loss is a sum of squares, and which can resample its points."""

    @property
    def resample_every(self) -> int:
        """Number of steps between two draws of the points; 0 keeps the initial points."""
        ...

    def parts(self, data: Data) -> dict[str, Part]:
        """Return the parts of the loss at the points `data`."""
        ...

    def resample(self, field: Field, data: Data, key: Key) -> Data:
        """Draw new points of the same shapes; a pure function."""
        ...


Frozen = tuple[Any, Float[Array, "n"]]
"""The rows of a part and their factors, which are constant within one step."""


def initial_weights(problem: LeastSquares, data: Data) -> dict[str, Array]:
    """Return the weights that the parts define; balancing starts from these."""
    return {name: jnp.asarray(part.weight, float) for name, part in problem.parts(data).items()}


def make_least_squares_step(
    model: ModelLike,
    problem: LeastSquares,
    optimizer: optax.GradientTransformation,
    *,
    chunk: int | None = None,
    sharding: PointSharding | None = None,
    balance: Balance = "fixed",
    balance_every: int = 100,
) -> Step:
    """Build the function that computes one update of the parameters.

    The function also updates the points and the weights at the steps at which this is due.

    Args:
      model: maps parameters and points to values.
      problem: defines the parts of the loss.
      optimizer: as in `make_step`; it also receives `residual_fn(params) -> r` and
        `linearise_fn(params) -> (r, J)`, where loss = sum r^2 and J is the Jacobian with respect to
        the ravelled parameters.
      chunk: number of rows of a part whose gradient a device computes at a time; None processes all
        rows.
      sharding: the devices that share the rows of a gradient; None leaves it to the compiler.
      balance: how the weights of the parts are chosen.
      balance_every: number of steps between two updates of the weights.

    Returns:
      step(state, data, key). `state.points` are the current points, or None to use those of `data`.
      `state.weights` are the current weights, or None to use those that the parts define.
    """

    def step(state: State, data: Data, key: Key) -> tuple[State, Terms]:
        key = jax.random.fold_in(key, state.step)
        points = data if state.points is None else _points(model, problem, state, key)
        parts = problem.parts(points)
        field = functools.partial(model.apply, state.params)
        frozen = {name: (part.rows, row_scales(part, field)) for name, part in parts.items()}
        fit = FrozenLoss(model, parts, frozen, chunk, sharding)
        weights = _weights(fit, state, balance, balance_every)
        (value, terms), grads = fit.gradient(state.params, weights)
        following = apply_update(
            state,
            optimizer,
            value,
            grads,
            value_fn=with_gradient(
                lambda params: fit.value(params, weights),
                lambda params: fit.gradient(params, weights),
            ),
            residual_fn=lambda params: fit.residuals(params, weights),
            linearise_fn=lambda params: fit.linearise(params, weights),
        )
        if state.points is not None:
            following = following._replace(points=points)
        if state.weights is not None:
            following = following._replace(weights=weights)
        return following, {"loss": value, **terms}

    return step


def _points(model: ModelLike, problem: LeastSquares, state: State, key: Key) -> Data:
    """Return the points of this step, resampled every `resample_every` steps except at step 0."""
    field = functools.partial(model.apply, state.params)
    due = (state.step % problem.resample_every == 0) & (state.step > 0)
    return lax.cond(due, lambda: problem.resample(field, state.points, key), lambda: state.points)


@dataclasses.dataclass(frozen=True, eq=False)  # parts and rows cannot be hashed
class FrozenLoss:
    """The loss of one step, as a function of the parameters: rows and factors are constant."""

    model: ModelLike
    parts: Mapping[str, Part]
    frozen: dict[str, Frozen]
    chunk: int | None  # number of rows processed at a time; None processes all rows
    sharding: PointSharding | None = None  # the devices that share the rows

    def residual(self, name: str, params: Params, rows: Any) -> Float[Array, "n k"]:
        """Return the residuals of a part at `rows`."""
        field = functools.partial(self.model.apply, params)
        return residual_rows(self.parts[name], field, rows)

    def mean_square(self, name: str, params: Params, frozen: Frozen) -> Array:
        """Return the mean of a part's squared residuals, multiplied by their factors."""
        rows, scale = frozen
        return jnp.mean(scale[:, None] * self.residual(name, params, rows) ** 2)

    def part_gradient(self, name: str, params: Params) -> tuple[Array, Params]:
        """Return a part's mean square and its gradient, accumulated over chunks."""
        gradient = jax.value_and_grad(functools.partial(self.mean_square, name))
        return self._over_chunks(gradient, name, params)

    def _over_chunks(self, function: Callable[..., Any], name: str, params: Params) -> Any:
        chunked = lambda params, frozen, key: function(params, frozen)  # noqa: E731
        rows = self.frozen[name]
        return mean_over_points(chunked, params, rows, None, self.chunk, self.sharding)

    def value(self, params: Params, weights: Mapping[str, Any]) -> Array:
        """Return the loss."""
        total = jnp.zeros(())
        for name in self.parts:
            part = functools.partial(self.mean_square, name)
            total = total + weights[name] * self._over_chunks(part, name, params)
        return total

    def gradient(
        self, params: Params, weights: Mapping[str, Any]
    ) -> tuple[tuple[Array, Terms], Params]:
        """Return (the loss, the mean squares of the parts), and the gradient of the loss."""
        pairs = {name: self.part_gradient(name, params) for name in self.parts}
        terms = {name: value for name, (value, _) in pairs.items()}
        weighted = [
            jax.tree.map(lambda t, w=weights[name]: w * t, pair) for name, pair in pairs.items()
        ]
        value, grads = jax.tree.map(lambda *leaves: sum(leaves), *weighted)
        return (value, terms), grads

    def residuals(self, params: Params, weights: Mapping[str, Any]) -> Float[Array, "n"]:
        """Return r, shape (N,), with loss = sum r^2."""
        pieces = []
        for name, (rows, scale) in self.frozen.items():
            r = self.residual(name, params, rows)
            pieces.append((_factors(weights[name], scale, r) * r).ravel())
        return jnp.concatenate(pieces)

    def jacobian(self, name: str, params: Params, rows: Any) -> tuple[Array, Array]:
        """Return the residuals of a part, shape (n, k), and their Jacobian, shape (n, k, P)."""
        flat, unravel = ravel_pytree(params)

        def one(flat: Array, row: Any) -> tuple[Array, Array]:
            r = self.residual(name, unravel(flat), jax.tree.map(lambda a: a[None], row))[0]
            return r, r

        def at(row: Any) -> tuple[Array, Array]:
            derivative, r = jax.jacrev(one, has_aux=True)(flat, row)
            return r, derivative

        batch = self.chunk or len(jax.tree.leaves(rows)[0])
        return lax.map(at, rows, batch_size=batch)

    def linearise(self, params: Params, weights: Mapping[str, Any]) -> tuple[Array, Array]:
        """Return r, shape (N,), with loss = sum r^2, and its Jacobian J, shape (N, P).

        Raises:
          InputError: J would take more than 8 GB.
        """
        self._require_room(params)
        residuals, rows_of_j = [], []
        for name, (rows, scale) in self.frozen.items():
            r, j = self.jacobian(name, params, rows)
            factor = _factors(weights[name], scale, r)
            residuals.append((factor * r).ravel())
            rows_of_j.append((factor[..., None] * j).reshape(-1, j.shape[-1]))
        return jnp.concatenate(residuals), jnp.concatenate(rows_of_j)

    def _require_room(self, params: Params) -> None:
        count = sum(
            jax.eval_shape(functools.partial(self.residual, name), params, rows).size
            for name, (rows, _) in self.frozen.items()
        )
        leaves = jax.tree.leaves(params)
        size = sum(leaf.size for leaf in leaves)
        needed = count * size * leaves[0].dtype.itemsize
        if needed > _JACOBIAN_BYTES:
            raise InputError(
                f"optimizer: the Jacobian of {count} residuals by {size} parameters takes "
                f"{needed / 1e9:.0f} GB; take fewer points or parameters, or 'lbfgs'"
            )


def _factors(weight: Any, scale: Array, r: Array) -> Float[Array, "n 1"]:
    """Return the factors f of a part's residuals such that sum (f r)^2 is its share of the loss."""
    return jnp.sqrt(weight * scale / r.size)[:, None]


# Weights of the parts ----------------------------------------------------------------------------


def _weights(fit: FrozenLoss, state: State, balance: Balance, every: int) -> dict[str, Array]:
    """Return the weights of this step: a running mean, updated every `every` steps."""
    weights = state.weights
    if weights is None:
        return {name: jnp.asarray(part.weight, float) for name, part in fit.parts.items()}

    def updated() -> dict[str, Array]:
        size = _gradient_size if balance == "gradient_norm" else _kernel_trace
        sizes = {name: size(fit, name, state.params) for name in fit.parts}
        total = sum(sizes.values())
        balanced = {name: total / jnp.maximum(size, _LEAST * total) for name, size in sizes.items()}
        means = {n: _MEMORY * weights[n] + (1 - _MEMORY) * balanced[n] for n in fit.parts}
        # A part that the problem excludes with weight 0 stays excluded.
        return {name: jnp.where(weights[name] > 0, means[name], 0) for name in fit.parts}

    return lax.cond(state.step % every == 0, updated, lambda: weights)


def _gradient_size(fit: FrozenLoss, name: str, params: Params) -> Array:
    """Return the norm of a part's gradient."""
    return optax.tree.norm(fit.part_gradient(name, params)[1])


def _kernel_trace(fit: FrozenLoss, name: str, params: Params) -> Array:
    """Return the trace of a part's tangent kernel over n: mean over rows of |d r / d params|^2."""
    rows, scale = fit.frozen[name]

    def one(row: Any) -> Array:
        _, j = fit.jacobian(name, params, jax.tree.map(lambda a: a[None], row))
        return jnp.sum(j**2)

    squares = lax.map(one, rows, batch_size=fit.chunk or len(scale))
    return jnp.mean(scale * squares)
