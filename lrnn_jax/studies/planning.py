"""Plan a study: its blocks, and the operations, memory, files and seconds that it takes."""

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from lrnn_jax.experiments.spec import Experiment
from lrnn_jax.kernels.cost import count_flops
from lrnn_jax.studies.engine import program_key
from lrnn_jax.studies.spec import Member, Study, members
from lrnn_jax.training import NonFiniteLossError, Trainer, precision_context
from lrnn_jax.trees import count_bytes

__all__ = [
    "Block",
    "bytes_of_block",
    "describe",
    "describe_seconds",
    "experiment_in",
    "flops_of_point",
    "plan",
    "seconds_of_programs",
    "time_step",
    "time_steps",
]

_ROW_BYTES = 6000  # of a row with its curve
_ALONE = 32  # steps of the single fit that is timed beside a block
_TIMED = 4  # programs that are timed before a study starts


class Block(NamedTuple):
    """Members that are trained by one call of a program; without a program, those that cannot be.

    Attributes:
      number: its place in the study, from 0.
      group: the number of its program; None for members whose data cannot be read.
      members: its members.
    """

    number: int
    group: int | None
    members: Sequence[Member]


def plan(spec: Study) -> list[Block]:
    """Divide a study into blocks: members of one program, at most `spec.block` of them.

    Raises:
      InputError: a field is unknown or out of range, a glob matches nothing, or no width of a model
        meets the budget.
    """
    groups: dict[Any, list[Member]] = {}
    for member in members(spec):
        experiment = member.experiment
        key = None if experiment is None else program_key(experiment, member.shapes)
        groups.setdefault(key, []).append(member)
    blocks: list[Block] = []
    for group, (key, found) in enumerate(groups.items()):
        for first in range(0, len(found), spec.block):
            part = found[first : first + spec.block]
            blocks.append(Block(len(blocks), None if key is None else group, part))
    return blocks


def describe(spec: Study, blocks: Sequence[Block]) -> str:
    """One line: numbers of members, programs and blocks, operations, memory, size of the files.

    The operations are three times those of the model at the points of all steps. Derivatives in the
    loss of a differential equation add to them.
    """
    found = [member for block in blocks for member in block.members]
    groups = _first_of_groups(blocks)
    costs = {group: _flops_a_step(block) for group, block in groups.items()}
    sizes = {group: _bytes_of_model(experiment_in(block)) for group, block in groups.items()}
    flops = sum(costs[group] * steps for group, steps in _steps_of_groups(blocks).items())
    stored = sum(sizes[b.group] * len(b.members) for b in blocks if b.group is not None)
    memory = max(map(bytes_of_block, groups.values()), default=0)
    files = len(found) * _ROW_BYTES + stored * spec.keep_models
    reasons = [member.reason for member in found if member.experiment is None]
    lost = f" ({len(reasons)} cannot be fitted: {reasons[0]})" if reasons else ""
    parts = [
        f"{len(found)} members{lost}",
        f"{len(groups)} programs, {len(blocks)} blocks",
        f"at least {flops:.2g} floating-point operations",
        f"{memory / 1e6:.2g} MB of memory for a block, {files / 1e6:.2g} MB of files",
    ]
    return ", ".join(parts)


def time_steps(blocks: Sequence[Block]) -> dict[int, float]:
    """The seconds of a step of one fit on one device, for the first four programs.

    Returns:
      The seconds by the number of the program; NaN for a fit that diverges at once.
    """
    first = list(_first_of_groups(blocks).items())[:_TIMED]
    return {group: time_step(experiment_in(block)) for group, block in first}


def time_step(experiment: Experiment) -> float:
    """The seconds of a step of one fit on one device; NaN if it diverges at once.

    With `data_parallel`, the devices of all hosts would share the step, but a host fits its own
    blocks of a study, at its own time.
    """
    training = dataclasses.replace(experiment.training, data_parallel=False)
    steps = min(_ALONE, training.steps)
    with precision_context(training), contextlib.suppress(NonFiniteLossError):
        trainer = Trainer(experiment.model, experiment.problem, training)
        trainer.compile()
        for interval in trainer.run(pause_every=[max(1, steps // 2)]):
            if interval.step >= steps or trainer.ended:
                return interval.seconds / len(interval.history["loss"])
    return math.nan


def describe_seconds(blocks: Sequence[Block], timed: dict[int, float]) -> str:
    """One line: the seconds of all steps; see `seconds_of_programs`.

    Args:
      blocks: the blocks that are left.
      timed: the result of `time_steps`.
    """
    if not _first_of_groups(blocks):
        return "no steps are left"
    seconds = sum(seconds_of_programs(blocks, timed).values())
    known = sum(map(math.isfinite, timed.values()))
    return f"about {seconds:.0f} s of steps, estimated from {known} programs, each timed in one fit"


def seconds_of_programs(blocks: Sequence[Block], timed: dict[int, float]) -> dict[int, float]:
    """The seconds of all steps of each program, if the fits share the devices without loss.

    Programs that are not timed take the seconds of an operation of those that are.

    Args:
      blocks: the blocks.
      timed: the result of `time_steps`.
    """
    groups, steps = _first_of_groups(blocks), _steps_of_groups(blocks)
    flops = {group: _flops_a_step(block) for group, block in groups.items()}
    known = {group: s for group, s in timed.items() if group in groups and math.isfinite(s)}
    counted = sum(flops[group] for group in known)
    rate = sum(known.values()) / counted if counted else math.nan
    devices = jax.local_device_count()
    return {g: steps[g] * known.get(g, rate * flops[g]) / devices for g in groups}


def experiment_in(block: Block) -> Experiment:
    """The experiment of the first member of a block with a program."""
    experiment = block.members[0].experiment
    assert experiment is not None
    return experiment


def flops_of_point(experiment: Experiment) -> int:
    """The floating-point operations of the model at one point."""
    params = jax.eval_shape(experiment.model.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((experiment.problem.in_dim,), "float32")
    return count_flops(experiment.model.apply, params, x)


def bytes_of_block(block: Block) -> int:
    """The memory of the states and the data of a block, without temporary arrays."""
    state = 4 * _bytes_of_model(experiment_in(block))
    return len(block.members) * (state + 2 * count_bytes(block.members[0].shapes))


def _first_of_groups(blocks: Sequence[Block]) -> dict[int, Block]:
    """The first block of each program."""
    groups: dict[int, Block] = {}
    for block in blocks:
        if block.group is not None:
            groups.setdefault(block.group, block)
    return groups


def _steps_of_groups(blocks: Sequence[Block]) -> dict[int, int]:
    """The number of steps of all members of each program."""
    steps: dict[int, int] = {}
    for block in blocks:
        for member in block.members:
            if block.group is not None and member.experiment is not None:
                taken = member.experiment.training.steps
                steps[block.group] = steps.get(block.group, 0) + taken
    return steps


def _flops_a_step(block: Block) -> float:
    """The floating-point operations of a step, without derivatives in the loss."""
    experiment = experiment_in(block)
    shapes = jax.tree.leaves(block.members[0].shapes)
    points = max((leaf.shape[0] for leaf in shapes if leaf.shape), default=1)
    batch = min(points, experiment.training.batch or points)
    return 3.0 * batch * flops_of_point(experiment)


def _bytes_of_model(experiment: Experiment) -> int:
    return count_bytes(jax.eval_shape(experiment.model.init, jax.random.key(0)))
