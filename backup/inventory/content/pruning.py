"""Queries and records of a prune: archives that nothing needs, their condemnation and their deletion."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter

from msgspec import Struct

from backup.format.rows import unpack_u32
from backup.inventory.content.archives import THERE, ArchiveState
from backup.inventory.content.packed import delete_chunks, largest_chunk
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, numerals, raw_rows, run_many
from backup.inventory.store.states import OVER, RestoreStage
from backup.inventory.store.times import micros, moment
from backup.model import ArchiveId, Generation, PackKind, VaultName

_BATCH = 500
_FULL_GENERATIONS_KEPT = 2
_STATES = ", ".join(f"'{state}'" for state in THERE)


class Condemnation(Struct, frozen=True):
    """The condemnation of an archive by one job's catalogs, and when that catalog was stored."""

    at: datetime
    told_at: datetime


class StoredArchive(Struct, frozen=True):
    """An archive in the vault. `jobs`: those whose catalogs named it; `condemned_by`: those that condemn it.

    `listed_at`: when the vault received it, by its own list; None if the list does not show it.
    `run_is_open`: it was stored by a run that was not committed, after the newest snapshot of its job.
    `is_copy`: it is one of an archive of another vault, whose number it has.
    """

    number: int
    pack_id: bytes
    archive_id: ArchiveId
    kind: PackKind
    state: ArchiveState
    size: int
    stored_at: datetime
    jobs: frozenset[int]
    condemned_by: Mapping[int, Condemnation]
    retry_at: datetime | None
    refusal: str
    run_is_open: bool
    listed_at: datetime | None = None
    is_copy: bool = False

    @property
    def is_condemned(self) -> bool:
        """Whether it is not built upon, and to be deleted."""
        return self.state in {ArchiveState.CONDEMNED, ArchiveState.DELETING}

    @property
    def condemned_at(self) -> datetime | None:
        """When the last of its jobs condemned it; None until all have."""
        if not self.condemned_by or not self.jobs <= self.condemned_by.keys():
            return None
        return max(condemnation.at for condemnation in self.condemned_by.values())

    @property
    def told_at(self) -> datetime | None:
        """When the last of the catalogs that condemn it was stored; None until each job has stored one."""
        if self.condemned_at is None:
            return None
        return max(condemnation.told_at for condemnation in self.condemned_by.values())


def stored_archives(
    tx: Transaction, vault: VaultName, listing: int = 0, *, has_clock: bool = False
) -> list[StoredArchive]:
    """All archives that a vault holds, by number, as a prune needs them; with times from a kept `listing`.

    `has_clock`: these times are the vault's own. A catalog that condemns was then stored when both clocks say
    so: ours may have been wrong while a prune ran.
    """
    jobs = _sets(tx, _NAMED_BY)
    condemned: dict[int, dict[int, Condemnation]] = {}
    told = told_times(tx, vault, listing if has_clock else 0)
    for archive, job, at in raw_rows(tx, _CONDEMNED, ()):
        told_at = told.get((job, at)) or at
        condemned.setdefault(archive, {})[job] = Condemnation(moment(at), moment(max(at, told_at)))
    newest = dict(raw_rows(tx, "SELECT job, max(run) FROM snapshots WHERE run IS NOT NULL GROUP BY job", ()))
    found: list[StoredArchive] = []
    nobody = frozenset[int]()
    for row in raw_rows(tx, _STORED, (listing, vault)):
        number, pack_id, archive_id, kind, state, size, stored_at, run, job, retry_at, refusal, listed = row
        found.append(
            StoredArchive(
                number,
                pack_id,
                ArchiveId(archive_id),
                PackKind(kind),
                ArchiveState(state),
                size,
                moment(stored_at),
                jobs.get(number) or (frozenset((job,)) if job else nobody),
                condemned.get(number, _BY_NOBODY),
                None if retry_at is None else moment(retry_at),
                refusal or "",
                run is not None and job is not None and number not in jobs and run > newest.get(job, 0),
                None if listed is None else moment(listed),
            )
        )
    return found


