"""A restore from a directory: what was backed up comes back, and leads nowhere else."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.errors import UsageError
from backup.inventory.records.runs import list_runs
from backup.kinds import Outcome
from backup.restorer.restore import plan_restore
from backup.restorer.writer.directories import Target
from backup.restorer.writer.tmpfile import UnnamedFiles
from backup.restorer.writer.write import Writer
from tests.restorer.sites import LARGE, sql
from tests.support.backups import Site
from tests.support.trees import assert_same_tree, snapshot_of


def test_everything_comes_back(full: Site, source: Path, out: Path) -> None:
    site = full.reopen()
    report = site.restore("latest", out)
    assert_same_tree(source, out)
    assert (report.outcome, report.problems, report.waiting) == (Outcome.DONE, (), 0)
    count = snapshot_of(source)
    directories = sum(seen.kind == stat.S_IFDIR for seen in count.values())
    assert (report.files, report.directories) == (len(count) - directories, directories)
    assert report.bytes == sum(len(seen.content) for seen in count.values() if seen.kind == stat.S_IFREG)
    assert site.progress.files == report.files
    assert site.progress.done == report.bytes


def test_the_report_as_json(full: Site, out: Path) -> None:
    report = full.restore("latest", out)
    document = report.document()
    assert document["outcome"] == "done"
    assert {"restore", "snapshot", "files", "directories", "bytes", "retrieved", "seconds"} <= document.keys()
    with full.inventory.reading() as tx:
        run = list_runs(tx)[0]
    assert (run.kind, run.outcome, dict(run.report)) == ("restore", Outcome.DONE, document)


def test_nothing_of_the_restore_is_left_in_the_state(full: Site, out: Path) -> None:
    full.restore("latest", out)
    assert os.listdir(full.folder / "restores") == []
    assert not [name for name in os.listdir(full.folder) if name.startswith("restore-")]


def test_the_whole_snapshot_goes_below_the_target(full: Site, source: Path, out: Path) -> None:
    full.restore("latest", out, path=b"/")
    assert_same_tree(source, Path(str(out) + str(source)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_small_file_lends_no_rights_to_a_stranger_here(full: Site, out: Path) -> None:
    """Small files are made in batches, by numbers alone: not those with setuid or setgid."""
    sql(full, "UPDATE owners SET user = 'gone', uid = 1, gid = 1")
    report = full.restore("latest", out)
    small = (out / "sub" / "deep" / "small-3").stat()
    assert (stat.S_IMODE(small.st_mode), small.st_uid) == (0o711, 1)
    (problem,) = report.problems
    assert problem.path.endswith(b"small-3")
    why = "no user gone is known here, and 1 is daemon"
    assert problem.detail == f"mode: setuid and setgid are left off, as {why}"


def test_a_directory_within(full: Site, source: Path, out: Path) -> None:
    full.restore("latest", out, path=source / "sub" / "deep")
    assert_same_tree(source / "sub" / "deep", out)


def test_paths_longer_than_the_system_takes(site: Site, source: Path, out: Path) -> None:
    name, depth = b"directory-" * 10, 120
    handle = os.open(source, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=handle)
        above, handle = handle, os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(above)
    with open(os.open(b"file", os.O_WRONLY | os.O_CREAT, dir_fd=handle), "wb") as file:
        file.write(b"far away")
    os.close(handle)
    site.backup()
    report = site.restore("latest", out)
    assert (report.outcome, report.files, report.directories) == (Outcome.DONE, 1, depth)
    handle = os.open(out, os.O_RDONLY)
    for _ in range(depth):
        above, handle = handle, os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(above)
    with open(os.open(b"file", os.O_RDONLY, dir_fd=handle), "rb") as file:
        assert file.read() == b"far away"
    os.close(handle)
    for top in (source, out):
        subprocess.run(["rm", "-rf", top / os.fsdecode(name)], check=True)


@pytest.mark.parametrize("name", ["large", "link", "sub/fifo", "empty"])
def test_a_single_entry_keeps_its_name(full: Site, source: Path, out: Path, name: str) -> None:
    full.restore("latest", out, path=source / name)
    wanted = snapshot_of(source)[name.encode()]
    assert snapshot_of(out) == {os.path.basename(name).encode(): wanted}


def test_a_path_that_is_not_there(full: Site, source: Path) -> None:
    with pytest.raises(UsageError, match=r"has no .*nothing"):
        plan_restore(full.snapshot(), os.fsencode(source / "nothing"), full.restore_world)


def test_restoring_over_what_is_there(full: Site, source: Path, out: Path) -> None:
    full.restore("latest", out)
    (out / "large").write_bytes(b"changed")
    (out / "sub" / "deep" / "small-1").unlink()
    (out / "sub" / "again").unlink()
    (out / "sub" / "again").symlink_to("/etc/passwd")
    (out / "mine").write_text("stays")
    full.restore("latest", out)
    (out / "mine").unlink()
    os.utime(out / "sub", ns=((source / "sub").stat().st_mtime_ns,) * 2)
    assert_same_tree(source, out)


def test_a_symlink_in_the_target_leads_nowhere(full: Site, source: Path, out: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    out.mkdir()
    (out / "sub").symlink_to(outside)
    (out / "empty").symlink_to(outside / "made")
    full.restore("latest", out)
    assert not list(outside.iterdir())
    assert_same_tree(source, out)


def test_a_directory_swapped_for_a_symlink_meanwhile(
    full: Site, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who may write in the target swaps a directory for a symlink before any one of our steps."""
    monkeypatch.setattr("backup.restorer.writer.directories.MOST_OPEN", 1)
    monkeypatch.setattr("backup.restorer.writer.partial_files.MOST_OPEN", 1)
    outside = tmp_path / "outside"
    outside.mkdir()
    steps, swap_at = [0], [-1]

    def hooked(kind: type, name: str) -> Callable[..., object]:
        real = getattr(kind, name)

        def step(*args: object) -> object:
            if steps[0] == swap_at[0]:
                for swapped in (out / "sub" / "deep", out / "sub"):
                    if swapped.is_dir():
                        swapped.rename(swapped.with_name("moved"))
                        swapped.symlink_to(outside)
            steps[0] += 1
            return real(*args)

        return step

    for name in ("directory", "special", "make_small", "begin", "write", "end", "finish"):
        monkeypatch.setattr(Writer, name, hooked(Writer, name))
    monkeypatch.setattr(Target, "handle", hooked(Target, "handle"))
    monkeypatch.setattr(UnnamedFiles, "make", hooked(UnnamedFiles, "make"))
    full.restore("latest", out)
    total, partial = steps[0], 0
    assert total > 70
    for swap_at[0] in range(0, total, 5):
        shutil.rmtree(out)
        steps[0] = 0
        report = full.restore("latest", out)
        partial += report.outcome is Outcome.PARTIAL
        assert not list(outside.iterdir())
        assert stat.S_IMODE(outside.stat().st_mode) == 0o755
        assert (out / "large").stat().st_size == LARGE
    assert partial > 3


@pytest.mark.parametrize("fast", [True, False])
def test_a_time_that_is_too_late_to_be_kept_is_named(
    site: Site, source: Path, out: Path, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:
        monkeypatch.delattr(os, "O_TMPFILE")
    for name in ("late", "usual"):
        (source / name).write_text(name)
    (source / "folder").mkdir()
    for name in ("late", "folder"):
        os.utime(source / name, (0, 10_000_000_000))
    if os.stat(source / "late").st_mtime < 2**33:
        pytest.skip("this file system has no such times")
    site.backup()
    report = site.restore("latest", out)
    assert {os.path.basename(problem.path) for problem in report.problems} == {b"late", b"folder"}
    assert all("after 2262-04-11" in problem.detail for problem in report.problems)
    assert report.outcome is Outcome.PARTIAL
    assert (out / "late").read_text() == "late"
