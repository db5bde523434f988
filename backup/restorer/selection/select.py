"""Selects the entries of a snapshot by a choice, and the locations of the chunks of each file.

The selection is held in memory, as columns: about 170 bytes for each file of one chunk, all told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from backup.errors import FormatError, UsageError
from backup.format.naming import content_id, content_id_of_chunk
from backup.inventory import entries
from backup.inventory.database import Transaction
from backup.inventory.entries import ROOT, EntryRow
from backup.inventory.entry_versions import no_such_path
from backup.inventory.snapshots import Snapshot
from backup.model import EntryKind, Extra, Owner, Problem, ProblemKind
from backup.restorer.selection.choice import Choice, Sieve
from backup.restorer.selection.chunk_locations import ChunkLocations, read_chunk_locations
from backup.restorer.selection.columns import Entries
from backup.restorer.selection.entry import RestoreEntry, is_step
from backup.restorer.selection.files import Files

ALL = Choice()


@dataclass(slots=True)
class Selection:
    """Everything a restore creates; files are in the order in which they were stored."""

    directories: Entries
    specials: Entries
    files: Files
    locations: ChunkLocations = field(default_factory=ChunkLocations)
    problems: list[Problem] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)  # patterns that matched nothing, as options for a message

    @classmethod
    def of(cls, owners: Mapping[int, Owner]) -> Selection:
        """An empty selection; `owners` by number."""
        return cls(Entries(owners), Entries(owners), Files(owners))

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
    tx: Transaction, snapshot: Snapshot, path: bytes, content_key: bytes, choice: Choice = ALL
) -> Selection:
    """Select the chosen entries at and below the absolute `path` of a snapshot (`b"/"`: everything).

    Directories on the way to chosen entries are included. Below a directory, paths are relative to it; a
    single file keeps its name. `UsageError` if the path does not exist, or a path or glob of the choice
    matches nothing. Unsound records are left out and reported: a name that leads out of the target, a file
    whose chunk list does not match its content id, one whose chunks cannot be found.
    """
    path = path.rstrip(b"/") or ROOT
    top = None if path == ROOT else entries.entry_at(tx, snapshot.job_number, path, snapshot.number)
    if path != ROOT and top is None:
        raise no_such_path(tx, snapshot, path)
    selection = Selection.of(entries.owners_by_number(tx))
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
    return selection


def _take_chosen(
    tx: Transaction, snapshot: Snapshot, base: bytes, choice: Choice, taker: _Taker
) -> list[str]:
    """Add what the choice names to the selection, and of other directories those that lead to it.

    Returns the options that matched nothing; `UsageError` if the selection would be empty.
    """
    taken = False
    for one in choice.paths:
        if entries.entry_at(tx, snapshot.job_number, one, snapshot.number) is None:
            raise no_such_path(tx, snapshot, one)
    sieve = Sieve(choice)
    passed: dict[bytes, tuple[bytes, EntryRow]] = {}
    skip = len(base.rstrip(b"/")) + 1
    for directory, row in rows_below(tx, snapshot, base, choice):
        if choice.is_all or sieve.takes(directory, row):
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
    """A snapshot's rows that a choice's paths can name, with the directories above them, parents first."""
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

    def take(self, directory: bytes, row: EntryRow, *, on_the_way: bool = False) -> None:
        """Add one row to the right part of the selection, or report it."""
        if directory != self._directory:
            self._directory = directory
            self._is_below = not directory or all(map(is_step, directory.split(b"/")))
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
    """The selection without the entries (`kept`, by number) that stay as they are at the target."""
    if not kept:
        return selection
    files = selection.files.only(*_left(selection.files.entries, kept))
    return Selection(
        directories=selection.directories,
        specials=selection.specials.only(*_left(selection.specials, kept)),
        files=files,
        locations=selection.locations.only(set(files.chunks)),
        problems=selection.problems,
        unmet=selection.unmet,
    )


def _left(entries: Entries, kept: Collection[int]) -> tuple[list[int], dict[int, RestoreEntry]]:
    """The keys of entries to restore, and replacements for those of which only some names stay."""
    keys: list[int] = []
    changed: dict[int, RestoreEntry] = {}
    for key, entry in enumerate(entries):
        left = [one for one in entry.names if one.number not in kept]
        if left:
            keys.append(key)
        if left and len(left) <= len(entry.links):
            changed[key] = left[0]._replace(links=tuple(left[1:]))
    return keys, changed


def _find_chunks(tx: Transaction, selection: Selection, content_key: bytes) -> None:
    files = selection.files
    selection.locations = read_chunk_locations(tx, files.chunks)
    damaged = set(_unsound(files, selection.locations, content_key))
    if not damaged:
        return
    for key in sorted(damaged):
        detail = "the inventory's list of its chunks is damaged; not restored"
        selection.problems.append(Problem(files.entries[key].path, ProblemKind.DAMAGED, detail))
    selection.files = files.only([key for key in range(len(files)) if key not in damaged])
    selection.locations = selection.locations.only(
        set(selection.files.chunks)
    )  # nothing is fetched for the others


def _unsound(files: Files, locations: ChunkLocations, content_key: bytes) -> Iterator[int]:
    """Keys of the files whose chunk list does not match their content id."""
    starts, chunks = files.starts, files.chunks
    for key, (extra, size) in enumerate(files.entries.extras_and_sizes):
        start = starts[key]
        if extra or starts[key + 1] - start != 1:
            is_sound = _is_sound(files, key, locations, content_key)
        else:  # one chunk and nothing rare, as most have: the same, without an object for each
            try:
                name, length = locations.name_and_length(chunks[start])
            except KeyError:
                yield key
                continue
            named = content_id_of_chunk(content_key, name, length)
            is_sound = bool(length) and length == size and named == files.content_id(key)
        if not is_sound:
            yield key


def _is_sound(files: Files, key: int, locations: ChunkLocations, content_key: bytes) -> bool:
    try:
        found = [locations[number] for number in files.chunks_of(key)]
    except KeyError:
        return False
    ids, lengths = [location.id for location in found], [location.length for location in found]
    if not all(lengths) or sum(lengths) != files.data_size(key):
        return False
    extra = files.entries.extra_of(key)
    return content_id(content_key, ids, lengths, extra.holes if extra else b"") == files.content_id(key)


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
        one, extra = specials[key], specials.extra_of(key) or Extra()
        groups.setdefault((extra.link, one.kind, extra.target, extra.device), []).append(key)
    if keys_and_joined := _joined(specials, groups.values()):
        selection.specials = specials.only(*keys_and_joined)


def _joined(
    entries: Entries, groups: Iterable[list[int]]
) -> tuple[list[int], dict[int, RestoreEntry]] | None:
    """The keys of all but further names, and the entries that have such; None if there are none."""
    joined: dict[int, RestoreEntry] = {}
    others: set[int] = set()
    for first, *more in groups:
        if more:
            joined[first] = entries[first]._replace(links=tuple(entries[key] for key in more))
            others.update(more)
    return ([key for key in range(len(entries)) if key not in others], joined) if joined else None


def frames_by_archive(locations: ChunkLocations) -> dict[int, set[int]]:
    """The frames that hold those chunks, by archive."""
    frames: dict[int, set[int]] = {}
    for archive, frame in set(locations.frames()):
        frames.setdefault(archive, set()).add(frame)
    return frames
