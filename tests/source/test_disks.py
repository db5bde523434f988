"""What is mounted at a place, by what tells one disk from every other."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.source.disks import before_it, disks_at, remembered, replaced_disks

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


def are_others(before: str, now: str) -> bool:
    return before_it(before, now) is not None


def test_two_names_of_a_disk_say_nothing() -> None:
    """Which one is known depends on udev."""
    assert are_others("uuid a", "uuid b")
    assert not are_others("uuid a", "uuid a")
    assert not are_others("uuid a", "fsid b")
    assert not are_others("fsid b", "uuid a")


def test_a_disk_is_no_export_and_no_pool() -> None:
    assert are_others("uuid a", "export nas:/")
    assert are_others("pool tank/data", "fsid b")


def test_but_what_had_a_name_is_no_memory() -> None:
    assert are_others("uuid a", "nameless tmpfs")
    assert are_others("export nas:/", "nameless autofs")
    assert not are_others("nameless tmpfs", "nameless overlay")
    assert not are_others("nameless tmpfs", "uuid a")
    assert not are_others("", "uuid a")


NIGHTS = [
    (["uuid a", "uuid b", "uuid c"], [1, 2]),
    (["uuid a", "nameless tmpfs", "nameless tmpfs", "uuid b"], [1, 3]),
    (["uuid a", "nameless tmpfs", "nameless overlay", "uuid a", "uuid a"], [1]),
    (["uuid a", "nameless tmpfs", "uuid b", "uuid a"], [1, 2, 3]),
    (["uuid a", "fsid x", "uuid a"], []),
    (["uuid a", "fsid x", "uuid b", "fsid x"], [2]),
    (["uuid a", "fsid x", "fsid y"], [2]),
    (["nameless tmpfs", "uuid a", "nameless tmpfs", "export nas:/"], [2, 3]),
]


def told_in(nights: list[str]) -> list[int]:
    """The nights that tell of another file system at a place, by what is mounted there in each."""
    known: dict[bytes, str] = {}
    found = []
    for night, now in enumerate(nights):
        if replaced_disks(known, {b"/mnt": now}):
            found.append(night)
        known[b"/mnt"] = remembered(known.get(b"/mnt", ""), now)
        assert known[b"/mnt"].count("\n") < 3, "it does not grow"
    return found


@pytest.mark.parametrize(("nights", "told"), NIGHTS)
def test_a_third_disk_in_one_place_is_told_whatever_was_between(nights: list[str], told: list[int]) -> None:
    """Memory, or a disk without udev, in between made the disk before forgotten."""
    assert told_in(nights) == told


NAMES = st.sampled_from(["uuid a", "uuid b", "fsid a", "fsid b", "nameless tmpfs", "export nas:/a"])


@given(st.lists(NAMES, max_size=9))
def test_no_name_changes_untold(nights: list[str]) -> None:
    told = told_in(nights)
    for kind in ("uuid ", "fsid ", "export "):
        named = [night for night, name in enumerate(nights) if name.startswith(kind)]
        for before, after in pairwise(named):
            if nights[before] != nights[after]:
                assert any(before < night <= after for night in told), (before, after)


@given(st.lists(st.sampled_from(["uuid a", "fsid a"]), max_size=9))
def test_one_disk_is_never_told(nights: list[str]) -> None:
    assert told_in(nights) == []


def test_names_are_text_on_one_line_whatever_their_bytes(tmp_path: Path) -> None:
    """Those of an export, or of a folder of a disk, that are no UTF-8 could not be kept: no night ended."""
    line = os.fsencode(LINE.replace(" / {place}", r" /M\374ller\012x {place}"))
    line = line.replace(b"{place}", b"/mnt/disk").replace(b"{kind}", b"nfs")
    (tmp_path / "mountinfo").write_bytes(
        line.replace(b"{device}", b"nas:/\xfc\\040b").replace(b"\\374", b"\xfc")
    )
    found = disks_at({b"/mnt/disk"}, mounts=str(tmp_path / "mountinfo"))
    assert found == {b"/mnt/disk": r"export nas:/\xfc b at /M\xfcller\x0ax"}


def test_two_folders_of_a_disk_are_two_but_for_numbers(tmp_path: Path) -> None:
    line = LINE.replace(" / {place}", r" /@my\040data {place}")
    (tmp_path / "mountinfo").write_text(line.format(place="/mnt/disk", kind="nfs", device="nas:/"))
    found = disks_at({b"/mnt/disk"}, mounts=str(tmp_path / "mountinfo"))
    assert found == {b"/mnt/disk": "export nas:/ at /@my data"}
    assert are_others("uuid a at /@data", "uuid a at /@empty")
    assert are_others("uuid a", "uuid a at /@empty")
    assert are_others("uuid 1 at /@data", "uuid 2 at /@data")
    assert not are_others("uuid a at /@data/2026-01-09", "uuid a at /@data/2026-01-10")
