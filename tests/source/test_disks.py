"""What is mounted at a place, by what tells one disk from every other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.source.disks import are_others, disks_at

LINE = "36 35 98:0 / {place} rw,noatime shared:1 master:2 - {kind} {device} rw,errors=continue\n"


def told(folder: Path, *mounts: tuple[str, str, str], asked: bytes = b"/mnt/disk") -> dict[bytes, str]:
    """What is told of places by a table of mounts (place, kind, device); /dev/null has a UUID."""
    table, names = folder / "mountinfo", folder / "by-uuid"
    table.write_text("".join(LINE.format(place=place, kind=kind, device=at) for place, kind, at in mounts))
    names.mkdir()
    (names / "aaaa-1").symlink_to("/dev/null")
    (names / "gone").symlink_to("/dev/no such device")
    return disks_at({asked}, mounts=str(table), by_uuid=str(names))


@pytest.mark.parametrize(
    ("kind", "device", "name"),
    [
        ("ext4", "/dev/null", "uuid aaaa-1"),
        ("xfs", "/dev/zero", ""),
        ("nfs4", "nas:/export", "export nas:/export"),
        ("fuse.sshfs", "me@nas:/", "export me@nas:/"),
        ("zfs", "tank/data@night-1", "pool tank/data"),
        ("tmpfs", "tmpfs", "nameless tmpfs"),
        ("overlay", "overlay", "nameless overlay"),
    ],
)
def test_each_kind_by_what_it_keeps(tmp_path: Path, kind: str, device: str, name: str) -> None:
    assert told(tmp_path, ("/mnt/disk", kind, device)) == ({b"/mnt/disk": name} if name else {})


def test_an_ext4_of_which_udev_says_nothing_by_its_own_number(tmp_path: Path) -> None:
    number = os.statvfs(tmp_path).f_fsid
    found = told(tmp_path, (str(tmp_path), "ext4", "/dev/zero"), asked=os.fsencode(tmp_path))
    assert found == ({os.fsencode(tmp_path): f"fsid {number:x}"} if number else {})


def test_the_last_of_several_at_one_place_is_seen(tmp_path: Path) -> None:
    mounts = ("/mnt/disk", "nfs", "one:/"), ("/mnt/other", "nfs", "two:/"), ("/mnt/disk", "nfs", "three:/")
    assert told(tmp_path, *mounts) == {b"/mnt/disk": "export three:/"}


def test_a_place_with_odd_letters(tmp_path: Path) -> None:
    found = told(tmp_path, (r"/mnt/a\040b\134c", "nfs", "nas:/"), asked=rb"/mnt/a b\c")
    assert found == {rb"/mnt/a b\c": "export nas:/"}


def test_nothing_is_told_without_a_table(tmp_path: Path) -> None:
    assert disks_at({b"/"}, mounts=str(tmp_path / "none")) == {}


def test_names_of_two_kinds_say_nothing() -> None:
    assert are_others("uuid a", "uuid b")
    assert not are_others("uuid a", "uuid a")
    assert not are_others("uuid a", "fsid b")


def test_but_what_had_a_name_is_no_memory() -> None:
    assert are_others("uuid a", "nameless tmpfs")
    assert are_others("export nas:/", "nameless autofs")
    assert not are_others("nameless tmpfs", "nameless overlay")
    assert not are_others("nameless tmpfs", "uuid a")


def test_two_folders_of_a_disk_are_two_but_for_numbers(tmp_path: Path) -> None:
    line = LINE.replace(" / {place}", r" /@my\040data {place}")
    (tmp_path / "mountinfo").write_text(line.format(place="/mnt/disk", kind="nfs", device="nas:/"))
    found = disks_at({b"/mnt/disk"}, mounts=str(tmp_path / "mountinfo"))
    assert found == {b"/mnt/disk": "export nas:/ at /@my data"}
    assert are_others("uuid a at /@data", "uuid a at /@empty")
    assert are_others("uuid a", "uuid a at /@empty")
    assert are_others("uuid 1 at /@data", "uuid 2 at /@data")
    assert not are_others("uuid a at /@data/2026-01-09", "uuid a at /@data/2026-01-10")
