"""Commands and options of restic and borg, and their counterparts in nightvault."""

from __future__ import annotations

import re
from collections.abc import Sequence

COMMANDS_ELSEWHERE = {
    "list": "snapshots or ls",
    "cat": "dump",
    "mount": "web (it looks inside), or dump --tar",
    "extract": "restore",
    "create": "backup",
    "delete": "forget",
    "info": "stats",
    "repair": "check, or rebuild",
    "verify": "check, or check --read-data",
    "test": "check, or drill run",
    "umount": "nothing: `mount` is not there, web looks inside",
    "history": "runs",
    "log": "runs, or journalctl -u nightvault",
    "files": "ls, or find",
    "server-gone": "rebuild (docs/server-gone.md)",
    "disaster": "rebuild (docs/server-gone.md)",
    "cost": "stats, prices, or --dry-run of what would cost",
    "quote": "restore --dry-run, or check --dry-run",
    "cache": "nothing: the inventory in the state directory is all that is kept here",
    "copy": "inventory backup, or another [[vault]]",
    "self-update": "pip install --upgrade (docs/operations.md)",
}
"""Commands of restic and borg, and what does that here."""

_PLACE = "where backups go is a [[vault]] of the config, which holds for every command"
_DRY_RUN = "it has no short form: --dry-run"
_OPTIONS_ELSEWHERE = {
    "--repo": _PLACE,
    "--repository": _PLACE,
    "-r": _PLACE,
    "--password-file": "what opens backups is a recovery key: --key FILE",
    "-V": "it is `nightvault --version`",
    "--host": "snapshots belong to jobs: --job NAME; each job is of this server",
    "backup --exclude": "what a job leaves out is `exclude` of its [[job]] in the config",
    "backup --job": "the job is an argument: `nightvault backup JOB`",
    "backup --one-file-system": "write one_file_system = true into the [[job]]",
    "check --repair": "the next `nightvault backup` stores again what a check found lost and is still here",
    "forget --prune": "forget deletes nothing in the vault; `nightvault prune` does, what was forgotten",
    "ls --recursive": "`nightvault find` looks through all of a snapshot",
    "prune --max-unused": "`nightvault compact` makes room within archives",
    "restore -t": "it has no short form: --target DIR",
    "snapshots --latest": "the newest one comes last; `nightvault ls latest` looks into it",
    "runs --since": "the newest runs come first: --limit N shows the last N",
    "snapshots --since": "all are listed, oldest first, those of one job with --job NAME; "
    "`nightvault ls latest --at TIME` looks into the newest one of a time",
    **dict.fromkeys(
        (f"{command} -n" for command in ("backup", "check", "compact", "forget", "prune", "restore")),
        _DRY_RUN,
    ),
}
"""Options of theirs, of every command or of one, and what does that here."""
_OF_A_VAULT = frozenset({"check", "compact", "prune", "stats"})
"""Commands that take a vault's name as an option, and no arguments."""

_REFUSED = {
    ("ca", "'init'"): "`nightvault ca create` makes an authority",
    ("key", "'list'"): "`nightvault key status` shows whose keys open backups",
    ("drill", "'list'"): "`nightvault drills` lists them",
    ("check", "'--read-data' requires"): "say how much, such as --read-data 5%",
    ("pause", ""): "such as `nightvault pause JOB --until 1d`",
}
"""Sentences on what is meant by a command, by a part of the sentence that refuses its words."""


def meant_by(command: str, following: Sequence[str]) -> str:
    """Return the counterpart of a command of restic or borg; "" if none is known."""
    if command == "help":
        return f"`nightvault {' '.join([*following[:1], '--help'])}`"
    return COMMANDS_ELSEWHERE.get(command, "")


def what_to_do(words: Sequence[str], refusal: str = "") -> str:
    """Return advice with the counterparts of a restic or borg command line; "" if it is none.

    `refusal` is the error message with which click refused the command line.
    """
    from backup.cli import COMMANDS

    command = next((word for word in words if word in COMMANDS), "")
    if command == "key" and {"add", "passwd", "change-passphrase"} & set(words):
        return "recipients in the config say whose keys open backups; `nightvault key generate` makes a key"
    for (refused, part), meant in _REFUSED.items():
        if command == refused and part in refusal:
            return meant
    extra = re.search(r"unexpected extra argument \((\S+)\)", refusal)
    if command in _OF_A_VAULT and extra:
        return f"the vault is an option: `nightvault {command} --vault {extra[1]}`"
    for word in words:
        name = word.partition("=")[0]
        found = _OPTIONS_ELSEWHERE.get(f"{command} {name}") or _OPTIONS_ELSEWHERE.get(name)
        if found:
            return found
    after = (
        [word for word in words[words.index(command) + 1 :] if not word.startswith("-")] if command else []
    )
    if command in {"ls", "dump"} and len(after) == 2 and after[1].startswith("/") and ":" not in after[0]:
        return f"the path follows the snapshot and a colon: `nightvault {command} {after[0]}:{after[1]}`"
    return ""
