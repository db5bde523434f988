"""What a restore wants: entries of a snapshot, and for each file where its chunks lie."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from backup.errors import UsageError
from backup.format.catalog import decode_extra, unpack_u32
from backup.format.keys import content_id
from backup.inventory import archives, entries
from backup.inventory.archives import ChunkPlace
from backup.inventory.database import Transaction
from backup.inventory.entries import ROOT, EntryRow
from backup.inventory.snapshots import Snapshot
from backup.model import ContentId, EntryKind, Owner, Problem, ProblemKind
from backup.restorer.write import Wanted


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file and its chunks' numbers, in order."""

    wanted: Wanted
    chunks: array[int]
    content_id: ContentId


@dataclass(slots=True)
class Selection:
    """All that a restore makes; files lie in the order in which they were stored."""

    directories: list[Wanted] = field(default_factory=list)
    specials: list[Wanted] = field(default_factory=list)
    files: list[WantedFile] = field(default_factory=list)
    places: dict[int, ChunkPlace] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.wanted.size for file in self.files)


def select_entries(tx: Transaction, snapshot: Snapshot, path: bytes, content_key: bytes) -> Selection:
    """Everything at and below the absolute `path` of a snapshot (`b"/"`: all of it).

    Below a directory, paths are relative to it; a single file keeps its name. `UsageError` if the path is not
    there. A file whose chunk list does not match its content id, or whose chunks are not to be found, is left
    out and reported.
    """
    owners = entries.owners_by_number(tx)
    selection = Selection()
    path = path.rstrip(b"/") or ROOT
    top = None if path == ROOT else entries.entry_at(tx, snapshot.job_number, path, snapshot.number)
    if path != ROOT and top is None:
        raise UsageError(
            f"snapshot {snapshot.id[:8]} has no {path.decode('utf-8', 'backslashreplace')}",
            advice="`nightvault ls SNAPSHOT` shows what it has",
        )
    if top is not None and top.kind != EntryKind.DIRECTORY:
        _take(selection, b"", top, owners)
    else:
        for directory, row in entries.entries_below(tx, snapshot.job_number, path, snapshot.number):
            _take(selection, directory[len(path) :].strip(b"/"), row, owners)
    _find_chunks(tx, selection, content_key)
    return selection


def _take(selection: Selection, directory: bytes, row: EntryRow, owners: dict[int, Owner]) -> None:
    kind = EntryKind(row.kind)
    wanted = Wanted(
        directory=directory,
        name=row.name,
        kind=kind,
        mode=row.mode,
        owner=owners[row.owner],
        mtime_ns=row.mtime_ns,
        size=row.size,
        extra=decode_extra(row.extra),
    )
    if kind is EntryKind.DIRECTORY:
        selection.directories.append(wanted)
    elif kind is EntryKind.FILE:
        numbers = array("I", unpack_u32(row.chunks or b""))
        selection.files.append(WantedFile(wanted, numbers, ContentId(row.content_id or b"")))
    else:
        selection.specials.append(wanted)


def _find_chunks(tx: Transaction, selection: Selection, content_key: bytes) -> None:
    numbers = {number for file in selection.files for number in file.chunks}
    places = {place.number: place for place in archives.chunk_places(tx, sorted(numbers))}
    selection.places = places
    whole: list[WantedFile] = []
    for file in selection.files:
        if _is_sound(file, places, content_key):
            whole.append(file)
            continue
        detail = "the inventory's list of its chunks is damaged; not restored"
        selection.problems.append(Problem(file.wanted.path, ProblemKind.DAMAGED, detail))
    selection.files = whole


def _is_sound(file: WantedFile, places: dict[int, ChunkPlace], content_key: bytes) -> bool:
    found = [places.get(number) for number in file.chunks]
    known = [place for place in found if place is not None]
    if len(known) != len(found) or sum(place.length for place in known) != file.wanted.size:
        return False
    ids, lengths = [place.id for place in known], [place.length for place in known]
    return content_id(content_key, ids, lengths) == file.content_id


def frames_by_archive(places: Iterable[ChunkPlace]) -> dict[int, set[int]]:
    """The frames that hold those chunks, by archive."""
    wanted: dict[int, set[int]] = {}
    for place in places:
        wanted.setdefault(place.archive, set()).add(place.frame)
    return wanted
