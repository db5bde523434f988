"""The invariants of an inventory's rows, as queries for the rows that violate them, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, pages, raw_rows, value_of

_EXAMPLES = 5


class Invariant(Struct, frozen=True):
    """One invariant: `text` states it; `query` finds the numbers (or names) of rows that violate it."""

    name: str
    text: str
    query: str


class Violation(Struct, frozen=True):
    """A violated invariant: the number of rows, and the first few of them."""

    invariant: str
    text: str
    count: int
    examples: tuple[str, ...]


_COUNTED = ("entries", "chunks", "directories", "owners", "archives")
_BEHIND = " UNION ALL ".join(
    f"SELECT '{name}' FROM (SELECT coalesce(max(number), 0) AS top FROM {name}) t "
    f"WHERE NOT EXISTS (SELECT 1 FROM counters WHERE name = '{name}' AND next > t.top)"
    for name in _COUNTED
)

_LED = """SELECT number, added_in, removed_in,
                 lead(added_in) OVER (PARTITION BY directory, name ORDER BY added_in) AS next_in
          FROM entries"""
_OVERLAP = "next_in IS NOT NULL AND (removed_in IS NULL OR removed_in > next_in)"
_OF_JOB = "WHERE directory IN (SELECT number FROM directories WHERE job = ?)"

_CHANGES = " UNION ALL ".join(
    f"""SELECT d.job AS job, e.{at} AS at, {step} AS step FROM entries e
        JOIN directories d ON d.number = e.directory WHERE e.kind <> 2 AND e.{at} IS NOT NULL"""
    for at, step in (("added_in", 1), ("removed_in", -1))
)
_MISCOUNTED = f"""SELECT s.id FROM snapshots s LEFT JOIN (
    SELECT job, at, sum(step) OVER (PARTITION BY job ORDER BY at) AS files,
           lead(at) OVER (PARTITION BY job ORDER BY at) AS until
    FROM (SELECT job, at, sum(step) AS step FROM ({_CHANGES}) c GROUP BY job, at) n) h
    ON h.job = s.job AND h.at <= s.number AND (h.until IS NULL OR h.until > s.number)
    WHERE coalesce(h.files, 0) <> s.files"""

INVARIANTS = (
    Invariant("counters", "the next number is ahead of all that were given out", _BEHIND),
    Invariant(
        "job-counters",
        "a job's next snapshot and catalog are ahead of all that it has",
        """SELECT j.name FROM jobs j
           WHERE j.next_snapshot <= (SELECT coalesce(max(number), 0) FROM snapshots WHERE job = j.number)
              OR j.next_catalog <= (SELECT coalesce(max(number), 0) FROM catalogs WHERE job = j.number)""",
    ),
    Invariant(
        "intervals",
        "versions of one name follow one another",
        f"SELECT number FROM ({_LED}) t WHERE removed_in <= added_in OR ({_OVERLAP})",
    ),
    Invariant(
        "snapshot-numbers",
        "a version begins and ends with snapshots that its job has given out",
        """SELECT e.number FROM entries e JOIN directories d ON d.number = e.directory
           JOIN jobs j ON j.number = d.job
           WHERE e.added_in >= j.next_snapshot OR e.removed_in >= j.next_snapshot OR e.added_in < 1""",
    ),
    Invariant("snapshots", "a snapshot holds as many files as when it was made", _MISCOUNTED),
    Invariant(
        "owners",
        "each entry's owner is known",
        "SELECT e.number FROM entries e WHERE NOT EXISTS (SELECT 1 FROM owners o WHERE o.number = e.owner)",
    ),
    Invariant(
        "content",
        "each file has a content id and chunks",
        "SELECT number FROM entries WHERE kind = 1 AND (content_id IS NULL OR chunks IS NULL)",
    ),
    Invariant(
        "archives",
        "what is stored has an archive id, a size and a tree hash",
        """SELECT number FROM archives
           WHERE state IN ('stored', 'unconfirmed', 'retired', 'damaged', 'condemned', 'deleting')
           AND (archive_id IS NULL OR size <= 0 OR length(tree_hash) <> 32)""",
    ),
    Invariant(
        "uploads",
        "what was submitted has an upload to finish, and nothing else has",
        """SELECT a.number FROM archives a LEFT JOIN uploads u ON u.archive = a.number
           WHERE (a.state = 'submitted') <> (u.archive IS NOT NULL)""",
    ),
    Invariant(
        "frames",
        "frames lie in their archives, one after the other",
        """SELECT archive FROM (
               SELECT f.archive, f."offset" + f.sealed_length AS ends, a.size,
                      lead(f."offset") OVER (PARTITION BY f.archive ORDER BY f.number) AS next_at
               FROM frames f JOIN archives a ON a.number = f.archive) t
           WHERE ends > size OR next_at < ends""",
    ),
    Invariant(
        "chunks",
        "each chunk lies in a frame of its archive, unless that is deleted",
        """SELECT c.number FROM chunks c JOIN archives a ON a.number = c.archive
           LEFT JOIN frames f ON f.archive = c.archive AND f.number = c.frame
           WHERE c.length <= 0 OR (a.state <> 'deleted' AND (
              f.archive IS NULL OR c."offset" < 0 OR c."offset" + c.length > f.raw_length))""",
    ),
    Invariant(
        "staged",
        "what a run has staged is of a run and a directory that are there",
        """SELECT number FROM staged_entries s WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.number = s.run)
              OR NOT EXISTS (SELECT 1 FROM directories d WHERE d.number = s.directory)""",
    ),
    Invariant(
        "prefixes",
        "each chunk can be found by its prefix, and nothing else",
        """SELECT number FROM chunks c WHERE NOT EXISTS (
               SELECT 1 FROM chunk_prefixes p WHERE p.prefix = c.prefix AND p.chunk = c.number)
           UNION ALL SELECT chunk FROM chunk_prefixes p
           WHERE (SELECT count(*) FROM chunk_prefixes) <> (SELECT count(*) FROM chunks) AND NOT EXISTS (
               SELECT 1 FROM chunks c WHERE c.number = p.chunk AND c.prefix = p.prefix)""",
    ),
)


def database_faults(tx: Transaction) -> Iterator[Violation]:
    """Faults that SQLite itself finds in pages, indexes and references."""
    told = [str(row[0]) for row in raw_rows(tx, "PRAGMA integrity_check(100)", ())]
    if told != ["ok"]:
        yield Violation("integrity", "the database file is whole", len(told), tuple(told[:_EXAMPLES]))
    count, examples = 0, list[str]()
    for row in raw_rows(tx, "PRAGMA foreign_key_check", ()):
        count += 1
        if len(examples) < _EXAMPLES:
            examples.append(f"{row[0]} row {row[1]} to {row[2]}")
    if count:
        yield Violation("references", "rows refer to rows that are there", count, tuple(examples))


def first_damage(tx: Transaction) -> str | None:
    """The first fault that SQLite finds in the pages of its file; None if they are whole."""
    found = value_of(tx, "PRAGMA quick_check(1)", ())
    return None if found == "ok" else str(found)


def violations(tx: Transaction, invariant: Invariant) -> Violation | None:
    """The rows that violate an invariant; None if there are none."""
    count, examples = 0, list[str]()
    for rows in pages(tx, invariant.query, ()):
        count += len(rows)
        examples += [str(row[0]) for row in rows[: _EXAMPLES - len(examples)]]
    return Violation(invariant.name, invariant.text, count, tuple(examples)) if count else None


def end_overlaps(tx: Transaction, job: int) -> list[tuple[int, int | None, int]]:
    """End each version of the job that outlives the beginning of the next one of its name, at that beginning.

    Returns the snapshots that held both, from and up to (None: no end), each with the number of a version.
    """
    overlaps = f"FROM ({_LED} {_OF_JOB}) t WHERE {_OVERLAP}"
    spans = f"SELECT next_in, removed_in, min(number) {overlaps} GROUP BY next_in, removed_in"
    found = [(row[0], row[1], row[2]) for row in raw_rows(tx, spans, (job,))]
    if found:
        ends = f"""UPDATE entries SET removed_in = (
                       SELECT min(n.added_in) FROM entries n WHERE n.directory = entries.directory
                       AND n.name = entries.name AND n.added_in > entries.added_in)
                   WHERE number IN (SELECT number {overlaps})"""
        changed(tx, ends, (job,))
    return found
