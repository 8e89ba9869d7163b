"""Tabular data: regression and classification from the features of a row.

The rows are split once into three parts: training, validation (for early stopping) and test (for
the scores). Features and regression targets are standardised with the mean and standard deviation
of the training part.

Axis letters: n rows, f features, k classes.
"""

import abc
import csv
import dataclasses
import functools
import io
import operator
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import Keywords, check_types, require_at_least, require_within
from lrnn_jax.domains import in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.io import (
    ArraySource,
    OptionalSourceField,
    Source,
    SourceField,
    TableData,
    as_source,
    make_folder,
    read_table_file,
    require_suffix,
    to_number,
    write_bytes,
)
from lrnn_jax.pointwise import Pointwise
from lrnn_jax.typing import Field, Key, Problem, Terms

__all__ = ["Classification", "Regression", "Rows"]

PARTS = ("training", "validation", "test")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of a table.

    Attributes:
      x: standardised features.
      y: standardised regression targets, or class indices.
    """

    x: Float[ArrayLike, "n f"]
    y: ArrayLike


class Split(NamedTuple):
    """A table split into its parts.

    Attributes:
      parts: the rows of 'training', 'validation' and 'test'.
      rows: the row numbers of each part in the table.
      centre: mean that was subtracted from regression targets.
      width: standard deviation by which they were divided.
      classes: class labels in order; empty for regression.
    """

    parts: dict[str, Rows]
    rows: dict[str, np.ndarray]
    centre: float
    width: float
    classes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tabular(Keywords, Problem, abc.ABC):
    """Base class of the tabular problems.

    Args:
      source: a data set of scikit-learn ('breast_cancer', 'diabetes', 'digits', 'iris', 'wine'), or
        the path of a CSV with a header or of an NPZ with x (n, f) and y (n,), or an array of
        features (n, f), or a pandas frame. A column of text becomes indicators of its categories.
      target: name of the target column of a CSV or a frame, by default the last one; for an array
        of features, the array of targets (n,).
      missing: 'refuse' refuses empty cells and NaN in the features; 'mean' replaces them by the
        mean of their column over the training part.
      validation: fraction of the rows for early stopping, in (0, 1).
      test: fraction of the rows for the scores, in (0, 1); validation + test must be below 1.
      split_seed: seed of the random split, >= 0.

    Raises:
      InputError: the table is missing or unusable, or a field is out of its range; holds for all
        tabular problems.
    """

    decoded_file: ClassVar[str] = "predictions.csv"

    source: SourceField = dataclasses.field(kw_only=False)
    target: OptionalSourceField = dataclasses.field(default=as_source(None), kw_only=False)
    missing: Literal["refuse", "mean"] = "refuse"
    validation: float = 0.2
    test: float = 0.2
    split_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            object.__setattr__(self, name, as_source(getattr(self, name)))
        require_at_least(self, 0, "split_seed")
        require_within(self, 0, 1, "a fraction in (0, 1)", "validation", "test")
        check_types(self)
        if self.validation + self.test >= 1:
            total = self.validation + self.test
            raise InputError(f"validation, test: expected less than 1 together, got {total:g}")

    def split(self) -> Split:
        """The table split into its three parts, cached until the file changes."""
        path = None if isinstance(self.source, ArraySource) else Path(self.source)
        about = path.stat() if path is not None and path.is_file() else None
        state = about and (about.st_mtime_ns, about.st_size)
        return _cached_split(self, state, in_precision(0.0).dtype)

    @abc.abstractmethod
    def read(self) -> Split:
        """Reads the file and splits the table into its three parts."""

    @property
    def in_dim(self) -> int:
        """Number of features; reads the file."""
        return self._table().x.shape[1]

    def _table(self) -> TableData:
        allow_missing = self.missing == "mean"
        return read_table_file(self.source, self.target, allow_missing=allow_missing)

    def load(self) -> Rows:
        """The training part."""
        return self.split().parts["training"]

    @abc.abstractmethod
    def predictions(self, values: np.ndarray, split: Split) -> np.ndarray:
        """Predictions from values of the field: numbers in the target's unit, or class labels."""

    def decode(
        self,
        field: Field,
        size: tuple[int, ...] | None = None,
        path: str | Path | None = None,
    ) -> Path:
        """Writes a CSV with the number, part, target and prediction of each row."""
        path = path or self.decoded_file
        if size is not None:
            raise InputError("size: a table has none; leave it out")
        path = require_suffix(path, ".csv")
        split = self.split()
        lines: list[tuple[Any, ...]] = []
        for name, part in split.parts.items():
            predicted = self.predictions(predict(field, part.x), split)
            true = self.predictions(self._certain(part.y), split)
            lines += zip(split.rows[name], [name] * len(true), true, predicted, strict=True)
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("row", "part", "target", "prediction"))
        writer.writerows(sorted(lines, key=operator.itemgetter(0)))
        return write_bytes(path, stream.getvalue().encode())

    @abc.abstractmethod
    def _certain(self, y: ArrayLike) -> np.ndarray:
        """Values of a field whose prediction is y."""

    def _divided(self, x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Split:
        """Splits each group of rows in the same proportions; standardises by the training part."""
        shares = np.random.default_rng(self.split_seed).random(len(y))
        rank = np.empty(len(y))
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            places = (np.arange(len(members)) + 0.5) / len(members)
            rank[members[np.argsort(shares[members])]] = places
        edges = (1 - self.validation - self.test, 1 - self.test)
        part = np.searchsorted(edges, rank)
        rows = {name: np.flatnonzero(part == index) for index, name in enumerate(PARTS)}
        for name, numbers in rows.items():
            if not len(numbers):
                raise InputError(f"{self.source} has {len(y)} rows: none is left for {name}")
        x = _imputed(x, rows["training"], self.source)
        scaled, _, _ = _standardised(x, rows["training"], f"{self.source}: features")
        parts = {name: Rows(scaled[numbers], y[numbers]) for name, numbers in rows.items()}
        return Split(parts, rows, 0.0, 1.0, ())


@functools.lru_cache(maxsize=2)
def _cached_split(problem: Tabular, state: Hashable, dtype: np.dtype) -> Split:
    """Cached split; valid while the file and JAX's precision are unchanged."""
    del state, dtype
    return problem.read()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(Pointwise, Tabular):
    """Regression on tabular data: minimise the mean squared error of the standardised target."""

    main_score: ClassVar[str | None] = "rmse"
    validation_score: ClassVar[str | None] = "rmse_validation"

    source: SourceField = dataclasses.field(default=as_source("diabetes"), kw_only=False)

    @property
    def out_dim(self) -> int:
        """1."""
        return 1

    def read(self) -> Split:
        """Reads the file and splits the table at random."""
        table = self._table()
        y = _numbers(table.y, self.source)
        split = self._divided(table.x, y[:, None], np.zeros(len(y)))
        train = np.asarray(split.parts["training"].y)
        if train.min() == train.max():
            raise InputError(
                f"{self.source}: all targets of the training part are {train.flat[0]:g}"
            )
        scaled, centre, width = _standardised(
            y[:, None], split.rows["training"], f"{self.source}: targets"
        )
        parts = {name: Rows(part.x, scaled[split.rows[name]]) for name, part in split.parts.items()}
        return split._replace(parts=parts, centre=float(centre[0]), width=float(width[0]))

    def evaluate(self, field: Field, data: Rows | None = None) -> dict[str, float]:
        """Root mean squared error of each part in the target's unit; `rmse` is the test part."""
        del data
        split = self.split()
        errors = {
            name: split.width * _rms(_double(predict(field, part.x)) - part.y)
            for name, part in split.parts.items()
        }
        return _named("rmse", errors)

    def render(
        self, field: Field, data: Rows | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """`predictions.png`: predictions against targets for the test part."""
        from lrnn_jax.plot import write_predictions

        del data
        folder = make_folder(folder)
        split = self.split()
        part = split.parts["test"]
        predicted = self.predictions(predict(field, part.x), split)
        true = self.predictions(self._certain(part.y), split)
        return [write_predictions(folder / "predictions.png", predicted, true)]

    def predictions(self, values: np.ndarray, split: Split) -> np.ndarray:
        """Predictions in the target's unit."""
        return split.centre + split.width * np.asarray(values, np.float64)[:, 0]

    def _certain(self, y: ArrayLike) -> np.ndarray:
        return np.asarray(y)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Tabular):
    """Classify tabular data: minimise the cross-entropy of softmax u(features), in nats."""

    loss_fields: ClassVar[tuple[str, ...] | None] = ()
    main_score: ClassVar[str | None] = "accuracy"
    validation_score: ClassVar[str | None] = "cross_entropy_validation"

    source: SourceField = dataclasses.field(default=as_source("digits"), kw_only=False)

    @property
    def out_dim(self) -> int:
        """Number of classes; reads the file."""
        return len(np.unique(self._table().y))

    def read(self) -> Split:
        """Reads the file and splits the table at random, stratified by class."""
        table = self._table()
        classes, index, counts = np.unique(table.y, return_inverse=True, return_counts=True)
        if len(classes) < 2:
            raise InputError(f"{self.source} has one class only: expected 2 or more")
        if len(classes) > len(table.y) // 2:
            raise InputError(
                f"{self.source} has {len(classes)} classes in {len(table.y)} rows: is the target a "
                "number? Then the problem is 'regression'"
            )
        if counts.min() < len(PARTS):
            rare = classes[counts.argmin()]
            raise InputError(f"{self.source}: class '{rare}' has {counts.min()} rows, expected 3")
        split = self._divided(table.x, index.reshape(-1, 1).astype(np.int32), index.ravel())
        return split._replace(classes=tuple(map(str, classes)))

    def loss(self, field: Field, data: Rows, key: Key) -> tuple[jax.Array, Terms]:
        """mean -log softmax(u(x))[y] over rows."""
        del key
        labels = jnp.asarray(data.y)[:, 0]
        entropy = optax.softmax_cross_entropy_with_integer_labels(
            field(jnp.asarray(data.x)), labels
        )
        return jnp.mean(entropy), {}

    def trivial_scores(self, data: Rows | None = None) -> dict[str, float]:
        """Accuracy on the test part of the most frequent class of the training part."""
        data = self.loaded(data)
        test, count = self.split().parts["test"], self.out_dim
        common = np.bincount(np.asarray(data.y)[:, 0], minlength=count).argmax()
        return {"accuracy": float(np.mean(np.asarray(test.y)[:, 0] == common))}

    def evaluate(self, field: Field, data: Rows | None = None) -> dict[str, float]:
        """Accuracy and cross-entropy of each part; names without a suffix are the test part."""
        del data
        right, entropy = {}, {}
        for name, part in self.split().parts.items():
            u, y = _double(predict(field, part.x)), np.asarray(part.y)[:, 0]
            u = u - u.max(axis=1, keepdims=True)
            chances = u - np.log(np.exp(u).sum(axis=1, keepdims=True))
            right[name] = float(np.mean(u.argmax(axis=1) == y))
            entropy[name] = float(-np.mean(chances[np.arange(len(y)), y]))
        return _named("accuracy", right) | _named("cross_entropy", entropy)

    def render(
        self, field: Field, data: Rows | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """`confusion.png`: the confusion matrix of the test part."""
        from lrnn_jax.plot import write_confusion

        del data
        folder = make_folder(folder)
        split = self.split()
        part, count = split.parts["test"], len(split.classes)
        predicted, true = _double(predict(field, part.x)).argmax(axis=1), np.asarray(part.y)[:, 0]
        table = np.bincount(count * true + predicted, minlength=count**2).reshape(count, count)
        return [write_confusion(folder / "confusion.png", table, split.classes)]

    def predictions(self, values: np.ndarray, split: Split) -> np.ndarray:
        """The label of the class with the largest value."""
        return np.array(split.classes)[np.asarray(values).argmax(axis=1)]

    def _certain(self, y: ArrayLike) -> np.ndarray:
        return np.eye(int(np.max(np.asarray(y))) + 1)[np.asarray(y)[:, 0]]


def _rms(values: np.ndarray) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def _double(values: ArrayLike) -> np.ndarray:
    return np.asarray(values, np.float64)


def _imputed(
    x: Float[np.ndarray, "n f"], training: np.ndarray, source: Source
) -> Float[np.ndarray, "n f"]:
    """Replaces NaN by the mean of its column over the rows `training`.

    Raises:
      InputError: a column has no value there.
    """
    known = ~np.isnan(x)
    counts = known[training].sum(axis=0)
    if not counts.all():
        column = int(np.argmin(counts)) + 1
        raise InputError(f"{source}: feature column {column} has no value in the training part")
    means = np.where(known, x, 0)[training].sum(axis=0) / counts
    return np.where(known, x, means)


def _standardised(
    values: Float[np.ndarray, "n c"], training: np.ndarray, what: str
) -> tuple[np.ndarray, Float[np.ndarray, "c"], Float[np.ndarray, "c"]]:
    """Standardises the columns to mean 0 and deviation 1 over the rows `training`.

    Returns:
      The scaled values in JAX's precision, and the mean and standard deviation of each column. The
      standard deviation of a constant column is taken as 1.

    Raises:
      InputError: a variance, or the square of a scaled value, overflows or underflows.
    """
    train = values[training]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        centre, width = train.mean(axis=0), train.std(axis=0)
        width = np.where(train.min(axis=0) < train.max(axis=0), width, 1)
        scaled = in_precision((values - centre) / width)
        usable = np.isfinite(width) & (width > 0) & np.isfinite(scaled**2).all(axis=0)
    if not usable.all():
        raise InputError(
            f"{what} too large or too far apart to scale, in column {int(np.argmin(usable)) + 1}: "
            "expected standard deviations in [1e-150, 1e150], and no value 1e18 of them away"
        )
    return scaled, centre, width


def _named(score: str, by_part: dict[str, float]) -> dict[str, float]:
    """Names for the scores: plain for the test part, with a suffix for the others."""
    names = {"test": score, "validation": f"{score}_validation", "training": f"{score}_training"}
    return {names[part]: by_part[part] for part in ("test", "validation", "training")}


def _numbers(values: np.ndarray, source: Source) -> Float[np.ndarray, "n"]:
    """The targets as finite float64 numbers."""
    for row, value in enumerate(values):
        finite = to_number(value) is not None if isinstance(value, str) else np.isfinite(value)
        if not finite:
            raise InputError(
                f"{source}, row {row + 1}: the target {str(value)[:40]!r} is no finite number; for "
                "classes take the problem 'classification'"
            )
    return values.astype(np.float64)
