"""Counts the floating-point operations of a JAX function from its jaxpr."""

import math
from collections.abc import Callable
from typing import Any

import jax

from lrnn_jax.kernels.jaxprs import names, open_jaxpr

__all__ = ["count_flops"]

# Primitives that only move, convert or compare numbers.
_FREE = names("""
    reshape broadcast_in_dim transpose squeeze expand_dims concatenate
    slice dynamic_slice dynamic_update_slice split pad rev gather optimization_barrier
    convert_element_type bitcast_convert_type copy reduce_precision stop_gradient iota
    lt le gt ge eq ne and or not select_n clamp
""")
_REDUCTIONS = names("reduce_sum reduce_prod reduce_max reduce_min")


def count_flops(function: Callable, *arguments: Any) -> int:
    """The number of floating-point operations of `function(*arguments)`.

    A scalar addition, multiplication, division, power, maximum or elementary function counts as
    one. A custom activation (`jax.custom_jvp` of one argument) counts as one elementary function.
    Moving, comparing and converting numbers is free. The body of a `jax.lax.scan` counts once for
    each iteration. Of forms that depend on the platform, the one for CPUs counts.

    Args:
      function: the function; it is traced, not executed.
      arguments: arrays, or `jax.ShapeDtypeStruct`s.

    >>> count_flops(lambda a, b: a @ b + 1, *(jax.ShapeDtypeStruct((3, 3), "float32"),) * 2)
    54
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    name, size = equation.primitive.name, max(_size(v) for v in equation.outvars)
    if name in _FREE:
        return 0
    if name == "dot_general":
        ((contracted, _), _) = equation.params["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return (2 * depth - 1) * size
    if name in _REDUCTIONS:
        return _size(equation.invars[0]) - size
    iterations = equation.params.get("length", 1) if name == "scan" else 1
    inner = _inner_jaxprs(equation.params)
    if not inner:
        return size
    operations = iterations * sum(map(_count, inner))
    elementary = name.startswith("custom_jvp") and len(equation.invars) == 1
    return min(operations, size) if elementary else operations


def _inner_jaxprs(params: dict[str, Any]) -> list[Any]:
    platforms = params.get("branches_platforms")
    if platforms is not None:
        by_platform = {
            name: branch
            for named, branch in zip(platforms, params["branches"], strict=True)
            for name in named or ("default",)
        }
        return [open_jaxpr(by_platform.get("cpu", by_platform.get("default")))]
    return [jaxpr for value in params.values() if (jaxpr := open_jaxpr(value))]


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)
