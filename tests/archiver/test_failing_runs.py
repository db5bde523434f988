"""Full disks, vaults that are away or say no, users that may not read: one clear error, and nothing lost."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import (
    DeniedError,
    InventoryDamagedError,
    NightvaultError,
    ProofError,
    SpoolError,
    ThrottledError,
    UnreachableError,
    VaultError,
    VaultMissingError,
)
from backup.inventory.content.archives import list_archives
from backup.inventory.records import runs
from backup.kinds import Outcome
from backup.model import ArchiveLabel, Problem, ProblemKind, UploadId, VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import Fault, FaultyVault, ManualClock
from tests.support.integrity import (
    assert_no_chunk_twice,
    assert_nothing_left_over,
    assert_stored,
    assert_whole,
    fill,
    list_now,
)
from tests.support.trees import snapshot_of

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too

NOBODY = 65534
SIZE = 6 * 1024 * 1024


def fails(site: Site, error: type[NightvaultError]) -> NightvaultError:
    """Run a backup that must fail so; it says what to do, and its run is recorded as failed."""
    with pytest.raises(error) as caught:
        site.backup()
    with site.inventory.reading() as tx:
        run = runs.list_runs(tx)[0]
    assert run.outcome in {Outcome.FAILED, Outcome.RUNNING}  # RUNNING: its catalog may still arrive
    return caught.value


def recovers(site: Site, scratch: Path) -> None:
    """The next run makes everything whole, and stores nothing a second time."""
    source = Path(os.fsdecode(site.job.sources[0]))
    site = site.reopen()
    site.backup()
    trees = dict.fromkeys((snapshot.number for snapshot in site.snapshots()), snapshot_of(source))
    assert_whole(site, scratch, trees, list_now(site.vault))


def in_spool(handle: int) -> bool:
    """Whether the open file is a pack in a spool."""
    return os.readlink(f"/proc/self/fd/{handle}").endswith(".pack")


class TestSpool:
    @pytest.mark.parametrize("room", [0, 300, 200_000, 1_500_000, 4_000_000, 6_400_000])
    def test_full_disk(
        self, site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
    ) -> None:
        fill(source, 1, SIZE)
        left = room
        real = os.write

        def write(handle: int, data: memoryview) -> int:
            nonlocal left
            if not in_spool(handle):
                return real(handle, data)
            if left <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = real(handle, data[:left])
            left -= written
            return written

        monkeypatch.setattr(os, "write", write)
        error = fails(site, SpoolError)
        assert "No space left" in str(error)
        assert "free some space" in error.advice
        monkeypatch.undo()
        recovers(site, tmp_path / "restored")

    @pytest.mark.parametrize("call", ["fsync", "pread"])
    def test_failing_disk_under_the_spool_is_no_unreadable_file(
        self, site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        fill(source, 1, SIZE)
        real = getattr(os, call)

        def failing(handle: int, *rest: int) -> object:
            if in_spool(handle):
                raise OSError(errno.EIO, "Input/output error")
            return real(handle, *rest)

        monkeypatch.setattr(os, call, failing)
        assert "Input/output error" in str(fails(site, SpoolError))
        monkeypatch.undo()
        recovers(site, tmp_path / "restored")

    def test_spool_file_that_vanishes_before_it_is_sent(
        self, site: Site, source: Path, tmp_path: Path
    ) -> None:
        fill(source, 1, SIZE)

        class Thief(FaultyVault):
            def begin_upload(self, label: ArchiveLabel, part_size: int) -> UploadId:
                for name in os.listdir(site.spool):
                    os.unlink(site.spool / name)
                return super().begin_upload(label, part_size)

        with pytest.raises(SpoolError, match="cannot be read"):
            replace(site, vault=Thief(site.vault)).backup()
        site = site.reopen()
        site.backup()
        assert_nothing_left_over(site)
        site.restore("latest", tmp_path / "restored")

    @pytest.mark.parametrize("proof", [1, 2, 3, 4])
    def test_bytes_that_change_between_write_and_proof(
        self, site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: int
    ) -> None:
        fill(source, 1, SIZE // 3)
        calls = iter(range(1, 1000))
        real = os.pread

        def flipping(handle: int, length: int, offset: int) -> bytes:
            data = real(handle, length, offset)
            if in_spool(handle) and next(calls) == proof:
                middle = len(data) // 2
                return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            return data

        monkeypatch.setattr(os, "pread", flipping)
        error = fails(site, ProofError)
        assert "did not read back as written" in str(error)
        monkeypatch.undo()
        with site.inventory.reading() as tx:
            assert list_archives(tx, site.inventory.id) == []
        assert list_now(site.vault).archives == []
        assert os.listdir(site.spool) == []
        recovers(site, tmp_path / "restored")

    def test_full_disk_under_the_inventory(
        self, site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3000):
            (source / f"{number} {'x' * 100}").write_text(str(number))
        site.inventory.close()
        real = site.inventory.connections.open

        def small() -> sqlite3.Connection:
            connection = real()
            connection.execute("PRAGMA max_page_count = 80")
            return connection

        monkeypatch.setattr(site.inventory.connections, "open", small)
        assert "full" in str(fails(site, SpoolError))
        recovers(site, tmp_path / "restored")


class TestVault:
    def test_vault_that_is_not_there_any_more(
        self, site: Site, source: Path, tmp_path: Path, disk: DirectoryVault
    ) -> None:
        fill(source, 1, SIZE)
        site.backup()
        tree = snapshot_of(source)
        (source / "more").write_bytes(os.urandom(100_000))
        (tmp_path / "vault").rename(tmp_path / "unplugged")
        fails(site, VaultMissingError)
        (tmp_path / "unplugged").rename(tmp_path / "vault")
        site = site.reopen()
        site.backup()
        numbers = [snapshot.number for snapshot in site.snapshots()]
        trees = dict.fromkeys(numbers, snapshot_of(source)) | {1: tree}
        assert_whole(site, tmp_path / "restored", trees, list_now(disk))

    @pytest.mark.parametrize("method", ["begin_upload", "put_part", "complete_upload"])
    @pytest.mark.parametrize("skip", [0, 1, 2])
    @pytest.mark.parametrize("error", [DeniedError("no"), VaultError("broken"), UnreachableError("away")])
    def test_vault_that_says_no(
        self, site: Site, source: Path, tmp_path: Path, method: str, skip: int, error: NightvaultError
    ) -> None:
        fill(source, 1, SIZE)
        cold = FaultyVault(site.vault, Fault(method, error, skip=skip, count=10_000))
        failed = fails(replace(site, vault=cold), type(error))
        assert failed is error
        recovers(site, tmp_path / "restored")

    def test_a_full_catalog_that_fails_makes_the_run_partial_and_is_due_again(
        self, site: Site, source: Path, tmp_path: Path
    ) -> None:
        """It is due since the recovery key vouches for the server, which it did not in the first night."""
        (source / "file").write_text("x")
        replace(site, keys=replace(site.keys, enrolments=())).backup()
        cold = FaultyVault(site.vault, Fault("begin_upload", DeniedError("no"), skip=1))
        report = replace(site, vault=cold).backup()
        cold.assert_all_met()
        assert report.outcome is Outcome.PARTIAL
        assert "full catalog" in report.warnings[0]
        recovers(site, tmp_path / "restored")

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("method", ["begin_upload", "put_part", "complete_upload"])
    def test_what_may_work_the_next_time_is_tried_again(
        self, site: Site, source: Path, tmp_path: Path, clock: ManualClock, method: str, after: bool
    ) -> None:
        fill(source, 1, SIZE)
        faults = [
            Fault(method, ThrottledError("slow down"), skip=skip, count=3, after=after) for skip in (0, 4)
        ]
        flaky = FaultyVault(site.vault, *faults)
        report = replace(site, vault=flaky).backup()
        flaky.assert_all_met()
        assert report.outcome is Outcome.DONE
        assert sum(clock.slept) > 1
        assert_no_chunk_twice(site)
        assert_stored(site, list_now(site.vault))
        assert_nothing_left_over(site)

    def test_pending_uploads_that_cannot_go_on_are_told_as_a_failed_run(
        self, site: Site, source: Path, tmp_path: Path
    ) -> None:
        fill(source, 1, SIZE)
        denied = FaultyVault(site.vault, Fault("*", DeniedError("no"), count=10_000))
        fails(replace(site, vault=denied), DeniedError)
        again = site.reopen(denied)
        fails(again, DeniedError)
        with again.inventory.reading() as tx:
            assert [run.outcome for run in runs.list_runs(tx)] == [Outcome.FAILED] * 2
        recovers(again.reopen(site.vault), tmp_path / "restored")


class TestInventory:
    def test_damaged_inventory_is_told_in_words(self, site: Site, source: Path) -> None:
        (source / "file").write_text("x")
        site.backup()
        site.close()
        file = site.folder / "inventory.sqlite"
        data = bytearray(file.read_bytes())
        data[4096:] = os.urandom(len(data) - 4096)
        file.write_bytes(data)
        with pytest.raises(InventoryDamagedError):
            site.reopen().backup()


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that any user may reach."""
    folder = Path(tempfile.mkdtemp(prefix="nightvault-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(action: Callable[[], tuple[Problem, ...]]) -> tuple[Problem, ...]:
    """What `action` returns in a process that is not root, which may read everything."""
    if os.geteuid() != 0:
        return action()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with open(writing, "wb") as pipe:
                pickle.dump(action(), pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        data = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    problems: tuple[Problem, ...] = pickle.loads(data)
    return problems


def test_what_may_not_be_read_is_named_and_carried_over(public: Path, tmp_path: Path) -> None:
    source = public / "source"
    (source / "closed").mkdir(parents=True)
    (source / "closed" / "inside").write_text("kept")
    (source / "secret").write_text("kept as well")
    (source / "open").write_text("old")
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(public / "vault"), clock)
    vault.create()
    site = Site.create(public / "state", vault, [source], clock=clock)
    site.backup()
    before = snapshot_of(source)
    site.close()
    (source / "open").write_text("new")
    (source / "secret").chmod(0)
    (source / "closed").chmod(0)
    for path, directories, files in os.walk(public):
        for name in (*directories, *files):
            if os.geteuid() == 0 and "source" not in path:
                os.chown(os.path.join(path, name), NOBODY, NOBODY)
    if os.geteuid() == 0:
        os.chown(public, NOBODY, NOBODY)
        os.chown(source, 0, 0)

    problems = as_nobody(lambda: tuple(site.reopen().backup().problems))

    (source / "secret").chmod(0o600)
    (source / "closed").chmod(0o700)
    assert {problem.path: problem.kind for problem in problems} == {
        os.fsencode(source / "closed"): ProblemKind.UNREADABLE,
        os.fsencode(source / "secret"): ProblemKind.UNREADABLE,
    }
    site = site.reopen()
    assert site.snapshot().problems == problems
    site.restore("latest", tmp_path / "out")
    after = snapshot_of(tmp_path / "out")
    assert after[b"open"].content == b"new"
    for kept in (b"secret", b"closed/inside"):
        assert after[kept] == before[kept]
    assert after[b"closed"].mode == 0
