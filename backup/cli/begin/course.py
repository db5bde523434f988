"""The questions of `begin` in their order."""

from __future__ import annotations

from typing import Final

from backup.app.beginning.answers import Answers
from backup.cli.begin.in_aws import IN_AWS, SET_UP
from backup.cli.begin.key_and_people import FIRST_BACKUP, KEY_AND_PEOPLE
from backup.cli.begin.question import Question
from backup.cli.begin.what_and_where import WHAT_AND_WHERE
from backup.cli.begin.when_and_keep import WHEN_AND_KEEP
from backup.config import PROPOSED

COURSE: Final[tuple[Question, ...]] = (
    *WHAT_AND_WHERE,
    *IN_AWS,
    *WHEN_AND_KEEP,
    *KEY_AND_PEOPLE,
    SET_UP,
    FIRST_BACKUP,
)

NOTHING_YET: Final = Answers(keep=PROPOSED)
"""The answers before the first question."""
