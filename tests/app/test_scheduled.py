"""Whatever has a schedule: its failures are runs, told, and a concern; so is that it never comes.

All kinds of tasks of the daemon go through the same tests: a kind that is missing somewhere fails them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from backup.app.base.opened import opened
from backup.app.status.metrics import metrics_text
from backup.app.status.parts import Level, Topic
from backup.app.status.recorded import status_in
from backup.app.status.status import read_status
from backup.app.tasks.book import InventoryBook
from backup.app.tasks.tasks import scheduled_tasks, tasks_of
from backup.config import Config, load_config
from backup.cost.limit import CostLimit
from backup.daemon.board import Board
from backup.daemon.executor import Executor
from backup.daemon.teller import Teller
from backup.daemon.work import TaskWork
from backup.errors import VaultError
from backup.inventory.records import runs
from backup.inventory.records.tasks import TaskState
from backup.kinds import TASKS, Outcome, TaskKind, parts_of_name, run_of
from backup.web.pages.overview import overview
from tests.support.daemons import Figures
from tests.support.doubles import ManualClock
from tests.support.notified_servers import NotifiedServer, notified_server
from tests.support.servers import replace

DAY = timedelta(days=1)
EVERY = 'check = "daily"\nprune = "daily"\ncompact = "daily"\n'
DRILL = '[[drill]]\nname = "rehearsal"\nschedule = "daily"\nvault = "cold"\nsample = "2 files"\n'
ALL_RECORDED = [kind for kind in TaskKind if run_of(kind) is not None]
"""All but those that only look every five minutes: each restore, and the certificate, are told of anyway."""
RECORDED = [kind for kind in ALL_RECORDED if kind is not TaskKind.EXTEND]
"""Those of a directory, which locks nothing: tests/locker/test_by_config.py."""
COPY = '[[job.copy]]\nvault = "second"\nschedule = "daily"\n'
NAMES = {
    TaskKind.BACKUP: "main",
    TaskKind.FORGET: "main",
    TaskKind.DRILL: "rehearsal",
    TaskKind.COPY: "main@second",
}


@pytest.fixture
def told(tmp_path: Path) -> Iterator[NotifiedServer]:
    """A server on which every kind has a schedule, and something is stored."""
    with notified_server(tmp_path, ManualClock()) as made:
        made.configure('kind = "directory"\n', f'kind = "directory"\n{EVERY}')
        made.configure("[[job]]", f'{DRILL}\n[[job]]\nforget = "daily"\nretention = {{ keep_last = 5 }}')
        replace(made.server, 'schedule = "every 6h"', 'schedule = "daily"')
        second = f'[[vault]]\nname = "second"\nkind = "directory"\npath = "{tmp_path / "second"}"\n'
        made.server.config.write_text(f"{made.server.config.read_text()}\n{COPY}\n{second}")
        made.server.done("init")
        made.server.backup()
        yield made


def config_of(told: NotifiedServer) -> Config:
    return load_config(str(told.server.config))


def board_of(told: NotifiedServer, now_read: Config | None = None) -> Board:
    """A daemon's board that does its work in the call; `now_read`: the config that it works with by then."""
    config, clock = config_of(told), told.server.clock
    executor = Executor(TaskWork(now_read or config, clock), clock, [Teller(lambda: config, clock)])
    executor.board = board = Board(
        tasks_of(config),
        InventoryBook(config),
        clock,
        launch=executor.carry_out,
        progress=lambda _: Figures(),
        monotonic=lambda: clock.now().timestamp(),
    )
    return board


def run(told: NotifiedServer, kind: TaskKind) -> None:
    """Have the daemon do it now, and send what there is to tell."""
    board = board_of(told)
    board.look()
    board.put((kind, NAMES.get(kind, "cold")))
    told.server.done("notify", "send")


