"""What a look at an entry tells, and what databases cannot hold of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.model import EntryKind, Extra
from backup.source.metadata import ctime_of, described, inode_of, kind_of, mtime_of, owner_of, read_entry
from backup.source.scanned import ScannedEntry


def looked(**fields: int) -> os.stat_result:
    """A stat result with those fields."""
    wanted = {"st_mode": stat.S_IFREG | 0o644, "st_uid": 0, "st_gid": 0, "st_ino": 1} | fields
    names = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size")
    row = [wanted.pop(name, 0) for name in names]  # what is in the tuple may not be named again
    return os.stat_result((*row, 0, 0, 0), wanted)


@given(st.integers(0, 2**64 - 1))
def test_inodes_fit_63_bits_and_stay_apart(inode: int) -> None:
    kept = inode_of(looked(st_ino=inode))
    assert -(2**63) <= kept < 2**63
    assert kept % 2**64 == inode


@given(st.integers(-(2**65), 2**65))
def test_times_fit_63_bits(moment: int) -> None:
    found = looked(st_mtime_ns=moment, st_ctime_ns=moment)
    for kept in (mtime_of(found), ctime_of(found)):
        assert -(2**63) < kept < 2**63
        assert kept == moment or abs(moment) >= 2**63 - 1


@pytest.mark.parametrize("kind", list(EntryKind))
def test_every_kind_has_a_mode(kind: EntryKind) -> None:
    modes = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK)
    assert [kind_of(mode | 0o7777) for mode in modes][kind - 1] is kind


def test_an_owner_without_a_name() -> None:
    assert owner_of(looked(st_uid=4_294_967_294, st_gid=3_999_999_999)) == (
        4_294_967_294,
        3_999_999_999,
        "",
        "",
    )


def test_an_owner_with_names() -> None:
    assert owner_of(looked(st_uid=0, st_gid=0)) == (0, 0, "root", "root")


def test_entries_of_each_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "file").chmod(0o4751)
    (tmp_path / "link").symlink_to(os.fsdecode(b"\xff/target"))
    os.mkfifo(tmp_path / "fifo", 0o640)
    handle = os.open(tmp_path, os.O_RDONLY)
    found = {}
    for name in (b"file", b"link", b"fifo"):
        scanned = ScannedEntry(name, os.stat(name, dir_fd=handle, follow_symlinks=False))
        found[name], trouble = read_entry(b"/somewhere", handle, scanned)
        assert not trouble
    os.close(handle)
    assert found[b"file"].mode == 0o4751
    assert found[b"file"].size == 0, "a file's size is what is read of it"
    assert found[b"link"].extra == Extra(target=b"\xff/target")
    assert found[b"link"].path == b"/somewhere/link"
    assert (found[b"fifo"].kind, found[b"fifo"].mode) == (EntryKind.FIFO, 0o640)


def test_a_device_keeps_its_number() -> None:
    found = os.stat("/dev/null")
    handle = os.open("/dev", os.O_RDONLY)
    entry, _ = read_entry(b"/dev", handle, ScannedEntry(b"null", found))
    os.close(handle)
    assert entry.kind is EntryKind.CHARACTER_DEVICE
    assert entry.extra == Extra(device=found.st_rdev)


def test_a_file_as_it_was_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    os.utime(tmp_path / "file", ns=(5, 123_456_789_123_456_789))
    entry = described(b"/d", b"file", os.stat(tmp_path / "file"), size=7)
    assert (entry.kind, entry.size, entry.mtime_ns) == (EntryKind.FILE, 7, 123_456_789_123_456_789)
