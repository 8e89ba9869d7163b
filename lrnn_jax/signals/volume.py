"""Grey-valued volumes (MRI, CT, simulations) as fields: map three coordinates to one value."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
from einops import rearrange
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import check_types
from lrnn_jax.domains import grid, in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.io import (
    MARSCHNER_LOBB,
    SourceField,
    as_source,
    make_folder,
    read_voxels,
    write_array,
)
from lrnn_jax.metrics import psnr, psnr_from_mse
from lrnn_jax.pointwise import Pointwise
from lrnn_jax.typing import Field, Section

__all__ = ["Volume", "VolumeData"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VolumeData:
    """The voxels of a volume as points.

    Attributes:
      x: voxel centres; each axis of the volume spans [-1, 1].
      y: values, mapped from [low, high] to [-1, 1].
      shape: number of voxels of each axis.
      low: smallest value.
      high: largest value.
    """

    x: Float[ArrayLike, "n 3"]
    y: Float[ArrayLike, "n 1"]
    shape: tuple[int, int, int] = dataclasses.field(metadata={"static": True})
    low: float = dataclasses.field(metadata={"static": True})
    high: float = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Volume(Pointwise):
    """Fit a grey-valued volume: minimise the mean squared error of u over its voxels.

    The loss is in units of the network's range [-1, 1], to which the values are mapped, so
    PSNR = 10 log10(4 / loss) with the range of the values as peak.

    Args:
      source: 'marschner_lobb', a synthetic test volume of 40^3 voxels, the path of a volume (.npy,
        .npz, .mat), or an array with three axes.

    Raises:
      InputError: the volume is missing, damaged or constant, or has values that are not finite.

    References: Marschner and Lobb, "An evaluation of reconstruction filters for volume rendering",
    IEEE Visualization 1994, for the synthetic volume.
    """

    main_score: ClassVar[str | None] = "psnr"
    decoded_file: ClassVar[str] = "decoded.npy"

    source: SourceField = dataclasses.field(default=as_source(MARSCHNER_LOBB), kw_only=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", as_source(self.source))
        check_types(self)

    @property
    def in_dim(self) -> int:
        """3: one coordinate for each axis."""
        return 3

    @property
    def out_dim(self) -> int:
        """1: the value."""
        return 1

    def load(self) -> VolumeData:
        """Reads the volume and maps its values to [-1, 1]."""
        values = read_voxels(self.source)
        if values.dtype.kind not in "biuf" or min(values.shape) < 2:
            raise InputError(
                f"{self.source} holds {values.dtype}{list(values.shape)}: expected numbers, with 2 "
                "voxels or more along each axis"
            )
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"{self.source} has values that are not finite")
        low, high = float(values.min()), float(values.max())
        if not (high > low and np.isfinite(high - low)):
            raise InputError(f"{self.source} has one value, {low:g}: expected a volume")
        scaled = 2 * (values - low) / (high - low) - 1
        return VolumeData(
            x=_centres(values.shape),
            y=in_precision(scaled.reshape(-1, 1)),
            shape=values.shape,
            low=low,
            high=high,
        )

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """PSNR in dB (peak 2), computed from the loss."""
        return {"psnr": psnr_from_mse(terms["loss"], peak=2.0)}

    def evaluate(self, field: Field, data: VolumeData | None = None) -> dict[str, float]:
        """PSNR in dB with the range of the values as peak, and RMSE in their unit."""
        data = self.loaded(data)
        value, truth = _values(predict(field, data.x), data), _values(data.y, data)
        rmse = float(np.sqrt(np.mean((value - truth) ** 2)))
        return {"psnr": psnr(value, truth, peak=data.high - data.low), "rmse": rmse}

    def section(self, field: Field, data: VolumeData | None = None) -> Section:
        """The central slice across the first axis."""
        data = self.loaded(data)
        middle = data.shape[0] // 2
        value = _values(predict(field, data.x), data)
        return Section(_values(data.y, data)[middle], value[middle])

    def render(
        self, field: Field, data: VolumeData | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """`slices.png`: the three central slices of volume, field and error; `volume.npy`."""
        from lrnn_jax.plot import write_volume_slices

        data = self.loaded(data)
        folder = make_folder(folder)
        value, truth = _values(predict(field, data.x), data), _values(data.y, data)
        return [
            write_volume_slices(folder / "slices.png", truth, value),
            write_array(folder / "volume.npy", value.astype(np.float32)),
        ]

    def decode(
        self,
        field: Field,
        size: tuple[int, ...] | None = None,
        path: str | Path | None = None,
    ) -> Path:
        """Writes the values on a grid of `size` voxels as NPY or NPZ; None: the source's."""
        path = path or self.decoded_file
        if size is not None and (len(size) != 3 or min(size) < 2):
            raise InputError(f"size: expected three numbers of voxels >= 2, got {size}")
        data = self.load()
        shape = data.shape if size is None else size
        values = (predict(field, _centres(shape)).astype(np.float64) + 1) / 2
        values = data.low + (data.high - data.low) * values.reshape(shape)
        return write_array(path, values.astype(np.float32))


def _centres(shape: tuple[int, ...]) -> Float[np.ndarray, "n 3"]:
    return rearrange(grid(shape), "a b c d -> (a b c) d")


def _values(y: ArrayLike, data: VolumeData) -> Float[np.ndarray, "a b c"]:
    """Values of the network as values of the volume, in float64."""
    unit = (np.asarray(y, np.float64).reshape(data.shape) + 1) / 2
    return data.low + (data.high - data.low) * unit
