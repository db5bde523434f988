"""Decides what may be deleted for a server, from two rebuilt states and the vault's list; pure.

An archive is deleted if both states allow it: the newest one, and the one that retains everything since the
floor. In each it must be condemned by every job that named it, and no snapshot may need it, forgotten or not.
The grace runs by the vault's date of the catalog that condemned it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.pruning import StoredArchive
from backup.inventory.store.times import moment
from backup.model import ArchiveId, Generation, ListedArchive, PackKind
from backup.pruner.keeper.lineages import Lineage
from backup.pruner.keeper.state import State
from backup.retention.prune import PrunedArchive, PruneRules, Waiting, plan_prune

_FULLS_KEPT = 2


class KeeperRules(Struct, frozen=True):
    """The time of the list, the floor, and the minimum duration by kind of pack."""

    at: datetime
    floor: datetime
    minimum: Mapping[PackKind, timedelta]


class Decision(Struct, frozen=True):
    """The archives to delete, those that wait, those that a snapshot needs, and those of strangers."""

    delete: Sequence[StoredArchive]
    waiting: Sequence[Waiting]
    needed: Sequence[StoredArchive]
    held: Sequence[StoredArchive]
    strange: Sequence[ArchiveId]


def decide(lineage: Lineage, newest: State, floor: State, rules: KeeperRules) -> Decision:
    """Decide about each condemned archive of a server."""
    asked: dict[int, tuple[StoredArchive, PrunedArchive]] = {}
    needed: set[int] = set()
    held: set[int] = set()
    strange: list[ArchiveId] = []
    for archive, condemned_at, before in _condemned(newest, floor):
        line = lineage.lines.get(archive.archive_id)
        if line is None:
            continue  # gone already
        if not _is_ours(line, archive, newest, lineage):
            strange.append(archive.archive_id)
            continue
        asked[archive.number] = _asked(
            archive, line, condemned_at, rules, is_held=_waits(newest, archive) or _waits(floor, before)
        )
        if archive.number in newest.needed:
            needed.add(archive.number)
        elif before is not None and before.number in floor.needed:
            held.add(archive.number)
    waiting = {wait.job_id for state in (newest, floor) for wait in state.waits}
    for number, (archive, line, job, at) in enumerate(_unknown(lineage, newest, floor), 1):
        unknown = replace(archive, number=-number)
        asked[-number] = _asked(unknown, line, at, rules, is_held=job in waiting)
        if archive.kind is PackKind.CATALOG and not _is_old(line, lineage, newest, floor, rules):
            needed.add(-number)
    plan = plan_prune(
        [archive for _, archive in asked.values()],
        needed | held,
        PruneRules(grace=rules.at - rules.floor, listed_before=rules.at),
        now=rules.at,
        fee=lambda *_: None,
    )
    return Decision(
        delete=[asked[archive.number][0] for archive in plan.delete],
        waiting=plan.waiting,
        needed=[asked[number][0] for number in sorted(needed)],
        held=[asked[number][0] for number in sorted(held)],
        strange=strange,
    )


def _condemned(
    newest: State, floor: State
) -> Iterator[tuple[StoredArchive, datetime | None, StoredArchive | None]]:
    """The archives that the newest state condemns; since when, by the floor's, and their record in that."""
    for archive_id, archive in newest.archives.items():
        if archive.state is ArchiveState.CONDEMNED:
            before = floor.archives.get(archive_id)
            is_told = archive.condemned_at is not None and before is not None and before.is_condemned
            yield archive, before.condemned_at if before is not None and is_told else None, before


def _unknown(
    lineage: Lineage, newest: State, floor: State
) -> Iterator[tuple[StoredArchive, ListedArchive, bytes, datetime]]:
    """Condemned packs that no state describes, with the id of the job that says so.

    They are older catalogs, and what runs stored that came to nothing.
    """
    by_pack = {
        archive.label.pack_id: archive for archive in lineage.lines.values() if archive.label is not None
    }
    for pack, (job, at) in sorted(floor.report.condemned_catalogs.items()):
        line = by_pack.get(pack)  # type: ignore[call-overload]
        if line is None or line.label is None or pack in newest.packs | floor.packs:
            continue
        label = line.label
        if label.inventory_id in lineage.inventories and label.job_id in {None, job}:
            state, no_jobs = ArchiveState.CONDEMNED, frozenset[int]()
            place = (0, pack, line.archive_id, label.kind, state, line.size, line.created_at)
            yield StoredArchive(*place, no_jobs, {}, None, "", run_is_open=False), line, job, moment(at)


def _is_ours(line: ListedArchive, archive: StoredArchive, newest: State, lineage: Lineage) -> bool:
    """Whether the list names it as what the catalogs say it is, and as this server's.

    The recorded header must name the same inventory, and a signer of this server, as the writer of the
    catalog chose it. An inventory without any catalog must be a proven ancestor, and no other server may name
    it: it may be a server whose first backup is not finished.
    """
    label, writer = line.label, newest.writers.get(archive.archive_id)
    if label is None or label.kind is not archive.kind or label.pack_id != archive.pack_id:
        return False
    if writer is None or writer[0] != label.inventory_id or writer[1] not in lineage.signers:
        return False
    if label.inventory_id in lineage.inventories:
        return True
    return label.inventory_id in lineage.ancestors and not lineage.is_named_by_others(label.inventory_id)


def _is_old(line: ListedArchive, lineage: Lineage, newest: State, floor: State, rules: KeeperRules) -> bool:
    """Whether a catalog is older than two full ones of its job that were there at the floor's time."""
    if line.label is None or line.archive_id in newest.applied or line.archive_id in floor.applied:
        return False
    fulls = sorted(
        lineage.accepted[archive.archive_id]
        for archive in lineage.catalogs
        if archive.label is not None
        and archive.label.generation is Generation.FULL
        and archive.label.job_id == line.label.job_id
        and lineage.accepted[archive.archive_id] <= rules.floor
    )
    return len(fulls) >= _FULLS_KEPT and lineage.accepted[line.archive_id] < fulls[-_FULLS_KEPT]


def _waits(state: State, archive: StoredArchive | None) -> bool:
    """Whether a job that named the archive waits for an answer, as a state has it."""
    return archive is not None and any(wait.job_number in archive.jobs for wait in state.waits)


def _asked(
    archive: StoredArchive,
    line: ListedArchive,
    condemned_at: datetime | None,
    rules: KeeperRules,
    *,
    is_held: bool,
) -> tuple[StoredArchive, PrunedArchive]:
    """An archive with the vault's dates."""
    stored = replace(archive, stored_at=line.created_at, size=line.size)
    return stored, PrunedArchive(
        number=stored.number,
        pack_id=stored.pack_id,
        size=stored.size,
        stored_at=stored.stored_at,
        free_at=stored.stored_at + rules.minimum[stored.kind],
        is_condemned=True,
        condemned_at=condemned_at,
        told_at=condemned_at,
        is_held=is_held,
        kind=stored.kind,
    )
