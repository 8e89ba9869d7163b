"""The points of a step: drawn for a batch, processed in chunks, and spread over devices."""

import functools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lrnn_jax.errors import InputError
from lrnn_jax.kernels.varying import varying_axes
from lrnn_jax.typing import Data, Key, Params

Means = Callable[[Params, Data, Key | None], Any]
"""means(params, data, key): a pytree of means over the first axis of every leaf of `data`."""


class PointSharding(NamedTuple):
    """The devices that share the points of a step; each processes an equal number of them.

    Attributes:
      mesh: the devices.
      axes: the axes of the mesh over which the points are spread.
      stored: whether each device stores only its own points; else each stores all of them.
    """

    mesh: Mesh
    axes: tuple[str, ...]
    stored: bool

    @property
    def size(self) -> int:
        """The number of parts."""
        return math.prod(self.mesh.shape[axis] for axis in self.axes)

    @property
    def points(self) -> PartitionSpec:
        """The layout of an array whose first axis is the points."""
        return PartitionSpec(self.axes)

    def place(self, tree: Any) -> Any:
        """Copy to all devices of the mesh what is not on all of them."""
        replicated = NamedSharding(self.mesh, PartitionSpec())
        devices = set(self.mesh.devices.flat)

        def placed(leaf: Any) -> jax.Array:
            if isinstance(leaf, jax.Array) and leaf.sharding.device_set == devices:
                return leaf
            if replicated.is_fully_addressable:
                return jax.device_put(leaf, replicated)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                data = placed(jax.random.key_data(leaf))
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, replicated, lambda index: host[index])

        return jax.tree.map(placed, tree)


def over_all_devices() -> PointSharding:
    """All devices of all hosts share the points, and each of them stores all points."""
    return PointSharding(Mesh(np.asarray(jax.devices()), ("points",)), ("points",), stored=False)


def point_sharding(data: Data) -> PointSharding | None:
    """Return how the first axes of arrays are spread over devices; None if they are not.

    Raises:
      InputError: they are spread in different ways.
    """
    arrays = [
        a for a in jax.tree.leaves(data) if isinstance(a, jax.Array) and not isinstance(a, Tracer)
    ]
    found = {_first_axis(array.sharding) for array in arrays if array.ndim} or {None}
    if len(found) > 1:
        raise InputError(
            "data: the first axes of the arrays are spread over devices in different ways, "
            f"{sorted(str(s and s.points) for s in found)}; place them all with one NamedSharding"
        )
    return found.pop()


def automatic(tree: Any) -> Any:
    """Move arrays from a mesh with explicit axes to one whose shardings the compiler chooses."""

    def converted(leaf: Any) -> Any:
        mesh = None if isinstance(leaf, Tracer) else _mesh(getattr(leaf, "sharding", None))
        if mesh is None or AxisType.Explicit not in mesh.axis_types:
            return leaf
        same = Mesh(np.asarray(mesh.devices), mesh.axis_names)
        return jax.device_put(leaf, NamedSharding(same, leaf.sharding.spec))

    return jax.tree.map(converted, tree)


def _first_axis(sharding: Any) -> PointSharding | None:
    """The devices over which a sharding spreads the first axis."""
    mesh = _mesh(sharding)
    if mesh is None or not sharding.spec:
        return None
    first = sharding.spec[0]
    axes = first if isinstance(first, tuple) else (first,)
    used = tuple(axis for axis in axes if isinstance(axis, str) and mesh.shape[axis] > 1)
    return PointSharding(mesh, used, stored=True) if used else None


def _mesh(sharding: Any) -> Mesh | None:
    """The devices of a `NamedSharding`; None for any other sharding."""
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    return mesh if isinstance(mesh, Mesh) else None


def draw(data: Data, batch: int | None, key: Key, sharding: PointSharding | None) -> Data:
    """Draw `batch` points with replacement; return all points if there are at most `batch`.

    Devices that store only their own points draw `batch / sharding.size` of them each.
    """
    points = check_lengths(data, batch)
    if batch is None or points <= batch:
        return data
    if sharding is None or not sharding.stored:
        return _rows(data, key, batch)

    def local(data: Data, keys: jax.Array) -> Data:
        return _rows(data, keys[0], batch // sharding.size)

    spread = jax.shard_map(
        local, mesh=sharding.mesh, in_specs=sharding.points, out_specs=sharding.points
    )
    return spread(data, _device_keys(key, sharding))


def _rows(data: Data, key: Key, count: int) -> Data:
    rows = jax.random.randint(key, (count,), 0, len(jax.tree.leaves(data)[0]))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], data)


def _device_keys(key: Key, sharding: PointSharding) -> jax.Array:
    """A key for each device."""
    return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(sharding.size))


def mean_over_points(
    means: Means,
    params: Params,
    data: Data,
    key: Key | None,
    chunk: int | None,
    sharding: PointSharding | None = None,
) -> Any:
    """Compute means(params, data, key), chunk by chunk on each of the devices.

    Args:
      means: for example a loss and its gradient.
      params: passed to `means`.
      data: a pytree of arrays whose first axes have the same length.
      key: folded with the indices of the device and of the chunk; None is passed unchanged.
      chunk: number of points of a chunk on each device; None processes all points at once.
      sharding: the devices; None is one device. Their means are averaged once, after the last
        chunk: all communication of a step is this one all-reduce. Within `jax.shard_map` over
        their axes, `params`, `data` and `key` must be equal on all of them.
    """
    if sharding is None:
        return mean_over_chunks(means, params, data, key, chunk)
    points = check_lengths(data, 1)
    rest = points % sharding.size
    if not rest:
        return _mean_over_devices(means, params, data, key, chunk, sharding)
    # All devices process the points that cannot be shared equally.
    tail = jax.tree.map(lambda a: a[points - rest :], data)
    last = mean_over_chunks(means, params, tail, key, chunk)
    if rest == points:
        return last
    head = jax.tree.map(lambda a: a[: points - rest], data)
    first = _mean_over_devices(means, params, head, key, chunk, sharding)
    return jax.tree.map(lambda a, b: a + (b - a) * (rest / points), first, last)