def told_times(tx: Transaction, vault: VaultName, listing: int) -> dict[tuple[int, int], int]:
    """The times at which a vault got catalogs that condemn something, by job and the time that they say."""
    rows = raw_rows(tx, _TOLD, (listing, vault))
    return {(job, at): told_at for job, at, told_at in rows}  # the first of each


_CONDEMNED = "SELECT archive, job, at FROM condemnations"
_TOLD = """
SELECT t.job, t.at, max(max(a.stored_at, coalesce(l.created_at, 0)))
FROM (SELECT job, at FROM condemnations UNION SELECT job, at FROM condemned_copies) t
JOIN catalogs c ON c.job = t.job JOIN archives a ON a.number = c.archive
JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault
LEFT JOIN listed_archives l ON l.listing = ? AND l.archive_id = a.archive_id
WHERE v.name = ? AND a.submitted_at >= t.at
GROUP BY t.job, t.at, a.submitted_at ORDER BY a.submitted_at DESC"""
_NAMED_BY = """SELECT n.archive, c.job FROM catalog_archives n JOIN catalogs c ON c.archive = n.catalog
               UNION SELECT archive, job FROM catalogs"""
_STORED = f"""
SELECT a.number, a.pack_id, a.archive_id, a.kind, a.state, a.size, coalesce(a.stored_at, a.submitted_at),
       a.run, r.job, x.retry_at, x.refusal, l.created_at
FROM archives a JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault
LEFT JOIN runs r ON r.number = a.run LEFT JOIN deletions x ON x.archive = a.number
LEFT JOIN listed_archives l ON l.listing = ? AND l.archive_id = a.archive_id
WHERE v.name = ? AND a.archive_id IS NOT NULL AND a.state IN ({_STATES}) ORDER BY a.number"""


_BY_NOBODY: Mapping[int, Condemnation] = {}


def _sets(tx: Transaction, sql: str) -> dict[int, frozenset[int]]:
    """Sets of the second column by the first; equal ones are one object, since nearly all are equal."""
    found: dict[int, frozenset[int]] = {}
    known: dict[frozenset[int], frozenset[int]] = {}
    for key, value in raw_rows(tx, sql, ()):
        grown = found.get(key, frozenset()) | {value}
        found[key] = known.setdefault(grown, grown)
    return found


# What is needed besides what kept entries name.


def needed_catalogs(tx: Transaction, *, since: datetime | None = None) -> set[int]:
    """Archives of catalogs that a rebuild may need: two full generations, and all since the older one.

    Of a job's catalogs in a vault all are needed where no two full ones are stored. With `since` what a
    rebuild of any state since then may need: two generations that were stored before.
    """
    before = 2**63 - 1 if since is None else micros(since)
    sql = f"""SELECT c.job, d.vault, c.number, c.generation, c.archive,
                     CASE WHEN coalesce(a.stored_at, a.submitted_at) <= ? THEN a.state ELSE '' END
              FROM catalogs c JOIN archives a ON a.number = c.archive JOIN domains d ON d.number = a.domain
              WHERE a.state IN ({_STATES}) ORDER BY c.job, d.vault, c.number"""
    needed: set[int] = set()
    for _, rows in groupby(raw_rows(tx, sql, (before,)), key=itemgetter(0, 1)):
        every = list(rows)
        fulls = [
            number
            for _, _, number, generation, _, state in every
            if generation == Generation.FULL and state == ArchiveState.STORED
        ]
        kept = len(fulls) >= _FULL_GENERATIONS_KEPT
        first = fulls[-_FULL_GENERATIONS_KEPT] if kept else 0
        needed.update(archive for _, _, number, _, archive, _ in every if number >= first)
    return needed


def archives_of_open_restores(tx: Transaction) -> set[int]:
    """Archives from which an open restore still reads."""
    over = ", ".join(f"'{stage}'" for stage in sorted(OVER))
    sql = f"""SELECT DISTINCT t.archive FROM retrievals t JOIN restores r ON r.number = t.restore
              WHERE r.state = ? AND t.state NOT IN ({over})"""
    return {row[0] for row in raw_rows(tx, sql, (RestoreStage.OPEN,))}


