"""NestNet's learned activation: a subnetwork R -> R whose own activation is a subnetwork.

    rho_1(z) = sigma(z),    rho_s(z) = v . rho_{s-1}(a z + c) + d,    s = height

sigma is ReLU in the papers; a smooth sigma makes rho smooth.

The parameters of rho_s are its height - 1 levels, outermost first: `{"level_1": {inner_weight a
(g, h), inner_bias c (g, h), outer_weight v (g, h), outer_bias d (g,)}, "level_2": ...}`. All
neurons of a level share the next level as their activation. A level with t additional hidden layers
also has hidden_weight (g, t, h, h) and hidden_bias (g, t, h).

Axis letters: g independent subnetworks, h hidden units, m = h^(height - 1) unrolled terms.

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

from lrnn_jax.kernels.activations import Elementwise
from lrnn_jax.kernels.neurons import sum_of_units
from lrnn_jax.kernels.platform import traced_platform
from lrnn_jax.kernels.univariate import univariate
from lrnn_jax.typing import Params

__all__ = ["Unrolled", "lean_subnetwork", "levels", "subnetwork", "unroll"]

_WRITTEN_OUT = 3  # up to this number of terms, the loop over their tangents is unrolled
_UNROLLED_TERMS = 81  # terms that are fused into one pass over the points; more need a loop


class Unrolled(NamedTuple):
    """rho(z) = constant + sum_m weight_m sigma(slope_m z + shift_m), for each of g subnetworks."""

    weight: Float[Array, "g m"]
    slope: Float[Array, "g m"]
    shift: Float[Array, "g m"]
    constant: Float[Array, "g"]


def levels(params: Params) -> list[Params]:
    """The levels of a subnetwork, outermost first."""
    return [params[f"level_{number}"] for number in range(1, len(params) + 1)]


def subnetwork(
    nested: list[Params], z: Float[Array, ""], sigma: Elementwise = jax.nn.relu
) -> Float[Array, ""]:
    """rho(z) of one scalar, by its recursive definition: the reference implementation.

    Args:
      nested: the levels of one subnetwork, without the axis g. For an empty list rho is sigma.
      z: shape ().
      sigma: rho_1.
    """
    if not nested:
        return sigma(z)
    rho = functools.partial(subnetwork, nested[1:], sigma=sigma)
    return univariate(nested[0], z, jax.vmap(rho), omega0=1.0)


def unroll(params: Params) -> Unrolled:
    """The closed form of subnetworks with one hidden layer: a sum of m = h^(height - 1) terms.

    Only affine maps lie between the levels, so each level can be substituted into the one outside
    it: weights and slopes are multiplied, and shifts pass through the inner affine map.
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


def lean_subnetwork(
    params: Params, z: Float[Array, "*n w"], sigma: Elementwise = jax.nn.relu
) -> Float[Array, "*n w"]:
    """rho(z) of every neuron on a batch; of g subnetworks, neuron j uses number j g // w.

    The backward pass keeps only z and recomputes everything else, so the stored memory does not
    grow with the height.
    """
    width = z.shape[-1]
    if "hidden_weight" in params["level_1"]:
        by_neuron = jax.tree.map(lambda leaf: _by_neuron(leaf, width), params)
        return jax.checkpoint(functools.partial(_by_levels, sigma=sigma))(levels(by_neuron), z)
    dtype = jnp.result_type(z, *jax.tree.leaves(params))
    # The parameters' gradients are sums over points that cancel where two kinks are close.
    wide = jnp.promote_types(dtype, jnp.float32)
    rows = unroll(jax.tree.map(lambda leaf: leaf.astype(wide), params))
    weight, slope, shift, constant = (_by_neuron(leaf, width).T for leaf in rows)
    z = z.astype(wide)
    if sigma is jax.nn.relu:
        total = _sum_of_relus(weight, slope, shift, z)
    else:
        total = jax.checkpoint(functools.partial(sum_of_units, sigma))(z, slope, shift, weight)
    return (constant + total).astype(dtype)


