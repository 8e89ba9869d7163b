"""What trackers receive of a study: the settings, the curve and the scores of each member."""

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from lrnn_jax.experiments.spec import ConfigTable, merge
from lrnn_jax.experiments.trackers import TrackedFit, open_trackers
from lrnn_jax.studies.folder import Row, StudyFolder
from lrnn_jax.studies.spec import Member, Settings

__all__ = ["is_tracked", "track_block"]


def is_tracked(names: Sequence[str], store: StudyFolder, block: int) -> bool:
    """Whether the trackers have received all members of a block."""
    return all(store.is_tracked(block, name) for name in names)


def track_block(
    names: Sequence[str], store: StudyFolder, block: int, members: Sequence[Member]
) -> None:
    """Send the members of a block that is done to the trackers that have not received it.

    A tracker that has received a part, because the process was killed, shows each member once.

    Args:
      names: names of trackers, as `require_trackers` returns them.
      store: the folder of the study.
      block: number of the block.
      members: its members.

    Raises:
      InputError: a tracker cannot be opened, or a file cannot be written.
    """
    for name in names:
        if store.is_tracked(block, name):
            continue
        for member, row in zip(members, store.rows_of(block), strict=True):
            if row.get("curve"):
                _track(name, store, member.settings, row)
        store.set_tracked(block, name)


def _track(name: str, store: StudyFolder, settings: Settings, row: Row) -> None:
    """Send one member to a tracker."""
    study = store.path.resolve().name
    member = f"{row['member']:05d}"
    # The times in the row make it differ from the rows of other studies.
    content = json.dumps([study, row]).encode()
    fit = TrackedFit(
        name=f"{study}-{member}",
        config=_sections({name: row[name] for name in settings}),
        folder=store.path,
        events=store.path / "tensorboard" / member,
        wandb_id=hashlib.sha256(content).hexdigest()[:16],
        group=study,
        quiet=True,
    )
    with open_trackers([name], fit) as trackers:
        trackers.log(_curve(row))
        trackers.finish(row["steps"], _scores(row, settings))


def _sections(settings: Settings) -> ConfigTable:
    """Settings as sections of fields.

    >>> _sections({"model.kind": "siren", "training.seed": 0, "training.steps": 9, "budget": 500})
    {'model': {'kind': 'siren'}, 'training': {'seed': 0, 'steps': 9}, 'budget': 500}
    """
    tables: list[ConfigTable] = []
    for dotted, value in settings.items():
        section, _, field = dotted.partition(".")
        tables.append({section: {field: value} if field else value})
    return functools.reduce(merge, tables, {})


def _curve(row: Row) -> list[dict[str, Any]]:
    """The curve as lines of metrics, without values that are not finite."""
    names = ("step", "loss", row["main_score"])
    lines = [dict(zip(names, point, strict=True)) for point in row["curve"]]
    return [{name: value for name, value in line.items() if value is not None} for line in lines]


def _scores(row: Row, settings: Settings) -> dict[str, float]:
    """The columns of a row that are numbers, without the settings and the place in the study."""
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float)
        and name not in settings
        and name not in ("member", "block")
    }
