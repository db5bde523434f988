"""A server with the daemon's own board, on a clock that is moved by hand, and one vault of three kinds.

Time goes from one moment that matters to the next; AWS's clock goes along. Nothing here decides what is due.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Lock
from time import monotonic
from typing import Any

import pytest
from click.testing import CliRunner

from backup.app.base import vaults
from backup.app.tasks.book import InventoryBook
from backup.app.tasks.tasks import tasks_of
from backup.cli import main
from backup.config import Config, load_config
from backup.credentials import boto
from backup.credentials.boto import FixedCredentials
from backup.daemon.board import Board
from backup.daemon.executor import Executor
from backup.daemon.task_run import Done, TaskEnd, TaskRun
from backup.daemon.work import TaskWork
from backup.errors import NightvaultError
from backup.inventory.records.tasks import TaskState
from backup.kinds import TaskKind
from backup.model import Credentials
from backup.operations.backup import BackupDone
from backup.operations.restores import continue_restores
from backup.vault import aws
from tests.scenarios.due import Span, Times
from tests.scenarios.living import LivingServer
from tests.support.command_line import CliAt
from tests.support.daemons import Figures
from tests.support.doubles import ManualClock, PowerCut
from tests.support.emulated import ACCESS_KEY_ID, ACCOUNT_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator
from tests.support.trees import extract_tar
from tests.upgrade.installed import BUCKET, GLACIER_VAULT, HERE

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SOON = timedelta(hours=4, minutes=10)  # a Glacier vault has made its list by then
ZONE = "Europe/Berlin"
MOST_OF_DRILLS = "0.05"
KINDS = {"directory": ("on-disk", "disk"), "glacier": ("in-glacier", "cold"), "s3": ("in-bucket", "bucket")}
NEW_YORK = "America/New_York"


class WorldClock(ManualClock):
    """A clock that takes AWS's clock along."""

    def __init__(self, start: datetime, emulator: RunningEmulator | None) -> None:
        super().__init__(start)
        self._emulator = emulator
        self._moving = Lock()
        self._there = start if emulator is None else datetime.fromisoformat(emulator.now())
        self._since = monotonic()

    def go(self, moment: datetime) -> None:
        """Move on to a moment."""
        self._now = max(moment, self._now)

    def catch_up(self, **_: object) -> None:
        """Before AWS is asked for something its clock is moved on, too: once, however often this one was."""
        if self._emulator is None:
            return
        with self._moving:
            behind = (self.now() - self._there).total_seconds() - (monotonic() - self._since)
            if behind > 0:
                self._there = datetime.fromisoformat(self._emulator.advance(behind))
                self._since = monotonic()


class WrongError(BaseException):
    """Something does not hold: the daemon, which ends for no error of its runs, ends for this."""


@dataclass
class Ended:
    """A task's run that ended: when its first attempt and its last one began, and how it ended."""

    kind: TaskKind
    began: datetime
    ended: datetime
    state: TaskState
    report: Any


