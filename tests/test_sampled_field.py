"""Fields in their own units, on grids and at scattered points; samples that are held out."""

import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax.cli import main
from lrnn_jax.signals.sampled_field import franke

RNG = np.random.default_rng(0)
KELVIN = 280 + 40 * np.linspace(0, 1, 6)[:, None] + 5 * np.linspace(0, 1, 4)  # (6, 4)
POINTS = RNG.uniform((0, 100), (1, 300), (80, 2))
VALUES = 3 + 2 * POINTS[:, 0] - 0.01 * POINTS[:, 1]


def exact(problem):
    """The field that is the samples: a nearest-neighbour lookup."""
    data = problem.load()
    x, y = np.asarray(data.x, np.float64), np.asarray(data.y)

    def field(points):
        points = np.asarray(points, np.float64)
        return y[((points[:, None] - x) ** 2).sum(axis=-1).argmin(axis=1)]

    return field


def test_a_grid_has_cell_centres_and_values_in_its_range():
    problem = lj.SampledField(KELVIN)
    data = problem.load()
    assert (problem.in_dim, problem.out_dim) == (2, 1)
    np.testing.assert_allclose(data.x, lj.domains.grid((6, 4)).reshape(-1, 2), atol=1e-6)
    np.testing.assert_allclose(data.y[[0, -1], 0], [-1, 1])
    np.testing.assert_allclose(data.y[:, 0], (KELVIN.ravel() - 280) / 45 * 2 - 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(7,), (3, 4), (3, 4, 5), (2, 3, 4, 2)])
def test_grids_of_any_number_of_axes(shape):
    problem = lj.SampledField(RNG.random(shape))
    assert problem.in_dim == len(shape)
    scores = problem.evaluate(exact(problem))
    assert scores["rmse"] < 1e-6 and scores["relative_l2"] < 1e-6


def test_scattered_points_span_the_square_and_scores_are_in_units():
    problem = lj.SampledField(POINTS, VALUES)
    data = problem.load()
    assert (problem.in_dim, problem.out_dim) == (2, 1)
    np.testing.assert_allclose(np.min(data.x, axis=0), -1, atol=1e-6)
    np.testing.assert_allclose(np.max(data.x, axis=0), 1, atol=1e-6)
    middle = (VALUES.min() + VALUES.max()) / 2  # a network of value 0
    scores = problem.evaluate(lambda x: np.zeros((len(x), 1)))
    assert scores["rmse"] == pytest.approx(np.sqrt(np.mean((VALUES - middle) ** 2)))


def test_a_table_of_points_is_the_same_field(tmp_path):
    rows = np.column_stack([POINTS, VALUES])
    np.savetxt(tmp_path / "p.csv", rows, "%.17g", ",", header="x,y,u", comments="")
    table, arrays = lj.SampledField(tmp_path / "p.csv"), lj.SampledField(POINTS, VALUES)
    np.testing.assert_allclose(table.load().x, arrays.load().x)
    np.testing.assert_allclose(table.load().y, arrays.load().y)


def test_several_values_at_a_point():
    problem = lj.SampledField(POINTS, np.stack([VALUES, -VALUES], axis=1))
    assert problem.out_dim == 2
    assert problem.evaluate(exact(problem))["rmse"] < 1e-5


def test_decoding_is_in_units_and_in_the_box_of_the_samples(tmp_path):
    problem = lj.SampledField(POINTS, VALUES)
    found = np.load(problem.decode(exact(problem), (3, 5), tmp_path / "a.npy"))
    assert found.shape == (3, 5, 1)
    assert VALUES.min() - 1e-5 <= found.min() <= found.max() <= VALUES.max() + 1e-5
    text = problem.decode(exact(problem), (2, 2), tmp_path / "a.csv").read_text().splitlines()
    assert text[0] == "x1,x2,u1" and len(text) == 5
    first = [float(word) for word in text[1].split(",")]
    low, high = POINTS.min(axis=0), POINTS.max(axis=0)
    np.testing.assert_allclose(first[:2], low + (high - low) / 4, rtol=1e-6)
    grid = lj.SampledField(KELVIN)
    same = np.load(grid.decode(exact(grid), path=tmp_path / "grid.npy"))
    np.testing.assert_allclose(same[..., 0], KELVIN, rtol=1e-6)


