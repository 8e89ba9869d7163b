"""Within `jax.shard_map`: which values differ between the devices, by their types."""

from typing import Any

import jax
from jax import lax

__all__ = ["shape_like", "vary_alike", "varying_axes"]


def varying_axes(value: Any) -> frozenset[str]:
    """The mesh axes along which a value differs; empty outside of `jax.shard_map`."""
    kind = getattr(jax.typeof(value), "manual_axis_type", None)
    return frozenset() if kind is None else frozenset(kind.varying)


def vary_alike(tree: Any) -> Any:
    """Mark all leaves as different along each axis along which one of them differs."""
    axes = frozenset().union(*map(varying_axes, jax.tree.leaves(tree)))

    def marked(leaf: Any) -> Any:
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(marked, tree) if axes else tree


def shape_like(value: jax.Array, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """The type of an array of another shape, with the dtype and the mesh axes of `value`."""
    kind = getattr(jax.typeof(value), "manual_axis_type", None)
    return jax.ShapeDtypeStruct(shape, value.dtype, manual_axis_type=kind)
