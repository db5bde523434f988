"""The locks of an inventory that are held now, found without taking one: looking must not block a run."""

from __future__ import annotations

import os
from collections.abc import Collection

from backup.inventory.runs import Outcome, Run, RunKind

_LOCKS = "/proc/locks"  # proc(5): number, FLOCK, ADVISORY, WRITE, pid, device:inode, from, to


def held_locks(directory: str) -> frozenset[str] | None:
    """The names of the locks that processes of this machine hold; None if the system does not tell."""
    try:
        with open(_LOCKS, encoding="ascii", errors="replace") as file:
            fields = [line.split() for line in file]
        inodes = {int(one[5].rpartition(":")[2]) for one in fields if len(one) > 5 and one[1] == "FLOCK"}
        names = [name for name in os.listdir(directory) if name.endswith(".lock")]
        found = {name: os.stat(os.path.join(directory, name)).st_ino for name in names}
    except (OSError, ValueError):
        return None
    return frozenset(name.removesuffix(".lock") for name, inode in found.items() if inode in inodes)


def is_dead(run: Run, held: Collection[str] | None) -> bool:
    """Whether a run without a recorded end has no process any more.

    False for checks: one that waits for its vault is open without a process.
    """
    if run.outcome is not Outcome.RUNNING or held is None:
        return False
    if run.kind is RunKind.BACKUP:
        return "backup" not in held
    return run.kind is RunKind.RESTORE and not any(name.startswith("restore-") for name in held)
