"""Array aliases and the contracts that everything else is written against.

Axis letters, here and in every other module: `n` points, `i` inputs, `o` outputs, `r` separation
rank, `k` components, `h` hidden units of a component function.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, ArrayLike, Float

__all__ = ["Activation", "Data", "Field", "Key", "Loss", "Model", "Params", "Problem", "Terms"]

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
class Model(Protocol):
    """A network as a value: a frozen, hashable, keyword-only dataclass; equal specs compile once.

    Laws (`tests/test_model_contract.py` holds every model to them):
      * `init` is pure, and the dtype of its leaves is JAX's default float;
      * `apply(params, x)[n] == apply(params, x[n])`: leading axes are batch axes and nothing else;
      * the output has the dtype that `x` and the parameters promote to.
    """

    @property
    def in_dim(self) -> int: ...

    @property
    def out_dim(self) -> int: ...

    def init(self, key: Key) -> Params:
        """Parameters drawn with `key`: a nested dict of arrays."""
        ...

    def apply(self, params: Params, x: Float[ArrayLike, "*batch i"]) -> Float[Array, "*batch o"]:
        """The network's values at the points `x`."""
        ...


@runtime_checkable
class Problem(Protocol):
    """What a field is fitted to: a frozen, hashable dataclass that turns it into loss and scores.

    Laws (`tests/test_image_problem.py`): `load` is deterministic and raises InputError for
    anything unusable; `loss` is a mean over the first axis of `data`, so chunks can be averaged,
    unless the problem says `whole = True`. `decoded` may name the file that `decode` writes to.
    """

    @property
    def in_dim(self) -> int: ...

    @property
    def out_dim(self) -> int: ...

    def load(self) -> Data:
        """Reads and checks the data, on the host."""
        ...

    def loss(self, field: Field, data: Data, key: Key) -> tuple[jax.Array, Terms]:
        """The scalar to minimise and its named terms."""
        ...

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """What the terms of one step say to a person, e.g. {"psnr": 31.2}."""
        ...

    def evaluate(self, field: Field, data: Data) -> dict[str, float]:
        """Scores of the fitted field, computed on the host in float64."""
        ...

    def render(self, field: Field, data: Data, folder: Path) -> list[Path]:
        """Writes what a person looks at and returns the files."""
        ...

    def decode(self, field: Field, size: tuple[int, ...] | None, path: Path) -> Path:
        """Writes the field at a resolution of choice (None: that of the data)."""
        ...
