"""The platform that a program is traced for, where the best form of a function depends on it.

`jax.lax.platform_dependent` would trace and differentiate the forms of all platforms, which takes
longer than a short program runs.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

__all__ = ["traced_for", "traced_platform"]

_PLATFORM: ContextVar[str | None] = ContextVar("platform", default=None)


def traced_platform() -> str:
    """'cpu', 'gpu' or 'tpu': JAX's default backend, unless `traced_for` names another."""
    return _PLATFORM.get() or jax.default_backend()


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """Context for programs that are compiled ahead of time for another platform.

    JAX does not trace a function again that it has traced outside of the context.
    """
    token = _PLATFORM.set(platform)
    try:
        yield
    finally:
        _PLATFORM.reset(token)