def newest_condemnation(tx: Transaction, vault: VaultName, *, before: datetime) -> datetime | None:
    """The newest condemnation before a time, whose grace period may be over; None if there is none."""
    sql = """SELECT max(c.at) FROM condemnations c JOIN archives a ON a.number = c.archive
             JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault
             WHERE v.name = ? AND a.state = ? AND c.at <= ?"""
    values = (vault, ArchiveState.CONDEMNED.value, micros(before))
    newest = next(iter(raw_rows(tx, sql, values)))[0]
    return None if newest is None else moment(newest)


def job_ids(tx: Transaction) -> set[bytes]:
    """The ids of all jobs, as clear headers and descriptions have them."""
    return {row[0] for row in raw_rows(tx, "SELECT id FROM jobs", ())}


def pack_ids(tx: Transaction) -> set[bytes]:
    """The pack ids of all catalogs that this inventory knows, in whatever state."""
    sql = "SELECT pack_id FROM archives WHERE kind = ?"
    return {row[0] for row in raw_rows(tx, sql, (int(PackKind.CATALOG),))}


def oldest_listed_catalogs(tx: Transaction, listing: int) -> dict[bytes, tuple[int, datetime]]:
    """The oldest known catalog of each job that a kept list shows: its number, and when the vault took it."""
    sql = """SELECT j.id, c.number, l.created_at FROM catalogs c JOIN jobs j ON j.number = c.job
             JOIN archives a ON a.number = c.archive
             JOIN listed_archives l ON l.listing = ? AND l.archive_id = a.archive_id
             ORDER BY c.number DESC"""
    return {job: (number, moment(at)) for job, number, at in raw_rows(tx, sql, (listing,))}


def snapshot_ids(tx: Transaction) -> dict[tuple[int, int], str]:
    """The ids of all snapshots, by job and number."""
    rows = raw_rows(tx, "SELECT job, number, id FROM snapshots", ())
    return {(job, number): snapshot for job, number, snapshot in rows}


def decision_marks(tx: Transaction) -> list[tuple[object, ...]]:
    """All that a prune decides by (snapshots, open restores, runs, entries, archives): equal if unchanged."""
    sql = """SELECT job, number, coalesce(forgotten_at, 0) FROM snapshots ORDER BY job, number"""
    marks: list[tuple[object, ...]] = [tuple(row) for row in raw_rows(tx, sql, ())]
    sql = "SELECT number FROM restores WHERE state = ? ORDER BY number"
    marks += [tuple(row) for row in raw_rows(tx, sql, (RestoreStage.OPEN,))]
    marks += [tuple(row) for row in raw_rows(tx, "SELECT coalesce(max(number), 0) FROM runs", ())]
    marks += [tuple(row) for row in raw_rows(tx, "SELECT count(*), max(number) FROM entries", ())]
    sql = "SELECT state, count(*), sum(number) FROM archives GROUP BY state ORDER BY state"
    return [*marks, *(tuple(row) for row in raw_rows(tx, sql, ()))]


# Deletion.


def decide_deletion(tx: Transaction, numbers: Sequence[int], now: datetime) -> None:
    """Record, before the vault is asked, that these archives will be deleted: this cannot be undone."""
    sql = """INSERT INTO deletions (archive, decided_at) VALUES (?, ?)
             ON CONFLICT (archive) DO UPDATE SET retry_at = NULL"""
    _many(tx, sql, [(number, micros(now)) for number in numbers])
    sql = "UPDATE archives SET state = ? WHERE number = ?"
    _many(tx, sql, [(ArchiveState.DELETING.value, number) for number in numbers])


