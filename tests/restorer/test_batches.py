"""Small files are handed out in batches: each file once, in order, few enough in each."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backup.model import KIB, EntryKind, Owner
from backup.restorer.selection.columns import Entries
from backup.restorer.selection.entry import NewFiles
from backup.restorer.writer.maker import MOST_DIRECTORIES, MOST_FILES
from backup.restorer.writer.making import Made
from backup.restorer.writer.sharing import FEW_FILES, LARGEST, Sharing

FILES = 4_000
SIZES = st.sampled_from([0, 45, 900, 20 * KIB, LARGEST])


class Batches:
    """A writer that takes down what it is to make, and makes all of it."""

    def __init__(self) -> None:
        self.made: list[NewFiles] = []

    def ids(self, _: Owner) -> tuple[int, int]:
        return 0, 0

    def make_small(self, files: NewFiles, _: object, __: object, made: bytearray) -> None:
        self.made.append(files)
        made.extend([Made.WHOLE] * len(files.names))


def entries_of(in_a_directory: int) -> Entries:
    """So many files, some in each directory."""
    entries = Entries({1: Owner(0, 0, "", "")})
    for start in range(0, FILES, in_a_directory):
        keys = range(start, min(FILES, start + in_a_directory))
        rows = [(key, 1, b"%d" % key, EntryKind.FILE, 0o644, 1, key, 0) for key in keys]
        entries.add_plain_files(b"%d" % start, [*zip(*rows, strict=True)])
    return entries


ENTRIES: dict[int, Entries] = {count: entries_of(count) for count in (1, 7, 100)}


def shared(entries: Entries) -> tuple[Batches, Sharing]:
    """A division of work among one process alone."""
    writer: Any = Batches()
    told: list[object] = []
    parts = entries, writer, told.append, told.append, told.append
    return writer, Sharing(*parts, chunk_key=bytes(32), files=FILES, makers=0)


@given(
    st.sampled_from(sorted(ENTRIES)),
    st.lists(st.tuples(st.sampled_from([1, 2, 31, 300, 3_000]), SIZES), min_size=1, max_size=6),
    st.integers(0, 50),
)
def test_each_file_once_and_few_in_a_batch(
    in_a_directory: int, runs: list[tuple[int, int]], step: int
) -> None:
    """Of runs of any length and size, that follow each other or leave files out between them."""
    writer, sharing = shared(ENTRIES[in_a_directory])
    wanted: list[tuple[bytes, int]] = []
    total = key = 0
    sharing.begin(memoryview(b""))
    for count, size in runs:
        keys = [*range(key, min(FILES, key + count))]
        key += count + step
        sharing.add(keys, [0] * len(keys), [size] * len(keys), [b""] * len(keys))
        wanted += [(b"%d" % number, size) for number in keys]
        total += size * len(keys)
    assert sharing.end() == total
    sizes = [
        [end - start for start, end in zip(files.starts, files.ends, strict=True)] for files in writer.made
    ]
    names = [name for files in writer.made for name in files.names]
    assert [*zip(names, [size for some in sizes for size in some], strict=True)] == wanted
    for files, some in zip(writer.made, sizes, strict=True):
        assert 1 <= len(files.names) <= MOST_FILES
        assert len(set(files.paths)) <= MOST_DIRECTORIES
        assert sum(some[:-1]) < LARGEST


def test_batches_are_large_where_many_files_follow_each_other() -> None:
    for count, most in ((3_000, MOST_FILES), (200, FEW_FILES)):
        writer, sharing = shared(ENTRIES[100])
        sharing.begin(memoryview(b""))
        sharing.add(range(count), [0] * count, [45] * count, [b""] * count)
        sharing.end()
        assert max(len(files.names) for files in writer.made) == most
