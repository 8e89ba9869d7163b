"""`study`: fit all members of a study, block by block."""

import json
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from lrnn_jax.experiments.spec import Experiment, table_of_model
from lrnn_jax.experiments.trackers import require_trackers
from lrnn_jax.io import require_memory
from lrnn_jax.io.safetensors import save_tree
from lrnn_jax.studies.engine import Fitted, Goals, Program, fastest_program, fit_block
from lrnn_jax.studies.folder import Row, StudyFolder
from lrnn_jax.studies.planning import (
    Block,
    bytes_of_block,
    describe,
    describe_seconds,
    flops_of_point,
    plan,
    seconds_of_programs,
    time_step,
    time_steps,
)
from lrnn_jax.studies.result import StudyResult
from lrnn_jax.studies.spec import Member, Study
from lrnn_jax.studies.tracking import is_tracked, track_block
from lrnn_jax.training import precision_context
from lrnn_jax.trees import count_parameters

__all__ = ["study"]

_LONG = 600  # expected seconds of a program for which widths are measured


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
    clock, done = time.perf_counter(), 0
    blocks = [block for block in blocks if not _is_complete(store, block, track)]
    left = sum(len(block.members) for block in blocks)
    worker = _Worker(spec, store, blocks)
    say(describe_seconds(blocks, worker.timed))
    for block in blocks:
        with store.claimed(block.number) as ours:
            if not ours or _is_complete(store, block, track):
                continue
            if not store.is_done(block.number):
                worker.fit(block)
            track_block(track, store, block.number, block.members)
        done += len(block.members)
        spent = time.perf_counter() - clock
        say(f"{done} of {left} members, {spent:.0f} s, {spent * (left - done) / done:.0f} s to go")
    return StudyResult(spec, store.path, store.rows())


def _is_complete(store: StudyFolder, block: Block, track: Sequence[str]) -> bool:
    return store.is_done(block.number) and is_tracked(track, store, block.number)


class _Worker:
    """Fits blocks, one after the other, and keeps the program of the last one.

    Attributes:
      timed: seconds of a step of one fit that runs alone, by program.
      expected: seconds of all steps of the study, by program.
    """

    def __init__(self, spec: Study, store: StudyFolder, blocks: Sequence[Block]) -> None:
        self._spec, self._store = spec, store
        self.timed = time_steps([block for block in blocks if not store.is_done(block.number)])
        self.expected = seconds_of_programs(blocks, self.timed)
        self._group: int | None = None
        self._program: Any = None

    def fit(self, block: Block) -> None:
        """Train a block and write its files."""
        spec, store = self._spec, self._store
        if block.group is None:
            store.write(block.number, [_unreadable(block, member) for member in block.members])
            return
        experiments = [m.experiment for m in block.members if m.experiment is not None]
        goals = Goals(tuple(spec.targets), spec.score_every, spec.stop_at_target)
        with precision_context(experiments[0].training):
            if block.group != self._group:
                self._program = None  # release its memory first
                self._program, self._group = self._prepared(experiments, block), block.group
            fitted, seconds = fit_block(self._program, experiments, goals)
        if spec.keep_models:
            _save_models(store.models(block.number), block, experiments[0], fitted)
        costs = {"flops": flops_of_point(experiments[0]), "seconds": seconds}
        alone = self.timed[block.group]
        store.write(block.number, _rows(spec, block, fitted, alone=alone, **costs))

    def _prepared(self, experiments: Sequence[Experiment], block: Block) -> Program:
        """The program of a block; its arrays must fit into the memory.

        A width that has been measured is stored: another width rounds differently, so all blocks of
        a program have the same one, also if another process trains them.
        """
        what = f"a block of {len(experiments)} members (study.block sets their number)"
        require_memory(what, bytes_of_block(block))
        group = block.group
        assert group is not None
        if group not in self.timed:
            self.timed[group] = time_step(experiments[0])
        width = self._spec.width
        if width is None and self.expected.get(group, 0.0) > _LONG:
            with self._store.width_of(group) as width:
                if width is None:
                    program = fastest_program(experiments)
                    self._store.set_width(group, program.width)
                    return program
        return Program(experiments[0], len(experiments), width or 1)


def _rows(
    spec: Study,
    block: Block,
    fitted: Sequence[Fitted],
    *,
    seconds: float,
    alone: float,
    flops: int,
) -> list[Row]:
    """The rows of a block.

    Args:
      spec: the study.
      block: the block.
      fitted: its results.
      seconds: of all steps; they are divided among the members by their steps.
      alone: seconds of a step of one fit that runs alone.
      flops: operations of the model at one point.
    """
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
                "flops": flops,
                "steps": fit.steps,
                "loss": fit.loss,
                "seconds_amortised": seconds * fit.steps / steps,
                "seconds_alone": alone * fit.steps,
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
