"""The files that a drill may choose from: those of the newest snapshots, with when each was last proven."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from backup.driller.context import DrillContext
from backup.driller.sample import FileCandidate
from backup.driller.scratch import DEEPEST
from backup.errors import FormatError
from backup.format.catalog import decode_extra
from backup.format.rows import unpack_u32
from backup.inventory.content import copied, entries, snapshots
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.entries import ROOT
from backup.inventory.content.packed import chunk_frames, largest_chunk
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.questions.proofs import archives_of, load_proofs
from backup.inventory.records import readings, runs
from backup.inventory.records.readings import Grade
from backup.inventory.store.connections import Transaction
from backup.model import EntryKind, JobName
from backup.source.streams import TOP


def jobs_of(tx: Transaction, context: DrillContext) -> dict[int, JobName]:
    """Return the drill's jobs that were ever backed up into its vault, or copied into it, by number."""
    names, vault = runs.job_names_by_number(tx), context.vault.name
    own = [job.number for job in runs.list_jobs(tx, vault)]
    some = sorted({*own, *copied.jobs_copied_to(tx, copied.vault_number(tx, vault))})
    return {job: names[job] for job in some if context.jobs is None or names[job] in context.jobs}


def archives_of_jobs(tx: Transaction, context: DrillContext) -> Collection[int] | None:
    """Return the archives of the drill's jobs; None: all of the vault."""
    return None if context.jobs is None else archives_of(tx, context.vault.name, context.jobs)


def newest_snapshots(tx: Transaction, context: DrillContext) -> dict[JobName, Snapshot]:
    """Return the newest snapshot of each job that its vault keeps, as its own or as a copy."""
    vault = context.vault.name
    own = {job.number for job in runs.list_jobs(tx, vault)}
    number = copied.vault_number(tx, vault)
    found: dict[JobName, list[Snapshot]] = {}
    for job, name in jobs_of(tx, context).items():
        if job in own:
            found[name] = snapshots.list_snapshots(tx, job=name)
        else:
            there = copied.kept_there(tx, number, job)
            every = snapshots.list_snapshots(tx, job=name, also_forgotten=True, also_alone=True)
            found[name] = [snapshot for snapshot in every if there.get(snapshot.number) is KeptThere.COPIED]
    return {name: several[-1] for name, several in found.items() if several}


def files(tx: Transaction, context: DrillContext, grade: Grade) -> Iterator[FileCandidate]:
    """Yield every file with content in the newest snapshots, with the age of its oldest proof in a grade."""
    if grade is Grade.LOADED:
        yield from _dumps(tx, context)
        return
    proven, chance = _proven_chunks(tx, context, grade), context.chance
    for job, snapshot in newest_snapshots(tx, context).items():
        for directory, row in entries.entries_below(tx, snapshot.job_number, ROOT, snapshot.number):
            path = directory.rstrip(b"/") + b"/" + row.name
            if row.kind != EntryKind.FILE or not row.chunks or path.count(b"/") > DEEPEST:
                continue
            when = _oldest(proven, unpack_u32(row.chunks))
            yield FileCandidate(when, chance.random(), row.number, row.size, job, path)


def _dumps(tx: Transaction, context: DrillContext) -> Iterator[FileCandidate]:
    """Yield the dumps of databases in the newest snapshots, with when one of each was last loaded."""
    loaded = {proof.entry: proof.loaded_at for proof in load_proofs(tx)}
    for job, snapshot in newest_snapshots(tx, context).items():
        for directory, row in entries.entries_below(tx, snapshot.job_number, TOP, snapshot.number):
            if row.number in loaded:
                at, path = loaded[row.number], directory.rstrip(b"/") + b"/" + row.name
                when = 0 if at is None else int(at.timestamp())
                yield FileCandidate(when, context.chance.random(), row.number, row.size, job, path)


def with_links(tx: Transaction, snapshot: Snapshot, chosen: Collection[bytes]) -> list[bytes]:
    """Return the chosen paths with all hard links of the same files: only together can they be verified."""
    groups: dict[int, list[bytes]] = {}
    for directory, row in entries.entries_below(tx, snapshot.job_number, ROOT, snapshot.number):
        if row.extra is None or row.kind != EntryKind.FILE:
            continue
        with suppress(FormatError):
            extra = decode_extra(row.extra)
            if extra is not None and extra.link:
                groups.setdefault(extra.link, []).append(directory.rstrip(b"/") + b"/" + row.name)
    found = set(chosen)
    for names in groups.values():
        if not found.isdisjoint(names):
            found.update(names)
    return sorted(found)


def _oldest(proven: Sequence[int], chunks: Sequence[int]) -> int:
    """When the chunk was proven that was longest ago; 0: one never was."""
    try:
        return min(map(proven.__getitem__, chunks))
    except IndexError:  # an impossible number: the entry cannot be restored
        return 0


def _proven_chunks(tx: Transaction, context: DrillContext, grade: Grade) -> Sequence[int]:
    """When each chunk was last proven in a grade, by its number, in seconds since 1970; 0: never."""
    times = array("Q", bytes(8 * (largest_chunk(tx) + 1)))
    before = readings.proven_before(tx, context.vault.name, grade, context.clock.now())
    for archive, pieces in before.items():
        of_frame: dict[int, int] = {}
        for number, frame, offset in chunk_frames(tx, archive):
            if frame not in of_frame:
                of_frame[frame] = _newest(pieces, offset)
            times[number] = of_frame[frame]
    return times


def _newest(pieces: Sequence[tuple[int, int, int]], offset: int) -> int:
    """Return the time at which the frame at an offset was last proven; `pieces` are in order of offset."""
    begun = bisect_right(pieces, offset, key=lambda piece: piece[0])
    return max((at for start, end, at in pieces[:begun] if offset < end), default=0)
