"""Unchanged directories are compared at a glance, whoever scanned them: what changed is found."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.archiver import trees
from backup.catalogs.report import BackupReport
from backup.inventory.content import entries
from backup.memory import backup_memory
from backup.model import ProblemKind, VaultName
from backup.source import scanner
from backup.source.scanner import ScannerProcess
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.trees import assert_same_tree

FILES = 60


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ScannerProcess]:
    """The processes that scanned."""
    made: list[ScannerProcess] = []

    class Noted(ScannerProcess):
        def __init__(self, *some: object) -> None:
            super().__init__(*some)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(scanner, "ScannerProcess", Noted)
    return made


@pytest.fixture(params=["one process", "two processes"])
def site(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, started: list[object]
) -> Iterator[Site]:
    """A site whose source has a directory of many files, some of them special; backed up once."""
    beside = request.param == "two processes"
    monkeypatch.setattr(trees, "MANY_FILES", 1 if beside else 10**9)
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock)
    vault.create()
    made = Site.create(tmp_path / "state", vault, [tmp_path / "source"], clock=clock)
    many = tmp_path / "source" / "many"
    many.mkdir(parents=True)
    for number in range(FILES):
        (many / f"{number:03}").write_bytes(b"%d" % number * 50)
    os.symlink("000", many / "link")
    os.link(many / "001", tmp_path / "source" / "another name")
    (many / "sub").mkdir()
    made.backup()
    first = len(started)
    yield made
    assert (len(started) > first) == beside
    made.close()


def again(site: Site, tmp_path: Path) -> BackupReport:
    """A backup, which restores to what is there, after which nothing is left to read."""
    report = site.backup()
    out = tmp_path / f"out {report.run}"
    site.restore(report.snapshot, out)
    assert_same_tree(tmp_path / "source", out)
    last = site.backup()
    assert (last.files_read, last.files, last.bytes) == (0, report.files, report.bytes)
    return report


def test_nothing_changed(site: Site, tmp_path: Path) -> None:
    report = again(site, tmp_path)
    assert report.files_read == 0
    assert report.files == FILES + 2


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The names whose rows are fetched one by one."""
    names: list[bytes] = []
    real = entries.live_named

    def noted(tx: object, directory: int, name: bytes) -> object:
        names.append(name)
        return real(tx, directory, name)  # type: ignore[arg-type]

    monkeypatch.setattr(entries, "live_named", noted)
    return names


def test_nothing_is_made_of_files_that_are_the_same(site: Site, tmp_path: Path, fetched: list[bytes]) -> None:
    """Of a directory in which one file changed, that one's row is fetched, and the special ones'."""
    (tmp_path / "source" / "many" / "007").write_bytes(b"changed")
    fetched.clear()
    report = site.backup()
    assert report.files_read == 1
    assert fetched == [b"001", b"007", b"link", b"sub"]


