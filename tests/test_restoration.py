"""Noise, holes, fewer pixels, shifted frames: what is measured, against loops over pixels."""

import math

import numpy as np
import pytest
import scipy.ndimage

import lrnn_jax as lj
from lrnn_jax import InputError
from lrnn_jax.inverse import Denoising, Inpainting, MultiFrameSuperResolution, SuperResolution
from lrnn_jax.io import read_picture, write_png
from lrnn_jax.metrics import psnr, ssim

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 3)) / 255
SMOOTH = (
    np.round(
        255
        * (0.5 + 0.4 * np.sin(np.arange(24)[:, None, None] / 5 + np.arange(16)[None, :, None] / 4))
    )
    / 255
)
KINDS = {
    "denoising": Denoising,
    "inpainting": Inpainting,
    "super_resolution": SuperResolution,
    "multi_frame_super_resolution": MultiFrameSuperResolution,
}


@pytest.fixture
def stored(tmp_path):
    """Writes pixels as a PNG and returns its path."""

    def store(pixels=PIXELS, name="picture.png"):
        return str(write_png(tmp_path / name, pixels))

    return store


def lookup(pixels):
    """The field that is `pixels` at their centres."""
    sides = np.array(pixels.shape[:2])

    def field(x):
        place = np.floor((np.asarray(x) + 1) / 2 * sides).astype(int)
        return 2 * pixels[place[..., 0], place[..., 1]] - 1

    return field


def plane(x):
    """A field that is linear, so that a mean over points is its value at their mean."""
    x = np.asarray(x)
    return np.stack([0.3 * x[..., 0] - 0.2 * x[..., 1]] * 3, axis=-1)


def in_unit(y):
    return (np.asarray(y, np.float64) + 1) / 2


# Noise --------------------------------------------------------------------------------------------


def test_noise_has_the_mean_and_the_variance_of_photons_and_readout(stored):
    """mean v and variance (photons v + readout^2) / photons^2."""
    flat = np.full((100, 100, 1), 102 / 255)
    problem = Denoising(source=stored(flat), photons=40.0, readout=3.0)
    values = in_unit(problem.load().y)
    assert values.mean() == pytest.approx(0.4, abs=4e-3)
    assert values.var() == pytest.approx((40 * 0.4 + 9) / 1600, rel=0.05)


def test_noise_is_seeded_and_the_given_picture_is_what_is_measured(stored):
    path = stored()
    one, again, other = (Denoising(source=path, noise_seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.load().y, again.load().y)
    assert np.any(one.load().y != other.load().y)
    given = one.baseline(PIXELS).reshape(-1, 3)
    np.testing.assert_allclose(in_unit(one.load().y), given, atol=1e-6)


def test_many_photons_are_no_noise(stored):
    problem = Denoising(source=stored(), photons=1e12, readout=0.0)
    np.testing.assert_allclose(in_unit(problem.load().y), PIXELS.reshape(-1, 3), atol=1e-5)


# Holes --------------------------------------------------------------------------------------------


def test_the_known_pixels_are_pixels_of_the_picture(stored):
    problem = Inpainting(source=stored(), known=0.25)
    data = problem.load()
    assert data.x.shape == (24, 1, 2)
    np.testing.assert_allclose(data.y, lookup(PIXELS)(data.x[:, 0]), atol=1e-6)
    assert len(np.unique(data.x[:, 0], axis=0)) == 24


def test_a_mask_says_which_pixels_are_known(stored):
    mask = np.zeros((12, 8, 1))
    mask[3, 5] = mask[0, 0] = 1
    problem = Inpainting(source=stored(), mask=stored(mask, "mask.png"))
    np.testing.assert_allclose(in_unit(problem.load().y), PIXELS[[0, 3], [0, 5]], atol=1e-6)


def test_holes_are_given_the_nearest_known_pixel(stored):
    problem = Inpainting(source=stored(), known=0.2)
    known, given = problem.is_known((12, 8)), problem.baseline(PIXELS)
    places = np.argwhere(known)
    for row in range(12):
        for column in range(8):
            squares = ((places - [row, column]) ** 2).sum(axis=1)
            nearest = places[squares == squares.min()]
            assert any((given[row, column] == PIXELS[tuple(p)]).all() for p in nearest)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((8, 12, 1)), "mask: expected 8 x 12 pixels .* got 12 x 8"),
        (np.zeros((12, 8, 1)), "has no bright pixel: nothing would be known"),
    ],
    ids=["turned", "dark"],
)
def test_unusable_masks_are_refused(stored, mask, message):
    with pytest.raises(InputError, match=message):
        Inpainting(source=stored(), mask=stored(mask, "mask.png")).load()


