"""The training step and two loops over it: the pure `fit`, and `make_advance` for the host.

A step is a pure function of (state, data, key). `fit` scans it, and can be vmapped over seeds,
signals or learning rates. `make_advance` compiles a loop whose number of steps is an argument, so
that a single executable serves a run from its start to its end. A resumed run uses the same
program, and its results are equal bit for bit.
"""

import contextlib
import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int

from lrnn_jax.errors import InputError
from lrnn_jax.fields import BoundModel
from lrnn_jax.kernels.varying import vary_alike
from lrnn_jax.optimizers import Result, result_of
from lrnn_jax.training.early_stopping import Best
from lrnn_jax.training.points import (
    PointSharding,
    automatic,
    check_counts,
    check_lengths,
    draw,
    mean_over_points,
    point_sharding,
    require_checks,
    require_equal_on_devices,
)
from lrnn_jax.training.programs import Programs, count_compilation, structural_key
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


def fit(  # noqa: PLR0913 - the ingredients of a training run, most with defaults
    model: ModelLike,
    loss: Loss,
    data: Data = None,
    optimizer: optax.GradientTransformation | ArrayLike = 1e-3,
    *,
    steps: int = 1000,
    key: Key | int = 0,
    params: Params = None,
    batch: int | None = None,
    chunk: int | None = None,
    progress: bool = False,
    callback: Callable[[int, float], Any] | None = None,
    on_nonfinite: Literal["raise", "return"] = "raise",
) -> tuple[Params, Float[Array, "steps"]]:
    """Minimise loss(u, data, key) over the parameters of the field u(x) = model.apply(params, x).

    The function is pure: `jax.vmap` of it trains a population of models in parallel. If the first
    axes of `data` are spread over devices, each device computes with its own points, and a step
    communicates once.

    Calls with equal models, losses and optimizers, and data of equal shapes, compile once. This
    holds even if the loss and the optimizer are new objects in each call: functions are compared by
    their code and by the values that they read (`training.programs.structural_key`). The 64 most
    recently used programs are kept. `lrnn_jax.training.compilations()` counts the compilations.

    Args:
      model: any hashable object with `init(key)` and `apply(params, x)`.
      loss: loss(u, data, key) -> a scalar, or a scalar and a dict of named terms; u is a
        `BoundModel`, so that `u.params` has the parameters.
      data: a pytree of arrays; None for a loss that needs none.
      optimizer: an optax transformation, or a number: the learning rate of Adam. Another number
        compiles nothing, and `jax.vmap` over it trains with several learning rates.
      steps: number of updates, >= 1.
      key: random key, or its seed, for the initial parameters, for batches and for losses that draw
        random numbers.
      params: initial parameters; None draws them with `model.init`.
      batch: number of points drawn for each step, with replacement, for a loss that is a mean over
        the first axis of every leaf of `data`; None uses all points.
      chunk: number of points that a device processes at a time to bound memory, for a loss that is
        a mean over the first axis of every leaf of `data`; None processes all points at once.
      progress: whether to print the step and the loss about a hundred times.
      callback: callback(step, loss), called about a hundred times with the loss before the update.
        It runs on the host while the program goes on, and under `jax.vmap` once for each member.
      on_nonfinite: 'raise' raises an error if a loss is not finite, and waits for the losses to be
        computed. 'return' returns the losses without waiting. Under a JAX transformation such as
        `jax.vmap`, no error is raised.

    Returns:
      The fitted parameters, and the loss before each update, shape (steps,).

    Raises:
      InputError: steps, batch or chunk is below 1; the leaves have unequal lengths and batch or
        chunk is given; loss is not a function; a loss is not finite.

    Example:
      >>> from lrnn_jax import LRNN
      >>> x = jnp.linspace(-1, 1, 64)[:, None]
      >>> mse = lambda u, data, key: jnp.mean((u(data[0]) - data[1]) ** 2)
      >>> model = LRNN(in_dim=1, out_dim=1, rank=4, components=2)
      >>> params, losses = fit(model, mse, (x, x**2), optax.adam(1e-3), key=1, steps=50)
      >>> bool(losses[-1] < losses[0] / 2)
      True
    """
    check_counts(steps=steps, batch=batch, chunk=chunk)
    check_lengths(data, batch or chunk)
    _check_ingredients(loss, optimizer)
    rate = jnp.asarray(optimizer, float) if _is_number(optimizer) else None
    given = optimizer if rate is None else None
    key = jax.random.key(key) if isinstance(key, int) else key
    init_key, loop_key = jax.random.split(key)
    start = model.init(init_key) if params is None else params
    # Within `jax.shard_map`, the gradients of parameters that start as constants would otherwise be
    # summed over devices that have their own keys.
    start, _ = vary_alike((start, loop_key))
    data = automatic(data)
    report = _reporter(steps, progress, callback)
    sharding = point_sharding(data) if batch or chunk else None
    recipe = (model, loss, given, steps, batch, chunk, sharding, report is not None)
    program = _PROGRAMS.get(structural_key(*recipe), lambda: _program(*recipe))
    with _listening(report) as listener:
        fitted, losses = program(start, data, loop_key, listener, rate)
    if on_nonfinite == "raise" and not isinstance(losses, Tracer):
        _require_finite(losses, data)
    return fitted, losses


