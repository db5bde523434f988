"""The questions of `begin` in their order, and their answers from a TOML file, checked as typed ones are."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from backup.app.beginning.answers import Answers
from backup.cli.begin.in_aws import IN_AWS, SET_UP
from backup.cli.begin.key_and_people import FIRST_BACKUP, KEY_AND_PEOPLE
from backup.cli.begin.question import NO, YES, Facts, Question
from backup.cli.begin.what_and_where import WHAT_AND_WHERE
from backup.cli.begin.when_and_keep import WHEN_AND_KEEP
from backup.config import PROPOSED, read_document
from backup.config.shapes import suggestion
from backup.errors import NightvaultError, UsageError

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


def answers_in(path: str, course: Sequence[Question], first: Answers, facts: Facts) -> Answers:
    """Return the answers in a file; questions missing there get their default. `UsageError` names the key."""
    document = read_document(path)
    names = [question.name for question in course]
    for name in document:
        if name not in names:
            raise UsageError(f"{path}: {name}: there is no such question{suggestion(name, names)}")
    answers = first
    asked: set[str] = set()
    for question in course:
        if not question.applies(answers, facts):
            continue
        asked.add(question.name)
        text = _text(document, question, answers, facts)
        try:
            answers = question.answered(answers, text, facts)
        except NightvaultError as error:
            raise UsageError(f"{path}: {question.name}: {error}", advice=error.advice) from error
    for name in document:
        if name not in asked:
            raise UsageError(f"{path}: {name}: it is not asked after the other answers: take it away")
    return answers


def _text(document: Mapping[str, Any], question: Question, answers: Answers, facts: Facts) -> str:
    """An answer as it would be typed."""
    if question.name not in document:
        return question.default(answers, facts)
    value = document[question.name]
    if isinstance(value, bool):
        return YES if value else NO
    if isinstance(value, list):
        return shlex.join(map(str, value))
    return str(value)
