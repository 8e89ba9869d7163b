"""`study`: fit all members of a study, block by block, and the result that it returns."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax

from lrnn_jax.experiments.spec import Experiment, table_of_model
from lrnn_jax.experiments.trackers import require_trackers
from lrnn_jax.io import require_memory
from lrnn_jax.io.safetensors import save_tree
from lrnn_jax.kernels.cost import count_flops
from lrnn_jax.studies.engine import Fitted, Goals, Program, fit_block, program_key
from lrnn_jax.studies.folder import Row, StudyFolder
from lrnn_jax.studies.result import StudyResult
from lrnn_jax.studies.spec import Member, Study, members
from lrnn_jax.studies.tracking import is_tracked, track_block
from lrnn_jax.training import NonFiniteLossError, Trainer, precision_context
from lrnn_jax.trees import count_bytes, count_parameters

__all__ = ["describe", "plan", "study"]

_ROW_BYTES = 6000  # of a row with its curve
_ALONE = 32  # steps of the single fit that is timed beside a block


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


def study(
    spec: Study,
    folder: str | PathLike[str],
    *,
    report: Callable[[str], Any] | None = None,
    track: Sequence[str] = (),
) -> StudyResult:
    """Fit the members of a study that are not fitted yet.

    Members that share a program are compiled once. Each member is the fit that `solve` computes
    with the same settings; in float64 they agree to 1e-9. The folder holds the rows of all finished
    blocks: a study that was interrupted goes on where it was, and several processes that share the
    folder divide the blocks among them.

    Args:
      spec: the study.
      folder: its folder; it is created if it does not exist.
      report: receives lines of text: what the study takes, and the progress.
      track: names of trackers that receive each member, "tensorboard" or "wandb", once its block is
        written. Members that were fitted before and have not been tracked are tracked, too.

    Raises:
      InputError: the folder is that of another study; as `plan`; a file cannot be written; the
        package of a tracker is missing.

    Example:
      >>> import tempfile
      >>> spec = Study(
      ...     problem={"kind": "image", "source": "camera", "size": [8, 8]},
      ...     training={"steps": 20},
      ...     grid={"model.kind": ["siren"], "training.seed": [0, 1, 2]},
      ...     budget=200,
      ... )
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     result = study(spec, folder)
      >>> [row["training.seed"] for row in result.rows]
      [0, 1, 2]
    """
    say, track = report or (lambda line: None), require_trackers(track)
    blocks = plan(spec)
    store = StudyFolder(Path(folder), spec.rows)
    store.prepare(spec)
    say(describe(spec, blocks))
    clock, done, ready = time.perf_counter(), 0, None
    blocks = [block for block in blocks if not _is_complete(store, block, track)]
    left = sum(len(block.members) for block in blocks)
    for block in blocks:
        with store.claimed(block.number) as ours:
            if not ours or _is_complete(store, block, track):
                continue
            if not store.is_done(block.number):
                ready = _fit(spec, store, block, ready)
            track_block(track, store, block.number, block.members)
        done += len(block.members)
        spent = time.perf_counter() - clock
        say(f"{done} of {left} members, {spent:.0f} s, {spent * (left - done) / done:.0f} s to go")
    return StudyResult(spec, store.path, store.rows())


def _is_complete(store: StudyFolder, block: Block, track: Sequence[str]) -> bool:
    return store.is_done(block.number) and is_tracked(track, store, block.number)


class _Ready(NamedTuple):
    """The program of a group, the seconds of a step of one fit that runs alone, and its costs."""

    group: int | None
    program: Program
    alone: float
    flops: int


def _fit(spec: Study, store: StudyFolder, block: Block, ready: _Ready | None) -> _Ready | None:
    """Train a block and write its files.

    Args:
      spec: the study.
      store: its folder.
      block: the block.
      ready: the program of the block before, which is used again if it is that of the block.

    Returns:
      The program of the block, or `ready` if the block has none.
    """
    if block.group is None:
        store.write(block.number, [_unreadable(block, member) for member in block.members])
        return ready
    experiments = [m.experiment for m in block.members if m.experiment is not None]
    goals = Goals(tuple(spec.targets), spec.score_every, spec.stop_at_target)
    with precision_context(experiments[0].training):
        if ready is None or ready.group != block.group:
            program = _prepared(experiments, block)
            alone, flops = _seconds_a_step(experiments[0]), _flops_a_point(experiments[0])
            ready = _Ready(block.group, program, alone, flops)
        fitted, seconds = fit_block(ready.program, experiments, goals)
    if spec.keep_models:
        _save_models(store.models(block.number), block, experiments[0], fitted)
    store.write(block.number, _rows(spec, block, fitted, seconds, ready))
    return ready


def describe(spec: Study, blocks: Sequence[Block]) -> str:
    """One line: the numbers of members, programs and blocks, the operations, the size of the files.

    The operations are three times those of the model at the points of all steps. Derivatives in the
    loss of a differential equation add to them.
    """
    found = [member for block in blocks for member in block.members]
    groups = {block.group: block.members[0] for block in blocks if block.group is not None}
    costs = {group: _flops_a_step(member) for group, member in groups.items()}
    sizes = {group: _bytes_of_models(member) for group, member in groups.items()}
    flops = sum(
        costs[block.group] * member.experiment.training.steps
        for block in blocks
        for member in block.members
        if block.group is not None and member.experiment is not None
    )
    stored = sum(sizes[b.group] * len(b.members) for b in blocks if b.group is not None)
    files = len(found) * _ROW_BYTES + stored * spec.keep_models
    lost = sum(member.experiment is None for member in found)
    parts = [
        f"{len(found)} members" + (f" ({lost} cannot be fitted)" if lost else ""),
        f"{len(groups)} programs, {len(blocks)} blocks",
        f"at least {flops:.2g} floating-point operations, {files / 1e6:.2g} MB of files",
    ]
    return ", ".join(parts)


def _flops_a_step(member: Member) -> float:
    """The floating-point operations of a step, without derivatives in the loss."""
    experiment = member.experiment
    assert experiment is not None
    points = max(
        (leaf.shape[0] for leaf in jax.tree.leaves(member.shapes) if leaf.shape), default=1
    )
    batch = min(points, experiment.training.batch or points)
    return 3.0 * batch * _flops_a_point(experiment)


def _flops_a_point(experiment: Experiment) -> int:
    """The floating-point operations of the model at one point."""
    params = jax.eval_shape(experiment.model.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((experiment.problem.in_dim,), "float32")
    return count_flops(experiment.model.apply, params, x)


def _bytes_of_models(member: Member) -> int:
    assert member.experiment is not None
    return count_bytes(jax.eval_shape(member.experiment.model.init, jax.random.key(0)))


def _prepared(experiments: Sequence[Experiment], block: Block) -> Program:
    """The program of a block; its arrays must fit into the memory."""
    experiment = experiments[0]
    state = 4 * count_bytes(jax.eval_shape(experiment.model.init, jax.random.key(0)))
    data = count_bytes(block.members[0].shapes)
    what = f"a block of {len(experiments)} members (study.block sets their number)"
    require_memory(what, len(experiments) * (state + 2 * data))
    return Program(experiment, len(experiments))


def _seconds_a_step(experiment: Experiment) -> float:
    """The seconds of a step of one fit that runs alone; NaN if it diverges at once."""
    steps = min(_ALONE, experiment.training.steps)
    trainer = Trainer(experiment.model, experiment.problem, experiment.training)
    trainer.compile()
    with contextlib.suppress(NonFiniteLossError):
        for interval in trainer.run(pause_every=[max(1, steps // 2)]):
            if interval.step >= steps or trainer.ended:
                return interval.seconds / len(interval.history["loss"])
    return math.nan


def _rows(
    spec: Study, block: Block, fitted: Sequence[Fitted], seconds: float, ready: _Ready
) -> list[Row]:
    """The rows of a block; `seconds` are divided among the members by their steps."""
    steps = max(1, sum(fit.steps for fit in fitted))
    rows = []
    for member, fit in zip(block.members, fitted, strict=True):
        reached = {f"steps_to_{t:g}": n for t, n in zip(spec.targets, fit.reached, strict=True)}
        rows.append(
            {
                "member": member.number,
                "block": block.number,
                **member.settings,
                "main_score": fit.main_score,
                **fit.scores,
                "parameters": count_parameters(fit.params),
                "flops": ready.flops,
                "steps": fit.steps,
                "loss": fit.loss,
                "seconds_amortised": seconds * fit.steps / steps,
                "seconds_alone": ready.alone * fit.steps,
                **reached,
                "reason": "the loss is not finite" if fit.diverged else "",
                "curve": [list(point) for point in fit.curve],
            }
        )
    return rows


def _unreadable(block: Block, member: Member) -> Row:
    return {
        "member": member.number,
        "block": block.number,
        **member.settings,
        "reason": member.reason,
    }


def _save_models(
    path: Path, block: Block, experiment: Experiment, fitted: Sequence[Fitted]
) -> None:
    params = {str(m.number): fit.params for m, fit in zip(block.members, fitted, strict=True)}
    made_by = {"version": version("lrnn-jax"), "model": table_of_model(experiment.model)}
    save_tree(path, params, json.dumps(made_by))
