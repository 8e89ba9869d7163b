"""Special cases of an LRNN: exact conversions of an MLP and of a CP tensor to an LRNN.

An MLP is an LRNN with one component and a fixed component function: with gamma = 1, a = v = 1,
c = 0 and the output bias -1, a neuron 1 + g(z) is sigma(omega0 z). A separated representation (CP)
is a shallow LRNN whose projections select the coordinates: component a of neuron l is the factor of
axis a.

References: Maharaj and Nair, "Deep Learning with Learnable Product-Structured Activations", ICLR
2026, special cases.
"""

import jax.numpy as jnp

from lrnn_jax.errors import InputError
from lrnn_jax.kernels.splines import hat_form
from lrnn_jax.models.lrnn import LRNN
from lrnn_jax.models.mlp import MLP, Siren, Spder
from lrnn_jax.models.separable import CPTensor
from lrnn_jax.typing import Params


def lrnn_from_mlp(model: MLP | Siren | Spder, params: Params) -> tuple[LRNN, Params]:
    """Convert an MLP to an LRNN that computes the same function, up to rounding.

    Args:
      model: the MLP, with any activation.
      params: its parameters; their dtype is kept.

    Returns:
      The LRNN and its parameters.

    Raises:
      InputError: `model` is not one of these classes, or `params` belong to another model.

    Example:
      >>> import jax
      >>> mlp = Siren(in_dim=2, out_dim=1, width=8)
      >>> x, params = jnp.ones((5, 2)), mlp.init(jax.random.key(0))
      >>> lrnn, same = lrnn_from_mlp(mlp, params)
      >>> bool(jnp.allclose(lrnn.apply(same, x), mlp.apply(params, x), atol=1e-5))
      True
    """
    if not isinstance(model, MLP | Siren | Spder):
        raise InputError(f"model: expected an MLP, a Siren or a Spder, got {type(model).__name__}")
    model.require_own(params)
    lrnn = LRNN(
        in_dim=model.in_dim,
        out_dim=model.out_dim,
        depth=model.depth,
        rank=model.width,
        components=1,
        activation="sin" if isinstance(model, Siren) else model.activation,
        omega0=1.0 if isinstance(model, MLP) else model.omega0,
        gamma=1.0,
        norm="none",
        inner_bias=False,
        outer_bias=True,
    )

    def layer(dense: Params) -> Params:
        unit = jnp.ones_like(dense["bias"])[None]
        return {
            "projection": {"weight": dense["weight"][:, None, :], "bias": dense["bias"][None]},
            "component": {
                "inner_weight": unit[None],
                "outer_weight": unit[None],
                "outer_bias": -unit,
            },
        }

    layers = {f"layer_{index}": layer(params[f"layer_{index}"]) for index in range(model.depth)}
    if isinstance(model, Siren) and model.first_omega0 is not None:
        # An LRNN has a single omega0, so fold that of the first layer into its projection.
        factor = model.first_omega0 / model.omega0
        first = layers["layer_0"]["projection"]
        layers["layer_0"]["projection"] = {name: factor * leaf for name, leaf in first.items()}
    return lrnn, layers | {"head": params["head"]}


def lrnn_from_cp(model: CPTensor, params: Params) -> tuple[LRNN, Params]:
    """Convert a CP tensor to a shallow LRNN that computes the same function on [-1, 1]^d.

    A table with N nodes is a sum of N - 1 ReLUs, so the number of hidden units of the component
    functions is the number of pieces of the longest table. components = in_dim, rank = rank.

    Args:
      model: the CP tensor.
      params: its parameters; their dtype is kept.

    Returns:
      The LRNN and its parameters.

    Raises:
      InputError: `model` is not a CPTensor, or `params` belong to another model.
    """
    if not isinstance(model, CPTensor):
        raise InputError(f"model: expected a CPTensor, got {type(model).__name__}")
    model.require_own(params)
    d, rank = model.in_dim, model.rank
    tables = [params[f"factor_{a}"] for a in range(d)]
    hidden = max(len(table) for table in tables) - 1
    lrnn = LRNN(
        in_dim=d,
        out_dim=model.out_dim,
        depth=1,
        rank=rank,
        components=d,
        hidden=hidden,
        activation="relu",
        omega0=1.0,
        gamma=1.0,
        norm="none",
        outer_bias=True,
    )
    weight, shift, constant = zip(*(hat_form(table, hidden) for table in tables), strict=True)
    dtype = tables[0].dtype
    component = {
        "inner_weight": jnp.ones((hidden, d, rank), dtype),
        "inner_bias": jnp.stack([jnp.tile(c[:, None], (1, rank)) for c in shift], axis=1),
        "outer_weight": jnp.stack(weight, axis=1),
        "outer_bias": jnp.stack(constant) - 1,
    }
    projection = {
        "weight": jnp.tile(jnp.eye(d, dtype=dtype)[:, :, None], (1, 1, rank)),
        "bias": jnp.zeros((d, rank), dtype),
    }
    layer = {"projection": projection, "component": component}
    return lrnn, {"layer_0": layer, "head": params["head"]}
