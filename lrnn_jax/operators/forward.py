"""The forward Laplacian: one pass through a function that carries (value, Jacobian, Laplacian).

For y = f(a) with J_i = da/dx_i and L = sum_i d^2 a/dx_i^2 along the chosen coordinates x_i,

    dy/dx_i = f'(a) J_i,    sum_i d^2 y/dx_i^2 = f'(a) L + sum_i f''(a)(J_i, J_i)

so the sum of the second derivatives is carried as one array, where a Hessian carries all of them.
The function is traced to a jaxpr, and its operations are interpreted one by one. An array is called
"carried" if it depends on the coordinates; it is represented by its value, its J_i and its L.

  * Linear operations (products with constants, sums, reshapes, ...) are applied to the value, to
    every J_i and to L.
  * Products of two carried arrays: L = a L_b + b L_a + 2 sum_i J_ai J_bi, exact at zeros.
  * A chain of elementwise operations on one array a is collected as one function g(a): g, g' and
    g'' are computed once, independent of the number of coordinates. They are combined with J and L
    when another kind of operation needs the result.
  * Calls, loops and branches are interpreted inside. A `jax.checkpoint` is preserved.
  * All other operations, including those with custom derivative rules: the definition above by
    nested `jax.jvp`. This is exact for every operation that has a forward derivative.

Custom derivative rules are respected, with one exception: a rule around a loop of sums and products
(such as a sum over hidden units, one at a time) can only be a faster way to the same derivative, so
the loop itself is interpreted.

The result consists of ordinary operations, so it has derivatives of any order in both modes.

References: Li et al., "Forward Laplacian: A New Computational Framework for Neural Network-based
Variational Monte Carlo" (arXiv 2307.08214); Dangel et al., "Collapsing Taylor Mode Automatic
Differentiation" (arXiv 2505.13644).
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal
from jaxtyping import Array, Float

from lrnn_jax.kernels.jaxprs import CALLS, CUSTOM_RULES, bind, called, interpret, names
from lrnn_jax.kernels.platform import traced_for, traced_platform

Tangent = Any
"""An array, or None where it is zero."""


class Jet(NamedTuple):
    """A value, its first derivative along each direction, and the sum of its second derivatives."""

    value: jax.Array
    first: tuple[Tangent, ...]
    second: Tangent

    @property
    def tangents(self) -> tuple[Tangent, ...]:
        """The first derivatives and the second: a linear map acts on each as on the value."""
        return (*self.first, self.second)


@dataclasses.dataclass(eq=False)
class Root:
    """The jet of an array that a chain of elementwise functions is applied to."""

    jet: Jet

    @functools.cached_property
    def squares(self) -> Tangent:
        """sum_i J_i^2."""
        return _sum(None if t is None else t * t for t in self.jet.first)

    @functools.cached_property
    def along(self) -> Jet:
        """The jet with respect to the root itself, in one direction: (a, 1, 0)."""
        return Jet(self.jet.value, (jnp.ones_like(self.jet.value),), None)


@dataclasses.dataclass(eq=False)
class Carried:
    """g(root) for an elementwise g, as the jet (g, g', g'') with respect to the root.

    `outer` None means that g is the identity.
    """

    root: Root
    outer: Jet | None = None

    @property
    def value(self) -> jax.Array:
        return self.root.jet.value if self.outer is None else self.outer.value

    @property
    def along(self) -> Jet:
        return self.root.along if self.outer is None else self.outer

    @functools.cached_property
    def full(self) -> Jet:
        """The jet with respect to the coordinates."""
        if self.outer is None:
            return self.root.jet
        value, (slope,), bend = self.outer
        inner = self.root.jet
        second = _sum((_times(slope, inner.second), _times(bend, self.root.squares)))
        return Jet(value, tuple(_times(slope, t) for t in inner.first), second)


Operand = Any
"""An array that does not depend on the coordinates, or a `Carried` array (in rules: a `Jet`)."""


def forward_laplacian(
    u: Callable[[Float[Array, "d"]], jax.Array], x: Float[Array, "d"], axes: Sequence[int]
) -> jax.Array:
    """The sum over `axes` of d^2 u/dx_a^2 at one point x, in one forward pass.

    Args:
      u: a function whose value is one array.
      x: the point.
      axes: the coordinates of the sum.
    """
    # A layer's form for TPUs stores least in the gradient of a value; with a forward Laplacian, it
    # accesses more bytes on a TPU than the form for GPUs (55 against 40 GB).
    platform = traced_platform()
    with traced_for("gpu" if platform == "tpu" else platform):
        closed, shape = jax.make_jaxpr(u, return_shape=True)(x)
    units = np.eye(x.shape[0], dtype=x.dtype)
    start = Carried(Root(Jet(x, tuple(units[axis] for axis in axes), None)))
    (result,) = interpret(closed.jaxpr, closed.consts, [start], _apply)
    second = result.full.second if isinstance(result, Carried) else None
    return jnp.zeros(shape.shape, shape.dtype) if second is None else jnp.asarray(second)


# Interpretation ----------------------------------------------------------------------------------


def _apply(eqn: Any, operands: list[Operand]) -> list[Operand]:
    """The results of one operation."""
    name = eqn.primitive.name
    carried = [each for each in operands if isinstance(each, Carried)]
    if not carried or name in _FLAT or not any(map(_is_inexact, eqn.outvars)):
        return bind(eqn, map(_value, operands))
    if name in CALLS or _is_loop_of_products(eqn):
        return interpret(*called(eqn), operands, _apply)
    root = carried[0].root
    if all(each.root is root for each in carried) and _is_elementwise(eqn, operands, root):
        jets = [each.along if isinstance(each, Carried) else each for each in operands]
        results = _rule(eqn, jets)(eqn, jets)
        return [Carried(root, each) if isinstance(each, Jet) else each for each in results]
    jets = _jets_of(operands)
    return _carried(_rule(eqn, jets)(eqn, jets))


def _rule(eqn: Any, operands: list[Operand]) -> Callable[[Any, list[Operand]], list[Operand]]:
    name = eqn.primitive.name
    carried = {place for place, each in enumerate(operands) if isinstance(each, Jet)}
    if name in _RULES:
        return _RULES[name]
    if name in _LINEAR and carried <= _LINEAR[name](len(operands)):
        return _linear
    if name in _BILINEAR:
        return _linear if len(carried) == 1 else _bilinear
    return _general


def _jets_of(operands: Sequence[Operand]) -> list[Operand]:
    return [each.full if isinstance(each, Carried) else each for each in operands]


def _carried(operands: Sequence[Operand]) -> list[Operand]:
    return [Carried(Root(each)) if isinstance(each, Jet) else each for each in operands]


def _value(operand: Operand) -> Any:
    return operand.value if isinstance(operand, Jet | Carried) else operand


def _is_inexact(atom: Any) -> bool:
    return jnp.issubdtype(atom.aval.dtype, jnp.inexact)


def _times(a: Tangent, b: Tangent) -> Tangent:
    return None if a is None or b is None else a * b


def _sum(tangents: Any) -> Tangent:
    present = [each for each in tangents if each is not None]
    return functools.reduce(operator.add, present) if present else None


def _zeros(like: Any) -> jax.Array:
    return jnp.zeros(jnp.shape(like), jnp.result_type(like))


# Rules: from jets and constants to jets and constants --------------------------------------------


def _by_tangent(operands: list[Operand]) -> list[tuple[Tangent, ...]]:
    """Tangents of the carried operands: one tuple per direction, then the second derivatives."""
    return list(zip(*(each.tangents for each in operands if isinstance(each, Jet)), strict=True))


def _jets(values: list[Any], tangents: list[list[Tangent]]) -> list[Operand]:
    """One jet per result, from its value and from `tangents`, whose inner index is the result."""
    return [
        Jet(value, tuple(first), second)
        for value, (*first, second) in zip(values, zip(*tangents, strict=True), strict=True)
    ]


def _linear(eqn: Any, operands: list[Operand]) -> list[Operand]:
    """An operation that is linear in its carried operands, applied to each tangent.

    An operand in a linear place that is not carried has the tangent 0.
    """
    values = bind(eqn, map(_value, operands))
    name = eqn.primitive.name
    places = _LINEAR[name](len(operands)) if name in _LINEAR else ()

    def along(tangents: tuple[Tangent, ...]) -> list[Tangent]:
        if all(each is None for each in tangents):
            return [None] * len(values)
        remaining = iter(tangents)
        filled = []
        for place, operand in enumerate(operands):
            if isinstance(operand, Jet):
                tangent = next(remaining)
                filled.append(_zeros(operand.value) if tangent is None else tangent)
            else:
                filled.append(_zeros(operand) if place in places else operand)
        return _bind_known(eqn, filled)

    return _jets(values, [along(tangents) for tangents in _by_tangent(operands)])


def _bind_known(eqn: Any, operands: list[Any]) -> list[Tangent]:
    """Execute the operation on tangents.

    If all operands are known at trace time, the result is computed at trace time, and a zero result
    becomes None. So a single coordinate that a function selects has no tangent along other axes.
    """
    if not all(isinstance(each, np.ndarray | np.generic | float | int) for each in operands):
        return bind(eqn, operands)
    with jax.ensure_compile_time_eval():
        results = [np.asarray(each) for each in bind(eqn, operands)]
    return [each if each.any() else None for each in results]


def _bilinear(eqn: Any, operands: list[Operand]) -> list[Operand]:
    """A product of two carried arrays: L = a L_b + L_a b + 2 sum_i J_ai J_bi."""
    a, b = operands

    def product(left: Tangent, right: Tangent) -> Tangent:
        return None if left is None or right is None else bind(eqn, (left, right))[0]

    def outer(i: int) -> Tangent:
        return _sum((product(a.value, b.tangents[i]), product(a.tangents[i], b.value)))

    crossed = _sum(map(product, a.first, b.first))
    second = _sum((outer(-1), None if crossed is None else 2 * crossed))
    first = tuple(outer(i) for i in range(len(a.first)))
    return [Jet(product(a.value, b.value), first, second)]


def _barrier(eqn: Any, operands: list[Operand]) -> list[Operand]:
    """An optimization barrier around all arrays: values and tangents."""
    leaves, structure = jax.tree.flatten(operands)
    return jax.tree.unflatten(structure, lax.optimization_barrier(leaves))


def _quotient(eqn: Any, operands: list[Operand]) -> list[Operand]:
    """A quotient a / b: linear if only a is carried."""
    return _general(eqn, operands) if isinstance(operands[1], Jet) else _linear(eqn, operands)


def _general(eqn: Any, operands: list[Operand]) -> list[Operand]:
    """An arbitrary operation f, by nested `jax.jvp`: L = f'(a) L_a + sum_i f''(a)(J_i, J_i)."""
    values = bind(eqn, map(_value, operands))
    smooth = [place for place, atom in enumerate(eqn.outvars) if _is_inexact(atom)]
    at = tuple(each.value for each in operands if isinstance(each, Jet))

    def function(*moved: Any) -> list[Any]:
        values = iter(moved)
        results = bind(eqn, [next(values) if isinstance(each, Jet) else each for each in operands])
        return [results[place] for place in smooth]

    *firsts, seconds = [
        None if all(t is None for t in each) else tuple(map(_filled, at, each))
        for each in _by_tangent(operands)
    ]
    first, parts = [], []
    for tangents in firsts:
        if tangents is None:
            first.append([None] * len(smooth))
            continue
        once = functools.partial(_derivative, function, tangents)
        slope, bend = jax.jvp(once, at, tangents)
        first.append(slope)
        parts.append(bend)
    if seconds is not None:
        parts.append(_derivative(function, seconds, *at))
    second = [_sum(terms) for terms in zip(*parts, strict=True)] if parts else [None] * len(smooth)
    jets = _jets([values[place] for place in smooth], [*first, second])
    results: list[Operand] = list(values)
    for place, jet in zip(smooth, jets, strict=True):
        results[place] = jet
    return results


def _derivative(function: Callable, tangents: tuple[Any, ...], *at: Any) -> Any:
    return jax.jvp(function, at, tangents)[1]


def _filled(value: Any, tangent: Tangent) -> jax.Array:
    return _zeros(value) if tangent is None else jnp.asarray(tangent)


# Loops, branches, checkpoints --------------------------------------------------------------------


def _enter(jaxpr: Any, consts: Sequence[Any], operands: Sequence[Operand]) -> list[Operand]:
    """Interpret a jaxpr with jets as operands and results."""
    return _jets_of(interpret(jaxpr, consts, _carried(operands), _apply))


def _instantiated(operand: Operand, directions: int) -> Jet:
    """A jet in which every tangent is an array: None becomes zeros."""
    if not isinstance(operand, Jet):
        operand = Jet(operand, (None,) * directions, None)
    value = jnp.asarray(operand.value)
    filled = [_filled(value, tangent) for tangent in operand.tangents]
    return Jet(value, tuple(filled[:-1]), filled[-1])


def _settled(flags: Sequence[bool], operands: Sequence[Operand], directions: int) -> list[Operand]:
    """The operands, of which the flagged ones become jets whose tangents are arrays."""
    return [
        _instantiated(each, directions) if flag else each
        for flag, each in zip(flags, operands, strict=True)
    ]


def _directions(operands: Sequence[Operand]) -> int:
    return next(len(each.first) for each in operands if isinstance(each, Jet))


def _checkpoint(eqn: Any, operands: list[Operand]) -> list[Operand]:
    def function(operands: list[Operand]) -> list[Operand]:
        return _enter(*called(eqn), operands)

    options = {key: eqn.params[key] for key in ("policy", "prevent_cse")}
    return jax.checkpoint(function, **options)(operands)


def _branches(eqn: Any, operands: list[Operand]) -> list[Operand]:
    index, *rest = operands
    flags = [isinstance(each, Jet) for each in rest]
    outs = [_reached(branch.jaxpr, flags) for branch in eqn.params["branches"]]
    reached = [any(flags) for flags in zip(*outs, strict=True)]
    directions = _directions(rest)

    def enter(branch: Any, operands: list[Operand]) -> list[Operand]:
        return _settled(reached, _enter(branch.jaxpr, branch.consts, operands), directions)

    functions = [functools.partial(enter, branch) for branch in eqn.params["branches"]]
    return lax.switch(index, functions, rest)


def _scan(eqn: Any, operands: list[Operand]) -> list[Operand]:
    """A loop over jets; the backward pass recomputes its body instead of storing it."""
    params, (n_consts, n_carry) = eqn.params, _counts(eqn)
    closed = params["jaxpr"]
    consts, xs = operands[:n_consts], operands[n_consts + n_carry :]
    flags = _loop_flags(eqn, [isinstance(each, Jet) for each in operands])
    reached, directions = flags[n_consts : n_consts + n_carry], _directions(operands)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def body(carry: list[Operand], xs: list[Operand]) -> tuple[list[Operand], list[Operand]]:
        results = _enter(closed.jaxpr, closed.consts, [*consts, *carry, *xs])
        return _settled(reached, results[:n_carry], directions), results[n_carry:]

    options = {key: params[key] for key in ("length", "reverse", "unroll")}
    start = _settled(reached, operands[n_consts : n_consts + n_carry], directions)
    carry, ys = lax.scan(body, start, xs, **options)
    return [*carry, *ys]


def _counts(eqn: Any) -> tuple[int, int]:
    """The numbers of constants and of loop-carried values among the operands of a scan."""
    if "num_consts" in eqn.params:
        return eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, _ = eqn.params["ft_in"].update(range(len(eqn.invars))).unpack()  # jax >= 0.12
    return len(list(consts)), len(list(carry))


def _loop_flags(eqn: Any, flags: list[bool]) -> list[bool]:
    """Which operands of a scan depend on the flagged ones after any number of iterations."""
    n_consts, n_carry = _counts(eqn)
    while True:
        reached = _reached(eqn.params["jaxpr"].jaxpr, flags)[:n_carry]
        grown = list(flags)
        for place, flag in enumerate(reached, n_consts):
            grown[place] = grown[place] or flag
        if grown == flags:
            return flags
        flags = grown


def _reached(jaxpr: Any, flags: Sequence[bool]) -> list[bool]:
    """Which outputs can depend on the flagged inputs."""
    dependent = {var for var, flag in zip(jaxpr.invars, flags, strict=True) if flag}
    for eqn in jaxpr.eqns:
        if eqn.primitive.name not in _FLAT and any(_is_in(atom, dependent) for atom in eqn.invars):
            dependent.update(var for var in eqn.outvars if _is_inexact(var))
    return [_is_in(atom, dependent) and _is_inexact(atom) for atom in jaxpr.outvars]


def _is_in(atom: Any, variables: set[Any]) -> bool:
    return not isinstance(atom, Literal) and atom in variables  # a literal has no hash


# Detection of elementwise operations -------------------------------------------------------------


def _is_elementwise(eqn: Any, operands: Sequence[Operand], root: Root) -> bool:
    """Whether every entry of the results depends only on the same entry of the root.

    All results must have the dtype of the root. It must be real, because a function of complex
    numbers has in general no single slope.
    """
    shape, dtype = jnp.shape(root.jet.value), jnp.result_type(root.jet.value)
    flags = [isinstance(each, Carried) for each in operands]
    outs = [var.aval for var in eqn.outvars]
    return (
        jnp.issubdtype(dtype, jnp.floating)
        and all(jnp.shape(_value(each)) == shape for each in operands if isinstance(each, Carried))
        and all(out.shape == shape and out.dtype == dtype for out in outs)
        and _pointwise(eqn, flags, shape) is not None
    )


def _pointwise(eqn: Any, flags: list[bool], shape: tuple[int, ...]) -> list[bool] | None:
    """Which results depend on the flagged operands; None if some dependence is not elementwise."""
    name, params = eqn.primitive.name, eqn.params
    if all(var.aval.dtype == bool for var in eqn.outvars):
        return [False] * len(eqn.outvars)  # booleans are piecewise constant: derivative 0
    if name in _ELEMENTWISE:
        alike = all(var.aval.shape == shape for var in eqn.outvars)
        return [True] * len(eqn.outvars) if alike else None
    if name == "scan":
        flags, (n_consts, n_carry) = _loop_flags(eqn, flags), _counts(eqn)
        outs = _pointwise_inside(params["jaxpr"].jaxpr, flags, shape)
        stacked = outs is None or any(flags[n_consts + n_carry :]) or any(outs[n_carry:])
        return None if stacked else outs
    if name == "cond":
        each = [_pointwise_inside(branch.jaxpr, flags[1:], shape) for branch in params["branches"]]
        if flags[0] or any(outs is None for outs in each):
            return None
        return [any(flags) for flags in zip(*each, strict=True)]
    if name in CALLS | CUSTOM_RULES | _CHECKPOINTS:
        return _pointwise_inside(called(eqn)[0], flags, shape)
    return None


def _pointwise_inside(jaxpr: Any, flags: Sequence[bool], shape: tuple[int, ...]):
    """`_pointwise` applied to all operations of a jaxpr."""
    dependent = {var for var, flag in zip(jaxpr.invars, flags, strict=True) if flag}
    if any(var.aval.shape != shape for var in dependent):
        return None
    for eqn in jaxpr.eqns:
        operands = [_is_in(atom, dependent) for atom in eqn.invars]
        if not any(operands):
            continue
        outs = _pointwise(eqn, operands, shape)
        if outs is None:
            return None
        dependent.update(var for var, out in zip(eqn.outvars, outs, strict=True) if out)
    return [_is_in(atom, dependent) for atom in jaxpr.outvars]


def _is_loop_of_products(eqn: Any) -> bool:
    """Whether this is a custom rule around a loop of sums, products and calls with custom rules."""
    if eqn.primitive.name != "custom_jvp_call":
        return False
    inner, _ = called(eqn)
    loops = [each for each in inner.eqns if each.primitive.name == "scan"]
    bodies = [each.params["jaxpr"].jaxpr for each in loops]
    operations = {each.primitive.name for jaxpr in (inner, *bodies) for each in jaxpr.eqns}
    return bool(loops) and operations <= _SUMS_AND_PRODUCTS | {"scan"}


# Tables ------------------------------------------------------------------------------------------


def _all(count: int) -> set[int]:
    return set(range(count))


def _only(*places: int) -> Callable[[int], set[int]]:
    return lambda count: set(places)


_MAPS = names("""
    add sub add_any neg concatenate copy copy_p real imag complex conj fft pad cumsum split
    reduce_sum reduce_window_sum reshape transpose slice squeeze expand_dims rev broadcast_in_dim
    convert_element_type
""")
_LINEAR: dict[str, Callable[[int], set[int]]] = {
    **dict.fromkeys(_MAPS, _all),
    "dynamic_slice": _only(0),
    "gather": _only(0),
    "dynamic_update_slice": _only(0, 1),
    "scatter-add": _only(0, 2),
    "select_n": lambda count: set(range(1, count)),
}
"""Maps the number of operands to the places in which an operation is jointly linear."""

_BILINEAR = names("mul dot_general conv_general_dilated")
_FLAT = names("floor ceil round sign stop_gradient")
_CHECKPOINTS = names("checkpoint remat2")
_SUMS_AND_PRODUCTS = names("add sub mul neg broadcast_in_dim convert_element_type custom_jvp_call")
_ELEMENTWISE = names("""
    add sub add_any mul div neg abs max min pow integer_pow square rem clamp select_n
    exp exp2 log expm1 log1p sqrt rsqrt cbrt logistic erf erfc erf_inv lgamma digamma
    sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh
    floor ceil round sign stop_gradient copy copy_p reduce_precision
    bitcast_convert_type convert_element_type optimization_barrier
    and or xor not shift_left shift_right_logical shift_right_arithmetic
""")
_RULES: dict[str, Callable[[Any, list[Operand]], list[Operand]]] = {
    "div": _quotient,
    "scan": _scan,
    "cond": _branches,
    "optimization_barrier": _barrier,
    **dict.fromkeys(_CHECKPOINTS, _checkpoint),
}
