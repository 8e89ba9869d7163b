"""What the studies of configs/studies take: seconds here, and an estimate for one GPU.

    python benchmarks/ready_made.py time                     # every study, one after the other
    python benchmarks/ready_made.py time --studies nestnet_rates
    python benchmarks/ready_made.py table                    # the table of docs/studies.md

Seconds here are what `lrnn-jax study STUDY --plan` says: those of all steps, without compilation,
from the time of one step of each of the first programs. The estimate for a GPU is

    sum over all steps of max(operations / 51 TFLOP/s, bytes / 4.0 TB/s),

with the rates that were measured on an H200 (`accelerators.py device --parts rates`), our count of
operations, and XLA's count of bytes in the program for this machine, at the full batch. It leaves
out compilation and the launch of kernels, so small networks reach it in a wide `vmap` only.
"""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from common import FOLDER, Results, Row, compiled, markdown, parse, stage_parser
from scale import CORES, images

from lrnn_jax.kernels.cost import count_flops
from lrnn_jax.studies.planning import Block, experiment_in, plan, seconds_of_programs, time_steps
from lrnn_jax.studies.spec import read_study
from lrnn_jax.training import precision_context
from lrnn_jax.training.driver import first_state, make_problem_step

RESULTS = Results(FOLDER / "ready_made.json")
STUDIES = {path.stem: path for path in sorted((FOLDER.parents[1] / "configs/studies").glob("*"))}
FLOPS, BANDWIDTH = 51e12, 4.0e12  # of one H200, measured


@contextlib.contextmanager
def one_image() -> Iterator[None]:
    """A working directory whose folder images/ has one image."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("images").mkdir()
        images(Path("images"), 1)
        yield


def measure(name: str) -> Row:
    """Plan a study, time a step of its first programs, and count all of them."""
    with one_image():
        begun = time.perf_counter()
        blocks = plan(read_study(STUDIES[name]))
        here = sum(seconds_of_programs(blocks, time_steps(blocks)).values())
        spent = time.perf_counter() - begun
        known = [block for block in blocks if block.group is not None]
        gpu = {group: seconds_on_gpu(block) for group, block in {b.group: b for b in known}.items()}
        return {
            "stage": "time",
            "name": name,
            "members": sum(len(block.members) for block in blocks),
            "programs": len(gpu),
            "seconds": round(here, 1),
            "seconds_of_plan": round(spent, 1),
            "seconds_gpu": round(sum(gpu[block.group] * len(block.members) for block in known), 2),
        }


def seconds_on_gpu(block: Block) -> float:
    """The estimate for one fit."""
    experiment = experiment_in(block)
    model, problem = experiment.model, experiment.problem
    training = dataclasses.replace(experiment.training, chunk=2**31)
    with precision_context(training):
        data, keys = problem.loss_data(problem.load()), training.keys()
        state = first_state(model, problem, training, False, keys, data)
        step = make_problem_step(model, problem, training)
        operations = count_flops(step, state, data, keys[1])
        program = compiled(step, state, data, keys[1])
    return training.steps * max(operations / FLOPS, program.bytes / BANDWIDTH)


def table(rows: list[Row]) -> str:
    head = "study | fits | programs | steps, 2 cores | estimate, one H200"
    lines = [
        (
            f"`studies/{row['name']}`",
            f"{row['members']}" + (" an image" if row["name"] == "images_slides" else ""),
            f"{row['programs']}",
            duration(row["seconds"]),
            duration(row["seconds_gpu"]),
        )
        for row in rows
    ]
    return markdown(head, lines)


def duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.2g} s"


def main() -> None:
    parser = stage_parser(__doc__, ("time",))
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    options = parse(parser, RESULTS, table)
    jax.config.update("jax_num_cpu_devices", CORES)
    for name in options.studies:
        RESULTS.add(measure(name))


if __name__ == "__main__":
    main()
