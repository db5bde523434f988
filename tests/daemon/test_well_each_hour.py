"""Months of a daemon, with schedules of each minute to each month: nothing starves, nothing runs twice for
one time, and at each hour the status says what is not well, and nothing else.

The daemon's board decides, over an inventory that the real status reads; gaps, pauses, long runs, failures,
cuts and clocks that jump come by chance. That all is well is stated here a second time, in plain Python, from
the attempts alone; times of schedules are found in another way than `schedule.py` does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from backup.app.status.parts import Topic
from backup.app.status.recorded import status_in
from backup.app.tasks.tasks import tasks_of
from backup.config import Config, load_config
from backup.inventory.content import archives
from backup.inventory.content.snapshots import Snapshot, record_snapshot
from backup.inventory.records import runs
from backup.inventory.records import tasks as rows
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory, create_inventory
from backup.inventory.store.driver import insert_row
from backup.inventory.store.times import micros
from backup.kinds import Outcome, RunKind, TaskKind, run_of
from backup.model import JobName, PackKind, SnapshotId, VaultName
from tests.daemon.machine import Attempt, Event, Machine, able
from tests.support import campaigns
from tests.support.backups import INVENTORY_ID

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIVES = campaigns.share("NIGHTVAULT_TEST_WELL", 4)
BEGIN = datetime(2026, 3, 20, 9, 40, tzinfo=UTC)  # clocks change in Europe nine days later
ALL_HOURS = range(24)
Wall = tuple[Callable[[date], bool], list[tuple[int, int]]]


def each(step: int) -> list[tuple[int, int]]:
    return [(hour, minute) for hour in ALL_HOURS for minute in range(0, 60, step)]


def always(_: date) -> bool:
    return True


def on_weekdays(day: date) -> bool:
    return day.weekday() < 5


# A schedule, its days and times of day or its interval, how long one lives by it, how often it is looked at.
SCHEDULES: dict[str, tuple[Wall | timedelta, timedelta, timedelta]] = {
    "* * * * *": ((always, each(1)), 10 * HOUR, HOUR),
    "*/10 * * * *": ((always, each(10)), 2 * DAY, HOUR),
    "every 1h": (HOUR, 4 * DAY, HOUR),
    "every 7h": (7 * HOUR, 12 * DAY, HOUR),
    "0 9-17/2 * * 1-5": (
        (on_weekdays, [(hour, 0) for hour in range(9, 18, 2)]),
        14 * DAY,
        HOUR,
    ),
    "30 4 * * *": ((always, [(4, 30)]), 14 * DAY, HOUR),
    "weekly": ((lambda day: day.weekday() == 6, [(0, 0)]), 36 * DAY, HOUR),
    "monthly": ((lambda day: day.day == 1, [(0, 0)]), 110 * DAY, 3 * HOUR),
}
RECORDED = [kind for kind in TaskKind if run_of(kind) is not None]
EVENTS = ["off", "kill", "stop", "sleep", "away", "slow", "pause", "cut after the end", "ahead"]
Drawn = tuple[str, float, float, int]
happenings = st.lists(
    st.tuples(
        st.sampled_from(EVENTS),
        st.floats(0, 1),  # when, as a share of the life
        st.one_of(st.floats(0.001, 0.02), st.floats(0.02, 0.2)),  # for how long, as a share of it
        st.sampled_from([0, 0, 7, 12]),  # minutes for which the clock is not set after a start
    ),
    max_size=8,
)


def placed(drawn: Sequence[Drawn], lasts: timedelta) -> list[Event]:
    """The events in order, to the minute; one that would begin before another has ended is left out."""
    found: list[Event] = []
    for kind, when, share, unset in sorted(drawn, key=lambda row: row[1]):
        begin = BEGIN + HOUR + round(when * (lasts / MINUTE)) * MINUTE
        end = begin + max(1, round(share * (lasts / MINUTE))) * MINUTE
        if not found or begin > found[-1].end + found[-1].unset + MINUTE:
            end = begin + MINUTE if kind == "kill" else end
            found.append(Event(kind, begin, end, (unset if kind == "off" else 0) * MINUTE))
    return found


def times_of(words: str, zone: str, since: datetime) -> Iterator[datetime]:
    """The times of a schedule after `since`."""
    rule, _, _ = SCHEDULES[words]
    if isinstance(rule, timedelta):
        for number in range(1, 10**6):
            yield since + number * rule
        return
    here, (matches, walls) = ZoneInfo(zone), rule
    day = since.astimezone(here).date() - DAY
    last = since
    while True:
        for hour, minute in walls if matches(day) else ():
            moment = datetime.combine(day, time(hour, minute), here).astimezone(UTC)
            if moment.astimezone(here).replace(tzinfo=None) != datetime.combine(day, time(hour, minute)):
                moment = moment.astimezone(UTC).replace(minute=0)  # the clock is put forward over it
            if moment > last:
                yield moment
                last = moment
        day += DAY


@cache
def late_after(words: str, zone: str, good: datetime) -> datetime:
    """From when it is overdue: a quarter more than the widest gap up to the eighth time after it."""
    gap = max(later - earlier for earlier, later in pairwise([good, *islice(times_of(words, zone, good), 8)]))
    return good + gap + max(gap / 4, 10 * MINUTE)


@dataclass
class Life(Machine):
    """A machine whose daemon has one task, over an inventory that is written whenever somebody looks."""

    inventory: Inventory = field(kw_only=True)
    job: JobRow = field(kw_only=True)
    config: Config = field(kw_only=True)
    words: str = field(kw_only=True)
    zone: str = field(kw_only=True)
    written: int = 0
    known: dict[tuple[str, str], rows.TaskRow] = field(default_factory=dict)  # the rows that are written
    snapshots: int = 0
    looks: int = 0
    stamps: list[datetime] = field(default_factory=list)  # of the attempts, by the clock of the machine
    next_look: datetime = BEGIN

    def now(self) -> datetime:
        return self.real + self.wrong_by + (40 * DAY if self.active("ahead") else timedelta())

    def _pass(self, until: datetime) -> None:
        while len(self.stamps) < len(self.attempts):
            self.stamps.append(self.book.last[self.of.key].started_at)
        if self.real >= self.next_look:
            self.look()
            self.next_look = self.real + SCHEDULES[self.words][2]
        jumps = [
            event for event in self.events if event.kind == "ahead"
        ]  # what the board says is by another clock
        is_near = any(jump.begin <= self.real < jump.end + HOUR for jump in jumps)
        near = 5 * MINUTE if is_near else 9 * HOUR
        super()._pass(min(until, self.next_look, self.real + near))

    def look(self) -> None:
        """Ask the status, and hold it against what is stated here."""
        if self.wrong_by:
            return
        self.looks += 1
        self._write_what_is_new()
        now = self.now()
        with self.inventory.reading() as tx:
            found = status_in(tx, self.config, now)
        told = {concern.topic for concern in found.concerns} & {Topic.OVERDUE, Topic.RUN}
        expected = {Topic.OVERDUE} if self.is_late(now) else set()
        expected |= {Topic.RUN} if self.has_failed() else set()
        assert told == expected, f"at {now}: {[concern.text for concern in found.concerns]}"

    def _write_what_is_new(self) -> None:
        """Record the attempts that have ended, and the task's rows, as the daemon and its runs would."""
        there = len(self.attempts) - (self.run is not None)
        if there <= self.written and self.known == self.book.rows:
            return
        with self.inventory.writing() as tx:
            for number in range(self.written, there):
                self._write(tx, self.attempts[number], self.stamps[number])
                self.written = number + 1
            for row in self.book.rows.values():
                rows.write_task(tx, row)
        self.known = dict(self.book.rows)

    def _write(self, tx: Transaction, one: Attempt, began: datetime) -> None:
        """Record an attempt that has ended, as its real work would."""
        if one.ended is None or one.outcome == "cut":
            return
        kind, job = run_of(self.of.kind), self.of.of_job is not None
        assert kind is not None
        report: dict[str, object] = {} if job else {"vault": "v"}
        report |= {"vault": "second"} if self.of.kind is TaskKind.COPY else {}
        report["error" if one.outcome == "failed" else "findings"] = "away" if one.outcome == "failed" else []
        report |= {"compared": {}, "read": None, "laws": None} if self.of.kind is TaskKind.CHECK else {}
        report |= {"drill": "drill", "grade": "read back"} if self.of.kind is TaskKind.DRILL else {}
        row = self.job if job else None
        runs.record_attempt(tx, kind, row, Outcome(one.outcome), report, began, began)
        if self.of.kind is TaskKind.BACKUP and one.outcome == "done":
            self.snapshots += 1
            record_snapshot(tx, snapshot(self.job, self.snapshots + 1, began))

    def ended(self) -> list[tuple[Attempt, datetime]]:
        """The attempts that have an end, with the time at which they began by the machine's clock."""
        return [
            (attempt, stamp)
            for attempt, stamp in zip(self.attempts, self.stamps, strict=False)
            if attempt.ended is not None and attempt.outcome != "cut"
        ]

    def is_late(self, now: datetime) -> bool:
        """That it is overdue, said plainly."""
        good = [stamp for attempt, stamp in self.ended() if attempt.outcome == "done" and stamp <= now]
        if good:
            return late_after(self.words, self.zone, max(good)) < now
        tried = [stamp for _, stamp in self.ended()] if self.of.kind is TaskKind.BACKUP else []
        known = min([BEGIN, *tried, now])
        first = (
            known
            if isinstance(SCHEDULES[self.words][0], timedelta)
            else next(times_of(self.words, self.zone, known))
        )
        return late_after(self.words, self.zone, first) < now

    def has_failed(self) -> bool:
        """That its last attempt failed: one that was stopped says nothing; four cuts in a row do."""
        said = [attempt.outcome for attempt, _ in self.ended() if attempt.outcome in {"done", "failed"}]
        cuts = [attempt.outcome for attempt in self.attempts if attempt.outcome != "interrupted"]
        return said[-1:] == ["failed"] or self._counts_as_failed(cuts)

    def _counts_as_failed(self, outcomes: Sequence[str]) -> bool:
        row = self.book.rows.get(self.of.key)
        return row is not None and row.state is rows.TaskState.FAILED and outcomes[-4:] == ["cut"] * 4


