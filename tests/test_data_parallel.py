"""Training on several devices: `eight_devices.py` in a process that has eight of them."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import lrnn_jax as lj


def test_training_on_eight_devices():
    """In a process of its own, because the number of devices is fixed when JAX starts."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    file = Path(__file__).with_name("eight_devices.py")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(file)]
    result = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]


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
