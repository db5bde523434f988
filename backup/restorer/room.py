"""Free space at a restore's target, and the removal of what a restore that was given up left there."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from backup.errors import LimitRefusedError
from backup.inventory.content import entries, snapshots
from backup.inventory.content.entries import ROOT
from backup.inventory.records.retrievals import Restore
from backup.inventory.store.database import Inventory
from backup.restorer.plan import RestorePlan
from backup.restorer.target.mark import left_place, name_of, remove_mark
from backup.safe_paths import remove_plain
from backup.wording import size


def room_at(target: str) -> int:
    """Bytes that we may still write below `target`, or where it would be made.

    Without end where that is not known: a file system in memory alone (ramfs) has no size.
    """
    path = os.path.abspath(target)
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize if found.f_blocks else sys.maxsize


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


def sweep(restore: Restore, inventory: Inventory, *, keeps_target: bool = False) -> None:
    """Remove a restore's mark, and its half-done files from the directories that it writes into, no other.

    A target that was made for it goes, too, if nothing is in it, unless another restore begins there.
    """
    with left_place(restore, inventory) as place:
        if place is not None:
            handle, path = place
            made = _sweep(restore, handle, _directories(restore, inventory))
            if made and not keeps_target:
                with suppress(OSError):
                    remove_plain(os.fsdecode(path), handle)


def _sweep(restore: Restore, target: int, below: set[bytes]) -> bool:
    """Remove those files; whether the mark says that the target was made for the restore."""
    prefix = f".nightvault-{restore.id}-".encode()
    made = remove_mark(name_of(restore.id), target)
    for place, names, files, handle in os.fwalk(b".", follow_symlinks=False, dir_fd=target):
        here = place.removeprefix(b".").removeprefix(b"/")
        here += b"/" if here else b""
        names[:] = [name for name in names if here + name in below]
        for name in files:
            if name.startswith(prefix):
                with suppress(OSError):
                    os.unlink(name, dir_fd=handle)
    return made


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
