"""The training step, and `make_advance`, a loop over it that the host calls.

A step is a pure function of (state, data, key). `make_advance` compiles a loop whose number of
steps is an argument, so that a single executable serves a run from its start to its end. A resumed
run uses the same program, and its results are equal bit for bit. `fitting.fit` scans the step, and
`streaming.fit_batches` takes one step for each batch of an iterable.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Int

from lrnn_jax.errors import InputError
from lrnn_jax.fields import BoundModel
from lrnn_jax.kernels.varying import vary_alike
from lrnn_jax.optimizers import Result, result_of
from lrnn_jax.training.early_stopping import Best
from lrnn_jax.training.points import (
    PointSharding,
    check_counts,
    draw,
    mean_over_points,
    require_checks,
    require_equal_on_devices,
)
from lrnn_jax.typing import Data, Key, Loss, ModelLike, Params, Terms


class State(NamedTuple):
    """Everything that training changes. A checkpoint stores exactly this.

    Attributes:
      params: the parameters.
      opt_state: state of the optimizer, including its `Result`.
      step: number of updates.
      points: collocation points, if training resamples them; else None.
      weights: weights of the parts of the loss, if training balances them; else None.
      best: the best validation so far, if early stopping is used; else None.
    """

    params: Params
    opt_state: optax.OptState
    step: Int[Array, ""]
    points: Data = None
    weights: Terms | None = None
    best: Best | None = None


Step = Callable[[State, Data, Key], tuple[State, Terms]]
"""step(state, data, key) -> (next state, terms): the loss and its terms before the update.

The first entry of the terms is "loss".
"""


def initial_state(params: Params, optimizer: optax.GradientTransformation) -> State:
    """Return the state before the first step."""
    return State(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def make_step(
    model: ModelLike,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    batch: int | None = None,
    chunk: int | None = None,
    sharding: PointSharding | None = None,
) -> Step:
    """Build the function that computes one update of the parameters.

    Args:
      model: maps parameters and points to values.
      loss: loss(u, data, key); with batch or chunk, a mean over the first axis of every leaf of
        `data`.
      optimizer: an optax transformation. If it accepts extra arguments, it receives `value`, `grad`
        and `value_fn(params)`.
      batch: number of points of a mini-batch, drawn with replacement at each step; None uses all
        points.
      chunk: number of points whose gradient a device computes at a time. The gradients of the
        chunks are accumulated to the gradient of the batch. The intermediates of only one chunk
        exist at a time. None processes the batch at once.
      sharding: the devices that share the points, for a loss that is a mean as with batch or chunk;
        None leaves the distribution to the compiler.

    Returns:
      step(state, data, key). Its random key is `key` folded with `state.step`. Within
      `jax.shard_map`, with its checks on, a loss that is averaged by `jax.lax.pmean` has the
      gradient of the average.

    Raises:
      InputError: batch or chunk below 1; batch is no multiple of the number of devices that store
        the points; when it is traced, the loss differs between devices with equal parameters.
    """
    check_counts(batch=batch, chunk=chunk)
    if sharding is not None and sharding.stored and (batch or 0) % sharding.size:
        raise InputError(
            f"batch: expected a multiple of the {sharding.size} parts of the points, got {batch}"
        )

    def objective(params: Params, data: Data, key: Any) -> tuple[jax.Array, Terms]:
        field = BoundModel(model, params)
        value = loss(field, data, key)
        return value if isinstance(value, tuple) else (value, {})

    gradient = jax.value_and_grad(objective, has_aux=True)

    def step(state: State, data: Data, key: Key) -> tuple[State, Terms]:
        batch_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        points = draw(data, batch, batch_key, sharding)
        require_checks(objective, state.params, points, loss_key)
        mean = functools.partial(
            mean_over_points, data=points, key=loss_key, chunk=chunk, sharding=sharding
        )
        (value, terms), grads = mean(gradient, state.params)
        require_equal_on_devices({"loss": value, **terms}, state.params)
        following = apply_update(
            state,
            optimizer,
            value,
            grads,
            value_fn=with_gradient(
                lambda params: mean(objective, params)[0],
                functools.partial(mean, gradient),
            ),
        )
        return following, {"loss": value, **terms}

    return step


def with_gradient(
    value: Callable[[Params], jax.Array],
    gradient: Callable[[Params], tuple[tuple[jax.Array, Any], Params]],
) -> Callable[[Params], jax.Array]:
    """Return the function `value`, whose derivatives are computed by gradient(params).

    A line search differentiates the loss. JAX would store the intermediates of all chunks of points
    for it, and cannot differentiate a checkpointed loss of spread points within a loop. `gradient`,
    the function of the step itself, returns ((value, terms), gradient) chunk by chunk.
    """
    function = jax.custom_jvp(value)

    @function.defjvp
    def _(primals: tuple[Params], tangents: tuple[Params]) -> tuple[jax.Array, jax.Array]:
        (result, _), grads = gradient(*primals)
        products = jax.tree.map(lambda g, t: jnp.sum(g * t).real, grads, *tangents)
        return result, sum(jax.tree.leaves(products), jnp.zeros_like(result))

    return function


def apply_update(
    state: State, optimizer: Any, value: jax.Array, grads: Params, **extra: Any
) -> State:
    """Return the state after one update; an optimizer may ignore `value` and `extra`."""
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        grads, state.opt_state, state.params, value=value, grad=grads, **extra
    )
    params = optax.apply_updates(state.params, updates)
    return state._replace(params=params, opt_state=opt_state, step=state.step + 1)


def make_advance(step: Step, capacity: int, shardings: Any = None):
    """Build a jitted advance(state, data, key, count) -> (state, history, done).

    The function takes `count` <= `capacity` steps; `count` is traced, so that all counts share one
    program. It stops early after the first loss that is not finite, or once the optimizer has
    stopped. `done` is the number of steps taken. `history` contains the terms of each step in
    arrays of length `capacity`, whose first `done` entries are filled. `state` is donated.
    `shardings`, a pytree, states the devices of the next state; None leaves them to the compiler.
    """

    advance = functools.partial(advance_steps, step, capacity)
    return jax.jit(advance, donate_argnums=0, out_shardings=(shardings, None, None))


def advance_steps(
    step: Step, capacity: int, state: State, data: Data, key: Key, count: Int[Array, ""]
) -> tuple[State, Terms, Int[Array, ""]]:
    """The function that `make_advance` compiles."""
    step = jax.jit(step, inline=True)  # traced once, for the shapes and for the loop
    terms = jax.eval_shape(step, state, data, key)[1]
    history = {name: jnp.full((capacity,), jnp.nan, t.dtype) for name, t in terms.items()}

    def proceed(carry):
        state, _, done, finite = carry
        return (done < count) & finite & (result_of(state.opt_state) == Result.RUNNING)

    def body(carry):
        state, history, done, _ = carry
        state, terms = step(state, data, key)
        history = {name: history[name].at[done].set(terms[name]) for name in history}
        return state, history, done + 1, jnp.isfinite(terms["loss"])

    carry = (state, history, jnp.zeros((), jnp.int32), jnp.array(True))
    state, history, done, _ = lax.while_loop(proceed, body, vary_alike((carry, count))[0])
    return state, history, done


def compiler_options() -> dict[str, Any]:
    """Return the XLA options of `Trainer`, for `lowered.compile(compiler_options())`.

    On a CPU, XLA prefers vectors of 256 bits; the option allows it to use wider ones. Options can
    be given only to an outermost program. `fit` and `make_advance` can be called within another
    jitted function, and therefore set none.
    """
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}
