"""Predicts the doctor's findings for a config that is not in use yet, so that none comes as a surprise."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from msgspec import Struct

from backup.app.beginning.answers import Answers
from backup.app.beginning.measure import is_missing
from backup.app.doctor import jobs, machine
from backup.app.doctor.finding import Check, DoctorContext
from backup.config import Config
from backup.protocols import Clock

_KNOWN_BEFORE: tuple[Check, ...] = (
    jobs.no_policy,
    jobs.missing_sources,
    jobs.precious_left_out,
    jobs.without_dump,
    machine.recovery_lines,
)
"""Checks that need nothing but the config."""


class Foreseen(Struct, frozen=True):
    """A predicted finding: its kind, as the doctor's `check`, and its text or when it comes."""

    check: str
    what: str


def foreseen(
    answers: Answers, config: Config, clock: Clock, silent: Mapping[str, str], *, is_root: bool
) -> Iterator[Foreseen]:
    """Return the findings of a doctor run after the first backup, as far as they follow from the answers.

    `silent` are the places whose mounts do not answer, each with what it is.
    """
    for what in silent.values():
        yield Foreseen("mount", f"{what} does not answer: no backup is made before it does")
    context = DoctorContext(config, clock, None, silent=silent)
    for check in _KNOWN_BEFORE:
        yield from (Foreseen(finding.check, finding.what) for finding in check(context))
    if answers.recipient is not None:
        yield Foreseen("enrolment", "the recovery key has not enrolled this server, until it has")
        if answers.first_backup:
            yield Foreseen("warnings", "the first backup warned of that")
    elif os.path.dirname(answers.key_file) in machine.key_places(config):
        files = " and ".join(filter(None, (answers.key_file, answers.sheet)))
        yield Foreseen("recovery-key", f"the recovery key lies on this server ({files}), until you move it")
    if answers.schedule is not None or answers.check is not None:
        command = " ".join(("nightvault", *daemon_words(is_root=is_root)))
        yield Foreseen("daemon", f"the daemon does not run, until `{command}`")
    if answers.where.is_set_up and answers.authority is None:
        yield Foreseen("vault", "the vault is not set up in AWS, until `setup aws --apply`")
    if answers.where.is_set_up and is_missing(answers.certificate):
        yield Foreseen("certificate", f"the certificate is not there: {answers.certificate}")
    if not answers.first_backup or (answers.where.is_set_up and answers.authority is None):
        yield Foreseen("never-run", "nothing was backed up, until `nightvault backup`")


def daemon_words(*, is_root: bool) -> tuple[str, ...]:
    """Return the command that starts the daemon."""
    return ("install", "--systemd", *(() if is_root else ("--user",)))
