"""The training step and the two loops around it: `fit`, pure, and `advance`, for a host to call.

A step is a pure function of (state, data, key). `fit` scans it, so that it can be vmapped over
seeds, signals or learning rates. `make_advance` runs it a number of times that is not known when it
is compiled, so one executable serves a whole run, a resumed one too, to the same bit.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from lrnn_jax.errors import InputError
from lrnn_jax.optimizers import Result, result_of
from lrnn_jax.training.early_stopping import Best
from lrnn_jax.training.programs import Programs, structural_key
from lrnn_jax.typing import Data, Field, Key, Loss, ModelLike, Params, Terms

__all__ = [
    "State",
    "Step",
    "compiler_options",
    "fit",
    "initial_state",
    "make_advance",
    "make_step",
    "mean_over_chunks",
]


class State(NamedTuple):
    """All that training changes, and so all that a checkpoint holds.

    Attributes:
      params: the parameters.
      opt_state: the optimizer's, including how it ended.
      step: updates taken.
      points: collocation points, where training draws them anew; else None.
      weights: of the parts of the loss, where training balances them; else None.
      best: of the validations so far, where training stops by them; else None.
    """

    params: Params
    opt_state: optax.OptState
    step: Int[Array, ""]
    points: Data = None
    weights: Terms | None = None
    best: Best | None = None


Step = Callable[[State, Data, Key], tuple[State, Terms]]
"""step(state, data, key) -> the next state and the terms, "loss" first, before the update."""


def fit(  # noqa: PLR0913 - what a training is made of, the last three with defaults
    model: ModelLike,
    loss: Loss,
    data: Data,
    optimizer: optax.GradientTransformation,
    *,
    key: Key,
    steps: int,
    params: Params = None,
    chunk: int | None = None,
    on_nonfinite: Literal["raise", "return"] = "raise",
) -> tuple[Params, Float[Array, "steps"]]:
    """Minimises loss(u, data, key) over the parameters of the field u(x) = model.apply(params, x).

    Pure: `jax.vmap` of it trains a population. Calls with equal models, losses and optimizers and
    data of equal shapes compile once, also where the loss and the optimizer are written anew for
    each call: functions are compared by code and by the values that they read
    (`training.programs.structural_key`). The 64 programs used last are kept.

    Args:
      model: any object with `init(key)` and `apply(params, x)`, hashable.
      loss: loss(u, data, key) -> a scalar, or a scalar and a dict of named terms.
      data: a pytree of arrays.
      optimizer: an optax transformation.
      key: for the initial parameters and for losses that draw.
      steps: updates, >= 1.
      params: where to start; None draws them with `model.init`.
      chunk: points taken at a time to bound memory, for a loss that is a mean over the first axis
        of every leaf of `data`; None takes all at once.
      on_nonfinite: 'raise', an error if a loss is not finite, for which the losses are waited for;
        'return', the losses as they are, without waiting. Under a transformation of JAX, such as
        `jax.vmap`, nothing is raised.

    Returns:
      The fitted parameters, and the loss before each update, shape (steps,).

    Raises:
      InputError: steps or chunk below 1, or leaves of unequal length with a chunk; a loss is not
        finite.

    Example:
      >>> from lrnn_jax import LRNN
      >>> x = jnp.linspace(-1, 1, 64)[:, None]
      >>> mse = lambda u, data, key: jnp.mean((u(data[0]) - data[1]) ** 2)
      >>> model = LRNN(in_dim=1, out_dim=1, rank=4, components=2)
      >>> key = jax.random.key(0)
      >>> params, losses = fit(model, mse, (x, x**2), optax.adam(1e-3), key=key, steps=20)
      >>> bool(losses[-1] < losses[0])
      True
    """
    _check_counts(steps=steps, chunk=chunk)
    _check_lengths(data, chunk)
    init_key, loop_key = jax.random.split(key)
    start = model.init(init_key) if params is None else params
    program_key = structural_key(model, loss, optimizer, steps, chunk)
    program = _PROGRAMS.get(program_key, lambda: _program(model, loss, optimizer, steps, chunk))
    fitted, losses = program(start, data, loop_key)
    if on_nonfinite == "raise" and not isinstance(losses, Tracer):
        _require_finite(losses, data)
    return fitted, losses


_PROGRAMS = Programs(64)


def _program(model: ModelLike, loss: Loss, optimizer: Any, steps: int, chunk: int | None) -> Any:
    """The jitted loop of `fit`: a new function each time, so that dropping it frees its program."""
    step = make_step(model, loss, optimizer, chunk=chunk)

    def run(params: Params, data: Data, key: Key) -> tuple[Params, jax.Array]:
        def body(state: State, _):
            state, terms = step(state, data, key)
            return state, terms["loss"]

        state, losses = lax.scan(body, initial_state(params, optimizer), length=steps)
        return state.params, losses

    return jax.jit(run)


def _require_finite(losses: jax.Array, data: Data) -> None:
    """Every loss is finite.

    Raises:
      InputError: the first that is not, and what may be the reason.
    """
    finite = np.isfinite(np.asarray(losses))
    if finite.all():
        return
    step = int(np.argmin(finite))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(data) if not _is_key(leaf)]
    if any(leaf.size == 0 for leaf in leaves):
        reason = "the data have no rows"
    elif any(leaf.dtype.kind in "fc" and not np.isfinite(leaf).all() for leaf in leaves):
        reason = "the data have values that are not finite"
    elif step == 0:
        reason = "the loss or the parameters are not finite at the start"
    else:
        reason = "try a smaller learning rate, or on_nonfinite='return' to see the losses"
    raise InputError(f"the loss became {float(losses[step])} at step {step}: {reason}")


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def initial_state(params: Params, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step."""
    return State(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def make_step(
    model: ModelLike,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    batch: int | None = None,
    chunk: int | None = None,
) -> Step:
    """One update of the parameters.

    Args:
      model: maps parameters and points to values.
      loss: loss(u, data, key); with batch or chunk, a mean over the first axis of every leaf.
      optimizer: an optax transformation; one that takes extra arguments is given `value`, `grad`
        and `value_fn(params)`.
      batch: points of a mini-batch, drawn anew each step with replacement; None takes all.
      chunk: points whose gradient is computed at a time; the sum of all is the gradient of the
        whole batch, and only one chunk's intermediates exist at once. None takes the batch whole.

    Returns:
      step(state, data, key), whose randomness is `key` folded with the state's step.

    Raises:
      InputError: batch or chunk below 1.
    """
    _check_counts(batch=batch, chunk=chunk)

    def objective(params: Params, data: Data, key: Key) -> tuple[jax.Array, Terms]:
        field: Field = functools.partial(model.apply, params)
        value = loss(field, data, key)
        return value if isinstance(value, tuple) else (value, {})

    gradient = jax.value_and_grad(objective, has_aux=True)
    transformation = optax.with_extra_args_support(optimizer)

    def step(state: State, data: Data, key: Key) -> tuple[State, Terms]:
        batch_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        points = _draw(data, batch, batch_key)
        (value, terms), grads = mean_over_chunks(gradient, state.params, points, loss_key, chunk)
        whole = jax.checkpoint(objective)  # its own derivative keeps no chunk's intermediates
        updates, opt_state = transformation.update(
            grads,
            state.opt_state,
            state.params,
            value=value,
            grad=grads,
            value_fn=lambda p: mean_over_chunks(whole, p, points, loss_key, chunk)[0],
        )
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), {
            "loss": value,
            **terms,
        }

    return step


