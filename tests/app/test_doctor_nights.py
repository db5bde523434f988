"""What the doctor says of the last runs: unusual nights, and warnings that nobody may have read."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backup.app.base.opened import opened
from backup.app.doctor.history import RECENT
from backup.inventory.records import runs
from backup.kinds import Outcome
from backup.model import MIB, JobName
from backup.retention.unusual import LEAST_NIGHTS
from tests.support.doubles import ManualClock
from tests.support.healthy_servers import HealthyServer, healthy_server


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HealthyServer:
    return healthy_server(tmp_path, monkeypatch)


def figures(files: int) -> dict[str, int]:
    return {"files_read": files, "bytes_uploaded": MIB, "bytes_new": MIB}


def test_an_unusual_last_night_and_a_usual_one_after_it(healthy: HealthyServer) -> None:
    for _ in range(LEAST_NIGHTS):
        healthy.record_backup(**figures(150))
    assert healthy.found() == set()
    run = healthy.record_backup(**figures(9_000))
    (found,) = healthy.findings()
    assert found.check == "unusual"
    assert f"(run {run}) was unusual: 9,000 files new or changed, far more than the usual 150" in found.what
    assert found.why
    assert found.command == "nightvault diff --job main latest~1 latest"
    healthy.record_backup(**figures(140))
    assert healthy.found() == set()


def test_files_that_are_stored_again_after_a_loss_are_not_unusual(healthy: HealthyServer) -> None:
    for _ in range(LEAST_NIGHTS):
        healthy.record_backup(**figures(150))
    healthy.record_backup(**figures(9_000), files_again=8_900)
    assert healthy.found() == set()
    healthy.record_backup(**figures(18_000), files_again=8_900)
    assert healthy.found() == {"unusual"}


def test_warnings_of_the_newest_backup_until_one_has_none(healthy: HealthyServer) -> None:
    healthy.record_backup(warnings=["a disk is gone", "two", "three", "four\x1b[2J", "five"])
    (found,) = healthy.findings()
    assert found.check == "warnings"
    assert found.what.endswith("warned: a disk is gone; two; three; and 2 more warnings")
    assert found.command == "nightvault runs --job main"
    healthy.record_backup(warnings=["\x1b[2J"])
    assert "\x1b" not in healthy.findings()[0].what
    healthy.record_backup(warnings=[])
    assert healthy.found() == set()


def test_warnings_of_a_restore_for_a_month(healthy: HealthyServer) -> None:
    now = healthy.server.clock.now()
    with closing(opened(healthy.config)) as inventory, inventory.writing() as tx:
        run = runs.open_restore(tx, runs.find_job(tx, JobName("main")), now)
        runs.finish_run(tx, run.number, Outcome.DONE, {"warnings": ["no ACLs there"]}, now)
    (found,) = healthy.findings()
    assert "the last restore of job main" in found.what
    assert isinstance(healthy.server.clock, ManualClock)
    healthy.server.clock.advance(RECENT + timedelta(minutes=1))
    assert healthy.found() == set()
