"""Encodes inventory changes as a stream of records, and decodes them, in constant memory.

A catalog is Start, then records in the writer's order, then End. `Bodies` adds End itself and cuts
the stream into frame bodies; `unpack_records` gives the records between and refuses a stream that is cut
short. A record kind below 128 must be understood, one from 128 on may be skipped; fields are only ever
added at the end of a record, and a reader ignores those it does not know.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from typing import Any, Final

import msgspec

from backup.errors import FormatError, NewerFormatError
from backup.format.content import Content, SignedContent
from backup.format.frame import FRAME_SIZE
from backup.format.records import (
    ENTRY,
    FIRST_OPTIONAL_KIND,
    LAST_KNOWN_KIND,
    ArchiveRecord,
    ChainRecord,
    ChunksRecord,
    ClosedRecord,
    CondemnedRecord,
    DirectoryRecord,
    DomainRecord,
    DroppedRecord,
    DumpRecord,
    End,
    EntryRecord,
    ExtraRecord,
    ForgottenRecord,
    Fragment,
    FramesRecord,
    MarksRecord,
    MountsRecord,
    OwnerRecord,
    Record,
    RetiredRecord,
    Secrets,
    ShrunkRecord,
    SnapshotRecord,
    Start,
    TakenBackRecord,
    TakenUpRecord,
    VaultRecord,
    VerifiedRecord,
)
from backup.format.rows import (
    pack_chunks,
    pack_frames,
    pack_u32,
    pack_u64,
    unpack_chunks,
    unpack_frames,
    unpack_u32,
    unpack_u64,
)
from backup.model import ChunkRow, Extra, FrameRow

__all__ = [
    "ENTRY", "FORMAT", "MARKING", "ArchiveRecord", "Bodies", "ChainRecord", "ChunksRecord",
    "ClosedRecord", "CondemnedRecord", "DirectoryRecord", "DomainRecord", "DroppedRecord", "DumpRecord",
    "End",
    "EntryRecord", "ForgottenRecord", "FramesRecord", "MarksRecord", "MountsRecord", "OwnerRecord",
    "Record", "RetiredRecord", "Secrets", "ShrunkRecord", "SnapshotRecord", "Start",
    "TakenBackRecord", "TakenUpRecord", "VaultRecord", "VerifiedRecord", "decode_extra",
    "decode_record", "encode_extra", "encode_record", "pack_chunks", "pack_frames",
    "pack_records", "pack_u32", "pack_u64", "split_chunks", "split_frames",
    "unpack_chunks", "unpack_frames", "unpack_records", "unpack_u32", "unpack_u64",
]  # fmt: skip

FORMAT = 1
LARGEST_RECORD = FRAME_SIZE - 4
LARGEST_JOINED = 64 * FRAME_SIZE
_ROWS_A_RECORD = 2**15
_MOST_FRAGMENTS = 128
_ENTRIES_AT_ONCE = 512
_FIRST_EXTRAS = 5  # fields of the first version of format 1: always written
_LENGTH = struct.Struct("<I")
# msgspec's own errors are ValueErrors, and so is bad UTF-8, which it does not wrap.
_UNREADABLE: Final = (ValueError, OverflowError, RecursionError)

_RECORDS: Final = msgspec.msgpack.Decoder(Record | Fragment | End)
_EXTRA: Final = msgspec.msgpack.Decoder(ExtraRecord)
_PIECES: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_KIND: Final = msgspec.msgpack.Decoder(int)
_ENCODER: Final = msgspec.msgpack.Encoder()


class Bodies:
    """Frame bodies of at most 4 MiB, filled as records come: first a Start, and an End after the last.

    A record lies in one body; one that is too large for that goes as fragments. FormatError when a value
    does not fit its field. With a `content` the End carries its signature.
    """

    def __init__(self, content: Content | None = None, most: int | None = None) -> None:
        """A body has at most `most` bytes (4 MiB), or one larger record."""
        self._most = most or FRAME_SIZE
        self._body = bytearray()
        self._count = 0
        self._content = content

    def add(self, records: Iterable[Record | tuple[Any, ...]]) -> Iterator[bytes]:
        """Add records; yields the bodies that are full by then."""
        for kind, of_kind in groupby(records, type):
            if kind is tuple:
                yield from self._take_entries(of_kind)
                continue
            for record in of_kind:
                if isinstance(record, tuple):
                    raise FormatError("only an entry may be written as a tuple")
                _check_start(record, is_first=not self._count)
                yield from self._take(_encode(record), kind.__name__)

    def end(self) -> Iterator[bytes]:
        """The last bodies."""
        if not self._count:
            raise FormatError("a catalog needs at least its Start")
        end = End(self._count)
        if self._content is not None:
            self._content.update(self._body)
            end = End(self._count, self._content.sign())
            self._content = None
        yield from self._put(_ENCODER.encode(end))
        yield bytes(self._body)

    def _take_entries(self, entries: Iterable[Any]) -> Iterator[bytes]:
        """Take entries, of which there are very many, some hundred at once: that halves the time."""
        if not self._count:
            raise FormatError("no catalog begins with an entry: its Start is lacking")
        encoded = map(_encode_entry, entries)
        while some := list(islice(encoded, _ENTRIES_AT_ONCE)):
            joined = b"".join(chain.from_iterable(zip(map(_LENGTH.pack, map(len, some)), some, strict=True)))
            if len(self._body) + len(joined) <= self._most:
                self._body += joined
                self._count += len(some)
                continue
            for piece in some:
                yield from self._take(piece, "EntryRecord")

    def _take(self, record: bytes, kind: str) -> Iterator[bytes]:
        pieces = [record] if len(record) <= LARGEST_RECORD else _fragment(record, kind)
        for piece in pieces:
            yield from self._put(piece)

    def _put(self, piece: bytes) -> Iterator[bytes]:
        if self._body and len(self._body) + 4 + len(piece) > self._most:
            if self._content is not None:
                self._content.update(self._body)
            yield bytes(self._body)
            self._body.clear()
        self._body += _LENGTH.pack(len(piece))
        self._body += piece
        self._count += 1


def pack_records(records: Iterable[Record | tuple[Any, ...]]) -> Iterator[bytes]:
    """The frame bodies of a catalog of these records, as `Bodies` makes them."""
    bodies = Bodies()
    yield from bodies.add(records)
    yield from bodies.end()


def unpack_records(
    bodies: Iterable[bytes | memoryview], content: SignedContent | None = None
) -> Iterator[Record]:
    """The records of a catalog's frame bodies, without the End, as they come.

    FormatError when they are damaged, stop without the End or are not the `content` that was signed: a caller
    must have seen the iterator's end before it believes any of them. NewerFormatError for a record of an
    unknown kind that must be understood.
    """
    has_begun = has_ended = False
    fragments: list[bytes] = []
    for count, piece in enumerate(_split_bodies(bodies if content is None else content.of(bodies))):
        if has_ended:
            raise FormatError("the catalog goes on after its end")
        record = _decode(piece)
        if isinstance(record, Fragment):
            record = _join(fragments, record)
        elif fragments:
            raise FormatError("the catalog lacks a fragment of a record")
        if isinstance(record, End):
            has_ended = _check_end(record, count)
            if content is not None:
                content.verify(record.signature, len(piece) + _LENGTH.size)
        elif record is not None:
            _check_start(record, is_first=not has_begun)
            has_begun = True
            yield record
    if not (has_begun and has_ended):
        raise FormatError("the catalog is cut short: it has no end")


def prove_content(bodies: Iterable[bytes | memoryview], content: SignedContent) -> None:
    """Verify the signature that the last record carries, without reading the others. `FormatError`."""
    last: bytes | memoryview = b""
    for body in content.of(bodies):
        last = body
    piece: memoryview | None = None
    for part in _split_bodies([last]):
        piece = part
    end = None if piece is None else _decode(piece)
    if piece is None or not isinstance(end, End):
        raise FormatError("the catalog is cut short: it has no end")
    content.verify(end.signature, len(piece) + _LENGTH.size)


def split_frames(archive: int, rows: Sequence[FrameRow]) -> Iterator[FramesRecord]:
    """The frames of an archive as records of moderate size."""
    for start in range(0, len(rows), _ROWS_A_RECORD):
        yield FramesRecord(archive, pack_frames(rows[start : start + _ROWS_A_RECORD]))


def split_chunks(archive: int, numbers: Sequence[int], rows: Sequence[ChunkRow]) -> Iterator[ChunksRecord]:
    """The chunks of an archive, with their numbers in the same order, as records of moderate size."""
    if len(numbers) != len(rows):
        raise FormatError("each chunk needs one number")
    for start in range(0, len(rows), _ROWS_A_RECORD):
        end = start + _ROWS_A_RECORD
        yield ChunksRecord(archive, pack_u32(numbers[start:end]), pack_chunks(rows[start:end]))


MARKING: Final = (ForgottenRecord, TakenBackRecord, RetiredRecord, TakenUpRecord)
"""Records for which a catalog needs `CatalogFeature.MARKS`."""


def encode_record(record: Record) -> bytes:
    """One record alone, as msgpack; for keeping it elsewhere than in a catalog."""
    return _encode(record)


def decode_record(data: bytes | memoryview) -> Record:
    """The inverse of `encode_record`. FormatError when the bytes are no record."""
    record = _decode(data)
    if record is None or isinstance(record, (Fragment, End)):
        raise FormatError("these bytes are no catalog record")
    return record


def encode_extra(extra: Extra | None) -> bytes | None:
    """The rare fields of an entry, packed as the inventory and catalogs keep them."""
    if extra is None:
        return None
    values: list[Any] = [extra.target, extra.device, extra.link, extra.flags, list(extra.xattrs), extra.holes]
    values.append(list(extra.acl_names))
    while len(values) > _FIRST_EXTRAS and not values[-1]:
        del values[-1]  # so that an entry keeps its bytes, and needs no new version, when fields are added
    try:
        return _ENCODER.encode(values)
    except (OverflowError, TypeError) as error:
        raise FormatError("an entry's extra data holds a value that does not fit") from error


def decode_extra(data: bytes | None) -> Extra | None:
    """The inverse of `encode_extra`. FormatError for other bytes."""
    if data is None:
        return None
    try:
        read = _EXTRA.decode(data)
    except _UNREADABLE as error:
        raise FormatError("an entry's extra data is damaged") from error
    return Extra(
        read.target,
        read.device,
        read.link,
        read.flags,
        tuple(read.xattrs),
        read.holes,
        tuple(read.acl_names),
    )


def _fragment(data: bytes, what: str) -> Iterator[bytes]:
    if len(data) > LARGEST_JOINED:
        raise FormatError(f"a {what} of {len(data)} bytes is too large for a catalog")
    step = LARGEST_RECORD - 16  # room for what msgpack puts around it
    for start in range(0, len(data), step):
        yield _ENCODER.encode(Fragment(data[start : start + step], start + step >= len(data)))


def _join(fragments: list[bytes], fragment: Fragment) -> Record | None:
    fragments.append(fragment.data)
    if len(fragments) > _MOST_FRAGMENTS or sum(map(len, fragments)) > LARGEST_JOINED:
        raise FormatError("a record in fragments is too large for a catalog")
    if not fragment.is_last:
        return None
    data = b"".join(fragments)
    fragments.clear()
    record = _decode(data)
    if isinstance(record, (Fragment, End)):
        raise FormatError("a fragment holds what cannot be in fragments")
    return record


def _split_bodies(bodies: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    for body in bodies:
        view = memoryview(body)
        at, size = 0, len(view)
        while at < size:
            if at + 4 > size:
                raise FormatError("the catalog is cut short within a record")
            (length,) = _LENGTH.unpack_from(view, at)
            at += 4
            if not length or at + length > size:
                raise FormatError(f"the catalog is cut short: a record claims {length} bytes")
            yield view[at : at + length]
            at += length


def _decode(piece: bytes | memoryview) -> Record | Fragment | End | None:
    try:
        record: Record | Fragment | End = _RECORDS.decode(piece)
        return record
    except _UNREADABLE as error:
        kind = _kind_of(piece)
        if kind >= FIRST_OPTIONAL_KIND:
            return None
        if kind > LAST_KNOWN_KIND:
            raise NewerFormatError(
                f"the catalog holds a record of kind {kind}, which is not known here"
            ) from error
        raise FormatError(f"the catalog holds a record that cannot be read: {error}") from error


def _kind_of(piece: bytes | memoryview) -> int:
    """The kind of a record; 0 if it has none."""
    try:
        return int(_KIND.decode(_PIECES.decode(piece)[0]))
    except (*_UNREADABLE, IndexError):
        return 0


def _check_start(record: Record | Fragment | End, *, is_first: bool) -> None:
    if isinstance(record, Start) != is_first or isinstance(record, (Fragment, End)):
        raise FormatError("a catalog begins with its only Start, and its End is added by Bodies")
    if isinstance(record, Start) and record.format > FORMAT:
        raise NewerFormatError(f"the catalog has format {record.format}, which is not known here")


def _check_end(end: End, count: int) -> bool:
    if end.count != count:
        raise FormatError(f"the catalog has {count} records instead of {end.count}")
    return True


def _encode_entry(entry: tuple[Any, ...]) -> bytes:
    if entry[0] != ENTRY:
        raise FormatError("only an entry may be written as a tuple")
    try:
        return _ENCODER.encode(entry)
    except (OverflowError, TypeError) as error:
        raise FormatError("an EntryRecord holds a value that does not fit") from error


def _encode(record: msgspec.Struct) -> bytes:
    try:
        return _ENCODER.encode(record)
    except UnicodeEncodeError:
        # A name that is not UTF-8 reached us with lone surrogates: write them as escapes, lose nothing else.
        return _ENCODER.encode(type(record)(*map(_escaped, msgspec.structs.astuple(record))))
    except (OverflowError, TypeError) as error:
        raise FormatError(f"a {type(record).__name__} holds a value that does not fit") from error


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, (list, tuple)):
        return type(value)(map(_escaped, value))
    return value
