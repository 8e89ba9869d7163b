"""`benchmarks/accelerators.py device` at reduced size on the CPU: each part measures its rows."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lrnn_jax.io import Sound, write_png, write_wav

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "accelerators.py"
PARTS = {
    "rates": 4,
    "correctness": 9,
    "steps": 14,
    "fused": 4,
    "torch": None,
    "image": None,
    "photograph": None,
    "sound": None,
    "population": 4,
    "laplacian": 8,
}


def run(part, folder):
    """The output and the rows of a part; the script must succeed."""
    command = [sys.executable, SCRIPT, "device", "--small", "--missing", "--parts", part]
    command += ["--results", folder / "results", "--data", folder]
    environment = {name: v for name, v in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    files = list((folder / "results").glob("device_*.json"))
    return done.stdout, [row for file in files for row in json.loads(file.read_text())]


@pytest.fixture
def signals(tmp_path):
    """A folder with the files that the studies read."""
    rng = np.random.default_rng(0)
    write_png(tmp_path / "cameraman.png", rng.random((32, 32, 1)))
    (tmp_path / "cameraman.png").rename(tmp_path / "cameraman.tif")
    write_png(tmp_path / "kodim05.png", rng.random((24, 16, 3)))
    for name in ("gt_bach.wav", "gt_counting.wav"):
        write_wav(tmp_path / name, Sound(np.sin(np.arange(2000) / 9)[:, None], 8000, "PCM_16"))
    return tmp_path


def test_all_parts_are_tested():
    tree = ast.parse(SCRIPT.read_text())
    (parts,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "PARTS"
    )
    assert [ast.literal_eval(key) for key in parts.keys] == list(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_the_device_script_runs_at_reduced_size(part, signals):
    said, rows = run(part, signals)
    if "skipped: PyTorch" in said:
        assert rows == []
        return
    assert rows
    assert len(rows) == PARTS[part] or PARTS[part] is None
    assert not [row for row in rows if "error" in row]
    if part == "correctness":
        assert max(max(row["value"], row["gradient"]) for row in rows) < 2e-4
    if part == "rates":  # nothing is measured twice
        assert run(part, signals)[1] == rows
