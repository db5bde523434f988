"""The overview: what is not well first, thirty nights of each job, and what the daemon does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from backup.app.status.parts import Level
from backup.app.status.status import read_status
from backup.config import Config
from backup.inventory.pages import run_pages
from backup.inventory.pages.run_pages import BackupRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros
from backup.web.daemon_desk import daemon_status
from backup.web.pages.overview import Overview, overview
from backup.web.pages.thirty_nights import NightOutcome, strip
from tests.support.seeded_pages import SNAPSHOTS

ANSWER = {
    "as_of": "2026-11-26T03:00:00+00:00",
    "version": "1",
    "waits_for_clock": False,
    "tasks": [
        {
            "kind": "backup",
            "name": "web",
            "text": "job web",
            "vault": "cold",
            "state": "running",
            "run": "ab12",
            "began_at": "2026-11-26T02:00:00+00:00",
            "by_hand": False,
            "stopping": False,
            "progress": {"title": "reading", "done": 5, "total": 10, "seconds_left": 3.5},
            "queued_at": None,
            "waits_for": None,
            "paused_until": None,
            "next_at": None,
            "last": "done",
            "something_newer": 1,
        }
    ],
}


def test_the_problems_are_those_of_status(tx: Transaction, config: Config, now: datetime) -> None:
    found = overview(tx, config, now, None)
    wanted = read_status(config, now)
    assert found.problems == wanted.concerns
    assert found.level is wanted.worst
    assert [job.name for host in found.hosts for job in host.jobs] == sorted(job.name for job in wanted.jobs)
    assert found.month == wanted.vaults[0].month
    assert all(concern.command for concern in found.problems)


def test_a_daemon_that_answers_runs(tx: Transaction, config: Config, now: datetime) -> None:
    away = overview(tx, config, now, None)
    assert any("daemon" in concern.text for concern in away.problems)
    assert away.as_of is None
    told = daemon_status(ANSWER)
    found = overview(tx, config, now, told)
    assert not any("daemon" in concern.text for concern in found.problems)
    assert found.as_of == datetime(2026, 11, 26, 3, tzinfo=UTC)
    live = _job(found, "web").live
    assert live is not None
    assert (live.phase, live.done, live.total, live.seconds_left) == ("reading", 5, 10, 3.5)


@pytest.mark.parametrize("answer", [None, {}, {"tasks": 5}, {**ANSWER, "tasks": [{"kind": 1}]}])
def test_an_answer_that_cannot_be_understood_is_none(answer: dict[str, object] | None) -> None:
    assert daemon_status(answer) is None


def test_thirty_nights_with_their_outcomes(tx: Transaction, config: Config, now: datetime) -> None:
    web = _job(overview(tx, config, now, None), "web")
    assert len(web.nights) == 30
    assert [night.day for night in web.nights] == sorted(night.day for night in web.nights)
    assert web.nights[-1].run == SNAPSHOTS
    outcomes = [str(night.outcome) for night in web.nights]
    assert set(outcomes) == {"done", "partial"}
    assert outcomes.count("partial") == 3
    assert web.last_outcome is NightOutcome.PARTIAL
    assert web.level is Level.WARNING
    assert len(web.sizes) == 30
    assert web.snapshots == SNAPSHOTS


def test_a_night_that_was_missed_is_missed_only_once_it_is_over(
    tx: Transaction, config: Config, now: datetime
) -> None:
    job = config.jobs[0]
    rows = [run for run in run_pages.backups_since(tx, micros(now - timedelta(days=60))) if run.job == "web"]
    some = [run for run in rows if run.number not in {SNAPSHOTS, SNAPSHOTS - 3}]
    outcomes = [night.outcome for night in strip(job, some, now, UTC)]
    assert outcomes[-1] is NightOutcome.MISSED, "due at one, it is six"
    assert outcomes[-4] is NightOutcome.MISSED
    early = now.replace(hour=0, minute=30)
    assert strip(job, some, early, UTC)[-1].outcome is NightOutcome.NONE
    assert {night.outcome for night in strip(None, (), now, UTC)} == {NightOutcome.NONE}
    assert {night.outcome for night in strip(job, (), now, UTC)} == {NightOutcome.NONE}, "a new job"


def test_the_last_backup_of_a_night_decides_if_it_is_good() -> None:
    began = datetime(2026, 11, 25, 1, tzinfo=UTC)
    rows = [
        _row(1, "failed", began),
        _row(2, "done", began + timedelta(hours=1)),
        _row(3, "done", began + timedelta(days=1)),
        _row(4, "interrupted", began + timedelta(days=1, hours=1)),
        _row(5, "failed", began + timedelta(days=1, hours=2)),
    ]
    cells = strip(None, rows, began + timedelta(days=1, hours=5), UTC)[-2:]
    assert [(night.day, str(night.outcome), night.run, night.runs) for night in cells] == [
        (date(2026, 11, 25), "done", 2, 2),
        (date(2026, 11, 26), "failed", 5, 3),
    ]


def test_an_unusual_night_says_why() -> None:
    began = datetime(2026, 10, 1, 1, tzinfo=UTC)
    rows = [_row(n, "done", began + timedelta(days=n)) for n in range(40)]
    rows.append(
        replace_row(rows[-1], number=40, files_read=900_000, started_at=micros(began + timedelta(days=40)))
    )
    cells = strip(None, rows, began + timedelta(days=40, hours=3), UTC)
    assert [bool(night.unusual) for night in cells] == [False] * 29 + [True]
    assert cells[-1].unusual[0].startswith("unusual: 900,000 files")


def test_the_certificate_is_read_where_it_may_be(
    tx: Transaction, config: Config, now: datetime, tmp_path: Path
) -> None:
    from backup.config import IdentitySettings
    from tests.support.identities import server_certificate

    certificate, key = server_certificate(tmp_path)
    identity = IdentitySettings(certificate=str(certificate), private_key=str(key))
    with_one = msgspec.structs.replace(config, identity=identity)
    found = overview(tx, with_one, now, None).certificate
    assert found is not None
    assert found.not_after is not None
    missing = IdentitySettings(certificate=str(tmp_path / "none"), private_key="x")
    assert overview(tx, msgspec.structs.replace(config, identity=missing), now, None).certificate is None


def _job(found: Overview, name: str):  # type: ignore[no-untyped-def]
    return next(job for host in found.hosts for job in host.jobs if job.name == name)


def _row(number: int, outcome: str, began: datetime) -> BackupRow:
    at = micros(began)
    return BackupRow(number, "web", outcome, at, 500, 10, 10)


def replace_row(one: BackupRow, **values: int) -> BackupRow:
    """A row with other values."""
    return one._replace(**values)  # type: ignore[arg-type]
