"""Recipes: the settings of a model for a problem where the user gives none."""

from pathlib import Path

import numpy as np
import pytest
import skimage

import lrnn_jax as lj
from lrnn_jax.experiments.recipes import has_recipe, recipe_for, recipes, sized
from lrnn_jax.experiments.spec import MODELS, PROBLEMS, model_from

MOON = str(Path(skimage.data_dir) / "moon.png")  # not among the signals of the sweeps
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
    """The mean, the trivial predictor, has 15 to 20 dB; half of the steps give 10 dB more."""
    problem = lj.Image(MOON, size=(64, 64))
    result = lj.solve(model, problem, steps=300)
    data = problem.load()
    mean = np.mean(np.asarray(data.y), axis=0)
    trivial = problem.evaluate(lambda x: np.broadcast_to(mean, (*x.shape[:-1], 1)), data)
    assert result.scores["psnr"] > trivial["psnr"] + 10


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
