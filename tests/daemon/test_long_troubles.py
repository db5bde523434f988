"""Days of trouble, with real runs: a vault or network away, a full disk, a read-only state, no certificate.

The daemon backs off, status and exit codes say so, and it catches up by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from backup.app.tasks.book import InventoryBook
from backup.config import load_config
from backup.daemon.board import Board
from backup.daemon.executor import Executor
from backup.daemon.service import all_tasks
from backup.daemon.task_run import TaskEnd
from backup.daemon.work import TaskWork
from backup.inventory.records.tasks import TaskState
from backup.kinds import TaskKind
from backup.protocols import Clock
from tests.support.daemons import Ends, Figures
from tests.support.doubles import ManualClock
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator
from tests.support.identities import authority_in, issue_in
from tests.support.rigs import s3_client
from tests.support.servers import Server, directory_server, replace, running_cloud

STEP, DAY = timedelta(hours=1), timedelta(days=1)
EVENING = datetime.fromisoformat("2026-03-01T21:00:00+00:00")
NIGHTLY = 'schedule = "daily at 02:30"\ntimezone = "UTC"\n'


@dataclass
class AtWork:
    """A daemon without threads at a real server; `ends` is what became of each run."""

    server: Server
    clock: Clock
    ends: Ends = field(default_factory=Ends)

    def __post_init__(self) -> None:
        config = load_config(str(self.server.config))
        self.work = TaskWork(config, self.clock)
        executor = Executor(self.work, self.clock, [self.ends])
        self.board = executor.board = Board(
            [task for task in all_tasks(config) if task.kind is not TaskKind.RESTORES],
            InventoryBook(config),
            self.clock,
            launch=executor.carry_out,
            progress=lambda _: Figures(),
        )

    def reload(self) -> None:
        """Read the config again."""
        self.work.config = load_config(str(self.server.config))
        self.board.replace(
            [task for task in all_tasks(self.work.config) if task.kind is not TaskKind.RESTORES],
            InventoryBook(self.work.config),
        )

    def live(self, span: timedelta) -> list[TaskEnd]:
        """What ended in that time."""
        assert isinstance(self.clock, ManualClock)
        before, until = len(self.ends.told), self.clock.now() + span
        while self.clock.now() < until:
            self.board.look()
            self.clock.advance(STEP)
        return [end for _, end in self.ends.told[before:] if end is not None]


def topics(server: Server) -> set[str]:
    """What `status` tells of, but that no daemon runs: here one does."""
    document = server.json("status", exit_code=1)
    return {concern["topic"] for concern in document["concerns"]} - {"daemon"}


@contextmanager
def vault_gone(server: Server) -> Iterator[int]:
    """The disk of the vault is not there; what `backup` ends with."""
    vault, away = server.folder / "vault", server.folder / "away"
    vault.rename(away)
    yield 1
    away.rename(vault)


def mounted(command: str) -> None:
    if os.geteuid() != 0 or os.system(f"{command} 2>/dev/null") != 0:
        pytest.skip("nothing can be mounted here")


@contextmanager
def disk_full(server: Server) -> Iterator[int]:
    """The spool has less room than one night needs."""
    (server.source / "large.bin").write_bytes(os.urandom(4 * 1024 * 1024))
    mounted(f"mount -t tmpfs -o size=1m,mode=0700 tmpfs {server.state / 'spool'}")
    try:
        yield 1
    finally:
        assert os.system(f"umount {server.state / 'spool'}") == 0


@contextmanager
def state_read_only(server: Server) -> Iterator[int]:
    """The file system of the state was remounted read-only, as after an error of the disk."""
    mounted(f"mount --bind {server.state} {server.state}")
    try:
        mounted(f"mount -o remount,ro,bind {server.state}")
        yield 1
    finally:
        assert os.system(f"umount {server.state}") == 0


@pytest.mark.parametrize("trouble", [vault_gone, disk_full, state_read_only])
def test_three_days_of_trouble(
    tmp_path: Path,
    trouble: Callable[[Server], AbstractContextManager[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = directory_server(tmp_path, clock=ManualClock(EVENING))
    replace(server, 'schedule = "every 6h"\n', NIGHTLY)
    server.init()
    daemon = AtWork(server, server.clock)
    assert [end.state for end in daemon.live(DAY)] == [TaskState.DONE]
    with trouble(server) as code:
        failed = daemon.live(3 * DAY)
        assert {end.state for end in failed} == {TaskState.FAILED}
        assert len(failed) == 3 * 4, "each night once, and then after 10 minutes, an hour, three"
        assert [end.retry_at is None for end in failed] == [False, False, False, True] * 3
        assert all(end.error is not None for end in failed)
        told = server.fails(code, "backup")
        assert told
        assert "overdue" in topics(server)
    before = len(caplog.messages)
    assert [end.state for end in daemon.live(DAY)] == [TaskState.DONE]
    assert not [line for line in caplog.messages[before:] if "cannot" in line]
    assert topics(server) == set()
    assert [run["outcome"] for run in server.json("runs")][:1] == ["done"]


def test_a_network_that_is_away_for_three_days(
    tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    s3_client(emulator.s3_url).create_bucket(
        Bucket="three-days", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    server = directory_server(tmp_path, clock=ManualClock(EVENING))
    bucket = f'kind = "s3"\nregion = "{REGION}"\nbucket = "three-days"\npath_style = true\n'
    server.write_config(f'[[vault]]\nname = "cold"\n{bucket}endpoint = "{emulator.s3_url}"\n')
    replace(server, 'schedule = "every 6h"\n', f'{NIGHTLY}retry = ["2h"]\n')
    server.init()
    daemon = AtWork(server, server.clock)
    assert [end.state for end in daemon.live(DAY)] == [TaskState.DONE]
    replace(server, emulator.s3_url, "http://127.0.0.1:1")
    daemon.reload()
    failed = daemon.live(3 * DAY)
    assert [end.state for end in failed] == [TaskState.FAILED] * 6
    assert {getattr(end.error, "exit_code", None) for end in failed} == {15}
    server.fails(15, "backup")
    assert "overdue" in topics(server)
    replace(server, "http://127.0.0.1:1", emulator.s3_url)
    daemon.reload()
    assert [end.state for end in daemon.live(DAY)] == [TaskState.DONE]
    assert topics(server) == set()


def test_a_certificate_that_expired_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "cloud").mkdir()
    with running_cloud(tmp_path / "cloud") as cloud:
        server = cloud.server(tmp_path / "server", vault="expiring")
        server.init()
        good = server.folder / "identity"
        clock = SystemClock()
        past = clock.now() - 30 * DAY
        old = issue_in(authority_in(str(tmp_path / "ca"), past), str(tmp_path / "old"), now=past, days=2)
        daemon = AtWork(server, clock)
        pem, key = good / "web1.pem", good / "web1.key"
        kept = pem.read_bytes(), key.read_bytes()
        pem.write_bytes(Path(old.certificate_path).read_bytes())
        key.write_bytes(Path(old.key_path).read_bytes())
        daemon.board.look()  # "every 6h", and it never ran
        ((_, end),) = [told for told in daemon.ends.told if told[1] is not None]
        assert end is not None
        assert end.state is TaskState.FAILED
        assert end.retry_at is not None
        server.fails(13, "backup")
        assert "certificate" in topics(server)
        pem.write_bytes(kept[0])
        key.write_bytes(kept[1])
        assert daemon.board.put(("backup", "main"))
        last = daemon.ends.told[-1][1]
        assert last is not None
        assert last.state is TaskState.DONE
        assert topics(server) == set()
