"""Plans a restore: from a snapshot and paths to the ranges to retrieve, by the inventory alone."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import attrgetter

from msgspec import Struct
from msgspec.structs import replace

from backup.errors import FormatError
from backup.files import are_linkable
from backup.format.frame import DIGEST_SIZE, check_frame
from backup.format.pack import parse_header, verify_header
from backup.format.rows import pack_u64
from backup.inventory.content import entries, mounts, packed
from backup.inventory.content.archives import Archive, ArchiveState
from backup.inventory.content.entries import ROOT
from backup.inventory.content.lost import not_stored, sound_locations, twins
from backup.inventory.content.packed import ChunkLocation
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records.retrievals import Retrieval
from backup.inventory.store.connections import Transaction
from backup.inventory.store.states import RetrievalStage
from backup.model import ByteRange, FrameRow
from backup.restorer.context import RestoreContext
from backup.restorer.places import JoinedVaults
from backup.restorer.ranges import RangePlan, plan_ranges
from backup.restorer.selection.choice import Choice, Sieve, is_below
from backup.restorer.selection.chunk_locations import ChunkLocations
from backup.restorer.selection.select import (
    ALL,
    Selection,
    frames_by_archive,
    rows_below,
    select_entries,
    without,
)
from backup.restorer.writer.confirmed import NOTHING, Confirmed
from backup.restorer.writer.directories import target_errors
from backup.restorer.writer.existing import Existing, compare
from backup.restorer.writer.extraneous import ExtraneousFinder, paths_at, places_of, spared_below
from backup.safe_paths import Way
from backup.wording import shown_path


class AskedFrames:
    """The frames within a restore's retrievals, except failed ones."""

    def __init__(self, tx: Transaction, known: Sequence[Retrieval]) -> None:
        self._tx = tx
        self._extents: dict[int, list[ByteRange]] = {}
        for retrieval in known:
            if retrieval.state is not RetrievalStage.FAILED:
                self._extents.setdefault(retrieval.archive, []).append(retrieval.extent)
        self.failed = {
            retrieval.archive for retrieval in known if retrieval.state is RetrievalStage.FAILED
        } - self._extents.keys()
        self._held: dict[int, set[int]] = {}

    @property
    def archives(self) -> frozenset[int]:
        """The archives of which something was requested, in any state."""
        return frozenset(self._extents) | self.failed

    def hold(self, place: ChunkLocation) -> bool:
        """Whether the frame of a chunk is among them."""
        if place.archive not in self._held:
            extents = self._extents.get(place.archive, ())
            rows = packed.frame_rows(self._tx, place.archive) if extents else ()
            self._held[place.archive] = {
                row.number
                for row in rows
                for span in extents
                if span.start <= row.offset and row.offset + row.sealed_length <= span.end
            }
        return place.frame in self._held[place.archive]


_NOT_THERE = {ArchiveState.LOST, ArchiveState.DELETING, ArchiveState.DELETED}


class RestorePlan(Struct, frozen=True):
    """The plan of a restore: ranges to retrieve and bytes to write. Nothing is requested yet.

    `archives` are those to read from; `lost` are those that cannot be read, and why: their files are
    reported. `left_alone` are sentences about entries at the target that stay, perhaps unexpectedly.
    """

    snapshot: Snapshot
    path: bytes
    selection: Selection
    ranges: Sequence[RangePlan]
    archives: Mapping[int, Archive]
    lost: Mapping[int, str]
    whole: bool = False
    choice: Choice = ALL
    confirmed: Confirmed = NOTHING
    left_alone: Sequence[str] = ()

    @property
    def retrieved(self) -> int:
        """The bytes that the vault would have to make readable."""
        return sum(plan.extent.length for plan in self.ranges)

    def is_for(self, snapshot: Snapshot, path: bytes, choice: Choice, confirmed: Confirmed) -> bool:
        """Whether it is the plan for these arguments."""
        ours = (self.snapshot.id, self.path, self.choice, self.confirmed)
        return ours == (snapshot.id, path.rstrip(b"/") or ROOT, choice, confirmed)

    def laid(self, gap: int) -> RestorePlan:
        """Return the plan for a vault and tier in which a request costs as much as `gap` bytes.

        For a vault that only retrieves whole archives it has whole archives.
        """
        ranges: list[RangePlan] = []
        for number, of_archive in groupby(self.ranges, key=attrgetter("archive")):
            size, rows = self.archives[number].size, chain.from_iterable(plan.frames for plan in of_archive)
            ranges.extend(plan_ranges(number, size, rows, whole=self.whole, gap=gap))
        return replace(self, ranges=ranges)


