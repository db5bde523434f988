"""The daemon prunes by schedule, between two runs; what waits for the vault's list is looked at again."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.app.pruning import last_prune_of, prune_once
from backup.cli.commands.daemon import tell_prune
from backup.config import load_config
from backup.daemon import ScheduledVault, Watch
from backup.errors import VaultError
from backup.inventory.stages import StepStage
from backup.model import VaultName
from backup.pruner.report import Group, PruneReport
from backup.schedule import parse_schedule
from tests.support.doubles import ManualClock, Silent
from tests.support.forgetting import DAY, three_nights
from tests.support.servers import directory_server, replace

SUNDAY = datetime(2026, 11, 22, 0, 0, tzinfo=UTC)
COLD = VaultName("cold")
WEEKLY = ScheduledVault(COLD, parse_schedule("weekly", "UTC"))


class Answers:
    """Prunes that answer in turn: what they wait for, or an error."""

    def __init__(self, clock: ManualClock, *answers: str | Exception) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.last: dict[str, datetime] = {}
        self.began: list[datetime] = []

    def run(self, name: str) -> str:
        self.began.append(self.clock.now())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if not answer:
            self.last[name] = self.clock.now()
        return answer


def watched(answers: Answers) -> Watch:
    return Watch(answers.run, answers.clock, answers.last.get, threading.Event(), noun="prune of vault")


def test_what_waits_is_looked_at_at_each_tick_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(SUNDAY - timedelta(minutes=5))
    answers = Answers(clock, "the vault's own list", "the vault's own list", "", "")
    watch = watched(answers)
    with caplog.at_level(logging.INFO, "backup"):
        for _ in range(6):
            watch.tick(WEEKLY)
            clock.advance(timedelta(minutes=5))
    assert [one - SUNDAY for one in answers.began] == [timedelta(minutes=5 * n) for n in range(3)]
    said = [one.getMessage() for one in caplog.records]
    assert said == [
        "prune of vault cold: begins",
        "prune of vault cold: waits: the vault's own list",
        "prune of vault cold: done in 0 s",
    ]
    clock.advance(timedelta(days=7))
    watch.tick(WEEKLY)
    assert len(answers.began) == 4


def test_a_failure_is_told_and_is_not_tried_at_each_tick(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(SUNDAY - timedelta(minutes=5))
    answers = Answers(clock, VaultError("it is stopped", advice="do this"), "")
    watch = watched(answers)
    for _ in range(5):
        watch.tick(WEEKLY)
        clock.advance(timedelta(minutes=5))
    assert len(answers.began) == 1
    assert "prune of vault cold: failed: it is stopped" in caplog.text
    clock.advance(timedelta(days=7))
    watch.tick(WEEKLY)
    assert len(answers.began) == 2


def test_a_restarted_daemon_knows_the_last_prune(tmp_path: Path) -> None:
    """What the inventory records decides when one is due, a failure, too; another vault's does not."""
    clock = ManualClock()
    server = directory_server(tmp_path, clock=clock)
    server.init()
    three_nights(server)
    config = load_config(str(server.config))
    assert last_prune_of(config, COLD) is None
    report = prune_once(config, COLD, clock=clock, progress=Silent(), stop=threading.Event())
    assert report.condemned.archives == 1
    first = clock.now()
    assert last_prune_of(config, COLD) == first
    assert last_prune_of(config, VaultName("other")) is None
    clock.advance(4 * DAY)
    (tmp_path / "vault").rename(tmp_path / "away")
    with pytest.raises(Exception, match="vault"):
        prune_once(config, COLD, clock=clock, progress=Silent(), stop=threading.Event())
    assert last_prune_of(config, COLD) == clock.now()
    failed = server.json("runs")[0]
    assert (failed["kind"], failed["outcome"], failed["report"]["vault"]) == ("prune", "failed", "cold")
    (tmp_path / "away").rename(tmp_path / "vault")
    clock.advance(7 * DAY)
    done = prune_once(config, COLD, clock=clock, progress=Silent(), stop=threading.Event())
    assert done.deleted.archives == 1


def test_the_schedule_of_a_vault(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    assert load_config(str(server.config)).vault("cold").prune_when is None
    replace(server, 'kind = "directory"', 'kind = "directory"\nprune = "weekly"')
    when = load_config(str(server.config)).vault("cold").prune_when
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
        tell_prune(report)
    said = [f"{one.levelname} {one.getMessage()}" for one in caplog.records]
    assert said == [
        "WARNING prune of vault cold: the full catalog is lacking",
        "INFO prune of vault cold: the vault keeps 1 archive until 2027-01-02: Vault Lock",
        "WARNING prune of vault cold: the vault keeps 1 archive for an unknown time: AccessDenied: no right",
        "INFO prune of vault cold: 1 forgotten snapshot of job main gone for good",
        "INFO prune of vault cold: 3 archives condemned, 2 deleted (2.0 KiB), 0 taken up again, 0 wait",
    ]
