"""What `status` says of the daemon's tasks: how far a run is, what is queued, what waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from backup.app.status.parts import Suspended, TaskStatus, Topic
from backup.cli.render.task_lines import task_lines
from backup.cli.support.live_tasks import with_tasks
from backup.errors import DaemonAwayError, StateDeniedError
from backup.model import MIB, VaultName
from tests.support.doubles import ManualClock
from tests.support.statuses import NOW, status

COLD = VaultName("cold")
RUNNING = TaskStatus(
    "backup", "main", "job main", COLD, "running", run="92b43846", began_at=NOW - timedelta(minutes=12)
)


def lines(*tasks: TaskStatus) -> list[tuple[str, str]]:
    return list(task_lines(replace(status(), tasks=tasks)))


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({}, "job main (run 92b43846), for 12 min"),
        ({"phase": "Backing up"}, "job main (run 92b43846), for 12 min: backing up"),
        (
            {"phase": "Backing up", "done": 3 * MIB, "total": 12 * MIB, "seconds_left": 2160.0},
            "job main (run 92b43846), for 12 min: backing up, 3.0 MiB of 12.0 MiB, 36 min left",
        ),
        ({"done": 3 * MIB, "total": 2 * MIB}, "job main (run 92b43846), for 12 min, 2.0 MiB of 2.0 MiB"),
        ({"done": 3 * MIB}, "job main (run 92b43846), for 12 min, 3.0 MiB"),
    ],
)
def test_how_far_a_run_is_and_no_time_left_that_nobody_knows(figures: dict[str, Any], told: str) -> None:
    assert lines(replace(RUNNING, **figures)) == [("runs now", told)]


def test_what_runs_stands_before_what_is_queued_and_what_waits() -> None:
    check = TaskStatus("check", "cold", "check of vault cold", COLD, "waiting", waits_for="the vault's list")
    prune = TaskStatus("prune", "cold", "prune of vault cold", COLD, "queued", queued_at=NOW)
    idle = TaskStatus("forget", "main", "forget of job main", COLD, "idle")
    restores = TaskStatus("restores", "restores", "restores", None, "running")
    assert [name for name, _ in lines(idle, check, prune, restores, RUNNING)] == [
        "runs now",
        "queued",
        "waits",
    ]


def test_what_was_asked_for_while_its_run_is_cancelled_is_queued_beside_it() -> None:
    assert [name for name, _ in lines(replace(RUNNING, queued_at=NOW))] == ["runs now", "queued"]


TOLD = {
    "tasks": [
        {
            "kind": "backup",
            "name": "main",
            "text": "job main",
            "vault": "cold",
            "state": "running",
            "last": "running",
            "run": "92b43846",
            "began_at": NOW.isoformat(),
            "queued_at": None,
            "next_at": None,
            "paused_until": None,
            "waits_for": None,
            "progress": {"title": "Backing up", "done": 1, "total": 2, "seconds_left": None},
        }
    ],
    "waits_for_clock": True,
}


def asked(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    def ask(*_: object, **__: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("backup.daemon.client.ask", ask)


def test_the_daemons_words_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, TOLD)
    found = with_tasks(replace(status(), daemon_runs=True), "/state", ManualClock())
    assert found.tasks is not None
    assert [(task.text, task.phase, task.done, task.total) for task in found.tasks] == [
        ("job main", "Backing up", 1, 2)
    ]
    assert [concern.topic for concern in found.concerns] == [Topic.CLOCK]


@pytest.mark.parametrize(
    "answer", [{}, {"tasks": [{}]}, {"tasks": [1]}, {"tasks": None}, {**TOLD, "tasks": [{"kind": 1}]},
               StateDeniedError("not yours")],
)  # fmt: skip
def test_a_daemon_of_another_version_or_user_changes_nothing(
    answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(monkeypatch, answer)
    before = replace(status(), daemon_runs=True)
    assert with_tasks(before, "/state", ManualClock()) == before


def test_a_daemon_that_gives_no_answer_is_a_concern(monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, DaemonAwayError("away"))
    found = with_tasks(replace(status(), daemon_runs=True), "/state", ManualClock())
    assert [concern.topic for concern in found.concerns] == [Topic.DAEMON]
    assert "gives no answer on its socket" in found.concerns[0].text
    assert found.tasks is None
    suspended = replace(status(), daemon_runs=True, suspended=[Suspended("daemon", 1)])
    assert [concern.topic for concern in with_tasks(suspended, "/state", ManualClock()).concerns] == [
        Topic.LOCK
    ]
    for unknown in (None, False):
        before = replace(status(), daemon_runs=unknown)
        assert with_tasks(before, "/state", ManualClock()).is_silent is False


def test_a_daemon_that_begins_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([DaemonAwayError("no socket yet"), TOLD])

    def ask(*_: object, **__: object) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("backup.daemon.client.ask", ask)
    found = with_tasks(replace(status(), daemon_runs=True), "/state", ManualClock())
    assert found.tasks is not None
    assert not found.is_silent
