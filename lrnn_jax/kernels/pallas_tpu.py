"""Product neurons as two fused TPU kernels, forward and backward, in Pallas (Mosaic backend).

phi_r(x) = prod_k f_k,   f_k = base + sum_h amplitude_h tau(slope_h z_k + shift_h),   z = x W + b.

The points are the last axis, which a TPU divides into lanes of 128, and the rank is the one before,
which it divides into groups of 8. A program computes a block of points and all neurons. The forward
kernel multiplies the factors component by component. Neither z nor the factors leave the chip; the
kernel writes phi alone. The backward pass keeps only the parameters and x. The backward kernel
recomputes z and the factors, with the products P_k of the factors before the k-th. From the last
component to the first it forms

    e_k = dphi P_k S_k,   S_k the product of the factors behind the k-th,
    dz_k = e_k sum_h amplitude_h slope_h tau'(u_h),   u_h = slope_h z_k + shift_h.

This needs no division, so it is exact where factors are 0. The kernel adds x^T dz, dz W^T and the
sums over the points

    dz                           gradient of the bias
    e                            gradient of the base
    e tau(u_h)                   gradient of the amplitude
    e amplitude_h tau'(u_h)      gradient of the shift
    e amplitude_h tau'(u_h) z    gradient of the slope

block by block: a TPU runs the programs one after the other, so that all of them add to one array.

The points are padded to full blocks of at least 128, and so is the rank if it needs several blocks,
by copies of the last entry, so that the padding of finite arrays stays finite; the cotangent of the
padding is 0. A block takes at most 32 MiB of the memory on the chip: v5e and later chips have more.

Axis letters: n points, i inputs, h hidden units, k components, r rank.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from lrnn_jax.kernels.activations import Elementwise
from lrnn_jax.kernels.dense import product
from lrnn_jax.kernels.jaxprs import with_replaced
from lrnn_jax.kernels.neurons import Neurons, Setting
from lrnn_jax.kernels.varying import shape_like

__all__ = ["backward", "forward"]

_SUBLANES, _LANES = 8, 128
_POINTS = (512, 256, 128)  # of a block
_MEMORY = 32 * 2**20  # bytes on the chip that a block may take
# A block adds to what the blocks of points before it have written.
_COMPILER = pltpu.CompilerParams(
    dimension_semantics=("arbitrary", "arbitrary"), vmem_limit_bytes=2 * _MEMORY
)


class _Operands(NamedTuple):
    """The inputs of the kernels; inside a kernel, references to the block of one program.

    The slope and the shift are None where `folded` has moved them into the weight.
    """

    x: Any  # (i, n)
    weight: Any  # (k, r, i)
    bias: Any  # (k, r, 1)
    amplitude: Any  # (k, r, h)
    base: Any  # (k, r, 1)
    slope: Any  # (k, r, h)
    shift: Any  # (k, r, h)


class _Block(NamedTuple):
    """The numbers of points and of neurons that one program computes."""

    points: int
    rank: int


def forward(
    setting: Setting, neurons: Neurons, x: Float[Array, "n i"], interpret: bool
) -> Float[Array, "n r"]:
    """phi(x) of neurons to which `folded` has been applied, in float32.

    Args:
      setting: the inner activation and the precision of the products. The activation consists of
        elementwise operations that Mosaic supports, and does not close over arrays.
      interpret: run in Pallas' interpret mode.
    """
    block = _block(neurons, x)
    operands = _operands(neurons, x, block)
    (_, n), (_, r, _) = operands.x.shape, operands.base.shape
    phi = pl.pallas_call(
        functools.partial(_forward_kernel, setting),
        grid=(r // block.rank, n // block.points),
        in_specs=[_specs(operands, block)],
        out_specs=pl.BlockSpec((block.rank, block.points), lambda q, p: (q, p)),
        out_shape=shape_like(x, (r, n)),
        interpret=interpret,
        compiler_params=_COMPILER,
    )(operands)
    return phi[: neurons.base.shape[1], : x.shape[0]].T


def backward(
    setting: Setting,
    neurons: Neurons,
    x: Float[Array, "n i"],
    dphi: Float[Array, "n r"],
    interpret: bool,
) -> tuple[Neurons, Float[Array, "n i"]]:
    """The gradients of sum(dphi * phi) with respect to the neurons and x; arguments: `forward`."""
    block = _block(neurons, x)
    operands, pull = jax.vjp(functools.partial(_operands, block=block), neurons, x)
    (i, n), (k, r, _) = operands.x.shape, operands.base.shape
    specs, types = _specs(operands, block), jax.tree.map(_type, operands)
    scratch = pltpu.VMEM((k, *reversed(block)), x.dtype)
    dx, sums = pl.pallas_call(
        functools.partial(_backward_kernel, setting),
        grid=(r // block.rank, n // block.points),
        in_specs=[specs, pl.BlockSpec((block.rank, block.points), lambda q, p: (q, p))],
        out_specs=[
            pl.BlockSpec((pl.squeezed, i, block.points), lambda q, p: (q, 0, p)),
            specs._replace(x=None),
        ],
        out_shape=[shape_like(x, (r // block.rank, i, n)), types._replace(x=None)],
        scratch_shapes=[scratch, scratch],
        interpret=interpret,
        compiler_params=_COMPILER,
    )(operands, _padded(dphi.T, (r, n), "constant"))
    return pull(sums._replace(x=jnp.sum(dx, axis=0)))


# Blocks ------------------------------------------------------------------------------------------


def _type(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return shape_like(leaf, leaf.shape)


def _multiple(size: int, of: int) -> int:
    """The least multiple of `of` that is at least `size`."""
    return pl.cdiv(size, of) * of


def _block(neurons: Neurons, x: Float[Array, "n i"]) -> _Block:
    """As few blocks of the rank as fit into the memory, of as many points as fit."""
    r, n = neurons.base.shape[1], x.shape[0]
    for parts, points in itertools.product(range(1, r + 1), _POINTS):
        rank = r if parts == 1 else _multiple(pl.cdiv(r, parts), _SUBLANES)
        least = points == _POINTS[-1]
        if _bytes(neurons, _Block(points, rank)) <= _MEMORY and (least or n >= points):
            return _Block(points, rank)
    return _Block(_POINTS[-1], min(r, _SUBLANES))


def _bytes(neurons: Neurons, block: _Block) -> int:
    """The memory of a program of the backward kernel, with the two buffers of what it transfers."""
    (i, k, _), h = neurons.weight.shape, neurons.amplitude.shape[0]
    inputs, rank = _multiple(i, _SUBLANES), _multiple(block.rank, _SUBLANES)
    of_units = 1 if h == 1 else 3  # amplitude, slope, shift
    lanes = _multiple(i, _LANES) + 2 * _LANES + of_units * _multiple(h, _LANES)
    neurons_and_sums = 2 * 2 * k * rank * lanes
    transferred = 2 * (2 * inputs + rank) * block.points
    computed = (2 * k + 8) * rank * block.points
    return 4 * (neurons_and_sums + transferred + computed)


def _padded(leaf: jax.Array, shape: tuple[int, ...], mode: str = "edge") -> jax.Array:
    """The leaf padded at the end of each axis to `shape`, by `jnp.pad` in a mode."""
    missing = [(0, new - old) for new, old in zip(shape, leaf.shape, strict=True)]
    return jnp.pad(leaf, missing, mode=mode) if shape != leaf.shape else leaf


def _operands(neurons: Neurons, x: Float[Array, "n i"], block: _Block) -> _Operands:
    """The operands of the kernels, padded to full blocks."""
    (n, i), (h, k, r) = x.shape, neurons.amplitude.shape

    def columns(leaf: Float[Array, "o k r"]) -> Float[Array, "k R o"]:
        shape = (k, _multiple(r, block.rank), leaf.shape[0])
        return _padded(jnp.moveaxis(leaf, 0, -1), shape)

    return _Operands(
        x=_padded(x.T, (i, _multiple(n, block.points))),
        weight=columns(neurons.weight),
        bias=columns(neurons.bias[None]),
        amplitude=columns(neurons.amplitude),
        base=columns(neurons.base[None]),
        slope=columns(neurons.slope) if h > 1 else None,
        shift=columns(neurons.shift) if h > 1 else None,
    )


def _specs(operands: _Operands, block: _Block) -> _Operands:
    """A program reads x at its points, and of all else its neurons."""

    def neurons(leaf: jax.Array) -> pl.BlockSpec:
        k, _, last = leaf.shape
        return pl.BlockSpec((k, block.rank, last), lambda q, p: (0, q, 0))

    points = pl.BlockSpec((operands.x.shape[0], block.points), lambda q, p: (0, p))
    return jax.tree.map(neurons, operands._replace(x=None))._replace(x=points)


# Kernels -----------------------------------------------------------------------------------------


def _forward_kernel(setting: Setting, refs: _Operands, phi_ref: Any) -> None:
    """Writes phi."""

    def multiply(k: Any, phi: jax.Array) -> jax.Array:
        return phi * _factor(setting.tau, refs, k, _projection(setting, refs, k))

    phi_ref[...] = lax.fori_loop(0, refs.weight.shape[0], multiply, jnp.ones_like(phi_ref))


def _backward_kernel(
    setting: Setting,
    refs: _Operands,
    dphi_ref: Any,
    dx_ref: Any,
    sums: _Operands,
    z_ref: Any,
    before_ref: Any,
) -> None:
    """Writes dx of its points and neurons, and adds to the sums over the points."""
    components, bf16_operands = refs.weight.shape[0], setting.bf16_operands

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        for leaf in jax.tree.leaves(sums):
            leaf[...] = jnp.zeros_like(leaf)

    def forward(k: Any, before: jax.Array) -> jax.Array:
        z_ref[k], before_ref[k] = _projection(setting, refs, k), before
        return before * _factor(setting.tau, refs, k, z_ref[k])

    lax.fori_loop(0, components, forward, jnp.ones_like(dphi_ref))
    dx_ref[...] = jnp.zeros_like(dx_ref)

    def backward(step: Any, behind: jax.Array) -> jax.Array:
        k = components - 1 - step
        error = behind * before_ref[k]
        sums.base[k] += _over_points(error)
        factor, dz = _units_backward(setting.tau, refs, sums, k, z_ref[k], error)
        sums.bias[k] += _over_points(dz)
        sums.weight[k] += product(dz, refs.x[...], bf16_operands, (1, 1))
        dx_ref[...] += product(refs.weight[k], dz, bf16_operands, (0, 0))
        return behind * factor

    lax.fori_loop(0, components, backward, dphi_ref[...])


def _over_points(values: Float[Array, "r n"]) -> Float[Array, "r 1"]:
    return jnp.sum(values, axis=1, keepdims=True)


def _projection(setting: Setting, refs: _Operands, k: Any) -> Float[Array, "r n"]:
    """z of one component."""
    return product(refs.weight[k], refs.x[...], setting.bf16_operands) + refs.bias[k]


def _argument(refs: _Operands, k: Any, unit: slice, z: jax.Array) -> jax.Array:
    return z if refs.slope is None else refs.slope[k, :, unit] * z + refs.shift[k, :, unit]


def _units(refs: _Operands) -> list[slice]:
    """The columns of the hidden units, each of width 1."""
    return [slice(unit, unit + 1) for unit in range(refs.amplitude.shape[2])]


def _factor(tau: Elementwise, refs: _Operands, k: Any, z: jax.Array) -> jax.Array:
    """base + sum_h amplitude_h tau(slope_h z + shift_h) of one component."""
    tau, total = _lowerable(tau), jnp.broadcast_to(refs.base[k], z.shape)
    for unit in _units(refs):
        total += refs.amplitude[k, :, unit] * tau(_argument(refs, k, unit, z))
    return total


def _units_backward(
    tau: Elementwise, refs: _Operands, sums: _Operands, k: Any, z: jax.Array, error: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The factor, and dz given the factor's gradient `error`; adds to the sums of the units."""
    derive = _lowerable(lambda u: jax.jvp(tau, (u,), (jnp.ones_like(u),)))
    factor, dz = jnp.broadcast_to(refs.base[k], z.shape), jnp.zeros_like(z)
    for unit in _units(refs):
        value, slope = derive(_argument(refs, k, unit, z))
        amplitude = refs.amplitude[k, :, unit]
        factor += amplitude * value
        sums.amplitude[k, :, unit] += _over_points(error * value)
        du = error * amplitude * slope
        if refs.slope is None:
            dz += du
        else:
            sums.shift[k, :, unit] += _over_points(du)
            sums.slope[k, :, unit] += _over_points(du * z)
            dz += du * refs.slope[k, :, unit]
    return factor, dz


