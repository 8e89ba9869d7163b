"""The suffix of a decoded file names its format."""

import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax.io import read_mesh, read_picture, read_sound

PIXELS = np.linspace(0, 1, 12 * 10).reshape(12, 10)
TONE = np.sin(np.arange(400.0))


def constant(value, channels=1):
    return lambda x: np.full((*np.shape(x)[:-1], channels), value, np.float32)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures(tmp_path, suffix, channels):
    problem = lj.Image(np.repeat(PIXELS[..., None], channels, axis=-1))
    path = problem.decode(constant(0.2, channels), (7, 5), tmp_path / f"a{suffix}")
    found = read_picture(str(path)).pixels
    assert found.shape == (5, 7, channels)
    np.testing.assert_allclose(found, 0.6, atol=1 / 255)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_sounds(tmp_path, suffix):
    problem = lj.Audio(TONE, 400)
    found = read_sound(str(problem.decode(constant(0.5), path=tmp_path / f"a{suffix}")))
    assert found.rate == 400 and found.samples.shape == (400, 1)
    np.testing.assert_allclose(found.samples, 0.5 * np.abs(TONE).max(), atol=1e-5)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl"])
def test_meshes(tmp_path, suffix):
    pytest.importorskip("trimesh")

    def ball(x):
        return 0.75 - np.sum(np.asarray(x) ** 2, axis=-1, keepdims=True)

    path = lj.Occupancy().decode(ball, (24, 24, 24), tmp_path / f"ball{suffix}")
    mesh = read_mesh(str(path))  # scaled to a largest side of 1.8
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.03)


def test_volumes_and_solutions(tmp_path):
    volume = lj.Volume(np.linspace(0, 10, 60).reshape(3, 4, 5))
    for suffix in (".npy", ".npz"):
        found = np.load(volume.decode(constant(0.0), path=tmp_path / f"a{suffix}"))
        values = found if suffix == ".npy" else found["values"]
        np.testing.assert_allclose(values, np.full((3, 4, 5), 5.0))
    equation = lj.pde.Convection(points=9)
    found = np.load(equation.decode(constant(0.5), (4, 3), tmp_path / "b.npz"))
    assert found["u"].shape == (12, 1)


@pytest.mark.parametrize(
    ("problem", "name", "message"),
    [
        (lj.Image(PIXELS), "a.jpg", "ends in .png or .tif or .tiff"),
        (lj.inverse.CT(PIXELS, size=8, views=3), "a", "ends in .png or .tif or .tiff"),
        (lj.Audio(TONE, 400), "a.mp3", "ends in .wav or .flac"),
        (lj.Video(np.stack([PIXELS] * 2)), "a.webm", "ends in .gif or .mp4 or .mkv or .mov"),
        (lj.Volume(np.arange(60.0).reshape(3, 4, 5)), "a.nii", "ends in .npy or .npz"),
        (lj.Regression(PIXELS, PIXELS[:, 0]), "a.txt", "ends in .csv"),
        (lj.pde.Convection(points=9), "a.csv", "ends in .npz or .nc or .vti or .png"),
    ],
)
def test_another_suffix_is_refused_and_nothing_is_written(problem, name, message, tmp_path):
    with pytest.raises(lj.InputError, match=message):
        problem.decode(constant(0.1), path=tmp_path / name)
    assert not list(tmp_path.iterdir())
