"""Grey-valued volumes."""

import math

import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax.cli import main
from lrnn_jax.io import read_voxels

VALUES = np.random.default_rng(0).normal(300, 50, (4, 5, 6))


def test_values_are_mapped_to_the_network_s_range_voxel_by_voxel():
    data = lj.Volume(VALUES).load()
    y = np.asarray(data.y).reshape(4, 5, 6)
    assert y.min() == -1 and y.max() == 1
    np.testing.assert_allclose(data.low + (data.high - data.low) * (y + 1) / 2, VALUES, rtol=1e-6)
    x = np.asarray(data.x).reshape(4, 5, 6, 3)
    assert x[3, 0, 0].tolist() == pytest.approx([0.75, -0.8, -5 / 6])


def test_scores_are_those_of_the_values_in_their_unit():
    problem = lj.Volume(VALUES)
    data = problem.load()
    span = VALUES.max() - VALUES.min()
    scores = problem.evaluate(lambda x: np.zeros((*x.shape[:-1], 1)), data)  # the middle value
    rmse = math.sqrt(np.mean((VALUES - (VALUES.max() + VALUES.min()) / 2) ** 2))
    assert scores["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert scores["psnr"] == pytest.approx(20 * math.log10(span / rmse), rel=1e-5)


def test_the_sample_is_the_test_signal_of_marschner_and_lobb():
    values = read_voxels("marschner_lobb")
    assert values.shape == (40, 40, 40)
    z, y, x = (np.linspace(-1, 1, 40)[index] for index in (3, 17, 25))
    ripple = math.cos(2 * math.pi * 6 * math.cos(math.pi * math.hypot(x, y) / 2))
    expected = (1 - math.sin(math.pi * z / 2) + 0.25 * (1 + ripple)) / (2 * 1.25)
    assert values[3, 17, 25] == pytest.approx(expected, abs=1e-12)


def test_a_fit_from_the_command_line_is_decoded_in_the_volume_s_unit(tmp_path, capsys):
    np.save(tmp_path / "mri.npy", VALUES)
    words = f"fit --problem.kind volume --problem.source {tmp_path}/mri.npy --model.kind mlp"
    words += f" --model.width 8 --training.steps 5 --out {tmp_path}/run"
    assert main(words.split()) == 0
    assert (tmp_path / "run" / "slices.png").stat().st_size > 1000
    assert main(["decode", f"{tmp_path}/run", "--size", "3", "4", "5"]) == 0
    decoded = np.load(tmp_path / "run" / "decoded.npy")
    assert decoded.shape == (3, 4, 5)
    middle, span = (VALUES.max() + VALUES.min()) / 2, VALUES.max() - VALUES.min()
    assert np.abs(decoded - middle).max() < 2 * span  # not the network's range [-1, 1]
    assert main(["decode", f"{tmp_path}/run", "--size", "3"]) == 2
    assert "three numbers of voxels" in capsys.readouterr().err
