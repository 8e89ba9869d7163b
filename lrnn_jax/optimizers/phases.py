"""`switch`: train with one optimizer first, and with another one afterwards."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Int

from lrnn_jax.optimizers.stopping import require_count, require_optimizer, result_of


class SwitchState(NamedTuple):
    """State of `switch`.

    Attributes:
      count: number of updates; it stays at `at` + 1 after the switch.
      result: the `Result` of the active optimizer.
      first: state of the first optimizer.
      second: state of the second optimizer.
    """

    count: Int[Array, ""]
    result: Int[Array, ""]
    first: optax.OptState
    second: optax.OptState


def switch(
    first: optax.GradientTransformation, second: optax.GradientTransformation, at: int
) -> optax.GradientTransformationExtraArgs:
    """Use `first` for the first `at` updates and `second` for all later ones.

    `second` is initialised with the parameters at the switch, so that its state contains nothing
    from before. The state of `first` is kept after the switch but is not used. Switches can be
    nested.

    Args:
      first: any optax transformation.
      second: any optax transformation.
      at: number of updates by `first`, >= 0.

    Returns:
      An optax transformation whose state is a `SwitchState`.

    Example:
      >>> from lrnn_jax.optimizers import lbfgs
      >>> optimizer = switch(optax.adam(1e-3), lbfgs(), at=5000)
    """
    early, late = require_optimizer("first", first), require_optimizer("second", second)
    require_count("at", at, 0)

    def init(params):
        begun, waiting = early.init(params), late.init(params)
        stop = result_of(begun) if at else result_of(waiting)
        return SwitchState(jnp.zeros((), jnp.int32), stop, begun, waiting)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any):
        like = updates if params is None else params

        def by_first():
            step, inner = early.update(updates, state.first, params, **extra)
            return _like(step, like), result_of(inner), inner, state.second

        def by_second():
            begun = lax.cond(
                state.count == at,
                lambda: _like(late.init(params), state.second),
                lambda: state.second,
            )
            step, inner = late.update(updates, begun, params, **extra)
            return _like(step, like), result_of(inner), state.first, inner

        step, *rest = lax.cond(state.count < at, by_first, by_second)
        # The count stops at at + 1, so that it cannot overflow.
        count = jnp.minimum(state.count, at) + 1
        return step, SwitchState(count, *rest)

    return optax.GradientTransformationExtraArgs(init, update)


def _like(tree, other):
    """Cast the leaves of a tree to the dtypes of another tree.

    The branches of `lax.cond` must agree in their dtypes, and two optimizers need not.
    """
    return jax.tree.map(lambda leaf, like: jnp.asarray(leaf, like.dtype), tree, other)
