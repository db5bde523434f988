"""Memory by construction: shares of one setting, what may be under way at once, a run that has no more."""

from __future__ import annotations

import gc
import os
import sys
import threading
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.archiver import contents, sealing
from backup.archiver.predicted_cuts import LEAST_CHUNKS
from backup.buffers import Buffers
from backup.config import load_config, most_parts_at_once, part_size_within
from backup.config import settings as config_settings
from backup.config.values import usable_memory
from backup.errors import ConfigError
from backup.format.chunker import MAXIMUM
from backup.format.frame import SMALL_FILES_FRAME
from backup.memory import (
    DEFAULT_MEMORY,
    FRAME,
    HELPED,
    LEAST_FRAME,
    LEAST_MEMORY,
    backup_memory,
    database_cache,
    fetched_piece,
    file_makers,
    frame_openers,
    parts_at_once,
    usual_memory,
)
from backup.model import KIB, MIB, Part, UploadId, VaultName
from backup.source.read import LARGEST_WINDOW
from backup.transfer.retrieve import PIECE
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.limited_memory import limit_memory, most_addresses, most_resident, server_of_parts
from tests.support.trees import assert_same_tree, snapshot_of

MEMORY = st.integers(LEAST_MEMORY, 2**40)


class TestShares:
    """The arithmetic."""

    @given(MEMORY)
    def test_the_worst_case_is_within_the_setting(self, memory: int) -> None:
        assert backup_memory(memory).worst <= memory

    @given(MEMORY, st.integers(0, 2**30))
    def test_more_memory_never_means_less_of_anything(self, memory: int, more: int) -> None:
        less, much = backup_memory(memory), backup_memory(memory + more)
        assert less.uploads <= much.uploads
        assert less.frame <= much.frame
        assert less.in_flight <= much.in_flight
        assert less.batch <= much.batch
        assert (less.ahead, less.chunks) <= (much.ahead, much.chunks)
        assert (less.small, less.rows, less.workers) <= (much.small, much.rows, much.workers)
        assert database_cache(memory) <= database_cache(memory + more)
        assert fetched_piece(memory) <= fetched_piece(memory + more)

    @given(MEMORY, st.integers(1, 256))
    def test_it_is_on_any_number_of_cores(self, memory: int, cores: int) -> None:
        limits = backup_memory(memory, cores)
        assert limits.worst <= memory
        assert 1 <= limits.workers <= cores
        assert limits.in_flight >= (limits.workers - 2) * limits.frame, "one more for each further worker"

    @given(MEMORY, st.integers(0, 2**30), st.integers(1, 256))
    def test_more_memory_never_means_fewer_workers(self, memory: int, more: int, cores: int) -> None:
        less, much = backup_memory(memory, cores), backup_memory(memory + more, cores)
        assert (less.workers, less.uploads) <= (much.workers, much.uploads)
        assert less.uploads <= much.uploads
        assert less.in_flight <= much.in_flight
        assert frame_openers(memory, cores) <= frame_openers(memory + more, cores) <= cores

    @pytest.mark.parametrize(
        ("memory", "cores", "workers", "openers", "makers"),
        [
            (256, 1, 1, 1, 0),
            (256, 2, 2, 2, 1),
            (64, 8, 1, 1, 0),
            (159, 8, 1, 2, 0),
            (160, 8, 3, 2, 1),
            (256, 3, 3, 3, 2),
            (256, 8, 4, 4, 2),
            (340, 8, 5, 5, 3),
            (1024, 16, 15, 16, 9),
            (4096, 32, 32, 32, 31),
        ],
    )
    def test_what_cores_get(self, memory: int, cores: int, workers: int, openers: int, makers: int) -> None:
        assert file_makers(memory * MIB, cores) == makers
        assert backup_memory(memory * MIB, cores).workers == workers
        assert frame_openers(memory * MIB, cores) == openers

    @given(MEMORY)
    def test_pieces_that_are_fetched_fit(self, memory: int) -> None:
        piece = fetched_piece(memory)
        assert piece & (piece - 1) == 0
        assert MIB <= piece <= PIECE
        assert 5 * piece <= memory

    @given(MEMORY, st.integers(0, 12))
    def test_parts_that_are_sent_fit(self, memory: int, power: int) -> None:
        share, size = backup_memory(memory).uploads, MIB << power
        assert parts_at_once(share, size) == 1 or parts_at_once(share, size) * size <= share

    @pytest.mark.parametrize(
        ("limit", "memory"), [(None, 256), (64, 64), (128, 80), (256, 160), (409, 255), (8192, 256)]
    )
    def test_a_small_container_has_less(self, limit: int | None, memory: int) -> None:
        assert usual_memory(None if limit is None else limit * MIB) // MIB == memory

    @given(st.integers(1, LEAST_FRAME))
    def test_with_the_least_memory_the_smallest_part_of_any_vault_is_sent(self, more: int) -> None:
        assert backup_memory(LEAST_MEMORY + more).uploads >= 8 * MIB

    def test_the_default_is_what_the_parts_have_without_it(self) -> None:
        default = backup_memory(DEFAULT_MEMORY)
        assert default.in_flight == 2 * FRAME
        assert default.frame == FRAME == SMALL_FILES_FRAME
        assert 5 * MIB < default.batch < contents._BATCH_BYTES
        assert MIB <= default.ahead < 2 * MIB
        assert 4 * 32 * MIB <= default.uploads < 5 * 32 * MIB
        assert fetched_piece() == PIECE