def test_frankes_function_has_its_two_peaks_and_its_dip():
    """Largest near (0.2, 0.2), 1.22; a second peak of height 0.5 at (0.78, 0.33)."""
    x = np.stack(np.meshgrid(*(np.linspace(0, 1, 201),) * 2, indexing="ij"), axis=-1)
    values = franke(x[..., 0], x[..., 1])
    assert values.max() == pytest.approx(1.2199, abs=1e-3)
    np.testing.assert_allclose(x[np.unravel_index(values.argmax(), values.shape)], 0.21, atol=0.02)
    assert values[90:130, 120:180].min() == values[80:].min() or values.min() < 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lj.SampledField(POINTS, VALUES[:-1]), "expected numbers"),
        (lambda: lj.SampledField("a.npy", VALUES), "values: they belong to an array of points"),
        (lambda: lj.SampledField(np.ones((3, 4))), "values of one value only"),
        (lambda: lj.SampledField(np.full((3, 4), np.nan)), "values that are not finite"),
        (lambda: lj.SampledField(np.array(["a", "b"])), "expected numbers on one to five axes"),
        (lambda: lj.SampledField("nowhere.npy"), "cannot read nowhere.npy: No such file"),
        (lambda: lj.SampledField("a.txt"), "expected a name that ends in .npy"),
        (lambda: lj.SampledField(KELVIN, hold_out=1.0), r"hold_out: .*\[0, 1\), got 1.0"),
        (lambda: lj.SampledField(KELVIN, hold_out=0.9999), "leaves none to fit"),
        (lambda: lj.Image(KELVIN / 400, hold_out=-0.1), r"hold_out: .*\[0, 1\), got -0.1"),
        (lambda: lj.Image(KELVIN / 400, hold_out=0.9999), "leaves none to fit"),
        (lambda: lj.Image(KELVIN / 400, hold_out="a"), "hold_out: expected a finite number"),
    ],
)
def test_other_input_is_refused(make, message):
    with pytest.raises(lj.InputError, match=message):
        make().load()


# Held-out samples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [lj.SampledField(KELVIN), lj.Image(RNG.random((40, 30)))])
def test_held_out_samples_are_scored_and_not_used(problem):
    name = "rmse" if isinstance(problem, lj.SampledField) else "psnr"
    import dataclasses

    part = dataclasses.replace(problem, hold_out=0.25, hold_out_seed=3)
    every, kept = np.asarray(problem.load().x), np.asarray(part.load().x)
    assert 0.6 * len(every) < len(kept) < 0.9 * len(every)
    inside = {tuple(point) for point in kept.tolist()}
    held = np.array([tuple(point) not in inside for point in every.tolist()])
    assert held.sum() == len(every) - len(kept)

    def field(x):  # right at the samples of training, wrong by 0.5 at the others
        rows = np.array([np.abs(every - point).sum(axis=1).argmin() for point in np.asarray(x)])
        return np.asarray(problem.load().y)[rows] + 0.5 * held[rows][:, None]

    scores = part.evaluate(field)
    error = 0.25 if name == "psnr" else 0.25 * np.ptp(KELVIN)
    expected = 20 * np.log10(1 / error) if name == "psnr" else error
    assert scores[f"{name}_held_out"] == pytest.approx(expected, rel=1e-3)
    assert f"{name}_held_out" not in problem.evaluate(field)


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_volume_is_its_array(tmp_path, suffix):
    nibabel = pytest.importorskip("nibabel")
    values = RNG.normal(300, 50, (5, 6, 7)).astype(np.float32)
    path = tmp_path / f"brain{suffix}"
    nibabel.save(nibabel.Nifti1Image(values[..., None], np.eye(4)), path)
    found, array = lj.Volume(path).load(), lj.Volume(values).load()
    assert found.shape == (5, 6, 7)
    np.testing.assert_allclose(found.y, array.y, atol=1e-6)
    content = path.read_bytes()
    for name, damaged in {"cut": content[: len(content) // 2], "text": b"no image"}.items():
        (tmp_path / f"{name}{suffix}").write_bytes(damaged)
        with pytest.raises(lj.InputError, match="cannot read"):
            lj.Volume(tmp_path / f"{name}{suffix}").load()


def test_a_nifti_bomb_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("nibabel")
    import gzip

    from lrnn_jax.io import nifti

    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    monkeypatch.setattr(nifti, "available_memory", lambda: 20_000_000)
    with pytest.raises(lj.InputError, match=r"would take more than the allowed 0\.0 GB"):
        lj.Volume(tmp_path / "bomb.nii.gz").load()


def test_an_array_file_of_two_axes_is_a_field(tmp_path, capsys):
    np.save(tmp_path / "kelvin.npy", KELVIN)
    words = ["fit", f"{tmp_path}/kelvin.npy", "--training.steps", "3", "--out", f"{tmp_path}/run"]
    assert main(words) == 0
    assert "\nfitted    field by siren" in capsys.readouterr().out
    assert (
        main(["decode", f"{tmp_path}/run", "--size", "9", "8", "--out", f"{tmp_path}/a.npz"]) == 0
    )
    assert np.load(tmp_path / "a.npz")["values"].shape == (9, 8, 1)
