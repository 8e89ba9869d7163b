"""Product neurons as two fused GPU kernels, forward and backward, in Pallas (Triton backend).

phi_r(x) = prod_k f_k,   f_k = base + sum_h amplitude_h tau(slope_h z_k + shift_h),   z = x W + b.

Each program of the forward kernel computes one tile of points and neurons, with all components of
these neurons. It multiplies the factors as a binary tree. z and the factors never leave the chip;
only phi is written. The backward pass keeps only the parameters and x. The backward kernel
recomputes z and the tree, and descends the tree to e_k = dphi prod_{j != k} f_j. This needs no
division and no logarithm, so it is exact where factors are 0. With u_h = slope_h z + shift_h the
backward kernel writes

    dz = e sum_h amplitude_h slope_h tau'(u_h)

and, for each block of points, the sums over these points of

    dz                           gradient of the bias
    e                            gradient of the base
    e tau(u_h)                   gradient of the amplitude
    e amplitude_h tau'(u_h)      gradient of the shift
    e amplitude_h tau'(u_h) z    gradient of the slope

The remaining gradients are matrix products of dz with x and W, computed outside the kernel.

The components of a neuron are adjacent in memory, and their number is padded to a power of two. The
inputs are padded with zeros. Points and rank are padded to full tiles with copies of the last
entry, so that the padding of finite arrays stays finite; the factors of padded components are 1,
and the cotangent dphi is padded with 0.

Axis letters: n points, i inputs, h hidden units, k components, r rank, c columns (r k).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
from jaxtyping import Array, Float

from lrnn_jax.kernels.activations import Elementwise
from lrnn_jax.kernels.dense import product
from lrnn_jax.kernels.jaxprs import with_replaced
from lrnn_jax.kernels.neurons import Neurons, Setting
from lrnn_jax.kernels.varying import shape_like

__all__ = ["backward", "forward"]

_LEAST = 16  # the smallest side of a tile of a matrix product in Triton
# Points of a tile. With 128 columns and 8 warps a thread has 16 numbers, which fit the registers.
_POINTS = 32
# Columns of a tile. A tile has more only if one neuron, which is never split, has more components.
_COLUMNS = 128
_INPUTS = 32  # inputs per step of the matrix product, whose multiplications are all unrolled
_COMPILER = plt.CompilerParams(num_warps=8, num_stages=2)  # the tiles of two steps in shared memory


class _Operands(NamedTuple):
    """The inputs of the kernels; inside a kernel, references to the tiles of one program.

    The slope and the shift are None where `folded` has moved them into the weight.
    """

    x: Any  # (n, i)
    weight: Any  # (i, c)
    bias: Any  # (c,)
    amplitude: Any  # (h, c)
    base: Any  # (c,)
    slope: Any  # (h, c)
    shift: Any  # (h, c)


def forward(
    setting: Setting, neurons: Neurons, x: Float[Array, "n i"], interpret: bool
) -> Float[Array, "n r"]:
    """phi(x) of neurons to which `folded` has been applied.

    Args:
      setting: the inner activation and the precision of the products. The activation consists of
        elementwise operations that Triton supports, and does not close over arrays.
      interpret: run in Pallas' interpret mode.
    """
    tile = _tile(neurons, x)
    operands = _operands(neurons, x, tile)
    n, r = operands.x.shape[0], operands.base.shape[0] // tile.components
    phi = pl.pallas_call(
        functools.partial(_forward_kernel, setting),
        grid=(n // tile.points, r // tile.rank),
        in_specs=[_specs(operands, tile)],
        out_specs=_spec((n, r), tile.points, tile.rank),
        out_shape=shape_like(x, (n, r)),
        interpret=interpret,
        compiler_params=_COMPILER,
    )(operands)
    return phi[: x.shape[0], : neurons.base.shape[1]]


def backward(
    setting: Setting,
    neurons: Neurons,
    x: Float[Array, "n i"],
    dphi: Float[Array, "n r"],
    interpret: bool,
) -> tuple[Neurons, Float[Array, "n i"]]:
    """The gradients of sum(dphi * phi) with respect to the neurons and x; arguments: `forward`."""
    tile = _tile(neurons, x)
    operands, pull = jax.vjp(functools.partial(_operands, tile=tile), neurons, x)
    n, columns = operands.x.shape[0], operands.base.shape[0]
    dphi = _padded(dphi, (n, columns // tile.components))
    sums = jax.tree.map(
        lambda leaf: shape_like(leaf, (n // tile.points, *leaf.shape)),
        operands._replace(x=None, weight=None),
    )
    dz, sums = pl.pallas_call(
        functools.partial(_backward_kernel, setting),
        grid=(n // tile.points, columns // tile.columns),
        in_specs=[_specs(operands, tile), _spec(dphi.shape, tile.points, tile.rank)],
        out_specs=[
            _spec((n, columns), tile.points, tile.columns),
            jax.tree.map(lambda leaf: _spec(leaf.shape, pl.squeezed, tile.columns), sums),
        ],
        out_shape=[shape_like(dphi, (n, columns)), sums],
        interpret=interpret,
        compiler_params=_COMPILER,
    )(operands, dphi)
    gradient = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), sums)
    dx, dweight = (
        product(*factors, setting.bf16_operands)
        for factors in ((dz, operands.weight.T), (operands.x.T, dz))
    )
    return pull(gradient._replace(x=dx, weight=dweight))


# Tiles -------------------------------------------------------------------------------------------


class _Tile(NamedTuple):
    """The numbers of points, of neurons (`rank`) and of components that one program computes."""

    points: int
    rank: int
    components: int

    @property
    def columns(self) -> int:
        return self.rank * self.components


def _block(size: int, limit: int) -> int:
    """The side of a tile: a power of two, as Triton requires, and no larger than needed."""
    return min(limit, max(_LEAST, pl.next_power_of_2(size)))


def _padded_size(size: int, block: int) -> int:
    """The size of an axis after padding to a multiple of `block`."""
    return pl.cdiv(size, block) * block


def _tile(neurons: Neurons, x: Float[Array, "n i"]) -> _Tile:
    """The largest tile within the limits; one neuron if a single neuron exceeds them."""
    k, r = neurons.base.shape
    components = pl.next_power_of_2(k)
    columns = max(components, _block(pl.next_power_of_2(r) * components, _COLUMNS))
    return _Tile(_block(x.shape[0], _POINTS), columns // components, components)


def _padded(leaf: jax.Array, shape: tuple[int, ...], **mode: Any) -> jax.Array:
    """The leaf padded at the end of each axis to `shape`, by `jnp.pad` in the given mode."""
    missing = [(0, new - old) for new, old in zip(shape, leaf.shape, strict=True)]
    return jnp.pad(leaf, missing, **mode)


def _operands(neurons: Neurons, x: Float[Array, "n i"], tile: _Tile) -> _Operands:
    """The operands of the kernels, padded to full tiles."""
    (n, i), (h, k, r) = x.shape, neurons.amplitude.shape
    inputs = _padded_size(i, _block(i, _INPUTS))
    x, weight = _padded(x, (n, inputs)), _padded(neurons.weight, (inputs, k, r))

    def columns(leaf: Float[Array, "*o k r"], **mode: Any) -> Float[Array, "*o c"]:
        outer = leaf.shape[:-2]
        leaf = _padded(leaf, (*outer, tile.components, r), **mode)
        leaf = _padded(leaf, (*outer, tile.components, _padded_size(r, tile.rank)), mode="edge")
        return jnp.swapaxes(leaf, -1, -2).reshape(*outer, -1)

    return _Operands(
        x=_padded(x, (_padded_size(n, tile.points), inputs), mode="edge"),
        weight=columns(weight, mode="edge"),
        bias=columns(neurons.bias, mode="edge"),
        amplitude=columns(neurons.amplitude, constant_values=0),
        base=columns(neurons.base, constant_values=1),
        slope=columns(neurons.slope, mode="edge") if h > 1 else None,
        shift=columns(neurons.shift, mode="edge") if h > 1 else None,
    )


def _spec(shape: tuple[int, ...], first: Any = None, last: int | None = None) -> pl.BlockSpec:
    """Program (p, q) reads block p of the first axis and block q of the last; None: all of it."""
    block: list[Any] = list(shape)
    if first is not None:
        block[0] = first
    if last is not None:
        block[-1] = last

    def index(p: Any, q: Any) -> tuple[Any, ...]:
        place = [0] * len(block)
        if first is not None:
            place[0] = p
        if last is not None:
            place[-1] = q
        return tuple(place)

    return pl.BlockSpec(tuple(block), index)


def _specs(operands: _Operands, tile: _Tile) -> _Operands:
    """A program reads the rows of x of its points, and the columns of all else of its neurons."""
    columns = jax.tree.map(lambda leaf: _spec(leaf.shape, last=tile.columns), operands)
    return columns._replace(x=_spec(operands.x.shape, tile.points))


# Kernels -----------------------------------------------------------------------------------------


def _forward_kernel(setting: Setting, refs: _Operands, phi_ref: Any) -> None:
    """Writes phi, the root of the tree of the factors."""
    z = _projection(refs, setting.bf16_operands)
    phi_ref[...] = _tree(_factors(setting.tau, refs, z), phi_ref.shape[1])[-1]


def _backward_kernel(
    setting: Setting, refs: _Operands, dphi_ref: Any, dz_ref: Any, sums: _Operands
) -> None:
    """Writes dz, and the sums over the points of the other gradients."""
    z = _projection(refs, setting.bf16_operands)
    error = dphi_ref[...]
    for level in reversed(_tree(_factors(setting.tau, refs, z), dphi_ref.shape[1])[:-1]):
        even, odd = _even_odd(level)
        error = _interleaved(error * odd, error * even)
    sums.base[...] = jnp.sum(error, axis=0)
    dz = _units_backward(setting.tau, refs, sums, z, error)
    sums.bias[...] = jnp.sum(dz, axis=0)
    dz_ref[...] = dz


def _projection(refs: _Operands, bf16_operands: bool) -> jax.Array:
    """z, accumulated over blocks of inputs."""
    (n, i), c = refs.x.shape, refs.weight.shape[1]
    block = _block(i, _INPUTS)

    def add(step: Any, z: jax.Array) -> jax.Array:
        inputs = pl.ds(step * block, block)
        return z + product(refs.x[:, inputs], refs.weight[inputs, :], bf16_operands)

    z = lax.fori_loop(0, i // block, add, jnp.zeros((n, c), refs.x.dtype))
    return z + refs.bias[...]


def _argument(refs: _Operands, unit: Any, z: jax.Array) -> jax.Array:
    return z if refs.slope is None else refs.slope[unit, :] * z + refs.shift[unit, :]


def _factors(tau: Elementwise, refs: _Operands, z: jax.Array) -> jax.Array:
    """base + sum_h amplitude_h tau(slope_h z + shift_h)."""
    tau = _lowerable(tau)

    def add(unit: Any, total: jax.Array) -> jax.Array:
        return total + refs.amplitude[unit, :] * tau(_argument(refs, unit, z))

    return lax.fori_loop(0, refs.amplitude.shape[0], add, jnp.broadcast_to(refs.base[...], z.shape))


def _units_backward(
    tau: Elementwise, refs: _Operands, sums: _Operands, z: jax.Array, error: jax.Array
) -> jax.Array:
    """dz, given the gradient `error` of the factors; writes the sums of the hidden units."""
    derive = _lowerable(lambda u: jax.jvp(tau, (u,), (jnp.ones_like(u),)))

    def add(unit: Any, dz: jax.Array) -> jax.Array:
        value, slope = derive(_argument(refs, unit, z))
        sums.amplitude[unit, :] = jnp.sum(error * value, axis=0)
        du = error * refs.amplitude[unit, :] * slope
        if refs.slope is None:
            return dz + du
        sums.shift[unit, :] = jnp.sum(du, axis=0)
        sums.slope[unit, :] = jnp.sum(du * z, axis=0)
        return dz + du * refs.slope[unit, :]

    return lax.fori_loop(0, refs.amplitude.shape[0], add, jnp.zeros_like(z))


# Products of adjacent columns --------------------------------------------------------------------


def _tree(factors: jax.Array, rank: int) -> list[jax.Array]:
    """The factors, the products of adjacent pairs, of fours, ..., until `rank` columns remain."""
    levels = [factors]
    while levels[-1].shape[1] > rank:
        even, odd = _even_odd(levels[-1])
        levels.append(even * odd)
    return levels


def _even_odd(tile: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The even and the odd columns."""
    n, c = tile.shape
    even, odd = lax.split(tile.reshape(n, c // 2, 2), (1, 1), axis=2)
    return even.reshape(n, c // 2), odd.reshape(n, c // 2)


def _interleaved(even: jax.Array, odd: jax.Array) -> jax.Array:
    """The inverse of `_even_odd`."""
    n, c = even.shape
    return jnp.stack([even, odd], axis=2).reshape(n, 2 * c)


# Rounding, which Triton does not support ---------------------------------------------------------


def _lowerable(f: Any) -> Any:
    return with_replaced(f, _replacement)


def _replacement(name: str, params: Any) -> Any:
    nearest = name == "round" and params["rounding_method"].name == "TO_NEAREST_EVEN"
    return _nearest if nearest else None


def _nearest(x: jax.Array) -> jax.Array:
    """x rounded to the nearest integer, ties to even."""
    # Adding 2**nmant leaves no bits for a fraction, so the addition rounds to an integer. Larger
    # floats are integers already.
    limit = 2.0 ** jnp.finfo(x.dtype).nmant
    shift = jnp.where(x < 0, -limit, limit).astype(x.dtype)
    return jnp.where(jnp.abs(x) < limit, (x + shift) - shift, x)
