"""Pack keys of a waiting restore: private, whole or not there, wiped when they are not needed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from backup.errors import RecoveryKeyError, SpoolError
from backup.restorer.pack_keys import PackKeyFile, wipe_others

ID = "0123456789abcdef"
KEYS = {1: b"a" * 32, 77: b"b" * 32}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "restores"


def test_what_is_written_is_read(folder: Path) -> None:
    file = PackKeyFile(str(folder), ID)
    file.write(KEYS)
    assert PackKeyFile(str(folder), ID).read() == KEYS
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / f"{ID}.keys").stat().st_mode) == 0o600


def test_a_folder_that_was_open_is_closed(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    PackKeyFile(str(folder), ID).write({})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_wiping_overwrites_and_removes(folder: Path) -> None:
    file = PackKeyFile(str(folder), ID)
    file.write(KEYS)
    held = os.open(folder / f"{ID}.keys", os.O_RDONLY)
    size = os.fstat(held).st_size
    file.wipe()
    assert os.read(held, 1000) == bytes(size)
    os.close(held)
    assert os.listdir(folder) == []
    file.wipe()


@pytest.mark.parametrize("content", [None, b"", b"\xc1", b"\x81\x01\xa1x"])
def test_keys_that_are_gone_or_damaged(folder: Path, content: bytes | None) -> None:
    folder.mkdir()
    if content is not None:
        (folder / f"{ID}.keys").write_bytes(content)
    with pytest.raises(RecoveryKeyError, match="are gone") as caught:
        PackKeyFile(str(folder), ID).read()
    assert "begin it anew" in caught.value.advice


def test_a_full_disk_leaves_no_part_of_the_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SpoolError, match="cannot be kept"):
            PackKeyFile(str(folder), ID).write(KEYS)
    for left in folder.iterdir():
        assert set(left.read_bytes()) <= {0}


def test_only_orphans_are_wiped(folder: Path) -> None:
    other = "f" * 16
    PackKeyFile(str(folder), ID).write(KEYS)
    PackKeyFile(str(folder), other).write(KEYS)
    (folder / "notes.keys").write_text("not ours")
    wipe_others(str(folder), {ID})
    assert sorted(os.listdir(folder)) == [f"{ID}.keys", "notes.keys"]


def test_no_folder_has_no_orphans(folder: Path) -> None:
    wipe_others(str(folder), set())
    assert not folder.exists()
