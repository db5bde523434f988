"""What must be true of a server's nights, in each world and at each deletion."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from tests.model.world import DELETED, DELETING, READABLE, STORED, UNCONFIRMED, Night, World, at, name


def broken(world: World, grace: timedelta) -> str:
    """What is kept comes back, a read goes on, an undo within the grace works, rows are true."""
    for night in world.nights:
        why = _why_it_stays(world, night, grace)
        for _, chunk in night.places:
            if why and not _comes_back(world, chunk):
                return f"chunk {chunk} of {name(night)}, {why}, is gone"
    if not {(night.job, night.number) for night in world.nights}.issuperset(world.reads):
        return "a snapshot that a restore reads is given up"
    for number, row in enumerate(world.rows):
        if row.state in {STORED, UNCONFIRMED} and (not row.there or row.dying):
            return f"archive {number} is relied on, and the vault has it no longer"
        if row.state == DELETED and row.there:
            return f"archive {number} is said to be deleted, and is there"
    return ""


def _why_it_stays(world: World, night: Night, grace: timedelta) -> str:
    if night.forgotten < 0:
        return "kept"
    if (night.job, night.number) in world.reads:
        return "read by a restore"
    return "forgotten within the grace" if at(world.now) - at(night.forgotten) < grace else ""


def _comes_back(world: World, chunk: int) -> bool:
    return any(
        chunk in row.chunks and row.there and not row.dying and row.state in READABLE for row in world.rows
    )


def too_early(world: World, due: Collection[int], minimum: int, grace: timedelta) -> str:
    """Minimum duration and grace are over by the vault's clock, and each job's catalog has said so."""
    for which in due:
        row = world.rows[which]
        if row.state == DELETING:
            continue  # decided before
        said = {job: taken for job, _, _, taken in row.condemned}
        if row.stored + minimum > world.now:
            return f"archive {which} is deleted before its minimum duration is over"
        if not said or not said.keys() >= set(row.jobs):
            return f"archive {which} is deleted, and not each catalog says that it is condemned"
        if at(world.now) - at(max(said.values())) < grace:
            return f"archive {which} is deleted within the grace"
    return ""
