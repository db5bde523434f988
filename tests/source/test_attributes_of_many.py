"""Of many files at once, attributes are those that each has by itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.source import flags
from backup.source.attributes import NONE, attributes_of, read_attributes
from backup.source.flags import read_flags

NO_ATIME, NO_DUMP = 0x80, 0x40


@pytest.fixture
def handles(tmp_path: Path) -> Iterator[list[int]]:
    """Ten files, of which the fourth has an xattr."""
    paths = [tmp_path / f"{number}" for number in range(10)]
    for path in paths:
        path.write_bytes(b"A")
    os.setxattr(paths[3], b"user.note", b"rare")
    found = [os.open(path, os.O_RDONLY) for path in paths]
    yield found
    for handle in found:
        os.close(handle)


def as_each_has(handles: list[int]) -> dict[int, object]:
    each = {place: read_attributes(handle) for place, handle in enumerate(handles)}
    return {place: found for place, found in each.items() if found is not NONE}


def test_xattrs(handles: list[int]) -> None:
    found = attributes_of(handles)
    assert found[3].xattrs == ((b"user.note", b"rare"),)
    assert found == as_each_has(handles)
    del handles[3]
    assert attributes_of(handles) == as_each_has(handles)


@pytest.mark.parametrize("flag", [NO_ATIME, NO_DUMP])
@pytest.mark.parametrize("also_xattrs", [True, False])
def test_flags(handles: list[int], monkeypatch: pytest.MonkeyPatch, flag: int, also_xattrs: bool) -> None:
    if not also_xattrs:
        os.removexattr(handles[3], b"user.note")
    flagged = handles[6]

    def told(handle: int, request: int, buffer: bytearray) -> int:
        buffer[:4] = (flag if handle == flagged else 0x80000).to_bytes(4, "little")
        return 0

    monkeypatch.setattr(flags, "ioctl", told)
    assert read_flags(flagged) == flag
    assert attributes_of(handles)[6].flags == flag
    assert attributes_of(handles) == as_each_has(handles)


@pytest.mark.parametrize("error", [errno.ENOTTY, errno.EIO])
def test_flags_that_cannot_be_had(handles: list[int], monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(flags, "ioctl", refuse)
    assert attributes_of(handles)[3].xattrs == ((b"user.note", b"rare"),)
    assert attributes_of(handles) == as_each_has(handles)
    assert all(handle.trouble for handle in attributes_of(handles).values()) == (error == errno.EIO)


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EIO])
def test_xattrs_that_one_cannot_have(handles: list[int], monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    listed = os.listxattr

    def refuse_one(handle: int) -> list[str]:
        if handle == handles[1]:
            raise OSError(error, os.strerror(error))
        return listed(handle)

    monkeypatch.setattr(os, "listxattr", refuse_one)
    assert attributes_of(handles) == as_each_has(handles)
    assert attributes_of(handles).keys() == ({1, 3} if error == errno.EIO else {3})