def each_done_after_another(life: Life) -> Iterator[Sequence[datetime]]:
    """For each two that are done, one after the other: when they, and what was tried in between, began.

    By the clock of the machine, as it was then.
    """
    tried = list(zip(life.attempts, life.stamps, strict=False))
    done = [number for number, (attempt, _) in enumerate(tried) if attempt.outcome == "done"]
    for first, second in pairwise(done):
        yield [stamp for _, stamp in tried[first : second + 1]]


def is_twice(words: str, zone: str, begun: Sequence[datetime]) -> bool:
    """Whether the last of these did again what the first had done.

    After the first one, and until the second, a time of the schedule has to come by the clock that they began
    by. Only what began at a time which is still to come when the second begins (the clock was set back since)
    says nothing of what is done: its times come again, and one run is due at once.
    """
    first, second = begun[0], begun[-1]
    if max(begun) > second:
        return False
    return next(times_of(words, zone, first)) > second + MINUTE


CONFIG = """
[state]
dir = "{folder}/state"
[[vault]]
name = "v"
kind = "directory"
path = "{folder}/vault"
{of_vault}
[[vault]]
name = "second"
kind = "directory"
path = "{folder}/second"
[[job]]
name = "job"
vault = "v"
sources = ["/nowhere"]
timezone = "{zone}"
{of_job}
{drill}
"""


