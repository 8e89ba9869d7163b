"""A cache of compiled programs whose keys compare functions by structure, not by identity.

`jax.jit` compares its static arguments with `==`, and a Python function equals only itself. An
optimizer or a loss that is defined inside a loop is therefore compiled again in every iteration.
Here, two functions are equal if they have the same code and defaults, and equal values in their
closures and in the globals that they read.
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

_MOST_NODES = 10_000  # largest number of values that are visited for one key
_DIGESTED = 2**20  # largest JAX array in bytes that is copied to the host and compared by content
_COUNTS = collections.Counter({"compilations": 0})


def compilations() -> int:
    """Return how many training loops this process has compiled: in `fit`, `solve` and runs.

    Example:
      >>> import jax.numpy as jnp
      >>> import lrnn_jax as lj
      >>> x = jnp.linspace(-1, 1, 8)[:, None]
      >>> model = lj.Siren(in_dim=1, out_dim=1, width=4, depth=1)
      >>> before = compilations()
      >>> for seed in range(3):
      ...     params, losses = lj.fit(model, lambda u, x, key: jnp.mean(u(x) ** 2), x, key=seed)
      >>> compilations() - before
      1
    """
    return _COUNTS["compilations"]


def count_compilation() -> None:
    """Count a training loop. It is called where the loop is traced."""
    _COUNTS["compilations"] += 1


class Programs:
    """A bounded, thread-safe cache of programs that evicts the least recently used one.

    It holds at most `capacity` programs. An evicted program and its executables are freed if
    nothing else refers to them, because JAX's own caches hold weak references to a jitted function.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._programs: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable | None, make: Callable[[], Any]) -> Any:
        """Return the program of `key`, and make it if there is none.

        If `key` is None, the program is made and not stored.
        """
        if key is None:
            return make()
        with self._lock:
            if key not in self._programs:
                self._programs[key] = make()
                if len(self._programs) > self.capacity:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(key)
            return self._programs[key]


def structural_key(*values: Any) -> Hashable | None:
    """Return a hashable key that is equal for values that describe the same computation.

    Values are compared as follows:

    * Functions: by code, defaults, closure, and the globals that their code reads. Globals are read
      when the function is first seen, so that a function always equals itself, as with `jax.jit`.
      Functions among the globals are compared in the same way if they belong to the same module,
      and otherwise by identity.
    * Dataclasses with the generated `==`, named tuples, containers, `functools.partial` and bound
      methods: by their contents.
    * Numbers and strings: by type and value. 1, 1.0 and True therefore differ, and so do -0.0 and
      0.0.
    * NumPy arrays, and JAX arrays of up to 1 MiB: by dtype, shape and content.
    * Objects whose class defines `==`: by `==` if they are hashable, and otherwise by identity.
    * Other objects of classes that are written in Python: by class and attributes.
    * All other objects, such as jitted functions: by identity.
    * Values with more than 10,000 parts: by identity.

    The key does not include what a function reaches through an attribute of a module, or of an
    object that is compared by identity. `jax.jit` behaves in the same way.

    Args:
      values: the values that a program depends on.

    Returns:
      The key, or None if a value contains a tracer of a surrounding transformation. The key keeps
      references to the values that it compares by identity.
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
    """A value contains a tracer."""


class _TooManyError(Exception):
    """A value has more than `_MOST_NODES` parts."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Identity:
    """A key that is equal if its value is the same object.

    It keeps a reference to the value, so that the id of the value is not reused.
    """

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


_KEYS: weakref.WeakKeyDictionary[types.FunctionType, Hashable] = weakref.WeakKeyDictionary()


def _function_key(function: types.FunctionType) -> Hashable:
    """Return the key of a function that is not reached through another one; it is cached."""
    key = _KEYS.get(function)
    if key is None:
        key = _KEYS[function] = _Walk(within=True).key(function)
    return key


class _Walk:
    """One traversal of a value. A repeated object is represented by the index of its first visit.

    `within` states whether the traversal begins at a function. Functions that it reaches are then
    part of the key of that function, and their own cached keys are not used.
    """

    def __init__(self, within: bool = False) -> None:
        self.within = within
        self.visited: dict[int, int] = {}
        self.alive: list[Any] = []  # references, so that no id is reused in this traversal
        self.nodes = 0

    def key(self, value: Any) -> Hashable:
        """Return the key of a value."""
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise _TooManyError
        if value is None or isinstance(value, bool | int | str | bytes):
            return (type(value), value)
        if isinstance(value, float | complex):
            return (type(value), repr(value))  # -0.0 differs from 0.0, and NaN equals NaN
        if isinstance(value, Tracer):
            raise _TracerError
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return self._array(value)
        if id(value) in self.visited:
            return ("visited", self.visited[id(value)])
        self.visited[id(value)] = len(self.visited)
        self.alive.append(value)
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
        attributes = sorted(vars(value).items())
        return (type(value), *((name, self.key(attribute)) for name, attribute in attributes))

    def _function(self, function: types.FunctionType) -> Hashable:
        names = sorted(_names(function.__code__) & function.__globals__.keys())
        return (
            function.__code__,
            self.key(function.__defaults__),
            self.key(function.__kwdefaults__),
            tuple(self._cell(cell) for cell in function.__closure__ or ()),
            tuple((n, self._global(function, function.__globals__[n])) for n in names),
        )

    def _cell(self, cell: types.CellType) -> Hashable:
        try:
            return self.key(cell.cell_contents)
        except ValueError:  # the variable of the closure is not assigned yet
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
    """Whether the value is a dataclass instance whose `==` was generated by `dataclasses`."""
    parameters = type(value).__dict__.get("__dataclass_params__")
    code = getattr(type(value).__eq__, "__code__", None)
    # `dataclasses` compiles its methods from strings; a method of a class body has a file name.
    generated = getattr(code, "co_filename", None) == "<string>"
    return parameters is not None and parameters.eq and generated


_COMPILED = type(jax.jit(abs))


def _is_plain_object(value: Any) -> bool:
    """Whether the object is fully described by its `__dict__`: its classes are written in Python.

    A class counts as written in Python if one of its methods is a Python function. Classes of
    compiled libraries have none, except JAX's jitted functions, which are excluded by type.
    """
    if isinstance(value, type | _COMPILED) or not hasattr(value, "__dict__"):
        return False
    classes = set(type(value).__mro__) - {object, typing.Generic, typing.Protocol}
    return all(any(isinstance(m, types.FunctionType) for m in vars(c).values()) for c in classes)


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> frozenset[str]:
    """Return the names of the globals that a code object and its nested functions read."""
    loads = [i for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return frozenset(load.argval for load in loads).union(*map(_names, inner))