# Fewer pixels -------------------------------------------------------------------------------------


def test_blocks_are_means_of_the_pixels_that_their_points_lie_in(stored):
    problem = SuperResolution(source=stored())
    data = problem.load()
    assert data.x.shape == (6, 16, 2)
    for block, (row, column) in enumerate(np.ndindex(3, 2)):
        own = PIXELS[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        np.testing.assert_allclose(in_unit(data.y[block]), own.mean(axis=(0, 1)), atol=1e-6)
        found = lookup(PIXELS)(data.x[block]).reshape(4, 4, 3)
        np.testing.assert_allclose(in_unit(found), own, atol=1e-6)


@pytest.mark.parametrize("kind", [SuperResolution, MultiFrameSuperResolution])
def test_sides_are_multiples_of_the_scale(stored, kind):
    with pytest.raises(InputError, match="8 x 12 pixels are no multiple of 5: take a size of 5 10"):
        kind(source=stored(), scale=5).load()


# Frames -------------------------------------------------------------------------------------------


def test_the_first_frame_is_that_of_super_resolution(stored):
    path = stored()
    one = MultiFrameSuperResolution(source=path, frames=1).load()
    alone = SuperResolution(source=path).load()
    np.testing.assert_allclose(one.x, alone.x, atol=1e-6)
    np.testing.assert_allclose(one.y, alone.y, atol=1e-6)


def test_frames_hold_the_picture_at_their_points(stored):
    """Interpolated between pixel centres, none of them outside."""
    problem = MultiFrameSuperResolution(source=stored(SMOOTH), frames=5, shift=2.0, turn=9.0)
    data = problem.load()
    assert np.abs(data.x).max() < 1
    assert len(data.y) > 24
    places = (np.float64(data.x) + 1) / 2 * [24, 16] - 0.5
    places = np.moveaxis(places, -1, 0)  # of which some lie on the edge, but for rounding
    values = scipy.ndimage.map_coordinates(SMOOTH[..., 0], places, order=1, mode="nearest")
    np.testing.assert_allclose(in_unit(data.y[:, 0]), values.mean(axis=1), atol=1e-5)


def test_frames_move_rigidly_and_in_pixels(stored):
    """Points of a block keep their distances, although the picture is not square."""
    data = MultiFrameSuperResolution(source=stored(SMOOTH), frames=6, shift=3.0, turn=30.0).load()
    places = np.float64(data.x) * [12, 8]
    side = np.linalg.norm(places[:, 1] - places[:, 0], axis=-1)
    corner = np.linalg.norm(places[:, 15] - places[:, 0], axis=-1)
    np.testing.assert_allclose(side, 1, atol=1e-5)
    np.testing.assert_allclose(corner, 3 * math.sqrt(2), atol=1e-5)
    middles = places.mean(axis=1)
    assert len(np.unique(np.round(middles, 3), axis=0)) == len(middles)


# What all of them share ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_of_means_over_points(stored, key, kind):
    """A linear field: its mean over points is its value at their mean."""
    data = KINDS[kind](source=stored()).load()
    value = plane(np.mean(data.x, axis=1, dtype=np.float64))
    expected = np.mean((value - np.float64(data.y)) ** 2)
    loss, terms = KINDS[kind](source=stored()).loss(plane, data, key)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert terms == {}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_against_the_truth_beside_those_of_what_is_given(stored, kind):
    problem = KINDS[kind](source=stored(SMOOTH))
    scores = problem.evaluate(lookup(SMOOTH), problem.load())
    given = problem.baseline(SMOOTH)
    assert scores["psnr"] > 200
    assert scores["ssim"] == pytest.approx(1)
    assert given.shape == SMOOTH.shape
    assert scores["psnr_given"] == pytest.approx(psnr(given, SMOOTH))
    assert scores["ssim_given"] == pytest.approx(ssim(given, SMOOTH))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_can_be_read(stored, tmp_path, kind):
    problem = KINDS[kind](source=stored(SMOOTH))
    folder = tmp_path / "run"
    folder.mkdir()
    files = problem.render(lookup(SMOOTH), problem.load(), folder)
    names = {"reconstruction.png", "error.png", "given.png"}
    assert {file.name for file in files} == names == {file.name for file in folder.iterdir()}
    found = read_picture(str(folder / "reconstruction.png")).pixels
    np.testing.assert_allclose(found, SMOOTH, atol=1e-6)
    path = problem.decode(lookup(SMOOTH), (8, 12), tmp_path / "half.png")
    assert read_picture(str(path)).pixels.shape == (12, 8, 1)


@pytest.mark.parametrize("kind", ["inpainting", "super_resolution", "multi_frame_super_resolution"])
def test_a_short_fit_beats_its_start_by_3_db(kind):
    problem = KINDS[kind](source="camera", size=(32, 32))
    model = lj.Siren(in_dim=2, out_dim=1, width=24, depth=2, omega0=8.0)
    training = lj.Training(steps=60, learning_rate=3e-3)
    found = lj.solve(model, problem, training, score_every=2)
    assert found.scores["psnr"] > found.evaluations[0][1]["psnr"] + 3


def test_a_short_fit_removes_noise():
    """A network of few parameters is nearer to the truth than what it was fitted to."""
    problem = Denoising(source="camera", size=(32, 32), photons=10.0)
    model = lj.Siren(in_dim=2, out_dim=1, width=16, depth=2, omega0=8.0)
    found = lj.solve(model, problem, lj.Training(steps=150, learning_rate=3e-3))
    assert found.scores["psnr"] > found.scores["psnr_given"] + 2


def test_chunks_change_nothing_but_rounding():
    problem = SuperResolution(source="camera", size=(16, 16))
    model = lj.Siren(in_dim=2, out_dim=1, width=8, depth=1)
    whole, parts = (
        lj.solve(model, problem, lj.Training(steps=3, chunk=chunk)).history["loss"]
        for chunk in (None, 5)
    )
    np.testing.assert_allclose(whole, parts, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Denoising, {"photons": 0.0}, "photons: "),
        (Denoising, {"readout": -1.0}, "readout: expected a finite number >= 0"),
        (Denoising, {"noise_seed": -1}, "noise_seed: expected an integer >= 0"),
        (Inpainting, {"known": 0.0}, "known: expected a number between 0 and 1"),
        (Inpainting, {"known": 1.0}, "known: expected a number between 0 and 1"),
        (SuperResolution, {"scale": 1}, "scale: expected an integer >= 2"),
        (MultiFrameSuperResolution, {"frames": 0}, "frames: expected an integer >= 1"),
        (MultiFrameSuperResolution, {"shift": -1.0}, "shift: expected a finite number >= 0"),
        (MultiFrameSuperResolution, {"turn": 200.0}, "turn: expected degrees from 0 to 180"),
        (MultiFrameSuperResolution, {"size": (0, 4)}, "size: expected an integer >= 1"),
    ],
)
def test_impossible_fields_are_named(kind, fields, message):
    with pytest.raises(InputError, match=message):
        kind(**fields)