def _by_neuron(leaf: Float[Array, "g ..."], width: int) -> Float[Array, "w ..."]:
    """The parameters of the subnetwork of each neuron, for `width` neurons."""
    groups, rest = leaf.shape[0], leaf.shape[1:]
    if width % groups:
        return leaf[np.arange(width) * groups // width]
    # Broadcast instead of indexing: the gradient of a gather is a scatter, which is slow on a CPU.
    return jnp.broadcast_to(leaf[:, None], (groups, width // groups, *rest)).reshape(width, *rest)


@jax.custom_jvp
def _sum_of_relus(
    weight: Float[Array, "m w"],
    slope: Float[Array, "m w"],
    shift: Float[Array, "m w"],
    z: Float[Array, "*n w"],
) -> Float[Array, "*n w"]:
    """sum_m weight_m relu(slope_m z + shift_m)."""

    def block(weight, slope, shift):
        terms = zip(weight, slope, shift, strict=True)
        return functools.reduce(jnp.add, [w * jax.nn.relu(a * z + c) for w, a, c in terms])

    return _over_blocks(block, z, weight, slope, shift)


@_sum_of_relus.defjvp
def _sum_of_relus_jvp(primals, tangents):
    """Between two kinks each term is either (weight slope) z + weight shift, or 0.

    So the gradients of its parameters need only two sums over the points where the term is not 0:
    of the cotangent, and of the cotangent times z. The gradient of z needs only the slope of the
    total.
    """
    weight, slope, shift, z = primals
    dweight, dslope, dshift, dz = tangents

    drise = dweight * slope + weight * dslope
    doffset = dweight * shift + weight * dshift
    arguments = z, dz, weight * slope, slope, shift, drise, doffset
    fused = traced_platform() == "tpu" and len(slope) <= _UNROLLED_TERMS
    tangent = (_fused_tangent if fused else _tangent)(*arguments)
    return _sum_of_relus(weight, slope, shift, z), tangent


@jax.checkpoint
def _tangent(z, dz, rise, slope, shift, drise, doffset):
    """rho'(z) dz + sum_m (drise_m z + doffset_m where term m is not 0); stores only its inputs."""

    def slope_of_block(rise, slope, shift):
        terms = zip(rise, slope, shift, strict=True)
        return functools.reduce(jnp.add, [jnp.where(a * z + c > 0, s, 0) for s, a, c in terms])

    @jax.checkpoint
    def by_term(z, slope, shift, drise, doffset):
        return jnp.where(slope * z + shift > 0, drise * z + doffset, 0)

    def add(total, term):
        return total + by_term(z, *term), None

    by_z = _over_blocks(slope_of_block, z, rise, slope, shift) * dz
    # A few terms are faster unrolled. With more terms, loop over them one at a time, so that only
    # one term at a time has its sums over the points in memory.
    unroll = len(slope) if len(slope) <= _WRITTEN_OUT else 1
    return lax.scan(add, by_z, (slope, shift, drise, doffset), unroll=unroll)[0]


@jax.checkpoint
def _fused_tangent(z, dz, rise, slope, shift, drise, doffset):
    """`_tangent` as one elementwise function, so that its transpose is one pass over the points."""

    @jax.jit  # traced once; the compiler inlines it
    def term(z, dz, rise, slope, shift, drise, doffset):
        return jnp.where(slope * z + shift > 0, rise * dz + drise * z + doffset, 0)

    rows = zip(rise, slope, shift, drise, doffset, strict=True)
    return functools.reduce(jnp.add, [term(z, dz, *row) for row in rows])


def _over_blocks(part, z: Float[Array, "*n w"], *rows: Float[Array, "m w"]) -> Float[Array, "*n w"]:
    """The sum of part(*rows) over blocks of terms; each block is one pass over the points."""
    if rows[0].shape[0] <= _UNROLLED_TERMS:
        return part(*rows)

    def split(row: jax.Array) -> jax.Array:
        filled = jnp.pad(row, ((0, -len(row) % _UNROLLED_TERMS), (0, 0)))  # weight 0: adds 0
        return filled.reshape(-1, _UNROLLED_TERMS, row.shape[-1])

    def add(total: jax.Array, block: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        return total + part(*block), None

    return lax.scan(add, jnp.zeros_like(z), tuple(map(split, rows)))[0]


def _by_levels(
    nested: list[Params], z: Float[Array, "*n w"], sigma: Elementwise
) -> Float[Array, "*n w"]:
    """rho(z) by recursion over the levels, whose leaves have w as their first axis.

    The hidden units are a separate first axis: (h, *n, w).
    """
    if not nested:
        return sigma(z)
    level, rho = nested[0], functools.partial(_by_levels, nested[1:], sigma=sigma)

    def row(leaf: Float[Array, "w ..."]) -> Float[Array, "..."]:
        """(w, ...) as (..., 1, w), to broadcast against (..., *n, w)."""
        leaf = jnp.moveaxis(leaf, 0, -1)
        return leaf.reshape(*leaf.shape[:-1], *(1,) * (z.ndim - 1), leaf.shape[-1])

    units = rho(row(level["inner_weight"]) * z + row(level["inner_bias"]))
    for t in range(level["hidden_weight"].shape[1]):
        mixed = jnp.sum(row(level["hidden_weight"][:, t]) * units, axis=1)
        units = rho(mixed + row(level["hidden_bias"][:, t]))
    return jnp.sum(row(level["outer_weight"]) * units, axis=0) + level["outer_bias"]
