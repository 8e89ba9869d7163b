"""`study`: fit all members of a study, block by block."""

import json
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from lrnn_jax.experiments.spec import Experiment, table_of_model
from lrnn_jax.experiments.trackers import require_trackers
from lrnn_jax.io import require_memory
from lrnn_jax.io.safetensors import save_tree
from lrnn_jax.studies.engine import Fitted, Goals, Program, fit_block
from lrnn_jax.studies.folder import Row, StudyFolder
from lrnn_jax.studies.planning import (
    Block,
    bytes_of_block,
    describe,
    describe_seconds,
    flops_of_point,
    plan,
    time_step,
    time_steps,
)
from lrnn_jax.studies.result import StudyResult
from lrnn_jax.studies.spec import Member, Study
from lrnn_jax.studies.tracking import is_tracked, track_block
from lrnn_jax.training import precision_context
from lrnn_jax.trees import count_parameters

__all__ = ["study"]


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
    unfitted = [block for block in blocks if not store.is_done(block.number)]
    timed = time_steps(unfitted)
    say(describe_seconds(unfitted, timed))
    for block in blocks:
        with store.claimed(block.number) as ours:
            if not ours or _is_complete(store, block, track):
                continue
            if not store.is_done(block.number):
                ready = _fit(spec, store, block, ready, timed)
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


def _fit(
    spec: Study, store: StudyFolder, block: Block, ready: _Ready | None, timed: dict[int, float]
) -> _Ready | None:
    """Train a block and write its files.

    Args:
      spec: the study.
      store: its folder.
      block: the block.
      ready: the program of the block before, which is used again if it is that of the block.
      timed: seconds of a step of one fit that runs alone, by program; those that it does not have
        are added.

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
            if block.group not in timed:
                timed[block.group] = time_step(experiments[0])
            flops = flops_of_point(experiments[0])
            ready = _Ready(block.group, program, timed[block.group], flops)
        fitted, seconds = fit_block(ready.program, experiments, goals)
    if spec.keep_models:
        _save_models(store.models(block.number), block, experiments[0], fitted)
    store.write(block.number, _rows(spec, block, fitted, seconds, ready))
    return ready


def _prepared(experiments: Sequence[Experiment], block: Block) -> Program:
    """The program of a block; its arrays must fit into the memory."""
    what = f"a block of {len(experiments)} members (study.block sets their number)"
    require_memory(what, bytes_of_block(block))
    return Program(experiments[0], len(experiments))


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
