"""Values of a field in its own units, on a grid or at scattered points."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import check_types, require_at_least
from lrnn_jax.domains import grid, in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.io import (
    ArraySource,
    OptionalSourceField,
    SourceField,
    as_source,
    make_folder,
    read_array,
    read_columns,
    require_suffix,
    write_array,
    write_bytes,
)
from lrnn_jax.metrics import relative_l2
from lrnn_jax.pointwise import Pointwise
from lrnn_jax.typing import Field, Section

__all__ = ["FieldSamples", "SampledField"]

_FRANKE = "franke"
_GRID = 64  # points along each axis of a grid that the data do not have


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FieldSamples:
    """Samples of a field as points.

    Attributes:
      x: points; each axis of the field spans [-1, 1].
      y: values, mapped from [low, high] to [-1, 1].
    """

    x: Float[ArrayLike, "n d"]
    y: Float[ArrayLike, "n c"]


@dataclasses.dataclass(frozen=True)
class _Samples:
    """All samples in their own units, and their bounding boxes."""

    points: Float[np.ndarray, "n d"]
    values: Float[np.ndarray, "n c"]
    shape: tuple[int, ...] | None

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper ends of the coordinates."""
        return self.points.min(axis=0), self.points.max(axis=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledField(Pointwise):
    """Fit values at points: minimise the mean squared error of u over the samples.

    The coordinates of the samples are mapped to [-1, 1] along each axis, and their values to
    [-1, 1] by the smallest and the largest one. Scores are in the unit of the values.

    Args:
      source: 'franke', 400 scattered samples of Franke's function of two coordinates; an array of
        values on a regular grid of one to five axes, or the path of one (.npy); an array of
        scattered points (n, d); or the path of a table (.csv) whose columns are the coordinates
        and, last, the values.
      values: values at scattered points, (n,) or (n, c); None for a grid and for a table.
      hold_out: fraction of the samples that training does not use, in [0, 1); they are drawn with
        `hold_out_seed`, and scored as `rmse_held_out`.
      hold_out_seed: seed of their choice, >= 0.

    Raises:
      InputError: the samples are missing, damaged, constant, or not finite numbers.

    References: Franke, "Scattered data interpolation: tests of some methods", Mathematics of
    Computation 38 (1982).
    """

    main_score: ClassVar[str | None] = "relative_l2"
    decoded_file: ClassVar[str] = "decoded.npy"

    source: SourceField = dataclasses.field(default=as_source(_FRANKE), kw_only=False)
    values: OptionalSourceField = dataclasses.field(default=as_source(None), kw_only=False)
    hold_out: float = 0.0
    hold_out_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("source", "values"):
            object.__setattr__(self, name, as_source(getattr(self, name)))
        require_at_least(self, 0, "hold_out_seed")
        check_types(self)
        if not 0 <= self.hold_out < 1:
            raise InputError(f"hold_out: expected a fraction in [0, 1), got {self.hold_out}")

    @property
    def in_dim(self) -> int:
        """Number of coordinates; reads the file."""
        return self.samples().points.shape[1]

    @property
    def out_dim(self) -> int:
        """Number of values at a point; reads the file."""
        return self.samples().values.shape[1]

    def samples(self) -> _Samples:
        """All samples in their own units."""
        found = self._read()
        for name, array in (("coordinates", found.points), ("values", found.values)):
            if not np.isfinite(array).all():
                raise InputError(f"{self.source} has {name} that are not finite")
            if len(array) < 2 or (array.max(axis=0) == array.min(axis=0)).all():
                raise InputError(f"{self.source} has {name} of one value only: expected a field")
        return found

    def load(self) -> FieldSamples:
        """Reads the samples and maps points and values to [-1, 1]."""
        found = self.samples()
        kept = ~self._held_out(len(found.points))
        if not kept.any():
            raise InputError(f"hold_out: {self.hold_out} of {kept.size} samples leaves none to fit")
        x, y = self._scaled(found)
        return FieldSamples(x=in_precision(x[kept]), y=in_precision(y[kept]))

    def evaluate(self, field: Field, data: FieldSamples | None = None) -> dict[str, float]:
        """Relative L2 error and RMSE in the unit of the values, over all samples."""
        del data
        found = self.samples()
        value = self._values(field, self._scaled(found)[0], found)
        held, error = self._held_out(len(value)), value - found.values
        scores = {
            "relative_l2": relative_l2(value, found.values),
            "rmse": float(np.sqrt(np.mean(error**2))),
        }
        if held.any():
            scores["rmse_held_out"] = float(np.sqrt(np.mean(error[held] ** 2)))
        return scores

    def section(self, field: Field, data: FieldSamples | None = None) -> Section:
        """The first value: on the grid of the data, or on one of 64 points along each axis."""
        del data
        found = self.samples()
        shape = found.shape or (_GRID,) * found.points.shape[1]
        x = grid(shape).reshape(-1, len(shape))
        value = _plane(self._values(field, x, found)[:, 0].reshape(shape))
        truth = None if found.shape is None else _plane(found.values[:, 0].reshape(shape))
        return Section(truth, value)

    def render(
        self, field: Field, data: FieldSamples | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """`field.png`: the field, beside the data if they are on a grid, and the error."""
        from lrnn_jax.plot import draw_sections, save_figure

        del data
        folder = make_folder(folder)
        figure = draw_sections({"reconstruction": self.section(field)})
        return [save_figure(figure, folder / "field.png")]

    def decode(
        self,
        field: Field,
        size: tuple[int, ...] | None = None,
        path: str | Path | None = None,
    ) -> Path:
        """Writes the values on a grid of `size` points over the bounding box of the samples.

        An NPY or NPZ file holds the values in their unit. A CSV file holds a row for each point:
        its coordinates and its values. None takes the grid of the data, or 64 points an axis.
        """
        path = require_suffix(path or self.decoded_file, ".npy", ".npz", ".csv")
        found = self.samples()
        dim = found.points.shape[1]
        shape = size or found.shape or (_GRID,) * dim
        if len(shape) != dim or min(shape) < 1:
            raise InputError(f"size: expected {dim} numbers of points >= 1, got {size}")
        x = grid(shape).reshape(-1, dim)
        values = self._values(field, x, found)
        if path.suffix.lower() != ".csv":
            return write_array(path, values.reshape(*shape, -1).astype(np.float32))
        low, high = self._box(found)
        rows = np.concatenate([low + (x.astype(np.float64) + 1) / 2 * (high - low), values], axis=1)
        names = [f"x{i + 1}" for i in range(dim)] + [f"u{i + 1}" for i in range(values.shape[1])]
        lines = [",".join(names), *(",".join(map(repr, row)) for row in rows.tolist())]
        return write_bytes(path, "\n".join([*lines, ""]).encode())

    def _read(self) -> _Samples:
        if self.source == _FRANKE:
            points = np.random.default_rng(0).random((400, 2))
            return _scattered(points, franke(*points.T), _FRANKE)
        if self.values is not None:
            if not (isinstance(self.source, ArraySource) and isinstance(self.values, ArraySource)):
                raise InputError("values: they belong to an array of points; leave them out")
            points, values = self.source.values, self.values.values
            return _scattered(points, values, "source")
        if not isinstance(self.source, ArraySource) and self.source.lower().endswith(".csv"):
            columns = read_columns(self.source)
            return _scattered(columns[:, :-1], columns[:, -1], self.source)
        values = read_array(self.source)
        if values.dtype.kind not in "biuf" or not 1 <= values.ndim <= 5 or min(values.shape) < 2:
            raise InputError(
                f"{self.source} holds {values.dtype}{list(values.shape)}: expected numbers on one "
                "to five axes of two or more; scattered points need values, too"
            )
        index = np.indices(values.shape).reshape(values.ndim, -1).T
        return _Samples(
            index.astype(np.float64), values.reshape(-1, 1).astype(np.float64), values.shape
        )

    def _box(self, found: _Samples) -> tuple[np.ndarray, np.ndarray]:
        """The box that is mapped to [-1, 1]: of scattered points, or of the cells of a grid."""
        low, high = found.box
        return (low, high) if found.shape is None else (low - 0.5, high + 0.5)

    def _scaled(self, found: _Samples) -> tuple[np.ndarray, np.ndarray]:
        """Points and values in [-1, 1]."""
        low, high = self._box(found)
        width = np.where(high > low, high - low, 1.0)
        least, most = found.values.min(), found.values.max()
        return 2 * (found.points - low) / width - 1, 2 * (found.values - least) / (most - least) - 1

    @staticmethod
    def _values(field: Field, x: np.ndarray, found: _Samples) -> Float[np.ndarray, "m c"]:
        """The field at scaled points, in the unit of the values, in float64."""
        least, most = found.values.min(), found.values.max()
        unit = (predict(field, in_precision(x)).astype(np.float64) + 1) / 2
        return least + (most - least) * unit

    def _held_out(self, count: int) -> np.ndarray:
        """True for the samples that training does not use."""
        return np.random.default_rng(self.hold_out_seed).random(count) < self.hold_out


def franke(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Franke's test function of scattered interpolation on [0, 1]^2: two peaks, a dip, a slope."""
    x, y = 9 * x, 9 * y
    first = 0.75 * np.exp(-((x - 2) ** 2 + (y - 2) ** 2) / 4)
    second = 0.75 * np.exp(-((x + 1) ** 2) / 49 - (y + 1) / 10)
    third = 0.5 * np.exp(-((x - 7) ** 2 + (y - 3) ** 2) / 4)
    return first + second + third - 0.2 * np.exp(-((x - 4) ** 2) - (y - 7) ** 2)


def _scattered(points: np.ndarray, values: np.ndarray, source: str) -> _Samples:
    points = points[:, None] if points.ndim == 1 else points
    values = values[:, None] if values.ndim == 1 else values
    numbers = points.dtype.kind in "biuf" and values.dtype.kind in "biuf"
    if points.ndim != 2 or values.ndim != 2 or len(points) != len(values) or not numbers:
        raise InputError(
            f"{source} has points {points.dtype}{list(points.shape)} and values "
            f"{values.dtype}{list(values.shape)}: expected numbers (n, d) and (n,) or (n, c)"
        )
    return _Samples(points.astype(np.float64), values.astype(np.float64), None)


def _plane(values: np.ndarray) -> np.ndarray:
    """The first two axes at the middle of all others."""
    while values.ndim > 2:
        values = values[..., values.shape[-1] // 2]
    return values
