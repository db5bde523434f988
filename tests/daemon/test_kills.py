"""`kill -9` of the real daemon at random moments: each time it goes on by itself, and at last all is well."""

from __future__ import annotations

import random
import time
from datetime import datetime
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from backup.app.tasks.book import InventoryBook
from backup.app.tasks.tasks import tasks_of
from backup.app.tasks.times import LastRun, found_at_start
from backup.config import load_config
from backup.daemon.client import ask
from backup.errors import NightvaultError
from backup.inventory.records.tasks import TaskRow, TaskState
from tests.support import campaigns
from tests.support.real_daemons import RealDaemon, running
from tests.support.servers import Server, directory_server, replace
from tests.support.trees import assert_same_tree

SECONDS = campaigns.share("NIGHTVAULT_TEST_KILL_SECONDS", 15)
# Far off: what begins here was asked for, or goes on because it was cut off.
TIMES = 'schedule = "0 0 29 2 *"\nretry = ["6h", "6h", "6h"]\n[job.retention]\nkeep_last = 2\n'


def write(server: Server, chance: random.Random) -> None:
    """Change the source: a part of it is new."""
    for _ in range(3):
        path = server.source / f"file{chance.randrange(12)}"
        path.write_bytes(chance.randbytes(chance.randrange(3_000_000)))


def ask_for_a_run(server: Server, daemon: RealDaemon) -> None:
    """Have the job run; it may be at it already."""
    daemon.wait_for("started with")
    ask(str(server.state), {"do": "run", "job": "main"})


def known_of(server: Server) -> tuple[TaskRow, LastRun | None]:
    """What the inventory knows of the task: its row, and its newest run."""
    config = load_config(str(server.config))
    (task,) = (task for task in tasks_of(config) if task.key == ("backup", "main"))
    seen = InventoryBook(config).read([task])
    return seen.rows[task.key], seen.last.get(task.key)


def was_done_since(server: Server, asked_at: datetime) -> bool:
    """Whether the newest run began since then, and is done."""
    row, _ = known_of(server)
    return row.state is TaskState.DONE and row.began_at is not None and row.began_at >= asked_at


def goes_on(server: Server) -> bool:
    """Whether a new daemon is to go on with it: not if the kill came after the run's own end was recorded."""
    row, last = known_of(server)
    return found_at_start(row, last, SystemClock().now()).state is TaskState.INTERRUPTED


@pytest.mark.slow
def test_a_daemon_that_is_killed_at_random_moments_goes_on_by_itself(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    server = directory_server(tmp_path, clock=SystemClock())
    replace(server, 'schedule = "every 6h"\n', TIMES)
    server.init()
    kills, until = 0, time.monotonic() + SECONDS
    while time.monotonic() < until or not kills:
        write(server, chance)
        with running(server.config) as daemon:
            if chance.random() < 0.3:  # before it has begun to listen, or while it goes on with the last run
                time.sleep(chance.uniform(0, 1.5))
            else:
                ask_for_a_run(server, daemon)
                time.sleep(chance.choice([0.0, 0.1, 0.5]) * chance.random())
            daemon.kill()
            kills += 1
    was_cut = goes_on(server)
    with running(server.config) as daemon:
        if was_cut:  # nobody asks for it
            daemon.wait_for("job main: begins")
            daemon.wait_for("job main: done in")
        write(server, chance)
        daemon.wait_for("started with")
        deadline = time.monotonic() + 60
        asked_at = SystemClock().now()
        while not ask(str(server.state), {"do": "run", "job": "main"})["queued"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            asked_at = SystemClock().now()
        while not was_done_since(server, asked_at):  # one that was asked for before may end first
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert daemon.stop() < 10
    print(f"{kills} kills")
    assert known_of(server)[0].state is TaskState.DONE
    assert [run["outcome"] for run in server.json("runs") if run["outcome"] == "running"] == []
    server.done("check")
    server.done("check", "--inventory")
    assert list((server.state / "spool").iterdir()) == []
    assert_same_tree(server.source, server.restore(tmp_path / "back"))
    with pytest.raises(NightvaultError):
        ask(str(server.state), {"do": "status"})
