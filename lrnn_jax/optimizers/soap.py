"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

Notation: G the gradient of an array as a matrix, m x n; L and R running means of GG' and G'G; U and
V matrices whose columns are approximate eigenvectors of L and R, by decreasing eigenvalue.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from lrnn_jax.optimizers.stopping import (
    require_count,
    require_number,
    require_real_parameters,
    times,
)


class Leaf(NamedTuple):
    """State of one array of parameters. A side without a basis has matrices of shape (0, 0)."""

    mean: Array  # M, running mean of the gradient
    square: Array  # S, running mean of the squared gradient in the eigenbasis
    left: Float[Array, "m m"]  # L
    right: Float[Array, "n n"]  # R
    left_basis: Float[Array, "m m"]  # U
    right_basis: Float[Array, "n n"]  # V


class SoapState(NamedTuple):
    """State of `soap`: the number of updates, and a `Leaf` for each array of parameters."""

    count: Int[Array, ""]
    leaves: Any


class _Settings(NamedTuple):
    b1: float
    b2: float
    eps: float
    frequency: int


def soap(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.95,
    b2: float = 0.95,
    eps: float = 1e-8,
    precondition_frequency: int = 10,
    max_dim: int = 1024,
) -> optax.GradientTransformationExtraArgs:
    """SOAP: Adam in the eigenbasis of Shampoo's preconditioner, which is updated periodically.

        G' = U'GV,  M <- b1 M + (1 - b1) G,  S <- b2 S + (1 - b2) G'^2
        W <- W - learning_rate U [ (U'MV / (1 - b1^t)) / (sqrt(S / (1 - b2^t)) + eps) ] V'
        L <- b2 L + (1 - b2) GG',  R <- b2 R + (1 - b2) G'G

    Every `precondition_frequency` updates, U is replaced by the orthogonal factor of the QR
    decomposition of L U, and V by that of R V: one step of power iteration each. The first
    gradient only initialises U and V, by an eigendecomposition. It does not change the matrices,
    because it would be preconditioned by a basis computed from itself.

    An array with more than two axes is treated as a matrix: all axes but the first are merged. A
    side that is longer than `max_dim` or has length 1 keeps the identity as its basis. Vectors, and
    matrices without a basis on either side, are trained by Adam.

    Args:
      learning_rate: a number or an optax schedule.
      b1: decay rate of the mean of the gradients, in [0, 1).
      b2: decay rate of the mean of their squares and of L and R, in [0, 1).
      eps: number added to the square root of S in the denominator, > 0.
      precondition_frequency: number of updates between two updates of the bases, >= 1.
      max_dim: longest side that has a basis, >= 0. A matrix m x n takes 2 m^2 + 2 n^2 numbers more
        than with Adam, and an update takes about 4 m n (m + n) operations.

    Returns:
      An optax transformation. Its state contains a `SoapState`.

    Example:
      >>> params = {"weight": jnp.ones((3, 4)), "bias": jnp.zeros(4)}
      >>> optimizer = soap(3e-3)
      >>> state = optimizer.init(params)
      >>> updates, state = optimizer.update(params, state, params)

    References:
      Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", arXiv 2409.11321,
      algorithm 3, without weight decay. Deviations: eps is added after the bias correction, as in
      `optax.adam`; axes are merged as described above.
    """
    if not callable(learning_rate):
        expected = "a finite number >= 0 or an optax schedule"
        require_number("learning_rate", learning_rate, expected, lambda rate: rate >= 0)
    for name, decay in (("b1", b1), ("b2", b2)):
        require_number(name, decay, "a number in [0, 1)", lambda decay: (decay >= 0) & (decay < 1))
    require_number("eps", eps, "a finite number > 0", lambda number: number > 0)
    require_count("precondition_frequency", precondition_frequency, 1)
    require_count("max_dim", max_dim, 0, most=math.inf)
    settings = _Settings(b1, b2, eps, precondition_frequency)

    def init(params):
        require_real_parameters("soap", params)
        leaves = jax.tree.map(lambda leaf: _first_state(leaf, max_dim), params)
        return SoapState(jnp.zeros((), jnp.int32), leaves)

    def update(updates: Any, state: Any, params: Any = None):
        del params
        flat, structure = jax.tree.flatten(updates)
        before = structure.flatten_up_to(state.leaves)
        pairs = [
            _update(grad, leaf, state.count, settings)
            for grad, leaf in zip(flat, before, strict=True)
        ]
        steps, after = ([pair[part] for pair in pairs] for part in range(2))
        count = jnp.asarray(optax.safe_increment(state.count))
        return structure.unflatten(steps), SoapState(count, structure.unflatten(after))

    rate = optax.scale_by_learning_rate(learning_rate)
    chain = optax.chain(optax.GradientTransformation(init, update), rate)
    return optax.with_extra_args_support(chain)


