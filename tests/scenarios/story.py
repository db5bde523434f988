"""Ten years of one server: what happens to it on which day, and what must hold at the end of each quarter."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from backup.app.base.opened import opened
from backup.daemon.task_run import Done, TaskRun
from backup.inventory.records.runs import list_runs
from backup.inventory.records.tasks import TaskState
from backup.kinds import TaskKind
from backup.retention.prune import DEFAULT_KEEP_RUNS
from tests.scenarios.books import RESTORES, Archives, Money
from tests.scenarios.due import Counted, Times, counted
from tests.scenarios.events import calendar
from tests.scenarios.living import LivingServer, Tree, tree_of
from tests.scenarios.machine import DAY, NEW_YORK, SOON, ZONE, Ended, Machine, WorldClock, remove
from tests.support.emulated import RunningEmulator
from tests.support.renewals import RenewalSite
from tests.upgrade.installed import SOURCE, contents_of, expected

START = datetime(2027, 6, 1, 10, tzinfo=UTC)
"""The first moment: ten years from then have three leap days and twenty changes of summer time."""
RETENTION = "keep_daily = 7\nkeep_weekly = 4\nkeep_monthly = 6\nkeep_yearly = 20"
HAS_MANY_NIGHTS = os.environ.get("NIGHTVAULT_YEARS_NIGHTS") == "many"
"""Three backups a week into a directory, and one into a cold vault, in place of two a month."""
EVERY_MONTH = frozenset(range(1, 13))
ODD_MONTHS = frozenset({1, 3, 5, 7, 9, 11})
A_PRUNE = timedelta(days=32)
"""From one prune to the next."""
RARE = "keep_last = 3\nkeep_monthly = 4\nkeep_yearly = 2"


@dataclass
class Story:
    """A server's years; `result` is what is told of them afterwards.

    `sizes` are those of the inventory's file at the end of each quarter, `begun` the quarters in which one
    was made: by the installation, and by each rebuild.

    `identity` has a certificate that lives seven days, and is renewed.
    """

    folder: Path
    kind: str
    years: int
    machine: Machine
    archives: Archives
    money: Money
    trees: dict[str, Tree] = field(default_factory=dict)
    proven: int = 0
    restored_files: int = 0
    lost: int = 0
    rebuilt: int = 0
    by_hand: int = 0
    drills_cost: Decimal = Decimal(0)
    sizes: list[int] = field(default_factory=list)
    old_runs: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=lambda: [0])
    events: dict[datetime, Callable[[Story], None]] = field(default_factory=dict)
    next_day: datetime = START
    first_year: dict[str, Any] = field(default_factory=dict)
    after_year: Callable[[Story], object] = lambda _: None
    identity: RenewalSite | None = None

    @property
    def start(self) -> datetime:
        """Its first moment."""
        return START

    @property
    def end(self) -> datetime:
        """Its last one: the end of a quarter, a week later."""
        return datetime(START.year + self.years, 6, 1, 10, tzinfo=UTC)

    # Days.

    def live(self) -> None:
        """All of it."""
        self._plan()
        moments = sorted(self.events)
        for moment in moments:
            if moment > self.machine.clock.now():
                self.machine.live(moment)
            if moment in self.events:
                self.events[moment](self)
            if self.events.get(moment) is Story.quarter and moment.month == START.month:
                self.first_year = self.first_year or self.result()["money"]
                self.after_year(self)
        self.machine.live(self.machine.clock.now() + 10 * DAY)  # until the last copies have gone

    def days_pass(self) -> None:
        """Before a backup: the work of all days since the last one is done."""
        living, today = self.machine.living, self.machine.clock.now()
        while self.next_day <= today:
            self.next_day += DAY
            if not living.is_hurt():
                living.day()

    def _plan(self) -> None:
        """The calendar. Quarters end on the first of a month at noon; the rest happens between them."""
        for moment, event in calendar(self.years, START):
            assert moment not in self.events
            self.events[moment] = event
        for year in range(START.year, START.year + self.years):
            for month in (9, 12, 3, 6):
                at = datetime(year + (month < 7), month, 1, 12, tzinfo=UTC)
                self.events[min(at, self.end)] = Story.quarter

    # What people do.

    def snapshots(self) -> list[str]:
        """The ids of all kept snapshots, oldest first."""
        return [
            snapshot["id"]
            for snapshot in json.loads(self.machine.run("--json", "snapshots", "--job", self.machine.job))
        ]

    def back_up_by_hand(self, *words: str) -> None:
        """A backup that somebody asks for."""
        report = json.loads(self.machine.run("--json", "backup", self.machine.job, *words))[0]
        self.trees[report["snapshot"]] = self._now()
        self.by_hand += 1

    def bring_back(self) -> None:
        """The newest snapshot that was not hurt takes the place of what is there."""
        newest = [
            snapshot
            for snapshot in self.snapshots()
            if snapshot in self.trees and not _is_hurt(self.trees[snapshot])
        ][-1]
        target = self.folder / "brought back"
        self.restore(newest, target)
        self._settle()
        self.put_back(newest, target)

    def put_back(self, name: str, target: Path) -> None:
        """What was restored is right, and takes the place of what is there."""
        self._assert_same(name, target)
        top = Path(f"{target}{self.machine.living.folder}")
        streams = target / ".streams" / "shop.dump"
        if streams.exists():
            shutil.copy2(streams, top.parent / "shop.dump")
        self.machine.living.replace_by(top)
        remove(target)

    # Proofs.

    def after_backup(self, report: Any) -> None:
        """Remember what the new snapshot must hold."""
        self.trees[report.snapshot] = self._now()

    def around(self, run: TaskRun, work: Callable[[], Done]) -> Done:
        """A task's work: what it is charged is its own, and of a prune is seen what it deletes."""
        kind = run.task.kind
        if kind is TaskKind.BACKUP and self.identity is not None:
            assert self.identity.night().startswith("ASIA"), "no credentials"
        with self.money.paid_by(kind):
            return self.archives.around_prune(work) if kind is TaskKind.PRUNE else work()

    def renew(self) -> None:
        """What the daemon does now and then about its certificate."""
        if self.identity is not None:
            self.identity.tick()

    def after_run(self, run: Ended) -> None:
        """A drill cost no more than it was allowed to."""
        if run.kind is TaskKind.DRILL:
            self.money.settle()
            spent = self.money.beside[TaskKind.DRILL] - self.drills_cost
            self.drills_cost += spent
            allowed = Decimal(getattr(run.report, "cost", 0)) / 1_000_000
            if spent > allowed:
                self.archives.wrong.append(f"the drill of {run.began} cost {spent}, not {allowed}")

    def _now(self) -> Tree:
        living = self.machine.living
        dump = tree_of_file(living.database)
        return {**tree_of(living.folder), ".streams/shop.dump": dump}

    def quarter(self) -> None:
        """Every kept snapshot is restored, and is what its night saw."""
        self.money.compare()
        listed = self.snapshots()
        self.trees = {name: self.trees[name] for name in listed if name in self.trees}
        targets = {name: self.folder / "proof" / name for name in listed}
        for name, target in targets.items():
            self.restore(name, target)
        self._settle()
        for name, target in targets.items():
            self._assert_same(name, target)
            self.proven += 1
        remove(self.folder / "proof")
        self.archives.forget_needs()
        self.sizes.append((self.folder / "state" / "inventory.sqlite").stat().st_size)
        self.old_runs.append(self._count_old_runs())

    def _count_old_runs(self) -> int:
        """The runs that are remembered though a prune was due since they were older than is kept."""
        before = self.machine.clock.now() - DEFAULT_KEEP_RUNS - A_PRUNE
        with closing(opened(self.machine.config)) as inventory, inventory.reading() as tx:
            return sum(run.started_at < before for run in list_runs(tx, limit=100_000))

    def restore(self, name: str, target: Path, *words: str) -> None:
        """Begin a restore, of which is known what it will cost."""
        keys = self.machine.key_words()
        with self.money.paid_by(RESTORES):
            self.money.quote(name)
            self.machine.run("restore", name, "--target", target, *keys, *words, allowed=(0, 3, 17))

    def _settle(self) -> None:
        """Hours pass until no restore is open; the daemon goes on with them."""
        for _ in range(100):
            if not json.loads(self.machine.run("--json", "restores")):
                self.money.outputs.clear()
                return
            self.machine.live(self.machine.clock.now() + SOON)
            with self.money.paid_by(RESTORES):
                self.machine.go_on_with_restores()
        raise AssertionError("restores do not end")

    def _assert_same(self, name: str, target: Path) -> None:
        if name not in self.trees:
            self._assert_of_0_1_0(name, target)
            return
        top = Path(f"{target}{self.machine.living.folder}")
        dump = target / ".streams" / "shop.dump"
        found = {**tree_of(top), ".streams/shop.dump": tree_of_file(dump)}
        assert found == self.trees[name], f"snapshot {name} is not what its night saw"
        self.restored_files += len(found)

    def _assert_of_0_1_0(self, name: str, target: Path) -> None:
        known = expected()
        number = known["ids"][self.machine.job].index(name) + 1
        wanted = dict(known["snapshots"][number - 1])
        if number == known["lost"]["snapshot"]:
            del wanted[known["lost"]["path"]]
        assert contents_of(Path(f"{target}{SOURCE}")) == wanted

    # What is told afterwards.

    def runs_of(self, kind: TaskKind) -> Counted:
        """The runs of a task against its times."""
        times: Times = self.machine.times[kind]
        due = times.between(START, self.machine.clock.now())
        done = [run.began for run in self.machine.runs if run.kind is kind and run.state is TaskState.DONE]
        away = [*self.machine.away, *(self.machine.paused if kind is TaskKind.BACKUP else [])]
        return counted(due, self.machine.clock.now(), done, away, self.machine.gone)

    def result(self) -> dict[str, Any]:
        """All that is told of these years."""
        m, archives, money = self.machine, self.archives, self.money
        money.settle()
        archives.held()
        drills = [run.report for run in m.runs if run.kind is TaskKind.DRILL and run.state is TaskState.DONE]
        parts = sorted({*money.foretold, *money.charged} - {"early deletion"})
        runs = {kind.value: self.runs_of(kind) for kind in m.times}
        told = {
            part: {"foretold": f"{money.foretold[part]:.6f}", "charged": f"{money.charged[part]:.6f}"}
            for part in parts
        }
        return {
            "kind": self.kind,
            "years": len(self.sizes) // 4,
            "nights": (m.clock.now() - START).days,
            "runs": {
                name: {"due": run.due, "done": run.done, "away": run.impossible} for name, run in runs.items()
            },
            "by_hand": self.by_hand,
            "archives": {"made": len(archives.seen), "deleted": archives.deleted, "lost": self.lost},
            "refused": sum(_refused(run.report) for run in m.runs if run.kind is TaskKind.PRUNE),
            "money": self.first_year or told,
            "money_of_all": told,
            "beside": {whose: f"{amount:.6f}" for whose, amount in money.beside.items()},
            "inventory": self.sizes,
            "old_runs": self.old_runs,
            "restores": {"snapshots": self.proven, "files": self.restored_files},
            "rebuilt": self.rebuilt,
            "certificates": self.identity.asked if self.identity else 0,
            "drills": {"done": len(drills), "bytes": sum(drill.read.bytes for drill in drills if drill.read)},
        }


