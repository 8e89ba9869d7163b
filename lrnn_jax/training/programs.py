"""Compiled programs kept by what they compute, not by which objects describe it.

`jax.jit` compares its static arguments with `==`, and functions are equal to themselves alone: an
optimiser or a loss that is written inside a loop is a new program in every turn. Here two functions
are equal if they have the same code, defaults, and equal values in their closures and in the
globals that they read.
"""

import collections
import dataclasses
import dis
import functools
import hashlib
import threading
import types
import typing
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

__all__ = ["Programs", "structural_key"]

_MOST_NODES = 10_000  # of the values that one key is made of
_DIGESTED = 2**20  # bytes of a JAX array that is compared by content, which is copied to the host


class Programs:
    """A bounded, thread-safe store of programs by key. The least recently used one is dropped.

    A dropped program is freed, its executables included, if nothing else refers to it: JAX's own
    caches refer to a jitted function weakly.

    Args:
      capacity: the programs kept at most.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable | None, make: Callable[[], Any]) -> Any:
        """The program of `key`, made if there is none; a key of None keeps nothing."""
        if key is None:
            return make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
                if len(self._kept) > self.capacity:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


def structural_key(*values: Any) -> Hashable | None:
    """A hashable key that is equal for values that compute the same.

    * Functions: by code, defaults, closure, and the globals that their code names, as these are
      when the function is first seen: one function stays equal to itself, as with `jax.jit`.
      Functions of the same module among the globals are compared in the same way, others by
      identity.
    * Dataclasses with their own comparison by fields, named tuples, containers, `functools.partial`
      and bound methods: by what they hold.
    * Numbers and strings: by type and value, so that 1, 1.0 and True differ, and -0.0 and 0.0.
    * NumPy arrays, and JAX arrays of up to 1 MiB: by dtype, shape and content.
    * Objects whose class defines `==`: by it, if they are hashable. Other objects of classes that
      are written in Python: by class and attributes. All else, jitted functions among it: by
      identity.
    * Values of more than 10,000 parts: by identity.

    What a function reaches through an attribute of a module or of an object compared by identity
    is not part of the key, as with `jax.jit`.

    Args:
      values: what a program depends on.

    Returns:
      The key, which keeps alive what it compares by identity; None if a value holds a tracer of a
      surrounding transformation.
    """
    try:
        return tuple(map(_key_or_identity, values))
    except _TracerError:
        return None


def _key_or_identity(value: Any) -> Hashable:
    try:
        return _Walk().key(value)
    except _TooManyError:
        return _Identity(value)


class _TracerError(Exception):
    """A value is a tracer."""


class _TooManyError(Exception):
    """A value has more parts than are compared."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Identity:
    """Equal to itself alone, and so is what it holds. It keeps this alive, so no id is reused."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


_KEYS: weakref.WeakKeyDictionary[types.FunctionType, Hashable] = weakref.WeakKeyDictionary()


def _function_key(function: types.FunctionType) -> Hashable:
    """The key of a function that is not reached through another one, formed once."""
    key = _KEYS.get(function)
    if key is None:
        key = _Walk(within=True).key(function)
        _KEYS[function] = key
    return key


class _Walk:
    """One traversal. A value that it meets again is named by the order of its first visit.

    Args:
      within: it begins at a function, so that what it meets is only compared as part of this.
    """

    def __init__(self, within: bool = False) -> None:
        self.within = within
        self.visited: dict[int, int] = {}
        self.alive: list[Any] = []
        self.nodes = 0

    def key(self, value: Any) -> Hashable:
        """The key of a value."""
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise _TooManyError
        if value is None or isinstance(value, bool | int | str | bytes):
            return (type(value), value)
        if isinstance(value, float | complex):
            return (type(value), repr(value))  # tells -0.0 from 0.0, and NaN is equal to NaN
        if isinstance(value, Tracer):
            raise _TracerError
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return self._array(value)
        if id(value) in self.visited:
            return ("visited", self.visited[id(value)])
        self.visited[id(value)] = len(self.visited)
        self.alive.append(value)  # so that no id is reused within the traversal
        return self._compound(value)

    def _compound(self, value: Any) -> Hashable:
        if isinstance(value, types.FunctionType):
            return self._function(value) if self.within else _function_key(value)
        if isinstance(value, types.MethodType):
            return ("method", self.key(value.__func__), self.key(value.__self__))
        if isinstance(value, functools.partial):
            return ("partial", *map(self.key, (value.func, value.args, value.keywords)))
        if isinstance(value, tuple | list):
            return (type(value), *map(self.key, value))
        if isinstance(value, dict):
            return (type(value), *((self.key(k), self.key(v)) for k, v in value.items()))
        if isinstance(value, set | frozenset):
            return (type(value), frozenset(map(self.key, value)))
        if not isinstance(value, type) and _compares_fields(value):
            fields = (field.name for field in dataclasses.fields(value) if field.compare)
            return (type(value), *(self.key(getattr(value, name)) for name in fields))
        if type(value).__eq__ is not object.__eq__:
            return (type(value), value) if type(value).__hash__ else _Identity(value)
        if not _is_plain_object(value):
            return _Identity(value)
        return (type(value), *((name, self.key(own)) for name, own in sorted(vars(value).items())))

    def _function(self, function: types.FunctionType) -> Hashable:
        names = _names(function.__code__)
        found = {name: function.__globals__[name] for name in names & function.__globals__.keys()}
        return (
            function.__code__,
            self.key(function.__defaults__),
            self.key(function.__kwdefaults__),
            tuple(self._cell(cell) for cell in function.__closure__ or ()),
            tuple((name, self._global(function, found[name])) for name in sorted(found)),
        )

    def _cell(self, cell: types.CellType) -> Hashable:
        try:
            return self.key(cell.cell_contents)
        except ValueError:  # nothing is assigned yet
            return "empty"

    def _global(self, function: types.FunctionType, value: Any) -> Hashable:
        if isinstance(value, types.ModuleType | type):
            return _Identity(value)
        if callable(value) and getattr(value, "__globals__", None) is not function.__globals__:
            return _Identity(value)
        return self.key(value)

    def _array(self, value: Any) -> Hashable:
        if isinstance(value, jax.Array):
            if value.nbytes > _DIGESTED or not value.is_fully_addressable:
                return _Identity(value)
            if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                return ("key", str(value.dtype), self._array(jax.random.key_data(value)))
        content = np.asarray(value)
        if content.dtype.hasobject:
            return _Identity(value)
        kind = "jax" if isinstance(value, jax.Array) else "numpy"
        weak = getattr(value, "weak_type", False)
        digest = hashlib.sha256(np.ascontiguousarray(content).data).hexdigest()
        return (kind, weak, str(content.dtype), content.shape, digest)


def _compares_fields(value: Any) -> bool:
    """Whether the class is a dataclass whose == is the one that dataclasses write."""
    parameters = type(value).__dict__.get("__dataclass_params__")
    code = getattr(type(value).__eq__, "__code__", None)
    # dataclasses compile their methods from strings; a method of the class body has a file.
    own = getattr(code, "co_filename", None) == "<string>"
    return parameters is not None and parameters.eq and own


_COMPILED = type(jax.jit(abs))


def _is_plain_object(value: Any) -> bool:
    """Whether all that sets an object apart is in its __dict__: its classes are written in Python.

    Those of a compiled library have no method that is a Python function, but for JAX's own.
    """
    if isinstance(value, type | _COMPILED) or not hasattr(value, "__dict__"):
        return False
    classes = set(type(value).__mro__) - {object, typing.Generic, typing.Protocol}
    return all(any(isinstance(m, types.FunctionType) for m in vars(c).values()) for c in classes)


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> frozenset[str]:
    """The names of the globals that a function's code reads, and the functions within it."""
    own = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return frozenset(own.union(*map(_names, inner)))
