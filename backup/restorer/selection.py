"""What a restore wants: entries of a snapshot, and for each file where its chunks lie.

All of it is held in memory: about 2 KB for each file of one chunk, with what is made of it later.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from backup.errors import FormatError, UsageError
from backup.format.catalog import decode_extra
from backup.format.holes import Layout
from backup.format.keys import content_id
from backup.format.rows import unpack_u32
from backup.inventory import entries, packed
from backup.inventory.database import Transaction
from backup.inventory.entries import ROOT, EntryRow
from backup.inventory.looking import no_such_path
from backup.inventory.packed import ChunkPlace
from backup.inventory.snapshots import Snapshot
from backup.model import ContentId, EntryKind, Extra, Owner, Problem, ProblemKind
from backup.restorer.choice import Choice, Sieve
from backup.restorer.target import is_step
from backup.restorer.wanted import Wanted

ALL = Choice()


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file, its chunks' numbers in order, and where their bytes belong."""

    wanted: Wanted
    chunks: array[int]
    content_id: ContentId
    layout: Layout | None  # None: no holes

    @property
    def data_size(self) -> int:
        """Bytes of its chunks."""
        return self.wanted.size if self.layout is None else self.layout.data_size


@dataclass(slots=True)
class Selection:
    """All that a restore makes; files lie in the order in which they were stored."""

    directories: list[Wanted] = field(default_factory=list)
    specials: list[Wanted] = field(default_factory=list)
    files: list[WantedFile] = field(default_factory=list)
    places: dict[int, ChunkPlace] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def names(self) -> int:
        """How many names of files and special files it makes: a hard link is one more."""
        wanted = (*self.specials, *(file.wanted for file in self.files))
        return sum(1 + len(one.links) for one in wanted)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.wanted.size for file in self.files)

    @property
    def data_bytes(self) -> int:
        """Bytes of all files but their holes: what comes from the vault and is written."""
        return sum(file.data_size for file in self.files)


def select_entries(
    tx: Transaction, snapshot: Snapshot, path: bytes, content_key: bytes, choice: Choice = ALL
) -> Selection:
    """What is chosen at and below the absolute `path` of a snapshot (`b"/"`: all of it).

    Directories on the way to what is chosen come with it. Below a directory, paths are relative to it; a
    single file keeps its name. `UsageError` if the path is not there, or a path or glob of the choice names
    nothing. What the inventory does not describe soundly is left out and reported: a name that leads out of
    the target, a file whose chunk list does not match its content id, one whose chunks are not to be found.
    """
    path = path.rstrip(b"/") or ROOT
    top = None if path == ROOT else entries.entry_at(tx, snapshot.job_number, path, snapshot.number)
    if path != ROOT and top is None:
        raise no_such_path(tx, snapshot, path)
    selection = Selection()
    taker = _Taker(selection, entries.owners_by_number(tx))
    if top is not None and top.kind != EntryKind.DIRECTORY:
        if choice.paths or choice.globs:
            raise UsageError("a single file holds no further paths", advice="name its directory before them")
        taker.take(b"", top)
    else:
        _take_chosen(tx, snapshot, path, choice, taker)
    _find_chunks(tx, selection, content_key)
    selection.files = _joined_files(selection.files)
    selection.specials = _joined(selection.specials)
    return selection


def _take_chosen(tx: Transaction, snapshot: Snapshot, base: bytes, choice: Choice, taker: _Taker) -> None:
    """Take what the choice names; of the directories that it does not, those on the way to what it names."""
    for one in choice.paths:
        if entries.entry_at(tx, snapshot.job_number, one, snapshot.number) is None:
            raise no_such_path(tx, snapshot, one)
    sieve = Sieve(choice)
    passed: dict[bytes, tuple[bytes, EntryRow]] = {}
    skip = len(base.rstrip(b"/")) + 1
    for directory, row in rows_below(tx, snapshot, base, choice):
        if choice.is_all or sieve.takes(directory, row):
            for place, above in _way_to(directory, passed):
                taker.take(place[skip:], above, on_the_way=True)
            taker.take(directory[skip:], row)
        elif row.kind == EntryKind.DIRECTORY:
            passed[directory.rstrip(b"/") + b"/" + row.name] = (directory, row)
    for unmet in sieve.unmet:
        raise UsageError(
            f"nothing in snapshot {snapshot.id[:8]} is called {choice.globs[unmet]!r}",
            advice=f"`nightvault find --snapshot {snapshot.id[:8]} '*PART OF A NAME*'` looks for it",
        )


def _way_to(directory: bytes, passed: dict[bytes, tuple[bytes, EntryRow]]) -> list[tuple[bytes, EntryRow]]:
    """The directories above an entry that were passed by so far, from the top; they are passed no more."""
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
    place = base
    for step in stem[len(base.rstrip(b"/")) :].strip(b"/").split(b"/"):
        here = place.rstrip(b"/") + b"/" + step
        row = entries.entry_at(tx, snapshot.job_number, here, snapshot.number) if step else None
        if row is None:
            break
        yield place, row
        place = here
    yield from entries.entries_below(tx, snapshot.job_number, stem, snapshot.number)


