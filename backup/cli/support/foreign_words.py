"""Words of restic and borg that nightvault does not have, and what does the same here."""

from __future__ import annotations

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
    "copy": "inventory backup, or another [[vault]]",
    "self-update": "pip install --upgrade (docs/operations.md)",
}
"""Commands of restic and borg, and what does that here."""

_PLACE = "where backups go is a [[vault]] of the config, which holds for every command"
_OPTIONS_ELSEWHERE = {
    "--repo": _PLACE,
    "--repository": _PLACE,
    "-r": _PLACE,
    "--password-file": "what opens backups is a recovery key: --key FILE",
    "--host": "snapshots belong to jobs: --job NAME; each job is of this server",
    "backup --exclude": "what a job leaves out is `exclude` of its [[job]] in the config",
    "backup --one-file-system": "write one_file_system = true into the [[job]]",
    "check --repair": "the next `nightvault backup` stores again what a check found lost and is still here",
    "forget --prune": "forget deletes nothing in the vault; `nightvault prune` does, what was forgotten",
    "ls --recursive": "`nightvault find` looks through all of a snapshot",
    "prune --max-unused": "`nightvault compact` makes room within archives",
}
"""Options of theirs, of every command or of one, and what does that here."""


def what_to_do(words: Sequence[str]) -> str:
    """What a command line of restic or borg would be here, in a sentence; "" if it has nothing of theirs."""
    from backup.cli import COMMANDS

    command = next((word for word in words if word in COMMANDS), "")
    if command == "key" and {"add", "passwd", "change-passphrase"} & set(words):
        return "recipients in the config say whose keys open backups; `nightvault key generate` makes a key"
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