def config_in(folder: str, kind: TaskKind, words: str, zone: str) -> Config:
    of_vault = f'{kind} = "{words}"' if kind.value in {"check", "prune", "compact"} else ""
    if kind is TaskKind.EXTEND:
        of_vault = f'lock = "governance"\n{kind} = "{words}"'
    of_job = {
        TaskKind.BACKUP: f'schedule = "{words}"',
        TaskKind.FORGET: f'forget = "{words}"\nretention = {{ keep_last = 3 }}',
        TaskKind.COPY: f'[[job.copy]]\nvault = "second"\nschedule = "{words}"',
    }.get(kind, "")
    drill = f'[[drill]]\nname = "drill"\nvault = "v"\nschedule = "{words}"\nsample = "1 files"'
    path = Path(folder) / "config.toml"
    text = CONFIG.format(
        folder=folder, zone=zone, of_vault=of_vault, of_job=of_job, drill=drill if kind == "drill" else ""
    )
    if kind is TaskKind.EXTEND:  # no directory locks
        bucket = 'kind = "s3"\nstorage_class = "STANDARD"\nregion = "x"\nbucket = "bucket"\nendpoint = "http://127.0.0.1:9"'
        text = text.replace(f'kind = "directory"\npath = "{folder}/vault"', bucket)
    path.write_text(text)
    return load_config(str(path))


def snapshot(job: JobRow, number: int, at: datetime) -> Snapshot:
    """A snapshot of that number and time."""
    named = SnapshotId(f"{number:016x}")
    return Snapshot(named, job.name, job.number, number, None, at, at, "host", (b"/s",), (), files=3, bytes=9)


