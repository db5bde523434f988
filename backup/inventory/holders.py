"""The locks of an inventory that are held now, found without taking one: looking must not block a run."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from backup.inventory.runs import COMMITTING, Outcome, Run, RunKind

_LOCKS = "/proc/locks"  # proc(5): number, FLOCK, ADVISORY, WRITE, pid, device:inode, from, to


class Holder(Struct, frozen=True):
    """A process that holds a lock; number 0 is one of another PID namespace, such as a container's."""

    process: int
    command: str = ""
    is_suspended: bool = False


def holders(directory: str) -> Mapping[str, Sequence[Holder]] | None:
    """The processes of this machine that hold locks, by name; None if the system does not tell."""
    try:
        with open(_LOCKS, encoding="ascii", errors="replace") as file:
            fields = [line.split() for line in file]
        locks = [one for one in fields if len(one) > 5 and one[1] == "FLOCK"]
        by_inode: dict[int, set[int]] = {}
        for one in locks:
            by_inode.setdefault(int(one[5].rpartition(":")[2]), set()).add(max(0, int(one[4])))
        names = [name for name in os.listdir(directory) if name.endswith(".lock")]
        found = {name: os.stat(os.path.join(directory, name)).st_ino for name in names}
    except (OSError, ValueError):
        return None
    return {
        name.removesuffix(".lock"): [_holder(one) for one in sorted(by_inode[inode])]
        for name, inode in sorted(found.items())
        if inode in by_inode
    }


def held_locks(directory: str) -> frozenset[str] | None:
    """The names of the locks that processes of this machine hold; None if the system does not tell."""
    found = holders(directory)
    return None if found is None else frozenset(found)


def _holder(process: int) -> Holder:
    """What is known of a process; it may have ended meanwhile."""
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
        with open(f"/proc/{process}/stat", "rb") as file:
            state = file.read(4096).rpartition(b")")[2].split()[:1]
    except OSError:
        return Holder(process)
    command = b" ".join(words).decode("utf-8", "replace")
    return Holder(process, command, is_suspended=state in ([b"T"], [b"t"]))


def is_dead(run: Run, held: Collection[str] | None) -> bool:
    """Whether a run without a recorded end has no process any more.

    False for checks and drills: one that waits for its vault is open without a process.
    """
    if run.outcome is not Outcome.RUNNING or held is None:
        return False
    if run.kind in COMMITTING:
        return "backup" not in held
    return run.kind is RunKind.RESTORE and not any(name.startswith("restore-") for name in held)
