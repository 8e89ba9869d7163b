"""Product neurons on a batch: the `lean` implementation.

    phi_r(x) = prod_k (base + sum_h amplitude_h tau(slope_h z + shift_h)),    z = W x + b

This is the arithmetic between the input of a layer and its normalisation. It forms no (n, k, r, h)
array: one matrix product yields z of all neurons and components, an (n, k r) array, here called a
slab. There are two forms, and the platform that a program is traced for selects one of them:
`cached_neurons` for CPUs and GPUs, `streamed_neurons` for TPUs.

Axis letters: n points, i inputs, h hidden units, k components, r rank.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lrnn_jax.kernels.activations import Elementwise
from lrnn_jax.kernels.dense import dot, stored_in_bfloat16
from lrnn_jax.kernels.platform import traced_platform
from lrnn_jax.kernels.product import PRODUCTS, pairwise_product, reduced_product

__all__ = [
    "Neurons",
    "Setting",
    "cached_neurons",
    "folded",
    "lean_neurons",
    "streamed_neurons",
    "sum_of_units",
]

_UNITS_AT_ONCE = 16  # hidden units that share one pass over z on an accelerator
_FEW_INPUTS = 8  # up to this number, recomputing a projection costs less than reading it
_KEEP_PRODUCTS = jax.checkpoint_policies.save_only_these_names(PRODUCTS)


class Setting(NamedTuple):
    """What product neurons compute beside their parameters.

    Attributes:
      tau: the inner activation.
      bf16_operands: round the operands of the matrix products to bfloat16.
    """

    tau: Elementwise
    bf16_operands: bool = False


class Neurons(NamedTuple):
    """The parameters of product neurons; z = x . weight + bias.

    Slope, shift and amplitude include the frequency, gamma and the unit of the argument of `tau`.
    """

    weight: Float[Array, "i k r"]
    bias: Float[Array, "k r"]
    slope: Float[Array, "h k r"]
    shift: Float[Array, "h k r"]
    amplitude: Float[Array, "h k r"]
    base: Float[Array, "k r"]


def folded(neurons: Neurons) -> Neurons:
    """Fold the slope and shift of a single hidden unit into the projection.

    slope (x W + b) + shift = x (slope W) + (slope b + shift), so one matrix product yields the
    argument of tau without another pass over the (n, k r) array. Neurons with more than one hidden
    unit are returned unchanged.
    """
    if neurons.slope.shape[0] > 1:
        return neurons
    slope = neurons.slope[0]
    return neurons._replace(
        weight=neurons.weight * slope,
        bias=neurons.bias * slope + neurons.shift[0],
        slope=jnp.ones_like(neurons.slope),
        shift=jnp.zeros_like(neurons.shift),
    )


def lean_neurons(
    neurons: Neurons, x: Float[Array, "*n i"], tau: Elementwise, bf16_operands: bool = False
) -> Float[Array, "*n r"]:
    """phi(x) on a batch, in the form that suits the platform that the program is traced for.

    Args:
      tau: the inner activation.
      bf16_operands: round z and the operands of the matrix product to bfloat16. Where slabs are
        stored, they are stored in bfloat16.
    """
    form = streamed_neurons if traced_platform() == "tpu" else cached_neurons
    return form(neurons, x, tau, bf16_operands)


def cached_neurons(
    neurons: Neurons,
    x: Float[Array, "*n i"],
    tau: Elementwise,
    bf16_operands: bool = False,
) -> Float[Array, "*n r"]:
    """phi(x) for a device that keeps the slabs of a chunk of points in its cache.

    The backward pass reads z and the partial products of the forward pass. With several hidden
    units it recomputes the units instead of storing them.

    Args:
      tau, bf16_operands: as in `lean_neurons`.
    """
    neurons = folded(neurons)
    _, k, r = neurons.weight.shape
    row = {name: leaf.reshape(*leaf.shape[:-2], k * r) for name, leaf in neurons._asdict().items()}
    dtype = jnp.result_type(x, *neurons)
    z = dot(x, row["weight"], bf16_operands)
    z = (stored_in_bfloat16(z) if bf16_operands else z).astype(dtype) + row["bias"]
    if neurons.slope.shape[0] == 1:
        g = row["amplitude"][0] * tau(z)
    else:
        g = sum_of_units(tau, z, row["slope"], row["shift"], row["amplitude"])
    # Otherwise the compiled program recomputes the cotangent of the factors in every consumer.
    factors = _written_gradient(row["base"] + g)
    return pairwise_product(jnp.split(factors, k, axis=-1))


def streamed_neurons(
    neurons: Neurons, x: Float[Array, "*n i"], tau: Elementwise, bf16_operands: bool = False
) -> Float[Array, "*n r"]:
    """phi(x) for a device whose time is the traffic of its memory: the fewest passes over a slab.

    z is written once and read once in each direction; its cotangent is written once and read by the
    two matrix products. Everything between z and phi is recomputed from z. A projection of at most
    `_FEW_INPUTS` inputs is recomputed too, as a sum of elementwise products, so that no slab of
    such a layer is stored.

    Args:
      tau, bf16_operands: as in `lean_neurons`.
    """
    neurons = folded(neurons)
    dtype = jnp.result_type(x, *neurons)
    wide = jnp.promote_types(dtype, jnp.float32)
    few = neurons.weight.shape[0] <= _FEW_INPUTS and not bf16_operands

    @functools.partial(jax.checkpoint, policy=_KEEP_PRODUCTS)
    def from_operand(operand: jax.Array, neurons: Neurons) -> Float[Array, "*n r"]:
        # The bias is added here, so that its gradient is summed where that of z is formed.
        operand, neurons = jax.tree.map(lambda leaf: leaf.astype(wide), (operand, neurons))
        z = (_sum_of_inputs(operand, neurons.weight) if few else operand) + neurons.bias
        return reduced_product(neurons.base + _units_at_once(tau, z, neurons)).astype(dtype)

    if few:
        return from_operand(x, neurons)
    z = dot(x, neurons.weight, bf16_operands)
    return from_operand(stored_in_bfloat16(z) if bf16_operands else z, neurons)


def _sum_of_inputs(x: Float[Array, "*n i"], weight: Float[Array, "i k r"]) -> jax.Array:
    """x W as a sum of elementwise products, which the compiler fuses with what reads it."""
    terms = [x[..., i, None, None] * row for i, row in enumerate(weight)]
    return functools.reduce(jnp.add, terms)


def _units_at_once(
    tau: Elementwise, z: Float[Array, "*n k r"], neurons: Neurons
) -> Float[Array, "*n k r"]:
    """sum_h amplitude_h tau(slope_h z + shift_h) as one elementwise function of z."""
    amplitude, slope, shift = neurons.amplitude, neurons.slope, neurons.shift
    if len(slope) == 1:  # folded
        return amplitude[0] * tau(z)
    if len(slope) > _UNITS_AT_ONCE:
        return sum_of_units(tau, z, slope, shift, amplitude)

    @jax.jit  # traced once; the compiler inlines it
    def unit(z: jax.Array, amplitude: jax.Array, slope: jax.Array, shift: jax.Array) -> jax.Array:
        return amplitude * tau(slope * z + shift)

    units = [unit(z, *row) for row in zip(amplitude, slope, shift, strict=True)]
    return functools.reduce(jnp.add, units)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sum_of_units(
    tau: Elementwise,
    z: Float[Array, "..."],
    slope: Float[Array, "h ..."],
    shift: Float[Array, "h ..."],
    amplitude: Float[Array, "h ..."],
) -> Float[Array, "..."]:
    """sum_h amplitude_h tau(slope_h z + shift_h) for any elementwise tau.

    On a CPU, the sum and its derivatives are computed one unit at a time. All arrays have the same
    dtype; the parameters of one unit have the last axes of z.
    """

    def add(total: jax.Array, unit: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        slope, shift, amplitude = unit
        return total + amplitude * tau(slope * z + shift), None

    return _over_units(add, z, (slope, shift, amplitude))


@sum_of_units.defjvp
def _sum_of_units_jvp(tau, primals, tangents):
    """The tangent is again a sum over the units, computed one unit at a time.

    `jax.checkpoint` makes its transpose recompute each unit instead of storing it.
    """
    (z, *rows), (dz, *drows) = primals, tangents

    @jax.checkpoint
    def unit_tangent(z, dz, row, drow):
        (slope, shift, amplitude), (dslope, dshift, damplitude) = row, drow
        du = slope * dz + dslope * z + dshift
        value, dvalue = jax.jvp(tau, (slope * z + shift,), (du,))
        return damplitude * value + amplitude * dvalue

    def add(total, unit):
        return total + unit_tangent(z, dz, *unit), None

    tangent = _over_units(add, z, (tuple(rows), tuple(drows)))
    return sum_of_units(tau, z, *rows), tangent


def _over_units(add, z: jax.Array, units) -> jax.Array:
    """The sum over the units, accumulated by `add`."""
    # One unit at a time keeps the arrays in the cache of a CPU; on an accelerator, several units
    # share one pass over the memory.
    unroll = 1 if traced_platform() == "cpu" else _UNITS_AT_ONCE
    return lax.scan(add, jnp.zeros_like(z), units, unroll=unroll)[0]


@jax.custom_jvp
def _written_gradient(x: jax.Array) -> jax.Array:
    """Identity whose cotangent is written to memory once, not recomputed in every consumer."""
    return x


@_written_gradient.defjvp
def _written_gradient_jvp(primals, tangents):
    return primals[0], lax.optimization_barrier(tangents[0])
