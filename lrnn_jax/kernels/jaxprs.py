"""Walking over a jaxpr: opening the calls in it, and interpreting it operation by operation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Literal

from lrnn_jax.kernels.varying import vary_alike

__all__ = [
    "CALLS",
    "CUSTOM_RULES",
    "bind",
    "called",
    "interpret",
    "names",
    "open_jaxpr",
    "with_replaced",
]


def names(text: str) -> frozenset[str]:
    """The names of operations in a text, separated by white space."""
    return frozenset(text.split())


CALLS = names("jit pjit closed_call core_call")
CUSTOM_RULES = names("custom_jvp_call custom_vjp_call")


def open_jaxpr(value: Any) -> Any:
    """The jaxpr, closed or open, in a parameter of an operation; None if there is none."""
    value = getattr(value, "jaxpr", value)
    return value if hasattr(value, "eqns") else None


def called(equation: Any) -> tuple[Any, Sequence[Any]]:
    """The open jaxpr and the constants of a call, a custom derivative rule or a checkpoint."""
    inner = equation.params["jaxpr" if "jaxpr" in equation.params else "call_jaxpr"]
    return open_jaxpr(inner), getattr(inner, "consts", ())  # an open jaxpr has no constants


def bind(equation: Any, values: Any) -> list[Any]:
    """Execute one operation on arrays."""
    primitive, values = equation.primitive, vary_alike(list(values))
    results = primitive.bind(*values, **primitive.get_bind_params(equation.params))
    return list(results) if primitive.multiple_results else [results]


def interpret(
    jaxpr: Any,
    consts: Sequence[Any],
    arguments: Sequence[Any],
    apply: Callable[[Any, list[Any]], list[Any]],
) -> list[Any]:
    """The outputs of a jaxpr; apply(equation, operands) returns the results of one operation."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        results = apply(equation, [read(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def with_replaced(
    f: Callable[..., Any], replacement: Callable[[str, Any], Callable[..., Any] | None]
) -> Callable[..., Any]:
    """The function f with some of its operations replaced, for a backend that does not have them.

    Args:
      f: a function of arrays. Calls, and functions with derivative rules of their own, are inlined.
      replacement: of the name and the parameters of an operation, a function of its operand, or
        None to keep the operation.
    """

    def apply(equation: Any, values: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if new := replacement(name, equation.params):
            return [new(*values)]
        if name in CALLS | CUSTOM_RULES:
            return interpret(*called(equation), values, apply)
        return bind(equation, values)

    def g(*arguments: Any) -> Any:
        closed, out = jax.make_jaxpr(f, return_shape=True)(*arguments)
        results = interpret(closed.jaxpr, closed.consts, arguments, apply)
        return jax.tree.unflatten(jax.tree.structure(out), results)

    return g
