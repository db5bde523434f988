"""The commands that are left to run after `begin`, in order, and the machine to run each on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from backup.app.aws_setup.wanted import subject_of
from backup.app.beginning.answers import DRILL, Answers, Tell
from backup.app.beginning.foresee import daemon_words
from backup.app.beginning.measure import is_missing
from backup.cli.begin.question import Facts, config_from
from backup.cli.begin.summary import drill_words, folded, typed
from backup.errors import NightvaultError

_SERVER = "On this server:"
_AUTHORITY = "On the authority, a machine that is not backed up with this one:"
_ADMIN = "On an admin's machine, with administrator access to AWS and the authority's ca.pem:"
_SHELL = "  "  # before a line that is typed; the others are headings and sentences


def next_steps(answers: Answers, facts: Facts, named: Sequence[str], *, backed_up: bool) -> Iterator[str]:
    """Yield the lines of the commands left to run, below the name of the machine to run them on."""

    def ours(*words: str) -> str:
        return folded(_SHELL, named, words)

    if answers.where.is_set_up and answers.authority is None:
        yield from _certificate(answers, facts)
        yield from _set_up(answers, facts)
        yield f"{_SERVER} the first backup, and a drill of one file; its price first:"
        yield ours("init")
    else:
        yield _SERVER
    if not backed_up:
        yield ours("backup")
        if answers.where.is_set_up:
            yield ours(*drill_words(answers, "--dry-run"))
        yield from cold_drill(answers, named)
    if answers.recipient is not None:
        yield from _enrol(named)
    if answers.schedule is not None or answers.check is not None:
        yield "The daemon, which keeps the schedules:"
        yield ours(*daemon_words(is_root=facts.is_root))
    if answers.tell is not Tell.NOBODY:
        yield "To see whether somebody is told:"
        yield ours("notify", "test")
    else:
        yield "Nobody is told when something is wrong, but by `nightvault status`: docs/notify.md."
    yield "To see what is easily forgotten:"
    yield ours("doctor")
    yield from take_away(answers)


def cold_drill(answers: Answers, named: Sequence[str], *, failed: bool = False) -> Iterator[str]:
    """Yield the command of a drill; for a cold vault also when to run it again, and the limit of its cost.

    A drill that `failed` has requested no retrieval, so there is nothing to wait for.
    """
    yield folded(_SHELL, named, drill_words(answers))
    if answers.is_cold and not failed:
        hours = 12 if answers.storage_class == "DEEP_ARCHIVE" else 5
        yield f"Give the same command again {hours} hours later: then the file is there, and compared."
    if answers.where.is_set_up:
        yield f"It never costs more than max_cost_per_month of drill {DRILL} in the config."


def _certificate(answers: Answers, facts: Facts) -> Iterator[str]:
    """The commands that make the certificate, with a key that never leaves the server."""
    if not is_missing(answers.certificate):
        return
    host, who = facts.place.host, ("--organization", "Example")
    if is_missing(answers.private_key):
        yield f"{_SERVER} ask for a certificate."
        asked = (
            "--out",
            "server.csr",
            "--key",
            answers.private_key,
            "--name",
            host,
            *who,
            "--unit",
            "Backup",
        )
        yield typed(_SHELL, ("nightvault", "identity", "csr", *asked))
    yield f"{_AUTHORITY} sign it. `ca create` is given once."
    named = ("--name", "Backup CA", *who, "--passphrase-file", "prompt")
    yield typed(_SHELL, ("nightvault", "ca", "create", "--dir", "ca", *named))
    yield typed(_SHELL, ("scp", f"{host}:server.csr", "."))
    yield typed(_SHELL, ("nightvault", "ca", "sign", "server.csr", "--dir", "ca", "--out", "server.pem"))
    yield typed(_SHELL, ("scp", "server.pem", f"{host}:{answers.certificate}"))


def _common_name(answers: Answers, facts: Facts) -> str:
    """Whose certificate the roles are for: as the one that is there says, else as it will be made."""
    try:
        return subject_of(config_from(answers, facts.place))[0]
    except NightvaultError:
        return facts.place.host


def _set_up(answers: Answers, facts: Facts) -> Iterator[str]:
    """The commands by which an admin sets AWS up, away from the server."""
    there, name = f"{facts.place.host}:{facts.place.config}", os.path.basename(facts.place.config)
    roles = ("--ca", "ca/ca.pem", "--subject", _common_name(answers, facts))
    yield f"{_ADMIN} --plan shows what --apply makes."
    yield typed(_SHELL, ("scp", there, "."))
    for mode in ("--plan", "--apply"):
        yield typed(_SHELL, ("nightvault", "--config", name, "setup", "aws", mode, *roles))
    yield typed(_SHELL, ("scp", name, there))


def _enrol(named: Sequence[str]) -> Iterator[str]:
    yield "So that the recovery key enrols this server (backups may begin before):"
    yield f"{folded(_SHELL, named, ('key', 'request'))} > request.json"
    yield "Where the recovery key is, with request.json from here:"
    words = ("key", "enroll", "request.json", "--key", "FILE")
    yield f"{folded(_SHELL, (), words)} > enrolment.json"
    yield f"{_SERVER} with enrolment.json from there:"
    yield folded(_SHELL, named, ("key", "accept", "enrolment.json"))


def take_away(answers: Answers) -> Iterator[str]:
    """Yield the advice to move the recovery key off this server, if it was made here."""
    if not answers.key_file:
        return
    files = " and ".join(filter(None, (answers.key_file, answers.sheet)))
    yield (
        f"Take {files} off this server: keep the key in two places, and remove it here. It alone opens the "
        "backups."
    )
