"""A drill of a rebuild: in a scratch folder, beside a server that goes on, and gone afterwards."""

from __future__ import annotations

import itertools
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backup.errors import LockedError, NightvaultError, RecoveryKeyError, SpoolError
from backup.format.keys import RecoveryKey
from backup.model import VaultName
from backup.protocols import Vault
from backup.rebuilder.context import Wish
from backup.rebuilder.drill import LOCK, RebuildDrillContext, RebuildDrillReport, drill
from backup.rebuilder.drill_folder import NAME
from backup.rebuilder.findings import MISSING
from backup.vault.glacier import GlacierVault
from tests.support.backups import Site, recovery_key
from tests.support.catalogs import catalogs, remove
from tests.support.clocks import EmulatorClock
from tests.support.doubles import FaultyVault, PowerCut, Silent, cut_at, no_limit
from tests.support.emulated import RunningEmulator
from tests.support.rebuilds import rows
from tests.support.rigs import glacier_client


@dataclass
class Drilling:
    """A site, and drills of it."""

    site: Site
    key: RecoveryKey = field(default_factory=recovery_key)
    progress: Any = field(default_factory=Silent)

    @property
    def folder(self) -> Path:
        return self.site.folder / NAME

    def step(self, vault: Vault | Any | None = None, wish: Wish | None = None) -> RebuildDrillReport:
        context = RebuildDrillContext(
            vault=vault or self.site.vault,
            clock=self.site.clock,
            progress=self.progress,
            recovery_keys=[self.key],
            inventory=self.site.inventory,
            state_directory=str(self.site.folder),
            limit_on=no_limit,
        )
        return drill(wish or Wish(), context)


@pytest.fixture
def drilling(site: Site) -> Drilling:
    return Drilling(site)


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, but what SQLite keeps beside a database: mode, and a file.s time."""
    every = (path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm", ".lock")))
    return {str(path): (path.lstat().st_mode, path.is_file() and path.lstat().st_mtime_ns) for path in every}


def test_it_is_the_same_and_leaves_nothing(drilling: Drilling, tmp_path: Path) -> None:
    before, was = files_in(tmp_path), rows(drilling.site.folder)
    report = drilling.step()
    assert report.are_same
    assert not report.waits_for
    assert report.catalogs.count == 3
    assert report.catalogs.size > 0
    assert report.comparison is not None
    assert report.comparison.rows["snapshots"] == 3
    assert files_in(tmp_path) == before
    assert rows(drilling.site.folder) == was


def test_it_is_for_its_owner_alone(drilling: Drilling) -> None:
    seen: list[int] = []

    class Looking(Silent):
        def start(self, *words: Any, **more: Any) -> None:
            seen.extend(
                os.stat(path).st_mode & 0o77 for path in (drilling.folder, drilling.folder / "scratch")
            )
            seen.extend(path.stat().st_mode & 0o77 for path in (drilling.folder / "scratch").iterdir())
            super().start(*words, **more)

    os.umask(0)
    try:
        drilling.progress = Looking()
        assert drilling.step().are_same
    finally:
        os.umask(0o022)
    assert len(seen) > 4
    assert set(seen) == {0}


def test_differences_are_named_by_kind(drilling: Drilling) -> None:
    site = drilling.site
    with closing(sqlite3.connect(site.folder / "inventory.sqlite")) as database, database:
        database.execute("UPDATE entries SET mode = mode - 1 WHERE kind = 1")
        database.execute("DELETE FROM snapshots WHERE number = 2")
    report = drilling.step()
    assert not report.are_same
    assert report.comparison is not None
    found = {(difference.table, difference.kind): difference for difference in report.comparison.differences}
    assert set(found) == {("entries", "mode"), ("snapshots", "only in the rebuilt one")}
    modes = found["entries", "mode"]
    assert modes.count > len(modes.examples) == 5
    assert not drilling.folder.exists()


def test_what_a_backup_records_a_moment_later_is_none(
    drilling: Drilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its catalog is in the vault, and its transaction is not done: looked at again while it is at work."""
    site, slept = drilling.site, list[float]()

    def in_use(*statements: str) -> None:
        with closing(sqlite3.connect(site.folder / "inventory.sqlite")) as database, database:
            for statement in statements:
                database.execute(statement)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            in_use("INSERT INTO snapshots SELECT * FROM later")

    monkeypatch.setattr(site.clock, "sleep", sleep)
    in_use("CREATE TABLE later AS SELECT * FROM snapshots WHERE number = 3")
    in_use("DELETE FROM snapshots WHERE number = 3")
    assert not drilling.step().are_same
    assert slept == [], "nobody is at work"
    with site.inventory.locked("backup"):
        assert drilling.step().are_same
        assert len(slept) == 2
        in_use("DELETE FROM snapshots WHERE number = 3")
        assert not drilling.step().are_same
        assert len(slept) == 5, "not for ever"


def test_what_the_vault_lost_is_a_difference(drilling: Drilling) -> None:
    remove(drilling.site, catalogs(drilling.site)[3, "delta"].archive_id)
    drilling.site.clock.sleep(60)
    report = drilling.step()
    assert report.comparison is not None
    assert [(difference.table, difference.kind) for difference in report.comparison.differences] == [
        ("catalogs", MISSING)
    ]


