"""Records come back in order, in bodies of bounded size; what is cut short or unknown is refused."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import FormatError
from backup.format import catalog
from backup.format.catalog import EntryRecord, Record, SnapshotRecord, Start
from backup.format.frame import FRAME_SIZE
from backup.format.records import End, Fragment
from backup.model import ChunkRow, Extra, FrameRow

ID16, KEY32 = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
NUMBER, SIGNED = st.integers(0, 2**63 - 1), st.integers(-(2**63), 2**63 - 1)
BLOB, TEXT = st.binary(max_size=40), st.text(max_size=20)
START = Start(1, 5, 1, b"j" * 16, "home", 4, "host", "nightvault 0.1")
LINK = st.tuples(NUMBER, NUMBER, ID16, KEY32, TEXT)
RECORDS: st.SearchStrategy[Any] = st.one_of(
    st.builds(catalog.Secrets, KEY32, KEY32),
    st.builds(catalog.VaultRecord, NUMBER, TEXT),
    st.builds(catalog.DomainRecord, NUMBER, ID16, NUMBER, st.lists(ID16, max_size=3)),
    st.builds(
        SnapshotRecord,
        TEXT,
        NUMBER,
        SIGNED,
        SIGNED,
        TEXT,
        st.lists(BLOB, max_size=3),
        NUMBER,
        NUMBER,
        st.lists(st.tuples(BLOB, TEXT, TEXT), max_size=3),
    ),
    st.builds(catalog.OwnerRecord, NUMBER, NUMBER, NUMBER, TEXT, TEXT),
    st.builds(catalog.DirectoryRecord, NUMBER, BLOB),
    st.builds(
        EntryRecord,
        NUMBER,
        NUMBER,
        BLOB,
        st.integers(1, 6),
        NUMBER,
        NUMBER,
        SIGNED,
        NUMBER,
        st.none() | BLOB,
        st.none() | ID16,
        BLOB,
        NUMBER,
        st.none() | NUMBER,
    ),
    st.builds(catalog.ClosedRecord, BLOB, NUMBER),
    st.builds(catalog.ArchiveRecord, NUMBER, NUMBER, NUMBER, ID16, BLOB, NUMBER, KEY32, TEXT, SIGNED, TEXT),
    st.builds(catalog.FramesRecord, NUMBER, BLOB),
    st.builds(catalog.ChunksRecord, NUMBER, BLOB, BLOB),
    st.builds(catalog.DroppedRecord, st.lists(NUMBER, max_size=4)),
    st.builds(catalog.CondemnedRecord, st.lists(ID16, max_size=4), SIGNED),
    st.builds(catalog.ForgottenRecord, st.lists(NUMBER, max_size=4), SIGNED),
    st.builds(catalog.TakenBackRecord, st.lists(NUMBER, max_size=4)),
    st.builds(catalog.RetiredRecord, st.lists(ID16, max_size=4)),
    st.builds(catalog.TakenUpRecord, st.lists(ID16, max_size=4)),
    st.builds(
        catalog.MarksRecord, NUMBER, st.lists(TEXT, max_size=3), st.booleans(), TEXT, st.none() | SIGNED
    ),
    st.builds(catalog.VerifiedRecord, ID16, NUMBER, BLOB, SIGNED),
    st.builds(catalog.ChainRecord, st.lists(LINK, max_size=3)),
)


def entry(number: int, chunks: bytes = b"") -> EntryRecord:
    return EntryRecord(number, 1, b"name", 1, 0o644, 1, -5, 7, None, None, chunks, 1, None)


def raw(*pieces: bytes) -> bytes:
    return b"".join(len(piece).to_bytes(4, "little") + piece for piece in pieces)


def encoded(*values: Any) -> bytes:
    return msgspec.msgpack.encode(list(values))


def read(*bodies: bytes) -> list[Record]:
    return list(catalog.unpack_records(bodies))


@given(st.lists(RECORDS, max_size=12))
def test_records_come_back(records: list[Record]) -> None:
    bodies = list(catalog.pack_records([START, *records]))
    assert len(bodies) == 1
    assert read(*bodies) == [START, *records]
    assert list(catalog.unpack_records(map(memoryview, bodies))) == [START, *records]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 400), max_size=20), st.integers(180, 500))
def test_bodies_keep_their_size_and_big_records_go_in_fragments(sizes: list[int], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "FRAME_SIZE", limit)
        patch.setattr(catalog, "LARGEST_RECORD", limit - 4)
        patch.setattr(catalog, "LARGEST_JOINED", 64 * limit)
        records: list[Record] = [START, *(entry(number, bytes(size)) for number, size in enumerate(sizes))]
        bodies = list(catalog.pack_records(records))
    assert all(0 < len(body) <= limit for body in bodies)
    assert read(*bodies) == records


def test_the_end_may_need_a_body_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[Record] = [START, entry(1)]
    (whole,) = catalog.pack_records(records)
    monkeypatch.setattr(catalog, "FRAME_SIZE", len(whole) - 1)
    bodies = list(catalog.pack_records(records))
    assert bodies == [whole[:-8], whole[-8:]]
    assert read(*bodies) == records


def test_a_file_of_four_tebibytes_fits() -> None:
    chunks = catalog.pack_u32(range(4 * 2**20))
    bodies = list(catalog.pack_records([START, entry(1, chunks), entry(2)]))
    assert all(len(body) <= FRAME_SIZE for body in bodies)
    assert read(*bodies) == [START, entry(1, chunks), entry(2)]


def test_a_record_beyond_all_measure_is_refused() -> None:
    with pytest.raises(FormatError, match="too large"):
        list(catalog.pack_records([START, entry(1, bytes(65 * FRAME_SIZE))]))
    for size in (FRAME_SIZE - 100, 1):
        piece = encoded(16, bytes(size), False)
        bodies = itertools.chain([raw(msgspec.msgpack.encode(START))], itertools.repeat(raw(piece)))
        with pytest.raises(FormatError, match="too large"):
            list(catalog.unpack_records(bodies))


def test_memory_is_constant() -> None:
    def many() -> Iterator[Record]:
        yield START
        for number in range(20_000):
            yield entry(number, bytes(900))

    tracemalloc.start()
    count = sum(1 for _ in catalog.unpack_records(catalog.pack_records(many())))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_001
    assert peak < 4 * FRAME_SIZE  # of 18 MB


def test_a_stream_without_its_end_is_refused() -> None:
    (body,) = catalog.pack_records([START, entry(1), entry(2)])
    edges = []
    place = 0
    while place < len(body):
        edges.append(place)
        place += 4 + int.from_bytes(body[place : place + 4], "little")
    for length in range(len(body)):
        with pytest.raises(FormatError, match="cut short"):
            read(body[:length])
    for edge, two in itertools.pairwise(edges):
        with pytest.raises(FormatError):
            read(body[:edge] + body[two:])
    with pytest.raises(FormatError, match="cut short"):
        read()


def test_nothing_follows_the_end() -> None:
    (body,) = catalog.pack_records([START])
    for more in (body, raw(msgspec.msgpack.encode(entry(1))), raw(encoded(200))):
        with pytest.raises(FormatError, match="after its end"):
            read(body + more)
        with pytest.raises(FormatError, match="after its end"):
            read(body, more)


def test_the_order_is_start_records_end() -> None:
    for records in ([], [entry(1)], [START, START], [START, End(1)], [Fragment(b"", True)]):
        with pytest.raises(FormatError, match="Start"):
            list(catalog.pack_records(records))  # type: ignore[arg-type]
    end = encoded(17, 1)
    for pieces in ((encoded(7, 1, b""), end), (encoded(17, 0),), (encoded(200), end)):
        with pytest.raises(FormatError):
            read(raw(*pieces))
    start = msgspec.msgpack.encode(START)
    with pytest.raises(FormatError, match="only Start"):
        read(raw(start, start, encoded(17, 2)))


def test_a_later_format_is_refused() -> None:
    with pytest.raises(FormatError, match="format 2"):
        read(raw(encoded(1, 2, 1, 1, bytes(16), "", 0, "", ""), encoded(17, 1)))


def test_later_fields_are_ignored_and_later_optional_records_skipped() -> None:
    start = msgspec.msgpack.encode(START)
    pieces = (
        start,
        encoded(7, 3, b"/etc", "later", [1, 2]),
        encoded(128, "x"),
        encoded(5000),
        encoded(17, 4),
    )
    assert read(raw(*pieces)) == [START, catalog.DirectoryRecord(3, b"/etc")]


@pytest.mark.parametrize(
    "piece",
    [
        encoded(18),
        encoded(127, 1),
        encoded(0),
        encoded(-1),
        encoded("x"),
        encoded(),
        encoded(7),
        encoded(7, 3),
        encoded(7, -3, b""),
        encoded(7, 2**63, b""),
        encoded(7, 3, "text"),
        b"\x93\x03\x01\xa1\x80",  # a vault whose name is not UTF-8
        b"\x93\x07\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00\xc4\x00",  # a directory of number infinity
        encoded(2, bytes(31), bytes(32)),
        encoded(16, b"", True),
        encoded(16, b"\x00", True),
        encoded(16, encoded(17, 1), True),
        encoded(16, encoded(16, b"", True), True),
        msgspec.msgpack.encode({"a": 1}),
        b"\xc1",
        b"\x91" * 100_000,
        encoded(7, 3, b"/") + b"x",
        b"\x93\x07\x03\xdb\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_what_cannot_be_read_is_refused(piece: bytes) -> None:
    with pytest.raises(FormatError):
        read(raw(msgspec.msgpack.encode(START), piece, encoded(17, 2)))


def test_fragments_stay_together() -> None:
    start, piece = msgspec.msgpack.encode(START), msgspec.msgpack.encode(entry(1))
    first, last = encoded(16, piece[:5], False), encoded(16, piece[5:], True)
    assert read(raw(start, first, last, encoded(17, 3))) == [START, entry(1)]
    assert read(raw(start, first), raw(last, encoded(17, 3))) == [START, entry(1)]
    optional = encoded(16, encoded(200, "x"), True)
    assert read(raw(start, optional, encoded(17, 2))) == [START]
    for pieces in ((start, first, piece, last), (start, first), (start, last)):
        with pytest.raises(FormatError):
            read(raw(*pieces, encoded(17, len(pieces))))


@given(st.lists(st.binary(max_size=120), max_size=4), st.booleans())
def test_any_bodies_are_refused_in_our_words(bodies: list[bytes], has_start: bool) -> None:
    head = raw(msgspec.msgpack.encode(START)) if has_start else b""
    for candidate in (bodies, [head + raw(*bodies)]):
        with pytest.raises(FormatError):
            read(*candidate)


@settings(max_examples=300)
@given(st.lists(RECORDS, max_size=3), st.data())
def test_mutations_give_records_or_our_error(records: list[Record], data: st.DataObject) -> None:
    (body,) = catalog.pack_records([START, *records])
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(changed))
    except FormatError:
        return
    assert isinstance(found[0], Start)


def test_values_that_do_not_fit_are_refused() -> None:
    for record in (entry(2**64), entry("x")):  # type: ignore[arg-type]
        try:
            bodies = list(catalog.pack_records([START, record]))
        except FormatError:
            continue
        with pytest.raises(FormatError):
            read(*bodies)
    with pytest.raises(FormatError, match="does not fit"):
        list(catalog.pack_records([START, entry(object())]))  # type: ignore[arg-type]


def test_names_that_are_not_utf8_do_not_stop_a_backup() -> None:
    odd = "caf\udce9"
    snapshot = SnapshotRecord("a", 1, 0, 0, odd, [b"\xff"], 0, 0, [(b"/caf\xe9", "vanished", odd)])
    found = read(*catalog.pack_records([START, snapshot, catalog.OwnerRecord(1, 0, 0, odd, "ok")]))
    plain = "caf\\udce9"
    assert found[1:] == [
        SnapshotRecord("a", 1, 0, 0, plain, [b"\xff"], 0, 0, [(b"/caf\xe9", "vanished", plain)]),
        catalog.OwnerRecord(1, 0, 0, plain, "ok"),
    ]


@given(RECORDS)
def test_one_record_comes_back(record: Record) -> None:
    assert catalog.decode_record(catalog.encode_record(record)) == record
    for wrong in (b"", encoded(200), encoded(17, 1), catalog.encode_record(record)[:-1]):
        with pytest.raises(FormatError):
            catalog.decode_record(wrong)


def test_secrets_are_not_shown() -> None:
    assert "sss" not in repr(catalog.Secrets(b"s" * 32, b"s" * 32))


XATTRS = st.lists(st.tuples(BLOB, BLOB), max_size=3).map(tuple)


@given(st.builds(Extra, BLOB, NUMBER, NUMBER, NUMBER, XATTRS, holes=BLOB))
def test_extra_comes_back(extra: Extra) -> None:
    data = catalog.encode_extra(extra)
    assert data is not None
    assert catalog.decode_extra(data) == extra
    for length in range(len(data)):
        with pytest.raises(FormatError, match="extra"):
            catalog.decode_extra(data[:length])


@given(st.binary(max_size=60))
def test_any_bytes_are_extra_or_refused(data: bytes) -> None:
    try:
        extra = catalog.decode_extra(data)
    except FormatError:
        return
    assert isinstance(extra, Extra)


def test_fields_that_came_later_change_no_extra_without_them() -> None:
    data = catalog.encode_extra(Extra(b"x", 1, 2, 3, ((b"n", b"v"),)))
    assert data == msgspec.msgpack.encode([b"x", 1, 2, 3, [[b"n", b"v"]]])
    assert catalog.encode_extra(Extra()) == msgspec.msgpack.encode([b"", 0, 0, 0, []])


def test_no_extra_is_none() -> None:
    assert catalog.encode_extra(None) is None
    assert catalog.decode_extra(None) is None
    with pytest.raises(FormatError, match="extra"):
        catalog.decode_extra(b"\x91" * 100_000)


def test_rows_are_split_and_keep_their_numbers() -> None:
    rows = [ChunkRow(number.to_bytes(32, "big"), number // 100, number % 100, 1) for number in range(70_000)]
    numbers = list(range(5, 70_005))
    records = list(catalog.split_chunks(3, numbers, rows))
    assert len(records) == 3
    assert all(record.archive == 3 for record in records)
    assert [n for record in records for n in catalog.unpack_u32(record.numbers)] == numbers
    assert [row for record in records for row in catalog.unpack_chunks(record.rows)] == rows
    frames = [FrameRow(number, number * 17, 17, 1, 0, bytes(16)) for number in range(40_000)]
    split = list(catalog.split_frames(3, frames))
    assert len(split) == 2
    assert [row for record in split for row in catalog.unpack_frames(record.rows)] == frames
    assert list(catalog.split_chunks(3, [], [])) == []
    with pytest.raises(FormatError, match="one number"):
        list(catalog.split_chunks(3, [1], []))


def test_an_entry_as_a_tuple_is_the_same_bytes() -> None:
    values = (1, 2, b"name", 1, 0o644, 3, -5, 2**40, None, b"i" * 16, b"c" * 4, 7, None)
    one, other = ([START, entry] for entry in (catalog.EntryRecord(*values), (catalog.ENTRY, *values)))
    assert list(catalog.pack_records(one)) == list(catalog.pack_records(other))


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([(8, 1)], "no catalog begins"),
        ([START, (9, b"", 1)], "only an entry"),
        ([START, (8, 2**70)], "does not fit"),
    ],
)
def test_other_tuples_are_refused(records: list[Any], told: str) -> None:
    with pytest.raises(FormatError, match=told):
        list(catalog.pack_records(records))