class _Taker:
    """Sorts rows into a selection; a directory's path is checked and kept once for all that is in it."""

    def __init__(self, selection: Selection, owners: Mapping[int, Owner]) -> None:
        self._selection = selection
        self._owners = owners
        self._directory = b""
        self._is_below = True

    def take(self, directory: bytes, row: EntryRow, *, on_the_way: bool = False) -> None:
        """Put one row where it belongs, or report it."""
        if directory != self._directory:
            self._directory = directory
            self._is_below = all(map(is_step, directory.split(b"/")))
        path = directory + b"/" + row.name if directory else row.name
        if not self._is_below or not is_step(row.name):
            self._refuse(path, "its name leads out of the target")
            return
        try:
            self._sort(row, on_the_way=on_the_way)
        except (FormatError, LookupError, ValueError, TypeError, OverflowError):
            self._refuse(path, "its row in the inventory is damaged")

    def _sort(self, row: EntryRow, *, on_the_way: bool) -> None:
        kind = EntryKind(row.kind)
        wanted = Wanted(
            directory=self._directory,
            name=row.name,
            kind=kind,
            mode=row.mode,
            owner=self._owners[row.owner],
            mtime_ns=row.mtime_ns,
            size=row.size,
            extra=decode_extra(row.extra),
            number=row.number,
            on_the_way=on_the_way,
        )
        if kind is EntryKind.DIRECTORY:
            self._selection.directories.append(wanted)
        elif kind is EntryKind.FILE:
            numbers = array("I", unpack_u32(row.chunks or b""))
            layout = Layout(wanted.holes, wanted.size) if wanted.holes else None
            named = ContentId(row.content_id or b"")
            self._selection.files.append(WantedFile(wanted, numbers, named, layout))
        else:
            self._selection.specials.append(wanted)

    def _refuse(self, path: bytes, why: str) -> None:
        self._selection.problems.append(Problem(path, ProblemKind.DAMAGED, f"{why}; not restored"))


def without(selection: Selection, kept: Collection[int]) -> Selection:
    """The selection without the entries that stay as they are at the target, by their numbers."""
    if not kept:
        return selection
    files = [
        replace(file, wanted=left)
        for file in selection.files
        if (left := _left(file.wanted, kept)) is not None
    ]
    used = {number for file in files for number in file.chunks}
    return Selection(
        directories=selection.directories,
        specials=[left for one in selection.specials if (left := _left(one, kept)) is not None],
        files=files,
        places={number: selection.places[number] for number in used},
        problems=selection.problems,
    )


def _left(wanted: Wanted, kept: Collection[int]) -> Wanted | None:
    """An entry without the names that stay; None if all do."""
    left = [one for one in wanted.names if one.number not in kept]
    return replace(left[0], links=tuple(left[1:])) if left else None


def _find_chunks(tx: Transaction, selection: Selection, content_key: bytes) -> None:
    numbers = {number for file in selection.files for number in file.chunks}
    places = {place.number: place for place in packed.chunk_places(tx, sorted(numbers))}
    whole: list[WantedFile] = []
    used: set[int] = set()
    for file in selection.files:
        if _is_sound(file, places, content_key):
            whole.append(file)
            used.update(file.chunks)
            continue
        detail = "the inventory's list of its chunks is damaged; not restored"
        selection.problems.append(Problem(file.wanted.path, ProblemKind.DAMAGED, detail))
    selection.files = whole
    selection.places = {number: places[number] for number in used}  # nothing is fetched for the others


def _is_sound(file: WantedFile, places: Mapping[int, ChunkPlace], content_key: bytes) -> bool:
    found = [places.get(number) for number in file.chunks]
    known = [place for place in found if place is not None]
    if len(known) != len(found) or sum(place.length for place in known) != file.data_size:
        return False
    ids, lengths = [place.id for place in known], [place.length for place in known]
    named = content_id(content_key, ids, lengths, file.wanted.holes)
    return all(length > 0 for length in lengths) and named == file.content_id


def _joined_files(files: list[WantedFile]) -> list[WantedFile]:
    """Files with their hard links in one; what was read while it changed, and differs, stays apart."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, file in enumerate(files):
        link = file.wanted.extra.link if file.wanted.extra else 0
        if link:
            groups.setdefault((link, file.content_id, file.wanted.size), []).append(place)
    others: set[int] = set()
    for first, *more in groups.values():
        if more:
            links = tuple(files[place].wanted for place in more)
            files[first] = replace(files[first], wanted=replace(files[first].wanted, links=links))
            others.update(more)
    return [file for place, file in enumerate(files) if place not in others] if others else files


def _joined(specials: list[Wanted]) -> list[Wanted]:
    groups: dict[object, list[Wanted]] = {}
    for one in specials:
        extra = one.extra or Extra()
        key = (extra.link, one.kind, extra.target, extra.device) if extra.link else id(one)
        groups.setdefault(key, []).append(one)
    return [replace(first, links=tuple(more)) if more else first for first, *more in groups.values()]


def frames_by_archive(places: Iterable[ChunkPlace]) -> dict[int, set[int]]:
    """The frames that hold those chunks, by archive."""
    wanted: dict[int, set[int]] = {}
    for place in places:
        wanted.setdefault(place.archive, set()).add(place.frame)
    return wanted
