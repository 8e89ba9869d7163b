"""A fit that failed says so: in the result of solve, in the terminal and in summary.json."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax.cli import main
from lrnn_jax.diagnostics import fit_warnings

PROBLEM = lj.Image("camera", size=(24, 24))
DATA = PROBLEM.load()
TRIVIAL = PROBLEM.trivial_scores(DATA)["psnr"]
FALLING = np.geomspace(1, 1e-3, 200)


def warned(losses=FALLING, **scores):
    return fit_warnings(PROBLEM, DATA, {"psnr": TRIVIAL + 10} | scores, np.asarray(losses))


def test_a_good_fit_has_no_warnings():
    assert warned() == []
    assert warned(psnr=np.inf) == []


@pytest.mark.parametrize(
    ("losses", "scores", "message"),
    [
        (np.full(200, 0.3), {}, "the loss hardly fell, from 0.3 to 0.3: try another training.lea"),
        ([0.3], {}, "hardly fell"),
        ([*FALLING, *np.full(40, 0.95)], {}, "hardly fell"),
        ([*FALLING, *np.full(40, 0.1)], {}, "rose again, from 0.00122 to 0.1: try a smaller"),
        (FALLING, {"psnr": TRIVIAL}, "is no better than .* that of a trivial predictor"),
        (FALLING, {"psnr": np.nan}, "psnr nan is no better"),
        (FALLING, {"rmse": 2.1, "rmse_training": 1.0}, "2.1 on the test part and 1 on the train"),
        (FALLING, {"accuracy": 0.8, "accuracy_training": 1.0}, "try a smaller model"),
    ],
)
def test_a_fit_that_failed_has_one_line_with_what_to_try(losses, scores, message):
    (line,) = warned(losses, **scores)
    assert "\n" not in line and len(line) < 200
    assert re.search(message, line)


@pytest.mark.parametrize(
    ("losses", "scores"),
    [
        ([*FALLING, *np.full(40, 0.009)], {}),  # nine times the lowest
        ([1.0, *np.geomspace(1e-3, 1e-8, 100), 1e-5], {}),  # noise far below the first loss
        (FALLING, {"rmse": 1.9, "rmse_training": 1.0}),
        (FALLING, {"accuracy": 0.91, "accuracy_training": 1.0}),
    ],
)
def test_noise_is_no_failure(losses, scores):
    assert warned(losses, **scores) == []


def test_solve_reports_a_rate_that_is_far_too_large():
    model = lj.Siren(in_dim=2, out_dim=1, width=16, depth=2)
    bad = lj.solve(model, PROBLEM, lj.Training(steps=60, learning_rate=0.5))
    good = lj.solve(model, PROBLEM, lj.Training(steps=60, learning_rate=2e-3))
    assert any("trivial predictor" in line for line in bad.warnings)
    assert "warning: " in repr(bad)
    assert good.warnings == []
    assert "warning" not in repr(good)


def test_a_run_reports_it_in_the_terminal_and_in_its_summary(tmp_path, capsys):
    words = "--problem.source camera --problem.size 24 24 --model.kind siren --training.steps 40"
    bad = f"fit {words} --training.learning_rate 0.5 --out {tmp_path}/run"
    assert main(bad.split()) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert any("trivial predictor: try" in line for line in lines)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert any("trivial predictor: try" in line for line in summary["diagnostics"]["warnings"])


@pytest.mark.parametrize(
    ("problem", "name", "expected"),
    [
        (lj.Image(np.array([[0.0, 1.0], [0.0, 1.0]])), "psnr", 10 * np.log10(4)),
        (lj.Audio(np.array([0.5, -0.5, 0.5, -0.5]), 8), "snr", 0.0),
        (lj.Occupancy(np.indices((4, 4, 4)).sum(axis=0) % 2), "iou", 0.5),
        (lj.pde.Convection(points=9), "relative_l2", 1.0),
    ],
)
def test_the_trivial_predictor_has_a_known_score(problem, name, expected):
    """The mean: half of the range away everywhere; zero; everywhere inside a checkerboard."""
    scores = problem.trivial_scores(problem.load())
    assert list(scores) == [name] == [problem.main_score]
    np.testing.assert_allclose(scores[name], expected, atol=0.02)


def test_the_trivial_classifier_takes_the_most_frequent_class():
    x = np.arange(100.0)[:, None]
    problem = lj.Classification(x, np.where(np.arange(100) % 4 == 0, "rare", "common"))
    assert problem.trivial_scores(problem.load()) == {"accuracy": 0.75}


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (lj.NestNet(in_dim=2, out_dim=1, width=4), "subnetwork", "layer_0: the subnetwork is"),
        (lj.LRNN(in_dim=2, out_dim=1, rank=4, components=2), "component", "4 of 4 neurons are"),
    ],
    ids=["nestnet", "lrnn"],
)
def test_a_solution_reports_subnetworks_that_learned_nothing(model, name, message):
    solution = lj.solve(model, lj.Image(np.eye(6)), lj.Training(steps=2, learning_rate=1e-3))
    assert not any("layer_0" in line for line in solution.warnings)
    params = dict(solution.params)
    dead = jax.tree.map(jnp.zeros_like, params["layer_0"][name])
    params["layer_0"] = dict(params["layer_0"]) | {name: dead}
    warnings = dataclasses.replace(solution, params=params).warnings
    assert any(message in line for line in warnings), warnings
