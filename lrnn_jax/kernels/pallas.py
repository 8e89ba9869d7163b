"""Product neurons as two fused kernels, forward and backward, for GPUs and TPUs.

phi_r(x) = prod_k f_k,   f_k = base + sum_h amplitude_h tau(slope_h z_k + shift_h),   z = x W + b.

Neither z nor the factors are written to memory. The backward pass keeps only the parameters and x,
and recomputes z. The platform that the program is for decides which kernels it contains: those of
`pallas_gpu`, those of `pallas_tpu`, or, for a CPU, those of `pallas_gpu` in Pallas' interpret mode,
which is meant for tests.

Axis letters: n points, i inputs, r rank.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jaxtyping import Array, Float

from lrnn_jax.errors import InputError
from lrnn_jax.kernels import pallas_gpu, pallas_tpu
from lrnn_jax.kernels.activations import Elementwise
from lrnn_jax.kernels.neurons import Neurons, Setting, folded
from lrnn_jax.kernels.varying import vary_alike

__all__ = ["pallas_neurons"]


def pallas_neurons(
    neurons: Neurons, x: Float[Array, "*n i"], tau: Elementwise, bf16_operands: bool = False
) -> Float[Array, "*n r"]:
    """phi(x), differentiable once, in reverse mode only.

    Args:
      tau: the inner activation. It consists of elementwise operations that Pallas supports and must
        not close over arrays.
      bf16_operands: round the operands of the matrix products to bfloat16.

    Raises:
      TypeError: the result is differentiated in forward mode.
      InputError: a program in float64 is lowered for a TPU.
    """
    *batch, i = x.shape
    dtype = jnp.result_type(x, *neurons)
    if 0 in batch:
        return jnp.zeros((*batch, neurons.base.shape[-1]), dtype)
    neurons = Neurons(*(leaf.astype(dtype) for leaf in folded(neurons)))
    setting = Setting(tau, bf16_operands)
    phi: Any = _fused(setting, *vary_alike((neurons, x.astype(dtype).reshape(-1, i))))
    return phi.reshape(*batch, -1)


def _on_platform(name: str, setting: Setting, *arguments: Any) -> Any:
    """Call the function `name` of the kernels for the platform that the program is for."""

    def on_gpu(*arguments: Any, interpret: bool) -> Any:
        return getattr(pallas_gpu, name)(setting, *arguments, interpret=interpret)

    def on_tpu(*arguments: Any) -> Any:
        arguments = jax.tree.map(_require_float32, arguments)
        return getattr(pallas_tpu, name)(setting, *arguments, interpret=False)

    return lax.platform_dependent(
        *arguments,
        cpu=functools.partial(on_gpu, interpret=True),
        tpu=on_tpu,
        default=functools.partial(on_gpu, interpret=False),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(setting: Setting, neurons: Neurons, x: Float[Array, "n i"]) -> Float[Array, "n r"]:
    """phi(x) of neurons to which `folded` has been applied."""
    return _on_platform("forward", setting, neurons, x)


def _fused_forward(setting: Setting, neurons: Neurons, x: Float[Array, "n i"]) -> Any:
    return _fused(setting, neurons, x), (neurons, x)


def _fused_backward(setting: Setting, residuals: Any, dphi: Float[Array, "n r"]) -> Any:
    return _on_platform("backward", setting, *residuals, dphi)


_fused.defvjp(_fused_forward, _fused_backward)


def _require_float32(value: jax.Array) -> jax.Array:
    return _unless_float64.bind(value) if value.dtype == jnp.float64 else value


_unless_float64 = Primitive("unless_float64")
"""The identity, which cannot be lowered for a TPU."""

_unless_float64.def_abstract_eval(lambda aval: aval)
_unless_float64.def_impl(lambda value: value)
batching.defvectorized(_unless_float64)
mlir.register_lowering(_unless_float64, lambda ctx, value: [value])


def _refuse(*_: Any) -> Any:
    raise InputError(
        "implementation: the kernels of 'pallas' for TPUs have no float64; take 'auto' or 'lean'"
    )


mlir.register_lowering(_unless_float64, _refuse, platform="tpu")
