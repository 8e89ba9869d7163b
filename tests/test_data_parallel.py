"""Training on several devices: `eight_devices.py` in a process that has eight of them."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from launching import run_two_processes

import lrnn_jax as lj
from lrnn_jax.experiments import load_run


def test_training_on_eight_devices():
    """In a process of its own, because the number of devices is fixed when JAX starts."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    file = Path(__file__).with_name("eight_devices.py")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(file)]
    result = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]


def test_two_processes_train_and_resume_one_run(tmp_path):
    """Process 0 alone writes; the run equals that of one process."""
    both = run_two_processes("two_processes.py", tmp_path / "run", cwd=tmp_path)
    assert [process.code for process in both] == [0, 0], both
    assert both[0].out.strip().endswith(str(tmp_path / "run"))
    assert {path.name for path in tmp_path.iterdir()} == {"run", "study"}
    rows = lj.studies.StudyFolder(tmp_path / "study").rows()
    assert [row["training.seed"] for row in rows] == [0, 1, 2, 3]
    shared = load_run(tmp_path / "run")
    training = dataclasses.replace(shared.training, data_parallel=False)
    alone = lj.solve(shared.model, shared.problem, training)
    assert shared.history["step"].tolist() == list(range(13))
    np.testing.assert_allclose(shared.history["loss"][:-1], alone.losses, rtol=1e-9)
    assert shared.summary["scores"]["psnr"] == pytest.approx(alone.scores["psnr"], rel=1e-9)


def test_a_loss_of_all_data_is_not_shared():
    problem = lj.inverse.CT(size=16, views=4)
    with pytest.raises(lj.InputError, match="data_parallel: the loss of CT is no mean"):
        lj.solve("siren", problem, lj.Training(data_parallel=True))


def test_one_device_shares_with_itself():
    problem = lj.Image("camera", size=(8, 8))
    model = lj.Siren(in_dim=2, out_dim=1, width=8, depth=1)
    alone, shared = (
        lj.solve(model, problem, lj.Training(steps=5, data_parallel=share))
        for share in (False, True)
    )
    assert len(jax.devices()) == 1
    assert alone.losses.tolist() == pytest.approx(shared.losses.tolist(), rel=3e-6)
