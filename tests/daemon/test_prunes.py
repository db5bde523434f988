"""The daemon prunes by schedule, between two runs; what waits for the vault's list is looked at again."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.config import load_config
from backup.daemon.task_run import TaskRun
from backup.errors import VaultError
from backup.inventory.store.states import StepStage
from backup.kinds import TaskKind
from backup.model import VaultName
from backup.operations.prune import Prune
from backup.operations.recorded import step_of
from backup.pruner.report import Group, PruneReport
from backup.reports import log_report
from backup.schedule import parse_schedule
from tests.support.daemons import Daemon, last_start, task
from tests.support.doubles import ManualClock, Silent
from tests.support.forgets import DAY, three_nights
from tests.support.servers import directory_server, replace

SUNDAY = datetime(2026, 11, 22, 0, 0, tzinfo=UTC)
COLD = VaultName("cold")
WEEKLY = task(TaskKind.PRUNE, "cold", "weekly")


def answering(clock: ManualClock, *answers: str | Exception) -> tuple[Daemon, list[datetime]]:
    """A daemon whose prunes answer in turn what they wait for, or fail; and when each began."""
    left, began = list(answers), []

    def act(_: TaskRun) -> str:
        began.append(clock.now())
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Daemon([WEEKLY], clock, act=act), began


def test_what_waits_is_looked_at_every_five_minutes_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(SUNDAY - timedelta(minutes=5))
    daemon, began = answering(clock, "the vault's own list", "the vault's own list", "", "")
    with caplog.at_level(logging.INFO, "backup"):
        for _ in range(30):
            daemon.look()
            clock.advance(timedelta(minutes=1))
    assert [time - SUNDAY for time in began] == [timedelta(minutes=5 * n) for n in range(3)]
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "prune of vault cold: begins",
        "prune of vault cold: waits: the vault's own list",
        "prune of vault cold: done in 0 s",
    ]
    clock.advance(timedelta(days=7))
    daemon.look()
    assert len(began) == 4


def test_what_waits_goes_on_after_a_restart() -> None:
    clock = ManualClock(SUNDAY - timedelta(minutes=5))
    daemon, began = answering(clock, "the vault's own list", "")
    daemon.look()
    clock.advance(timedelta(minutes=5))
    daemon.look()
    daemon.start()
    daemon.look()
    daemon.look()
    assert len(began) == 2


def test_a_failure_is_told_and_is_not_tried_at_each_tick(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(SUNDAY - timedelta(minutes=5))
    daemon, began = answering(clock, VaultError("it is stopped", advice="do this"), "")
    for _ in range(5):
        daemon.look()
        clock.advance(timedelta(minutes=5))
    assert len(began) == 1
    assert "prune of vault cold: failed: it is stopped" in caplog.text
    clock.advance(timedelta(days=7))
    daemon.look()
    assert len(began) == 2


def test_a_restarted_daemon_knows_the_last_prune(tmp_path: Path) -> None:
    """What the inventory records decides when one is due, a failure, too; another vault's does not."""
    clock = ManualClock()
    server = directory_server(tmp_path, clock=clock)
    server.init()
    three_nights(server)
    config = load_config(str(server.config))
    assert last_start(config, TaskKind.PRUNE, "cold") is None
    report = step_of(config, Prune, COLD, clock=clock, progress=Silent(), stop=threading.Event())
    assert report.condemned.archives == 1
    first = clock.now()
    assert last_start(config, TaskKind.PRUNE, "cold") == first
    assert last_start(config, TaskKind.PRUNE, "other") is None
    clock.advance(4 * DAY)
    (tmp_path / "vault").rename(tmp_path / "away")
    with pytest.raises(Exception, match="vault"):
        step_of(config, Prune, COLD, clock=clock, progress=Silent(), stop=threading.Event())
    assert last_start(config, TaskKind.PRUNE, "cold") == clock.now()
    failed = server.json("runs")[0]
    assert (failed["kind"], failed["outcome"], failed["report"]["vault"]) == ("prune", "failed", "cold")
    (tmp_path / "away").rename(tmp_path / "vault")
    clock.advance(7 * DAY)
    done = step_of(config, Prune, COLD, clock=clock, progress=Silent(), stop=threading.Event())
    assert done.deleted.archives == 1


def test_the_schedule_of_a_vault(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    assert load_config(str(server.config)).vault("cold").when("prune") is None
    replace(server, 'kind = "directory"', 'kind = "directory"\nprune = "weekly"')
    when = load_config(str(server.config)).vault("cold").when("prune")
    assert when is not None
    assert when.rule == parse_schedule("0 0 * * 0", "UTC").rule


def test_what_the_log_says(caplog: pytest.LogCaptureFixture) -> None:
    until = datetime(2027, 1, 2, tzinfo=UTC)
    report = PruneReport(
        StepStage.DONE,
        COLD,
        condemned=Group(3, 300),
        deleted=Group(2, 2048),
        refused=[
            Group(1, 10, "refused", "Vault Lock", until),
            Group(1, 10, "refused", "AccessDenied: no right"),
        ],
        dropped={"main": ["a" * 32]},
        warnings=["the full catalog is lacking"],
    )
    with caplog.at_level(logging.INFO, "backup"):
        log_report(report)
    said = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    assert said == [
        "WARNING prune of vault cold: the full catalog is lacking",
        "INFO prune of vault cold: the vault keeps 1 archive until 2027-01-02: Vault Lock",
        "WARNING prune of vault cold: the vault keeps 1 archive for an unknown time: AccessDenied: no right",
        "INFO prune of vault cold: 1 forgotten snapshot of job main gone for good",
        "INFO prune of vault cold: 3 archives condemned, 2 deleted (2.0 KiB), 0 in use again, 0 wait",
    ]
