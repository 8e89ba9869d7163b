"""Recipes: the settings of a model for a problem where the user gives none."""

from pathlib import Path

import numpy as np
import pytest
import skimage

import lrnn_jax as lj
from lrnn_jax.experiments.recipes import has_recipe, recipe_for, recipes, sized
from lrnn_jax.experiments.spec import MODELS, PROBLEMS, model_from

# Not among the signals of the sweeps.
MOON, COFFEE = (str(Path(skimage.data_dir) / f"{name}.png") for name in ("moon", "coffee"))
PAIRS = [(kind, model) for kind, common in recipes().items() for model in common["models"]]


def test_recipes_name_kinds_and_fields_that_exist():
    assert PAIRS
    for kind, model in PAIRS:
        assert kind in PROBLEMS and model in MODELS
        entry = recipes()[kind]["models"][model]
        fields = {"kind": model, "in_dim": 2, "out_dim": 1} | entry["model"]
        assert model_from(sized(fields, 1000)).parameter_count <= 1000
        lj.Training(**recipes()[kind]["training"] | entry["training"])


@pytest.mark.parametrize("model", recipes()["image"]["models"])
def test_a_recipe_fits_an_image_that_its_sweep_did_not_see(model):
    """Half of the steps give 6 dB more than the mean; a plain network without features, 2 dB."""
    problem = lj.Image(MOON, size=(64, 64))
    result = lj.solve(model, problem, steps=300)
    data = problem.load()
    mean = np.mean(np.asarray(data.y), axis=0)
    trivial = problem.evaluate(lambda x: np.broadcast_to(mean, (*x.shape[:-1], 1)), data)
    assert result.scores["psnr"] > trivial["psnr"] + (2 if model == "mlp" else 6)


def test_the_size_follows_the_data_within_bounds():
    def size(side):
        return recipe_for(lj.Image(MOON, size=(side, side)), "siren").model.parameter_count

    rule = recipes()["image"]["parameters"]
    small, middle, large = size(8), size(128), size(512)
    assert small <= rule["least"]
    assert 0.8 * rule["per_value"] * 128**2 < middle <= rule["per_value"] * 128**2
    assert 0.8 * rule["most"] < large <= rule["most"]


def test_what_the_user_gives_wins():
    problem = lj.Image(MOON, size=(16, 16))
    own = lj.Siren(in_dim=2, out_dim=1, width=8, omega0=5.0)
    assert recipe_for(problem, own).model is own
    result = lj.solve(own, problem, steps=3)
    assert len(result.losses) == 3
    assert result.training.learning_rate == recipe_for(problem, "siren").training.learning_rate
    training = lj.Training(steps=2, learning_rate=1e-4)
    assert lj.solve("siren", problem, training).training == training


def test_a_pair_without_a_recipe_has_the_defaults_of_the_model_and_of_the_problem():
    problem = lj.Image(MOON, size=(16, 16))
    assert not has_recipe("image", "spinn")
    model, training = recipe_for(problem, "spinn")
    assert model == lj.Spinn(in_dim=2, out_dim=1, width=model.width)
    assert model.parameter_count <= 1000
    assert training == lj.Training(steps=600, schedule="cosine")
    with pytest.raises(lj.InputError, match="unknown model 'sirens'; did you mean 'siren'"):
        lj.solve("sirens", problem)


# Each problem at its recipe: better than a trivial predictor by a stated margin ------------------


def bells(seed):
    """A volume of 16^3 values: ten random Gaussian bells."""
    rng = np.random.default_rng(seed)
    x = np.stack(np.meshgrid(*(np.linspace(-1, 1, 16),) * 3, indexing="ij"), axis=-1)
    centres, widths = rng.uniform(-0.8, 0.8, (10, 3)), rng.uniform(0.2, 0.6, 10)
    return np.sum(
        [np.exp(-((x - c) ** 2).sum(-1) / w**2) for c, w in zip(centres, widths, strict=True)], 0
    )


def chirp():
    """A tone that rises from 100 to 500 Hz in half a second."""
    t = np.arange(4000) / 8000
    return np.sin(2 * np.pi * (100 + 400 * t) * t)


# Data that the sweeps did not use, and a margin: by how much the main score exceeds that of the
# trivial predictor or, for errors, the largest share of its error.
HELD_OUT = {
    "image": (lj.Image(MOON, size=(64, 64)), 8.0),
    "audio": (lj.Audio(chirp(), 8000), 10.0),
    "volume": (lj.Volume(bells(7)), 10.0),
    "field": (lj.SampledField(bells(8)[8]), 0.1),
    "occupancy": (lj.Occupancy(points=5000, point_seed=9, resolution=32), 0.5),
    "signed_distance": (lj.SignedDistance(points=5000, point_seed=9, resolution=32), 0.5),
    "denoising": (lj.inverse.Denoising(MOON, size=(64, 64), photons=20.0), 4.0),
    "inpainting": (lj.inverse.Inpainting(MOON, size=(64, 64)), 1.0),
    # Splines are hard to beat in a smooth image such as the moon.
    "super_resolution": (lj.inverse.SuperResolution(COFFEE, size=(96, 96)), 1.0),
    "multi_frame_super_resolution": (
        lj.inverse.MultiFrameSuperResolution(COFFEE, size=(64, 64), shift=8.0),
        3.0,
    ),
    "ct": (lj.inverse.CT(MOON, size=32, views=20), 0.0),
    "video": (lj.Video(frames=5, size=(32, 32)), 4.0),
    "regression": (lj.Regression(split_seed=5), 0.85),
    "classification": (lj.Classification("iris", split_seed=5), 0.4),
}
EQUATIONS = {name: kind for name, kind in PROBLEMS.items() if issubclass(kind, lj.pde.PDE)}
EQUATION_MARGIN = 0.3  # with 300 points
# They take 12 to 30 s; `benchmarks/recipes.py check` fits them.
SLOW = {"taylor_green", "kdv", "wave", "kovasznay", "allen_cahn", "burgers", "reaction_diffusion"}
SLOW |= {"heat", "multi_frame_super_resolution", "super_resolution"}
TABLES = ("regression", "classification")  # they stop early
DEFAULTS = sorted({(kind, recipes()[kind]["default"]) for kind, _ in PAIRS if kind not in SLOW})


def beats_trivial(problem, result, margin):
    name = problem.main_score
    score, trivial = result.scores[name], problem.trivial_scores()[name]
    if lj.metrics.higher_is_better(name):
        return score > trivial + margin
    return score < margin * trivial


@pytest.mark.parametrize(("kind", "model"), DEFAULTS)
def test_the_default_model_of_a_problem_beats_the_trivial_predictor(kind, model):
    assert model in recipes()[kind]["models"], f"the default of {kind} has no recipe"
    if kind in EQUATIONS:
        points = {"point_seed": 5, "points": 300}
        problem = EQUATIONS[kind](**recipes()[kind]["problem"] | points)
        margin = EQUATION_MARGIN
    else:
        problem, margin = HELD_OUT[kind]
    most = recipes()[kind]["training"]["steps"]
    result = lj.solve(model, problem, steps=most if kind in TABLES else min(300, most))
    assert beats_trivial(problem, result, margin), (result, problem.trivial_scores())
    assert result.warnings == []
