"""The Radon transform, its adjoint, the classical rivals and the CT problem."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.transform

import lrnn_jax as lj
from lrnn_jax import InputError
from lrnn_jax.inverse import (
    CT,
    filtered_back_projection,
    radon,
    radon_adjoint,
    total_variation,
    view_angles,
)
from lrnn_jax.io import read_picture, write_png
from lrnn_jax.metrics import psnr, ssim

ANGLES = np.array([0.0, 12.3, 45.0, 90.0, 133.7, 180.0])


def scikit_image(image, degrees):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the corners are not zero
        return skimage.transform.radon(image, degrees, circle=True).T


def disc(side, radius=0.6):
    """1 inside a circle about the middle of [-1, 1]^2, smoothed over a pixel."""
    row, column = np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij")
    return np.clip((radius - np.hypot(row, column)) * side / 2 + 0.5, 0, 1)


# The operator -------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [16, 17])
def test_it_agrees_with_scikit_image(x64, side):
    image = np.random.default_rng(0).random((side, side))
    np.testing.assert_allclose(radon(image, ANGLES), scikit_image(image, ANGLES), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, bool])
def test_counts_are_taken_as_numbers(dtype):
    image = np.random.default_rng(0).integers(0, 2, (8, 8)).astype(dtype)
    np.testing.assert_allclose(radon(image, ANGLES), scikit_image(1.0 * image, ANGLES), atol=1e-5)
    rows = np.ones((len(ANGLES), 8))
    expected = radon_adjoint(rows, ANGLES)
    np.testing.assert_allclose(radon_adjoint(rows.astype(dtype), ANGLES), expected, atol=1e-5)


def test_transparency_is_no_attenuation(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 2)) / 255
    slices = [
        CT(source=str(write_png(tmp_path / f"{c}.png", pixels[..., :c])), size=6).slice()
        for c in (1, 2)
    ]
    np.testing.assert_array_equal(*slices)


@pytest.mark.parametrize("side", [15, 16])
def test_the_adjoint_fulfils_its_definition(x64, side):
    rng = np.random.default_rng(1)
    image, rows = rng.normal(size=(side, side)), rng.normal(size=(len(ANGLES), side))
    left, right = np.vdot(radon(image, ANGLES), rows), np.vdot(image, radon_adjoint(rows, ANGLES))
    assert left == pytest.approx(right, rel=1e-12)


def test_the_adjoint_holds_in_single_precision():
    rng = np.random.default_rng(2)
    degrees = view_angles(30)
    image = rng.random((64, 64)).astype(np.float32)
    rows = rng.random((30, 64)).astype(np.float32)
    left, right = np.vdot(radon(image, degrees), rows), np.vdot(image, radon_adjoint(rows, degrees))
    assert left == pytest.approx(right, rel=1e-5)


def test_derivatives_are_those_of_a_linear_map(x64):
    """The gradient of <R x, y> is R' y, and the Hessian of |R x|^2 / 2 is R' R."""
    rng = np.random.default_rng(3)
    image, rows = rng.normal(size=(6, 6)), rng.normal(size=(len(ANGLES), 6))
    gradient = jax.grad(lambda x: jnp.vdot(radon(x, ANGLES), rows))(jnp.asarray(image))
    np.testing.assert_allclose(gradient, radon_adjoint(rows, ANGLES), atol=1e-12)
    half_square = lambda x: jnp.sum(radon(x, ANGLES) ** 2) / 2  # noqa: E731
    direction = rng.normal(size=(6, 6))
    slope = lambda x: jnp.vdot(jax.grad(half_square)(x), direction)  # noqa: E731
    twice = jax.grad(slope)(jnp.asarray(image))
    expected = radon_adjoint(radon(direction, ANGLES), ANGLES)
    np.testing.assert_allclose(twice, expected, atol=1e-10)


def test_pictures_can_be_batched(x64):
    images = np.random.default_rng(4).random((3, 8, 8))
    together = jax.vmap(lambda image: radon(image, ANGLES))(images)
    apart = [radon(image, ANGLES) for image in images]
    np.testing.assert_allclose(together, np.stack(apart), atol=1e-12)


def test_a_projection_holds_the_mass_of_the_picture(x64):
    """Whatever the angle, for a picture inside the circle."""
    image = disc(32)
    sums = np.asarray(radon(image, view_angles(7))).sum(axis=1)
    np.testing.assert_allclose(sums, image.sum(), rtol=1e-3)


def test_half_a_turn_mirrors(x64):
    rows = np.asarray(radon(np.random.default_rng(5).random((17, 17)) * disc(17), [0.0, 180.0]))
    np.testing.assert_allclose(rows[1], rows[0][::-1], atol=1e-12)


@pytest.mark.parametrize(
    ("image", "degrees", "message"),
    [
        (np.zeros((4, 5)), [0.0], r"image: expected a square image \(m, m\), got \(4, 5\)"),
        (np.zeros((4, 4)), [], "angles: expected one or more"),
        (np.zeros((4, 4)), [0.0, -1.0], "angles: expected degrees from 0 to 180, got -1.0"),
        (np.zeros((4, 4)), [181.0], "angles: expected degrees from 0 to 180, got 181.0"),
        (np.zeros((4, 4)), [np.nan], "angles: expected degrees from 0 to 180, got nan"),
    ],
)
def test_unusable_projections_are_refused(image, degrees, message):
    with pytest.raises(InputError, match=message):
        radon(image, np.asarray(degrees))


def test_a_sinogram_has_a_row_for_each_angle():
    with pytest.raises(InputError, match=r"sinogram: expected 6 rows \(a, m\), got \(5, 8\)"):
        radon_adjoint(np.zeros((5, 8)), ANGLES)


def test_views_are_even_and_see_nothing_twice():
    np.testing.assert_allclose(view_angles(4), [0, 45, 90, 135])
    np.testing.assert_allclose(view_angles(3, endpoint=True), [0, 90, 180])
    with pytest.raises(InputError, match="views: expected an integer >= 1, got 0"):
        view_angles(0)


# The classical rivals -----------------------------------------------------------------------------


def test_back_projection_inverts_many_views():
    truth, degrees = disc(48), view_angles(120)
    found = filtered_back_projection(scikit_image(truth, degrees), degrees)
    assert psnr(found, truth) > 25


def test_total_variation_beats_back_projection_where_views_are_few():
    truth, degrees = disc(32), view_angles(8)
    rows = scikit_image(truth, degrees)
    found = np.asarray(total_variation(rows, degrees, weight=0.05))
    assert psnr(found, truth) > psnr(filtered_back_projection(rows, degrees), truth) + 10


def test_total_variation_minimises_what_it_says():
    """Its objective lies below that of pictures around it."""
    truth, degrees = disc(12), view_angles(6)
    rows, weight = scikit_image(truth, degrees), 0.2
    found = np.array(total_variation(rows, degrees, weight, steps=2000), np.float64)

    def objective(f):
        down, right = np.diff(f, axis=0, append=f[-1:]), np.diff(f, axis=1, append=f[:, -1:])
        misfit = np.sum((scikit_image(f, degrees) - rows) ** 2) / 2
        return misfit + weight * np.sum(np.hypot(down, right))

    rng = np.random.default_rng(6)
    others = [np.maximum(0, found + 1e-2 * rng.normal(size=found.shape)) for _ in range(20)]
    least = objective(found)
    assert min(map(objective, [*others, truth, 0.99 * found, 1.01 * found])) > least


@pytest.mark.parametrize(
    ("fields", "message"), [({"weight": 0.0}, "weight: "), ({"weight": 1.0, "steps": 0}, "steps: ")]
)
def test_total_variation_refuses_what_makes_no_sense(fields, message):
    with pytest.raises(InputError, match=message):
        total_variation(np.ones((2, 4)), view_angles(2), **fields)


# The problem --------------------------------------------------------------------------------------


def perfect(problem):
    """The field that is the slice at its pixel centres."""
    truth, side = problem.slice().astype(np.float32), problem.size

    def field(x):
        row, column = jnp.floor((jnp.moveaxis(jnp.asarray(x), -1, 0) + 1) / 2 * side).astype(int)
        return jnp.asarray(truth)[row, column][..., None]

    return field


def test_the_slice_itself_has_no_loss_and_full_marks(key):
    problem = CT(size=20, views=9, block=7)
    data = problem.load()
    assert float(problem.loss(perfect(problem), data, key)[0]) < 1e-12
    scores = problem.evaluate(perfect(problem), data)
    assert scores["psnr"] > 120
    assert scores["ssim"] == pytest.approx(1)
    rival = np.clip(filtered_back_projection(20 * np.float64(data.y), problem.angles), 0, 1)
    truth = problem.slice()
    assert scores["psnr_fbp"] == pytest.approx(psnr(rival, truth))
    assert scores["ssim_fbp"] == pytest.approx(ssim(rival[..., None], truth[..., None]))


def test_the_loss_is_that_of_the_sinogram(x64, key):
    problem = CT(size=12, views=5, block=50)
    data = problem.load()
    field = lambda x: 0.3 + 0.1 * x[..., :1] * x[..., 1:]  # noqa: E731
    values = np.asarray(field(data.x), np.float64).reshape(12, 12)
    rows = scikit_image(values, problem.angles) / 12
    expected = np.mean((rows - np.asarray(data.y, np.float64)) ** 2)
    assert float(problem.loss(field, data, key)[0]) == pytest.approx(expected, rel=1e-6)


def test_the_ramp_weighs_frequencies_and_keeps_the_mean(x64, key):
    """loss = mean over 2 m of (F r)^2 with |F|^2 = |f| m + 1 at f cycles a detector."""
    problem = CT(size=10, views=4, residual_filter="ramp")
    data = problem.load()
    field = lambda x: 0.3 + 0.1 * x[..., :1] * x[..., 1:]  # noqa: E731
    values = np.asarray(field(data.x), np.float64).reshape(10, 10)
    residual = scikit_image(values, problem.angles) / 10 - np.asarray(data.y, np.float64)
    spectrum = np.fft.fft(np.pad(residual, ((0, 0), (0, 10))), axis=1)
    power = np.abs(spectrum) ** 2 * (np.abs(np.fft.fftfreq(20)) * 10 + 1)
    expected = power.sum() / 20 / residual.size / 2
    assert float(problem.loss(field, data, key)[0]) == pytest.approx(expected, rel=1e-6)


def test_the_ramp_makes_detail_come_sooner():
    """The same network, rate and steps: 4 dB more, and more."""
    model = lj.Siren(in_dim=2, out_dim=1, width=48, depth=2, omega0=15.0)
    training = lj.Training(steps=150, learning_rate=2e-3)
    plain, ramp = (
        lj.solve(model, CT(size=40, views=30, residual_filter=name), training).scores["psnr"]
        for name in ("none", "ramp")
    )
    assert ramp > plain + 4


def test_the_total_variation_of_an_edge_is_its_length_times_its_height(x64, key):
    """Of a slice whose side is 1; a slope across it has its rise, and a constant has none.

    A diagonal edge of height h is sqrt(2) h long, but for its two end pixels, which see one side.
    """
    plain = CT(size=16, views=3)
    weighted = CT(size=16, views=3, tv_weight=0.25)
    data = plain.load()
    fields = {
        0.7: lambda x: 0.7 * (x[..., :1] > 0.1),
        0.4: lambda x: 0.2 * x[..., 1:] * 16 / 15,  # between the middles of the outer pixels
        (14 * 2**0.5 + 2) / 16 * 0.5: lambda x: 0.5 * (jnp.sum(x, -1, keepdims=True) > 1e-6),
        0.0: lambda x: 0.3 + 0 * x[..., :1],
    }
    for variation, field in fields.items():
        losses = [float(problem.loss(field, data, key)[0]) for problem in (weighted, plain)]
        expected = 0.25 * variation
        assert losses[0] - losses[1] == pytest.approx(expected, abs=2e-3 * 0.25), variation


def test_the_total_variation_of_a_constant_can_be_differentiated(key):
    problem = CT(size=8, views=2, tv_weight=1.0)
    data = problem.load()
    slope = jax.grad(lambda c: problem.loss(lambda x: c + 0 * x[..., :1], data, key)[0])(0.3)
    assert np.isfinite(slope)


def test_total_variation_settles_what_few_views_leave_open():
    """The same network, rate and steps: 2 dB more, and more."""
    model = lj.Siren(in_dim=2, out_dim=1, width=48, depth=2, omega0=15.0)
    training = lj.Training(steps=200, learning_rate=2e-3)
    problem = CT(size=40, views=10, residual_filter="ramp")
    plain, with_it = (
        lj.solve(model, dataclasses.replace(problem, tv_weight=weight), training).scores["psnr"]
        for weight in (0.0, 3e-5)
    )
    assert with_it > plain + 2


def test_the_sinogram_is_that_of_the_slice_and_its_noise_is_seeded():
    quiet = CT(size=16, views=6)
    rows = scikit_image(quiet.slice(), quiet.angles)
    np.testing.assert_allclose(16 * np.asarray(quiet.load().y), rows, atol=1e-5)
    loud = CT(size=16, views=6, photons=30.0)
    first, again = (np.asarray(loud.load().y) for _ in range(2))
    other = np.asarray(CT(size=16, views=6, photons=30.0, noise_seed=1).load().y)
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    spread = np.std(16 * first - rows)
    assert spread == pytest.approx(np.sqrt((30 * rows).mean() + 4) / 30, rel=0.25)


def test_a_short_fit_improves_the_slice():
    problem = CT(size=24, views=12)
    model = lj.Siren(in_dim=2, out_dim=1, width=24, depth=2, omega0=10.0)
    training = lj.Training(steps=60, learning_rate=3e-3)
    found = lj.solve(model, problem, training, score_every=5)
    assert found.scores["psnr"] > found.evaluations[0][1]["psnr"] + 3
    assert found.history["loss"][-1] < 0.05 * found.history["loss"][0]


def test_what_it_draws_can_be_read(tmp_path):
    problem = CT(size=18, views=7)
    files = problem.render(perfect(problem), problem.load(), tmp_path)
    names = {"reconstruction.png", "error.png", "sinogram.png", "back_projection.png"}
    assert {file.name for file in files} == names == {file.name for file in tmp_path.iterdir()}
    found = read_picture(str(tmp_path / "reconstruction.png")).pixels[..., 0]
    np.testing.assert_allclose(found, problem.slice(), atol=0.5 / 255 + 1e-6)
    assert read_picture(str(tmp_path / "sinogram.png")).pixels.shape == (7, 18, 1)
    path = problem.decode(perfect(problem), (36, 18), tmp_path / "wide.png")
    assert read_picture(str(path)).pixels.shape == (18, 36, 1)


@pytest.mark.parametrize("size", [(8,), (8, 8, 8), (0, 8)])
def test_decode_refuses_an_impossible_size(tmp_path, size):
    problem = CT(size=8, views=2)
    with pytest.raises(InputError, match="size: expected a width and a height >= 1"):
        problem.decode(perfect(problem), size, tmp_path / "no.png")


def test_back_projection_refuses_what_makes_no_sense():
    with pytest.raises(InputError, match="sinogram: expected 2 rows"):
        filtered_back_projection(np.ones((3, 4)), view_angles(2))
    with pytest.raises(InputError, match="filter_name: expected one of"):
        filtered_back_projection(np.ones((2, 4)), view_angles(2), "sharp")


def test_batches_are_refused(tmp_path):
    model = lj.Siren(in_dim=2, out_dim=1, width=4, depth=1)
    with pytest.raises(InputError, match="batch: the loss of CT takes all its data at once"):
        lj.solve(model, CT(size=8, views=2), lj.Training(steps=1, batch=4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 1}, "size: expected an integer >= 2"),
        ({"views": 0}, "views: expected an integer >= 1"),
        ({"photons": -1.0}, "photons: "),
        ({"photons": 3.0, "readout": -1.0}, "readout: expected a finite number >= 0"),
        ({"residual_filter": "hann"}, "residual_filter: expected one of"),
        ({"tv_weight": -1e-5}, "tv_weight: expected a finite number >= 0, got -1e-05"),
        ({"block": 0}, "block: expected an integer >= 1"),
        ({"endpoint": 1}, "endpoint: expected True or False"),
    ],
)
def test_impossible_fields_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        CT(**fields)


def test_a_picture_of_one_value_is_refused(tmp_path):
    path = write_png(tmp_path / "black.png", np.zeros((6, 6, 1)))
    with pytest.raises(InputError, match="has one value, 0: expected an image"):
        CT(source=str(path), size=6).load()
