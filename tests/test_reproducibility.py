"""What is equal between two trainings: the bits, or the values up to rounding. See docs/faq.md.

Resumed runs are in test_bad_input.py and test_experiments.py, devices in test_data_parallel.py,
members of studies in test_studies.py.
"""

import hashlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax.cli import main

MODELS = {
    "siren": lj.Siren(in_dim=2, out_dim=3, width=64, depth=2),
    "lrnn": lj.LRNN(in_dim=2, out_dim=3, rank=8, components=4),
    "nestnet": lj.NestNet(in_dim=2, out_dim=3, width=24),
}


def trained(name, **settings):
    """The parameters after 20 steps."""
    training = lj.Training(steps=20, seed=3, **settings)
    problem = lj.Image("astronaut", size=(48, 48))
    return lj.solve(MODELS[name], problem, training, progress=False).params


def digest(params):
    """A hash of all bits."""
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]
    return hashlib.sha256(b"".join(leaves)).hexdigest()


def digests_of_process(cores):
    """The hashes of a new process that may use `cores` cores; None leaves it all of them."""
    code = (
        "import os, sys; cores = sorted(os.sched_getaffinity(0))[: int(sys.argv[1])]; "
        "os.sched_setaffinity(0, cores); sys.path.insert(0, sys.argv[2]); "
        "from test_reproducibility import MODELS, digest, trained; "
        "print(*(digest(trained(name)) for name in MODELS))"
    )
    folder = __file__.rpartition("/")[0]
    done = subprocess.run(
        [sys.executable, "-c", code, str(cores), folder], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="sets the cores of a process")
def test_processes_give_equal_bits_with_any_number_of_cores():
    """With the default chunk of 512 points. XLA divides larger operations among the cores."""
    one, again, all_cores = map(digests_of_process, (1, 1, 1024))
    assert one == again == all_cores
    assert len(set(one)) == len(MODELS)


def test_the_command_line_and_python_give_equal_bits(tmp_path):
    words = ["--model.kind", "lrnn", "--model.rank", "8", "--problem.size", "48", "48"]
    words += ["--training.steps", "20", "--training.seed", "3"]
    assert main(["fit", *words, "--out", str(tmp_path / "run")]) == 0
    run = lj.load_run(tmp_path / "run")
    problem = lj.Image("astronaut", size=(48, 48))
    again = lj.solve(run.model, problem, run.training, progress=False)
    assert digest(run.params) == digest(again.params)


@pytest.mark.parametrize("name", MODELS)
def test_intervals_of_logging_change_no_bit(name):
    assert digest(trained(name)) == digest(trained(name, log_every=3, checkpoint_every=7))


@pytest.mark.parametrize("name", MODELS)
def test_another_chunk_changes_the_rounding_alone(name, x64):
    first, second = (trained(name, precision="float64", chunk=chunk) for chunk in (100, 2304))
    assert digest(first) != digest(second)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), first, second)
