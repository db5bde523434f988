"""Files that change within a tick of being read: no change is ever lost behind stamps that repeat."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.catalogs.hooks import Command, Hook, Hooks
from backup.source.freshness import stamp_clock
from tests.support.backup_results import restored
from tests.support.backups import AN_HOUR, Site
from tests.support.trees import assert_same_tree


@pytest.fixture
def live(site: Site) -> Site:
    """A site whose clock is that of its file system."""
    site.stamps = stamp_clock
    return site


def rewind(site: Site, path: Path) -> None:
    """Let the inventory's stamps be those of the file now: as if its change had come within one tick."""
    found = os.stat(path)
    with site.inventory.writing() as tx:
        number = tx.connection.execute(
            "SELECT number FROM entries WHERE name = ? AND removed_in IS NULL", (os.fsencode(path.name),)
        ).fetchone()[0]
        tx.connection.execute("UPDATE entries SET mtime_ns = ? WHERE number = ?", (found.st_mtime_ns, number))
        tx.connection.execute(
            "UPDATE hints SET ctime_ns = ? WHERE ctime_ns != 0 AND entry = ?", (found.st_ctime_ns, number)
        )


def test_a_change_in_the_tick_after_the_reading_is_seen(live: Site, source: Path) -> None:
    live.stamps = lambda: os.stat(source / "file").st_ctime_ns  # the reading lies in the tick of the writing
    (source / "file").write_text("one")
    live.backup()
    (source / "file").write_text("two")  # the same size
    rewind(live, source / "file")
    assert live.backup().files_read == 1
    assert_same_tree(source, restored(live, source))


def test_without_that_it_would_be_lost(live: Site, source: Path) -> None:
    """The test above tests something: stamps that repeat do hide a change once they are trusted."""
    live.stamps = lambda: stamp_clock() + AN_HOUR
    (source / "file").write_text("one")
    live.backup()
    (source / "file").write_text("two")
    rewind(live, source / "file")
    assert live.backup().files_read == 0


def test_costs_one_more_reading_and_no_row(live: Site, source: Path) -> None:
    live.stamps = lambda: os.stat(source / "file").st_ctime_ns
    (source / "file").write_text("one")
    (source / "link").symlink_to("file")
    first = live.backup()
    assert first.problems == ()
    live.stamps = lambda: stamp_clock() + AN_HOUR
    again = live.backup()
    assert (again.files_read, again.entries_added, again.bytes_new) == (1, 0, 0)
    assert live.backup().files_read == 0


def test_what_is_written_to_a_mapped_page_after_the_reading(live: Site, source: Path) -> None:
    """A page that is dirty already gets no new time stamp: the file looks as it did when it was read."""
    (source / "file").write_bytes(bytes(4096))
    with open(source / "file", "r+b") as file, mmap.mmap(file.fileno(), 4096) as mapped:
        mapped[:3] = b"one"
        stamp = os.stat(source / "file").st_mtime_ns
        time.sleep(0.1)  # ten ticks
        live.backup()
        mapped[:3] = b"two"
        assert os.stat(source / "file").st_mtime_ns == stamp, "this kernel stamps each write"
    assert live.backup().files_read == 1
    assert_same_tree(source, restored(live, source))


def test_a_whole_second_s_stamps(live: Site, source: Path) -> None:
    (source / "file").write_text("one")
    second = os.stat(source / "file").st_ctime_ns // 10**9 * 10**9
    os.utime(source / "file", ns=(second, second))
    live.stamps = lambda: second + 1_900_000_000
    live.backup()
    live.stamps = lambda: stamp_clock() + AN_HOUR
    assert live.backup().files_read == 1


class TestReread:
    def test_reads_all_and_stores_nothing_twice(self, site: Site, source: Path) -> None:
        for name in "abc":
            (source / name).write_text(name)
        site.backup()
        report = site.rereading().backup()
        assert (report.files_read, report.entries_added, report.bytes_new) == (3, 0, 0)
        assert site.backup().files_read == 0

    def test_finds_what_stamps_hide(self, site: Site, source: Path) -> None:
        (source / "file").write_text("one")
        site.backup()
        (source / "file").write_text("two")
        rewind(site, source / "file")
        assert site.backup().files_read == 0
        assert site.rereading().backup().entries_added == 1
        assert_same_tree(source, restored(site, source))


@pytest.mark.parametrize("frozen", [True, False])
def test_a_change_in_the_tick_of_a_snapshot_that_before_made_is_seen(
    live: Site, source: Path, tmp_path: Path, frozen: bool
) -> None:
    """The file is read long after `before`, as it was then; what was written since has the same stamps."""
    made = tmp_path / "made"
    (source / "file").write_text("one")
    tick = os.stat(source / "file").st_ctime_ns
    live.stamps = lambda: tick + (AN_HOUR if made.exists() or not frozen else 0)
    command = Command(("touch", str(made)), 20)
    hooks = Hooks({Hook.BEFORE if frozen else Hook.AFTER: [command]}, {"PATH": os.environ["PATH"]})
    live.job = replace(live.job, hooks=hooks)
    assert live.backup().files_read == 1
    (source / "file").write_text("two")
    rewind(live, source / "file")
    assert live.backup().files_read == (1 if frozen else 0)