def _first_state(leaf: Array, max_dim: int) -> Leaf:
    """Return the initial state of an array: zero means, and identities as bases."""
    zeros = jnp.zeros_like(leaf)
    rows, columns = _matrix(zeros).shape if zeros.ndim > 1 else (0, 0)
    sides = [size if 1 < size <= max_dim else 0 for size in (rows, columns)]
    moments = [jnp.zeros((size, size), zeros.dtype) for size in sides]
    bases = [jnp.eye(size, dtype=zeros.dtype) for size in sides]
    return Leaf(zeros, zeros, *moments, *bases)


def _update(grad: Array, leaf: Leaf, count: Array, settings: _Settings) -> tuple[Array, Leaf]:
    """Return the update of one array, before the factor -learning_rate, and its new state."""
    if not leaf.left.size and not leaf.right.size:
        return _adam(grad, leaf, count + 1, settings)

    def start():
        # The first gradient defines the bases and changes no parameters, see `soap`.
        moved = _gather(grad, leaf, settings.b2)
        return jnp.zeros_like(grad), moved._replace(
            left_basis=_eigenvectors(moved.left), right_basis=_eigenvectors(moved.right)
        )

    def proceed():
        # `count` and not `count + 1`: the first update of Adam is the second call, since the first
        # call left the means at zero.
        step, moved = _adam(grad, leaf, count, settings)
        moved = _gather(grad, moved, settings.b2)
        due = count % settings.frequency == 0
        return step, lax.cond(due, _renew, lambda same: same, moved)

    return lax.cond(count == 0, start, proceed)


def _adam(grad: Array, leaf: Leaf, count: Array, settings: _Settings) -> tuple[Array, Leaf]:
    """Compute update number `count` of Adam in the eigenbasis, rotated back."""
    (b1, b2, eps, _), (u, v) = settings, (leaf.left_basis, leaf.right_basis)
    mean = b1 * leaf.mean + (1 - b1) * grad
    square = b2 * leaf.square + (1 - b2) * _between(u.T, grad, v) ** 2
    # The mean is stored unrotated, so that it stays valid when the bases change.
    rotated = _between(u.T, mean, v) / (1 - b1**count)
    step = rotated / (jnp.sqrt(square / (1 - b2**count)) + eps)
    new = leaf._replace(mean=mean.astype(grad.dtype), square=square.astype(grad.dtype))
    return _between(u, step, v.T).astype(grad.dtype), new


def _gather(grad: Array, leaf: Leaf, decay: float) -> Leaf:
    """Update L and R with a gradient."""
    matrix = _matrix(grad)
    left, right = leaf.left, leaf.right
    if left.size:
        left = decay * left + (1 - decay) * times(matrix, matrix.T)
    if right.size:
        right = decay * right + (1 - decay) * times(matrix.T, matrix)
    return leaf._replace(left=left, right=right)


def _renew(leaf: Leaf) -> Leaf:
    """Update the bases by one step of power iteration, and permute the squares accordingly."""
    square, left_basis, right_basis = _matrix(leaf.square), leaf.left_basis, leaf.right_basis
    if leaf.left.size:
        left_basis, rows = _power_iteration(leaf.left, left_basis)
        square = square[rows]
    if leaf.right.size:
        right_basis, columns = _power_iteration(leaf.right, right_basis)
        square = square[:, columns]
    square = square.reshape(leaf.square.shape)
    return leaf._replace(square=square, left_basis=left_basis, right_basis=right_basis)


def _power_iteration(moment: Array, basis: Array) -> tuple[Array, Array]:
    """Return `basis` after one step, and the order of its columns by decreasing eigenvalue."""
    ahead = times(moment, basis)
    # Sort before the QR decomposition: it keeps the direction of the first column and changes the
    # later ones. `_renew` applies the same order to the squares.
    order = jnp.argsort(-jnp.sum(basis * ahead, axis=0))
    return jnp.linalg.qr(ahead[:, order])[0], order


def _eigenvectors(moment: Array) -> Array:
    """Return the eigenvectors as columns, by decreasing eigenvalue."""
    return jnp.linalg.eigh(moment)[1][:, ::-1] if moment.size else moment


def _between(left: Array, array: Array, right: Array) -> Array:
    """Return left A right in the shape of the array A; an empty matrix stands for the identity."""
    matrix = _matrix(array)
    matrix = times(left, matrix) if left.size else matrix
    matrix = times(matrix, right) if right.size else matrix
    return matrix.reshape(array.shape)


def _matrix(array: Array) -> Array:
    """Reshape an array to a matrix: all axes but the first merged, a vector as a column."""
    return array.reshape(array.shape[0] if array.ndim else 1, -1)