# The arctangent, which Mosaic does not support ----------------------------------------------------


def _lowerable(f: Any) -> Any:
    return with_replaced(f, lambda name, params: _arctan if name == "atan" else None)


def _arctan_coefficients(count: int) -> tuple[np.float32, ...]:
    """Least-squares coefficients of arctan(t) / t in powers of t^2, |t| <= 1."""
    t = (1 + np.cos((np.arange(2000) + 0.5) / 2000 * np.pi)) / 2
    design = np.stack([t ** (2 * power) for power in range(count)], axis=1)
    return tuple(np.float32(c) for c in np.linalg.lstsq(design, np.arctan(t) / t, rcond=None)[0])


_ARCTAN = _arctan_coefficients(10)


def _arctan(x: jax.Array) -> jax.Array:
    """arctan(x) in float32: pi / 2 - arctan(1 / x) beyond 1."""
    size = jnp.abs(x)
    t = jnp.where(size > 1, 1 / jnp.where(size > 1, size, 1), size)
    value = jnp.full_like(t, _ARCTAN[-1])
    for coefficient in _ARCTAN[-2::-1]:
        value = value * (t * t) + coefficient
    value = jnp.where(size > 1, np.float32(np.pi / 2) - t * value, t * value)
    return jnp.where(x < 0, -value, value)
