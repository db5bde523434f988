"""Sums for statistics, made by the database: a row for each job and day, never one for each chunk or file.

An archive belongs to the job whose run stored it. After a rebuild no runs are known: then to the job of the
first catalog that names it. If neither is known it has no job; nor have archives that only a vault's list
shows. A copy in another vault belongs to the same job there. Deleted and lost archives are in no sum, as they
cost nothing; condemned ones are, until they are deleted.
"""

from __future__ import annotations

from datetime import date, datetime

from msgspec import Struct

from backup.cost import SMALLEST, shortfall
from backup.format.pack import parse_description
from backup.inventory.content.archives import ArchiveState
from backup.inventory.questions.compared import unknown_lines
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, sum_of
from backup.inventory.store.states import ListingStage
from backup.inventory.store.times import micros, moment
from backup.model import EntryKind, JobName, PackKind, Tier, VaultName

_DAY = 86_400_000_000  # microseconds

# Constants of this program stand in the statements below, never what somebody gave.
_BILLED = "({})".format(
    ", ".join(f"'{state}'" for state in ArchiveState if state not in {"submitted", "deleted", "lost"})
)

_SHORT = f"max(0, {SMALLEST} - o.size)"

OWNED = f"""
WITH ordered AS (
    SELECT c.archive, c.job,
           row_number() OVER (ORDER BY coalesce(k.stored_at, k.submitted_at), c.number, c.archive) AS place
    FROM catalogs c JOIN archives k ON k.number = c.archive
), first_named AS (
    SELECT n.archive, min(o.place) AS place
    FROM ordered o CROSS JOIN catalog_archives n ON n.catalog = o.archive
    WHERE EXISTS (SELECT 1 FROM archives WHERE run IS NULL AND kind = {int(PackKind.DATA)})
    GROUP BY n.archive
), own AS (
    SELECT a.number, a.kind, a.state, a.size, a.archive_id, v.name AS vault, j.name AS job,
           coalesce(a.stored_at, a.submitted_at) AS stored_at, 0 AS is_copy
    FROM archives a
    JOIN domains d ON d.number = a.domain
    JOIN vaults v ON v.number = d.vault
    LEFT JOIN catalogs c ON c.archive = a.number
    LEFT JOIN runs r ON r.number = a.run
    LEFT JOIN first_named f ON f.archive = a.number
    LEFT JOIN ordered o ON o.place = f.place
    LEFT JOIN jobs j ON j.number = coalesce(c.job, r.job, o.job)
), owned AS (
    SELECT * FROM own
    UNION ALL
    SELECT own.number, own.kind, k.state, own.size, k.archive_id, v.name, own.job,
           coalesce(k.stored_at, k.since), 1
    FROM copies k JOIN own ON own.number = k.archive JOIN vaults v ON v.number = k.vault
)"""

_STORED = f"""{OWNED}
SELECT o.vault, o.job, o.kind, o.stored_at / {_DAY} AS day, o.state = 'condemned' AS condemned,
       count(*), sum(o.size), coalesce(sum(f.raw), 0), coalesce(sum(f.sealed), 0), sum({_SHORT})
FROM owned o
LEFT JOIN (
    SELECT archive, sum(raw_length) AS raw, sum(sealed_length) AS sealed FROM frames GROUP BY archive
) AS f ON f.archive = o.number
WHERE o.state IN {_BILLED}
GROUP BY o.vault, o.job, o.kind, day, condemned
ORDER BY day, o.vault, o.job, o.kind, condemned"""

_EACH = f"""{OWNED}
SELECT o.number, o.vault, o.job, o.kind, o.stored_at / {_DAY}, o.state = 'condemned', 1, o.size, 0, 0,
       {_SHORT}
FROM own o WHERE o.state IN {_BILLED} ORDER BY o.number"""

_SNAPSHOTS = f"""
SELECT v.name, j.name, t.kept, t.size, coalesce(s.files, 0), coalesce(s.bytes, 0), t.forgotten
FROM jobs j
JOIN (
    SELECT vault, job, count(*) - count(forgotten_at) AS kept, count(forgotten_at) AS forgotten,
           {sum_of("CASE WHEN forgotten_at IS NULL THEN bytes ELSE 0 END")} AS size,
           max(CASE WHEN forgotten_at IS NULL THEN number END) AS newest
    FROM (
        SELECT h.vault, s.job, s.number, s.bytes, s.forgotten_at
        FROM snapshots s JOIN jobs h ON h.number = s.job
        UNION ALL
        SELECT c.vault, c.job, c.number, s.bytes, c.forgotten_at
        FROM copied_snapshots c JOIN snapshots s ON s.job = c.job AND s.number = c.number
        WHERE c.state IN ('copied', 'forgotten')
    ) AS there GROUP BY vault, job
) AS t ON t.job = j.number
JOIN vaults v ON v.number = t.vault
LEFT JOIN snapshots s ON s.job = j.number AND s.number = t.newest
ORDER BY j.number, t.vault <> j.vault, v.name"""

