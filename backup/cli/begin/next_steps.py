"""What is left to do once `begin` has ended, and on which machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence

from backup.app.aws_setup.wanted import subject_of
from backup.app.beginning.answers import DRILL, Answers, Tell
from backup.app.beginning.measure import is_missing
from backup.cli.begin.question import Facts, config_from
from backup.cli.begin.summary import drill_words, folded
from backup.errors import NightvaultError


def next_steps(answers: Answers, facts: Facts, named: Sequence[str], *, backed_up: bool) -> Iterator[str]:
    """The commands that follow, each below the machine that it is given on."""

    def ours(*words: str) -> str:
        return folded("  server$ ", named, words)

    waits_for_aws = answers.where.is_set_up and answers.authority is None
    if waits_for_aws:
        yield from _certificate(answers, facts)
        yield from _set_up(answers, facts)
        yield "Then the first backup, and a drill of one file, which says first what it costs:"
        yield ours("init")
    elif not backed_up:
        yield "When you like, the first backup, and a drill of one file:"
    if not backed_up:
        yield ours("backup")
        yield ours(*drill_words(answers, "--dry-run"))
    if answers.recipient is not None:
        yield from _enrol(ours)
    else:
        yield from _key(answers)
    if answers.schedule is not None or answers.check is not None:
        yield "So that the daemon keeps the schedules:"
        yield ours("install", "--systemd")
    if answers.tell is not Tell.NOBODY:
        yield "To see whether anybody is told:"
        yield ours("notify", "test")
    yield "To see what is easily forgotten:"
    yield ours("doctor")


def cold_drill(answers: Answers, named: Sequence[str]) -> Iterator[str]:
    """How a drill is asked for later, where the vault must be asked and paid."""
    yield folded("  server$ ", named, drill_words(answers))
    if answers.is_cold:
        hours = 12 if answers.storage_class == "DEEP_ARCHIVE" else 5
        yield f"Give the same command again {hours} hours later: then the file is there, and compared."
    yield f"It never costs more than max_cost_per_month of drill {DRILL} in the config."


def _certificate(answers: Answers, facts: Facts) -> Iterator[str]:
    """How the certificate is made, with a key that never leaves the server."""
    if not is_missing(answers.certificate):
        return
    host, key = shlex.quote(facts.place.host), shlex.quote(answers.private_key)
    yield "The certificate (authority: a machine that is not backed up with this one):"
    if is_missing(answers.private_key):
        yield f"  server$ nightvault identity csr --out server.csr --key {key} \\"
        yield f"            --name {host} --organization Example --unit Backup"
    yield "  authority$ nightvault ca create --dir ca --name 'Backup CA' \\"
    yield "            --organization Example --passphrase-file prompt   # once"
    yield f"  authority$ scp {host}:server.csr ."
    yield "  authority$ nightvault ca sign server.csr --dir ca --out server.pem"
    yield f"  authority$ scp server.pem {host}:{shlex.quote(answers.certificate)}"


def _common_name(answers: Answers, facts: Facts) -> str:
    """Whose certificate the roles are for: as the one that is there says, else as it will be made."""
    try:
        return subject_of(config_from(answers, facts.place))[0]
    except NightvaultError:
        return facts.place.host


def _set_up(answers: Answers, facts: Facts) -> Iterator[str]:
    """How an admin sets AWS up, away from the server."""
    host, config = shlex.quote(facts.place.host), shlex.quote(facts.place.config)
    subject = shlex.quote(_common_name(answers, facts))
    name = os.path.basename(config)
    yield "AWS (admin: where you have administrator access to it, and ca/ca.pem of the authority):"
    yield f"  admin$ scp {host}:{config} ."
    for mode in ("--plan", "--apply"):
        yield f"  admin$ nightvault --config {name} setup aws {mode} --ca ca/ca.pem \\"
        yield f"            --subject {subject}"
    yield f"  admin$ scp {name} {host}:{config}"


def _enrol(ours: Callable[..., str]) -> Iterator[str]:
    yield "So that the recovery key vouches for this server (backups may begin before):"
    yield f"{ours('key', 'request')} > request.json"
    yield "  where the key is$ nightvault key enroll request.json --key FILE > enrolment.json"
    yield ours("key", "accept", "enrolment.json")


def _key(answers: Answers) -> Iterator[str]:
    files = " and ".join(filter(None, (answers.key_file, answers.sheet)))
    yield (
        f"Take {files} off this server: keep the key in two places, and remove it here. It alone opens the "
        "backups."
    )
