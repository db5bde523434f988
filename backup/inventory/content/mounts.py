"""The mount points among a job's entries, which catalogs carry for a rebuild; and the file systems there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, run_many

# CROSS JOIN tells SQLite the order, fewest rows first: it would begin with the job's directories, and look up
# the hints of each of their entries. Source: sqlite.org/optoverview.html, "Manual Control Of Query Plans".
_LIVE = """SELECT h.entry FROM hints h CROSS JOIN entries e CROSS JOIN directories d
           WHERE h.is_mount = 1 AND e.number = h.entry AND d.number = e.directory
             AND d.job = ? AND e.removed_in IS NULL"""
_STAGED = """SELECT number FROM staged_entries WHERE run = ? AND is_mount = 1
             UNION SELECT entry FROM staged_hints WHERE run = ? AND is_mount = 1"""
_UNTOUCHED = """ AND h.entry NOT IN (SELECT entry FROM staged_removals WHERE run = ?)
                 AND h.entry NOT IN (SELECT entry FROM staged_hints WHERE run = ?)"""


def mount_points(tx: Transaction, job: int) -> list[int]:
    """Numbers of the live entries of a job that are mount points, in order."""
    return sorted(row[0] for row in raw_rows(tx, _LIVE, (job,)))


def mount_points_after(tx: Transaction, job: int, run: int) -> list[int]:
    """Same as `mount_points`, once the run's staged changes are true."""
    kept = {row[0] for row in raw_rows(tx, _LIVE + _UNTOUCHED, (job, run, run))}
    return sorted(kept | {row[0] for row in raw_rows(tx, _STAGED, (run, run))})


def mount_points_below(tx: Transaction, *, job: int, path: bytes) -> list[bytes]:
    """Paths of a job's live mount points below a directory, in order."""
    sql = """SELECT d.path, e.name FROM directories d JOIN entries e ON e.directory = d.number
             JOIN hints h ON h.entry = e.number
             WHERE d.job = ? AND (d.path = ? OR (d.path >= ? AND d.path < ?))
               AND e.removed_in IS NULL AND h.is_mount = 1 ORDER BY d.path, e.name"""
    stem = path.rstrip(b"/")
    rows = raw_rows(tx, sql, (job, path, stem + b"/", stem + b"0"))
    return [directory.rstrip(b"/") + b"/" + name for directory, name in rows]


def mark_mount_points(tx: Transaction, job: int, numbers: Sequence[int]) -> None:
    """Mark the mount points among a rebuilt job's live entries; their other hints are unknown."""
    sql = """INSERT OR IGNORE INTO hints (entry, inode, ctime_ns, is_mount)
             SELECT e.number, 0, 0, 1 FROM entries e JOIN directories d ON d.number = e.directory
             WHERE e.number = ? AND e.removed_in IS NULL AND d.job = ?"""
    if numbers:
        run_many(tx, sql, [(number, job) for number in numbers])


def known_disks(tx: Transaction, job: int) -> dict[bytes, str]:
    """The file systems that were mounted when a job last ran (`source.disks`), by path."""
    return dict(raw_rows(tx, "SELECT path, identity FROM disks WHERE job = ?", (job,)))


def note_disks(tx: Transaction, job: int, disks: Mapping[bytes, str]) -> None:
    """Record the file systems mounted at these paths; those of other paths stay."""
    sql = """INSERT INTO disks (job, path, identity) VALUES (?, ?, ?)
             ON CONFLICT (job, path) DO UPDATE SET identity = excluded.identity"""
    if disks:
        run_many(tx, sql, [(job, path, identity) for path, identity in disks.items()])