def stored(inventory: Inventory, kind: TaskKind) -> JobRow:
    """A job of which an archive is stored, and a snapshot for what goes by them."""
    at = BEGIN - DAY
    with inventory.writing() as tx:
        vault = archives.get_or_create_vault(tx, VaultName("v"))
        job = runs.get_or_create_job(tx, JobName("job"), vault, b"j" * 16)
        domain = archives.get_or_create_domain(tx, b"d" * 16, vault, b"r" * 16, BEGIN)
        values = {"kind": PackKind.DATA.value, "state": archives.ArchiveState.STORED, "pack_id": b"p" * 16}
        empty = {"header": b"", "size": 1, "tree_hash": b"", "archive_id": "a"}
        times = {"submitted_at": micros(at), "stored_at": micros(at)}
        insert_row(tx, "archives", domain=domain, **values, **empty, **times)
        if kind in {TaskKind.FORGET, TaskKind.COPY}:
            runs.record_attempt(tx, RunKind.BACKUP, job, Outcome.DONE, {}, at, at)
            record_snapshot(tx, snapshot(job, 1, at))
    return job


def live(kind: TaskKind, words: str, zone: str, drawn: Sequence[Drawn]) -> Life:
    """What comes of it."""
    lasts = SCHEDULES[words][1]
    with tempfile.TemporaryDirectory() as folder:
        config = config_in(folder, kind, words, zone)
        (of,) = [task for task in tasks_of(config) if task.kind is kind and task.timing.schedule is not None]
        assert of.timing.schedule is not None
        zone = of.timing.schedule.timezone  # only jobs have one of their own
        inventory = create_inventory(
            f"sqlite:///{folder}/i.sqlite",
            inventory_id=INVENTORY_ID,
            signer_public=b"s" * 32,
            now=BEGIN,
            lock_directory=folder,
        )
        with closing(inventory):
            life = Life(
                of,
                placed(drawn, lasts),
                BEGIN,
                inventory=inventory,
                job=stored(inventory, kind),
                config=config,
                words=words,
                zone=zone,
            )
            life.live(BEGIN + lasts)
    return life


@settings(
    max_examples=LIVES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    st.sampled_from(RECORDED),
    st.sampled_from(sorted(SCHEDULES)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    happenings,
)
@example(TaskKind.BACKUP, "* * * * *", "UTC", [("off", 0.3, 0.08, 0)])
@example(TaskKind.CHECK, "*/10 * * * *", "Europe/Berlin", [("away", 0.3, 0.2, 0), ("stop", 0.6, 0.01, 0)])
@example(TaskKind.DRILL, "30 4 * * *", "UTC", [("sleep", 0.2, 0.2, 0), ("ahead", 0.7, 0.01, 0)])
@example(TaskKind.BACKUP, "every 7h", "UTC", [("ahead", 0.3, 0.02, 0), ("off", 0.5, 0.01, 7)])
@example(TaskKind.BACKUP, "30 4 * * *", "Australia/Lord_Howe", [("off", 0.0, 0.02, 12)])  # before the first
@example(
    TaskKind.BACKUP,
    "30 4 * * *",
    "Europe/Berlin",
    [("ahead", 0.0, 0.1539089737390653, 0), ("ahead", 0.17486558401692734, 0.04437407834189511, 0)],
)  # also when the first one ran
@example(TaskKind.PRUNE, "weekly", "Europe/Berlin", [("off", 0.1, 0.2, 7), ("slow", 0.5, 0.2, 0)])
@example(TaskKind.FORGET, "monthly", "UTC", [("pause", 0.1, 0.5, 0)])
@example(TaskKind.COPY, "30 4 * * *", "Europe/Berlin", [("away", 0.3, 0.2, 0), ("stop", 0.6, 0.01, 0)])
def test_nothing_starves_or_runs_twice_and_status_is_right_at_each_hour(
    kind: TaskKind, words: str, zone: str, drawn: Sequence[Drawn]
) -> None:
    life = live(kind, words, zone, drawn)
    zone = life.zone
    assert life.looks > 5
    for begun in each_done_after_another(life):
        assert not is_twice(words, zone, begun), f"twice for one time: {begun}"
    for begin, end in able(life, BEGIN, life.real):
        # The first time after it could run, and a minute for the look; what was missed may wait for it.
        rule = SCHEDULES[words][0]
        latest = begin + rule if isinstance(rule, timedelta) else next(times_of(words, zone, begin))
        assert end <= latest + 33 * MINUTE, f"it starves from {begin} to {end}"
