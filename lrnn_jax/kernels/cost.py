"""Floating-point operations of a JAX function, counted from its trace."""

import math
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["count_flops"]

# Primitives that move, compare or convert numbers, and compute none.
_MOVES = ("reshape", "broadcast_in_dim", "transpose", "squeeze", "expand_dims", "concatenate")
_PICKS = ("slice", "dynamic_slice", "dynamic_update_slice", "split", "pad", "rev", "gather")
_MARKS = ("optimization_barrier",)
_CONVERTS = (
    "convert_element_type",
    "bitcast_convert_type",
    "copy",
    "reduce_precision",
    "stop_gradient",
    "iota",
)
_COMPARES = ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "select_n", "clamp")
_FREE = frozenset((*_MARKS, *_MOVES, *_PICKS, *_CONVERTS, *_COMPARES))
_REDUCTIONS = frozenset(("reduce_sum", "reduce_prod", "reduce_max", "reduce_min"))


def count_flops(function: Callable, *arguments: Any) -> int:
    """Operations of `function(*arguments)`; arguments are arrays or their shapes and dtypes.

    Each scalar addition, multiplication, division, power, maximum and elementary function is one; a
    custom activation (`jax.custom_jvp` of one argument) is one elementary function; moving,
    comparing and converting numbers is free. A loop counts once for each of its turns.

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
    turns = equation.params.get("length", 1) if name == "scan" else 1
    inner = [jaxpr for value in equation.params.values() if (jaxpr := _jaxpr(value)) is not None]
    if not inner:
        return size
    operations = turns * sum(map(_count, inner))
    elementary = name.startswith("custom_jvp") and len(equation.invars) == 1
    return min(operations, size) if elementary else operations


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)


def _jaxpr(value: Any) -> Any:
    """The jaxpr that a parameter of an equation holds, closed or open; None if it holds none."""
    value = getattr(value, "jaxpr", value)
    return value if hasattr(value, "eqns") else None
