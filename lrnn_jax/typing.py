"""Type aliases, and the protocols of models and problems that the rest of the package relies on.

Axis letters, here and in every other module: `n` points, `i` inputs, `o` outputs, `r` separation
rank, `k` components, `h` hidden units of a component function.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
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
    "Section",
    "Terms",
]

Key = jax.Array
"""A typed key of `jax.random.key`, shape ()."""

Params = Any
"""A nested dict of arrays; all of them are trainable."""

Data = Any
"""A pytree of arrays; `chunk` and `batch` of the training split each leaf along its first axis."""

_Data = TypeVar("_Data")

Terms = dict[str, jax.Array]
"""Named scalars, each a mean over points."""

Field = Callable[[Float[ArrayLike, "*batch i"]], Float[Array, "*batch o"]]
"""A model bound to its parameters: u(x). One point has shape (i,)."""

Activation = str | Callable[[jax.Array], jax.Array]
"""A name in `kernels.activations.ACTIVATIONS`, or any elementwise JAX function."""

Loss = Callable[[Field, Data, Key], jax.Array | tuple[jax.Array, Terms]]
"""loss(u, data, key) -> a scalar, or a scalar and named terms to record in addition to it."""


class Section(NamedTuple):
    """A part of a signal or a solution that is small enough to be looked at.

    Attributes:
      truth: a curve (n,), a map (h, w), or an image (h, w, c) in [0, 1]; None if it is unknown.
      value: the same part of a field, an array of the same shape.
    """

    truth: np.ndarray | None
    value: np.ndarray


@runtime_checkable
class ModelLike(Protocol):
    """Any object with parameters and a forward pass, such as a network of your own."""

    def init(self, key: Key) -> Params:
        """Draw the parameters with `key`: a nested dict of arrays."""
        ...

    def apply(self, params: Params, x: Float[ArrayLike, "*batch i"]) -> Float[Array, "*batch o"]:
        """The values of the network at the points `x`."""
        ...


@runtime_checkable
class Model(ModelLike, Protocol):
    """A network as a frozen, hashable, keyword-only dataclass; equal specs compile once.

    To define a model, inherit from this class for its defaults:
    `class MyModel(lrnn_jax.typing.Model)`. `fit` accepts any `ModelLike`.

    Requirements (`tests/test_model_contract.py` checks them for every model):
      * `init` is pure, and the dtype of its leaves is JAX's default float dtype;
      * `apply(params, x)[n] == apply(params, x[n])`: all axes but the last are batch axes;
      * the output has the dtype that `x` and the parameters promote to;
      * derivatives of the field up to order `smoothness` are continuous.
    """

    @property
    def in_dim(self) -> int: ...

    @property
    def out_dim(self) -> int: ...

    @property
    def smoothness(self) -> float:
        """The number of continuous derivatives of the field; 0 for a function with kinks."""
        return math.inf


@runtime_checkable
class Problem(Protocol):
    """A fitting problem: a frozen, hashable dataclass with the data, the loss and the scores.

    To define a problem, inherit from this class for its defaults:
    `class MyProblem(lrnn_jax.typing.Problem)`. A `field` is always a JAX function
    u: (..., in_dim) -> (..., out_dim); `lrnn_jax.predict(field, x)` evaluates it at many points.

    Requirements (`tests/test_problem_contract.py` checks them for every problem):
      * `load` is deterministic, and raises InputError for invalid or missing data;
      * `loss` is pure. Unless `full_batch_only` is True, it is a mean over the first axis of every
        leaf of `data`, so that the means over chunks can be averaged;
      * `evaluate` does not depend on the number of devices or on the chunk size of the training,
        and always returns the same names, including `validation_score` if it is not None;
      * `render` and `decode` return the paths of the files that they wrote.
    """

    full_batch_only: ClassVar[bool] = False
    """True if the loss is not a mean over points and therefore needs all data in each step."""

    validation_score: ClassVar[str | None] = None
    """The name of the score that early stopping uses, lower is better; None: no validation data."""

    main_score: ClassVar[str | None] = None
    """The name of the score by which fits are compared; None if there is no such score."""

    decoded_file: ClassVar[str] = "decoded.png"
    """The name of the file that `lrnn-jax decode` writes to the run folder by default."""

    @property
    def in_dim(self) -> int: ...

    @property
    def out_dim(self) -> int: ...

    @property
    def order(self) -> int:
        """The highest order of a derivative of the field in the loss."""
        return 0

    loss_fields: ClassVar[tuple[str, ...] | None] = None
    """The names of the fields that `loss` reads; None: it may read all of them."""

    def program(self) -> "Problem":
        """This problem with all fields at their defaults but `loss_fields`.

        Problems with equal results, and data of equal shapes, share one compiled program. If a
        class overrides `loss`, the `loss_fields` of its base classes do not apply.
        """
        kinds = type(self).__mro__
        stated = next(kind for kind in kinds if "loss_fields" in vars(kind))
        computed = next(kind for kind in kinds if "loss" in vars(kind))
        if self.loss_fields is None or not issubclass(stated, computed):
            return self
        problem: Any = self
        others = (f for f in dataclasses.fields(problem) if f.name not in self.loss_fields)
        return dataclasses.replace(problem, **{field.name: field.default for field in others})

    def load(self) -> Data:
        """Read and check the data, on the host."""
        ...

    def loss(self, field: Field, data: Data, key: Key) -> tuple[jax.Array, Terms]:
        """The scalar to minimise, and its named terms."""
        ...

    def loss_data(self, data: Data) -> Data:
        """The part of `data` that `loss` reads, and that training sends to the devices.

        Values that are not arrays are constants of the compiled program.
        """
        return data

    def solution(self, field: Field) -> Field:
        """The solution that a field stands for: the field itself, unless the problem wraps it."""
        return field

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """The values that a progress display shows in addition to the loss, from a step's terms."""
        del terms
        return {}

    def loaded(self, data: _Data | None) -> _Data:
        """`data`, or the result of `load` if it is None."""
        return self.load() if data is None else data

    def evaluate(self, field: Field, data: Data | None = None) -> dict[str, float]:
        """The scores of the fitted field, computed on the host in float64."""
        ...

    def trivial_scores(self, data: Data | None = None) -> dict[str, float]:
        """The main score of a predictor that every fit should beat; {} if there is none.

        It is the mean of the data, or a classical method that needs no network.
        """
        del data
        return {}

    def section(self, field: Field, data: Data | None = None) -> Section | None:
        """What comparisons show of the truth and of a field; None: nothing but scores."""
        del field, data
        return None

    def render(
        self, field: Field, data: Data | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """Write images, audio or meshes of the fitted field, and return the files."""
        del field, data, folder
        return []

    def decode(
        self,
        field: Field,
        size: tuple[int, ...] | None = None,
        path: str | Path | None = None,
    ) -> Path:
        """Write the field at a given resolution.

        Args:
          field: the field.
          size: the resolution; None takes that of the data.
          path: the file, in the format of its suffix; None takes `decoded_file`.
        """
        del field, size, path
        raise InputError(f"{type(self).__name__} has no file form: it cannot be decoded")