def plan_restore(
    snapshot: Snapshot,
    path: bytes,
    context: RestoreContext,
    choice: Choice = ALL,
    *,
    target: Way | None = None,
    confirmed: Confirmed | None = None,
    known: Sequence[Retrieval] = (),
) -> RestorePlan:
    """Plan from the inventory alone; touches nothing. `UsageError` if the snapshot has no such path.

    With a `target`, its existing entries are compared by the choice; `confirmed` is an earlier comparison.
    With the `known` retrievals of an open restore, only what they bring is planned.
    """
    path = path.rstrip(b"/") or ROOT
    with context.inventory.reading() as tx:
        selection = select_entries(
            tx, snapshot, path, context.secret.content_key, choice, scratch=context.scratch
        )
        left_alone: Sequence[str] = ()
        if confirmed is None:
            confirmed, left_alone = NOTHING, ()
            if target is not None and target.exists:
                confirmed, left_alone = _look_at_target(
                    tx, snapshot, path, selection, choice, target, context
                )
        selection = without(selection, confirmed.kept)
        places = selection.locations
        asked = AskedFrames(tx, known)
        places.move(_better(tx, places, asked if known else None))
        if context.joined is not None:
            places.move(_from_copies(tx, places, context, context.joined, asked if known else None))
        wanted = frames_by_archive(places)
        found = context.archives(tx, wanted)
        whole = not context.vault.traits.retrieves_ranges
        lost: dict[int, str] = {}
        ranges: list[RangePlan] = []
        for number, frames in sorted(wanted.items()):
            archive = found.get(number)
            why = _why_lost(archive, context.inventory.signer_public, is_asked=number in asked.archives)
            if archive is None or why:
                lost[number] = why
                continue
            rows = _sound_frames(tx, archive, frames)
            ranges.extend(plan_ranges(number, archive.size, rows, whole=whole))
    readable = {number: archive for number, archive in found.items() if number not in lost}
    return RestorePlan(
        snapshot, path, selection, ranges, readable, lost, whole, choice, confirmed, left_alone
    )


def _better(tx: Transaction, places: ChunkLocations, asked: AskedFrames | None) -> Iterable[ChunkLocation]:
    """Return other locations of chunks in unavailable archives; of an open restore, within its retrievals."""
    held_by = frames_by_archive(places)
    if asked is None:
        return sound_locations(tx, held_by, places)
    return sound_locations(tx, held_by, places, gone=asked.failed, may_be=asked.hold)


def _from_copies(
    tx: Transaction,
    places: ChunkLocations,
    context: RestoreContext,
    joined: JoinedVaults,
    asked: AskedFrames | None,
) -> Iterator[ChunkLocation]:
    """Locations in archives that some vault has, of chunks in archives that none has any more.

    Of an open restore: of all chunks that none of its retrievals brings from where they would be read now.
    """

    def sound(numbers: Collection[int]) -> set[int]:
        some = {n for n, archive in context.archives(tx, numbers).items() if joined.is_sound(archive)}
        return some if asked is None else some & asked.archives - asked.failed

    held_by = set(frames_by_archive(places))
    gone = held_by - sound(held_by)
    if asked is None:
        lie_in = [place for place in places.values() if place.archive in gone] if gone else []
        return twins(tx, lie_in, sound)
    doubted = gone | not_stored(tx, held_by)  # in place of which another one may have been chosen
    lie_in = [
        place
        for place in (places.values() if doubted else ())
        if place.archive in gone or (place.archive in doubted and not asked.hold(place))
    ]
    return twins(tx, lie_in, sound, may_be=asked.hold)


