"""Sums of how much of each job's archives was ever read back or opened, and when last.

Read back: retrieved, and found as it was stored. Opened: by a drill, a verified restore or a check with the
recovery key, and found as it was saved; that counts as read back, too. Lost and damaged archives are in no
sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct

from backup.inventory.content.archives import SOUND
from backup.inventory.questions.stats import OWNED
from backup.inventory.records.readings import Grade
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, run_many
from backup.inventory.store.times import micros, moment
from backup.model import JobName, VaultName

_SOUND = "({})".format(", ".join(f"'{state}'" for state in SOUND))

# Overlapping pieces of an archive count once: of each only what lies behind all that began before it.
_BYTES = """SELECT archive, copied_to, max(read_at) AS last,
    sum(max(0, "end" - max(start, coalesce(behind, start)))) AS bytes FROM (
        SELECT archive, copied_to, start, "end", read_at,
               max("end") OVER (PARTITION BY archive, copied_to ORDER BY start, "end"
                                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS behind
        FROM readings WHERE proven >= {grade} AND read_at <= ? AND copied_to IS {of} NULL
    ) GROUP BY archive, copied_to"""

_PROVEN = f"""{OWNED}, read_back AS ({_BYTES.format(grade=int(Grade.READ_BACK), of="")}),
opened AS ({_BYTES.format(grade=int(Grade.OPENED), of="")})
SELECT o.vault, o.job, sum(o.size), sum(min(o.size, coalesce(r.bytes, 0))),
       sum(min(o.size, coalesce(p.bytes, 0))), max(r.last), max(p.last)
FROM own o LEFT JOIN read_back r ON r.archive = o.number LEFT JOIN opened p ON p.archive = o.number
WHERE o.state IN {_SOUND} AND o.archive_id IS NOT NULL
GROUP BY o.vault, o.job"""

_OF_COPIES = f"""WITH read_back AS ({_BYTES.format(grade=int(Grade.READ_BACK), of="NOT")}),
opened AS ({_BYTES.format(grade=int(Grade.OPENED), of="NOT")})
SELECT v.name, sum(a.size), sum(min(a.size, coalesce(r.bytes, 0))),
       sum(min(a.size, coalesce(p.bytes, 0))), max(r.last), max(p.last)
FROM copies k JOIN archives a ON a.number = k.archive JOIN vaults v ON v.number = k.vault
LEFT JOIN read_back r ON r.archive = k.archive AND r.copied_to = k.vault
LEFT JOIN opened p ON p.archive = k.archive AND p.copied_to = k.vault
WHERE k.state IN {_SOUND} AND k.archive_id IS NOT NULL
GROUP BY v.name ORDER BY v.name"""

_OF_JOBS = f"""{OWNED} SELECT number, job FROM own
WHERE vault = ? AND state IN {_SOUND} AND archive_id IS NOT NULL"""


class Proof(Struct, frozen=True):
    """How many of `bytes` in archives were ever `read_back` and `opened`, and when last."""

    bytes: int = 0
    read_back: int = 0
    opened: int = 0
    last_read_back: datetime | None = None
    last_opened: datetime | None = None

    def __add__(self, other: Proof) -> Proof:
        """Both together."""
        return Proof(
            self.bytes + other.bytes,
            self.read_back + other.read_back,
            self.opened + other.opened,
            _later(self.last_read_back, other.last_read_back),
            _later(self.last_opened, other.last_opened),
        )

    def share(self, grade: Grade) -> float | None:
        """The share of the bytes that was ever proven in a grade; None if there are none."""
        if not self.bytes:
            return None
        return (self.read_back if grade is Grade.READ_BACK else self.opened) / self.bytes

    def last(self, grade: Grade) -> datetime | None:
        """When a part of it was last proven in a grade."""
        return self.last_read_back if grade is Grade.READ_BACK else self.last_opened


NOTHING_PROVEN = Proof()


def proofs(tx: Transaction, now: datetime) -> Mapping[tuple[VaultName, JobName | None], Proof]:
    """The proofs until `now`, by vault and job; None for archives whose job is not known."""
    rows = raw_rows(tx, _PROVEN, (micros(now), micros(now)))
    return {
        (VaultName(vault), None if job is None else JobName(job)): Proof(
            *sums, *map(_moment, (first, second))
        )
        for vault, job, *sums, first, second in rows
    }


def proofs_of_copies(tx: Transaction, now: datetime) -> dict[VaultName, Proof]:
    """The proofs until `now` of the copies in each vault, which have no part in those of the jobs."""
    rows = raw_rows(tx, _OF_COPIES, (micros(now), micros(now)))
    return {
        VaultName(vault): Proof(*sums, *map(_moment, (first, second))) for vault, *sums, first, second in rows
    }


class LoadProof(Struct, frozen=True):
    """A database of which a job has a dump, by the entry's number, and when a drill last loaded one of it."""

    job: JobName
    engine: str
    database: str
    entry: int
    loaded_at: datetime | None


def load_proofs(tx: Transaction) -> list[LoadProof]:
    """The databases of which the newest snapshots have dumps, with when each was proven to load."""
    sql = """SELECT j.name, s.engine, s.database, s.entry, l.at FROM dumps s
             CROSS JOIN entries e CROSS JOIN directories d CROSS JOIN jobs j
             LEFT JOIN loads l ON l.job = j.number AND l.engine = s.engine AND l.database = s.database
             WHERE s.database <> '' AND e.number = s.entry AND e.removed_in IS NULL
               AND d.number = e.directory AND j.number = d.job ORDER BY j.name, s.engine, s.database"""
    return [
        LoadProof(JobName(job), engine, database, entry, _moment(at))
        for job, engine, database, entry, at in raw_rows(tx, sql, ())
    ]


def record_load(tx: Transaction, job: JobName, engine: str, database: str, at: datetime) -> None:
    """Record that a dump of a database was loaded, and was whole."""
    sql = """INSERT INTO loads (job, engine, database, at) SELECT number, ?, ?, ? FROM jobs WHERE name = ?
             ON CONFLICT (job, engine, database) DO UPDATE SET at = excluded.at"""
    run_many(tx, sql, [(engine, database, micros(at), job)])


def archives_of(tx: Transaction, vault: VaultName, jobs: Iterable[JobName]) -> set[int]:
    """The archives of these jobs that a vault should hold whole."""
    wanted = set(jobs)
    return {number for number, job in raw_rows(tx, _OF_JOBS, (vault,)) if job in wanted}


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    known = [when for when in (one, other) if when is not None]
    return max(known, default=None)


def _moment(value: int | None) -> datetime | None:
    return None if value is None else moment(value)