def make_advance(step: Step, capacity: int):
    """A jitted advance(state, data, key, count) -> (state, history, done).

    It takes `count` <= `capacity` steps, a traced number, and stops early after the first loss that
    is not finite, or once the optimiser says that it can do no more. `history`
    holds the terms of each step in arrays of length `capacity`, the first `done` of them filled.
    The state is donated.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def advance(state: State, data: Data, key: Key, count: Int[Array, ""]):
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
        return lax.while_loop(proceed, body, carry)[:3]

    return advance


def compiler_options() -> dict[str, Any]:
    """What experiments are compiled with: `lowered.compile(compiler_options())`.

    A CPU's vectors are taken as wide as they come, where XLA prefers 256 bits. Only a program at
    the top can be given options: `fit` and `make_advance`, which may stand in another, have none.
    """
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}


def _draw(data: Data, batch: int | None, key: Key) -> Data:
    """A mini-batch of `batch` points, or all of them where there are no more."""
    if batch is None or _check_lengths(data, batch) <= batch:
        return data
    rows = jax.random.randint(key, (batch,), 0, _check_lengths(data, batch))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], data)


def mean_over_chunks(
    function: Callable[..., Any], params: Params, data: Data, key: Key | None, chunk: int | None
) -> Any:
    """function(params, data, key) as the mean over chunks of `data`, weighted by their points.

    Args:
      function: a mean over the first axis of every leaf of `data`, or a tree of such means, as a
        value and its gradient are.
      params: handed through.
      data: a pytree of arrays with one common first axis.
      key: folded with the number of the chunk; None is handed through.
      chunk: points at a time; None takes all at once.
    """
    points = _check_lengths(data, chunk)
    if chunk is None or points <= chunk:
        return function(params, data, key)
    count, rest = divmod(points, chunk)

    def piece(data: Data, index: Any, size: int):
        own = None if key is None else jax.random.fold_in(key, index)
        return jax.tree.map(lambda t: t * (size / points), function(params, data, own))

    def body(total, numbered):
        index, part = numbered
        return jax.tree.map(jnp.add, total, piece(part, index, chunk)), None

    whole = jax.tree.map(lambda a: a[: count * chunk].reshape(count, chunk, *a.shape[1:]), data)
    first = jax.tree.map(lambda a: a[0], whole)
    shapes = jax.eval_shape(function, params, first, key)
    total = jax.tree.map(lambda t: jnp.zeros(t.shape, t.dtype), shapes)
    total, _ = lax.scan(body, total, (jnp.arange(count), whole))
    if rest:
        tail = jax.tree.map(lambda a: a[count * chunk :], data)
        total = jax.tree.map(jnp.add, total, piece(tail, count, rest))
    return total


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name}: expected an integer >= 1, got {count}")


def _check_lengths(data: Data, cut: int | None) -> int:
    """The common length of the leaves' first axes.

    Raises:
      InputError: they differ, or a leaf is a scalar, and `cut` asks for pieces.
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
