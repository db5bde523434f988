"""A backup run on real trees: what it reads, records, reports, carries over and lets go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.archiver import contents, staged_changes
from backup.archiver.backup import run_backup
from backup.errors import ConfigError
from backup.format.keys import RecoveryKey
from backup.inventory.records import runs
from backup.kinds import Outcome
from backup.model import JobName
from backup.source.filters import Filters
from tests.support.backup_results import ages, below, counts, restored
from tests.support.backups import Site
from tests.support.doubles import Silent
from tests.support.trees import assert_same_tree, snapshot_of


class TestWhatIsRead:
    def test_no_change_writes_no_row_and_opens_no_file(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (source / "sub").mkdir()
        for number in range(50):
            (source / "sub" / str(number)).write_text(f"content {number}")
        (source / "link").symlink_to("nowhere")
        site.backup()
        before = counts(site)

        def refuse(handle: int, name: bytes) -> int:
            raise AssertionError(f"{name!r} was opened")

        monkeypatch.setattr(contents, "open_file", refuse)
        report = site.reopen().backup()
        assert counts(site) == before
        assert (report.files_read, report.bytes_read, report.entries_added, report.entries_removed) == (
            0,
            0,
            0,
            0,
        )
        assert report.files == 51
        assert_same_tree(source, restored(site, source))

    def test_what_else_happens_beside_a_source_costs_no_row(self, site: Site, source: Path) -> None:
        (source / "file").write_text("content")
        site.backup()
        before = counts(site)
        (source.parent / "beside").mkdir()
        os.utime(source.parent)
        site.backup()
        assert counts(site) == before

    def test_a_touched_file_costs_a_row_and_no_chunk(self, site: Site, source: Path) -> None:
        (source / "file").write_bytes(os.urandom(5000))
        site.backup()
        before = counts(site)
        ages(source / "file")
        report = site.backup()
        after = counts(site)
        assert (report.files_read, report.bytes_new, report.entries_added, report.entries_removed) == (
            1,
            0,
            1,
            1,
        )
        assert after == before | {"entries": before["entries"] + 1}
        assert_same_tree(source, restored(site, source))

    def test_a_file_read_for_nothing_costs_no_entry(self, site: Site, source: Path) -> None:
        (source / "file").write_bytes(b"content")
        ages(source / "file")
        site.backup()
        before = counts(site)
        (source / "new").write_bytes(b"content")
        ages(source / "new")
        (source / "new").rename(source / "file")  # same bytes, same time, another inode
        os.utime(source, ns=(2 * 10**18, 2 * 10**18))
        report = site.backup()
        assert report.files_read == 1
        assert counts(site)["hints"] == before["hints"]
        assert site.backup().files_read == 0

    def test_one_changed_byte_costs_one_chunk_or_two(self, site: Site, source: Path) -> None:
        data = bytearray(os.urandom(12 * 1024 * 1024))
        (source / "file").write_bytes(data)
        site.backup()
        data[6_000_000] ^= 1
        (source / "file").write_bytes(data)
        report = site.backup()
        assert 0 < report.bytes_new < 9 * 1024 * 1024
        assert_same_tree(source, restored(site, source))

    def test_what_two_jobs_share_is_stored_once(self, site: Site, source: Path) -> None:
        (source / "file").write_bytes(os.urandom(100_000))
        site.backup()
        other = site.with_job(name="other")
        report = other.backup()
        assert (report.files_read, report.bytes_new) == (1, 0)
        assert_same_tree(source, restored(other, source))


class TestWhatChanges:
    def test_a_file_becomes_a_directory_and_a_file_again(self, site: Site, source: Path) -> None:
        trees = []
        thing = source / "thing"

        def look() -> None:
            site.backup()
            trees.append(snapshot_of(source))

        thing.write_text("file")
        look()
        thing.unlink()
        (thing / "deep").mkdir(parents=True)
        (thing / "deep" / "inside").write_text("x")
        look()
        shutil.rmtree(thing)
        thing.symlink_to("elsewhere")
        look()
        thing.unlink()
        thing.write_text("file again")
        look()
        for snapshot, tree in zip(site.snapshots(), trees, strict=True):
            assert_same_tree(tree, restored(site, source, snapshot.id))

    def test_a_directory_goes_with_all_below_and_not_its_namesakes(self, site: Site, source: Path) -> None:
        for name in ("a", "a-", "a0", "ab", "a/b"):
            (source / name).mkdir()
            (source / name / "file").write_text(name)
        site.backup()
        shutil.rmtree(source / "a")
        report = site.backup()
        assert report.entries_removed == 4 + 1  # a, a/b, both files; the source, whose time changed
        assert_same_tree(source, restored(site, source))

    def test_a_renamed_directory_costs_no_chunk(self, site: Site, source: Path) -> None:
        (source / "old").mkdir()
        (source / "old" / "file").write_bytes(os.urandom(50_000))
        site.backup()
        (source / "old").rename(source / "new")
        assert site.backup().bytes_new == 0
        assert below(site) == {b"new", b"new/file"}
        assert below(site, "latest~1") == {b"old", b"old/file"}

    def test_a_source_dropped_from_the_job_is_let_go(self, site: Site, source: Path) -> None:
        for name in ("one", "two"):
            (source / name).mkdir()
            (source / name / "file").write_text(name)
        both = site.with_job(sources=[source / "one", source / "two"])
        both.backup()
        report = site.with_job(sources=[source / "two"]).backup()
        assert report.outcome is Outcome.DONE
        assert below(site) == {b"two", b"two/file"}

    def test_a_pattern_new_to_the_job_lets_go_what_it_leaves_out(self, site: Site, source: Path) -> None:
        (source / "logs").mkdir()
        (source / "logs" / "a.log").write_text("x")
        (source / "kept").write_text("x")
        site.backup()
        site.with_job(filters=Filters(["logs/"])).backup()
        assert below(site) == {b"kept"}

    def test_names_of_any_bytes(self, site: Site, source: Path) -> None:
        for name in (b"\xff\xfe", b"new\nline", b"\xc3\xa9", b"'\"\\$*?[", b" ", b"x" * 255, b"-rf"):
            with open(os.path.join(os.fsencode(source), name), "wb") as file:
                file.write(name)
        os.symlink(b"\xff/\xfe", os.path.join(os.fsencode(source), b"\xfd"))
        site.backup()
        assert_same_tree(source, restored(site, source))

    def test_times_that_no_database_holds(self, site: Site, source: Path) -> None:
        (source / "far").write_text("x")
        os.utime(source / "far", (14_000_000_000, 14_000_000_000))
        if os.stat(source / "far").st_mtime_ns < 2**63:
            pytest.skip("this file system has no such time")
        assert site.backup().outcome is Outcome.DONE
        assert site.backup().files_read == 0

    def test_fifos_and_devices(self, site: Site, source: Path) -> None:
        os.mkfifo(source / "fifo")
        if os.geteuid() == 0:
            os.mknod(source / "null", 0o600 | 0o020000, os.makedev(1, 3))
        assert site.backup().outcome is Outcome.DONE
        assert_same_tree(source, restored(site, source))

    def test_deeper_than_any_path_may_be(self, site: Site, source: Path) -> None:
        step = "d" * 200
        handle = os.open(source, os.O_RDONLY)
        for _ in range(30):
            os.mkdir(step, dir_fd=handle)
            inner = os.open(step, os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = inner
        file = os.open("bottom", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=handle)
        os.write(file, b"found")
        os.close(file)
        os.close(handle)
        report = site.backup()
        assert report.problems == ()
        assert any(path.endswith(b"/bottom") for path in below(site))
        assert_same_tree(source, restored(site, source))
        shutil.rmtree(source / step)

    def test_ten_thousand_entries_in_one_directory(self, site: Site, source: Path) -> None:
        for number in range(10_000):
            (source / str(number)).touch()
        assert site.backup().files == 10_000
        (source / "5000").unlink()
        report = site.backup()
        assert (report.files, report.files_read) == (9_999, 0)


def test_a_directory_on_the_way_counts_for_mode_and_owner_alone(site: Site, source: Path) -> None:
    (source / "file").write_text("x")
    site.backup()
    before = counts(site)
    source.parent.chmod(0o711)
    report = site.backup()
    assert (report.entries_added, report.entries_removed) == (1, 1)
    assert counts(site) == before | {"entries": before["entries"] + 1}
    assert site.backup().entries_added == 0


def test_rows_are_written_in_batches_and_views_renewed(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.job = replace(site.job, memory=replace(site.job.memory, rows=3))
    monkeypatch.setattr(staged_changes, "READS_A_VIEW", 2)
    for number in range(12):
        (source / str(number) / "deep").mkdir(parents=True)
        (source / str(number) / "deep" / "file").write_text(str(number))
    site.backup()
    for number in range(0, 12, 2):
        shutil.rmtree(source / str(number))
        (source / str(number)).write_text("a file now")
        ages(source / str(number + 1) / "deep")
    site.backup()
    assert_same_tree(source, restored(site, source))


class TestWhoMayRead:
    def test_new_recipients_must_be_accepted_once(self, site: Site, source: Path) -> None:
        (source / "file").write_bytes(os.urandom(3000))
        site.backup()
        other = RecoveryKey.from_seed(b"o" * 32)
        mine = site.keys
        site.keys = type(mine)(mine.signer, mine.secret, (other.recipient,), ())
        with pytest.raises(ConfigError, match="recipients") as caught:
            site.backup()
        assert "--accept-recipients" in caught.value.advice
        (source / "file").touch()
        report = run_backup(site.job, site.keys, site.world, accept_recipients=True)
        assert report.bytes_new == 3000, "a new set of recipients begins a new domain"
        site.backup()
        site.keys = mine
        with pytest.raises(ConfigError):
            site.backup()
        run_backup(site.job, site.keys, site.world, accept_recipients=True)
        site.backup()  # accepted for good, though this set is not the newest

    def test_a_job_keeps_its_vault(self, site: Site, tmp_path: Path) -> None:
        from backup.model import VaultName
        from backup.vault.directory import DirectoryVault

        site.backup()
        first = site.vault.name
        other = DirectoryVault(VaultName("other"), str(tmp_path / "other"), site.clock)
        other.create()
        site.vault = other
        with pytest.raises(ConfigError, match=f"is kept in vault {first}, and the config says other") as told:
            site.backup()
        assert f'to "{first}" again' in told.value.advice


class TestWhatIsTold:
    def test_progress_tells_files_and_bytes(self, site: Site, source: Path) -> None:
        (source / "file").write_bytes(os.urandom(70_000))
        site.backup()
        progress = site.progress
        assert isinstance(progress, Silent)
        assert progress.done == 70_000
        assert progress.stored > 70_000
        assert progress.phases == ["Backing up job"]

    def test_the_run_s_report_is_kept(self, site: Site, source: Path) -> None:
        (source / "file").write_text("x")
        report = site.backup()
        with site.inventory.reading() as tx:
            run = runs.list_runs(tx)[0]
        assert run.report == report.document()
        assert run.outcome is report.outcome is Outcome.DONE
        assert run.job == JobName("job")
        assert report.archives == 2  # data, and the first catalog, which is delta and full
        assert report.document()["recipients"] == [site.key.recipient.id.hex()]