def concerns(told: NotifiedServer, *topics: Topic) -> list[str]:
    found = read_status(config_of(told), told.server.clock.now()).concerns
    return [concern.text for concern in found if concern.topic in (topics or Topic)]


def failing(*_: Any, **__: Any) -> None:
    raise VaultError("vault cold is away")


def test_there_is_one_list_of_all_kinds() -> None:
    """A kind that is not in it has no words, no run, no last good time."""
    assert set(TASKS) == set(TaskKind)
    assert {kind for kind in TaskKind if kind not in ALL_RECORDED} == {TaskKind.RESTORES, TaskKind.RENEWAL}
    assert all(TASKS[kind].good and TASKS[kind].command for kind in TaskKind)


def test_the_config_here_schedules_every_kind(told: NotifiedServer) -> None:
    assert {task.kind for task in scheduled_tasks(config_of(told))} == set(RECORDED)


@pytest.mark.parametrize("kind", RECORDED)
def test_what_fails_is_a_run_told_and_a_concern_until_it_works_again(
    told: NotifiedServer, kind: TaskKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2, D3: also before it has a run of its own, and under the same name."""
    name = NAMES.get(kind, "cold")
    told.server.clock.sleep(60)
    run(told, TaskKind.BACKUP)
    run(told, kind)
    told.hook.taken.clear()
    before = len(told.server.json("runs"))
    told.server.clock.sleep(60)
    told.break_vault()
    keys = told.server.state / "keys"
    moved = keys.with_name("moved")
    keys.rename(moved)  # some need nothing of the vault while there is nothing to do
    if kind is TaskKind.FORGET:
        monkeypatch.setattr("backup.app.retention.forgetting.plan_by_policy", failing)
    run(told, kind)
    assert told.kinds() == ["failed"], f"{kind} is not told"
    (failed, *_) = told.server.json("runs")
    assert (failed["kind"], failed["outcome"]) == (run_of(kind), Outcome.FAILED)
    assert len(told.server.json("runs")) == before + 1
    about = concerns(told, Topic.RUN)
    assert len(about) == 1
    assert " failed, " in about[0]
    levels = [concern["level"] for concern in told.server.json("status", exit_code=1)["concerns"]]
    assert Level.CRITICAL not in levels, "nothing is known to be damaged"
    monkeypatch.undo()
    moved.rename(keys)
    told.mend_vault()
    told.server.clock.sleep(60)
    run(told, kind)
    assert told.kinds() == ["failed", "recovered"], f"{kind} works again"
    first, second = told.titles()
    assert first.removesuffix(" failed") == second.removesuffix(" works again")
    assert concerns(told, Topic.RUN) == []
    assert all(part in first for part in parts_of_name(name))


@pytest.mark.parametrize("kind", RECORDED)
def test_what_has_just_left_the_config_is_not_begun(told: NotifiedServer, kind: TaskKind) -> None:
    """A task may begin in the moment in which the config is read again: it has not failed."""
    before = told.server.json("runs")
    told.hook.taken.clear()
    board = board_of(told, structs.replace(config_of(told), jobs=(), vaults=(), drills=()))
    board.look()
    board.put((kind, NAMES.get(kind, "cold")))
    told.server.done("notify", "send")
    assert told.server.json("runs") == before
    assert told.kinds() == []
    assert concerns(told, Topic.RUN) == []


@pytest.mark.parametrize("kind", RECORDED)
def test_what_never_came_is_overdue_everywhere(told: NotifiedServer, kind: TaskKind) -> None:
    """D6: in status, messages, metrics, JSON and on the page alike."""
    name = NAMES.get(kind, "cold")
    assert concerns(told, Topic.OVERDUE) == []
    told.later(60 * DAY)
    config, now = config_of(told), told.server.clock.now()
    text = TASKS[kind].text_of(name)
    found = read_status(config, now)
    (concern,) = [
        concern for concern in found.concerns if concern.text.startswith(f"{text} is overdue since")
    ]
    assert concern.level is (Level.CRITICAL if kind is TaskKind.BACKUP else Level.WARNING)
    assert text in told.server.run("status", "--overdue").stdout
    assert text in told.server.run("status", "--nagios").stdout
    told.server.run("status", "--overdue", "--notify")
    assert [title for title in told.titles() if title.startswith(f"{text} is overdue since")]
    metrics = metrics_text(found)
    if kind is TaskKind.BACKUP:
        assert 'nightvault_overdue_timestamp_seconds{job="main"' in metrics
    else:
        assert f'nightvault_task_overdue_timestamp_seconds{{task="{kind}",name="{name}"}} ' in metrics
        (shown,) = [
            task for task in told.server.json("status", exit_code=1)["scheduled"] if task["kind"] == kind
        ]
        assert (shown["overdue"], shown["name"]) == (True, name)
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        page = overview(tx, config, now, None)
        assert [problem for problem in page.problems if problem.text == concern.text]
        assert {task.kind for task in page.scheduled} == set(RECORDED) - {TaskKind.BACKUP}


@pytest.mark.parametrize("kind", RECORDED)
def test_it_is_well_again_once_it_was_done(told: NotifiedServer, kind: TaskKind) -> None:
    told.later(60 * DAY)
    run(told, TaskKind.BACKUP)
    run(told, kind)
    text = TASKS[kind].text_of(NAMES.get(kind, "cold"))
    assert not [concern for concern in concerns(told, Topic.OVERDUE) if concern.startswith(f"{text} is")]
    if kind is not TaskKind.BACKUP:
        found = read_status(config_of(told), told.server.clock.now())
        (one,) = [task for task in found.scheduled if task.kind == kind]
        assert one.last_good == told.server.clock.now()
        assert one.next_at is not None
        assert one.next_at > told.server.clock.now()
        assert f'task="{kind}"' in metrics_text(found)


def test_nothing_is_overdue_where_nothing_is_stored(tmp_path: Path) -> None:
    """A first backup may take days: until then there is nothing to check, prune or rehearse."""
    with notified_server(tmp_path, ManualClock()) as made:
        made.configure('kind = "directory"\n', f'kind = "directory"\n{EVERY}')
        made.configure("[[job]]", f"{DRILL}\n[[job]]")
        made.later(60 * DAY)
        late = [concern for concern in concerns(made, Topic.OVERDUE) if not concern.startswith("job main is")]
        assert late == []
        found = read_status(config_of(made), made.server.clock.now())
        assert found.unknown == []
        assert {task.overdue_from for task in found.scheduled} == {None}
        assert len(found.scheduled) == 4


@pytest.mark.parametrize(
    ("vault", "hours"),
    [
        ('kind = "glacier"\nregion = "eu-central-1"\nvault = "cold"', 29 + 5),
        ('kind = "glacier"\nregion = "eu-central-1"\nvault = "cold"\ntier = "bulk"', 29 + 12),
        ('kind = "s3"\nregion = "eu-central-1"\nbucket = "cold"\nstorage_class = "DEEP_ARCHIVE"', 12),
    ],
)
def test_what_waits_for_a_cold_vault_is_late_later(told: NotifiedServer, vault: str, hours: int) -> None:
    """Its list is made once a day, and what is to be read comes hours after that was asked for."""
    before = overdue_dates(told)
    path = f'path = "{told.server.folder / "vault"}"'
    replace(told.server, f'kind = "directory"\n{EVERY}{path}', f"{vault}\n{EVERY}")
    after = overdue_dates(told)
    later = {name: at - before[name] for name, at in after.items()}
    assert set(later.values()) == {timedelta(hours=hours)}
    assert len(later) == 6


def overdue_dates(told: NotifiedServer) -> dict[str, datetime]:
    found = read_status(config_of(told), told.server.clock.now()).scheduled
    return {task.text: task.overdue_from for task in found if task.overdue_from is not None}


def test_an_error_that_nobody_expected_is_a_concern_too(
    told: NotifiedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run tells of it: only the daemon's own memory of its tasks does."""
    monkeypatch.setattr("backup.daemon.work.step_of", lambda *_, **__: 1 / 0)
    run(told, TaskKind.COMPACT)
    (text,) = concerns(told, Topic.RUN)
    assert text.startswith("compaction of vault cold failed, ")
    monkeypatch.undo()
    run(told, TaskKind.COMPACT)
    assert concerns(told, Topic.RUN) == []


def test_an_unexpected_error_inside_is_told(told: NotifiedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.operations.check.compare_with_vault", lambda *_: 1 / 0)
    told.hook.taken.clear()
    run(told, TaskKind.CHECK)
    assert told.titles() == ["check of vault cold failed"]
    assert "unexpected ZeroDivisionError" in concerns(told, Topic.RUN)[0]


def test_a_drill_that_goes_on_makes_good_what_broke_off(
    told: NotifiedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run has a lower number than the attempt that failed in between."""
    from backup.checker import read_sample

    config = config_of(told)
    real = read_sample.go_on
    monkeypatch.setattr(read_sample, "go_on", lambda *_: 1 / 0)
    run(told, TaskKind.DRILL)
    assert [
        concern for concern in concerns(told, Topic.RUN) if concern.startswith("drill rehearsal failed, ")
    ]
    monkeypatch.setattr(read_sample, "go_on", real)
    told.server.clock.sleep(60)
    run(told, TaskKind.DRILL)
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        done, attempt = sorted(
            (run for run in runs.list_runs(tx) if run.kind == "drill"),
            key=lambda candidate_run: candidate_run.number,
        )
    assert (done.outcome, attempt.outcome) == (Outcome.DONE, Outcome.FAILED)
    assert concerns(told, Topic.RUN) == []
    assert told.kinds()[-2:] == ["failed", "recovered"]


def test_a_sample_above_the_limit_is_told(told: NotifiedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """D4: the list was compared and is well, but nothing is ever read back."""
    replace(told.server, 'check = "daily"', 'check = "daily"\ncheck_sample = "100%"')
    told.server.config.write_text(told.server.config.read_text() + "\n[restore]\nmax_restore_cost = 0.50\n")
    unknown = CostLimit(Decimal("0.50"), "the sample", unknown="no price", setting="max_restore_cost")
    monkeypatch.setattr("backup.operations.check.limit_on", lambda *_, **__: unknown)
    told.hook.taken.clear()
    run(told, TaskKind.CHECK)
    assert told.titles() == ["reading back vault cold failed"]
    (text,) = concerns(told, Topic.RUN)
    assert text.startswith("reading back vault cold failed, ")
    assert "max_restore_cost" in text
    told.later(3 * DAY)
    late = read_status(config_of(told), told.server.clock.now()).concerns
    (check,) = [concern for concern in late if concern.text.startswith("check of vault cold is overdue")]
    assert check.command == "nightvault check --vault cold --read-data 100%", "that half is missing"
    monkeypatch.undo()
    run(told, TaskKind.CHECK)
    assert told.titles()[-1] == "reading back vault cold works again"
    assert concerns(told, Topic.RUN) == []
    assert not [concern for concern in concerns(told, Topic.OVERDUE) if concern.startswith("check")]


@pytest.mark.parametrize("limit", ["0.00", "0.01"])
def test_a_drill_that_no_month_allows_is_told(
    told: NotifiedServer, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D5: it would wait for ever."""
    replace(told.server, 'sample = "2 files"', f'sample = "2 files"\nmax_cost_per_month = {limit}')
    monkeypatch.setattr("backup.driller.budget.cost_of", lambda *_: 40_000)
    told.hook.taken.clear()
    run(told, TaskKind.DRILL)
    assert told.titles() == ["drill rehearsal (read back) failed"]
    (shown,) = told.server.json("drills")["drills"]
    assert (shown["drill"], shown["outcome"], shown["grade"]) == ("rehearsal", "failed", "read back")
    assert "in any month" in told.server.done("drills").stdout
    (text,) = concerns(told, Topic.RUN)
    assert "too little for anything of its sample, in any month" in text


def test_a_drill_that_spent_its_month_is_overdue_only_in_the_next(
    told: NotifiedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits as it was meant to; but not for ever."""
    replace(told.server, 'sample = "2 files"', 'sample = "2 files"\nmax_cost_per_month = 0.05')
    monkeypatch.setattr("backup.driller.budget.cost_of", lambda *_: 40_000)
    run(told, TaskKind.DRILL)
    told.hook.taken.clear()
    told.later(DAY / 4)
    run(told, TaskKind.DRILL)
    assert told.kinds() == [], "that the month is spent is no failure"
    assert concerns(told, Topic.RUN) == []
    told.later(-DAY / 4)
    late: list[bool] = []
    for _ in range(35):
        told.later(DAY)
        found = read_status(config_of(told), told.server.clock.now())
        (one,) = [task for task in found.scheduled if task.kind == TaskKind.DRILL]
        late.append(one.is_overdue)
    assert late == [False] * 32 + [True] * 3, "from the 1st of April on it may begin, and then it is late"


def test_a_drill_that_cost_nothing_waits_for_no_month(told: NotifiedServer) -> None:
    """Whatever its limit is."""
    replace(told.server, 'sample = "2 files"', 'sample = "2 files"\nmax_cost_per_month = 0.05')
    run(told, TaskKind.DRILL)
    told.later(3 * DAY)
    assert [
        concern
        for concern in concerns(told, Topic.OVERDUE)
        if concern.startswith("drill rehearsal is overdue")
    ]


def test_a_config_that_a_tool_touches_daily_hides_nothing(told: NotifiedServer) -> None:
    """D7: what was never tried is known since it was first seen, by whoever looked."""
    told.server.config.write_text(
        told.server.config.read_text()
        + f'\n[[job]]\nname = "new"\nvault = "cold"\nschedule = "daily"\nsources = ["{told.server.source}"]\n'
    )
    late: list[int] = []
    for _ in range(5):
        told.server.config.touch()
        told.server.run("status", "--overdue")
        told.later(DAY)
        late.append(
            sum(concern.startswith("job new is overdue") for concern in concerns(told, Topic.OVERDUE))
        )
    assert late == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_job_that_gets_a_schedule_counts_from_then(told: NotifiedServer, is_restarted: bool) -> None:
    """It was known for long, and nobody expected a backup of it."""
    head = f'\n[[job]]\nname = "byhand"\nvault = "cold"\nsources = ["{told.server.source}"]\n'
    before = told.server.config.read_text()
    told.server.config.write_text(before + head)
    board = board_of(told)
    board.look()
    told.later(60 * DAY)
    told.server.backup()
    told.server.config.write_text(before + head + 'schedule = "daily at 12:00"\n')
    if is_restarted:
        board = board_of(told)
        board.look()
    else:
        board.replace(tasks_of(config_of(told)), InventoryBook(config_of(told)))
    (line,) = [line for line in board.lines() if line.task.name == "byhand"]
    assert line.next_at is not None
    assert timedelta() < line.next_at - told.server.clock.now() < DAY
    assert not [concern for concern in concerns(told, Topic.OVERDUE) if concern.startswith("job byhand")]
    told.later(3 * DAY)
    assert [concern for concern in concerns(told, Topic.OVERDUE) if concern.startswith("job byhand")]


def test_a_sample_that_is_new_in_the_config_counts_from_then(told: NotifiedServer) -> None:
    """The list was compared all the time: no sample was late before one was asked for."""
    read_status(config_of(told), told.server.clock.now())  # what is there is noted
    for _ in range(30):
        told.later(DAY)
        told.server.backup()
        told.server.done("check", "--vault", "cold")
    assert not [concern for concern in concerns(told, Topic.OVERDUE) if concern.startswith("check")]
    replace(told.server, 'check = "daily"', 'check = "daily"\ncheck_sample = "100%"')
    for day in range(4):
        late = [concern for concern in concerns(told, Topic.OVERDUE) if concern.startswith("check")]
        assert bool(late) is (day >= 3), (day, late)
        told.later(DAY)
        told.server.done("check", "--vault", "cold")
        told.server.config.touch()
    told.server.done("check", "--vault", "cold", "--read-data", "100%")
    assert not [concern for concern in concerns(told, Topic.OVERDUE) if concern.startswith("check")]


def test_failed_and_then_stopped_is_failed(told: NotifiedServer) -> None:
    """D8: whoever stops a run says nothing of the failure before it."""
    told.break_vault()
    told.server.fails(1, "backup")
    told.mend_vault()
    config = config_of(told)
    with closing(opened(config)) as inventory, inventory.writing() as tx:
        row = runs.find_job(tx, config.jobs[0].name)
        assert row is not None
        now = told.server.clock.now()
        runs.finish_run(tx, runs.open_backup(tx, row, now).number, Outcome.INTERRUPTED, {}, now)
    found = read_status(config, told.server.clock.now())
    assert [concern.text.partition(",")[0] for concern in found.concerns if concern.topic is Topic.RUN] == [
        "backup of job main failed"
    ]
    (job,) = found.jobs
    assert job.last_run is not None
    assert job.last_run.outcome is Outcome.INTERRUPTED
    told.server.backup()
    assert concerns(told, Topic.RUN) == []


def test_a_stop_is_no_failure(told: NotifiedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whatever kind it is: nobody is told, and it goes on."""
    from backup.errors import InterruptedRunError

    def stopped(*_: Any, **__: Any) -> None:
        raise InterruptedRunError("asked to stop")

    monkeypatch.setattr("backup.operations.compact.compact", stopped)
    monkeypatch.setattr("backup.app.retention.forgetting.plan_by_policy", stopped)
    told.hook.taken.clear()
    for kind in (TaskKind.COMPACT, TaskKind.FORGET):
        run(told, kind)
        assert told.server.json("runs")[0]["outcome"] == Outcome.INTERRUPTED
    assert told.kinds() == []
    assert concerns(told, Topic.RUN) == []


def test_a_compaction_of_one_vault_hides_none_of_another(told: NotifiedServer) -> None:
    config, now = config_of(told), told.server.clock.now()
    told.server.config.write_text(
        told.server.config.read_text()
        + f'\n[[vault]]\nname = "dear"\nkind = "directory"\npath = "{told.server.folder / "dear"}"\n'
    )
    with closing(opened(config)) as inventory, inventory.writing() as tx:
        for vault, outcome in (("cold", Outcome.FAILED), ("dear", Outcome.DONE)):
            kind = run_of(TaskKind.COMPACT)
            assert kind is not None
            runs.record_of_vault(tx, kind, outcome, {"vault": vault}, now, now)
    assert [concern.partition(",")[0] for concern in concerns(told, Topic.RUN)] == [
        "compaction of vault cold failed"
    ]


def test_the_daemon_s_memory_says_what_failed(told: NotifiedServer) -> None:
    """A row that failed is a concern only while nothing newer is known."""
    told.break_vault()
    run(told, TaskKind.CHECK)
    row = InventoryBook(config_of(told)).read([]).rows[TaskKind.CHECK, "cold"]
    assert row.state is TaskState.FAILED
    told.mend_vault()
    told.server.clock.sleep(60)
    told.server.done("check")
    assert concerns(told, Topic.RUN) == []


def test_the_page_has_the_same_status(told: NotifiedServer) -> None:
    config, now = config_of(told), told.server.clock.now()
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        assert status_in(tx, config, now).scheduled == read_status(config, now).scheduled