def _is_empty(directory: int) -> bool:
    """Whether nothing is in an open directory."""
    with os.scandir(directory) as found:
        return next(found, None) is None


def _look_at_target(
    tx: Transaction,
    snapshot: Snapshot,
    base: bytes,
    selection: Selection,
    choice: Choice,
    target: Way,
    context: RestoreContext,
) -> tuple[Confirmed, Sequence[str]]:
    """The entries at the target that stay, are replaced, and go; what is left alone, in sentences."""
    with target_errors(target.path):
        handle = target.open()
    existing = Existing(handle)
    try:
        if _is_empty(handle):
            return NOTHING, ()
        path = os.fsencode(target.path)
        return _compared(tx, snapshot, base, selection, choice, existing, path, context)
    finally:
        existing.close()
        os.close(handle)


def _compared(
    tx: Transaction,
    snapshot: Snapshot,
    base: bytes,
    selection: Selection,
    choice: Choice,
    existing: Existing,
    top: bytes,
    context: RestoreContext,
) -> tuple[Confirmed, Sequence[str]]:
    places = (context.inventory.lock_directory, *context.spared)
    own = places_of(places)
    spared = {*spared_below(base, top, places), *paths_at(existing, base, selection.directories, own)}
    spared = {path for path in spared if not any(path != other and is_below(path, other) for other in spared)}
    ours = _numbers_at(tx, snapshot, sorted(spared))
    left_alone = [f"{shown_path(path)} is left as it is: nightvault itself uses it" for path in ours]
    stays = frozenset(chain.from_iterable(ours.values()))
    found = compare(existing, without(selection, stays), choice, context.secret.chunk_key)
    left_alone += found.left_alone
    away = _unmounted(tx, snapshot, base, selection) if top == base else []
    left_alone += (
        f"{shown_path(path)} was a mount point when it was saved, and nothing is mounted there now: what is "
        "restored goes to the file system around it" + (", and --delete leaves it alone" * choice.delete)
        for path in away
    )
    confirmed = Confirmed(found.kept | stays, found.replaced)
    if not choice.delete:
        return confirmed, left_alone
    finder = ExtraneousFinder(
        existing,
        base,
        _chosen(selection, base, choice),
        snapshot,
        Sieve(choice),
        (*spared, *away),
        _entered_mounts(tx, snapshot, base),
        own,
    )
    listed = list(finder.find(rows_below(tx, snapshot, base, choice)))
    is_settled = not listed or selection.problems  # with problems the session removes nothing
    if why := "" if is_settled else _why_none_goes(tx, snapshot, finder):
        return confirmed, [*left_alone, why]
    left_alone += (
        f"--delete leaves {shown_path(path)} alone: another file system is mounted there; "
        "to judge it, too, restore it alone, with --target"
        for path in (os.path.join(top, path) for path in finder.left)
    )
    left_alone += (
        f"--delete leaves alone what lies too deep, in {shown_path(path)}: by a path of more than 4,096 bytes"
        for path in (os.path.join(top, path) for path in finder.too_deep)
    )
    paths, inodes = (
        tuple(entry.path for entry in listed),
        chain.from_iterable(entry.identity for entry in listed),
    )
    crossed = tuple(finder.crossed)
    return replace(confirmed, extraneous=paths, crossed=crossed, inodes=pack_u64(inodes)), left_alone


