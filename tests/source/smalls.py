"""Batches of small files: what a reading told, as the contents that it told of."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from backup.format.naming import chunk_id, content_id
from backup.source.attributes import NONE, Attributes
from backup.source.read_small import read_small
from backup.source.reader import ReaderProcess
from backup.source.scanned import StatusColumns
from backup.source.small import ReadBatch, Seen, SmallRead, buffer_size

CHUNK_KEY, CONTENT_KEY = b"k" * 32, b"n" * 32


class FileToRead(NamedTuple):
    """A file to read: `name` in the `directory`-th of the batch's directories."""

    directory: int
    name: bytes
    seen: Seen


def columns_of(wanted: Sequence[FileToRead]) -> tuple[array[int], StatusColumns]:
    """The same files as a request has them."""
    files = StatusColumns.new()
    files.names.extend(file.name for file in wanted)
    columns = files.inodes, files.sizes, files.mtimes, files.ctimes
    for column, values in zip(columns, zip(*(file.seen for file in wanted), strict=True), strict=True):
        column.extend(values)
    return array("H", [file.directory for file in wanted]), files


def ask(reader: ReaderProcess, directories: Sequence[int], wanted: Sequence[FileToRead]) -> None:
    """Ask a process for these files."""
    reader.ask(directories, *columns_of(wanted))


class Told(NamedTuple):
    """A file of a batch."""

    data: bytes
    attributes: Attributes


def told(
    read: SmallRead, loose: memoryview | bytes, dense: memoryview | bytes, sizes: Sequence[int]
) -> list[Told | None]:
    """Each file of a batch of these sizes, every name compared; None for one that was not read."""
    found: list[Told | None] = [None] * len(sizes)
    for place in read.empty:
        assert not sizes[place]
        found[place] = Told(b"", read.attributes.get(place, NONE))
    number = 0
    for places, data in ((read.loose, bytes(loose)), (read.dense, bytes(dense))):
        start = 0
        for place in places:
            content = data[start : start + sizes[place]]
            named = read.ids[32 * number : 32 * number + 32]
            assert named == chunk_id(CHUNK_KEY, content)
            own = content_id(CONTENT_KEY, [named], [len(content)])
            assert read.content_ids[16 * number : 16 * number + 16] == own
            assert found[place] is None, "it was told twice"
            found[place] = Told(content, read.attributes.get(place, NONE))
            start, number = start + sizes[place], number + 1
        assert start == len(data)
    assert (len(read.ids), len(read.content_ids)) == (32 * number, 16 * number)
    assert all(found[place] is not None for place in read.attributes)
    return found


def told_by(answer: ReadBatch, wanted: Sequence[FileToRead]) -> list[Told | None]:
    """The same of a process's answer."""
    return told(answer.read, answer.loose, answer.dense, [file.seen[1] for file in wanted])


def read_here(directories: Sequence[int], wanted: Sequence[FileToRead]) -> list[Told | None]:
    """The same read by this process."""
    room = memoryview(bytearray(buffer_size(sum(file.seen[1] for file in wanted))))
    read = read_small(directories, wanted, room, chunk_key=CHUNK_KEY, content_key=CONTENT_KEY)
    sizes = [file.seen[1] for file in wanted]
    loose, dense = (sum(sizes[place] for place in places) for places in (read.loose, read.dense))
    middle = len(room) // 2
    return told(read, room[:loose], room[middle : middle + dense], sizes)
