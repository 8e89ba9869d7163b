"""Studies: many fits with one command, divided into blocks that share one compiled program."""

from lrnn_jax.studies.folder import StudyFolder
from lrnn_jax.studies.planning import describe, describe_seconds, plan, time_steps
from lrnn_jax.studies.result import StudyResult, load_study
from lrnn_jax.studies.run import study
from lrnn_jax.studies.spec import Member, Study, members, read_study

__all__ = [
    "Member",
    "Study",
    "StudyFolder",
    "StudyResult",
    "describe",
    "describe_seconds",
    "load_study",
    "members",
    "plan",
    "read_study",
    "study",
    "time_steps",
]