class TestConfig:
    """`[limits]` and `parts_at_once`."""

    def config(self, folder: Path, vault: str = "", memory: str = "") -> str:
        text = f'[[vault]]\nname = "v"\nkind = "glacier"\nregion = "eu-central-1"\nvault = "v"\n{vault}\n'
        path = folder / "config.toml"
        path.write_text(f'[limits]\nmemory = "{memory}"\n{text}' if memory else text)
        return str(path)

    def test_without_it(self, tmp_path: Path) -> None:
        read = load_config(self.config(tmp_path))
        assert read.limits.memory == DEFAULT_MEMORY
        assert part_size_within(read.vaults[0], read.limits.memory) == 32 * MIB
        assert most_parts_at_once(read.vaults[0], read.limits.memory) == 4

    @pytest.mark.parametrize(
        ("memory", "vault", "size", "most"),
        [
            ("64MiB", "", 8, 1),
            ("96MiB", "", 16, 1),
            ("128MiB", "", 32, 1),
            ("1GiB", "", 32, 16),
            ("4GiB", "", 32, 16),
            ("340MiB", 'part_size = "8MiB"', 8, 16),
            ("340MiB", "parts_at_once = 8", 16, 8),
            ("340MiB", "parts_at_once = 1", 32, 1),
            ("340MiB", 'upload_limit = "4MiB/s"\npart_size = "8MiB"', 8, 3),
        ],
    )
    def test_what_follows_from_it(
        self, tmp_path: Path, memory: str, vault: str, size: int, most: int
    ) -> None:
        read = load_config(self.config(tmp_path, vault, memory))
        assert part_size_within(read.vaults[0], read.limits.memory) == size * MIB
        assert most_parts_at_once(read.vaults[0], read.limits.memory) == most

    def test_a_disk_gains_nothing_by_more(self, tmp_path: Path) -> None:
        path = self.config(tmp_path, memory="4GiB")
        text = Path(path).read_text().replace('region = "eu-central-1"\nvault = "v"', 'path = "vault"')
        Path(path).write_text(text.replace("glacier", "directory"))
        assert most_parts_at_once(load_config(path).vaults[0], 4096 * MIB) == 3

    @pytest.mark.parametrize(
        ("memory", "vault", "told"),
        [
            ("63MiB", "", "limits.memory: must be at least 64MiB"),
            ("96MiB", "parts_at_once = 30", r"vault\[1\].parts_at_once: is too much for limits.memory, of"),
            ("", "parts_at_once = 0", r"vault\[1\].parts_at_once: must be"),
            ("much", "", "limits.memory: must be a number of bytes or a text like"),
            ('320MiB"\ncores = 0 #', "", "limits.cores: must be a number from 1 to 1024"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, memory: str, vault: str, told: str) -> None:
        with pytest.raises(ConfigError, match=told):
            load_config(self.config(tmp_path, vault, memory))


class TestControlGroups:
    """Memory as the kernel's files tell it: here those of a folder."""

    def process(self, folder: Path, groups: str, mounts: str, limits: Mapping[str, str]) -> str:
        """A process of these groups; `limits` are files below the folder, as is what is mounted."""
        process = folder / "proc"
        process.mkdir()
        (process / "cgroup").write_text(groups)
        (process / "mountinfo").write_text(mounts.replace("TOP", str(folder).replace(" ", "\\040")))
        for name, text in limits.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return str(process)

    def test_the_least_above_a_service(self, tmp_path: Path) -> None:
        folder = tmp_path / "with a blank"
        folder.mkdir()
        limits = {
            "fs/a/memory.max": "300\n",
            "fs/a/b/memory.max": "max\n",
            "fs/a/b/c/memory.max": "400\n",
            "fs/a/b/c/memory.high": "350\n",
            "fs/other/memory.max": "1\n",
        }
        mounts = "22 1 0:2 / / rw - ext4 /dev/vda rw\n30 22 0:26 / TOP/fs rw shared:4 - cgroup2 cgroup2 rw\n"
        assert usable_memory(self.process(folder, "0::/a/b/c\n", mounts, limits)) == 300

    @pytest.mark.parametrize("path", ["/", "/docker/abc", "/../outside"])
    def test_a_container_sees_its_own_at_the_top(self, tmp_path: Path, path: str) -> None:
        mounts = "30 22 0:26 /docker/abc TOP/fs ro - cgroup2 cgroup rw\n"
        process = self.process(tmp_path, f"0::{path}\n", mounts, {"fs/memory.max": str(256 * MIB)})
        assert usable_memory(process) == 256 * MIB

    def test_version_1(self, tmp_path: Path) -> None:
        mounts = (
            "31 22 0:27 / TOP/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
            "32 22 0:28 / TOP/fs rw - cgroup cgroup rw,memory\n33 22 0:29 / TOP/two rw - cgroup2 none rw\n"
        )
        limits = {
            "fs/memory.limit_in_bytes": "9223372036854771712\n",
            "fs/b/memory.limit_in_bytes": "268435456\n",
            "cpu/b/memory.limit_in_bytes": "1\n",
        }
        process = self.process(tmp_path, "4:memory:/b/c\n3:cpu,cpuacct:/b\n0::/\n", mounts, limits)
        assert usable_memory(process) == 256 * MIB

    @pytest.mark.parametrize("limit", ["max\n", "0\n", "9223372036854771712\n", "much\n", ""])
    def test_none(self, tmp_path: Path, limit: str) -> None:
        mounts = "30 22 0:26 / TOP/fs rw - cgroup2 cgroup2 rw\n"
        assert usable_memory(self.process(tmp_path, "0::/\n", mounts, {"fs/memory.max": limit})) is None

    @pytest.mark.parametrize(("groups", "mounts"), [("no\n", ""), ("0::/\n", "30 - cgroup2\n"), ("", "")])
    def test_what_cannot_be_read_is_no_limit(self, tmp_path: Path, groups: str, mounts: str) -> None:
        assert usable_memory(self.process(tmp_path, groups, mounts, {})) is None
        assert usable_memory(str(tmp_path / "away")) is None

    def test_a_setting_goes_before_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(config_settings, "usable_memory", lambda: 256 * MIB)
        config = tmp_path / "config.toml"
        config.write_text("")
        assert load_config(str(config)).limits.memory == 160 * MIB
        config.write_text("[limits]\ncores = 1\n")
        assert load_config(str(config)).limits.memory == 160 * MIB
        config.write_text('[limits]\nmemory = "512MiB"\n')
        assert load_config(str(config)).limits.memory == 512 * MIB


class _Scales(DirectoryVault):
    """Weighs the parts that are being sent."""

    weight = most = 0
    _lock = threading.Lock()

    def put_part(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
        """As ever, weighed meanwhile."""
        self._weigh(body.nbytes)
        try:
            super().put_part(upload_id, part, body)
        finally:
            self._weigh(-body.nbytes)

    def put_file(self, *_: object) -> bool:
        """It takes nothing but parts."""
        return False

    def _weigh(self, size: int) -> None:
        with self._lock:
            self.weight += size
            self.most = max(self.most, self.weight)


class TestUnderWay:
    """What a run holds at once, weighed."""

    @pytest.fixture
    def site(self, tmp_path: Path) -> Site:
        clock = ManualClock()
        vault = _Scales(VaultName("disk"), str(tmp_path / "vault"), clock)
        vault.create()
        source = tmp_path / "source"
        source.mkdir()
        for number in range(24):
            (source / f"{number}").write_bytes(os.urandom(3 * MIB))
        return Site.create(
            tmp_path / "state", vault, [source], clock=clock, pack_size=32 * MIB, part_size=2 * MIB
        )

    @pytest.mark.parametrize("lanes", [1, 2, 5])
    def test_parts(self, site: Site, lanes: int) -> None:
        site.job = replace(site.job, most_parts_at_once=lanes)
        site.backup()
        assert isinstance(site.vault, _Scales)
        assert 0 < site.vault.most <= lanes * 2 * MIB

    def test_frames(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        most = 0
        real = sealing.SealingLine.send

        def send(line: sealing.SealingLine, frame: sealing.Frame) -> None:
            nonlocal most
            real(line, frame)
            most = max(most, sum(memoryview(pack.frame.buffer.obj).nbytes for pack in line._under_way))

        monkeypatch.setattr(sealing.SealingLine, "send", send)
        memory = backup_memory(LEAST_MEMORY)
        site.job = replace(site.job, memory=memory)
        site.backup()
        assert 0 < most <= memory.in_flight + memory.frame

    def test_chunks_of_a_pack(self, site: Site) -> None:
        site.job = replace(site.job, memory=replace(site.job.memory, chunks=5))
        site.backup()
        shelves = Path(site.folder.parent, "vault")
        packs = [path for path in shelves.rglob("*") if path.is_file() and path.stat().st_size > MIB]
        assert len(packs) >= 24 // 5

    def test_when_it_is_over_its_buffers_are_gone(self, site: Site) -> None:
        """At once, not when cycles are collected: a daemon sleeps until the next run."""
        site.backup()
        (Path(os.fsdecode(site.job.sources[0])) / "0").write_bytes(os.urandom(3 * MIB))
        gc.disable()
        tracemalloc.start()
        try:
            site.backup()
            held, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
        assert most > 4 * MIB
        assert held < MIB

    @pytest.mark.parametrize("memory", [LEAST_MEMORY, DEFAULT_MEMORY])
    def test_buffers_are_used_again(self, site: Site, monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
        """As many are made as windows and frames may be under way at once, however much is read.

        Also where files that are compared with earlier versions alternate with new, small and sparse ones.
        """
        source = Path(os.fsdecode(site.job.sources[0]))
        for number in range(8):
            # As many chunks as are compared, wherever cuts fall.
            (source / f"{number}-grows").write_bytes(os.urandom((LEAST_CHUNKS - 1) * MAXIMUM + 1))
        made: dict[int, int] = {}
        given: list[int] = []
        real = Buffers.take

        def counted(self: Buffers, size: int) -> memoryview:
            view = real(self, size)
            given.append(size)
            made[id(view.obj)] = memoryview(view.obj).nbytes
            return view

        limits = backup_memory(memory)
        site.job = replace(site.job, memory=limits)
        site.backup()
        for number in range(8):
            with (source / f"{number}-grows").open("ab") as file:
                file.write(b"more")
            (source / f"{number}-is-new").write_bytes(os.urandom(3 * MIB))
            for small in range(40):
                (source / f"{number}-new-and-small-{small}").write_bytes(os.urandom(200 * KIB))
            with (source / f"{number}-sparse").open("wb") as file:
                file.truncate(3 * MIB)
                file.seek(2 * MIB)
                file.write(os.urandom(5 * MIB))
        monkeypatch.setattr(Buffers, "take", counted)
        site.backup()
        large = [size for size in made.values() if size == LARGEST_WINDOW]
        assert 0 < len(large) <= 3, "two, and one that a thread let go a moment late"
        assert given.count(LARGEST_WINDOW) >= 8
        windows = 2 * LARGEST_WINDOW + 3 * limits.frame
        frames = limits.in_flight + 3 * limits.frame  # two that are gathered, one that is sent
        assert sum(made.values()) <= windows + frames + limits.batch


class TestWithinALimit:
    """A real run that the kernel gives no more than what it was told to need."""

    MEMORY = LEAST_MEMORY

    def fill(self, source: Path, mebibytes: int = 80) -> None:
        """More than fits, in large files and in so many small ones that a second process reads them."""
        for number in range(3):
            with (source / f"{number}.bin").open("wb") as file:
                file.writelines(os.urandom(MIB) for _ in range(mebibytes))
        for number in range(2_500):
            (source / f"{number}.txt").write_bytes(b"%d" % number * 700)

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_a_backup_finishes_within_it(self, tmp_path: Path) -> None:
        server = server_of_parts(tmp_path)
        limit_memory(server, self.MEMORY)
        alone = most_addresses(server)  # interpreter, libraries, database
        self.fill(server.source)
        most_addresses(server, alone + self.MEMORY)
        report = server.json("runs")[0]
        assert report["outcome"] == "done"
        assert_same_tree(server.restore(tmp_path / "out"), snapshot_of(server.source))

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_with_more_it_takes_more(self, tmp_path: Path) -> None:
        server = server_of_parts(tmp_path)
        alone = most_addresses(server)
        self.fill(server.source)
        most = most_addresses(server)
        assert most > alone + self.MEMORY

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    @pytest.mark.parametrize(("memory", "limit"), [(LEAST_MEMORY, 80), (HELPED, 160)])
    def test_all_processes_together_take_no_more(self, tmp_path: Path, memory: int, limit: int) -> None:
        """Interpreters included; parts that are sent are mapped, which the least memory does not count."""
        server = server_of_parts(tmp_path)
        limit_memory(server, memory)
        self.fill(server.source, 24)
        restore = ("restore", "latest", "--target", str(tmp_path / "out"), "--key", str(server.key_file))
        most = max(most_resident(server, "backup", "main"), most_resident(server, *restore, "--wait"))
        assert limit / 3 < most < limit
        assert_same_tree(tmp_path / "out" / str(server.source)[1:], snapshot_of(server.source))
