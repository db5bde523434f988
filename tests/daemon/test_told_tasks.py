"""What the daemon tells of the ends of tasks: also where nothing can be recorded, each under its own name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from backup.app.base.opened import opened
from backup.app.tasks.tasks import Task
from backup.app.tasks.times import Timing
from backup.config import load_config
from backup.daemon.task_run import TaskEnd, TaskRun
from backup.daemon.teller import Teller
from backup.errors import VaultError
from backup.inventory.records.messages import told_states
from backup.inventory.records.tasks import TaskState
from backup.kinds import TaskKind, run_of
from backup.model import VaultName
from tests.support.daemons import Figures
from tests.support.doubles import ManualClock
from tests.support.notified_servers import NotifiedServer, notified_server

RECORDED = [kind for kind in TaskKind if run_of(kind) is not None]
TITLES = {
    TaskKind.BACKUP: "backup of job main failed",
    TaskKind.FORGET: "forget of job main failed",
    TaskKind.COMPACT: "compaction of vault cold failed",
    TaskKind.PRUNE: "prune of vault cold failed",
    TaskKind.CHECK: "check of vault cold failed",
    TaskKind.DRILL: "drill weekly (read back) failed",
    TaskKind.COPY: "copy of job main to vault cold failed",
    TaskKind.EXTEND: "renewal of locks of vault cold failed",
}
STATES = {
    TaskKind.BACKUP: "backup/main",
    TaskKind.FORGET: "forget/main",
    TaskKind.COMPACT: "compact/cold",
    TaskKind.PRUNE: "prune/cold",
    TaskKind.CHECK: "check-compared/cold",
    TaskKind.DRILL: "drill-read-back/weekly",
    TaskKind.COPY: "copy/main@cold",
    TaskKind.EXTEND: "extend/cold",
}
NAMES = {
    TaskKind.BACKUP: "main",
    TaskKind.FORGET: "main",
    TaskKind.DRILL: "weekly",
    TaskKind.COPY: "main@cold",
}


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifiedServer]:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with notified_server(tmp_path, ManualClock()) as made:
        yield made


def teller(told: NotifiedServer, look_seconds: float = 60.0) -> Teller:
    config = load_config(str(told.server.config))
    return Teller(lambda: config, told.server.clock, look_seconds=look_seconds)


def ended(told: NotifiedServer, kind: TaskKind, state: TaskState = TaskState.FAILED, **more: object) -> None:
    """Tell a teller that a task has ended."""
    now = told.server.clock.now()
    run = TaskRun(Task(kind, NAMES.get(kind, "cold"), VaultName("cold"), Timing(None)), now, Figures())
    facts = {"error": VaultError("vault cold is away")} if state is TaskState.FAILED else {}
    teller(told).ended(run, TaskEnd(state, now, **{**facts, **more}))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", RECORDED)
def test_what_cannot_be_recorded_is_told_under_its_name(told: NotifiedServer, kind: TaskKind) -> None:
    told.server.state.rename(told.server.folder / "away")
    ended(told, kind)
    assert told.titles() == [TITLES[kind]]
    ended(told, kind)
    assert told.titles() == [TITLES[kind]], "once a day"


@pytest.mark.parametrize("kind", RECORDED)
def test_what_left_no_run_is_told_under_the_name_that_its_run_would_have(
    told: NotifiedServer, kind: TaskKind
) -> None:
    ended(told, kind)
    told.server.done("notify", "send")
    assert told.titles() == [TITLES[kind]]
    with closing(opened(load_config(str(told.server.config)))) as inventory, inventory.reading() as tx:
        assert STATES[kind] in told_states(tx)


@pytest.mark.parametrize("kind", sorted(set(TaskKind) - set(RECORDED)))
def test_what_only_looks_tells_nothing(
    told: NotifiedServer, kind: TaskKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr("backup.daemon.teller.make_messages", lambda *_, **__: made.append(1))
    ended(told, kind)
    assert made == []


@pytest.mark.parametrize(
    ("state", "more"),
    [
        (TaskState.DONE, {}),
        (TaskState.INTERRUPTED, {"error": VaultError("asked to stop")}),
        (TaskState.CANCELLED, {"error": VaultError("asked to stop")}),
        (TaskState.FAILED, {"error": ValueError("nobody expected it")}),
    ],
)
def test_what_is_no_failure_of_ours_leaves_no_message(
    told: NotifiedServer, state: TaskState, more: dict[str, object]
) -> None:
    ended(told, TaskKind.CHECK, state, **more)
    told.server.state.rename(told.server.folder / "away")
    ended(told, TaskKind.CHECK, state, **more)
    assert [title for title in told.titles() if "check" in title] == []


def test_a_task_that_waits_has_not_ended(told: NotifiedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr("backup.daemon.teller.make_messages", lambda *_, **__: made.append(1))
    ended(told, TaskKind.CHECK, TaskState.WAITING, waits_for="the vault's own list")
    assert made == []


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_is_made_is_sent_at_once(tmp_path: Path) -> None:
    """The thread does not wait for its next look, which is a minute away."""
    with notified_server(tmp_path, SystemClock()) as told:
        config = load_config(str(told.server.config))
        made = Teller(lambda: config, told.server.clock)
        now = told.server.clock.now()
        run = TaskRun(Task(TaskKind.PRUNE, "cold", VaultName("cold"), Timing(None)), now, Figures())
        with made.sending():
            time.sleep(0.5)
            began = time.monotonic()
            made.ended(run, TaskEnd(TaskState.FAILED, now, error=VaultError("away")))
            wait_until(lambda: bool(told.hook.taken))
            assert time.monotonic() - began < 20


def test_trouble_that_no_channel_took_is_told_at_a_later_look_and_once(
    told: NotifiedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no directory is there in which it could be noted that it was told."""
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("backup.app.telling.fallback.os.geteuid", lambda: 1000)
    text = told.server.config.read_text().replace('told = ["failed"]', 'told = ["recovered"]')
    told.server.config.write_text(text)
    (told.server.state / "inventory.sqlite").write_bytes(b"not a database " * 1000)
    told.hook.away = 4
    with teller(told, look_seconds=0.05).sending():
        wait_until(lambda: len(told.hook.seen) > 4)
        time.sleep(1)
    assert told.titles() == ["nightvault can record nothing"]
    assert len(told.hook.seen) == 5, "it was tried until it was taken"
