"""Comparisons of fits: the table, the page, and the command."""

import re

import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax.cli import main
from lrnn_jax.experiments import Comparison
from lrnn_jax.experiments.comparison import fit_of_run
from lrnn_jax.io import write_png
from lrnn_jax.kernels.cost import count_flops

RNG = np.random.default_rng(0)
PIXELS = np.linspace(0, 1, 12 * 10).reshape(12, 10)
SMALL = lj.Siren(in_dim=2, out_dim=1, width=8, depth=2)
LARGE = lj.Siren(in_dim=2, out_dim=1, width=24, depth=2)


@pytest.fixture(scope="module")
def results():
    problem = lj.Image(PIXELS)
    return [
        lj.solve(model, problem, lj.Training(steps=steps, learning_rate=2e-3))
        for model, steps in ((SMALL, 5), (LARGE, 60))
    ]


def test_the_table_has_scores_sizes_operations_and_seconds_the_best_first(results):
    comparison = results[0].compare(results[1])
    first, second = comparison.rows
    assert (first["model"], second["model"]) == ("Siren-2", "Siren")
    assert first["psnr"] == results[1].scores["psnr"] > second["psnr"]
    assert first["parameters"] == LARGE.parameter_count
    x = np.zeros(2, np.float32)
    assert first["flops"] == count_flops(LARGE.apply, results[1].params, x)
    assert first["seconds"] == results[1].seconds > 0
    text = repr(comparison)
    assert text.splitlines()[0].split() == [*first]
    assert f"{LARGE.parameter_count:,}" in text


def test_the_page_is_one_file_with_table_images_and_warnings(results, tmp_path):
    page = results[0].compare(results[1]).save(tmp_path / "page.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert page.count('<img class="fit"') == page.count('<img class="error"') == 2
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)  # nothing is loaded
    best = re.findall(r'<td class="best"[^>]*>([^<]*)</td>', page)
    assert f"{results[1].scores['psnr']:.4g}" in best
    assert "Siren: " + results[0].warnings[0] in page


def test_names_and_warnings_are_escaped(results, tmp_path):
    fit = results[0].compare().fits[0]
    named = Comparison([fit, type(fit)(**vars(fit) | {"name": "<b>"})])
    page = named.save(tmp_path / "page.html").read_text()
    assert "<b>" not in page and "&lt;b&gt;" in page


def test_fits_to_other_data_are_refused(results):
    other = lj.solve(SMALL, lj.Image(PIXELS.T), lj.Training(steps=2))
    with pytest.raises(lj.InputError, match="are fits to different problems"):
        results[0].compare(other)
    with pytest.raises(lj.InputError, match="at least one fit"):
        Comparison([])


@pytest.mark.parametrize(
    "problem",
    [
        lj.Audio(RNG.normal(size=(900, 2)), 100),
        lj.Video(RNG.random((3, 6, 5))),
        lj.Volume(RNG.random((4, 5, 6))),
        lj.Occupancy(RNG.random((4, 5, 6))),
        lj.inverse.CT(PIXELS, size=12, views=5),
        lj.inverse.Denoising(PIXELS),
        lj.pde.Convection(points=9),
        lj.pde.Poisson(dim=3, points=9),
        lj.SampledField(PIXELS),
        lj.SampledField(RNG.random((30, 3)), RNG.random(30)),
        lj.Regression(RNG.random((30, 2)), RNG.random(30)),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_every_problem_can_be_compared(problem, tmp_path):
    sections = {
        "Audio": (400,), "Video": (6, 5, 1), "Volume": (5, 6), "CT": (12, 12),
        "Denoising": (12, 10, 1), "SampledField": (12, 10) if problem.in_dim == 2 else (64, 64),
    }  # fmt: skip
    model = lj.Siren(in_dim=problem.in_dim, out_dim=problem.out_dim, width=4, depth=1)
    result = lj.solve(model, problem, lj.Training(steps=2))
    section = problem.section(result.field)
    if section is not None:
        assert section.truth is None or section.truth.shape == section.value.shape
        assert section.value.shape == sections.get(type(problem).__name__, section.value.shape)
    page = result.compare(result).save(tmp_path / "page.html").read_text()
    # For each fit the truth, the fit and its error, or the fit alone; curves are a figure.
    images = 0 if section is None or section.value.ndim == 1 else 2 if section.truth is None else 6
    assert page.count("<img") == images
    assert ("Pictures" in page) == (section is not None)


def test_a_section_of_the_truth_has_no_error():
    problem = lj.Volume(RNG.random((4, 5, 6)))
    values = problem.load()

    def exact(x):
        index = np.round((np.asarray(x) + 1) / 2 * (4, 5, 6) - 0.5).astype(int)
        return np.asarray(values.y).reshape(4, 5, 6, 1)[tuple(index.T)]

    section = problem.section(exact)
    np.testing.assert_allclose(section.truth, section.value, atol=1e-6)


def test_runs_are_compared_and_models_are_fitted_at_equal_size(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "photo.png", PIXELS[..., None])
    words = "compare --models siren finer wire photo.png --budget 400 --training.steps 8"
    assert main(words.split()) == 0
    page = (tmp_path / "comparison.html").read_text()
    assert all(f'<td class="text">{kind}</td>' in page for kind in ("siren", "finer", "wire"))
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert runs == ["image-finer", "image-siren", "image-wire"]
    fits = [fit_of_run(tmp_path / "runs" / name) for name in runs]
    assert all(300 < fit.parameters <= 400 for fit in fits)
    assert all(fit.steps[-1] == 8 for fit in fits)
    capsys.readouterr()
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["compare", *(f"runs/{name}" for name in runs[:2]), "--out", "two.html"]) == 0
    assert opened == []  # no terminal
    assert "image-finer" in capsys.readouterr().out
    assert (tmp_path / "two.html").stat().st_size > 1000
    monkeypatch.chdir("runs/image-siren")
    assert fit_of_run(".").name == "image-siren"
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "runs/image-siren", "--open"]) == 0
    assert opened == [(tmp_path / "comparison.html").as_uri()]


def test_a_fit_shows_its_page_or_says_how_to(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "photo.png", PIXELS[..., None])
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    words = [
        "fit",
        "photo.png",
        "--training.steps",
        "3",
        "--training.learning_rate",
        "0.00321",
        "--out",
    ]
    assert main([*words, "shown", "--open"]) == 0
    assert opened == [(tmp_path / "shown/page.html").as_uri()]
    page = (tmp_path / "shown/page.html").read_text()
    assert page.count('<img class="fit"') == page.count('<img class="error"') == 1
    assert '<td class="text">training.learning_rate</td><td class="text">0.00321</td>' in page
    capsys.readouterr()
    assert main([*words, "bare", "--no-render"]) == 0
    assert capsys.readouterr().out.endswith("next      lrnn-jax compare bare --open\n")
    assert not list((tmp_path / "bare").glob("*.png"))
    pages = [fit_of_run(tmp_path / name) for name in ("shown", "bare")]
    assert pages[0].scores == pages[1].scores


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compare", "a comparison needs at least one fit"),
        ("compare nowhere", "nowhere is not a run folder"),
        ("compare --models sirens a.png", "expected kinds of models and one data file"),
        ("compare --models siren a.png b.png", "expected kinds of models and one data file"),
        ("compare --models siren a.png", "cannot read a.png: No such file"),
    ],
)
def test_one_line_says_what_is_wrong(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
