"""Values of a field on a grid, for xarray and for programs that read VTK files."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from jaxtyping import ArrayLike

from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.io.extras import extra
from lrnn_jax.io.files import atomic, require_suffix
from lrnn_jax.typing import Field

if TYPE_CHECKING:
    import xarray

__all__ = ["to_xarray", "write_vti"]

SUFFIXES = (".nc", ".vti")
_SPACING = 1e-6  # largest relative deviation of the distances of equally spaced coordinates


def to_xarray(
    field: Field, axes: Mapping[str, ArrayLike], components: Sequence[str] = ("u",)
) -> "xarray.Dataset":
    """Evaluate a field on a tensor grid; one DataArray for each component.

    Needs xarray: `pip install 'lrnn-jax[xarray]'`. `dataset.to_netcdf(path)` writes a file.

    Args:
      field: u: (..., in_dim) -> (..., out_dim).
      axes: the coordinates of the grid along each axis of the points, in the order of the axes:
        `{"x": np.linspace(0, 1, 101), "t": np.linspace(0, 2, 201)}`.
      components: the names of the out_dim components.

    Returns:
      A dataset with the coordinates `axes` and the variables `components`.

    Raises:
      InputError: xarray is not installed, an axis is empty or has other than one dimension, or the
        number of components differs from out_dim.
    """
    xarray = extra("xarray", "xarray")
    values = _values(field, axes, components)
    names = tuple(axes)
    return xarray.Dataset(
        {name: (names, values[..., index]) for index, name in enumerate(components)},
        coords={name: np.asarray(axis) for name, axis in axes.items()},
    )


def write_vti(
    path: str | Path,
    field: Field,
    axes: Mapping[str, ArrayLike],
    components: Sequence[str] = ("u",),
) -> Path:
    """Write the values of a field on a grid as VTK image data, e.g. for ParaView.

    The first axis of the points is x in the file, the second y, the third z; time may be one of
    them. The file is XML with the arrays in base64, uncompressed, and needs no library.

    Args:
      path: the file, `*.vti`; an existing one is replaced.
      field: u: (..., in_dim) -> (..., out_dim), in_dim <= 3.
      axes: as for `to_xarray`; equally spaced, at least two coordinates each.
      components: as for `to_xarray`; each becomes a point array of float64.

    Returns:
      The path.

    Raises:
      InputError: the suffix is not `.vti`; there are more than three axes; an axis is not equally
        spaced; the number of components differs from out_dim; the file cannot be written.

    References: "VTK File Formats", VTK documentation, section "XML file formats".
    """
    path = require_suffix(path, ".vti")
    if not 1 <= len(axes) <= 3:
        raise InputError(f"axes: VTK takes one to three, got {list(axes)}")
    grid = [_equal_spacing(name, np.asarray(axis)) for name, axis in axes.items()]
    values = np.asarray(_values(field, axes, components), "<f8")
    shape = (*values.shape[:-1], 1, 1)[:3]
    start, step = np.pad(np.array(grid), ((0, 3 - len(grid)), (0, 0))).T
    extent = " ".join(f"0 {count - 1}" for count in shape)
    root = ElementTree.Element(
        "VTKFile",
        type="ImageData",
        version="1.0",
        byte_order="LittleEndian",
        header_type="UInt64",
    )
    image = ElementTree.SubElement(
        root, "ImageData", WholeExtent=extent, Origin=_words(start), Spacing=_words(step)
    )
    piece = ElementTree.SubElement(image, "Piece", Extent=extent)
    arrays = ElementTree.SubElement(piece, "PointData")
    for index, name in enumerate(components):
        array = ElementTree.SubElement(
            arrays, "DataArray", type="Float64", Name=name, format="binary"
        )
        # In VTK, the first axis varies fastest.
        content = np.ravel(values[..., index], order="F").tobytes()
        array.text = base64.b64encode(len(content).to_bytes(8, "little") + content).decode()
    with atomic(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
    return path


def _words(numbers: np.ndarray) -> str:
    return " ".join(map(repr, numbers.tolist()))


def write_grid(
    path: Path, field: Field, axes: Mapping[str, ArrayLike], components: Sequence[str]
) -> Path:
    """Write NetCDF (`.nc`) by `to_xarray`, or VTK image data (`.vti`) by `write_vti`."""
    if path.suffix == ".vti":
        return write_vti(path, field, axes, components)
    dataset = to_xarray(field, axes, components)
    with atomic(path) as temporary:
        dataset.to_netcdf(temporary, engine="scipy")
    return path


def _values(field: Field, axes: Mapping[str, ArrayLike], components: Sequence[str]) -> np.ndarray:
    """u on the grid, shape (number of points along each axis..., out_dim)."""
    coordinates = [np.asarray(axis) for axis in axes.values()]
    for name, axis in zip(axes, coordinates, strict=True):
        if axis.ndim != 1 or not len(axis):
            raise InputError(f"axes: {name} has shape {axis.shape}, expected (n,) with n >= 1")
    values = predict(field, np.stack(np.meshgrid(*coordinates, indexing="ij"), axis=-1))
    if values.shape[-1] != len(components):
        raise InputError(
            f"components: expected {values.shape[-1]} names, as the field has values, got "
            f"{list(components)}"
        )
    return values


def _equal_spacing(name: str, axis: np.ndarray) -> tuple[float, float]:
    """The first coordinate and the distance of neighbours."""
    steps = np.diff(axis)
    if len(axis) < 2 or np.ptp(steps) > _SPACING * abs(steps).max() or steps[0] <= 0:
        raise InputError(f"axes: {name} is not equally spaced and rising, as VTK needs it")
    return float(axis[0]), float((axis[-1] - axis[0]) / (len(axis) - 1))
