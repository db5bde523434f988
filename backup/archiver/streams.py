"""Reads a run's streams into the snapshot, below `/.streams`; one that fails stays as it was.

A stream is in the snapshot only as a whole. Streams of other runs stay, as an unreadable file does, until a
pattern of the job excludes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from backup.archiver.compare import is_excluded
from backup.archiver.contents import Content, Contents
from backup.archiver.staged_changes import StagedChanges
from backup.catalogs.context import OpenBackup
from backup.catalogs.report import Tally
from backup.errors import NightvaultError
from backup.format.records import DumpRecord
from backup.inventory.content import entries
from backup.inventory.content.entries import LiveEntry
from backup.inventory.store.times import micros
from backup.model import Entry, EntryKind, Hint, Problem, ProblemKind
from backup.source.metadata import owner_of
from backup.source.read import FileUnreadableError
from backup.source.streams import TOP, NotedStream, OpenStream, Stream

_PRIVATE: Final = 0o700


class StreamFailedError(NightvaultError):
    """No stream could be saved, and nothing else is in the run: no snapshot is made."""

    advice = "earlier snapshots are unchanged; solve that and run the job again"


class Streams:
    """The streams of one run, on its thread."""

    def __init__(self, at: OpenBackup, staged: StagedChanges, tally: Tally) -> None:
        self._at = at
        self._job = at.job
        self._staged = staged
        self._tally = tally
        self._made: set[bytes] = set()  # directories that this run adds
        self._saved: set[bytes] = set()

    def read(self, contents: Contents) -> None:
        """Read every stream of the job. `StreamFailedError` if all fail, and there is nothing else."""
        failures, tried = list[Problem](), 0
        if self._job.only_streams:
            with self._at.context.inventory.reading() as tx:
                self._tally.files, self._tally.bytes = entries.count_live(tx, self._at.row.number)
        for stream in self._streams(failures):
            tried += 1
            with self._told(stream.path, failures):
                self._one(stream, contents)
        self._tally.problems += failures
        is_all = self._job.only_streams or not self._job.sources
        if failures and is_all and len(failures) >= tried:
            told = "; ".join(f"{os.fsdecode(failure.path)}: {failure.detail}" for failure in failures)
            raise StreamFailedError(f"nothing was saved: {told}")

    def _streams(self, failures: list[Problem]) -> Iterator[Stream]:
        """Every stream of the job; a server that cannot list its databases is a failure."""
        yield from self._job.streams
        for databases in self._job.databases:
            listed: Sequence[Stream] = ()
            with self._told(databases.path, failures):
                listed = databases.streams(self._at.context.stop)
            yield from listed

    @contextmanager
    def _told(self, path: bytes, failures: list[Problem]) -> Iterator[None]:
        try:
            yield
        except FileUnreadableError as error:
            failures.append(Problem(path, ProblemKind.UNREADABLE, str(error)))

    def carry(self) -> None:
        """Count the streams of other runs, and stage the removal of those that the job now excludes."""
        for path, live in self._live_below(TOP):
            if path in self._saved:
                continue
            if is_excluded(self._job, path):
                self._staged.remove(path, live, is_directory=False)
                continue
            self._tally.see_stream(live.size)

    def _live_below(self, directory: bytes) -> Iterator[tuple[bytes, LiveEntry]]:
        for live in map(LiveEntry._make, self._staged.live(directory)):
            path = directory + b"/" + live.name
            if live.kind == EntryKind.DIRECTORY:
                yield from self._live_below(path)
            else:
                yield path, live

    def _one(self, stream: Stream, contents: Contents) -> None:
        directory, _, name = stream.path.rpartition(b"/")
        live = self._live(directory).get(name)
        before = None if live is None else live.chunks
        with stream.open(self._at.context.stop) as opened:
            contents.read_stream(opened, partial(self._whole, stream.path, opened), before)

    def _whole(self, path: bytes, opened: OpenStream, content: Content) -> None:
        directory, _, name = path.rpartition(b"/")
        live = self._directory(directory).get(name)
        if live is not None and live.kind == EntryKind.DIRECTORY:
            self._staged.remove(path, live, is_directory=True)
            live = None
        entry = self._entry(directory, name, EntryKind.FILE, 0o600, content.size)
        number = self._staged.add(
            entry, Hint(), replaces=live, content_id=content.content_id, chunks=content.chunks
        )
        note = opened.note if isinstance(opened, NotedStream) else None
        if note is not None:
            back, tables = list(note.back), list(note.tables)
            known = note.engine, note.database, note.version, note.charset
            self._tally.dumps.append(DumpRecord(number, *known, back, tables))
        self._saved.add(path)
        self._tally.see_stream(content.size)
        self._tally.by_stream[path] = content.size
        if self._job.only_streams and live is not None:
            self._tally.files -= 1
            self._tally.bytes -= live.size

    def _directory(self, path: bytes) -> dict[bytes, LiveEntry]:
        """The newest snapshot's entries in a directory of streams, which is created if needed."""
        if path in self._made or not path:
            return {} if path else self._live(b"/")
        parent, _, name = path.rpartition(b"/")
        live = self._directory(parent).get(name)
        if live is not None and live.kind == EntryKind.DIRECTORY:
            return self._live(path)
        entry = self._entry(parent or b"/", name, EntryKind.DIRECTORY, _PRIVATE, 0)
        self._staged.add(entry, Hint(), replaces=live)
        self._made.add(path)
        return {}

    def _live(self, path: bytes) -> dict[bytes, LiveEntry]:
        return {live.name: live for live in map(LiveEntry._make, self._staged.live(path))}

    def _entry(self, directory: bytes, name: bytes, kind: EntryKind, mode: int, size: int) -> Entry:
        owner = owner_of(os.stat_result((*[0] * 4, os.geteuid(), os.getegid(), *[0] * 4)))
        now_ns = micros(self._at.context.clock.now()) * 1000
        return Entry(directory, name, kind, mode, owner, now_ns, size)
