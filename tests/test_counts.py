"""Speed that cannot rot unseen: what a run does for each file and each byte is counted, not timed."""

from __future__ import annotations

import gc
import hashlib
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup.format import treehash
from backup.model import KIB, MIB, VaultName
from backup.restorer.restore import plan_restore
from backup.restorer.selection.chunk_users import ChunkUsers
from backup.restorer.selection.column import MOST_IN_MEMORY
from backup.transfer import upload
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from tests.support.backups import PACK, Site
from tests.support.doubles import ManualClock
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.rigs import glacier_client
from tests.support.sql_statements import listening_to_sql

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too

FILES_A_FOLDER = 200


def plant(folder: Path, files: int) -> None:
    for number in range(files):
        place = folder / f"{number // FILES_A_FOLDER:04}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06}").write_bytes(b"%d" % number * 100)


def directory_site(folder: Path, *, pack_size: int = PACK) -> Site:
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), clock)
    vault.create()
    return Site.create(folder / "state", vault, [folder / "source"], clock=clock, pack_size=pack_size)


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL that goes to the driver meanwhile; one executemany is one statement."""
    heard: list[str] = []
    with listening_to_sql(heard.append):
        yield heard


class TestStatements:
    """SQL goes by the directory and by the batch, never by the file."""

    def count(self, folder: Path, files: int) -> tuple[int, int]:
        plant(folder / "source", files)
        site = directory_site(folder, pack_size=64 * MIB)
        with statements() as first:
            site.backup()
        with statements() as again:
            site.backup()
        site.close()
        return len(first), len(again)

    def test_they_do_not_grow_with_the_files(self, tmp_path: Path) -> None:
        few, many = self.count(tmp_path / "few", 1_000), self.count(tmp_path / "many", 4_000)
        folders = (4_000 - 1_000) // FILES_A_FOLDER
        assert many[0] - few[0] <= 2 * folders, Counter(many)
        assert many[1] - few[1] <= 3 * folders

    def test_a_catalog_is_made_of_what_is_in_memory(self, tmp_path: Path) -> None:
        """Neither what was staged nor what lies in archives is read back for it."""
        plant(tmp_path / "source", 1_000)
        site = directory_site(tmp_path, pack_size=64 * MIB)
        with statements() as first:
            site.backup()
        site.close()
        read = [statement for statement in first if statement.lstrip().startswith("SELECT")]
        assert not [
            statement for statement in read if "staged_entries" in statement and "content_id" in statement
        ]
        assert not [statement for statement in read if "FROM chunks WHERE archive" in statement]

    def test_a_plan_of_a_restore_asks_by_the_thousands(self, tmp_path: Path) -> None:
        few, many = self.of_a_plan(tmp_path / "few", 500), self.of_a_plan(tmp_path / "many", 4_000)
        assert many == few

    def of_a_plan(self, folder: Path, files: int) -> int:
        plant(folder / "source", files)
        site = directory_site(folder, pack_size=64 * MIB)
        site.backup()
        snapshot, world = site.snapshot(), site.restore_world
        with statements() as heard:
            plan = plan_restore(snapshot, b"/", world)
        assert len(plan.selection.files) == files
        site.close()
        return len(heard)


class TestSystemCalls:
    """What the kernel is asked for each small file: strace counts, of all processes and threads.

    Not counted is what depends on who runs when: waits, and how much a process hands to the next at once.
    """

    # A stat by the scan; open, read, xattrs, flags, stat, close; and its share of a batch.
    MOST_FIRST = 7.9
    MOST_AGAIN = 1.5
    # Open without a name, write, times, stat, link, close; and its share of a directory.
    MOST_RESTORED = 6.3
    OF_CHANCE = frozenset({"total", "futex", "poll", "recvfrom", "recvmsg", "sendto", "sendmsg"})

    @pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")
    def test_a_small_file_costs_few(self, tmp_path: Path) -> None:
        few, many = self.calls(tmp_path / "few", 2_500), self.calls(tmp_path / "many", 5_500)
        costs = [(more - less) / 3_000 for less, more in zip(few, many, strict=True)]
        first, again, restored = costs
        assert first <= self.MOST_FIRST
        assert again <= self.MOST_AGAIN
        assert restored <= self.MOST_RESTORED

    def calls(self, folder: Path, files: int) -> tuple[int, int, int]:
        plant(folder / "source", files)
        places = [str(folder / place) for place in ("state", "vault", "source")]
        backup = ["tests.support.one_backup", *places]
        first, again = self.counted(folder, backup), self.counted(folder, backup)
        restored = self.counted(folder, ["tests.support.restores", *places, str(folder / "out")])
        return first, again, restored

    def counted(self, folder: Path, module: Sequence[str]) -> int:
        told = folder / "calls.strace"
        strace = ["strace", "-f", "-c", "-U", "calls,name", "-o", str(told)]
        subprocess.run([*strace, sys.executable, "-m", *module], check=True, capture_output=True)
        lines = re.findall(r"^\s*(\d+)\s+(\w+)$", told.read_text(), re.MULTILINE)
        return sum(int(count) for count, name in lines if name not in self.OF_CHANCE)


class TestMemory:
    """What a restore holds of each file of one chunk while it waits for its data."""

    MOST_BYTES = 220
    MOST_BYTES_OF_LARGE_PLANS = 3  # a mark for each use of a chunk, and the share of a directory and a frame
    MOST_BYTES_FOR_A_MOMENT = 16

    def test_a_plan_is_small(self, tmp_path: Path) -> None:
        few, many = self.held(tmp_path / "few", 1_000), self.held(tmp_path / "many", 5_000)
        assert (many[0] - few[0]) / 4_000 <= self.MOST_BYTES

    def test_a_large_plan_is_hardly_in_memory(self, tmp_path: Path) -> None:
        few, many = (self.held(tmp_path / files, int(files), column=KIB) for files in ("8000", "16000"))
        assert (many[0] - few[0]) / 8_000 <= self.MOST_BYTES_OF_LARGE_PLANS
        assert (many[1] - few[1]) / 8_000 <= self.MOST_BYTES_FOR_A_MOMENT

    def held(self, folder: Path, files: int, *, column: int = MOST_IN_MEMORY) -> tuple[int, int]:
        """Bytes of Python's memory: at the end, and at most meanwhile. Maps of files are not among them."""
        plant(folder / "source", files)
        site = directory_site(folder, pack_size=64 * MIB)
        site.backup()
        site.column = column
        snapshot, world = site.snapshot(), site.restore_world
        tracemalloc.start()
        try:
            plan = plan_restore(snapshot, b"/", world)
            uses = ChunkUsers(plan.selection.files, plan.selection.locations, plan.selection.scratch)
            gc.collect()
            assert len(uses.offsets) == files
            return tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            site.close()


