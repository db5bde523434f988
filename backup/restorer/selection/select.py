"""Selects the entries of a snapshot by a choice, and the locations of the chunks of each file.

The selection is made of columns: about 170 bytes for each file of one chunk, all told. Columns of more than
some MiB are kept in files (`column.py`).
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from operator import eq, itemgetter
from typing import Any, Final

from backup.errors import FormatError, UsageError
from backup.inventory.content import entries
from backup.inventory.content.entries import ROOT, EntryRow
from backup.inventory.content.entry_versions import no_such_path
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.store.connections import Transaction
from backup.model import EntryKind, Extra, Owner, Problem, ProblemKind
from backup.restorer.selection.alike import AlikeNames
from backup.restorer.selection.choice import Choice, Sieve
from backup.restorer.selection.chunk_locations import ChunkLocations, NumberSet, read_chunk_locations
from backup.restorer.selection.column import Scratch
from backup.restorer.selection.columns import Entries
from backup.restorer.selection.entry import RestoreEntry, are_steps, is_step
from backup.restorer.selection.files import Files
from backup.restorer.selection.sound import unsound

ALL = Choice()

_KIND: Final = 1 + EntryRow._fields.index("kind")  # in a row that begins with the directory's path
_EXTRA: Final = 1 + EntryRow._fields.index("extra")
_NAMES: Final = EntryRow._fields.index("name")
_NAME: Final = 1 + _NAMES
_ADDED: Final = 1 + EntryRow._fields.index("added_in")
_A_FILE: Final = int(EntryKind.FILE)
_MANY: Final = 4  # from so many files in a row on, it pays to take them together


@dataclass(slots=True)
class Selection:
    """Everything a restore creates; files are in the order in which they were stored."""

    directories: Entries
    specials: Entries
    files: Files
    locations: ChunkLocations = field(default_factory=ChunkLocations)
    problems: list[Problem] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)  # patterns that matched nothing, as options for a message
    scratch: Scratch = field(default_factory=Scratch)  # where its large columns are
    alike: AlikeNames = field(default_factory=AlikeNames)

    @classmethod
    def of(cls, owners: Mapping[int, Owner], scratch: Scratch) -> Selection:
        """Return an empty selection; `owners` by number."""
        entries = Entries(owners, scratch), Entries(owners, scratch)
        return cls(*entries, Files(owners, scratch), scratch=scratch)

    @property
    def names(self) -> int:
        """Number of names of files and special files to create: each further hard link counts as one."""
        return self.files.entries.names + self.specials.names

    @property
    def bytes(self) -> int:
        """Size of all files in bytes, holes included."""
        return self.files.entries.total

    @property
    def data_bytes(self) -> int:
        """Size of all files without their holes: the bytes that are fetched and written."""
        return sum(self.files.data_sizes)


def select_entries(
    tx: Transaction,
    snapshot: Snapshot,
    path: bytes,
    content_key: bytes,
    choice: Choice = ALL,
    *,
    scratch: Scratch | None = None,
) -> Selection:
    """Select the chosen entries at and below the absolute `path` of a snapshot (`b"/"`: everything).

    Directories on the way to chosen entries are included. Below a directory, paths are relative to it; a
    single file keeps its name. `UsageError` if the path does not exist, or a path or glob of the choice
    matches nothing. Unsound records are left out and reported: a name that leads out of the target, a file
    whose chunk list does not match its content id, one whose chunks cannot be found. Large columns are
    kept in `scratch`.
    """
    path = path.rstrip(b"/") or ROOT
    top = None if path == ROOT else entries.entry_at(tx, snapshot.job_number, path, snapshot.number)
    if path != ROOT and top is None:
        raise no_such_path(tx, snapshot, path)
    owners = {number: owner for number, owner in entries.owners_by_number(tx).items() if _is_owner(owner)}
    selection = Selection.of(owners, scratch or Scratch())
    taker = _Taker(selection)
    if top is not None and top.kind != EntryKind.DIRECTORY:
        if choice.paths or choice.globs:
            raise UsageError(
                "a single file contains no further paths", advice="name its directory before them"
            )
        taker.take(b"", top)
    else:
        selection.unmet = _take_chosen(tx, snapshot, path, choice, taker)
    _find_chunks(tx, selection, content_key)
    _join_files(selection)
    _join_specials(selection)
    selection.files.forget_content_ids()
    selection.scratch.rest()
    return selection


def _is_owner(owner: Owner) -> bool:
    """Whether a row of the database has the fields of an owner: entries of any other are damaged."""
    numbers, names = (owner.uid, owner.gid), (owner.user, owner.group)
    return all(isinstance(number, int) for number in numbers) and all(isinstance(name, str) for name in names)


def _take_chosen(
    tx: Transaction, snapshot: Snapshot, base: bytes, choice: Choice, taker: _Taker
) -> list[str]:
    """Add what the choice names to the selection, and of other directories those that lead to it.

    Returns the options that matched nothing; `UsageError` if the selection would be empty.
    """
    if choice.is_all:
        _take_all(tx, snapshot, base, taker)
        return []
    taken = False
    for path in choice.paths:
        if entries.entry_at(tx, snapshot.job_number, path, snapshot.number) is None:
            raise no_such_path(tx, snapshot, path)
    sieve = Sieve(choice)
    passed: dict[bytes, tuple[bytes, EntryRow]] = {}
    skip = len(base.rstrip(b"/")) + 1
    for directory, row in rows_below(tx, snapshot, base, choice):
        if sieve.takes(directory, row):
            for parent, above in _way_to(directory, passed):
                taker.take(parent[skip:], above, on_the_way=True)
            taker.take(directory[skip:], row)
            taken = True
        elif row.kind == EntryKind.DIRECTORY:
            passed[directory.rstrip(b"/") + b"/" + row.name] = (directory, row)
    for unmet in sieve.unmet:
        raise UsageError(
            f"nothing in snapshot {snapshot.id[:8]} is called {choice.globs[unmet]!r}",
            advice=f"`nightvault find --snapshot {snapshot.id[:8]} '*PART OF A NAME*'` looks for it",
        )
    left_over = sieve.unmet_patterns
    if choice.include and not taken:
        raise UsageError(
            f"nothing of snapshot {snapshot.id[:8]} is left: "
            + ", ".join(left_over or ["all of it is excluded"]),
            advice="patterns are lines of .gitignore, as if that file lay in / of the snapshot; "
            f"`nightvault ls -r {snapshot.id[:8]}` lists all names",
        )
    return left_over


def _take_all(tx: Transaction, snapshot: Snapshot, base: bytes, taker: _Taker) -> None:
    """Add everything below a directory to the selection."""
    skip = len(base.rstrip(b"/")) + 1
    for page in entries.pages_below(tx, snapshot.job_number, base, snapshot.number):
        for directory, rows in groupby(page, itemgetter(0)):
            taker.take_all(directory[skip:], rows)
        del page  # so that two pages are not held at a time


def _way_to(directory: bytes, passed: dict[bytes, tuple[bytes, EntryRow]]) -> list[tuple[bytes, EntryRow]]:
    """The parent directories of an entry that were skipped so far, from the top; clears them in `passed`."""
    way: list[tuple[bytes, EntryRow]] = []
    while directory in passed:
        way.append(passed.pop(directory))
        directory = directory.rpartition(b"/")[0]
    return way[::-1]


def rows_below(
    tx: Transaction, snapshot: Snapshot, base: bytes, choice: Choice
) -> Iterator[tuple[bytes, EntryRow]]:
    """Yield a snapshot's rows that a choice's paths can name, after the directories above them."""
    stem = choice.stem(base)
    directory = base
    for step in stem[len(base.rstrip(b"/")) :].strip(b"/").split(b"/"):
        here = directory.rstrip(b"/") + b"/" + step
        row = entries.entry_at(tx, snapshot.job_number, here, snapshot.number) if step else None
        if row is None:
            break
        yield directory, row
        directory = here
    yield from entries.entries_below(tx, snapshot.job_number, stem, snapshot.number)


class _Taker:
    """Sorts rows into a selection; a directory's path is checked and stored once for all entries in it."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._directory = b""
        self._is_below = True
        self._last: tuple[bytes, bytes] | None = None  # directory and name of the row before

    def take_all(self, directory: bytes, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add all rows of a directory, each with the directory's path before the fields of `EntryRow`."""
        all_rows = list(rows)
        names = [row[_NAME] for row in all_rows]
        self._selection.alike.note(directory, names)
        if any(map(eq, names, islice(names, 1, None))) or (directory, names[0]) == self._last:
            all_rows = self._of_own_names(directory, all_rows)
        self._last = (directory, names[-1])
        if all_rows and all(map(_is_plain, all_rows)):
            runs = [all_rows]
        else:
            runs = [list(run) for _, run in groupby(all_rows, _is_plain)]
        for run in runs:
            if _is_plain(run[0]) and len(run) >= _MANY and self._take_plain(directory, run):
                continue
            for row in run:
                self._take(directory, EntryRow._make(row[1:]))

    def _of_own_names(self, directory: bytes, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows without those of a name that another has, which are reported."""
        kept: list[tuple[Any, ...]] = []
        for name, alike in groupby(rows, itemgetter(_NAME)):
            several = list(alike)
            is_known = (directory, name) == self._last
            first = None if is_known else min(several, key=_rank)
            kept += [] if first is None else [first]
            for _ in several[not is_known :]:
                self._refuse_another(directory, name)
        return kept

    def _refuse_another(self, directory: bytes, name: bytes) -> None:
        path = directory + b"/" + name if directory else name
        self._refuse(path, "the inventory has another entry of that name")

    def _take_plain(self, directory: bytes, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Add files without rare attributes together; False, and none is added, if one of them is damaged."""
        self._enter(directory)
        columns = list(zip(*rows, strict=True))[1:]
        try:
            if not (self._is_below and are_steps(columns[_NAMES])):
                return False
            self._selection.files.add_plain(directory, columns)
        except (FormatError, LookupError, ValueError, TypeError, OverflowError):
            return False
        return True

    def _enter(self, directory: bytes) -> None:
        if directory != self._directory:
            self._directory = directory
            self._is_below = not directory or are_steps(directory.split(b"/"))

    def take(self, directory: bytes, row: EntryRow, *, on_the_way: bool = False) -> None:
        """Add one row to the right part of the selection, or report it."""
        self._selection.alike.note(directory, [row.name])
        if not on_the_way:
            before, self._last = self._last, (directory, row.name)
            if before == self._last:
                self._refuse_another(directory, row.name)
                return
        self._take(directory, row, on_the_way=on_the_way)

    def _take(self, directory: bytes, row: EntryRow, *, on_the_way: bool = False) -> None:
        self._enter(directory)
        path = directory + b"/" + row.name if directory else row.name
        if not self._is_below or not is_step(row.name):
            self._refuse(path, "its name leads out of the target")
            return
        try:
            self._sort(row, on_the_way=on_the_way)
        except (FormatError, LookupError, ValueError, TypeError, OverflowError):
            self._refuse(path, "its row in the inventory is damaged")

    def _sort(self, row: EntryRow, *, on_the_way: bool) -> None:
        if row.kind == EntryKind.DIRECTORY:
            self._selection.directories.add(self._directory, row, on_the_way=on_the_way)
        elif row.kind == EntryKind.FILE:
            self._selection.files.add(self._directory, row)
        else:
            self._selection.specials.add(self._directory, row)

    def _refuse(self, path: bytes, why: str) -> None:
        self._selection.problems.append(Problem(path, ProblemKind.DAMAGED, f"{why}; not restored"))


def without(selection: Selection, kept: Collection[int]) -> Selection:
    """Return the selection without the entries (`kept`, by number) that stay as they are at the target."""
    if not kept:
        return selection
    if selection.alike.directories:
        every = chain(selection.directories, selection.specials, selection.files.entries)
        named = chain.from_iterable(entry.names for entry in every)
        selection.alike.keep(entry for entry in named if entry.number in kept)
    files = selection.files.only(*_left(selection.files.entries, kept))
    return Selection(
        directories=selection.directories.only(*_left(selection.directories, kept)),
        specials=selection.specials.only(*_left(selection.specials, kept)),
        files=files,
        locations=selection.locations.only(NumberSet(files.chunks)),
        problems=selection.problems,
        unmet=selection.unmet,
        scratch=selection.scratch,
        alike=selection.alike,
    )


def _left(entries: Entries, kept: Collection[int]) -> tuple[array[int], dict[int, RestoreEntry]]:
    """The keys of entries to restore, and replacements for those of which only some names stay."""
    keys = array("I")
    changed: dict[int, RestoreEntry] = {}
    for key, entry in enumerate(entries):
        left = [name for name in entry.names if name.number not in kept]
        if left:
            keys.append(key)
        if left and len(left) <= len(entry.links):
            changed[key] = left[0]._replace(links=tuple(left[1:]))
    return keys, changed


def _find_chunks(tx: Transaction, selection: Selection, content_key: bytes) -> None:
    files = selection.files
    selection.locations = read_chunk_locations(tx, files.chunks, selection.scratch)
    damaged = set(unsound(files, selection.locations, content_key, selection.scratch))
    if not damaged:
        return
    for key in sorted(damaged):
        detail = "the inventory's list of its chunks is damaged; not restored"
        selection.problems.append(Problem(files.entries[key].path, ProblemKind.DAMAGED, detail))
    selection.files = files.only(array("I", (key for key in range(len(files)) if key not in damaged)))
    wanted = NumberSet(selection.files.chunks)
    selection.locations = selection.locations.only(wanted)  # nothing is fetched for the others


def _rank(row: tuple[Any, ...]) -> tuple[bool, int]:
    """Which row of one name is taken: a directory, for what lies in it, or the older one."""
    return row[_KIND] != EntryKind.DIRECTORY, row[_ADDED]


def _is_plain(row: tuple[Any, ...]) -> bool:
    """Whether a row is that of a file without rare attributes."""
    return row[_KIND] == _A_FILE and row[_EXTRA] is None


def _join_files(selection: Selection) -> None:
    """Join hard links into one file; a name whose content differs (read while changing) stays separate."""
    files = selection.files
    groups: dict[tuple[object, ...], list[int]] = {}
    for key in files.entries.linked():
        extra = files.entries.extra_of(key) or Extra()
        groups.setdefault((extra.link, files.content_id(key), files.entries.size(key)), []).append(key)
    if keys_and_joined := _joined(files.entries, groups.values()):
        selection.files = files.only(*keys_and_joined)


def _join_specials(selection: Selection) -> None:
    specials = selection.specials
    groups: dict[tuple[object, ...], list[int]] = {}
    for key in specials.linked():
        entry, extra = specials[key], specials.extra_of(key) or Extra()
        groups.setdefault((extra.link, entry.kind, extra.target, extra.device), []).append(key)
    if keys_and_joined := _joined(specials, groups.values()):
        selection.specials = specials.only(*keys_and_joined)


def _joined(
    entries: Entries, groups: Iterable[list[int]]
) -> tuple[array[int], dict[int, RestoreEntry]] | None:
    """The keys of all but further names, and the entries that have such; None if there are none."""
    joined: dict[int, RestoreEntry] = {}
    others: set[int] = set()
    for first, *more in groups:
        if more:
            joined[first] = entries[first]._replace(links=tuple(entries[key] for key in more))
            others.update(more)
    if not joined:
        return None
    return array("I", (key for key in range(len(entries)) if key not in others)), joined


def frames_by_archive(locations: ChunkLocations) -> dict[int, set[int]]:
    """Return the frames that hold those chunks, by archive."""
    frames: dict[int, set[int]] = {}
    for (archive, frame), _ in locations.frames():
        frames.setdefault(archive, set()).add(frame)
    return frames
