"""Random weight factorization, as a wrapper around an optimizer.

    W = V diag(exp(s)),   s ~ N(mean, deviation^2) at initialisation,

for every matrix W of a network; its columns are the neurons. The wrapped optimizer updates V and s.
The parameters that the network uses, and that are stored and exported, are always W. By the chain
rule, with the gradient G of the loss with respect to W,

    dL/dV = G diag(exp(s)),   dL/ds_j = sum_i G_ij W_ij.

Each row of the Jacobian of the residuals transforms like G, so that Gauss-Newton methods can be
wrapped as well.

References: Wang, Wang, Seidman and Perdikaris, "Random Weight Factorization Improves the Training
of Continuous Neural Representations" (arXiv 2210.01274), eq. 3.1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int

from lrnn_jax.optimizers.stopping import (
    require,
    require_number,
    require_optimizer,
    result_of,
)
from lrnn_jax.trees import named_leaves
from lrnn_jax.typing import Key, Params


class FactorizedState(NamedTuple):
    """State of `factorize_weights`.

    Attributes:
      result: the `Result` of the wrapped optimizer.
      factors: {"direction": the parameters with each matrix W replaced by V, "scale": a dict from
        the name of each matrix to its s}.
      inner: the state of the wrapped optimizer, whose parameters are the factors.
    """

    result: Int[Array, ""]
    factors: Params
    inner: optax.OptState


def factorize_weights(
    optimizer: optax.GradientTransformation,
    key: Key,
    mean: float = 0.5,
    deviation: float = 0.1,
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that it updates the factors V and s of each W = V diag(exp(s)).

    A matrix is a leaf with two or more axes whose name does not end in "bias". In a stack of shape
    (i, k, r), each of the k r columns has its own entry of s. Other leaves are updated unchanged.
    The entries of a column must lie along the first axis. A `Spinn` is therefore not supported: its
    first axis is the coordinate.

    Args:
      optimizer: any optax transformation.
      key: random key from which `init` draws s.
      mean: mean of the initial s.
      deviation: standard deviation of the initial s, >= 0.

    Returns:
      An optax transformation whose state is a `FactorizedState`. It passes `value` to the wrapped
      optimizer, and converts `grad`, `value_fn`, `residual_fn` and `linearise_fn` to the factors.

    Raises:
      InputError: an argument is out of range; in `init`, the parameters contain no matrix.

    Example:
      >>> optimizer = factorize_weights(optax.adam(1e-3), jax.random.key(0))
    """
    wrapped = require_optimizer("optimizer", optimizer)
    require("key", key, _is_key(key), "a random key, such as jax.random.key(0)")
    require_number("mean", mean, "a finite number")
    require_number("deviation", deviation, "a finite number >= 0", lambda number: number >= 0)

    def init(params: Params) -> FactorizedState:
        factors = _factorize(params, key, mean, deviation)
        inner = wrapped.init(factors)
        return FactorizedState(result_of(inner), factors, inner)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any):
        require("params", params, params is not None, "the parameters")
        factors = state.factors
        pull_back = _pull_back(factors)
        arguments = {name: _of_factors(name, extra[name], pull_back) for name in extra}
        steps, inner = wrapped.update(pull_back(updates), state.inner, factors, **arguments)
        factors = optax.apply_updates(factors, steps)
        # Return the difference between the merged factors and the parameters, not the update
        # mapped through the chain rule: its rounding errors would accumulate, and the parameters
        # would drift away from their factors.
        difference = jax.tree.map(jnp.subtract, _merge(factors), params)
        return difference, FactorizedState(result_of(inner), factors, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_key(key: Any) -> bool:
    """Whether JAX can split the value: a key, or a raw key of `jax.random.PRNGKey`."""
    try:
        jax.eval_shape(jax.random.split, key)
    except (TypeError, ValueError):
        return False
    return True


def _pull_back(factors: Params) -> Any:
    """Return the map from a gradient by the parameters to a gradient by the factors."""
    transpose = jax.vjp(_merge, factors)[1]
    return lambda gradient: transpose(gradient)[0]


def _of_factors(name: str, argument: Any, pull_back: Any) -> Any:
    """Convert an extra argument of `update` for the wrapped optimizer."""
    if argument is None:
        return None
    if name == "grad":
        return pull_back(argument)
    if name in ("value_fn", "residual_fn"):
        return lambda factors: argument(_merge(factors))
    if name == "linearise_fn":
        return lambda factors: _linearise(argument, factors)
    return argument


def _linearise(linearise: Any, factors: Params) -> tuple[Array, Array]:
    """Return the residuals and their Jacobian with respect to the factors."""
    params = _merge(factors)
    residuals, jacobian = linearise(params)
    unravel, pull_back = ravel_pytree(params)[1], _pull_back(factors)
    row = lambda gradient: ravel_pytree(pull_back(unravel(gradient)))[0]  # noqa: E731
    return residuals, jax.vmap(row)(jacobian)


def _factorize(params: Params, key: Key, mean: float, deviation: float) -> Params:
    """Draw s and return the factors whose product is the given parameters."""
    matrices = {
        name: leaf
        for name, leaf in named_leaves(params).items()
        if leaf.ndim > 1 and not name.endswith("bias")
    }
    require("weight_factorization", "no matrix", bool(matrices), "parameters with a matrix")
    keys = jax.random.split(key, len(matrices))
    scale = {
        name: mean + deviation * jax.random.normal(subkey, leaf.shape[1:], leaf.dtype)
        for subkey, (name, leaf) in zip(keys, matrices.items(), strict=True)
    }
    return {"direction": _scaled(params, {n: -s for n, s in scale.items()}), "scale": scale}


def _merge(factors: Params) -> Params:
    """Return the parameters W of the factors."""
    return _scaled(factors["direction"], factors["scale"])


def _scaled(params: Params, exponents: dict[str, Array]) -> Params:
    """Multiply each named leaf by exp of its exponents; leave the other leaves unchanged."""
    scaled = [
        leaf * jnp.exp(exponents[name]) if name in exponents else leaf
        for name, leaf in named_leaves(params).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(params), scaled)
