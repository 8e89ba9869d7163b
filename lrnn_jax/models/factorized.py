"""Random weight factorisation: a change of the parameters that a network is trained in.

    W = V diag(exp(s)),   s ~ N(mean, deviation^2) at the start,

for every matrix W of a network, no bias, whose columns are its neurons. The function is the same;
the gradient of each neuron has a learnable scale.

References: Wang, Wang, Seidman and Perdikaris, "Random Weight Factorization Improves the Training
of Continuous Neural Representations" (arXiv 2210.01274), eq. 3.1.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.errors import InputError
from lrnn_jax.io.trees import named_leaves
from lrnn_jax.models.separable import Spinn
from lrnn_jax.typing import Key, Model, Params

__all__ = ["Factorized"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factorized:
    """A model trained in factors of its matrices.

    Parameters: `{"direction": those of the model, each matrix divided by its scales; "scale": s of
    each matrix by its name}`. Biases and leaves of one axis stay as they are; of a stack (i, k, r)
    each of the k r columns has a scale.

    Args:
      model: any model whose parameters are real.
      mean: of s at the start.
      deviation: standard deviation of s at the start, >= 0.

    Raises:
      InputError: the deviation is negative, the model has no matrix or is a Spinn, whose stacks
        have the coordinate first.

    Example:
      >>> from lrnn_jax import Siren
      >>> plain = Siren(in_dim=2, out_dim=1, width=4)
      >>> model = Factorized(model=plain)
      >>> params = model.init(jax.random.key(0))
      >>> x = jnp.ones(2)
      >>> bool(jnp.allclose(model.apply(params, x), plain.apply(model.merged(params), x)))
      True
    """

    model: Model
    mean: float = 0.5
    deviation: float = 0.1

    def __post_init__(self) -> None:
        if not self.deviation >= 0:
            raise InputError(f"deviation: expected a number >= 0, got {self.deviation!r}")
        if isinstance(self.model, Spinn):
            raise InputError("weight_factorization: a Spinn's matrices are stacks by coordinate")

    @property
    def in_dim(self) -> int:
        """That of the model."""
        return self.model.in_dim

    @property
    def out_dim(self) -> int:
        """That of the model."""
        return self.model.out_dim

    @property
    def smoothness(self) -> float:
        """That of the model."""
        return getattr(self.model, "smoothness", float("inf"))

    def init(self, key: Key) -> Params:
        """The model's own start, and scales that leave its function as it is."""
        model_key, scale_key = jax.random.split(key)
        plain = self.model.init(model_key)
        matrices = {
            name: leaf
            for name, leaf in named_leaves(plain).items()
            if leaf.ndim > 1 and not name.endswith("bias")
        }
        if not matrices:
            raise InputError("weight_factorization: the model has no matrix")
        keys = jax.random.split(scale_key, len(matrices))
        scale = {
            name: self.mean + self.deviation * jax.random.normal(k, leaf.shape[1:], leaf.dtype)
            for k, (name, leaf) in zip(keys, matrices.items(), strict=True)
        }
        inverse = {name: -s for name, s in scale.items()}
        return {"direction": _scaled(plain, inverse), "scale": scale}

    def merged(self, params: Params) -> Params:
        """The parameters of the plain model with the same function."""
        return _scaled(params["direction"], params["scale"])

    def apply(self, params: Params, x: Float[ArrayLike, "*n i"]) -> Float[Array, "*n o"]:
        """The model's values."""
        return self.model.apply(self.merged(params), x)


def _scaled(params: Params, exponents: dict[str, Array]) -> Params:
    """Each named leaf times exp of its exponents, the others as they are."""
    scaled = [
        leaf * jnp.exp(exponents[name]) if name in exponents else leaf
        for name, leaf in named_leaves(params).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(params), scaled)
