"""Queries for locks: what has to stay locked in a vault, and the ends of locks as it has answered them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter

from msgspec import Struct

from backup.inventory.content.archives import SOUND, THERE, ArchiveState, get_or_create_vault
from backup.inventory.content.lost import lost_chunks
from backup.inventory.content.need import Kept, archive_uses, chunks_held, kept_snapshots, mark_copies
from backup.inventory.content.pruning import needed_catalogs
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, insert_tuples, marks, raw_rows
from backup.inventory.store.times import micros, moment
from backup.model import ArchiveId, Generation, JobName, SnapshotId, VaultName

_BATCH = 500


class JobParts(Struct, frozen=True):
    """The archives in a vault by which a rebuild restores a job's kept snapshots.

    `archives` are all needed; of `chains`, each a full catalog with the deltas after it, any one will do.
    `is_lost`: something that they need is nowhere any more.
    """

    number: int
    job: JobName
    nights: int
    newest: datetime
    archives: frozenset[ArchiveId]
    chains: tuple[frozenset[ArchiveId], ...]
    is_lost: bool


Needed = Callable[[Transaction, VaultName, Kept], set[int]]
"""Returns the numbers of the archives of a vault that snapshots need (`pruner/needed.py`)."""


def needed_keys(tx: Transaction, vault: VaultName, since: datetime, needed: Needed) -> set[ArchiveId]:
    """The ids of a vault's archives that any state since a time needed, whatever was forgotten meanwhile.

    Each such state was one of the snapshots that are kept, and of those forgotten since then; the catalogs
    that told it are those since the second last full one of that time. Of copies those are needed that were
    not condemned before.
    """
    kept = kept_snapshots(tx, forgotten_since=since)
    numbers = needed(tx, vault, kept) | needed_catalogs(tx, since=since)
    found = {key for number, key in _keys(tx, vault).items() if number in numbers}
    copied = f"""SELECT k.archive_id FROM copies k JOIN vaults v ON v.number = k.vault
                 WHERE v.name = ? AND k.archive_id IS NOT NULL
                 AND (k.state IN ({marks(SOUND)}) OR k.state = ? AND k.since > ?)"""
    values = (vault, *SOUND, ArchiveState.CONDEMNED, micros(since))
    return found | {ArchiveId(key) for (key,) in raw_rows(tx, copied, values)}


def lock_ends(tx: Transaction, vault: VaultName) -> dict[ArchiveId, datetime]:
    """The ends of locks that a vault has answered, by the objects' ids."""
    sql = "SELECT l.key, l.until FROM locks l JOIN vaults v ON v.number = l.vault WHERE v.name = ?"
    return {ArchiveId(key): moment(until) for key, until in raw_rows(tx, sql, (vault,))}


def lasting_locks(
    tx: Transaction, vault: VaultName, keys: Sequence[ArchiveId], now: datetime
) -> dict[ArchiveId, datetime]:
    """The ends of locks of these objects that are not over yet, as far as a vault has answered them."""
    found: dict[ArchiveId, datetime] = {}
    for start in range(0, len(keys), _BATCH):
        some = keys[start : start + _BATCH]
        sql = f"""SELECT l.key, l.until FROM locks l JOIN vaults v ON v.number = l.vault
                  WHERE v.name = ? AND l.until > ? AND l.key IN ({marks(some)})"""
        for key, until in raw_rows(tx, sql, (vault, micros(now), *some)):
            found[ArchiveId(key)] = moment(until)
    return found


def record_locks(tx: Transaction, vault: VaultName, ends: Mapping[ArchiveId, datetime]) -> None:
    """Record ends of locks that a vault has answered."""
    number = get_or_create_vault(tx, vault)
    forget_locks(tx, vault, ends)
    rows = [(number, key, micros(until)) for key, until in ends.items()]
    insert_tuples(tx, "locks", ("vault", "key", "until"), rows)


def forget_locks(tx: Transaction, vault: VaultName, keys: Iterable[ArchiveId]) -> None:
    """Remove what was recorded of objects that are gone."""
    sql = "DELETE FROM locks WHERE vault = (SELECT number FROM vaults WHERE name = ?) AND key = ?"
    for key in keys:
        changed(tx, sql, (vault, key))


def record_holds(tx: Transaction, vault: VaultName, snapshot: SnapshotId, keys: Iterable[ArchiveId]) -> None:
    """Record that a vault holds these objects for a snapshot."""
    forget_holds(tx, vault, snapshot, keys := list(keys))
    number = get_or_create_vault(tx, vault)
    insert_tuples(tx, "legal_holds", ("vault", "key", "snapshot"), [(number, key, snapshot) for key in keys])


