"""Queries of the inventory for shell completion: quick, read-only, and without SQLAlchemy.

It reads the file as it is at this moment. If that would take a copy or a wait, it finds nothing.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from backup.model import EntryKind

_MOST = 500  # more than that nobody reads in a list
_PATIENCE = 0.2  # seconds to wait for a writer
_LATEST = re.compile(r"latest(?:~(\d{1,9}))?")


class SnapshotName(NamedTuple):
    """A snapshot as a shell shows it; `started_at` in microseconds."""

    id: str
    job: str
    started_at: int
    job_number: int
    number: int


class Peek:
    """Queries for names, over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def snapshots(self, begun: str = "", job: str | None = None) -> list[SnapshotName]:
        """The kept snapshots whose ids begin so, newest first."""
        sql = """SELECT s.id, j.name, s.started_at, s.job, s.number
                 FROM snapshots s JOIN jobs j ON j.number = s.job
                 WHERE s.forgotten_at IS NULL AND substr(s.id, 1, ?) = ? AND (? IS NULL OR j.name = ?)
                 ORDER BY s.started_at DESC LIMIT ?"""
        return list(map(SnapshotName._make, self._rows(sql, (len(begun), begun, job, job, _MOST))))

    def restores(self) -> list[str]:
        """The ids of the restores that are open."""
        return [row[0][:8] for row in self._rows("SELECT id FROM restores WHERE state = 'open'", ())]

    def paths(self, words: str, begun: bytes, job: str | None = None) -> list[tuple[bytes, bool]]:
        """The paths that begin so in the snapshots that `words` may mean; whether each is a directory.

        `latest` means the newest snapshot of each job, unless one is given.
        """
        directory, _, name = begun.rpartition(b"/")
        found: dict[bytes, bool] = {}
        for snapshot in self._meant(words, job):
            for entry, kind in self._names(snapshot, directory or b"/", name):
                is_directory = kind == EntryKind.DIRECTORY.value
                found.setdefault(directory + b"/" + entry, is_directory)
        return sorted(found.items())[:_MOST]

    def _meant(self, words: str, job: str | None) -> list[SnapshotName]:
        latest = _LATEST.fullmatch(words)
        if latest is None:
            return self.snapshots(words.lower(), job)[:1]
        by_job: dict[int, list[SnapshotName]] = {}
        for snapshot in self.snapshots(job=job):
            by_job.setdefault(snapshot.job_number, []).append(snapshot)
        back = int(latest[1] or 0)
        newest_first = [sorted(of_job, key=lambda snapshot: -snapshot.number) for of_job in by_job.values()]
        return [of_job[back] for of_job in newest_first if len(of_job) > back]

    def _names(self, snapshot: SnapshotName, directory: bytes, begun: bytes) -> list[tuple[bytes, int]]:
        sql = """SELECT e.name, e.kind FROM entries e JOIN directories d ON d.number = e.directory
                 WHERE d.job = ? AND d.path = ? AND e.name >= ? AND substr(e.name, 1, ?) = ?
                   AND e.added_in <= ? AND (e.removed_in IS NULL OR e.removed_in > ?)
                 ORDER BY e.name LIMIT ?"""
        number = snapshot.number
        values = (snapshot.job_number, directory, begun, len(begun), begun, number, number, _MOST)
        return self._rows(sql, values)

    def _rows(self, sql: str, values: Sequence[object]) -> list[Any]:
        return self._connection.execute(sql, tuple(values)).fetchall()


@contextmanager
def peek_into(url: str) -> Iterator[Peek]:
    """A `Peek` into the inventory at `url`. `OSError` or `sqlite3.Error` where it cannot be read at once."""
    path = url.removeprefix("sqlite:///")
    uri = f"file:{quote(path)}?mode=ro"
    if not _size_of(f"{path}-wal"):
        uri += "&immutable=1"  # nothing is written beside it
    elif not os.access(f"{path}-shm", os.R_OK):
        raise OSError(f"{path} would have to be copied first")
    with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE)) as connection:
        yield Peek(connection)


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
