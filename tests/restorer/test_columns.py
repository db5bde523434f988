"""Entries in columns come out as they went in, and a damaged row leaves nothing behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import FormatError
from backup.format.catalog import encode_extra
from backup.inventory.content.entries import EntryRow
from backup.model import EntryKind, Extra, Owner
from backup.restorer.selection.columns import Entries
from backup.restorer.selection.entry import RestoreEntry

OWNERS = {7: Owner(0, 0, "root", "root"), 9: Owner(1000, 1000)}
LARGEST = 2**63 - 1


def row(name: bytes, **values: object) -> EntryRow:
    made = EntryRow(1, 2, name, EntryKind.FILE, 0o640, 7, -5, 0, None, None, None, 1, None)
    return made._replace(**values)  # type: ignore[arg-type]


def entries(*rows: tuple[bytes, EntryRow]) -> Entries:
    made = Entries(OWNERS)
    for directory, entry in rows:
        made.add(directory, entry)
    return made


def test_they_come_out_as_they_went_in() -> None:
    extra = Extra(xattrs=((b"user.one", b"1"),))
    packed = encode_extra(extra)
    made = entries(
        (b"", row(b"a", number=LARGEST, size=LARGEST, mtime_ns=-LARGEST, mode=0o7777)),
        (b"d\xff", row(b"\xfe", owner=9, extra=packed)),
        (b"d\xff", row(b"", extra=packed, kind=EntryKind.FIFO)),
        (b"", row(b"b")),
    )
    made.add(b"d", row(b"e", kind=EntryKind.DIRECTORY), on_the_way=True)
    plain, file = OWNERS[7], EntryKind.FILE
    assert list(made) == [
        RestoreEntry(b"", b"a", file, 0o7777, plain, -LARGEST, LARGEST, None, number=LARGEST),
        RestoreEntry(b"d\xff", b"\xfe", file, 0o640, OWNERS[9], -5, 0, extra, number=1),
        RestoreEntry(b"d\xff", b"", EntryKind.FIFO, 0o640, plain, -5, 0, extra, number=1),
        RestoreEntry(b"", b"b", file, 0o640, plain, -5, 0, None, number=1),
        RestoreEntry(b"d", b"e", EntryKind.DIRECTORY, 0o640, plain, -5, 0, None, number=1, on_the_way=True),
    ]
    assert made[1].extra is made[2].extra
    assert made[1:3] == [made[1], made[2]]
    assert (len(made), made.names, made.total) == (5, 5, LARGEST)


@pytest.mark.parametrize(
    "damage", [{"mode": "x"}, {"size": 2**63}, {"owner": 8}, {"kind": 9}, {"extra": b"x"}, {"name": None}]
)
def test_a_damaged_row_leaves_nothing_behind(damage: dict[str, object]) -> None:
    made = entries((b"", row(b"a")))
    with pytest.raises((FormatError, LookupError, TypeError, ValueError)):
        made.add(b"d", row(b"x", **damage))
    made.add(b"d", row(b"b"))
    assert [entry.path for entry in made] == [b"a", b"d/b"]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
def test_small_files_are_handed_out_as_columns(keys: list[int], data: st.DataObject) -> None:
    """In any order, of any directories: what an entry of each says."""
    folders = data.draw(st.lists(st.sampled_from([b"", b"d", b"d/e"]), min_size=5, max_size=5))
    owners = data.draw(st.lists(st.sampled_from(sorted(OWNERS)), min_size=5, max_size=5))
    made = entries(
        *(
            (folder, row(b"n" * number, mode=number, mtime_ns=-number, owner=owner, size=3))
            for number, (folder, owner) in enumerate(zip(folders, owners, strict=True))
        )
    )
    starts, ends = [3 * key for key in keys], [3 * key + 3 for key in keys]
    chunks = [bytes([key]) * 32 for key in keys]
    files = made.new_files(keys, starts, ends, chunks, lambda owner: (owner.uid + 1, owner.gid + 2))
    assert (files.starts, files.ends, files.chunks) == (starts, ends, chunks)
    for at, key in enumerate(keys):
        one = made[key]
        owner = Owner(one.owner.uid + 1, one.owner.gid + 2)
        assert files.entry(at) == one._replace(owner=owner, number=0)
        assert files.some(slice(at, at + 1)).entry(0) == files.entry(at)


def test_some_of_them_some_changed() -> None:
    made = entries(*((b"d", row(b"%d" % number, size=number)) for number in range(5)))
    linked = made[3]._replace(links=(made[4],))
    some = made.only([1, 3], {3: linked})
    assert list(some) == [made[1], linked]
    assert (len(some), some.names, some.total) == (2, 3, 4)
    assert list(some.only([1])) == [linked]


def test_which_say_to_have_further_names() -> None:
    packed = encode_extra(Extra(link=5))
    made = entries((b"", row(b"a")), (b"", row(b"b", extra=packed)), (b"", row(b"c", extra=packed)))
    assert list(made.linked()) == [1, 2]
    assert list(entries((b"", row(b"a"))).linked()) == []


def test_a_plain_file_has_one_name_and_nothing_beside_owner_mode_and_times() -> None:
    noted = encode_extra(Extra(xattrs=((b"user.note", b"x"),)))
    made = entries(
        (b"d", row(b"plain")),
        (b"d", row(b"noted", extra=noted)),
        (b"d", row(b"directory", kind=EntryKind.DIRECTORY)),
        (b"d", row(b"linked")),
        (b"d", row(b"setuid", mode=0o4755)),
        (b"d", row(b"setgid", mode=0o2755)),
        (b"d", row(b"sticky", mode=0o1755)),
    )
    linked = made.only(range(7), {3: made[3]._replace(links=(made[0],))})
    assert [*linked.are_plain] == [1, 0, 0, 0, 0, 0, 1]