def _check_ingredients(loss: Any, optimizer: Any) -> None:
    """Check that the loss is a function of three arguments, and what the optimizer is.

    Raises:
      InputError: it is something else; the message says how such a call is written.
    """
    if not callable(loss):
        raise InputError(
            f"loss: expected a function loss(u, data, key), got a {type(loss).__name__}; for "
            "example lambda u, data, key: jnp.mean((u(data[0]) - data[1]) ** 2); a problem is "
            "fitted by lrnn_jax.solve(model, problem)"
        )
    if not (_is_number(optimizer) or hasattr(optimizer, "update")):
        raise InputError(
            f"optimizer: expected a learning rate or an optax optimizer, got a "
            f"{type(optimizer).__name__}; data of several arrays are one tuple (x, y)"
        )
    try:
        signature = inspect.signature(loss)
    except ValueError:  # a function of C has no signature
        return
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise InputError(
            f"loss: expected a function of (u, data, key), got one of {signature}; for example "
            "lambda u, data, key: jnp.mean((u(data[0]) - data[1]) ** 2)"
        ) from error


def _is_number(value: Any) -> bool:
    """Whether the value is a number, or an array of shape () that may be traced."""
    return isinstance(value, int | float | np.ndarray | np.generic | jax.Array) and not np.ndim(
        value
    )


_PROGRAMS = Programs(64)
_REPORTS = 100  # calls of a callback in one fit
_LISTENERS: dict[int, Callable[[int, float], Any]] = {}
"""The callbacks of the fits that run now. Programs receive only the number of theirs, so that fits
with different callbacks share a program."""


def _reporter(
    steps: int, progress: bool, callback: Callable[[int, float], Any] | None
) -> Callable[[int, float], Any] | None:
    """The function that receives the step and the loss; None if nobody asked for them."""
    if not progress:
        return callback

    def report(step: int, loss: float) -> None:
        print(f"step {step}/{steps}  loss {loss:.4g}", file=sys.stderr, flush=True)
        if callback is not None:
            callback(step, loss)

    return report


@contextlib.contextmanager
def _listening(report: Callable[[int, float], Any] | None) -> Iterator[np.int32]:
    """Register a callback within the context, and yield its number."""
    number = next(_NUMBERS)
    if report is not None:
        _LISTENERS[number] = report
    try:
        yield np.int32(number)
    finally:
        if report is not None:
            jax.effects_barrier()  # the last calls may not have been made yet
            del _LISTENERS[number]


_NUMBERS = itertools.count()


def _report(listener: Any, step: Any, loss: Any) -> None:
    report = _LISTENERS.get(int(listener))
    if report is not None:
        report(int(step), float(loss))


def _program(
    model: ModelLike,
    loss: Loss,
    optimizer: Any,
    steps: int,
    batch: int | None,
    chunk: int | None,
    sharding: PointSharding | None,
    reports: bool,
) -> Any:
    """Build the jitted loop of `fit`: a new function, freed once nothing refers to it.

    Without an optimizer, the function takes the learning rate of Adam.
    """
    every = max(1, steps // _REPORTS)

    def run(
        params: Params, data: Data, key: Key, listener: jax.Array, rate: jax.Array | None
    ) -> tuple[Params, jax.Array]:
        count_compilation()
        chosen = optimizer if rate is None else optax.adam(rate)
        step = make_step(model, loss, chosen, batch=batch, chunk=chunk, sharding=sharding)

        def report(number: jax.Array, value: jax.Array) -> None:
            jax.debug.callback(_report, listener, number, value, ordered=False)

        def body(state: State, _):
            number = state.step
            state, terms = step(state, data, key)
            if reports:
                due = number % every == 0
                lax.cond(due, report, lambda *_: None, number, terms["loss"])
            return state, terms["loss"]

        state, losses = lax.scan(body, initial_state(params, chosen), length=steps)
        return state.params, losses

    return jax.jit(run)


def _require_finite(losses: jax.Array, data: Data) -> None:
    """Raise an InputError with the first loss that is not finite and a likely reason."""
    finite = np.isfinite(np.asarray(losses))
    if finite.all():
        return
    step = int(np.argmin(finite))
    is_key = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)  # noqa: E731
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(data) if not is_key(leaf)]
    if any(leaf.size == 0 for leaf in leaves):
        reason = "the data have no rows"
    elif any(leaf.dtype.kind in "fc" and not np.isfinite(leaf).all() for leaf in leaves):
        reason = "the data have values that are not finite"
    elif step == 0:
        reason = "the loss or the parameters are not finite at the start"
    else:
        reason = "try a smaller learning rate, or on_nonfinite='return' to see the losses"
    raise InputError(f"the loss became {float(losses[step])} at step {step}: {reason}")


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