class _Counted:
    """SHA-256 that tells how many bytes it took."""

    taken = 0

    def __init__(self, data: bytes | memoryview = b"") -> None:
        self._real = hashlib.sha256()
        self.update(data)

    def update(self, data: bytes | memoryview) -> None:
        _Counted.taken += len(data)
        self._real.update(data)

    def digest(self) -> bytes:
        return self._real.digest()

    def hexdigest(self) -> str:
        return self._real.hexdigest()


class TestHashing:
    """Each byte that is sent goes through SHA-256 twice, when it is packed: for the tree, and for AWS.

    A directory vault signs nothing, and a pack that moves within a file system is hashed only when it is
    written: reading it back has proven it.
    """

    @pytest.fixture(autouse=True)
    def counting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Hashes:
            sha256 = _Counted

        monkeypatch.setattr(treehash, "hashlib", Hashes)
        monkeypatch.setattr(upload, "hashlib", None)  # what packing has hashed is not hashed again
        monkeypatch.setattr(_Counted, "taken", 0)

    def plant(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}").write_bytes(hashlib.shake_128(b"%d" % number).digest(6 * MIB))

    def test_into_a_directory(self, tmp_path: Path) -> None:
        self.plant(tmp_path / "source")
        report = directory_site(tmp_path, pack_size=16 * MIB).backup()
        assert report.bytes_uploaded >= 18 * MIB
        assert _Counted.taken <= 1.01 * report.bytes_uploaded

    def test_into_glacier(self, tmp_path: Path) -> None:
        self.plant(tmp_path / "source")
        with RunningEmulator(tmp_path / "emulator", write_accounts(tmp_path / "accounts.toml")) as emulator:
            vault = GlacierVault(VaultName("cold"), glacier_client(emulator), "counted")
            vault.create()
            site = Site.create(tmp_path / "state", vault, [tmp_path / "source"], pack_size=16 * MIB)
            report = site.backup()
        assert report.bytes_uploaded >= 18 * MIB
        assert 2 * report.bytes_uploaded <= _Counted.taken <= 2.01 * report.bytes_uploaded