# By directory first, in the order of the index: sorting all entries by job would take as much memory as they.
_VERSIONS = f"""
SELECT v.name, j.name, sum(t.count), {sum_of("t.size")}
FROM (
    SELECT directory, count(*) AS count, {sum_of("size")} AS size FROM entries
    WHERE kind = {int(EntryKind.FILE)} GROUP BY directory
) AS t
JOIN directories d ON d.number = t.directory
JOIN jobs j ON j.number = d.job
JOIN vaults v ON v.number = j.vault
GROUP BY v.name, j.name"""

_NIGHTS = f"""
SELECT v.name, j.name, r.started_at, r.outcome IN ('done', 'partial'), r.number <= first.number,
       coalesce(json_extract(r.report, '$.bytes_uploaded'), a.data + a.catalogs, 0),
       json_extract(r.report, '$.files_read'),
       coalesce(a.data_count, 0), coalesce(a.data, 0), coalesce(a.catalog_count, 0), coalesce(a.catalogs, 0),
       coalesce(a.data_short, 0), coalesce(a.catalog_short, 0)
FROM runs r
JOIN jobs j ON j.number = r.job
JOIN vaults v ON v.number = j.vault
LEFT JOIN (
    SELECT job, min(number) AS number FROM runs
    WHERE kind = 'backup' AND outcome IN ('done', 'partial') GROUP BY job
) AS first ON first.job = r.job
LEFT JOIN (
    SELECT run, sum(kind = {int(PackKind.DATA)}) AS data_count,
           sum(CASE WHEN kind = {int(PackKind.DATA)} THEN size ELSE 0 END) AS data,
           sum(kind = {int(PackKind.CATALOG)}) AS catalog_count,
           sum(CASE WHEN kind = {int(PackKind.CATALOG)} THEN size ELSE 0 END) AS catalogs,
           sum(CASE WHEN kind = {int(PackKind.DATA)} THEN max(0, {SMALLEST} - size) ELSE 0 END) AS data_short,
           sum(CASE WHEN kind = {int(PackKind.CATALOG)} THEN max(0, {SMALLEST} - size) ELSE 0 END)
               AS catalog_short
    FROM archives WHERE run IS NOT NULL AND state IN {_BILLED} GROUP BY run
) AS a ON a.run = r.number
WHERE r.kind = 'backup' AND r.outcome <> 'running' AND r.started_at >= ?
ORDER BY r.number"""

_UPLOADS = f"""{OWNED}
SELECT vault, job, kind, (size + 1048575) / 1048576 AS mib, count(*)
FROM owned WHERE archive_id IS NOT NULL AND stored_at >= ?
GROUP BY vault, job, kind, mib ORDER BY vault, job, kind, mib"""

_RETRIEVALS = f"""{OWNED}, asked AS (
    SELECT retrieval_id, archive, tier, requested_at,
           max(coalesce(asked_to, "end") - coalesce(asked_from, start)) AS size
    FROM retrievals WHERE retrieval_id IS NOT NULL AND requested_at >= ?
    GROUP BY retrieval_id, archive, tier, requested_at
    UNION ALL
    SELECT coalesce('@' || (SELECT name FROM vaults WHERE number = copied_to) || '@', '') || retrieval_id,
           archive, tier, requested_at, asked_to - asked_from
    FROM readings WHERE retrieval_id IS NOT NULL AND requested_at >= ?
)
SELECT o.vault, o.job, o.kind, q.tier, count(*), sum(q.size)
FROM asked q JOIN owned o ON o.number = q.archive
  AND CASE WHEN q.retrieval_id LIKE '@%' THEN instr(q.retrieval_id, '@' || o.vault || '@') = 1
           ELSE NOT o.is_copy END
GROUP BY o.vault, o.job, o.kind, q.tier ORDER BY o.vault, o.job, o.kind, q.tier"""

_SHARED = f"""{OWNED}
SELECT o.vault, o.job, other.name, count(*), sum(o.size)
FROM (
    SELECT DISTINCT n.archive, c.job FROM catalog_archives n JOIN catalogs c ON c.archive = n.catalog
) AS named
JOIN own o ON o.number = named.archive
JOIN jobs other ON other.number = named.job
WHERE o.state IN {_BILLED} AND o.job <> other.name
GROUP BY o.vault, o.job, other.name ORDER BY o.vault, o.job, other.name"""


class Stored(Struct, frozen=True):
    """Archives of one vault, job and kind that were stored on one day, by UTC.

    `raw` are the bytes of chunks in them, `sealed` what these take, compressed and encrypted, `short` what
    they lack of the minimum billable size of some classes (`cost.shortfall`).
    """

    vault: VaultName
    job: JobName | None
    kind: PackKind
    day: date
    is_condemned: bool
    archives: int
    bytes: int
    raw: int
    sealed: int
    short: int = 0


