"""Both inventories of a rebuild drill as streams: the records of a full catalog, by the writer of those."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, Final

from msgspec import Struct

from backup.catalogs import catalogs
from backup.errors import FormatError, InventoryDamagedError
from backup.format import records
from backup.format.rows import FRAME_ROW_SIZE
from backup.inventory.content import packed
from backup.inventory.rebuilt import drill_queries
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.model import ChunkRow, FrameRow, VaultName
from backup.rebuilder.findings import shown_bytes

NUMBER, DIRECTORY, NAME, OWNER, ADDED, REMOVED = (
    records.EntryRecord.__struct_fields__.index(name) + 1
    for name in ("number", "directory", "name", "owner", "added_in", "removed_in")
)
"""Fields of an entry in a stream: a tuple that begins with its kind."""
PLACE: Final = itemgetter(DIRECTORY, NAME, ADDED)
"""By these the entries of a stream come in order; no two have the same."""
_OVER: Final[tuple[Any, Any]] = (None, None)
ACCEPTED: Final = (None, "usual_from")
"""Where `marks_in` has the number of the snapshot that was accepted last."""


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """A context in which a row that no record can be made of is damage."""
    try:
        yield
    except (FormatError, ValueError, OverflowError) as error:
        raise InventoryDamagedError(
            f"the inventory {path} cannot be compared: {error}",
            advice="`nightvault inventory verify` says more",
        ) from error


class Side(Struct, frozen=True):
    """One of both inventories, in one transaction, with its jobs and archives (by pack id)."""

    inventory: Inventory
    tx: Transaction
    jobs: Sequence[JobRow]
    archives: Sequence[int]

    @classmethod
    def of(cls, inventory: Inventory, tx: Transaction, vault: VaultName | None = None) -> Side:
        """An inventory as it is compared: all of it, or what it has of one vault."""
        found = drill_queries.jobs_of(tx, vault), drill_queries.archives_by_pack(tx, vault)
        return cls(inventory, tx, *found)

    def stream(self, job: JobRow, *, with_archives: bool) -> Records:
        """The records of a full catalog of the job; archives, of which all jobs know, are in one stream."""
        with _readable(self.inventory.connections.path):
            told = catalogs.snapshot_records(self.tx, job, set(self.archives))
        snapshots = sorted(record.number for record in told if isinstance(record, records.SnapshotRecord))
        return Records(self._written(job, told, self.archives if with_archives else ()), snapshots)

    def _written(self, job: JobRow, told: Sequence[records.Record], names: Sequence[int]) -> Iterator[Any]:
        with _readable(self.inventory.connections.path):
            yield catalogs.start_record(self.inventory, job)
            yield from catalogs.state_records(self.tx, self.inventory, job.number, names, told)


class Records:
    """A stream of records, taken kind by kind, each kind to its end; and the numbers of its snapshots."""

    def __init__(self, stream: Iterator[Any], snapshots: Sequence[int]) -> None:
        self.snapshots = snapshots
        self._stream = stream
        self._next = next(stream, None)

    def take(self, *kinds: type) -> Iterator[Any]:
        """The next records, as long as they are of these kinds."""
        record = self._next
        while type(record) in kinds:
            yield record
            record = next(self._stream, None)
        self._next = record

    def require_end(self) -> None:
        """`RuntimeError` if a record is left, which nothing has compared."""
        if self._next is not None:
            raise RuntimeError(f"{type(self._next).__name__} is compared by nothing")

    def packs(self) -> Iterator[list[Any]]:
        """The archives: each one's record, and those of its frames and chunks."""
        pack: list[Any] = []
        for record in self.take(records.ArchiveRecord, records.FramesRecord, records.ChunksRecord):
            if isinstance(record, records.ArchiveRecord):
                if pack:
                    yield pack
                pack = [record]
            elif pack and record.archive == pack[0].number:
                pack.append(record)
        if pack:
            yield pack


def merged(here: Iterator[Any], there: Iterator[Any], key: Callable[[Any], Any]) -> Iterator[tuple[Any, Any]]:
    """Pairs of two streams that are in the order of `key`; None where one side lacks it."""
    ours, theirs = _in_order(here, key), _in_order(there, key)
    at, one = next(ours, _OVER)
    other_at, other = next(theirs, _OVER)
    while one is not None or other is not None:
        if other is None or (one is not None and at < other_at):
            yield one, None
            at, one = next(ours, _OVER)
        elif one is None or other_at < at:
            yield None, other
            other_at, other = next(theirs, _OVER)
        else:
            yield one, other
            at, one = next(ours, _OVER)
            other_at, other = next(theirs, _OVER)


def _in_order(stream: Iterator[Any], key: Callable[[Any], Any]) -> Iterator[tuple[Any, Any]]:
    """Each value after its key. `RuntimeError` if a key is not above the last: pairs would be wrong."""
    last = None
    for value in stream:
        this = key(value)
        if last is not None and not last < this:
            raise RuntimeError(f"{this!r} comes after {last!r}: these records are in no order")
        yield this, value
        last = this


def matched(here: Iterable[Any], there: Iterable[Any], key: str) -> Iterator[tuple[Any, Any]]:
    """Same as `merged`, for few values in any order, by a field."""
    left = {getattr(value, key): value for value in there}
    for value in here:
        yield value, left.pop(getattr(value, key), None)
    for value in left.values():
        yield None, value


class PackRows(Struct, frozen=True):
    """Rows that lie in an archive: their records, the size of one in the first field, how they are loaded."""

    table: str
    record: type[records.FramesRecord | records.ChunksRecord]
    size: int
    fields: Sequence[str]
    load: Callable[[Transaction, int], dict[int, Any]]
    shown: str


PACK_ROWS: Final = (
    PackRows(
        *("frames", records.FramesRecord, FRAME_ROW_SIZE, FrameRow._fields),
        lambda tx, archive: {row.number: row for row in packed.frame_rows(tx, archive)},
        "frame {} of archive {}",
    ),
    PackRows(
        *("chunks", records.ChunksRecord, 4, ChunkRow._fields),
        lambda tx, archive: dict(zip(*packed.chunks_of(tx, archive), strict=True)),
        "chunk {}",
    ),
)


def path_of(side: Side, entry: Sequence[Any]) -> str:
    """The path of an entry, for an example."""
    return shown_bytes(drill_queries.path_of_directory(side.tx, entry[DIRECTORY]) + b"/" + entry[NAME])


def is_held(entry: Sequence[Any], snapshots: Sequence[int]) -> bool:
    """Whether one of these snapshots (numbers in order) has the entry."""
    at, removed = bisect_left(snapshots, entry[ADDED]), entry[REMOVED]
    return at < len(snapshots) and (removed is None or snapshots[at] < removed)


def marks_in(told: Sequence[Any]) -> dict[tuple[int | None, str], Any]:
    """The marks in records: by snapshot and column; and which snapshot was accepted last."""
    found: dict[tuple[int | None, str], Any] = {}
    for record in told:
        if isinstance(record, records.ForgottenRecord):
            found.update({(number, "forgotten_at"): record.at for number in record.snapshots})
        elif isinstance(record, records.MarksRecord):
            found[record.snapshot, "tags"] = record.tags or None
            found[record.snapshot, "pin_note"] = record.note if record.pinned else None
            found[record.snapshot, "pin_until"] = record.until
        elif isinstance(record, records.ShrunkRecord):
            column = ACCEPTED if record.accepted else (record.snapshot, "shrunk")
            found[column] = record.snapshot if record.accepted else record.lost
    return found