def record_deleted(tx: Transaction, numbers: Sequence[int], now: datetime) -> None:
    """Record that the vault has deleted these archives."""
    sql = """INSERT INTO deletions (archive, decided_at, deleted_at) VALUES (?, ?, ?)
             ON CONFLICT (archive) DO UPDATE SET deleted_at = excluded.deleted_at, retry_at = NULL,
                                                 refusal = NULL"""
    _many(tx, sql, [(number, micros(now), micros(now)) for number in numbers])
    sql = "UPDATE archives SET state = ? WHERE number = ?"
    _many(tx, sql, [(ArchiveState.DELETED.value, number) for number in numbers])


def record_refused(
    tx: Transaction, refused: Sequence[tuple[int, datetime, str]], *, for_certain: Collection[int]
) -> None:
    """Record that the vault keeps these archives (number, when to ask again, why).

    Those that are kept `for_certain` are condemned as before. For the others an earlier request may still be
    carried out: nothing may rely on them.
    """
    sql = "UPDATE deletions SET retry_at = ?, refusal = ? WHERE archive = ?"
    _many(tx, sql, [(micros(at), why, number) for number, at, why in refused])
    sql = "UPDATE archives SET state = ? WHERE number = ? AND state = ?"
    states = ArchiveState.CONDEMNED.value, ArchiveState.DELETING.value
    _many(tx, sql, [(states[0], number, states[1]) for number, *_ in refused if number in for_certain])


def drop_contents(tx: Transaction, vault: VaultName) -> int:
    """Delete the chunk rows of archives that are deleted, and so are their copies, and that no entry needs.

    Returns how many.

    Chunks that entries need stay, without a location: they are found by id in another archive.
    """
    sql = """SELECT a.number FROM archives a JOIN domains d ON d.number = a.domain
             JOIN vaults v ON v.number = d.vault
             WHERE (v.name = ? OR EXISTS (SELECT 1 FROM copies k JOIN vaults w ON w.number = k.vault
                                          WHERE k.archive = a.number AND w.name = ?))
               AND a.state = ? AND length(a.header) > 0
               AND NOT EXISTS (SELECT 1 FROM copies k WHERE k.archive = a.number AND k.state NOT IN (?, ?))"""
    deleted = ArchiveState.DELETED
    gone = [row[0] for row in raw_rows(tx, sql, (vault, vault, deleted, deleted, ArchiveState.LOST))]
    if not gone:
        return 0
    named = _named_chunks(tx)
    emptied: list[int] = []
    for start in range(0, len(gone), _BATCH):
        some = gone[start : start + _BATCH]
        among = numerals(some)
        sql = f"SELECT prefix, number, archive FROM chunks WHERE archive IN ({among})"
        rows = list(raw_rows(tx, sql, ()))
        delete_chunks(tx, [(prefix, number) for prefix, number, _ in rows if not named[number]])
        still = {archive for _, number, archive in rows if named[number]}
        emptied += [number for number in some if number not in still]
        for table in ("frames", "readings"):
            changed(tx, f"DELETE FROM {table} WHERE archive IN ({among})", ())
    for sql in _OF_EMPTIED:
        _many(tx, sql, [(number,) for number in emptied])
    sql = "UPDATE archives SET header = ? WHERE number = ?"
    _many(tx, sql, [(b"", number) for number in emptied])
    return len(emptied)


_OF_EMPTIED = (
    "DELETE FROM catalog_archives WHERE archive = ?",
    "DELETE FROM catalog_archives WHERE catalog = ?",
    "DELETE FROM condemnations WHERE archive = ?",
)
_FORGETTABLE = """SELECT a.number FROM archives a JOIN deletions x ON x.archive = a.number
    WHERE a.state = ? AND x.deleted_at < ? AND length(a.header) = 0
      AND NOT EXISTS (SELECT 1 FROM retrievals t WHERE t.archive = a.number)
      AND NOT EXISTS (SELECT 1 FROM copies k WHERE k.archive = a.number)"""


def forget_deleted(tx: Transaction, before: datetime) -> int:
    """Delete the rows of archives that were deleted before then and nothing refers to; returns how many.

    Before that time, a late list of the vault may still show them.
    """
    gone = [(row[0],) for row in raw_rows(tx, _FORGETTABLE, (ArchiveState.DELETED, micros(before)))]
    for table, column in (("catalogs", "archive"), ("deletions", "archive"), ("archives", "number")):
        _many(tx, f"DELETE FROM {table} WHERE {column} = ?", gone)
    return len(gone)


