"""Training on batches that come from an iterable, for data that do not fit in memory."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.training.loop import State
from lrnn_jax.typing import Data

_AHEAD = 2  # number of steps that may wait on the device while the host prepares the next batch


def is_iterable_of_batches(data: Any) -> bool:
    """Whether `data` can be iterated and is neither an array nor a JAX pytree of arrays."""
    is_leaf = jax.tree_util.all_leaves([data])
    is_array = hasattr(data, "shape") or isinstance(data, str | bytes)
    return is_leaf and isinstance(data, Iterable) and not is_array


def repeated(batches: Iterable[Data]) -> Iterator[Data]:
    """Yield the batches as trees of arrays, and iterate again when they are used up.

    An iterator, such as a generator, can be iterated only once. It is not repeated.

    Raises:
      InputError: there is no batch.
    """
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.asarray(x), batch)
        if empty:
            raise InputError("data: the iterable has no batch")
        if iter(batches) is batches:
            return


def advance_over_batches(
    advance: Callable[[State, Data], tuple[State, jax.Array]],
    state: State,
    batches: Iterator[Data],
    steps: int,
    on_loss: Callable[[int, np.ndarray], bool],
) -> tuple[State, np.ndarray, Data]:
    """Take one step for each batch, and prepare the next batches while the device computes.

    Args:
      advance: advance(state, batch) -> (state, loss), compiled.
      state: the state before the first step.
      batches: the batches, at least one.
      steps: largest number of steps.
      on_loss: on_loss(step, loss) -> whether to go on. It is called once a loss is computed, up to
        `_AHEAD` steps after the step began.

    Returns:
      The state, the losses that were computed until `on_loss` returned False, and the batch of the
      last one of them.
    """
    queue: collections.deque[tuple[jax.Array, Data]] = collections.deque()
    losses: list[np.ndarray] = []
    batch: Data = None

    def proceed(most: int) -> bool:
        """Wait until at most `most` steps are queued; return whether to go on."""
        nonlocal batch
        while len(queue) > most:
            loss, batch = queue.popleft()
            losses.append(np.asarray(loss))
            if not on_loss(len(losses) - 1, losses[-1]):
                return False
        return True

    for following in itertools.islice(batches, steps):
        state, loss = advance(state, following)
        queue.append((loss, following))
        if not proceed(_AHEAD):
            break
    else:
        proceed(0)
    return state, np.stack(losses), batch
