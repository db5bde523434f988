"""Free space at a restore's target, and the removal of what a restore that was given up left there."""

from __future__ import annotations

import os
from contextlib import suppress

from backup.errors import LimitRefusedError
from backup.inventory import entries, snapshots
from backup.inventory.database import Inventory
from backup.inventory.entries import ROOT
from backup.inventory.retrievals import Restore
from backup.restorer.plan import RestorePlan
from backup.restorer.target.mark import name_of, remove_mark
from backup.wording import size


def room_at(target: str) -> int:
    """Bytes that we may still write below `target`, or where it would be made."""
    path = os.path.abspath(target)
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def check_room(plan: RestorePlan, target: str) -> None:
    """`LimitRefusedError` if not even each piece of content once has room, before anything is asked for."""
    need = sum(plan.selection.locations.lengths)
    room = room_at(target)
    if need > room:
        raise LimitRefusedError(
            f"{target} has room for {size(room)}, but {size(need)} would be written at the least: "
            f"{size(need - room)} more",
            advice="make room or give another --target; nothing was asked for",
        )


def sweep(restore: Restore, inventory: Inventory) -> None:
    """Remove a restore's mark, and its half-done files from the directories that it writes into, no other.

    A target that was made for it goes, too, if nothing is in it.
    """
    if not os.path.isdir(restore.target):
        return
    below = _directories(restore, inventory)
    prefix = f".nightvault-{restore.id}-".encode()
    top, made = os.path.abspath(restore.target), False
    for place, names, files, handle in os.fwalk(top, follow_symlinks=False):
        relative = os.path.relpath(place, top)
        here = b"" if relative == b"." else relative + b"/"
        names[:] = [name for name in names if here + name in below]
        if relative == b".":
            made = remove_mark(name_of(restore.id), handle)
        for name in files:
            if name.startswith(prefix):
                with suppress(OSError):
                    os.unlink(name, dir_fd=handle)
    if made:
        with suppress(OSError):
            os.rmdir(top)


def _directories(restore: Restore, inventory: Inventory) -> set[bytes]:
    """The directories of a restore, relative to its target."""
    path = restore.path.rstrip(b"/")
    with inventory.reading() as tx:
        snapshot = snapshots.get_snapshot(tx, restore.snapshot)
        rows = entries.entries_below(tx, snapshot.job_number, path or ROOT, snapshot.number)
        found = {directory[len(path) :].removeprefix(b"/") for directory, _ in rows}
    return {
        b"/".join(steps[:n]) for steps in (one.split(b"/") for one in found) for n in range(1, len(steps) + 1)
    }