@dataclass
class Machine:
    """The server. `times` are of its tasks; `runs` all that ended; `away` when nothing could
    run, `gone` when there was no server."""

    folder: Path
    kind: str
    emulator: RunningEmulator
    clock: WorldClock
    living: LivingServer
    times: Mapping[TaskKind, Times]
    retention: str
    more: str = ""
    runs: list[Ended] = field(default_factory=list)
    away: list[Span] = field(default_factory=list)
    paused: list[Span] = field(default_factory=list)
    gone: list[Span] = field(default_factory=list)
    keys: list[Path] = field(default_factory=list)
    cut: str = ""
    awake: float = 0.0
    looked_at: datetime | None = None
    before_backup: Callable[[], None] = lambda: None
    before_look: Callable[[], None] = lambda: None
    after_run: Callable[[Ended], None] = lambda _: None
    after_backup: Callable[[Any], None] = lambda _: None
    around: Callable[[TaskRun, Callable[[], Done]], Done] = lambda _, work: work()
    _begun: dict[TaskKind, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys.append(self.folder / "recovery.key")
        self.write_config()
        self.start()

    @property
    def job(self) -> str:
        """Its job's name, as 0.1.0 had it."""
        return KINDS[self.kind][0]

    @property
    def vault(self) -> str:
        """Its vault's name in the config."""
        return KINDS[self.kind][1]

    @property
    def config(self) -> Config:
        """The config in force."""
        return self.work.config

    def write_config(self) -> None:
        """Write config.toml."""
        t = self.times
        (self.folder / "config.toml").write_text(
            f'[state]\ndir = "{self.folder}/state"\n{self.more}\n'
            f'[[vault]]\nname = "{self.vault}"\nkind = "{self.kind}"\n{self._place()}'
            f'prune = "{t[TaskKind.PRUNE].crontab}"\ncheck = "{t[TaskKind.CHECK].crontab}"\n'
            f'compact = "{t[TaskKind.COMPACT].crontab}"\n'
            f'[[job]]\nname = "{self.job}"\nvault = "{self.vault}"\nsources = ["{self.living.folder}"]\n'
            f'schedule = "{t[TaskKind.BACKUP].crontab}"\ntimezone = "{t[TaskKind.BACKUP].zone}"\n'
            f'forget = "{t[TaskKind.FORGET].crontab}"\n[job.retention]\n{self.retention}\n'
            f'[[drill]]\nname = "monthly"\nschedule = "{t[TaskKind.DRILL].crontab}"\n'
            f'jobs = ["{self.job}"]\nsample = "3 files"\nmax_cost_per_month = {MOST_OF_DRILLS}\n'
            f'[[job.command]]\nname = "shop.dump"\nrun = ["cat", "{self.living.database}"]\n'
        )

    def _place(self) -> str:
        if self.kind == "directory":
            return f'path = "{self.folder}/vault"\n'
        where = f'region = "{REGION}"\n'
        if self.kind == "s3":
            return where + f'bucket = "{BUCKET}"\nendpoint = "{self.emulator.s3_url}"\npath_style = true\n'
        glacier = f'vault = "{GLACIER_VAULT}"\nendpoint = "{self.emulator.glacier_url}"\n'
        return where + f'account_id = "{ACCOUNT_ID}"\n' + glacier

    def start(self) -> None:
        """Begin a daemon with what the inventory has of its tasks."""
        self.looked_at = None
        config = load_config(str(self.folder / "config.toml"))
        self.work = TaskWork(config, self.clock)
        executor = Executor(self._do, self.clock, [self], monotonic=lambda: self.awake)
        executor.board = self.board = Board(
            tasks_of(config),
            InventoryBook(config),
            self.clock,
            launch=executor.carry_out,
            progress=lambda _: Figures(),
            monotonic=lambda: self.awake,
        )

    # The work of tasks, and who is told of it.

    def _do(self, run: TaskRun) -> Done:
        if self.cut == "before":
            self.cut = ""
            raise PowerCut
        if run.task.kind is TaskKind.BACKUP:
            self.before_backup()
        try:
            done = self.around(run, lambda: self.work(run))
        except AssertionError as error:
            raise WrongError(f"{run.task} at {self.clock.now()}") from error
        if self.cut == "after" and run.task.kind is TaskKind.BACKUP:
            self.cut = ""
            self._note(run, TaskEnd(TaskState.DONE, self.clock.now(), done.report))
            raise PowerCut
        return done

    def began(self, run: TaskRun) -> None:
        """Note when a run begins."""
        self._begun.setdefault(run.task.kind, self.clock.now())

    def ended(self, run: TaskRun, end: TaskEnd) -> None:
        """Note how it ended."""
        if not end.waits_for:
            self._note(run, end)

    def _note(self, run: TaskRun, end: TaskEnd) -> None:
        try:
            self._note_end(run, end)
        except Exception as error:
            raise WrongError(f"{run.task} at {self.clock.now()}") from error

    def _note_end(self, run: TaskRun, end: TaskEnd) -> None:
        if end.error is not None and not isinstance(end.error, NightvaultError):
            raise end.error
        began = self._begun.pop(run.task.kind, self.clock.now())
        result = end.report if end.error is None else end.error
        self.runs.append(Ended(run.task.kind, began, end.ended_at, end.state, result))
        if isinstance(end.report, BackupDone):
            self.after_backup(end.report.report)
        self.after_run(self.runs[-1])

    # Time passes.

    def live(self, until: datetime) -> None:
        """Let the daemon do what is due until a moment."""
        while True:
            now = self.clock.now()
            if self.looked_at != now:
                self.before_look()
                self._look_twice()
            self.looked_at = now
            if now >= until:
                return
            self.go(min(self._next(now), until))

    def _look_twice(self) -> None:
        """Look, and if something ran look again: only then does the board know when that is due next."""
        before = len(self.runs)
        self._look()
        if len(self.runs) > before:
            self._look()

    def _look(self) -> None:
        try:
            self.board.look()
        except PowerCut:
            self._begun.clear()
            self.start()
            self.board.look()

    def _next(self, now: datetime) -> datetime:
        lines = self.board.lines()
        known = [line.next_at for line in lines if line.next_at is not None and not line.paused_until]
        waits = any(line.waits_for or line.row.state is TaskState.FAILED for line in lines)
        soon = now + (SOON if waits else 4 * DAY)
        known += [line.paused_until for line in lines if line.paused_until]
        later = [time for time in known if time > now]
        moment = min([soon, *later])
        return datetime.fromtimestamp(-(-moment.timestamp() // 60) * 60, UTC)  # ticks are on full minutes

    def go(self, moment: datetime, *, asleep: bool = False) -> None:
        """Let time pass without looking; the monotonic clock stands still in sleep."""
        if not asleep:
            self.awake += (moment - self.clock.now()).total_seconds()
        self.clock.go(moment)

    def suspend(self, until: datetime) -> None:
        """Sleep."""
        self.away.append((self.clock.now(), until))
        self.go(until, asleep=True)

    def off(self, until: datetime) -> None:
        """Be switched off, and start again."""
        self.away.append((self.clock.now(), until))
        self.go(until)
        self._begun.clear()
        self.start()

    def go_on_with_restores(self) -> None:
        """What the daemon does each five minutes about restores that are open."""
        for done in continue_restores(self.config, clock=self.clock, stop=_never()):
            assert not isinstance(done.report, Exception), done.report

    # What people do.

    def run(self, *words: object, allowed: tuple[int, ...] = (0,), stream: str = "stdout") -> str:
        """What a command prints, or what it says on another stream."""
        texts = ["--config", str(self.folder / "config.toml"), *map(str, words)]
        done = CliRunner().invoke(main, texts, obj=CliAt(self.clock))
        assert done.exit_code in allowed, f"{words}: {done.exit_code}\n{done.output}"
        return str(getattr(done, stream))

    def key_words(self) -> list[str]:
        """All recovery keys as options, today's first."""
        return [word for key in reversed(self.keys) for word in ("--key", str(key))]


def _never() -> Event:
    return Event()


@dataclass
class Worlds:
    """The emulator and folder of a server that 0.1.0 left behind."""

    folder: Path
    emulator: RunningEmulator


def unpack(folder: Path) -> None:
    """What 0.1.0 left behind."""
    with tarfile.open(HERE / "v0.1.0.tar.xz") as tar:
        extract_tar(tar, folder)
    os.chmod(folder / "state", 0o700)


def prepare(patch: pytest.MonkeyPatch, clock: WorldClock) -> None:
    """The keys with which vaults are asked, the zone of their tasks, and one client for all runs.

    A client costs half a second of work each time it is made, and the same is made again in each night.
    """
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    patch.setenv("TZ", "UTC")
    keys = FixedCredentials(Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY))
    patch.setattr(vaults, "credential_source", lambda *_: keys)
    sessions: dict[str, Any] = {}
    clients: dict[tuple[object, ...], Any] = {}
    make_session, make_client, make_s3_client = boto.boto3_session, aws.make_client, aws.make_s3_client

    def session_once(source: object, region: str) -> Any:
        if region not in sessions:
            sessions[region] = make_session(keys, region)
        return sessions[region]

    def once(make: Callable[..., Any]) -> Callable[..., Any]:
        def client(session: object, *words: str, **options: Any) -> Any:
            key = (make, words, repr(sorted(options.items())))
            if key not in clients:
                clients[key] = make(session, *words, **options)
                clients[key].meta.events.register("before-send", clock.catch_up)
            return clients[key]

        return client

    patch.setattr(boto, "boto3_session", session_once)
    patch.setattr(aws, "make_client", once(make_client))
    patch.setattr(aws, "make_s3_client", once(make_s3_client))


def remove(path: Path) -> None:
    """A folder is gone, if it was there."""
    shutil.rmtree(path, ignore_errors=True)
