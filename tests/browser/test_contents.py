"""Contents as streams with a position: right at every place, verified, and of bounded memory."""

from __future__ import annotations

import errno
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backup.model import MIB
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.trees_of_files import LookedInto

FILES = 9


@pytest.fixture
def filled(site: Site, source: Path) -> dict[bytes, bytes]:
    """Files of all sizes that are saved, by name."""
    content = random.Random(5)
    files = {b"empty": b"", b"byte": b"x", b"large": content.randbytes(11 * MIB)}
    files[b"again"] = files[b"large"][3 * MIB :]
    files |= {b"small-%d" % n: content.randbytes(1000 * n + 1) for n in range(FILES)}
    for name, data in files.items():
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(data)
    site.backup()
    return files


def at(found: LookedInto, source: Path, name: bytes) -> bytes:
    """The place of a saved file in the tree."""
    return found.place(os.fsencode(source) + b"/" + name)


def test_every_file_comes_back_from_any_position(
    site: Site, source: Path, filled: dict[bytes, bytes], found: LookedInto
) -> None:
    chance = random.Random(9)
    for name, data in filled.items():
        path = at(found, source, name)
        assert found.content(path) == data
        file = found.look.open(path)
        for _ in range(30):
            offset, length = chance.randrange(len(data) + 10), chance.choice((1, 4096, 131_072, 5 * MIB))
            assert file.read(offset, length) == data[offset : offset + length]


def test_holes_are_zeros_and_cost_nothing(site: Site, source: Path, found: LookedInto) -> None:
    """A seek in a file of 4 GiB that is nearly all hole."""
    size, places = 4096 * MIB, (0, 700 * MIB, 4000 * MIB)
    with (source / "sparse").open("wb") as file:
        file.truncate(size)
        for place in places:
            file.seek(place)
            file.write(b"data at %d" % place)
    site.backup()
    path = found.place(source / "sparse")
    opened = found.look.open(path)
    for place in places:
        word = b"data at %d" % place
        assert opened.read(place, len(word)) == word
        assert opened.read(place + 4 * MIB, 1000) == bytes(1000)
    assert opened.read(size - 5, 100) == bytes(5)
    assert opened.read(size + 5, 100) == b""
    status = found.look.status(found.look.node(path))
    assert status.size == size
    assert status.blocks * 512 < MIB


def test_what_is_kept_of_opened_frames_is_bounded(
    site: Site, source: Path, filled: dict[bytes, bytes]
) -> None:
    """A cache of one byte still reads: it keeps no more than the frame at hand, and what is fetched ahead."""
    found = LookedInto(site, most=1)
    try:
        assert found.content(at(found, source, b"large")) == filled[b"large"]
    finally:
        found.close()


def test_eight_readers_at_once_read_what_was_saved(
    site: Site, source: Path, filled: dict[bytes, bytes], found: LookedInto
) -> None:

    def read(number: int) -> bool:
        name = (b"large", b"again", b"small-3")[number % 3]
        return found.content(at(found, source, name), piece=70_001) == filled[name]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(24)))


def damage(path: Path) -> None:
    """Change bytes in the middle of an archive, where its frames are."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    path.chmod(0o600)
    path.write_bytes(data)


def test_a_damaged_archive_is_an_error_and_no_wrong_byte(
    site: Site, source: Path, filled: dict[bytes, bytes], found: LookedInto, disk: DirectoryVault
) -> None:
    files = [path for path in vault_files(disk) if path.stat().st_size > MIB]
    assert files
    for path in files:
        damage(path)
    with pytest.raises(OSError, match=r"recorded|damaged") as caught:
        found.content(at(found, source, b"large"))
    assert caught.value.errno == errno.EIO


def vault_files(disk: DirectoryVault) -> list[Path]:
    """The archives of a directory vault."""
    return [path for path in Path(disk.state().location, "archives").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "statement", ["chunks = substr(chunks, 5)", "content_id = zeroblob(16)", "size = size + 1"]
)
def test_a_row_that_was_tampered_with_is_an_error(
    site: Site, source: Path, filled: dict[bytes, bytes], found: LookedInto, statement: str
) -> None:
    with site.inventory.writing() as tx:
        tx.connection.execute(f"UPDATE entries SET {statement} WHERE name = ?", (b"large",))
    with pytest.raises(OSError, match=r"recorded|damaged") as caught:
        found.look.open(at(found, source, b"large"))
    assert caught.value.errno == errno.EIO
