"""Data packs that the present recipients cannot open, by dedup domain, and the files that need them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct

from backup.format.rows import unpack_u32
from backup.inventory.content.packed import largest_chunk
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import numerals, raw_rows, row_of
from backup.model import PackKind

_ID = 16
_BATCH = 500


class OlderPacks(Struct, frozen=True):
    """Data packs of one dedup domain that not all present recipients can open; sizes as stored."""

    domain: int
    recipients: frozenset[bytes]
    packs: int
    bytes: int


class Needed(Struct, frozen=True):
    """Files of a job's newest snapshot that lie in packs, wholly or in part; bytes are those of the files."""

    files: int
    bytes: int


def older_packs(tx: Transaction, present: Collection[bytes], *, job: int | None = None) -> list[OlderPacks]:
    """The packs that one of the `present` recipients (ids) cannot open; those that a job's catalogs name."""
    of_job = """AND a.number IN (SELECT n.archive FROM catalog_archives n
                JOIN catalogs c ON c.archive = n.catalog WHERE c.job = ?)"""
    named, values = ("", ()) if job is None else (of_job, (job,))
    sql = f"""SELECT d.number, d.recipients, count(*), sum(a.size)
              FROM archives a JOIN domains d ON d.number = a.domain
              WHERE a.kind = {int(PackKind.DATA)}
                AND a.state IN ('stored', 'unconfirmed', 'retired', 'damaged') {named}
              GROUP BY d.number, d.recipients ORDER BY d.number"""
    found = [
        OlderPacks(number, frozenset(_split(recipients)), count, size)
        for number, recipients, count, size in raw_rows(tx, sql, values)
    ]
    return [domain for domain in found if not domain.recipients.issuperset(present)]


def needed_of(tx: Transaction, job: int, domains: Collection[int]) -> Needed:
    """The part of a job's newest snapshot in packs of these domains; reads all of its files' rows."""
    marks = bytearray(largest_chunk(tx) + 1)
    among = numerals(domains)
    sql = f"SELECT c.number FROM chunks c JOIN archives a ON a.number = c.archive WHERE a.domain IN ({among})"
    for (number,) in raw_rows(tx, sql, ()):
        marks[number] = 1
    live = """SELECT e.size, e.chunks FROM entries e JOIN directories d ON d.number = e.directory
              WHERE d.job = ? AND e.removed_in IS NULL AND e.chunks IS NOT NULL"""
    files = size = 0
    for length, chunks in raw_rows(tx, live, (job,)):
        if any(marks[number] for number in unpack_u32(chunks) if number < len(marks)):
            files, size = files + 1, size + length
    return Needed(files, size)


def has_other_domains(tx: Transaction, domain: int) -> bool:
    """Whether any data was ever stored in another domain: other recipients or another vault."""
    sql = f"SELECT 1 FROM archives WHERE kind = {int(PackKind.DATA)} AND domain != {int(domain)} LIMIT 1"
    return row_of(tx, sql, ()) is not None


def lies_outside(tx: Transaction, domain: int, chunks: Sequence[int]) -> bool:
    """Whether one of these chunks (by number) is stored in another domain."""
    for start in range(0, len(chunks), _BATCH):
        some = numerals(chunks[start : start + _BATCH])
        sql = f"""SELECT 1 FROM chunks c JOIN archives a ON a.number = c.archive
                  WHERE c.number IN ({some}) AND a.domain != {int(domain)} LIMIT 1"""
        if row_of(tx, sql, ()) is not None:
            return True
    return False


def _split(ids: bytes) -> Iterable[bytes]:
    return (ids[start : start + _ID] for start in range(0, len(ids), _ID))