def _named_chunks(tx: Transaction) -> bytearray:
    """A byte for each chunk number: 1 if any entry names it, whichever snapshots have that."""
    named = bytearray(largest_chunk(tx) + 1)
    for table in ("entries", "staged_entries"):
        for (chunks,) in raw_rows(tx, f"SELECT chunks FROM {table} WHERE chunks IS NOT NULL", ()):
            for number in unpack_u32(chunks):
                if number < len(named):
                    named[number] = 1
    return named


# Snapshots that cannot come back.


def forgotten_beyond_recall(tx: Transaction, *, going: Collection[int] = ()) -> dict[int, list[int]]:
    """Forgotten snapshots, by job, that cannot be restored any more: a chunk of theirs is in no archive.

    `going` are archives that count as deleted, too. A snapshot that an open restore reads is left until then.
    """
    gone_too = numerals(sorted(going)) or "-1"
    gone = bytearray(largest_chunk(tx) + 1)
    found_one = False
    there = f"'{ArchiveState.STORED}', '{ArchiveState.UNCONFIRMED}', '{ArchiveState.RETIRED}', "
    there += f"'{ArchiveState.CONDEMNED}', '{ArchiveState.DAMAGED}', '{ArchiveState.SUBMITTED}'"
    sql = f"""SELECT c.number FROM chunks c JOIN archives a ON a.number = c.archive
              WHERE (a.state IN ('{ArchiveState.DELETING}', '{ArchiveState.DELETED}')
                     OR a.number IN ({gone_too})) AND NOT EXISTS (
                SELECT 1 FROM chunk_prefixes p JOIN chunks o ON o.number = p.chunk
                JOIN archives b ON b.number = o.archive
                WHERE p.prefix = c.prefix AND o.id = c.id AND b.domain = a.domain
                  AND b.state IN ({there}) AND b.number NOT IN ({gone_too}))"""
    for (number,) in raw_rows(tx, sql, ()):
        gone[number] = 1
        found_one = True
    forgotten = _forgotten(tx)
    return spoiled_by(tx, forgotten, gone) if found_one and forgotten else {}


def spoiled_by(
    tx: Transaction, some: Mapping[int, Sequence[int]], gone: bytearray, *, also_live: bool = False
) -> dict[int, list[int]]:
    """Those of these snapshots, by job, that name a chunk which is marked; by live entries only if asked."""
    spoiled: dict[int, set[int]] = {}
    sql = f"""SELECT d.job, e.added_in, coalesce(e.removed_in, ?), e.chunks
              FROM entries e JOIN directories d ON d.number = e.directory
              WHERE e.chunks IS NOT NULL {"" if also_live else "AND e.removed_in IS NOT NULL"}"""
    after_all = 1 + max((number for numbers in some.values() for number in numbers), default=0)
    for job, added, removed, chunks in raw_rows(tx, sql, (after_all,)):
        numbers = [number for number in some.get(job, ()) if added <= number < removed]
        if numbers and any(gone[number] for number in unpack_u32(chunks) if number < len(gone)):
            spoiled.setdefault(job, set()).update(numbers)
    return {job: sorted(numbers) for job, numbers in spoiled.items()}


def _forgotten(tx: Transaction) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    sql = """SELECT job, number FROM snapshots WHERE forgotten_at IS NOT NULL
             AND id NOT IN (SELECT snapshot FROM restores WHERE state = ?)
             AND NOT EXISTS (SELECT 1 FROM copied_snapshots k WHERE k.job = snapshots.job
                             AND k.number = snapshots.number AND k.is_alone) ORDER BY job, number"""
    for job, number in raw_rows(tx, sql, (RestoreStage.OPEN.value,)):
        found.setdefault(job, []).append(number)
    return found


def _many(tx: Transaction, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
    for start in range(0, len(rows), 20_000):
        run_many(tx, sql, rows[start : start + 20_000])