def test_nothing_is_made_of_the_others_where_some_came_and_went(
    site: Site, tmp_path: Path, fetched: list[bytes]
) -> None:
    many = tmp_path / "source" / "many"
    (many / "007").unlink()
    (many / "~last").write_bytes(b"new")
    fetched.clear()
    report = site.backup()
    assert report.files_read == 1
    assert fetched == [b"001", b"007", b"link", b"sub", b"~last"]
    site.restore(report.snapshot, tmp_path / "out")
    assert_same_tree(tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize("site", ["one process"], indirect=True)
def test_what_cannot_be_looked_at_is_not_gone(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def failing(path: object, **how: object) -> os.stat_result:
        if path == b"008":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, **how)  # type: ignore[arg-type]

    many = tmp_path / "source" / "many"
    (many / "009").unlink()
    with monkeypatch.context() as broken:
        broken.setattr(os, "stat", failing)
        report = site.backup()
    assert [(problem.path, problem.kind) for problem in report.problems] == [
        (os.fsencode(many / "008"), ProblemKind.UNREADABLE)
    ]
    site.restore(report.snapshot, tmp_path / "out")
    assert_same_tree(tmp_path / "source", tmp_path / "out")


def change_times(many: Path) -> None:
    os.utime(many / "010", ns=(1, 1))


def change_mode(many: Path) -> None:
    (many / "011").chmod(0o600)


def replace_by_symlink(many: Path) -> None:
    (many / "012").unlink()
    os.symlink("nowhere", many / "012")


def replace_by_directory(many: Path) -> None:
    (many / "013").unlink()
    (many / "013").mkdir()
    (many / "013" / "inside").write_bytes(b"new")


def replace_directory_by_file(many: Path) -> None:
    (many / "sub").rmdir()
    (many / "sub").write_bytes(b"a file")


def give_another_name(many: Path) -> None:
    os.link(many / "014", many.parent / "yet another name")


def take_other_name(many: Path) -> None:
    (many.parent / "another name").unlink()


def add_and_remove(many: Path) -> None:
    (many / "015").unlink()
    (many / "015a").write_bytes(b"added")


def add_last(many: Path) -> None:
    (many / "zzz").write_bytes(b"added")


def remove_last(many: Path) -> None:
    (many / "sub").rmdir()


def remove_most(many: Path) -> None:
    for number in range(3, FILES):
        (many / f"{number:03}").unlink()


def remove_as_many_as_are_few(many: Path) -> None:
    """Of the other names one in eight and one more are gone: more rows than are asked for at a glance."""
    for number in range(20, 20 + FILES // 8 + 1):
        (many / f"{number:03}").unlink()


def rename_some(many: Path) -> None:
    """Each moves to the other end."""
    for number in range(30, 33):
        (many / f"{number:03}").rename(many / f"~{number}")


def change_most(many: Path) -> None:
    for number in range(0, FILES, 3):
        (many / f"{number:03}").write_bytes(b"changed %d" % number)


def grow_in_place(many: Path) -> None:
    """Another inode of the same size and times."""
    found = (many / "016").stat()
    (many / "new").write_bytes(b"x" * found.st_size)
    os.utime(many / "new", ns=(found.st_atime_ns, found.st_mtime_ns))
    (many / "new").rename(many / "016")


@pytest.mark.parametrize(
    "change",
    [
        change_times,
        change_mode,
        replace_by_symlink,
        replace_by_directory,
        replace_directory_by_file,
        give_another_name,
        take_other_name,
        add_and_remove,
        add_last,
        remove_last,
        remove_most,
        remove_as_many_as_are_few,
        rename_some,
        change_most,
        grow_in_place,
    ],
)
def test_each_change_is_found(site: Site, tmp_path: Path, change: Callable[[Path], None]) -> None:
    change(tmp_path / "source" / "many")
    again(site, tmp_path)


@pytest.mark.parametrize("site", ["two processes"], indirect=True)
def test_a_scanner_that_dies_is_told_and_costs_nothing_else(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ScannerProcess] = []
    real = scanner.ScannerProcess

    def killed(*some: object) -> ScannerProcess:
        made.append(real(*some))  # type: ignore[arg-type]
        made[-1]._process.kill()
        return made[-1]

    monkeypatch.setattr(scanner, "ScannerProcess", killed)
    (tmp_path / "source" / "many" / "020").write_bytes(b"changed")
    report = site.backup()
    assert report.files_read == 1
    (warning,) = report.warnings
    assert warning.endswith("the second is gone: it was ended by signal 9, and said nothing")
    assert [problem for problem in report.problems if problem.kind is ProblemKind.UNREADABLE] == []
    site.restore(report.snapshot, tmp_path / "out")
    assert_same_tree(tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize("site", ["two processes"], indirect=True)
def test_on_one_core_no_process_scans(site: Site, started: list[ScannerProcess]) -> None:
    two = site.job
    first = len(started)
    site.job = replace(two, memory=backup_memory(cores=1))
    site.backup()
    assert len(started) == first
    site.job = two
    site.backup()
    assert len(started) == first + 1
