"""Array aliases and the contracts that everything else is written against.

Axis letters, here and in every other module: `n` points, `i` inputs, `o` outputs, `r` separation
rank, `k` components, `h` hidden units of a component function.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.errors import InputError

__all__ = [
    "Activation",
    "Data",
    "Field",
    "Key",
    "Loss",
    "Model",
    "ModelLike",
    "Params",
    "Problem",
    "Terms",
]

Key = jax.Array
"""A typed key of `jax.random.key`, shape ()."""

Params = Any
"""A nested dict of arrays, every one of them trainable."""

Data = Any
"""A pytree of arrays; `chunk` and `batch` of the training cut every leaf along its first axis."""

Terms = dict[str, jax.Array]
"""Named scalars, each a mean over points."""

Field = Callable[[Float[ArrayLike, "*batch i"]], Float[Array, "*batch o"]]
"""A model bound to its parameters: u(x). One point has shape (i,)."""

Activation = str | Callable[[jax.Array], jax.Array]
"""A name in `kernels.activations.ACTIVATIONS`, or any elementwise JAX function."""

Loss = Callable[[Field, Data, Key], jax.Array | tuple[jax.Array, Terms]]
"""loss(u, data, key) -> a scalar, or a scalar and the named terms to record beside it."""


@runtime_checkable
class ModelLike(Protocol):
    """Any object with parameters and a forward pass, such as a network of your own."""

    def init(self, key: Key) -> Params:
        """Parameters drawn with `key`: a nested dict of arrays."""
        ...

    def apply(self, params: Params, x: Float[ArrayLike, "*batch i"]) -> Float[Array, "*batch o"]:
        """The network's values at the points `x`."""
        ...


@runtime_checkable
class Model(ModelLike, Protocol):
    """A network as a value: a frozen, hashable, keyword-only dataclass; equal specs compile once.

    A class of your own inherits from it, `class MyModel(lrnn_jax.typing.Model)`, for the defaults.
    `fit` takes any `ModelLike`.

    Laws (`tests/test_model_contract.py` holds every model to them):
      * `init` is pure, and the dtype of its leaves is JAX's default float;
      * `apply(params, x)[n] == apply(params, x[n])`: leading axes are batch axes and nothing else;
      * the output has the dtype that `x` and the parameters promote to;
      * derivatives of the field up to order `smoothness` are continuous.
    """

    @property
    def in_dim(self) -> int: ...

    @property
    def out_dim(self) -> int: ...

    @property
    def smoothness(self) -> float:
        """The number of continuous derivatives of the field; 0 is a function with kinks."""
        return math.inf


@runtime_checkable
class Problem(Protocol):
    """What a field is fitted to: a frozen, hashable dataclass that turns it into loss and scores.

    A class of your own inherits from it, `class MyProblem(lrnn_jax.typing.Problem)`, for the
    defaults. A `field` is always a function of JAX, u: (..., in_dim) -> (..., out_dim);
    `lrnn_jax.predict(field, x)` evaluates it at many points.

    Laws (`tests/test_problem_contract.py` holds every problem to them):
      * `load` is deterministic, and raises InputError for anything unusable;
      * `loss` is pure, and a mean over the first axis of every leaf of `data`, so that means over
        chunks can be averaged, unless `full_batch_only`;
      * `evaluate` does not change with the number of devices or the chunk of training, and gives
        the same names each time, `validation_score` among them;
      * `render` and `decode` return the files that they wrote.
    """

    full_batch_only: ClassVar[bool] = False
    """Whether the loss is no mean over points, so that it needs all data in each step."""

    validation_score: ClassVar[str | None] = None
    """The score that early stopping watches, lower is better; None: no validation part."""

    decoded_file: ClassVar[str] = "decoded.png"
    """The file in the run folder that `lrnn-jax decode` writes by default."""

    @property
    def in_dim(self) -> int: ...

    @property
    def out_dim(self) -> int: ...

    @property
    def order(self) -> int:
        """The highest derivative of the field that the loss takes."""
        return 0

    def load(self) -> Data:
        """Reads and checks the data, on the host."""
        ...

    def loss(self, field: Field, data: Data, key: Key) -> tuple[jax.Array, Terms]:
        """The scalar to minimise and its named terms."""
        ...

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """What a progress display shows of the terms of a step, in addition to the loss."""
        del terms
        return {}

    def evaluate(self, field: Field, data: Data) -> dict[str, float]:
        """Scores of the fitted field, computed on the host in float64."""
        ...

    def render(self, field: Field, data: Data, folder: Path) -> list[Path]:
        """Writes pictures, sounds or meshes of the fitted field, and returns the files."""
        del field, data, folder
        return []

    def decode(self, field: Field, size: tuple[int, ...] | None, path: Path) -> Path:
        """Writes the field at a chosen resolution (None: that of the data)."""
        del field, size, path
        raise InputError(f"{type(self).__name__} has no file form: it cannot be decoded")
