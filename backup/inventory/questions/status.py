"""Queries for `status`: a handful of statements, however many snapshots there are.

No row is made for each snapshot, archive or run: the database groups them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from backup.cost import SMALLEST
from backup.inventory.content.archives import SOUND, THERE, ArchiveState
from backup.inventory.records.ended_runs import NEWEST_ENDED
from backup.inventory.records.retrievals import Retrieval
from backup.inventory.records.runs import Run
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import number_of, raw_rows
from backup.inventory.store.states import RetrievalStage
from backup.inventory.store.times import micros, moment
from backup.kinds import Outcome, RunKind
from backup.model import ByteRange, JobName, PackKind, Tier, VaultName


# Constants of this program stand in the statements below, never what somebody gave.
def _listed(states: Sequence[ArchiveState]) -> str:
    return "({})".format(", ".join(f"'{state}'" for state in states))


_SNAPSHOTS = """
SELECT j.name, v.name, max(CASE WHEN s.started_at <= ? THEN s.started_at END), max(s.started_at)
FROM snapshots s JOIN jobs j ON j.number = s.job JOIN vaults v ON v.number = j.vault
WHERE s.forgotten_at IS NULL GROUP BY j.name, v.name"""

_BACKUPS = """
SELECT j.name, min(r.started_at), max(CASE WHEN r.started_at <= ? THEN r.started_at END), max(r.started_at)
FROM runs r JOIN jobs j ON j.number = r.job
WHERE r.kind = 'backup' GROUP BY j.name"""

_NEWEST = f"""
SELECT r.number, r.kind, j.name, r.outcome, r.started_at, r.finished_at,
       coalesce(r.report, CASE WHEN d.name IS NOT NULL THEN json_object('drill', d.name) END)
FROM runs r LEFT JOIN jobs j ON j.number = r.job LEFT JOIN drills d ON d.run = r.number
WHERE r.outcome = 'running' OR r.number IN ({NEWEST_ENDED})
ORDER BY r.number DESC"""

_HELD = f"""
SELECT v.name, h.kind, count(*), sum(h.size), sum(max(0, {SMALLEST} - h.size)), min(h.at)
FROM (
    SELECT d.vault, a.kind, a.size, coalesce(a.stored_at, a.submitted_at) AS at
    FROM archives a JOIN domains d ON d.number = a.domain WHERE a.state IN {_listed(THERE)}
    UNION ALL
    SELECT k.vault, a.kind, a.size, coalesce(k.stored_at, k.since)
    FROM copies k JOIN archives a ON a.number = k.archive WHERE k.state IN {_listed(THERE)}
) AS h JOIN vaults v ON v.number = h.vault
GROUP BY v.name, h.kind ORDER BY v.name, h.kind"""

_SPOILED = f"""
SELECT EXISTS (SELECT 1 FROM archives WHERE archive_id IS NOT NULL
               AND state IN {_listed((ArchiveState.LOST, ArchiveState.DAMAGED))})"""

_UNVERIFIED = f"""
SELECT v.name, min(coalesce(a.stored_at, a.submitted_at))
FROM archives a JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault
WHERE a.state IN {_listed(SOUND)}
  AND NOT EXISTS (SELECT 1 FROM readings r
                              WHERE r.archive = a.number AND r.read_at IS NOT NULL AND r.copied_to IS NULL)
GROUP BY v.name"""

# An archive waits from when the last of its jobs condemned it, its floor and its minimum duration are over.
_UNDELETED = f"""
SELECT count(*), coalesce(sum(size), 0), min(since) FROM (
    SELECT a.size AS size, max(max(c.at) + ?, coalesce(a.stored_at, a.submitted_at)
           + CASE a.kind WHEN {int(PackKind.CATALOG)} THEN ? ELSE ? END) AS since
    FROM archives a JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault
    JOIN condemnations c ON c.archive = a.number
    WHERE v.name = ? AND a.state IN {_listed((ArchiveState.CONDEMNED, ArchiveState.DELETING))}
    GROUP BY a.number) w
WHERE since <= ?"""

# A forget by name, and one that was undone, is not what a schedule does.
_GOOD = """
SELECT r.kind, CASE r.kind WHEN 'copy' THEN j.name || '@' || json_extract(r.report, '$.vault')
                           ELSE coalesce(json_extract(r.report, '$.drill'), j.name,
                                         json_extract(r.report, '$.vault')) END AS of,
       r.kind = 'check' AND json_type(r.report, '$.read') = 'object' AS reads, r.outcome, max(r.started_at)
FROM runs r LEFT JOIN jobs j ON j.number = r.job
WHERE r.kind NOT IN ('backup', 'restore', 'mark')
  AND r.outcome IN ('done', 'partial') AND r.started_at <= ?
  AND NOT (r.kind = 'forget' AND (r.report LIKE '%"taken_%' OR r.report LIKE '%"policy": null%'))
GROUP BY r.kind, of, reads, r.outcome HAVING of IS NOT NULL"""

_RETRIEVALS = """
SELECT t.restore, t.state, t.tier, count(*), max(t.requested_at), max(t.written_to), min(t.until)
FROM retrievals t JOIN restores r ON r.number = t.restore
WHERE r.state = 'open'
GROUP BY t.restore, t.state, t.tier"""


class SnapshotDates(Struct, frozen=True):
    """A job's vault, and when its newest kept snapshots began: that not later than now, and the newest."""

    vault: VaultName
    newest: datetime | None
    latest: datetime


class BackupDates(Struct, frozen=True):
    """When a job's backups of any outcome began: the first, the newest not later than now, the newest."""

    first: datetime
    newest: datetime | None
    latest: datetime


