"""A dry run: what a backup would read, from the same comparison, and nothing touched."""

from __future__ import annotations

import os
from pathlib import Path

from backup.archiver.dryrun import Change, changes
from backup.catalogs.report import Tally
from backup.source.filters import Filters
from tests.support.backups import Site


def look(site: Site) -> tuple[dict[bytes, Change], Tally]:
    tally = Tally()
    return {change.path: change for change in changes(site.job, site.inventory, tally)}, tally


def test_before_the_first_backup_everything_is_new(site: Site, source: Path) -> None:
    (source / "a").write_bytes(b"12345")
    (source / "folder").mkdir()
    (source / "link").symlink_to("a")
    found, tally = look(site)
    assert {change.what for change in found.values()} == {"new"}
    sizes = {os.fsdecode(path): change.size for path, change in found.items() if change.size}
    assert sizes == {f"{source}/a": 5}  # a directory and a symlink have no content to read
    assert f"{source}/link".encode() in found
    assert f"{source}/folder".encode() in found
    assert (tally.files, tally.bytes) == (2, 5)


def test_it_names_what_the_backup_then_reads(site: Site, source: Path) -> None:
    for name in ("kept", "changed", "gone"):
        (source / name).write_bytes(name.encode())
    (source / "folder").mkdir()
    (source / "folder" / "below").write_bytes(b"x")
    site.backup()
    assert look(site)[0] == {}

    (source / "changed").write_bytes(b"changed again")
    (source / "gone").unlink()
    (source / "fresh").write_bytes(b"123")
    (source / "folder" / "below").unlink()
    (source / "folder").rmdir()
    found, _ = look(site)
    what = {os.path.basename(os.fsdecode(path)): change.what for path, change in found.items()}
    assert {name: word for name, word in what.items() if name != "source"} == {
        "changed": "changed", "gone": "removed", "fresh": "new", "folder": "removed"
    }  # fmt: skip
    would_read = sum(change.size for change in found.values() if change.what != "removed")
    report = site.backup()
    assert report.bytes_read == would_read == 16
    assert look(site)[0] == {}


def test_it_touches_nothing(site: Site, source: Path) -> None:
    (source / "a").write_bytes(b"12345")
    look(site)
    assert site.snapshots() == []
    assert os.listdir(site.spool) == []
    assert site.vault.list_uploads() == []


def test_it_leaves_out_and_reports_what_the_backup_does(site: Site, source: Path) -> None:
    (source / "a.tmp").write_bytes(b"1")
    (source / "b").write_bytes(b"2")
    site = site.with_job(sources=[source, source / "nope"], filters=Filters(["*.tmp"]))
    found, tally = look(site)
    assert f"{source}/b".encode() in found
    assert f"{source}/a.tmp".encode() not in found
    away = site.with_job(sources=[source.parent / "not there"])
    _, tally = look(away)
    assert [problem.path for problem in tally.problems] == [os.fsencode(source.parent / "not there")]