def _why_none_goes(tx: Transaction, snapshot: Snapshot, finder: ExtraneousFinder) -> str:
    """Why nothing is removed although the snapshot seems not to have it; empty if it is to be believed.

    What its inventory lacks, the snapshot may hold all the same.
    """
    count = entries.count_names(tx, snapshot.job_number, snapshot.number)
    if count != snapshot.files:
        told = f"{count:,} of its entries, and it was made with {snapshot.files:,}"
    elif finder.homeless is not None:
        told = f"what is in its directory {shown_path(finder.homeless)}, and not that directory"
    else:
        return ""
    return (
        f"--delete removes nothing: of snapshot {snapshot.id[:8]} the inventory has {told}; "
        "`nightvault check --inventory` looks for what is wrong, `nightvault rebuild` makes it anew"
    )


def _chosen(selection: Selection, base: bytes, choice: Choice) -> Iterator[bytes]:
    """The directories of which everything was chosen, as the snapshot has them."""
    stem = base.rstrip(b"/") + b"/"
    yield from (stem + entry.path for entry in selection.directories if not entry.on_the_way)
    if not (choice.paths or choice.globs or choice.include):
        yield base


def _numbers_at(
    tx: Transaction, snapshot: Snapshot, paths: Iterable[bytes]
) -> Mapping[bytes, Collection[int]]:
    """Numbers of a snapshot's entries at and below each of these paths, if it has any there."""
    found: dict[bytes, set[int]] = {}
    for path in paths:
        job, number = snapshot.job_number, snapshot.number
        top = entries.entry_at(tx, job, path, number) if path != ROOT else None
        numbers = {row.number for _, row in entries.entries_below(tx, job, path, number)}
        if top is not None:
            numbers.add(top.number)
        if numbers:
            found[path] = numbers
    return found


def _entered_mounts(tx: Transaction, snapshot: Snapshot, base: bytes) -> Collection[bytes]:
    """Mount points below a directory, as the newest backup knows them, in which the snapshot has entries."""
    job, number = snapshot.job_number, snapshot.number
    points = mounts.mount_points_below(tx, job=job, path=base)
    return {path for path in points if next(entries.entries_below(tx, job, path, number), None) is not None}


def _unmounted(tx: Transaction, snapshot: Snapshot, base: bytes, selection: Selection) -> list[bytes]:
    """Mount points of the snapshot on which nothing is mounted now, and where something would be written."""
    points = [
        mount
        for mount in _entered_mounts(tx, snapshot, ROOT)
        if is_below(mount, base) or is_below(base, mount)
    ]
    if not points:
        return []
    stem = base.rstrip(b"/") + b"/"
    written = {stem + entry.path for entry in selection.directories}
    return [
        mount
        for mount in sorted(points)
        if (mount in written or is_below(base, mount))
        and (
            not os.path.isdir(mount) or are_linkable(os.fsdecode(mount), os.fsdecode(os.path.dirname(mount)))
        )
    ]


def _why_lost(archive: Archive | None, signer_public: bytes, *, is_asked: bool) -> str:
    if archive is None:
        return "the inventory does not know its archive"
    if archive.archive_id is None or (archive.state in _NOT_THERE and not is_asked):
        return f"its archive {archive.number} is not in the vault ({archive.state})"
    try:
        verify_header(parse_header(archive.header), signer_public)
    except FormatError as error:
        return f"its archive {archive.number} is not one of ours: {error}"
    return ""


def _sound_frames(tx: Transaction, archive: Archive, wanted: Collection[int]) -> list[FrameRow]:
    """The wanted frames whose rows can be true; the files of the others are found wanting at the end."""
    return [
        row
        for row in packed.frame_rows(tx, archive.number)
        if row.number in wanted and _is_sound(row, archive.size)
    ]


def _is_sound(row: FrameRow, size: int) -> bool:
    try:
        check_frame(row)
    except FormatError:
        return False
    is_named = isinstance(row.digest, bytes) and len(row.digest) == DIGEST_SIZE
    return is_named and row.offset + row.sealed_length <= size