def _refused(report: Any) -> int:
    return sum(group.archives for group in getattr(report, "refused", ()))


def tree_of_file(path: Path) -> str:
    """The hash of one file; what a stream is has no mode and time of its own."""
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _is_hurt(tree: Tree) -> bool:
    return any(path.endswith(".locked") for path in tree) or not any(path.startswith("srv/") for path in tree)


def times_of(*, is_cold: bool, is_full: bool) -> dict[TaskKind, Times]:
    """The times of all tasks: backups and policies in the zone of the job, the rest in the machine's."""
    zone = NEW_YORK if is_cold else ZONE
    forget, prune = Times(time(4, 0), zone, days=frozenset({8})), Times(time(5, 0), days=frozenset({9}))
    if not is_full:
        night, months = Times(time(2, 30), zone, days=frozenset({3, 17})), ODD_MONTHS
    elif is_cold:
        night, months = Times(time(2, 30), zone, frozenset({0})), EVERY_MONTH
        forget, prune = replace(forget, days=frozenset({8, 22})), replace(prune, days=frozenset({9, 23}))
    else:
        night, months = Times(time(2, 30), zone, frozenset({0, 2, 4})), EVERY_MONTH
        forget, prune = Times(time(4, 0), zone, frozenset({6})), Times(time(5, 0), weekdays=frozenset({6}))
    return {
        TaskKind.BACKUP: night,
        TaskKind.FORGET: forget,
        TaskKind.PRUNE: prune,
        TaskKind.CHECK: Times(time(7, 0), days=frozenset({1}), months=months),
        TaskKind.COMPACT: Times(time(6, 0), days=frozenset({15}), months=months),
        TaskKind.DRILL: Times(time(9, 0), days=frozenset({12}), months=months),
    }


def begin(
    folder: Path,
    kind: str,
    years: int,
    emulator: RunningEmulator,
    clock: WorldClock,
    identity: RenewalSite | None = None,
) -> Story:
    """The server that 0.1.0 left behind, upgraded."""
    is_cold = kind != "directory"
    times = times_of(is_cold=is_cold, is_full=HAS_MANY_NIGHTS)
    living = LivingServer(folder / "server")
    is_rare = is_cold or not HAS_MANY_NIGHTS
    machine = Machine(folder, kind, emulator, clock, living, times, RARE if is_rare else RETENTION)
    story = Story(folder, kind, years, machine, Archives(machine), Money(machine), identity=identity)
    machine.before_look = story.renew
    machine.before_backup, machine.around = story.days_pass, story.around
    machine.after_backup, machine.after_run = story.after_backup, story.after_run
    return story
