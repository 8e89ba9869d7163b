"""Parameters from a plan: a nested dict that says how each array is drawn.

A limit is computed from the fan-in of one unit and never read off an array's shape, so a stack of
neurons and components can be drawn at once. (An initialiser that infers its fan-in would take the
leading axes of a stack for a receptive field, and draw a variance too small by their product.)
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from lrnn_jax.typing import Key, Params

__all__ = ["Constant", "Uniform", "draw", "fan_in_limit", "siren_limit"]


@dataclasses.dataclass(frozen=True)
class Uniform:
    """An array of U(-limit, limit)."""

    shape: tuple[int, ...]
    limit: float


@dataclasses.dataclass(frozen=True)
class Constant:
    """An array of one value."""

    shape: tuple[int, ...]
    value: float


def draw(key: Key, plan: Any) -> Params:
    """The arrays of a plan, in JAX's default float dtype.

    All random numbers come from one call, because a CPU compiles each call of a random function
    for a second; every array gets a stretch of its own.

    Args:
      key: where the numbers come from.
      plan: a pytree of `Uniform` and `Constant`.

    Example:
      >>> params = draw(jax.random.key(0), {"w": Uniform((2, 3), 0.1), "b": Constant((3,), 0.0)})
      >>> params["w"].shape, params["b"].tolist()
      ((2, 3), [0.0, 0.0, 0.0])
    """
    leaves, structure = jax.tree.flatten(plan)
    sizes = [math.prod(leaf.shape) if isinstance(leaf, Uniform) else 0 for leaf in leaves]
    numbers = jax.random.uniform(key, (sum(sizes),), minval=-1.0, maxval=1.0)
    arrays, start = [], 0
    for leaf, size in zip(leaves, sizes, strict=True):
        if isinstance(leaf, Uniform):
            arrays.append(leaf.limit * numbers[start : start + size].reshape(leaf.shape))
        else:
            arrays.append(jnp.full(leaf.shape, leaf.value, numbers.dtype))
        start += size
    return jax.tree.unflatten(structure, arrays)


def fan_in_limit(fan_in: int) -> float:
    """1 / sqrt(fan_in): PyTorch's default limit for the weight and bias of a linear layer."""
    return 1 / math.sqrt(fan_in)


def siren_limit(fan_in: int, omega0: float, first: bool) -> float:
    """SIREN's limit: 1 / fan_in in the first layer, sqrt(6 / fan_in) / omega0 in the others.

    References: Sitzmann et al., "Implicit Neural Representations with Periodic Activation
    Functions", NeurIPS 2020 (arXiv 2006.09661), section 3.2 and supplement 1.
    """
    return 1 / fan_in if first else math.sqrt(6 / fan_in) / omega0
