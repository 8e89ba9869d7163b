"""Problems made from arrays equal those made from files, and stay hashable."""

import jax.numpy as jnp
import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax import inverse
from lrnn_jax.experiments import Experiment, start, table_of
from lrnn_jax.io import ArraySource, Clip, Sound, write_png, write_video, write_wav

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 7), dtype=np.uint8)
RGB = RNG.integers(0, 2**16, (6, 5, 3), dtype=np.uint16)
VOXELS = RNG.random((5, 6, 7)).astype(np.float32)
FEATURES, TARGETS = RNG.random((40, 3)), RNG.random(40)
LABELS = np.array(["low", "high"])[(TARGETS > 0.5).astype(int)]


def same(left, right):
    a, b = left.load(), right.load()
    assert np.array_equal(np.asarray(a.x), np.asarray(b.x))
    assert np.array_equal(np.asarray(a.y), np.asarray(b.y))


@pytest.mark.parametrize("array", [GREY, RGB], ids=["8 bits", "16 bits"])
def test_an_image_array_is_its_png(tmp_path, array):
    bits = 8 * array.itemsize
    pixels = array.reshape(*array.shape[:2], -1) / (2**bits - 1)
    path = write_png(tmp_path / "image.png", pixels, bits)
    same(lj.Image(array), lj.Image(path))
    assert lj.Image(array).load().bits == bits
    assert lj.Image(array).out_dim == pixels.shape[-1]


def test_floats_lists_and_jax_arrays_are_taken():
    unit = GREY / 255
    for form in (unit, unit.tolist(), jnp.asarray(unit, "float32")):
        y = np.asarray(lj.Image(form).load().y)
        np.testing.assert_allclose(y.reshape(9, 7), 2 * unit - 1, atol=1e-6)


def test_a_sound_array_is_its_file(tmp_path):
    samples = RNG.uniform(-0.5, 0.5, (400, 2))
    path = write_wav(tmp_path / "sound.wav", Sound(samples, 8000, "DOUBLE"))
    same(lj.Audio(samples, rate=8000), lj.Audio(str(path)))
    same(lj.Audio(samples, 8000), lj.Audio(path))
    integers = np.round(samples * 2**15).astype(np.int16)
    path = write_wav(tmp_path / "integers.wav", Sound(integers / 2**15, 8000, "PCM_16"))
    same(lj.Audio(integers, 8000), lj.Audio(path))


def test_video_voxels_and_tables_are_their_files(tmp_path):
    frames = RNG.integers(0, 256, (3, 4, 6, 1), dtype=np.uint8)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(frames):
        write_png(folder / f"{number}.png", frame / 255)
    same(lj.Video(frames[..., 0]), lj.Video(folder))
    assert lj.Video(frames, fps=5).load().rate == 5.0
    np.save(tmp_path / "voxels.npy", VOXELS)
    same(lj.Occupancy(VOXELS), lj.Occupancy(tmp_path / "voxels.npy"))
    same(lj.Volume(VOXELS), lj.Volume(tmp_path / "voxels.npy"))
    np.savez(tmp_path / "rows.npz", x=FEATURES, y=TARGETS)
    np.savez(tmp_path / "classes.npz", x=FEATURES, y=LABELS)
    same(lj.Regression(FEATURES, TARGETS), lj.Regression(tmp_path / "rows.npz"))
    same(lj.Classification(FEATURES, LABELS), lj.Classification(tmp_path / "classes.npz"))


def test_inverse_problems_and_masks_take_arrays(tmp_path):
    path = write_png(tmp_path / "image.png", GREY[..., None] / 255)
    same(inverse.Denoising(GREY), inverse.Denoising(path))
    same(inverse.CT(GREY, size=8, views=5), inverse.CT(path, size=8, views=5))
    mask = GREY > 100
    known = inverse.Inpainting(GREY, mask=mask).load()
    assert len(known.y) == mask.sum()


def test_the_threshold_decides_what_is_inside():
    low, high = (lj.Occupancy(VOXELS, threshold=t).truth().mean() for t in (0.2, 0.8))
    assert low == pytest.approx(0.8, abs=0.1) and high == pytest.approx(0.2, abs=0.1)


def test_equal_arrays_give_equal_problems_and_a_changed_copy_another():
    changed = GREY.copy()
    problem = lj.Image(changed)
    assert problem == lj.Image(GREY) and hash(problem) == hash(lj.Image(GREY))
    changed[0, 0] ^= 1  # the problem has a copy
    assert problem == lj.Image(GREY) != lj.Image(changed)
    assert ArraySource(GREY) != ArraySource(GREY.astype(np.uint16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lj.Image(source=5), "source: expected a string or an array, got 5"),
        (lambda: lj.Image(np.zeros((4, 4, 7))).load(), "expected an image"),
        (lambda: lj.Image(GREY * 2.0).load(), r"expected .*\[0, 1\]"),
        (lambda: lj.Image([[1, 2], [3]]), "expected an array"),
        (lambda: lj.Image(np.zeros((4, 4), complex)), "expected an array of numbers, got complex"),
        (lambda: lj.Audio(np.ones(9)).load(), "rate: an array needs the number of samples"),
        (lambda: lj.Audio(rate=8000).load(), "rate: chord has a sampling rate of its own"),
        (lambda: lj.Audio(np.ones((3, 3, 3)), 8).load(), "expected samples"),
        (lambda: lj.Video(fps=3.0).load(), "fps: pan has a frame rate of its own"),
        (lambda: lj.Video(np.zeros((4, 4))).load(), "expected frames"),
        (lambda: lj.Occupancy(GREY).load(), "expected an array with three axes"),
        (lambda: lj.Volume(np.ones((3, 3, 3))).load(), "has one value, 1"),
        (lambda: lj.Volume(np.full((3, 3, 3), np.nan)).load(), "values that are not finite"),
        (lambda: lj.Volume(np.zeros((1, 3, 3))).load(), "2 voxels or more along each axis"),
        (lambda: lj.Regression(FEATURES).load(), "target: an array of features needs an array"),
        (lambda: lj.Regression("diabetes", TARGETS).load(), "expected the name of a column"),
        (lambda: lj.Regression(FEATURES, TARGETS[:-1]).load(), "expected numbers"),
        (lambda: lj.Image(GREY, GREY), "Image: its arguments are given by name"),
    ],
)
def test_other_arrays_are_refused(make, message):
    with pytest.raises(lj.InputError, match=message):
        make()


def test_an_array_is_fitted_in_memory_and_refused_by_a_file(tmp_path):
    problem = lj.Image(GREY)
    model = lj.Siren(in_dim=2, out_dim=1, width=16, depth=2)
    solution = lj.solve(model, problem, lj.Training(steps=50))
    assert solution.losses[-1] < 0.5 * solution.losses[0]
    experiment = Experiment(model=model, problem=problem, training=lj.Training(steps=2))
    with pytest.raises(lj.InputError, match="source: an array cannot be written to a file"):
        table_of(experiment)
    with pytest.raises(lj.InputError, match="cannot be written"):
        start(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_video_array_keeps_its_rate_when_it_is_decoded(tmp_path):
    clip = lj.Video(RNG.random((4, 6, 6)), fps=4).load()
    assert clip.rate == 4.0
    write_video(tmp_path / "a.gif", Clip(np.asarray(clip.y).reshape(4, 6, 6, 1) / 2 + 0.5, 4.0))
    assert (tmp_path / "a.gif").stat().st_size > 100
