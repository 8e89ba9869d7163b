"""`fit`: minimise a loss over the parameters of a model, as one pure function."""

import contextlib
import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.errors import InputError
from lrnn_jax.kernels.varying import vary_alike
from lrnn_jax.training.loop import State, initial_state, make_step
from lrnn_jax.training.points import (
    PointSharding,
    automatic,
    check_counts,
    check_lengths,
    point_sharding,
)
from lrnn_jax.training.programs import Programs, count_compilation, structural_key
from lrnn_jax.training.streaming import (
    advance_over_batches,
    is_iterable_of_batches,
    repeated,
)
from lrnn_jax.typing import Data, Key, Loss, ModelLike, Params


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
      data: a pytree of arrays; None for a loss that needs none. Or an iterable of batches, each a
        pytree of arrays, such as a generator or a Grain dataset, for data that do not fit in
        memory: each step takes the next batch. A list or a tuple is a pytree; `iter` makes it an
        iterable. The batches should have equal shapes, because each shape is compiled once.
      optimizer: an optax transformation, or a number: the learning rate of Adam. Another number
        compiles nothing, and `jax.vmap` over it trains with several learning rates.
      steps: number of updates, >= 1. An iterable that ends before is iterated again; an iterator,
        which can be iterated only once, ends the training.
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
      The fitted parameters, and the loss before each update, shape (steps,), or shorter if an
      iterator of batches has ended.

    Raises:
      InputError: steps, batch or chunk is below 1; an iterable has no batch, or batch is given as
        well; the leaves have unequal lengths and batch or chunk is given; loss is not a function; a
        loss is not finite.

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
    _check_ingredients(loss, optimizer)
    rate = jnp.asarray(optimizer, float) if _is_number(optimizer) else None
    given = optimizer if rate is None else None
    key = jax.random.key(key) if isinstance(key, int) else key
    init_key, loop_key = jax.random.split(key)
    start = model.init(init_key) if params is None else params
    # Within `jax.shard_map`, the gradients of parameters that start as constants would otherwise be
    # summed over devices that have their own keys.
    start, _ = vary_alike((start, loop_key))
    report = _reporter(steps, progress, callback)
    if is_iterable_of_batches(data):
        if batch is not None:
            raise InputError("batch: the iterable `data` yields the batches; leave it out")
        recipe = (model, loss, given, chunk)
        return _fit_batches(recipe, start, data, loop_key, rate, steps, report, on_nonfinite)
    check_lengths(data, batch or chunk)
    data = automatic(data)
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


def _fit_batches(
    recipe: tuple[ModelLike, Loss, Any, int | None],
    start: Params,
    data: Iterable[Data],
    key: Key,
    rate: jax.Array | None,
    steps: int,
    report: Callable[[int, float], Any] | None,
    on_nonfinite: str,
) -> tuple[Params, jax.Array]:
    """Train with one step for each batch of `data`.

    Raises:
      InputError: there is no batch; the leaves of a batch have unequal lengths and `recipe` has a
        chunk; a loss is not finite.
    """
    *_, optimizer, chunk = recipe
    every = max(1, steps // _REPORTS)

    @functools.cache
    def program(sharding: PointSharding | None) -> Any:
        built = functools.partial(_batch_program, *recipe, sharding)
        return _PROGRAMS.get(structural_key("batch", *recipe, sharding), built)

    def advance(state: State, batch: Data) -> tuple[State, jax.Array]:
        check_lengths(batch, chunk)
        sharding = point_sharding(batch) if chunk else None
        return program(sharding)(state, automatic(batch), key, rate)

    def on_loss(step: int, loss: np.ndarray) -> bool:
        if report is not None and step % every == 0:
            report(step, float(loss))
        return on_nonfinite == "return" or bool(np.isfinite(loss))

    chosen = optimizer if rate is None else optax.adam(rate)
    state = jax.tree.map(jnp.copy, initial_state(start, chosen))  # `program` donates it
    state, losses, batch = advance_over_batches(advance, state, repeated(data), steps, on_loss)
    values = jnp.asarray(losses)
    if on_nonfinite == "raise":
        _require_finite(values, batch)
    return state.params, values


def _batch_program(
    model: ModelLike, loss: Loss, optimizer: Any, chunk: int | None, sharding: PointSharding | None
) -> Any:
    """Build the jitted step of `fit` for an iterable of batches; see `_program`."""

    def run(state: State, batch: Data, key: Key, rate: jax.Array | None) -> tuple[State, jax.Array]:
        count_compilation()
        chosen = optimizer if rate is None else optax.adam(rate)
        step = make_step(model, loss, chosen, chunk=chunk, sharding=sharding)
        state, terms = step(state, batch, key)
        return state, terms["loss"]

    return jax.jit(run, donate_argnums=0)


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
