"""Stamps that a later write could repeat prove nothing; all others do."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from backup.source.freshness import is_fresh, reach_of, stamp_clock, surely_old, write_back_reach

S = 10**9
NOW = 1_700_000_000 * S + 123_456_789


def stamped(ctime: int, mtime: int = 0, mode: int = stat.S_IFDIR) -> os.stat_result:
    return cast("os.stat_result", SimpleNamespace(st_ctime_ns=ctime, st_mtime_ns=mtime, st_mode=mode))


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (35 * S, True), (59 * S, True), (61 * S, False)])
def test_of_a_file_until_what_is_mapped_was_written_back(age: int, fresh: bool) -> None:
    """A page that is dirty already takes no new stamp: of directories and links there are no such pages."""
    age += write_back_reach() - 60 * S if age else 0  # a machine may be set to be slower
    assert is_fresh(stamped(NOW - age, mode=stat.S_IFREG), NOW, NOW) is fresh
    assert is_fresh(stamped(5, NOW - age, mode=stat.S_IFREG), NOW, NOW) is fresh
    assert is_fresh(stamped(NOW - age), NOW, NOW) is (not age)
    assert (NOW - age < surely_old(NOW)) is (not fresh)


def test_a_machine_that_writes_back_late() -> None:
    assert reach_of(3000, 500) == reach_of(100, 100) == 60 * S
    assert reach_of(6000, 6000) == 145 * S


@pytest.mark.parametrize(
    ("stamp", "fresh"),
    [
        (NOW, True),
        (NOW - 4_000_000, True),  # a tick at 250 Hz
        (NOW - 10_000_000, True),
        (NOW - 11_000_000, False),
        (NOW + 600 * S, True),  # a server's clock goes ahead
        (NOW + 90_000 * S, False),  # invented
        (NOW // S * S, True),  # whole seconds: the file system may know no others
        (NOW // (2 * S) * 2 * S, True),  # FAT
        (NOW // S * S - 3 * S, False),
        (0, False),
    ],
)
def test_by_either_stamp(stamp: int, fresh: bool) -> None:
    assert is_fresh(stamped(stamp), NOW, NOW) is fresh
    assert is_fresh(stamped(5, stamp), NOW, NOW) is fresh


def test_what_changed_since_a_long_run_began_is_fresh() -> None:
    began = NOW - 200_000 * S
    assert is_fresh(stamped(NOW - S - 1), began, NOW)
    assert not is_fresh(stamped(began - S - 1), began, NOW)


def test_a_file_written_now_is_fresh_by_the_kernel_s_clock(tmp_path: Path) -> None:
    """Any write after the look gets a stamp of its clock or later: never one that is not fresh."""
    for _ in range(50):
        looked_at = stamp_clock()
        (tmp_path / "file").write_text("x")
        found = os.stat(tmp_path / "file")
        assert is_fresh(found, looked_at, looked_at)