def _mean_over_devices(
    means: Means,
    params: Params,
    data: Data,
    key: Key | None,
    chunk: int | None,
    sharding: PointSharding,
) -> Any:
    def local(params: Params, data: Data, keys: jax.Array | None) -> Any:
        # The gradient with respect to parameters that are equal on all devices would be summed over
        # the devices in each chunk.
        own = lax.pcast(params, sharding.axes, to="varying")
        own_key = None if keys is None else keys[0]
        return lax.pmean(mean_over_chunks(means, own, data, own_key, chunk), sharding.axes)

    keys = None if key is None else _device_keys(key, sharding)
    if set(sharding.axes) <= set(jax.sharding.get_abstract_mesh().manual_axes):
        return local(params, *_own_part((data, keys), sharding))
    everywhere, points = PartitionSpec(), sharding.points
    spread = jax.shard_map(
        local, mesh=sharding.mesh, in_specs=(everywhere, points, points), out_specs=everywhere
    )
    return spread(params, data, keys)


def _own_part(tree: Any, sharding: PointSharding) -> Any:
    """Within `jax.shard_map`: this device's part of arrays that each device stores completely."""
    index = lax.axis_index(sharding.axes)

    def part(leaf: jax.Array) -> jax.Array:
        size = len(leaf) // sharding.size
        return lax.dynamic_slice_in_dim(leaf, index * size, size)

    return jax.tree.map(part, tree)


def mean_over_chunks(
    means: Means, params: Params, data: Data, key: Key | None, chunk: int | None
) -> Any:
    """Compute means(params, data, key) as a mean over chunks, weighted by their points.

    Args:
      means: for example a loss and its gradient.
      params: passed to `means`.
      data: a pytree of arrays whose first axes have the same length.
      key: folded with the index of the chunk and passed to `means`; None is passed unchanged.
      chunk: number of points of a chunk; None processes all points at once.
    """
    points = check_lengths(data, chunk)
    if chunk is None or points <= chunk:
        return means(params, data, key)
    count, rest = divmod(points, chunk)

    def add(total: Any, index: Any, part: Data, size: int) -> Any:
        chunk_key = None if key is None else jax.random.fold_in(key, index)
        values = means(params, part, chunk_key)
        return jax.tree.map(lambda t, mean: t + mean * (size / points), total, values)

    def body(total: Any, numbered: tuple[Any, Data]):
        index, part = numbered
        return add(total, index, part, chunk), None

    chunks = jax.tree.map(lambda a: a[: count * chunk].reshape(count, chunk, *a.shape[1:]), data)
    shapes = jax.eval_shape(means, params, jax.tree.map(lambda a: a[0], chunks), key)
    total = jax.tree.map(lambda t: jnp.zeros_like(t), shapes)
    total, _ = lax.scan(body, total, (jnp.arange(count), chunks))
    # The scan needs chunks of equal size, so that the remaining points follow separately.
    tail = jax.tree.map(lambda a: a[count * chunk :], data)
    return add(total, count, tail, rest) if rest else total


def check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name}: expected an integer >= 1, got {count}")


def check_lengths(data: Data, cut: int | None) -> int:
    """Return the common length of the leaves' first axes, or 0 if `cut` is None.

    Raises an InputError if `cut` is given, and the lengths differ or a leaf is a scalar.
    """
    if cut is None:
        return 0
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or None in lengths:
        raise InputError(
            "batch and chunk need data whose leaves have one common first axis, got lengths "
            f"{sorted(str(n) for n in lengths)}"
        )
    return lengths.pop() or 0


def require_equal_on_devices(values: dict[str, jax.Array], params: Params) -> None:
    """Check that a loss and its terms are equal on devices that have equal parameters.

    Within `jax.shard_map`, the gradient of such parameters is the sum over the devices. It is the
    gradient of the mean only if the loss is averaged over the devices.

    Raises:
      InputError: a value differs between the devices.
    """
    equal = [varying_axes(leaf) for leaf in jax.tree.leaves(params)]
    for name, value in values.items():
        axes = frozenset().union(*(varying_axes(value) - own for own in equal))
        if axes:
            axis = sorted(axes)[0]
            raise InputError(
                f"loss: {name!r} differs between the devices of the mesh axis {axis!r}, and the "
                f"parameters do not; return jax.lax.pmean({name}, {axis!r}), or, if each device "
                "trains its own model, give each its own key"
            )


def require_checks(means: Callable[..., Any], *arguments: Any) -> None:
    """Check that `jax.shard_map` has its checks on, if a loss communicates between devices.

    Raises:
      InputError: it has not. Its gradient would then be that of one device alone.
    """
    axes = jax.sharding.get_abstract_mesh().manual_axes
    if not axes or varying_axes(lax.axis_index(axes[0])):
        return
    program = str(jax.make_jaxpr(means)(*arguments))
    if re.search(r"\b(psum|pmax|pmin|all_gather|reduce_scatter|ppermute|all_to_all)", program):
        raise InputError(
            "shard_map: a loss that communicates between devices needs check_vma=True; without it "
            "JAX does not average its gradient"
        )