def forget_holds(tx: Transaction, vault: VaultName, snapshot: SnapshotId, keys: Iterable[ArchiveId]) -> None:
    """Remove the records that these objects are held for a snapshot."""
    sql = """DELETE FROM legal_holds WHERE vault = (SELECT number FROM vaults WHERE name = ?)
             AND key = ? AND snapshot = ?"""
    for key in keys:
        changed(tx, sql, (vault, key, snapshot))


def held_objects(tx: Transaction, vault: VaultName) -> dict[ArchiveId, set[SnapshotId]]:
    """The objects that a vault holds, each with the snapshots for which it does."""
    sql = """SELECT h.key, h.snapshot FROM legal_holds h JOIN vaults v ON v.number = h.vault
             WHERE v.name = ? ORDER BY h.key"""
    found: dict[ArchiveId, set[SnapshotId]] = {}
    for key, snapshot in raw_rows(tx, sql, (vault,)):
        found.setdefault(ArchiveId(key), set()).add(SnapshotId(snapshot))
    return found


def parts_of_jobs(tx: Transaction, vault: VaultName) -> list[JobParts]:
    """The archives that each job's kept snapshots need in a vault; one pass over the entries of each."""
    keys = _keys(tx, vault)
    lost = int.from_bytes(lost_chunks(tx, vault).marks, "little")
    sql = """SELECT j.number, j.name, s.number, s.started_at FROM snapshots s JOIN jobs j ON j.number = s.job
             JOIN vaults v ON v.number = j.vault WHERE v.name = ? AND s.forgotten_at IS NULL
             ORDER BY j.number, s.number"""
    return [
        _parts(tx, vault, keys, lost, (job, JobName(name)), {row[2]: row[3] for row in rows})
        for (job, name), rows in groupby(raw_rows(tx, sql, (vault,)), key=itemgetter(0, 1))
    ]


def parts_of_snapshot(tx: Transaction, vault: VaultName, snapshot: Snapshot) -> JobParts:
    """The archives that one snapshot needs in its job's vault, forgotten or not."""
    lost = int.from_bytes(lost_chunks(tx, vault).marks, "little")
    night = {snapshot.number: micros(snapshot.started_at)}
    return _parts(tx, vault, _keys(tx, vault), lost, (snapshot.job_number, snapshot.job), night)


def _parts(
    tx: Transaction,
    vault: VaultName,
    keys: Mapping[int, ArchiveId],
    lost: int,
    of_job: tuple[int, JobName],
    nights: Mapping[int, int],
) -> JobParts:
    """Return the needs of a job's snapshots; `nights` are their numbers, each with when it began."""
    job, name = of_job
    chunks = chunks_held(tx, {job: sorted(nights)})
    is_lost = bool(lost & int.from_bytes(chunks, "little"))
    mark_copies(tx, chunks)
    archives = {use.number for use in archive_uses(tx, chunks, vault) if use.needed}
    return JobParts(
        number=job,
        job=name,
        nights=len(nights),
        newest=moment(max(nights.values())),
        archives=frozenset(keys[archive] for archive in archives),
        chains=tuple(_chains(tx, vault, job)),
        is_lost=is_lost,
    )


def _keys(tx: Transaction, vault: VaultName) -> dict[int, ArchiveId]:
    """The ids of the archives that a vault holds, by number."""
    sql = f"""SELECT a.number, a.archive_id FROM archives a JOIN domains d ON d.number = a.domain
              JOIN vaults v ON v.number = d.vault
              WHERE v.name = ? AND a.archive_id IS NOT NULL AND a.state IN ({marks(THERE)})"""
    return {number: ArchiveId(key) for number, key in raw_rows(tx, sql, (vault, *THERE))}


def _chains(tx: Transaction, vault: VaultName, job: int) -> Iterator[frozenset[ArchiveId]]:
    """By each of a job's full catalogs: the catalogs by which a rebuild finds its newest state.

    Where one of them cannot be read, it finds none by that full one.
    """
    sql = """SELECT c.number, c.generation, a.archive_id, a.state
             FROM catalogs c JOIN archives a ON a.number = c.archive
             JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault
             WHERE c.job = ? AND v.name = ? AND a.archive_id IS NOT NULL"""
    every = list(raw_rows(tx, sql, (job, vault)))
    for first, generation, full, state_of_full in every:
        if generation == Generation.FULL:
            after = [row for row in every if row[0] > first and row[1] == Generation.DELTA]
            chain = [(full, state_of_full), *((key, state) for _, _, key, state in after)]
            if all(state in SOUND for _, state in chain):
                yield frozenset(ArchiveId(key) for key, _ in chain)
