"""The image problem, its grids and its scores, against formulas written out by hand."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from lrnn_jax import InputError
from lrnn_jax.domains import grid, in_precision
from lrnn_jax.io import read_picture, write_png
from lrnn_jax.metrics import mean_squared_error, psnr, psnr_from_mse, ssim
from lrnn_jax.signals import Image

HEIGHT, WIDTH = 9, 7
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)) / 255
DEEP = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 1)) / 65535


@pytest.fixture
def stored(tmp_path):
    """Writes pixels as a PNG and returns its path."""

    def store(pixels=PIXELS, bits=8):
        return str(write_png(tmp_path / f"picture-{bits}-{pixels.shape[1]}.png", pixels, bits))

    return store


def centre(index, count):
    """The middle of cell `index` of `count` equal cells of [-1, 1]."""
    return -1 + (2 * index + 1) / count


def lookup(pixels):
    """The field that is `pixels` at their centres: each point takes the pixel it lies in."""
    values = (2 * pixels - 1).astype(np.float32)
    sides = np.array(pixels.shape[:2])

    def field(x):
        row, column = np.floor((np.asarray(x).T + 1) / 2 * sides[:, None]).astype(int)
        return values[row, column]

    return field


def wave(x):
    """A smooth field with values inside (-1, 1)."""
    row, column = np.asarray(x).T
    return np.stack([np.sin(3 * row), 0.5 * column, np.cos(row * column) - 0.5], axis=-1)


def wave_pixels(height, width):
    """The wave as counts of 8 bits at pixel centres, in NumPy."""
    row, column = np.meshgrid(
        [centre(i, height) for i in range(height)],
        [centre(j, width) for j in range(width)],
        indexing="ij",
    )
    values = np.stack([np.sin(3 * row), 0.5 * column, np.cos(row * column) - 0.5], axis=-1)
    return (values + 1) / 2


# Loading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "pixels"), [(8, PIXELS), (16, DEEP)], ids=["rgb", "deep"])
def test_points_are_pixel_centres_row_by_row_and_values_twice_the_pixel_less_one(
    stored, bits, pixels
):
    problem = Image(source=stored(pixels, bits))
    data = problem.load()
    assert (data.shape, data.bits) == ((HEIGHT, WIDTH), bits)
    assert (problem.in_dim, problem.out_dim) == (2, pixels.shape[-1])
    assert data.x.dtype == data.y.dtype == in_precision(0.0).dtype
    for row in range(HEIGHT):
        for column in range(WIDTH):
            point = row * WIDTH + column
            place = [centre(row, HEIGHT), centre(column, WIDTH)]
            np.testing.assert_allclose(data.x[point], place, atol=1e-7)
            np.testing.assert_allclose(data.y[point], 2 * pixels[row, column] - 1, atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (2, 1), (3, 11)])
def test_pictures_need_not_be_square(stored, shape):
    pixels = np.random.default_rng(2).integers(0, 256, (*shape, 1)) / 255
    data = Image(source=stored(pixels)).load()
    assert data.shape == shape
    np.testing.assert_allclose(np.reshape(data.y, (*shape, 1)), 2 * pixels - 1, atol=1e-7)
    assert data.x[:, 0].max() == pytest.approx(1 - 1 / shape[0])
    assert data.x[:, 1].max() == pytest.approx(1 - 1 / shape[1])


def test_loading_is_deterministic(stored):
    first, again = (Image(source=stored(), size=(4, 5)).load() for _ in range(2))
    np.testing.assert_array_equal(first.y, again.y)


@pytest.mark.parametrize(
    ("left", "top", "width", "height"), [(0, 0, 7, 9), (2, 1, 3, 5), (6, 7, 1, 2), (0, 8, 7, 1)]
)
def test_a_crop_takes_exactly_its_pixels(stored, left, top, width, height):
    data = Image(source=stored(), crop=(left, top, width, height)).load()
    expected = PIXELS[top : top + height, left : left + width]
    assert data.shape == (height, width)
    np.testing.assert_allclose(data.y, 2 * expected.reshape(-1, 3) - 1, atol=1e-7)
    np.testing.assert_array_equal(data.x, grid((height, width)).reshape(-1, 2))


@pytest.mark.parametrize("crop", [(5, 0, 3, 3), (0, 7, 3, 3), (7, 0, 1, 1), (0, 0, 7, 10)])
def test_a_crop_that_leaves_the_picture_is_refused(stored, crop):
    with pytest.raises(InputError, match=rf"crop: .*{crop[2]}.*7 wide and 9 high"):
        Image(source=stored(), crop=crop).load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": (-1, 0, 4, 4)}, "crop: expected left, top >= 0 and width, height >= 1"),
        ({"crop": (0, 0, 0, 4)}, "crop: expected left, top >= 0 and width, height >= 1"),
        ({"size": (0, 4)}, "size: expected an integer >= 1"),
        ({"size": (4, 2.5)}, "size: expected an integer >= 1"),
        ({"size": (1, 1)}, "size: expected 2 pixels or more"),
        ({"size": 8}, "size: expected a tuple of 2 numbers, got 8"),
        ({"crop": (0, 0, 8)}, "crop: expected a tuple of 4 numbers"),
    ],
)
def test_impossible_fields_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        Image(**fields)


def test_a_size_is_width_and_height(stored):
    data = Image(source=stored(), size=(4, 6)).load()
    assert data.shape == (6, 4)
    assert float(np.abs(data.y).max()) <= 1


def test_resizing_keeps_what_does_not_change(stored):
    """A flat picture stays flat, and the mean of a picture halved is that of its blocks."""
    flat = np.full((8, 6, 3), 51 / 255)
    halved = Image(source=stored(flat), size=(3, 4)).load()
    np.testing.assert_allclose(halved.y, 2 * 51 / 255 - 1, atol=1e-6)
    ramp = np.repeat(np.linspace(0, 1, 12)[:, None, None], 12, axis=1)
    data = Image(source=stored(ramp, 16), size=(6, 6)).load()
    blocks = ramp.reshape(6, 2, 12, 1).mean(axis=(1, 2))
    rows = np.reshape(data.y, (6, 6))
    np.testing.assert_allclose(rows[1:-1], np.repeat(2 * blocks - 1, 6, axis=1)[1:-1], atol=0.02)
    assert np.all(np.diff(rows, axis=0) > 0)


def test_a_crop_comes_before_a_resize(stored):
    crop = Image(source=stored(), crop=(1, 2, 6, 4), size=(3, 2)).load()
    alone = Image(source=stored(PIXELS[2:6, 1:7]), size=(3, 2)).load()
    assert crop.shape == (2, 3)
    np.testing.assert_allclose(crop.y, alone.y, atol=1e-7)


def test_one_pixel_left_by_a_crop_is_refused(stored):
    """As a file of one pixel is, and a size of (1, 1)."""
    with pytest.raises(InputError, match=r"crop: expected 2 pixels or more"):
        Image(source=stored(), crop=(1, 1, 1, 1)).load()


# Loss and scores ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "pixels"), [(8, PIXELS), (16, DEEP)], ids=["rgb", "deep"])
@pytest.mark.usefixtures("x32")
def test_the_perfect_field(stored, key, bits, pixels):
    problem = Image(source=stored(pixels, bits))
    data = problem.load()
    assert problem.evaluate(lookup(pixels), data) == {"psnr": math.inf, "ssim": 1.0}
    assert float(problem.loss(lookup(pixels), data, key)[0]) == 0


def test_scores_agree_with_the_formula(stored, key):
    problem = Image(source=stored())
    data = problem.load()
    truth = np.round(PIXELS * 255) / 255
    value = wave_pixels(HEIGHT, WIDTH)
    mse = np.mean((value - truth) ** 2)
    scores = problem.evaluate(wave, data)
    assert scores["psnr"] == pytest.approx(10 * np.log10(1 / mse), abs=1e-5)
    assert scores["ssim"] == pytest.approx(ssim_by_hand(value, truth), abs=1e-5)
    loss, terms = problem.loss(wave, data, key)
    assert float(loss) == pytest.approx(4 * mse, rel=1e-5)
    assert terms == {}


def test_progress_is_the_psnr_of_the_loss(stored, key):
    """The loss is taken in [-1, 1], the score in [0, 1]: the same PSNR."""
    problem = Image(source=stored())
    data = problem.load()
    loss = float(problem.loss(wave, data, key)[0])
    seen = problem.progress({"loss": loss})
    assert seen["psnr"] == pytest.approx(problem.evaluate(wave, data)["psnr"], abs=1e-4)


def test_the_loss_is_a_mean_over_points(stored, key):
    """Chunks of a batch are averaged, so the loss of all is the mean of the losses of parts."""
    problem = Image(source=stored())
    data = problem.load()
    parts = jax.tree.map(lambda leaf: leaf.reshape(HEIGHT, WIDTH, -1), data)
    rows = [
        float(problem.loss(wave, jax.tree.map(lambda leaf, i=i: leaf[i], parts), key)[0])
        for i in range(HEIGHT)
    ]
    assert np.mean(rows) == pytest.approx(float(problem.loss(wave, data, key)[0]), rel=1e-6)


@pytest.mark.parametrize("loss", [0.0, math.inf, math.nan], ids=str)
def test_progress_survives_any_loss(loss):
    expected = {0.0: math.inf, math.inf: -math.inf}.get(loss, math.nan)
    found = Image().progress({"loss": loss})["psnr"]
    assert found == expected or (math.isnan(found) and math.isnan(expected))


# Pictures out -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "pixels"), [(8, PIXELS), (16, DEEP)], ids=["rgb", "deep"])
def test_render_writes_the_values_of_the_field(stored, tmp_path, bits, pixels):
    problem = Image(source=stored(pixels, bits))
    folder = tmp_path / "run"
    folder.mkdir()
    files = problem.render(lookup(pixels[::-1]), problem.load(), folder)
    assert sorted(folder.iterdir()) == sorted(files)
    assert {file.name for file in files} == {"reconstruction.png", "error.png"}
    picture = read_picture(str(folder / "reconstruction.png"))
    assert picture.bits == bits
    np.testing.assert_array_equal(picture.pixels, pixels[::-1])
    assert min(read_picture(str(folder / "error.png")).pixels.shape[:2]) > 100


@pytest.mark.parametrize(("width", "height"), [(5, 4), (21, 27), (1, 3), (1, 1)])
def test_decode_writes_the_field_at_the_centres_of_its_pixels(stored, tmp_path, width, height):
    path = tmp_path / "decoded.png"
    assert Image(source=stored()).decode(wave, (width, height), path) == path
    found = np.asarray(Pillow.open(path))
    expected = wave_pixels(height, width) * 255
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 0.5 + 1e-4


def test_decode_without_a_size_takes_that_of_the_data(stored, tmp_path):
    problem = Image(source=stored(), crop=(0, 0, 6, 4), size=(3, 5))
    path = problem.decode(wave, None, tmp_path / "decoded.png")
    assert read_picture(str(path)).pixels.shape == (5, 3, 3)


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4), (4,), (4, 4, 4), ()])
def test_decode_refuses_an_impossible_size(stored, tmp_path, size):
    with pytest.raises(InputError, match="size: expected a width and a height >= 1"):
        Image(source=stored()).decode(wave, size, tmp_path / "decoded.png")
    assert not (tmp_path / "decoded.png").exists()


# Grids --------------------------------------------------------------------------------------------

sides = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)


@given(shape=sides, low=st.floats(-3, 0), extent=st.floats(0.5, 3))
def test_a_grid_holds_the_centres_of_equal_cells(shape, low, extent):
    points = grid(shape, low, low + extent)
    assert points.shape == (*shape, len(shape))
    assert points.dtype == in_precision(0.0).dtype
    for index in np.ndindex(*shape):
        place = [low + extent * (i + 0.5) / n for i, n in zip(index, shape, strict=True)]
        np.testing.assert_allclose(points[index], place, atol=1e-6)


@given(shape=sides, factor=st.sampled_from([1, 3, 5]))
def test_refining_by_an_odd_factor_keeps_the_centres(shape, factor):
    fine = grid(tuple(factor * n for n in shape))
    middle = tuple(slice(factor // 2, None, factor) for _ in shape)
    np.testing.assert_allclose(fine[middle], grid(shape), atol=1e-7)


@given(shape=sides)
def test_a_grid_is_symmetric_and_inside_its_box(shape):
    points = grid(shape)
    np.testing.assert_allclose(np.flip(points, range(len(shape))), -points, atol=1e-7)
    assert np.abs(points).max() < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((),), "shape: expected one cell or more"),
        (((3, 0),), "shape: expected one cell or more"),
        (((3,), 1.0, 1.0), "expected low < high"),
        (((3,), 0.0, math.nan), "expected low < high"),
    ],
)
def test_impossible_grids_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        grid(*arguments)


# Metrics ------------------------------------------------------------------------------------------


def ssim_by_hand(value, truth, peak=1.0, side=7):
    """Wang et al. (2004), windows of side x side, sample covariances, mean over all windows."""
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    height, width, channels = value.shape
    scores = []
    for top in range(height - side + 1):
        for left in range(width - side + 1):
            for channel in range(channels):
                window = np.s_[top : top + side, left : left + side, channel]
                a, b = value[window].ravel(), truth[window].ravel()
                covariance = np.cov(a, b)
                numerator = (2 * a.mean() * b.mean() + c1) * (2 * covariance[0, 1] + c2)
                spread = covariance[0, 0] + covariance[1, 1]
                denominator = (a.mean() ** 2 + b.mean() ** 2 + c1) * (spread + c2)
                scores.append(numerator / denominator)
    return np.mean(scores)


@pytest.mark.parametrize(
    ("shape", "side"), [((12, 9, 3), 7), ((7, 7, 1), 7), ((6, 9, 2), 5), ((4, 3, 1), 3)]
)
@pytest.mark.parametrize("peak", [1.0, 255.0])
def test_ssim_agrees_with_its_definition(shape, side, peak):
    rng = np.random.default_rng(4)
    truth = peak * rng.random(shape)
    value = np.clip(truth + 0.1 * peak * rng.normal(size=shape), 0, peak)
    assert ssim(value, truth, peak) == pytest.approx(ssim_by_hand(value, truth, peak, side))
    assert ssim(truth, truth, peak) == 1.0


def test_ssim_of_a_picture_without_a_window_is_unknown():
    assert math.isnan(ssim(np.zeros((2, 9, 1)), np.zeros((2, 9, 1))))


def test_a_mean_squared_error_of_1_6e_11_is_107_9_db():
    """The best result of the papers: float32 squares would lose it."""
    truth = np.linspace(0, 1, 1000)
    assert psnr(truth + 4e-6, truth) == pytest.approx(107.9588, abs=1e-3)
    assert psnr_from_mse(1.6e-11) == pytest.approx(107.9588, abs=1e-4)
    assert mean_squared_error(truth + 4e-6, truth) == pytest.approx(1.6e-11, rel=1e-6)


@pytest.mark.parametrize("peak", [1.0, 2.0, 255.0])
def test_the_peak_scales_with_the_signal(peak):
    rng = np.random.default_rng(5)
    a, b = rng.random((2, 50))
    assert psnr(peak * a, peak * b, peak) == pytest.approx(psnr(a, b))
    assert psnr(a, b, peak) == pytest.approx(psnr(a, b) + 20 * math.log10(peak))
    assert psnr(a, a, peak) == math.inf


def test_counts_do_not_overflow():
    """Differences of unsigned counts wrap around unless they are widened first."""
    low, high = np.zeros((7, 7, 1), np.uint8), np.full((7, 7, 1), 255, np.uint8)
    assert psnr(low, high, peak=255.0) == 0
    assert mean_squared_error(low, high) == 255**2


@pytest.mark.parametrize("metric", [mean_squared_error, psnr, ssim])
def test_shapes_must_agree(metric):
    """(9, 9, 1) and (9, 9, 3) would broadcast to a number without a word."""
    with pytest.raises(InputError, match=r"shapes differ: \(9, 9, 1\) and \(9, 9, 3\)"):
        metric(np.zeros((9, 9, 1)), np.zeros((9, 9, 3)))


def test_psnr_of_any_error():
    assert psnr_from_mse(0.0) == math.inf
    assert psnr_from_mse(math.inf) == -math.inf
    assert math.isnan(psnr_from_mse(math.nan))