@pytest.mark.parametrize(
    "phase", ["Bringing archives down", "Rebuilding the inventory", "Comparing row by row"]
)
def test_a_backup_goes_on_meanwhile(drilling: Drilling, source: Path, phase: str) -> None:
    """It is neither held up, nor a difference: the drill is of the state that was rebuilt."""
    other = drilling.site.reopen()
    drilling.site = other
    reports: list[Any] = []

    class Meanwhile(Silent):
        def start(self, title: str, *words: Any, **more: Any) -> None:
            if title == phase:
                (source / "meanwhile").write_text("stored while the drill runs")
                reports.append(other.backup())
            super().start(title, *words, **more)

    drilling.progress = Meanwhile()
    report = drilling.step()
    assert reports
    assert report.are_same, report.comparison
    assert report.rebuilt.jobs[0].number == 3
    again = Drilling(other).step()
    assert (again.are_same, again.rebuilt.jobs[0].number) == (True, 4)


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_cut_at_every_call_the_next_one_cleans_up(drilling: Drilling, tmp_path: Path, after: bool) -> None:
    before = files_in(tmp_path)
    for number in itertools.count():
        try:
            drilling.step(FaultyVault(drilling.site.vault, cut_at(number, after=after)))
        except PowerCut:
            assert not (drilling.folder / "scratch" / "inventory.sqlite").exists()
            assert drilling.step().are_same
        else:
            assert number >= 10, "too few calls for a test of cuts"
            break
        assert files_in(tmp_path) == before


def test_what_a_killed_process_left_goes(drilling: Drilling) -> None:
    scratch = drilling.folder / "scratch"
    scratch.mkdir(parents=True)
    for name in ("inventory.sqlite", "inventory.sqlite.building", "inventory.sqlite-journal"):
        (scratch / name).write_text("of a process that was killed")
    assert drilling.step().are_same
    assert not drilling.folder.exists()


@pytest.mark.parametrize("name", ["", "scratch", "asked"])
def test_a_symlink_in_its_place_is_refused(drilling: Drilling, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    if name:
        drilling.folder.mkdir(mode=0o700)
    (drilling.folder / name if name else drilling.folder).symlink_to(elsewhere)
    with pytest.raises(SpoolError, match="cannot be used for a drill"):
        drilling.step()
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


def test_one_at_a_time(drilling: Drilling) -> None:
    with drilling.site.inventory.locked(LOCK), pytest.raises(LockedError):
        drilling.step()


def test_a_wrong_key_leaves_nothing(drilling: Drilling) -> None:
    drilling.key = RecoveryKey.from_seed(bytes(32))
    with pytest.raises(RecoveryKeyError):
        drilling.step()
    assert not drilling.folder.exists()


def test_before_the_first_backup_there_is_nothing_to_rebuild(tmp_path: Path, site: Site) -> None:
    new = Site.create(tmp_path / "new", site.vault, [tmp_path], clock=site.clock)
    with pytest.raises(NightvaultError, match="nothing to rebuild yet"):
        Drilling(new).step()
    new.close()


def test_a_full_disk_is_told_before(drilling: Drilling, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(os, "statvfs", lambda _: Full())
    with pytest.raises(SpoolError, match=r"needs 6\d MiB"):
        drilling.step()


@pytest.fixture
def cold(tmp_path: Path, emulator: RunningEmulator, source: Path) -> Any:
    vault = GlacierVault(VaultName("cold"), glacier_client(emulator), f"drill-{os.urandom(4).hex()}")
    vault.create()
    site = Site.create(tmp_path / "cold", vault, [source], clock=EmulatorClock(emulator))
    site.backup()
    (source / "second").write_text("night")
    site.backup()
    emulator.advance(2 * 86400)
    emulator.make_inventories()
    yield site
    site.close()


def test_a_cold_vault_takes_its_hours(cold: Site, emulator: RunningEmulator, source: Path) -> None:
    """Asked for once; a backup of meanwhile is newer than the vault's list, and no difference."""
    drilling = Drilling(cold)
    assert drilling.step().rebuilt.waits_for == "the vault's own list"
    assert drilling.step().waits_for
    assert not (drilling.folder / "scratch").exists()
    emulator.advance(5 * 3600)
    (source / "third").write_text("night")
    cold.backup()
    assert drilling.step().rebuilt.waits_for == "2 of 2 catalogs"
    emulator.advance(5 * 3600)
    report = drilling.step()
    assert report.are_same, report.comparison
    assert report.took > 10 * 3600 > report.worked
    assert report.rebuilt.jobs[0].snapshots == 2
    assert not drilling.folder.exists()
    client: Any = glacier_client(emulator)
    jobs = client.list_jobs(vaultName=cold.vault.state().location.split("/")[-1])["JobList"]
    assert sorted(job["Action"] for job in jobs) == ["ArchiveRetrieval"] * 2 + ["InventoryRetrieval"]


def test_one_that_was_left_for_days_begins_anew(cold: Site, emulator: RunningEmulator) -> None:
    drilling = Drilling(cold)
    assert drilling.step().waits_for
    emulator.advance(4 * 86400)
    emulator.make_inventories()
    assert drilling.step().rebuilt.waits_for == "the vault's own list"
    emulator.advance(5 * 3600)
    assert drilling.step().waits_for
    emulator.advance(5 * 3600)
    report = drilling.step()
    assert report.are_same
    assert report.took < 11 * 3600
