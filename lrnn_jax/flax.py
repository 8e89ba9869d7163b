"""Use any model as a Flax module, for example as a layer of your own network.

    module(x) = model.apply(params, x)

A module holds a model, which is static, and its parameters. Each of them is a Flax parameter with
the same name as in the model. This module defines no arithmetic.
"""

import types
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.errors import InputError
from lrnn_jax.trees import first_difference, named_leaves
from lrnn_jax.typing import ModelLike, Params

__all__ = ["LinenModule", "NNXModule"]


class NNXModule(nnx.Module):
    """Wraps a model as a Flax NNX module.

    `params` has the structure of the model's parameters, with an `nnx.Param` at each leaf. For
    example, a leaf has the path ("params", "layer_0", "projection", "weight") in
    `nnx.state(module)`.

    Args:
      model: any hashable model; it is the static part of the module.
      rngs: random number streams; the parameters are `model.init` of the next key of the stream
        "params".
      params: existing parameters, for example trained ones, instead of `rngs`: a nested dict of
        arrays, or the `params` of another module. Dtypes are kept.

    Raises:
      InputError: `model` is not a model or not hashable, `params` belong to another model, or not
        exactly one of `rngs` and `params` is given.

    Example:
      >>> from lrnn_jax import LRNN
      >>> module = NNXModule(LRNN(in_dim=2, out_dim=3, rank=4, components=2), rngs=nnx.Rngs(0))
      >>> module(jnp.zeros((5, 2))).shape
      (5, 3)
      >>> module.params["head"]["weight"].shape
      (4, 3)
    """

    def __init__(self, model: ModelLike, *, rngs: nnx.Rngs | None = None, params: Params = None):
        _require_model(model)
        if (rngs is None) == (params is None):
            count = "neither" if rngs is None else "both"
            raise InputError(f"rngs, params: expected one of the two, got {count}")
        arrays = _arranged(model, params) if rngs is None else model.init(rngs.params())
        self.model = model
        self.params = nnx.data(jax.tree.map(nnx.Param, arrays))

    def __call__(self, x: Float[ArrayLike, "*batch i"]) -> Float[Array, "*batch o"]:
        """The model's values at `x`, with any leading batch axes."""
        return self.model.apply(self.plain_params(), x)

    def plain_params(self) -> Params:
        """The parameters as a nested dict of arrays, the form that `model.apply` takes.

        >>> from lrnn_jax import LRNN
        >>> model, x = LRNN(in_dim=2, out_dim=3, rank=4, components=2), jnp.ones((5, 2))
        >>> module = NNXModule(model, rngs=nnx.Rngs(0))
        >>> bool(jnp.all(module(x) == model.apply(module.plain_params(), x)))
        True
        """
        return nnx.as_pure(self.params)


class LinenModule(nn.Module):
    """Wraps a model as a Flax Linen module.

    The collection "params" is exactly the model's nested dict. So `model.apply(variables["params"],
    x)` evaluates the model with the parameters of the module, and `{"params": params}` are the
    variables of the module for given parameters of the model.

    Args:
      model: any model; hashable, as all fields of a Linen module.

    Raises:
      InputError: `model` is not a model or not hashable.

    Example:
      >>> from lrnn_jax import LRNN
      >>> module = LinenModule(LRNN(in_dim=2, out_dim=3, rank=4, components=2))
      >>> variables = module.init(jax.random.key(0), jnp.zeros((5, 2)))
      >>> module.apply(variables, jnp.zeros((5, 2))).shape
      (5, 3)
      >>> variables["params"]["head"]["weight"].shape
      (4, 3)
    """

    model: ModelLike

    def __post_init__(self) -> None:
        _require_model(self.model)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[ArrayLike, "*batch i"]) -> Float[Array, "*batch o"]:
        """The model's values at `x`, with any leading batch axes."""
        if self.is_initializing():
            groups = self.model.init(self.make_rng("params"))
        else:
            groups = self.variables.get("params", {})
        params = {name: self.param(name, lambda _, g=group: g) for name, group in groups.items()}
        return self.model.apply(params, x)


def _require_model(model: Any) -> None:
    if isinstance(model, type) or not isinstance(model, ModelLike):
        raise InputError(f"model: expected one such as LRNN(in_dim=2, out_dim=1), got {model!r}")
    try:
        hash(model)
    except TypeError as error:
        raise InputError(f"model: expected a hashable model, got {model!r}: {error}") from error


def _arranged(model: ModelLike, params: Params) -> Params:
    """Check the names and shapes of `params`, and return them in the structure of the model."""
    template = jax.eval_shape(model.init, jax.random.key(0))
    leaves, expected = named_leaves(nnx.as_pure(params)), named_leaves(template)
    shapes = {name: types.SimpleNamespace(shape=leaf.shape) for name, leaf in expected.items()}
    difference = first_difference(leaves, shapes)
    if difference:
        raise InputError(f"params belong to another model than this {model!r}: {difference}")
    arrays = [jnp.asarray(leaves[name]) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(template), arrays)
