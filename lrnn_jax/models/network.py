"""The base class of the networks: initialisation, checks, parameter and operation counts."""

import abc
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.checks import Keywords, require_at_least, require_points
from lrnn_jax.errors import InputError
from lrnn_jax.kernels.activations import smoothness
from lrnn_jax.kernels.cost import count_flops
from lrnn_jax.kernels.initializers import initialize, plan_size
from lrnn_jax.trees import first_difference, named_leaves
from lrnn_jax.typing import Key, Params

Layer = Callable[[Any], Any]
"""One layer bound to its parameters: maps the output of the previous layer to its own output."""


class Network(Keywords, abc.ABC):
    """Base class: a network is a plan for its parameters and a sequence of layers.

    The models of the zoo are frozen, keyword-only dataclasses that define `plan` and `layers`. They
    are not meant to be subclassed. Two models with equal fields compare equal and compile once.

    Raises:
      InputError: a field is out of its range. This holds for all models.
    """

    in_dim: int
    out_dim: int
    citation: ClassVar[str]
    """The publication that introduced the network."""

    @abc.abstractmethod
    def plan(self) -> dict[str, Any]:
        """The distribution of each parameter, as a nested dict with the parameters' structure."""

    @abc.abstractmethod
    def layers(self, params: Params, x: Float[Array, "*n i"]) -> Sequence[Layer]:
        """The layers, bound to their parameters; their composition is the network.

        Args:
          params: the parameters.
          x: the points, for networks whose later layers also depend on them.
        """

    @property
    def smoothness(self) -> float:
        """The number of continuous derivatives of y(x): 0 for a function with kinks.

        It is that of the field `activation`, if the network has one.
        """
        activation = getattr(self, "activation", None)
        return math.inf if activation is None else smoothness(activation)

    @property
    def parameter_count(self) -> int:
        """The number of real parameters."""
        return plan_size(self.plan())

    def flops(self, n_points: int = 1) -> int:
        """Floating-point operations of the forward pass at `n_points` points.

        A multiplication, an addition and an elementary function count as one each.
        """
        params = jax.eval_shape(self.init, jax.random.key(0))
        x = jax.ShapeDtypeStruct((n_points, self.in_dim), jnp.float32)
        return count_flops(self.apply, params, x)

    def init(self, key: Key) -> Params:
        """Draw the parameters with `key`, in JAX's default float dtype."""
        return initialize(key, self.plan())

    def apply(self, params: Params, x: Float[ArrayLike, "*n i"]) -> Float[Array, "*n o"]:
        """y(x) for a point (in_dim,) or any batch of points (..., in_dim).

        Raises:
          InputError: the last axis of `x` is not in_dim, or `params` belong to another model.
        """
        points = self.as_points(x)
        self.require_own(params)
        h: Any = points
        for layer in self.layers(params, points):
            h = layer(h)
        return h

    def __call__(self, *arguments: Any) -> NoReturn:
        """Raises an InputError that names `apply`: a model has no parameters of its own."""
        name = type(self).__name__
        raise InputError(f"{name}: take model.apply(params, x), or result.field(x) after solve")

    def as_points(self, x: Float[ArrayLike, "*n i"]) -> Float[Array, "*n i"]:
        """`x` as an array; floats keep their dtype, integers get JAX's default float dtype.

        Raises:
          InputError: the last axis of `x` is not in_dim.
        """
        points = jnp.asarray(x)
        points = points if jnp.issubdtype(points.dtype, jnp.inexact) else points.astype(float)
        require_points(self, points)
        return points

    def require_own(self, params: Params) -> None:
        """Check that `params` have the names and the shapes of this model's parameters.

        Raises:
          InputError: they differ; the message names the first difference.
        """
        difference = first_difference(named_leaves(params), named_leaves(self.plan()))
        if difference:
            raise InputError(
                f"params belong to another model than this {type(self).__name__}: {difference}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldNetwork(Network):
    """Base class of the networks R^in_dim -> R^out_dim that choose both dimensions freely.

    Args:
      in_dim: inputs, >= 1.
      out_dim: outputs, >= 1.
    """

    in_dim: int
    out_dim: int

    def __post_init__(self) -> None:
        require_at_least(self, 1, "in_dim", "out_dim")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepNetwork(FieldNetwork):
    """Base class of the networks with hidden layers of equal width.

    Args:
      width: neurons of each hidden layer.
      depth: number of hidden layers.
    """

    width: int = 256
    depth: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "width", "depth")


def over_batch(
    function: Callable[[jax.Array], jax.Array], x: Float[Array, "*n i"]
) -> Float[Array, "*n o"]:
    """A function of one point under one `jax.vmap` for each batch axis of x."""
    for _ in x.shape[:-1]:
        function = jax.vmap(function)
    return function(x)


def repeated(value: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    """A field that is one number for all axes or layers, or a tuple with one number for each."""
    return value if isinstance(value, tuple) else (value,) * count
