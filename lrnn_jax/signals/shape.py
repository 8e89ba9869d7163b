"""Solids as fields: occupancy (1 inside, 0 outside) or signed distance to the surface.

Axis letters: n points, a, b, c voxels along the three axes.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import ArrayLike, Bool, Float

from lrnn_jax.checks import (
    Keywords,
    check_types,
    require_at_least,
    require_nonnegative,
    require_positive,
)
from lrnn_jax.domains import grid, in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.io import (
    VOLUMES,
    ArraySource,
    SourceField,
    as_source,
    level_set,
    make_folder,
    read_mesh,
    read_volume,
    require_memory,
    write_mesh,
    write_ply,
)
from lrnn_jax.metrics import iou
from lrnn_jax.pointwise import Pointwise
from lrnn_jax.typing import Field, Key, Problem, Section, Terms

__all__ = ["Occupancy", "ShapeData", "SignedDistance"]

_RING, _TUBE = 0.6, 0.25  # radii of the torus
_PART = 10_000  # points that are compared with a mesh at a time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ShapeData:
    """Sample points and target values of the field.

    Attributes:
      x: points; the solid lies in [-1, 1]^3.
      y: 1 inside and 0 outside, or the signed distance, negative inside.
    """

    x: Float[ArrayLike, "n 3"]
    y: Float[ArrayLike, "n 1"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape(Keywords, Problem):
    """Base class of the shape problems.

    Args:
      source: 'torus', which has a closed form, the path of a volume (.npy, .npz, .mat) or of a
        watertight mesh (.ply, .obj, .stl, .off, ...), which is scaled into [-0.9, 0.9]^3, or an
        array of voxels with three axes.
      points: number of sample points for a torus or a mesh, >= 2, drawn once, half of them near the
        surface. A volume uses all its voxels.
      spread: standard deviation per axis of the offsets of the near points from the surface, > 0.
      resolution: voxels per axis of the grid used to score a torus or a mesh, >= 2.
      point_seed: seed of the sample points, >= 0.

    Raises:
      InputError: the solid is missing or unusable, or a field is out of its range; holds for all
        shape problems. A volume has no distances.
    """

    main_score: ClassVar[str | None] = "iou"
    decoded_file: ClassVar[str] = "decoded.ply"
    level: ClassVar[float]
    outside: ClassVar[float]

    source: SourceField = dataclasses.field(default=as_source("torus"), kw_only=False)
    points: int = 50_000
    spread: float = 0.05
    resolution: int = 64
    point_seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", as_source(self.source))
        require_at_least(self, 2, "points", "resolution")
        require_at_least(self, 0, "point_seed")
        require_positive(self, "spread")
        check_types(self)

    @property
    def in_dim(self) -> int:
        """3: x, y and z."""
        return 3

    @property
    def out_dim(self) -> int:
        """1."""
        return 1

    def is_inside(self, values: np.ndarray) -> np.ndarray:
        """True where a value of the field means inside."""
        return values > self.level

    def truth(self) -> Bool[np.ndarray, "a b c"]:
        """Ground-truth occupancy of the scoring grid."""
        if self._is_volume:
            return self._volume()
        return self._solid_at(_voxels((self.resolution,) * 3)).reshape((self.resolution,) * 3)

    def iou(self, field: Field) -> float:
        """Intersection over union on all voxels of the scoring grid."""
        truth = self.truth()
        return iou(self.is_inside(_values(field, truth.shape)), truth)

    def trivial_scores(self, data: ShapeData | None = None) -> dict[str, float]:
        """Intersection over union of a field that is inside everywhere."""
        del data
        return {"iou": float(np.mean(self.truth()))}

    def section(self, field: Field, data: ShapeData | None = None) -> Section:
        """The inside (1) and the outside (0) on the central plane across the last axis."""
        del data
        truth = self.truth()
        value = self.is_inside(_values(field, truth.shape))
        middle = truth.shape[2] // 2
        return Section(truth[..., middle].astype(float), value[..., middle].astype(float))

    def render(
        self, field: Field, data: ShapeData | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """`slices.png`, and `mesh.ply` if the field has a surface."""
        from lrnn_jax.plot import write_slices

        del data
        folder = make_folder(folder)
        truth = self.truth()
        values = _values(field, truth.shape)
        slices = write_slices(folder / "slices.png", truth, self.is_inside(values))
        surface = level_set(values, self.level, self.outside)
        return [slices] if surface is None else [slices, write_ply(folder / "mesh.ply", *surface)]

    def decode(
        self,
        field: Field,
        size: tuple[int, ...] | None = None,
        path: str | Path | None = None,
    ) -> Path:
        """Writes the surface as PLY, OBJ or STL from `size` voxels; None: the scoring grid."""
        path = path or self.decoded_file
        shape = self.truth().shape if size is None else size
        if size is not None and (len(size) != 3 or min(size) < 2):
            raise InputError(f"size: expected three numbers of voxels >= 2, got {size}")
        surface = level_set(_values(field, shape), self.level, self.outside)
        if surface is None:
            raise InputError(f"the field has no surface: it never crosses {self.level:g}")
        return write_mesh(path, *surface)

    @property
    def _is_volume(self) -> bool:
        if isinstance(self.source, ArraySource):
            return True
        return Path(self.source).suffix.lower() in VOLUMES

    def _volume(self) -> Bool[np.ndarray, "a b c"]:
        return read_volume(self.source)

    def _solid_at(self, x: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        """True for points inside the torus or mesh."""
        if self.source == "torus":
            return _torus(x) < 0
        return _by_parts(read_mesh(str(self.source)).contains, x)

    def _distance_to(self, x: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
        """Signed distances of points to the torus or mesh, negative inside."""
        if self.source == "torus":
            return _torus(x)
        mesh = read_mesh(str(self.source))
        distance = _by_parts(lambda part: mesh.nearest.on_surface(part)[1], x)
        return np.where(_by_parts(mesh.contains, x), -distance, distance)

    def _drawn(self) -> Float[np.ndarray, "n 3"]:
        """Sample points: half of them near the surface, half uniform in [-1, 1]^3.

        Raises:
          InputError: the solid is unusable, or the scoring grid does not fit into memory.
        """
        voxels = f"resolution: a grid of {self.resolution}^3 points"
        require_memory(voxels, 3 * 8 * self.resolution**3)
        rng = np.random.default_rng(self.point_seed)
        near = self.points // 2
        if self.source == "torus":
            surface = _on_torus(near, rng)
        else:
            mesh = read_mesh(str(self.source))
            triangles = rng.choice(len(mesh.faces), near, p=mesh.area_faces / mesh.area)
            weights = rng.dirichlet((1.0, 1.0, 1.0), near)
            surface = np.einsum("nk,nkd->nd", weights, mesh.triangles[triangles])
        away = np.clip(surface + self.spread * rng.normal(size=surface.shape), -1, 1)
        return np.concatenate([away, rng.uniform(-1, 1, (self.points - near, 3))])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Occupancy(Shape, Pointwise):
    """Fit the occupancy of a solid: minimise mean (u(x) - y)^2, y = 1 inside and 0 outside.

    A point is inside if u > 1/2. Each axis of a volume spans [-1, 1].

    Args:
      threshold: value above which a voxel of a volume is inside; None takes half of the largest.

    References: the set-up of Saragadam et al., "WIRE" (CVPR 2023): all voxels of the volume, cut
    to the bounding box of the solid; squared error; level 1/2.
    """

    level: ClassVar[float] = 0.5
    outside: ClassVar[float] = 0.0

    threshold: float | None = None

    def _volume(self) -> Bool[np.ndarray, "a b c"]:
        return read_volume(self.source, self.threshold)

    def load(self) -> ShapeData:
        """All voxels of a volume, or sample points of a torus or mesh, with their occupancy."""
        if self._is_volume:
            inside = self._volume()
            return ShapeData(_voxels(inside.shape), _column(inside))
        x = self._drawn()
        return ShapeData(in_precision(x), _column(self._solid_at(x)))

    def evaluate(self, field: Field, data: ShapeData | None = None) -> dict[str, float]:
        """Intersection over union on all voxels."""
        del data
        return {"iou": self.iou(field)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignedDistance(Shape):
    """Fit the signed distance to a surface, negative inside.

        loss = mean |u(x) - d(x)| + eikonal * mean (|grad u| - 1)^2

    Args:
      eikonal: weight of the second term, >= 0; a distance function has |grad u| = 1.

    References: Park et al., "DeepSDF" (CVPR 2019); Gropp et al., "Implicit Geometric
    Regularization for Learning Shapes" (ICML 2020) for the eikonal term.
    """

    loss_fields: ClassVar[tuple[str, ...] | None] = ("eikonal",)
    level: ClassVar[float] = 0.0
    outside: ClassVar[float] = 1.0

    eikonal: float = 0.1

    def __post_init__(self) -> None:
        require_nonnegative(self, "eikonal")
        super().__post_init__()
        if self._is_volume:
            raise InputError(
                f"source: {self.source} is a volume, which has no distances: take a mesh, or the "
                "problem 'occupancy'"
            )

    def is_inside(self, values: np.ndarray) -> np.ndarray:
        """True where the signed distance is negative."""
        return values < self.level

    def load(self) -> ShapeData:
        """Sample points and their signed distances."""
        x = self._drawn()
        return ShapeData(in_precision(x), _column(self._distance_to(x)))

    def loss(self, field: Field, data: ShapeData, key: Key) -> tuple[jax.Array, Terms]:
        """The loss and its terms 'distance' and 'eikonal'."""
        del key

        def value_and_slope(point: jax.Array) -> tuple[jax.Array, jax.Array]:
            value, slope = jax.value_and_grad(lambda p: field(p)[0])(point)
            square = jnp.sum(slope**2)
            positive = square > 0  # the square root has no derivative at 0
            return value, jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)

        value, slope = jax.vmap(value_and_slope)(jnp.asarray(data.x))
        distance = jnp.mean(jnp.abs(value - jnp.asarray(data.y)[:, 0]))
        eikonal = jnp.mean((slope - 1) ** 2)
        return distance + self.eikonal * eikonal, {"distance": distance, "eikonal": eikonal}

    def evaluate(self, field: Field, data: ShapeData | None = None) -> dict[str, float]:
        """Mean absolute error of the distance at the sample points, and intersection over union."""
        data = self.loaded(data)
        error = np.abs(predict(field, data.x).astype(np.float64) - np.asarray(data.y, np.float64))
        return {"distance_error": float(error.mean()), "iou": self.iou(field)}


def _by_parts(
    function: Callable[[np.ndarray], np.ndarray], x: Float[np.ndarray, "n 3"]
) -> np.ndarray:
    """A function of points, which holds all triangles near each of them: some points at a time."""
    return np.concatenate([function(x[i : i + _PART]) for i in range(0, len(x), _PART)])


def _torus(x: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
    """The signed distance to a torus about the z axis."""
    x = np.asarray(x, np.float64)
    return np.hypot(np.hypot(x[:, 0], x[:, 1]) - _RING, x[:, 2]) - _TUBE


def _on_torus(count: int, rng: np.random.Generator) -> Float[np.ndarray, "n 3"]:
    """Points on the surface of the torus, uniform in its two angles."""
    around, along = rng.uniform(0, 2 * np.pi, (2, count))
    radius = _RING + _TUBE * np.cos(along)
    return np.stack([radius * np.cos(around), radius * np.sin(around), _TUBE * np.sin(along)], -1)


def _voxels(shape: tuple[int, ...]) -> Float[np.ndarray, "n 3"]:
    """Voxel centres; each axis spans [-1, 1]."""
    return rearrange(grid(shape), "a b c d -> (a b c) d")


def _values(field: Field, shape: tuple[int, ...]) -> Float[np.ndarray, "a b c"]:
    """The field at the voxel centres."""
    return predict(field, _voxels(shape)).reshape(shape)


def _column(values: np.ndarray) -> Float[np.ndarray, "n 1"]:
    return in_precision(values.reshape(-1, 1))
