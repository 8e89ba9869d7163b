"""Product neurons on a batch: the `lean` implementation.

    phi_r(x) = prod_k (base + sum_h amplitude_h tau(slope_h z + shift_h)),    z = W x + b

This is the arithmetic between the input of a layer and its normalisation. It forms no (n, k, r, h)
array: one matrix product yields z of all neurons and components as one (n, k r) array. Its columns
are ordered by component first, so each factor is a slice in which the rank is contiguous.

Axis letters: n points, i inputs, h hidden units, k components, r rank.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lrnn_jax.kernels.activations import Elementwise
from lrnn_jax.kernels.dense import affine
from lrnn_jax.kernels.product import pairwise_product

__all__ = ["Neurons", "Setting", "folded", "lean_neurons", "sum_of_units"]


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
    """phi(x) on a batch.

    The backward pass keeps z and the products. With several hidden units it recomputes the units
    instead of storing them.

    Args:
      tau: the inner activation.
      bf16_operands: round the operands of the matrix product to bfloat16.
    """
    neurons = folded(neurons)
    _, k, r = neurons.weight.shape
    row = {name: leaf.reshape(*leaf.shape[:-2], k * r) for name, leaf in neurons._asdict().items()}
    z = affine(x, row["weight"], row["bias"], bf16_operands).astype(jnp.result_type(x, *neurons))
    if neurons.slope.shape[0] == 1:
        g = row["amplitude"][0] * tau(z)
    else:
        g = sum_of_units(tau, z, row["slope"], row["shift"], row["amplitude"])
    # Otherwise the compiled program recomputes the cotangent of the factors in every consumer.
    factors = _written_gradient(row["base"] + g)
    return pairwise_product(jnp.split(factors, k, axis=-1))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sum_of_units(
    tau: Elementwise,
    z: Float[Array, "*n w"],
    slope: Float[Array, "h w"],
    shift: Float[Array, "h w"],
    amplitude: Float[Array, "h w"],
) -> Float[Array, "*n w"]:
    """sum_h amplitude_h tau(slope_h z + shift_h) for any elementwise tau.

    On a CPU, the sum and its derivatives are computed one unit at a time. All arrays have the same
    dtype.
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

    return sum_of_units(tau, z, *rows), _over_units(add, z, (tuple(rows), tuple(drows)))


def _over_units(add, z: jax.Array, units) -> jax.Array:
    """The sum over the units, accumulated by `add`."""
    # One unit at a time keeps the arrays in the cache of a CPU. On an accelerator, 16 units share
    # one pass over the memory.
    unroll = 1 if jax.default_backend() == "cpu" else 16
    return lax.scan(add, jnp.zeros_like(z), units, unroll=unroll)[0]


@jax.custom_jvp
def _written_gradient(x: jax.Array) -> jax.Array:
    """Identity whose cotangent is written to memory once, not recomputed in every consumer."""
    return x


@_written_gradient.defjvp
def _written_gradient_jvp(primals, tangents):
    return primals[0], lax.optimization_barrier(tangents[0])
