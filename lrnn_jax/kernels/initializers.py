"""Draws parameters from a plan: a nested dict that describes the distribution of each array.

A limit is computed from the fan-in of one unit and never inferred from the shape of an array, so a
stack of neurons and components can be drawn as one array. (An initialiser that infers its fan-in
would treat the leading axes of the stack as a receptive field, and its variance would be too small
by the product of these axes.)
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.typing import Key, Params

__all__ = [
    "Constant",
    "Mapped",
    "Normal",
    "Uniform",
    "fan_in_limit",
    "glorot_limit",
    "he_limit",
    "initialize",
    "linear",
    "plan_size",
    "siren_limit",
]


@dataclasses.dataclass(frozen=True)
class Uniform:
    """An array with entries ~ U(-limit, limit)."""

    shape: tuple[int, ...]
    limit: float


@dataclasses.dataclass(frozen=True)
class Normal:
    """An array with entries ~ N(0, scale^2)."""

    shape: tuple[int, ...]
    scale: float


@dataclasses.dataclass(frozen=True)
class Constant:
    """An array of fixed values: a number or an array, broadcast to the shape."""

    shape: tuple[int, ...]
    value: Any


@dataclasses.dataclass(frozen=True)
class Mapped:
    """An array (i, m, o) of products matrix_i u_i, where u of shape (i, k, o) ~ U(-limit, limit).

    Attributes:
      shape: (i, m, o).
      limit: limit of the uniform distribution of u.
      matrix: NumPy array of shape (i, m, k).
    """

    shape: tuple[int, ...]
    limit: float
    matrix: Any


def _random_shape(leaf: Any) -> tuple[int, ...]:
    """The shape of the random numbers that a leaf needs; (0,) if it needs none."""
    if isinstance(leaf, Mapped):
        return (leaf.shape[0], leaf.matrix.shape[-1], leaf.shape[-1])
    return leaf.shape if isinstance(leaf, Uniform | Normal) else (0,)


def initialize(key: Key, plan: Any) -> Params:
    """Draw the arrays of a plan, in JAX's default float dtype.

    Args:
      key: the random key.
      plan: a pytree of `Uniform`, `Normal`, `Mapped` and `Constant`.

    Example:
      >>> plan = {"w": Uniform((2, 3), 0.1), "b": Constant((3,), 0.0)}
      >>> params = initialize(jax.random.key(0), plan)
      >>> params["w"].shape, params["b"].tolist()
      ((2, 3), [0.0, 0.0, 0.0])
    """
    leaves, structure = jax.tree.flatten(plan)
    sizes = [math.prod(_random_shape(leaf)) for leaf in leaves]
    dtype = jnp.zeros(()).dtype
    # The interval excludes -1, where the inverse error function of a `Normal` is infinite.
    open_end = np.nextafter(np.asarray(-1, dtype), np.asarray(0, dtype))
    # One call draws the numbers of all arrays: on a CPU, compiling each call of a random function
    # takes a second. Every array uses a separate slice.
    numbers = jax.random.uniform(key, (sum(sizes),), minval=open_end, maxval=1.0)
    arrays, start = [], 0
    for leaf, size in zip(leaves, sizes, strict=True):
        arrays.append(_array(leaf, numbers[start : start + size]))
        start += size
    return jax.tree.unflatten(structure, arrays)


def _array(leaf: Any, numbers: jax.Array) -> jax.Array:
    """The array of a leaf, computed from the numbers ~ U(-1, 1) that it needs."""
    if isinstance(leaf, Uniform):
        return leaf.limit * numbers.reshape(leaf.shape)
    if isinstance(leaf, Normal):
        return leaf.scale * math.sqrt(2) * jax.lax.erf_inv(numbers.reshape(leaf.shape))
    if isinstance(leaf, Mapped):
        drawn = leaf.limit * numbers.reshape(_random_shape(leaf))
        matrix = jnp.asarray(leaf.matrix, numbers.dtype)
        return jnp.matmul(matrix, drawn, precision=jax.lax.Precision.HIGHEST)
    return jnp.broadcast_to(jnp.asarray(leaf.value, numbers.dtype), leaf.shape)


def plan_size(plan: Any) -> int:
    """The total number of entries of the arrays of a plan.

    >>> plan_size({"w": Uniform((2, 3), 0.1), "b": Constant((3,), 0.0)})
    9
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(plan))


def linear(fan_in: int, fan_out: int, limit: float, bias: float | None = None) -> dict[str, Any]:
    """The plan of a dense layer: W ~ U(+-limit) and b ~ U(+-bias).

    If `bias` is None, b ~ U(+-1/sqrt(fan_in)).
    """
    bias = fan_in_limit(fan_in) if bias is None else bias
    return {"weight": Uniform((fan_in, fan_out), limit), "bias": Uniform((fan_out,), bias)}


def fan_in_limit(fan_in: int) -> float:
    """1 / sqrt(fan_in): PyTorch's default limit for the weight and bias of a linear layer."""
    return 1 / math.sqrt(fan_in)


def he_limit(fan_in: int) -> float:
    """sqrt(6 / fan_in): He's uniform limit, which preserves the variance in ReLU layers.

    References: He et al., "Delving Deep into Rectifiers", ICCV 2015 (arXiv 1502.01852), eq. 10.
    """
    return math.sqrt(6 / fan_in)


def glorot_limit(fan_in: int, fan_out: int) -> float:
    """sqrt(6 / (fan_in + fan_out)): Glorot's uniform limit.

    References: Glorot and Bengio, "Understanding the difficulty of training deep feedforward
    neural networks", AISTATS 2010, eq. 16.
    """
    return math.sqrt(6 / (fan_in + fan_out))


def siren_limit(fan_in: int, omega0: float, first: bool) -> float:
    """SIREN's limit: 1 / fan_in in the first layer, sqrt(6 / fan_in) / omega0 in the others.

    References: Sitzmann et al., "Implicit Neural Representations with Periodic Activation
    Functions", NeurIPS 2020 (arXiv 2006.09661), section 3.2 and supplement 1.
    """
    return 1 / fan_in if first else math.sqrt(6 / fan_in) / omega0
