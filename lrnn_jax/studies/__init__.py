"""Studies: many fits with one command, divided into blocks that share one compiled program."""

from lrnn_jax.studies.folder import StudyFolder
from lrnn_jax.studies.run import StudyResult, describe, plan, study
from lrnn_jax.studies.spec import Member, Study, members, read_study

__all__ = [
    "Member",
    "Study",
    "StudyFolder",
    "StudyResult",
    "describe",
    "members",
    "plan",
    "read_study",
    "study",
]
