"""NestNet's learned activation: a subnetwork R -> R whose own activation is a subnetwork.

    rho_1(z) = relu(z),    rho_s(z) = v . rho_{s-1}(a z + c) + d,    s = height

The parameters of rho_s are its levels, outermost first: `{"level_1": {inner_weight a (g, h),
inner_bias c (g, h), outer_weight v (g, h), outer_bias d (g,)}, "level_2": ...}`, height - 1 of
them; the neurons of a level share the next one. With more than one hidden layer a level also has
hidden_weight (g, t, h, h) and hidden_bias (g, t, h), for t more layers.

Axis letters: g subnetworks side by side, h hidden units, m = h^(height - 1) unrolled terms.

References: Zhang, Shen and Yang, "Neural Network Architecture Beyond Width and Depth", NeurIPS 2022
(arXiv 2205.09459), definition of NestNets and eq. 4.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from lrnn_jax.kernels.univariate import univariate
from lrnn_jax.typing import Params

__all__ = ["Unrolled", "lean_subnetwork", "levels", "subnetwork", "unroll"]

_UNROLLED_TERMS = 9  # as many ReLUs are fused into one pass over the points; more are looped over


class Unrolled(NamedTuple):
    """rho(z) = constant + sum_m weight_m relu(slope_m z + shift_m), for each of g subnetworks."""

    weight: Float[Array, "g m"]
    slope: Float[Array, "g m"]
    shift: Float[Array, "g m"]
    constant: Float[Array, "g"]


def levels(params: Params) -> list[Params]:
    """The levels of a subnetwork, outermost first."""
    return [params[f"level_{number}"] for number in range(1, len(params) + 1)]


def subnetwork(nested: list[Params], z: Float[Array, ""]) -> Float[Array, ""]:
    """rho(z) of one scalar, literally: a subnetwork whose activation is a subnetwork.

    Args:
      nested: the levels of one subnetwork, without the axis g; of none of them, ReLU.
      z: shape ().
    """
    if not nested:
        return jax.nn.relu(z)
    rho = functools.partial(subnetwork, nested[1:])
    return univariate(nested[0], z, jax.vmap(rho), omega0=1.0)


def unroll(params: Params) -> Unrolled:
    """The closed form of subnetworks of one hidden layer: a sum of m = h^(height - 1) ReLUs.

    Nothing nonlinear stands between the levels, so that rho_{s-1} of each hidden unit can be put in
    the place of rho_s: weights and slopes multiply, shifts go through the inner affine map.
    """
    start = params["level_1"]["outer_bias"]
    groups = start.shape[0]
    one, zero = jnp.ones((groups, 1), start.dtype), jnp.zeros((groups, 1), start.dtype)
    form = Unrolled(one, one, zero, zero[:, 0])
    for level in levels(params):
        weight = form.weight[:, :, None] * level["outer_weight"][:, None, :]
        slope = form.slope[:, :, None] * level["inner_weight"][:, None, :]
        shift = form.shift[:, :, None] * level["inner_weight"][:, None, :]
        shift = shift + level["inner_bias"][:, None, :]
        constant = form.constant + form.weight.sum(axis=1) * level["outer_bias"]
        weight, slope, shift = (a.reshape(groups, -1) for a in (weight, slope, shift))
        form = Unrolled(weight, slope, shift, constant)
    return form


def lean_subnetwork(params: Params, z: Float[Array, "*n w"]) -> Float[Array, "*n w"]:
    """rho(z) of every neuron on a batch; of g subnetworks, neuron j has number j g // w.

    For the backward pass only z is kept; everything else is computed again, so what is kept does
    not grow with the height.
    """
    width = z.shape[-1]
    groups = params["level_1"]["outer_bias"].shape[0]
    number = np.arange(width) * groups // width
    if "hidden_weight" in params["level_1"]:
        rows = jax.tree.map(lambda leaf: leaf[number], params)
        return jax.checkpoint(_by_levels)(levels(rows), z)
    rows = jax.tree.map(lambda leaf: leaf[number], unroll(params))
    return rows.constant + _sum_of_relus(rows, z)


def _sum_of_relus(rows: Unrolled, z: jax.Array) -> jax.Array:
    terms = (rows.weight.T, rows.slope.T, rows.shift.T)  # (m, w) each

    @jax.checkpoint
    def block(z: jax.Array, *terms: jax.Array) -> jax.Array:
        parts = [w * jax.nn.relu(a * z + c) for w, a, c in zip(*terms, strict=True)]
        return functools.reduce(jnp.add, parts)

    count = terms[0].shape[0]
    if count <= _UNROLLED_TERMS:
        return block(z, *terms)

    def add(total: jax.Array, terms: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        return total + block(z, *terms), None

    def split(term: jax.Array) -> jax.Array:
        filled = jnp.pad(term, ((0, -count % _UNROLLED_TERMS), (0, 0)))  # weight 0 adds nothing
        return filled.reshape(-1, _UNROLLED_TERMS, term.shape[-1])

    blocks = tuple(map(split, terms))
    return lax.scan(add, jnp.zeros_like(z), blocks)[0]


def _by_levels(nested: list[Params], z: Float[Array, "*n w"]) -> Float[Array, "*n w"]:
    """rho(z) by recursion over the levels, whose leaves have the axis w in front.

    Units stand on an axis of their own, in front: (h, *n, w).
    """
    if not nested:
        return jax.nn.relu(z)
    level, rho = nested[0], functools.partial(_by_levels, nested[1:])

    def row(leaf: Float[Array, "w ..."]) -> Float[Array, "..."]:
        """(w, ...) as (..., 1, w), to stand beside (..., *n, w)."""
        leaf = jnp.moveaxis(leaf, 0, -1)
        return leaf.reshape(*leaf.shape[:-1], *(1,) * (z.ndim - 1), leaf.shape[-1])

    units = rho(row(level["inner_weight"]) * z + row(level["inner_bias"]))
    for t in range(level["hidden_weight"].shape[1]):
        mixed = jnp.sum(row(level["hidden_weight"][:, t]) * units, axis=1)
        units = rho(mixed + row(level["hidden_bias"][:, t]))
    return jnp.sum(row(level["outer_weight"]) * units, axis=0) + level["outer_bias"]
