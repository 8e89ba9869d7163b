"""One of two processes of `jax.distributed` that train and resume a run together.

python two_processes.py NUMBER PORT FOLDER
"""

import os
import sys
from pathlib import Path

import jax

import lrnn_jax as lj
from lrnn_jax.experiments import Experiment, RunFolder, resume, start


def experiment(steps: int, data_parallel: bool) -> Experiment:
    return Experiment(
        model=lj.Siren(in_dim=2, out_dim=1, width=16, depth=1),
        problem=lj.Image("camera", size=(9, 9)),
        training=lj.Training(
            steps=steps,
            precision="float64",
            checkpoint_every=4,
            log_every=1,
            data_parallel=data_parallel,
        ),
    )


STUDY = lj.Study(
    problem={"kind": "image", "source": "camera", "size": [8, 8]},
    training={"steps": 20},
    grid={"model.kind": ["siren"], "training.seed": [0, 1, 2, 3]},
    budget=200,
    block=1,
)


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]))
    assert (jax.process_count(), jax.device_count()) == (2, 2)
    path = Path(sys.argv[3])
    start(experiment(6, data_parallel=True), path)
    outcome = resume(RunFolder(path), {"steps": 12})
    lj.study(STUDY, path.with_name("study"))
    print(outcome.folder.path)