class Contents(Struct, frozen=True):
    """A job's snapshots that are kept, and the newest of them, or its versions of files."""

    vault: VaultName
    job: JobName
    count: int
    bytes: int
    newest_files: int = 0
    newest_bytes: int = 0
    forgotten: int = 0


class BackupRun(Struct, frozen=True):
    """A backup that has ended: what it uploaded, and how much of that is still in the vault.

    `is_first`: the job's first that made a snapshot, or one before it. `files_read` is None if not known.
    """

    vault: VaultName
    job: JobName
    started_at: datetime
    made_snapshot: bool
    is_first: bool
    bytes_uploaded: int
    files_read: int | None
    data_archives: int
    data_bytes: int
    catalogs: int
    catalog_bytes: int
    data_short: int = 0
    catalog_short: int = 0


class Uploads(Struct, frozen=True):
    """Archives stored since a given time, of `mib` MiB each (rounded up)."""

    vault: VaultName
    job: JobName | None
    kind: PackKind
    mib: int
    archives: int


class Retrieved(Struct, frozen=True):
    """Retrievals that a vault accepted since some time, of restores and checks."""

    vault: VaultName
    job: JobName | None
    kind: PackKind
    tier: Tier
    requests: int
    bytes: int


class Shared(Struct, frozen=True):
    """Archives of one job that catalogs of another job name, too."""

    vault: VaultName
    job: JobName
    other: JobName
    archives: int
    bytes: int


def stored(tx: Transaction) -> list[Stored]:
    """All archives that are billed, by day of storing."""
    return [
        Stored(vault, job, PackKind(kind), _date(day), bool(condemned), *sums)
        for vault, job, kind, day, condemned, *sums in raw_rows(tx, _STORED, ())
    ]


def unknown(tx: Transaction) -> list[Stored]:
    """Archives in the newest list of each vault that the inventory does not know, by day and kind; no job's.

    These are, for example, catalogs that were replaced before a rebuild: nothing needs them, but the vault
    bills them.
    """
    newest = """SELECT v.name, max(l.number) FROM listings l JOIN vaults v ON v.number = l.vault
                WHERE l.state = ? GROUP BY v.name ORDER BY v.name"""
    found: dict[tuple[VaultName, PackKind, int], list[int]] = {}
    for vault, listing in list(raw_rows(tx, newest, (ListingStage.KEPT.value,))):
        for line in unknown_lines(tx, listing):
            label = parse_description(line.description)
            kind = PackKind.DATA if label is None else label.kind
            found.setdefault((vault, kind, line.created_at // _DAY), []).append(line.size)
    return [
        Stored(vault, None, kind, _date(day), False, len(sizes), sum(sizes), 0, 0, sum(map(shortfall, sizes)))
        for (vault, kind, day), sizes in sorted(found.items())
    ]


def each(tx: Transaction) -> dict[int, Stored]:
    """Each archive that is billed, by number, without what is in it."""
    return {
        number: Stored(vault, job, PackKind(kind), _date(day), bool(condemned), *sums)
        for number, vault, job, kind, day, condemned, *sums in raw_rows(tx, _EACH, ())
    }


def snapshots(tx: Transaction) -> list[Contents]:
    """The snapshots of each job that has any: number and bytes of those that are kept, and the newest's."""
    return [Contents(*row) for row in raw_rows(tx, _SNAPSHOTS, ())]


def versions(tx: Transaction) -> list[Contents]:
    """The versions of files that the inventory knows, by job; each once, however many snapshots."""
    return [Contents(*row) for row in raw_rows(tx, _VERSIONS, ())]


def backup_runs(tx: Transaction, since: datetime) -> list[BackupRun]:
    """Backups that began since then and have ended, oldest first."""
    return [
        BackupRun(vault, job, moment(began), bool(made), bool(first) or first is None, *sums)
        for vault, job, began, made, first, *sums in raw_rows(tx, _NIGHTS, (micros(since),))
    ]


def uploads(tx: Transaction, since: datetime) -> list[Uploads]:
    """Archives that were stored since then, whatever became of them, by their size."""
    return [
        Uploads(vault, job, PackKind(kind), mib, archives)
        for vault, job, kind, mib, archives in raw_rows(tx, _UPLOADS, (micros(since),))
    ]


def retrieved(tx: Transaction, since: datetime) -> list[Retrieved]:
    """Retrievals that were requested since then; one that serves two restores is counted once."""
    times = (micros(since), micros(since))
    return [
        Retrieved(vault, job, PackKind(kind), Tier(tier), *sums)
        for vault, job, kind, tier, *sums in raw_rows(tx, _RETRIEVALS, times)
    ]


def shared(tx: Transaction) -> list[Shared]:
    """Archives of each job that another job needs, too; one is in several rows if several jobs do."""
    return [Shared(*row) for row in raw_rows(tx, _SHARED, ())]


def _date(day: int) -> date:
    return moment(day * _DAY).date()
