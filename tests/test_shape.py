"""Solids: files in and out, points near and far, occupancy and signed distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
import trimesh

import lrnn_jax as lj
from lrnn_jax import InputError
from lrnn_jax.io import level_set, read_mesh, read_picture, read_volume, write_ply
from lrnn_jax.metrics import iou

BLOCK = np.zeros((9, 8, 7), np.uint8)
BLOCK[2:7, 1:6, 3:6] = 255
BLOCK[2, 1, 3] = 0


def torus(x):
    x = np.asarray(x, np.float64)
    return np.hypot(np.hypot(x[..., :1], x[..., 1:2]) - 0.6, x[..., 2:]) - 0.25


@pytest.fixture
def ball(tmp_path):
    """The path of a mesh of a ball, not about the origin."""
    mesh = trimesh.creation.icosphere(3, radius=4.0)
    mesh.apply_translation((5, -2, 1))
    mesh.export(tmp_path / "ball.stl")
    return str(tmp_path / "ball.stl")


# Volumes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_a_volume_is_cut_to_the_box_of_its_solid(tmp_path, suffix):
    path = tmp_path / f"block{suffix}"
    if suffix == ".npy":
        np.save(path, BLOCK)
    elif suffix == ".npz":
        np.savez(path, block=BLOCK, label=np.zeros(3))
    else:
        scipy.io.savemat(path, {"hypercube": BLOCK})
    np.testing.assert_array_equal(read_volume(str(path)), BLOCK[2:7, 1:6, 3:6] > 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((3, 3, 3)), "has voxels of one kind only"),
        (np.zeros((3, 3, 3)), "has voxels of one kind only"),
        (np.ones((0, 3, 3)), r"holds an array \(0, 3, 3\): expected voxels"),
        (np.ones((3, 3)), r"holds array \(3, 3\): expected one array with three axes"),
        (np.where(BLOCK == 255, np.nan, 0.0), "values that are not finite"),
        (np.full((2, 2, 2), "a"), "expected numbers"),
    ],
    ids=["full", "empty", "none", "flat", "nan", "text"],
)
def test_unusable_volumes_are_refused(tmp_path, values, message):
    np.save(tmp_path / "volume.npy", values)
    with pytest.raises(InputError, match=message):
        read_volume(str(tmp_path / "volume.npy"))


@pytest.mark.parametrize("name", ["cut.npy", "cut.npz", "cut.mat"])
def test_damaged_volumes_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"This is no volume, whatever its name is.")
    with pytest.raises(
        InputError, match=r"cannot read .*: damaged, or no (NumPy array|NPZ|MATLAB file)"
    ):
        read_volume(str(tmp_path / name))


# Meshes -------------------------------------------------------------------------------------------


def test_a_mesh_is_moved_and_scaled_into_the_box(ball):
    mesh = read_mesh(ball)
    np.testing.assert_allclose(mesh.bounds, [[-0.9] * 3, [0.9] * 3], atol=1e-6)


def test_points_are_compared_with_a_mesh_in_parts(ball, monkeypatch):
    problem = lj.SignedDistance(ball, points=500)
    at_once = np.asarray(problem.load().y)
    sizes = []
    contains = trimesh.Trimesh.contains
    monkeypatch.setattr(
        trimesh.Trimesh, "contains", lambda mesh, x: sizes.append(len(x)) or contains(mesh, x)
    )
    monkeypatch.setattr("lrnn_jax.signals.shape._PART", 99)
    np.testing.assert_array_equal(problem.load().y, at_once)
    assert sizes == [99] * 5 + [5]


def test_a_mesh_with_a_hole_is_refused(tmp_path):
    mesh = trimesh.creation.icosphere(1)
    mesh.update_faces(np.arange(len(mesh.faces)) > 0)
    mesh.export(tmp_path / "open.ply")
    with pytest.raises(InputError, match="is not watertight: it does not separate"):
        read_mesh(str(tmp_path / "open.ply"))


MESHES = {"a.stl": b"solid", "a.obj": b"v 0 0 0", "a.x": b"?"}


@pytest.mark.parametrize(("name", "content"), MESHES.items())
def test_damaged_meshes_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read|has no triangles|expected a mesh of STL"):
        read_mesh(str(tmp_path / name))


def test_a_surface_that_is_written_is_read(tmp_path):
    """Of a ball on a grid that is no cube; closed, and of the right size."""
    axes = [(np.arange(n) + 0.5) / n * 2 - 1 for n in (40, 30, 50)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    vertices, faces = level_set(np.sqrt(x**2 + y**2 + z**2), 0.7, outside=9.0)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 0.7, atol=5e-3)
    found = trimesh.load(write_ply(tmp_path / "ball.ply", vertices, faces))
    assert found.is_watertight
    assert len(found.faces) == len(faces)
    np.testing.assert_allclose(found.area, 4 * np.pi * 0.49, rtol=0.01)


@pytest.mark.parametrize("sign", [1, -1])
def test_normals_point_outwards_whichever_side_is_larger(tmp_path, sign):
    axis = np.linspace(-1, 1, 20)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    values = sign * (np.sqrt(x**2 + y**2 + z**2) - 0.7)
    surface = level_set(values, 0.0, outside=sign * 9.0)
    assert trimesh.load(write_ply(tmp_path / "ball.ply", *surface)).volume > 1


def test_surfaces_are_closed_at_the_end_of_the_box(tmp_path):
    vertices, faces = level_set(np.ones((4, 4, 4)), 0.5, outside=0.0)
    assert trimesh.load(write_ply(tmp_path / "box.ply", vertices, faces)).is_watertight
    assert np.abs(vertices).max() == pytest.approx(1)
    assert level_set(np.zeros((4, 4, 4)), 0.5, outside=0.0) is None


# Problems -----------------------------------------------------------------------------------------


def test_all_voxels_of_a_volume_are_points(tmp_path, key):
    np.save(tmp_path / "block.npy", BLOCK)
    problem = lj.Occupancy(source=str(tmp_path / "block.npy"))
    data = problem.load()
    inside = BLOCK[2:7, 1:6, 3:6] > 0
    for row, (i, j, k) in enumerate(np.ndindex(5, 5, 3)):
        centre = [-1 + (2 * i + 1) / 5, -1 + (2 * j + 1) / 5, -1 + (2 * k + 1) / 3]
        np.testing.assert_allclose(data.x[row], centre, atol=1e-6)
        assert data.y[row, 0] == inside[i, j, k]
    field = lambda x: 0 * np.asarray(x)[..., :1] + 0.25  # noqa: E731
    share = inside.mean()
    expected = share * 0.75**2 + (1 - share) * 0.25**2
    assert float(problem.loss(field, data, key)[0]) == pytest.approx(expected, rel=1e-5)
    assert problem.evaluate(field, data) == {"iou": 0.0}
    full = lambda x: field(x) + 0.5  # noqa: E731
    assert problem.evaluate(full, data)["iou"] == pytest.approx(share)


def test_points_lie_near_and_far():
    problem = lj.Occupancy(points=4000, spread=0.02)
    data = problem.load()
    distance = torus(data.x)[:, 0]
    np.testing.assert_array_equal(np.asarray(data.y)[:, 0], distance < 0)
    assert np.std(distance[:2000]) == pytest.approx(0.02, rel=0.1)
    volume = 2 * np.pi**2 * 0.6 * 0.25**2
    assert np.mean(distance[2000:] < 0) == pytest.approx(volume / 8, abs=0.02)
    np.testing.assert_array_equal(data.x, problem.load().x)


def test_a_mesh_gives_the_distances_of_its_surface(ball):
    problem = lj.SignedDistance(source=ball, points=300)
    data = problem.load()
    expected = np.linalg.norm(np.float64(data.x), axis=1) - 0.9
    np.testing.assert_allclose(np.asarray(data.y)[:, 0], expected, atol=0.02)
    inside = lj.Occupancy(source=ball, points=300, resolution=12)
    np.testing.assert_array_equal(np.asarray(inside.load().y)[:, 0], np.asarray(data.y)[:, 0] < 0)
    ball_itself = lambda x: 1.0 * (np.linalg.norm(x, axis=-1, keepdims=True) < 0.9)  # noqa: E731
    assert inside.evaluate(ball_itself, None)["iou"] > 0.9


def test_the_distance_itself_has_full_marks_and_no_eikonal_term(key):
    problem = lj.SignedDistance(points=500, resolution=20)
    data = problem.load()
    scores = problem.evaluate(torus, data)
    assert scores["iou"] == 1
    assert scores["distance_error"] < 1e-6

    def traced(x):
        ring = jnp.sqrt(x[..., :1] ** 2 + x[..., 1:2] ** 2) - 0.6
        return jnp.sqrt(ring**2 + x[..., 2:] ** 2) - 0.25

    loss, terms = problem.loss(traced, data, key)
    assert float(terms["distance"]) < 1e-6
    assert float(terms["eikonal"]) < 1e-9
    doubled, terms = problem.loss(lambda x: 2 * traced(x), data, key)
    assert float(terms["eikonal"]) == pytest.approx(1, rel=1e-5)
    error = np.abs(np.asarray(data.y)).mean()
    assert float(doubled) == pytest.approx(error + 0.1, rel=1e-4)
    assert float(loss) < 1e-5


def test_a_field_without_slope_has_a_gradient(key):
    """The norm of a slope of 0 has no derivative; a network may start with one."""
    problem = lj.SignedDistance(points=20)
    data = problem.load()
    loss = lambda a: problem.loss(lambda x: a * x[..., :1], data, key)[0]  # noqa: E731
    assert np.isfinite(jax.grad(loss)(0.0))


@pytest.mark.parametrize("kind", [lj.Occupancy, lj.SignedDistance])
def test_a_short_fit_finds_the_torus(kind):
    problem = kind(points=2000, resolution=24)
    model = lj.Siren(in_dim=3, out_dim=1, width=32, depth=2, omega0=4.0)
    found = lj.solve(model, problem, lj.Training(steps=80, learning_rate=3e-3), score_every=2)
    assert found.scores["iou"] > found.evaluations[0][1]["iou"] + 0.3


def test_what_is_drawn_can_be_read(tmp_path):
    problem = lj.SignedDistance(points=10, resolution=24)
    folder = tmp_path / "run"
    folder.mkdir()
    files = problem.render(torus, problem.load(), folder)
    assert {file.name for file in files} == {"slices.png", "mesh.ply"}
    assert min(read_picture(str(folder / "slices.png")).pixels.shape[:2]) > 100
    mesh = trimesh.load(folder / "mesh.ply")
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(2 * np.pi**2 * 0.6 * 0.25**2, rel=0.03)
    nothing = lambda x: 0 * torus(x) + 1  # noqa: E731
    assert [file.name for file in problem.render(nothing, None, folder)] == ["slices.png"]


def test_decode_takes_any_grid(tmp_path):
    problem = lj.SignedDistance(points=10)
    path = problem.decode(torus, (30, 40, 20), tmp_path / "torus.ply")
    np.testing.assert_allclose(torus(trimesh.load(path).vertices), 0, atol=0.01)
    with pytest.raises(InputError, match="size: expected three numbers of voxels >= 2"):
        problem.decode(torus, (4, 4), path)
    with pytest.raises(InputError, match="the field has no surface: it never crosses 0"):
        problem.decode(lambda x: 0 * torus(x) + 1, (4, 4, 4), path)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (lj.Occupancy, {"points": 1}, "points: expected an integer >= 2"),
        (lj.Occupancy, {"resolution": 1}, "resolution: expected an integer >= 2"),
        (lj.Occupancy, {"spread": 0.0}, "spread: "),
        (lj.SignedDistance, {"eikonal": -1.0}, "eikonal: expected a finite number >= 0"),
        (lj.SignedDistance, {"source": "a.npy"}, "a.npy is a volume, which has no distances"),
    ],
)
def test_impossible_fields_are_named(kind, fields, message):
    with pytest.raises(InputError, match=message):
        kind(**fields)


def test_intersection_over_union():
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert iou(a, b) == pytest.approx(1 / 3)
    assert iou(a, a) == 1
    assert iou(a & ~a, a & ~a) == 1
    with pytest.raises(InputError, match="expected booleans, got int64 and bool"):
        iou(a.astype(int), b)
    with pytest.raises(InputError, match="shapes differ"):
        iou(a, b[:2])