class HeldArchives(Struct, frozen=True):
    """Archives of one kind that a vault holds; `oldest` is when the first of them was stored.

    `short` is what they lack of the minimum billable size of some classes.
    """

    vault: VaultName
    kind: PackKind
    archives: int
    bytes: int
    oldest: datetime | None = None
    short: int = 0


class Undeleted(Struct, frozen=True):
    """Condemned archives of a vault that a keeper should have deleted long ago, and since when the first."""

    vault: VaultName
    archives: int
    bytes: int
    since: datetime


class RetrievalGroup(Struct, frozen=True):
    """Retrievals of one restore in the same state, counted; `example` has the latest and earliest times."""

    count: int
    example: Retrieval


def created_at(tx: Transaction) -> datetime:
    """Return the time at which the inventory was made."""
    return moment(number_of(tx, "SELECT created_at FROM about", ()))


def has_spoiled(tx: Transaction) -> bool:
    """Whether any archive was stored and is lost or damaged, needed or not."""
    return bool(number_of(tx, _SPOILED, ()))


def snapshot_dates(tx: Transaction, now: datetime) -> Mapping[JobName, SnapshotDates]:
    """The dates of each job's kept snapshots."""
    rows = raw_rows(tx, _SNAPSHOTS, (micros(now),))
    return {
        JobName(job): SnapshotDates(VaultName(vault), _moment(newest), moment(latest))
        for job, vault, newest, latest in rows
    }


def backup_dates(tx: Transaction, now: datetime) -> Mapping[JobName, BackupDates]:
    """The dates of each job's backups."""
    rows = raw_rows(tx, _BACKUPS, (micros(now),))
    return {
        JobName(job): BackupDates(moment(first), _moment(newest), moment(latest))
        for job, first, newest, latest in rows
    }


def newest_runs(tx: Transaction) -> list[Run]:
    """Runs without a recorded end, and of each kind and job, or vault, the newest that ended; newest first.

    Restores and marks are left out of those that ended: a person ran them and saw the result.
    """
    return [
        Run(
            number,
            RunKind(kind),
            JobName(job) if job else None,
            Outcome(outcome),
            moment(began),
            _moment(ended),
            None,
            json.loads(report) if report else {},
        )
        for number, kind, job, outcome, began, ended, report in raw_rows(tx, _NEWEST, ())
    ]


def held(tx: Transaction) -> list[HeldArchives]:
    """The archives that each vault holds, and bills."""
    rows = raw_rows(tx, _HELD, ())
    return [
        HeldArchives(VaultName(vault), PackKind(kind), count, size, _moment(oldest), short)
        for vault, kind, count, size, short, oldest in rows
    ]


def undeleted(
    tx: Transaction,
    vault: VaultName,
    floor: timedelta,
    minimum: Mapping[PackKind, timedelta],
    before: datetime,
) -> Undeleted | None:
    """The archives that could be deleted since `before` or longer: `floor` after they were condemned.

    `minimum`: how long packs of each kind are billed at least.
    """
    lengths = (floor, minimum[PackKind.CATALOG], minimum[PackKind.DATA])
    values = (*(length // timedelta(microseconds=1) for length in lengths), vault, micros(before))
    ((count, size, since),) = raw_rows(tx, _UNDELETED, values)
    return Undeleted(vault, count, size, moment(since)) if count else None


def oldest_unverified(tx: Transaction) -> Mapping[VaultName, datetime]:
    """For each vault, when the oldest archive was stored of which no check has ever read anything."""
    return {VaultName(vault): moment(stored) for vault, stored in raw_rows(tx, _UNVERIFIED, ())}


class LastGood(Struct, frozen=True):
    """When the newest runs began that ended well: by kind, by job, vault or drill, and by what they read."""

    dates: Mapping[tuple[RunKind, str, bool, Outcome], datetime]

    def of(
        self, kind: RunKind, name: str, good: Collection[Outcome], *, reads_back: bool | None = None
    ) -> datetime | None:
        """The newest of these that ended well; of checks, those that read back, compared lists, or both."""
        which = (False, True) if reads_back is None else (reads_back,)
        found = [self.dates.get((kind, name, reads, outcome)) for reads in which for outcome in good]
        return max((found_at for found_at in found if found_at is not None), default=None)


def last_good(tx: Transaction, now: datetime) -> LastGood:
    """When each scheduled task except backups last ended well, not later than now."""
    return LastGood(
        {
            (RunKind(kind), name, bool(reads), Outcome(outcome)): moment(began)
            for kind, name, reads, outcome, began in raw_rows(tx, _GOOD, (micros(now),))
        }
    )


def retrieval_groups(tx: Transaction) -> Mapping[int, Sequence[RetrievalGroup]]:
    """The retrievals of each open restore, by its number."""
    found: dict[int, list[RetrievalGroup]] = {}
    for restore, state, tier, count, asked, written, until in raw_rows(tx, _RETRIEVALS, ()):
        example = Retrieval(
            number=0,
            archive=0,
            extent=ByteRange(0, 0),
            tier=Tier(tier),
            token="",
            retrieval_id=None,
            state=RetrievalStage(state),
            requested_at=_moment(asked),
            written_to=written or 0,
            until=_moment(until),
        )
        found.setdefault(restore, []).append(RetrievalGroup(count, example))
    return found


def _moment(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def any_waits(tx: Transaction) -> bool:
    """Whether any job waits for an answer to what a source lost (`shrunk.py`)."""
    sql = """SELECT 1 FROM snapshots s JOIN jobs j ON j.number = s.job
             WHERE s.shrunk IS NOT NULL AND s.number > coalesce(j.usual_from, 0) LIMIT 1"""
    return next(iter(raw_rows(tx, sql, ())), None) is not None
