"""The staged changes of a run, written in batches, and the newest snapshot's entries to compare with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Any, Final

from backup.archiver.read_ahead import SmallFiles
from backup.archiver.writer_thread import WriterThread
from backup.catalogs.context import OpenBackup
from backup.catalogs.delta import Delta
from backup.format.catalog import encode_extra
from backup.format.rows import unpack_u32
from backup.inventory.content import domains, entries
from backup.inventory.content.entries import LiveEntry, StagedEntry
from backup.inventory.content.lost import to_store_anew
from backup.inventory.content.numbers import NumberSupply
from backup.inventory.content.stat_columns import looks_in
from backup.inventory.store.connections import Transaction
from backup.model import ContentId, Entry, EntryKind, Hint, Owner
from backup.source.metadata import owner_of
from backup.source.scanned import StatusColumns

_Picks = Callable[[Sequence[Any]], Sequence[Any]]
_MODE: Final = 0o7777
READS_A_VIEW: Final = 2_000


class StagedChanges:
    """The changes of one run, for its own thread; the `writer` thread writes them.

    `close` it at the end: what was not flushed is dropped.
    """

    def __init__(self, at: OpenBackup, delta: Delta, writer: WriterThread) -> None:
        """Stage changes of a job's run, and write each into its catalog, `delta`, too."""
        self._inventory = inventory = at.context.inventory
        self._job = at.row.number
        self._run = at.run.number
        self._most_rows = at.job.memory.rows
        self._domain = at.domain
        self.stored_again = 0  # files that nothing but the loss of their chunks changed
        self._delta = delta
        self._writer = writer
        self._numbers = NumberSupply(inventory, "entries", ahead=writer.submit)
        self._added = _no_rows()  # columns, as the driver takes them
        self._removed: list[int] = []
        self._hinted: list[tuple[int, Hint]] = []
        self._directory_numbers = NumberSupply(inventory, "directories")
        self._directories: dict[bytes, int] = {}  # a cache of directories that the inventory has
        self._unknown: set[bytes] = set()  # and of those that it has not
        self._new_directories: dict[bytes, int] = {}
        self._writing: deque[tuple[Future[None], Mapping[bytes, int]]] = deque()  # with new directories
        self._homes: dict[int, bytes] = {}  # the directories of what was gathered
        self._view: ExitStack | None = None
        self._reader: Transaction | None = None
        self._reads = 0
        with inventory.reading() as tx:
            self._owners = entries.load_owners(tx)
            self._has_other_domains = domains.has_other_domains(tx, at.domain)
            self.lost = to_store_anew(tx, at.context.vault.name)
        self._owners_met: dict[tuple[int, int], int] = {}  # by uid and gid, with the names of this machine
        self.owners = {number: owner for owner, number in self._owners.items()}

    def live(
        self, path: bytes, *, after: bytes | None = None, until: bytes | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the newest snapshot's entries in a directory, by name; one page is held at a time.

        The fields of `LiveEntry`; only names after `after` up to `until`, if they are given. Changes may be
        staged meanwhile.
        """
        number = self._find(path)
        if number is None:
            return iter(())
        return entries.live_rows(self.reading, number, after=after, until=until)

    def looks(
        self, path: bytes, after: bytes | None, until: bytes | None, most: int
    ) -> Sequence[tuple[Any, ...]]:
        """Return at most so many of these entries as stat columns (`looks_in`), by name."""
        number = self._find(path)
        return () if number is None else looks_in(self.reading(), number, after=after, until=until, most=most)

    def live_entry(self, path: bytes, name: bytes) -> LiveEntry | None:
        """Return one of these entries; None if there is none."""
        number = self._find(path)
        return None if number is None else entries.live_named(self.reading(), number, name)

    def add(
        self,
        entry: Entry,
        hint: Hint,
        *,
        replaces: LiveEntry | None,
        content_id: ContentId | None = None,
        chunks: bytes | None = None,
    ) -> int:
        """Stage a new version of an entry; only its hints if nothing that a restore needs has changed.

        Returns its number. An entry whose old chunks are lost counts as changed, and so does one that was
        read and lies in packs sealed for other recipients.
        """
        owner = self._owner(entry.owner)
        extra = encode_extra(entry.extra)
        values = (entry.kind, entry.mode, owner, entry.mtime_ns, entry.size, extra, content_id, chunks)
        if replaces is not None:
            is_same = _same(replaces, values)
            if is_same and not self._is_to_move(replaces.chunks, chunks):
                self._hinted.append((replaces.number, hint))
                self._flush_if_full()
                return replaces.number
            self.stored_again += is_same and self.lost.spoil(replaces.chunks)
            self._removed.append(replaces.number)
        number = self._numbers.take()
        directory = self._directory(entry.directory)
        hints = (hint.inode, hint.ctime_ns, int(hint.is_mount))
        row = StagedEntry(number, directory, entry.name, *values, *hints)
        for column, value in zip(self._added, row, strict=True):
            column.append(value)
        self._flush_if_full()
        return number

    def add_files(self, files: SmallFiles, indexes: Sequence[int]) -> None:
        """Stage new plain files, in columns: those of `files.rows` at these indexes."""
        count = len(indexes)
        if self._gathered + count > self._most_rows:
            self.flush()
        if not count:
            return
        found = files.found
        named = _picks(indexes, len(files.rows))
        rows = named(files.rows)
        of_rows = _picks(rows, len(found.names))
        at = of_rows(files.at)
        homes = {index: self._directory(files.directories[index]) for index in dict.fromkeys(at)}
        columns: tuple[Iterable[Any], ...] = (
            self._numbers.take_many(count),
            map(homes.__getitem__, at),
            of_rows(found.names),
            repeat(int(EntryKind.FILE), count),
            map(_MODE.__and__, of_rows(found.modes)),
            self._owners_of(found, rows, of_rows),
            of_rows(found.mtimes),
            of_rows(found.sizes),
            repeat(None, count),
            named(files.content_ids),
            named(files.chunks),
            of_rows(found.inodes),
            of_rows(found.ctimes),
            repeat(0, count),
        )
        for column, more in zip(self._added, columns, strict=True):
            column.extend(more)

    def _owners_of(self, found: StatusColumns, rows: Sequence[int], of_rows: _Picks) -> Iterable[int]:
        """The number of each file's owner."""
        ids = list(zip(of_rows(found.users), of_rows(found.groups), strict=True))
        for new in set(ids).difference(self._owners_met):
            self._owners_met[new] = self._owner(owner_of(found.status(rows[ids.index(new)])))
        return map(self._owners_met.__getitem__, ids)

    def _is_to_move(self, before: bytes | None, chunks: bytes | None) -> bool:
        """Whether an entry's old chunks are lost, or were sealed for other recipients than its new ones."""
        if self.lost.spoil(before):
            return True
        if not (self._has_other_domains and before and chunks) or before == chunks:
            return False
        return domains.lies_outside(self.reading(), self._domain, unpack_u32(before))

    def remove(self, path: bytes, gone: LiveEntry, *, is_directory: bool) -> None:
        """Stage that an entry is gone, with everything below it."""
        self._removed.append(gone.number)
        if is_directory:
            self._removed.extend(entries.live_below(self.reading(), self._job, path))
        self._flush_if_full()

    def knows(self, path: bytes) -> bool:
        """Whether any snapshot has ever had that directory."""
        return self._find(path) is not None

    def holds(self, path: bytes) -> bool:
        """Whether the newest snapshot has anything in that directory."""
        number = self._find(path)
        return number is not None and entries.has_live(self.reading(), number)

    def flush(self) -> None:
        """Pass the collected changes to the writer."""
        while self._writing and self._writing[0][0].done():
            self._writing.popleft()
        self.end_view()  # the next one has the directories that were written
        if not self._gathered:
            return
        staging = partial(entries.stage, added=self._added, removed=self._removed, hinted=self._hinted)
        telling = partial(self._delta.staged, dict(self.owners), self._homes, self._added)
        writing = self._writer.submit(
            partial(self._write, self._new_directories, staging, telling if self._added[0] else None)
        )
        self._writing.append((writing, self._new_directories))
        self._homes = {}
        self._added, self._removed, self._hinted = _no_rows(), [], []
        self._new_directories = {}

    def _write(
        self,
        new_directories: Mapping[bytes, int],
        stage: Callable[[Transaction, int], None],
        tell: Callable[[], None] | None,
    ) -> None:
        """Write what was gathered into inventory and catalog; for the writer."""
        with self._inventory.writing() as tx:
            entries.add_directories(tx, self._job, new_directories)
            stage(tx, self._run)
        if tell is not None:
            tell()

    def close(self) -> None:
        """Close the read transaction."""
        self.end_view()

    @property
    def _gathered(self) -> int:
        """Number of rows that are not written yet."""
        return len(self._added[0]) + len(self._removed) + len(self._hinted)

    def _flush_if_full(self) -> None:
        if self._gathered >= self._most_rows:
            self.flush()

    def reading(self) -> Transaction:
        """Return a read transaction, renewed now and then so that SQLite's WAL can be truncated."""
        if self._reads >= READS_A_VIEW:
            self.end_view()
        if self._reader is None:
            self._view = ExitStack()
            self._reader = self._view.enter_context(self._inventory.reading())
        self._reads += 1
        return self._reader

    def end_view(self) -> None:
        """End the read transaction: the next one sees what was written meanwhile."""
        if self._view is not None:
            self._view.close()
        self._view = self._reader = None
        self._reads = 0

    def _find(self, path: bytes) -> int | None:
        """The number of a directory, if any snapshot ever had it."""
        number = self._directories.get(path)
        if number is None and path not in self._unknown:
            number = entries.find_directory(self.reading(), self._job, path)
            if len(self._directories) + len(self._unknown) >= READS_A_VIEW:
                self._directories.clear()
                self._unknown.clear()
            if number is not None:
                self._directories[path] = number
            elif self._number_of_new(path) is None:
                self._unknown.add(path)
        return number

    def _number_of_new(self, path: bytes) -> int | None:
        """The number of a directory of this run's own that the view may not show yet."""
        news = (self._new_directories, *(new for _, new in self._writing))
        return next((new[path] for new in news if path in new), None)

    def _directory(self, path: bytes) -> int:
        """The number of an entry's directory; a new one is written with the entries that need it."""
        number = self._number_of_new(path) or self._find(path)
        if number is None:
            number = self._new_directories[path] = self._directory_numbers.take()
            self._unknown.discard(path)
        self._homes[number] = path
        return number

    def _owner(self, owner: Owner) -> int:
        number = self._owners.get(owner)
        if number is None:
            self.end_view()
            number = self._owners[owner] = self._writer.submit(partial(self._add_owner, owner)).result()
            self.owners[number] = owner
        return number

    def _add_owner(self, owner: Owner) -> int:
        with self._inventory.writing() as tx:
            return entries.add_owner(tx, owner)


def _picks(at: Sequence[int], count: int) -> _Picks:
    """Picks the values at these indexes of `count`; all of them in order are left as they are."""
    if len(at) == count and list(at) == list(range(count)):
        return lambda values: values
    return itemgetter(*at) if len(at) > 1 else lambda values: [values[position] for position in at]


def _no_rows() -> list[list[Any]]:
    """No rows, as columns of `StagedEntry`."""
    return [[] for _ in StagedEntry._fields]


def _same(live: LiveEntry, values: tuple[object, ...]) -> bool:
    """Whether a version would restore to the same result; chunk locations do not matter."""
    was = (live.kind, live.mode, live.owner, live.mtime_ns, live.size, live.extra, live.content_id)
    return was == values[:-1]
