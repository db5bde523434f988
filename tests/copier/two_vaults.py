"""A server with two jobs, a vault, and another one with copies, to which everything happens."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec.structs import asdict, replace

from backup.app.retention.undo import known_snapshots, returns, undo_of_job
from backup.archiver.backup import run_backup
from backup.catalogs.amend import amending
from backup.copier.context import CopyChoice
from backup.copier.copy import copy
from backup.copier.report import CopyReport
from backup.errors import UsageError, VaultError
from backup.format import records
from backup.inventory.content import archives, copied, copied_pruning, snapshots
from backup.inventory.content.archives import REMAIN, ArchiveState
from backup.inventory.content.copied import KeptThere
from backup.inventory.records.runs import JobRow, find_job
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros
from backup.kinds import RunKind
from backup.model import ArchiveId, InventoryId, JobName
from backup.protocols import Vault
from backup.pruner.compact import JobRules, compact
from backup.pruner.context import PruneContext
from backup.pruner.listed import PruneStoppedError
from backup.pruner.report import PruneReport
from backup.rebuilder.context import Wish
from backup.retention.copies import CopyRule
from backup.retention.policy import Policy
from backup.transfer.answers import accept_catalogs
from tests.copier.support import context_of
from tests.support.backups import Site
from tests.support.checks import check
from tests.support.doubles import ManualClock
from tests.support.holding import Holding
from tests.support.rebuilds import Bare
from tests.support.trees import Seen, assert_same_tree, snapshot_of

DAY = timedelta(days=1)
GRACE = timedelta(days=3)
HOURS = timedelta(hours=5)  # in which what was asked for is ready, and nothing expires that was ready before
JOBS = ("job", "other")
FILES = ("a", "b", "c", "d")
CONTENTS = [random.Random(number).randbytes(1500 + 100 * number) for number in range(8)]


@dataclass
class Pair:
    """A source, a destination, and their time."""

    source: Vault
    destination: Vault
    clock: ManualClock
    pass_time: Callable[[timedelta], object]
    tells_time: bool = False
    fresh: Callable[[str], Vault] | None = None  # an empty vault of that name, in place of the destination
    fresh_source: Callable[[str], Vault] | None = None  # the same in place of the source


@dataclass
class TwoVaults:
    """The world: `vanished` are archives of the destination that it lost; `unsent` are their packs."""

    folder: Path
    pair: Pair
    trees: dict[tuple[str, int], dict[bytes, Seen]] = field(default_factory=dict)
    vanished: set[str] = field(default_factory=set)
    unsent: set[bytes] = field(default_factory=set)
    has_lost: bool = False
    proofs: int = 0
    wrapped: Vault | None = None

    def __post_init__(self) -> None:
        for job in JOBS:
            (self.folder / job).mkdir()
            (self.folder / job / "always").write_bytes(b"of job " + job.encode())
        pair = self.pair
        self.clock = pair.clock
        self.here, self.there = (
            Holding(vault, self.clock.now, tells_time=pair.tells_time)
            for vault in (pair.source, pair.destination)
        )
        smallest = max(vault.traits.smallest_part for vault in (self.here, self.there))
        self.site = Site.create(
            self.folder / "state",
            self.here,
            [self.folder / JOBS[0]],
            clock=self.clock,
            name=JOBS[0],
            part_size=smallest,
        )
        self.site = replace(self.site, wait=lambda: pair.pass_time(HOURS))

    def job(self, which: int) -> Site:
        """The server with one of its jobs."""
        name = JOBS[which % len(JOBS)]
        return self.site.with_job(sources=[self.folder / name], name=name)

    def row(self, name: str) -> JobRow | None:
        """The job in the inventory."""
        with self.site.inventory.reading() as tx:
            return find_job(tx, JobName(name))

    def vault(self) -> int:
        """The number of the destination; 0 before the first copy."""
        with self.site.inventory.reading() as tx:
            return copied.vault_number(tx, self.there.name)

    # What may happen.

    def back_up(self, which: int) -> None:
        """A file gets one of a few contents, or goes; then a backup."""
        path = self.folder / JOBS[which % len(JOBS)] / FILES[which // 2 % len(FILES)]
        if which % 9 == 8:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(CONTENTS[which // 3 % len(CONTENTS)])
        site = self.job(which)
        with site.inventory.reading() as tx:
            row = find_job(tx, site.job.name)
            sql = "SELECT next_snapshot FROM jobs WHERE number = ?"
            number = 1 if row is None else next(iter(tx.connection.execute(sql, (row.number,))))[0]
        self.trees[site.job.name, number] = dict(snapshot_of(site.job.sources[0]))
        run_backup(site.job, site.keys, site.world, accept_recipients=True)

    def copy(self, which: int) -> CopyReport | None:
        """All of a job's snapshots, those of a policy, or the newest."""
        site = self.job(which)
        if self.row(site.job.name) is None:
            return None
        rules = [None, Policy(last=1), Policy(last=2), Policy(last=100)]
        policy = rules[which % len(rules)]
        rule = None if policy is None else CopyRule(policy, ZoneInfo("UTC"), DAY * (which % 3))
        return self._copied(site, CopyChoice(rule=rule))

    def _copied(self, site: Site, choice: CopyChoice) -> CopyReport:
        """A copy, with its waits; after a rebuild it reads what is there."""
        for _ in range(12):
            try:
                report = copy(context_of(site, self._there, with_key=True), site.job.name, choice)
            except VaultError as error:
                if "is expired" not in str(error):  # a list that was asked for weeks ago: it is asked anew
                    raise
                continue
            if not report.waits_for:
                return report
            self.site.wait()
        raise AssertionError("what it waits for never comes")

    def forget_here(self, which: int) -> None:
        """One snapshot of the source, but the newest."""
        with self.site.inventory.reading() as tx:
            kept = snapshots.list_snapshots(tx)
        newest = {snapshot.job: snapshot.number for snapshot in kept}
        some = [snapshot for snapshot in kept if snapshot.number < newest[snapshot.job]]
        if some:
            chosen = some[which % len(some)]
            record = records.ForgottenRecord([chosen.number], micros(self.clock.now()))
            self.site.with_job(name=chosen.job).amend(record)

    def take_back_here(self, which: int) -> None:
        """One forgotten snapshot of the source, if nothing that it needs is condemned."""
        with self.site.inventory.reading() as tx:
            every = snapshots.list_snapshots(tx, also_forgotten=True)
            gone = [snapshot for snapshot in every if snapshot.forgotten_at is not None]
            chosen = gone[which % len(gone)] if gone else None
            comes = chosen is not None and not returns(tx, [chosen]).lost
        if chosen is not None and comes:
            self.site.with_job(name=chosen.job).amend(records.TakenBackRecord([chosen.number]))

    def forget_there(self, which: int) -> None:
        """One snapshot of the copies."""
        self._amend_there(which, KeptThere.COPIED)

    def take_back_there(self, which: int) -> None:
        """One forgotten snapshot of the copies, if it can come back."""
        self._amend_there(which, KeptThere.FORGOTTEN)

    def _amend_there(self, which: int, state: KeptThere) -> None:
        with self.site.inventory.reading() as tx:
            beyond = copied_pruning.beyond_recall(tx, copied.vault_number(tx, self.there.name), set())
        some = [
            (job, number)
            for job, number in self.said(state)
            if (row := self.row(job)) is not None and number not in beyond.get(row.number, ())
        ]
        if some:
            job, number = some[which % len(some)]
            now = micros(self.clock.now())
            forgets = state is KeptThere.COPIED
            there = replace(self.site, vault=self._there).with_job(name=job)
            if forgets:
                there.amend(records.ForgottenRecord([number], now))
            else:
                self._take_back(there, job, number)

    def _take_back(self, there: Site, job: str, number: int) -> None:
        """As `forget --undo --vault` does."""
        found = [row for name in JOBS if (row := self.row(name)) is not None]
        (row,) = (row for row in found if row.name == job)
        with self.site.inventory.reading() as tx:
            some = copied.jobs_copied_to(tx, self.vault())
            every = known_snapshots(tx, self.there.name)
        ids = [snapshot.id for snapshot in every if (snapshot.job, snapshot.number) == (job, number)]
        rows = [row for row in found if row.number in some]
        with amending(there.keys, there.world, there.job.sending) as amender:
            try:
                list(undo_of_job(self.site.inventory, amender, rows, row, ids, if_all=True))
            except UsageError:  # a rebuilt inventory looks first, and sees what is lost
                assert self.has_lost, "nothing is lost"

    def prune_here(self, _which: int = 0) -> PruneReport | None:
        """A prune of the source, with its list."""
        return self._prune(self.site)

    def prune_there(self, _which: int = 0) -> PruneReport | None:
        """A prune of the destination, with its list."""
        return self._prune(replace(self.site, vault=self._there)) if self.vault() else None

    def _prune(self, site: Site) -> PruneReport | None:
        for _ in range(4):
            try:
                report = site.prune(grace=GRACE, copied_to=[self.there.name])
            except PruneStoppedError as error:
                if "nothing proves" in str(error):  # an inventory in between that stored nothing at home
                    packs = re.findall("--accept ([0-9a-f]+)", error.advice)
                    accept_catalogs(site.inventory, site.vault.name, packs, "somebody", self.clock.now())
                    continue
                if "lacks" in str(error) and self.has_lost:
                    return None
                if "does not know" in str(error) and not self._knows(site.vault):
                    return None
                raise
            if report.state == "done":
                return report
            self.site.wait()
        raise AssertionError("no list came")

    def _knows(self, vault: Vault) -> bool:
        """Whether what the vault has is known: after a rebuild only once it was read."""
        with self.site.inventory.reading() as tx:
            return vault.name == self.here.name or copied.is_known(tx, vault.name)

    def compact(self, _which: int = 0) -> None:
        """What is worth it at the source is retired."""
        site = self.site
        context = PruneContext(
            **asdict(site.world), keys=site.keys, sending=site.job.sending, deleting=site.vault
        )
        rules = JobRules(None, None, ZoneInfo("UTC"))
        compact(context, {JobName(job): rules for job in JOBS}, pack_size=site.job.pack_size)

    def retire(self, which: int) -> None:
        """As a compaction does by whatever policy: an archive of the source is not built upon any more."""
        sql = "SELECT number, pack_id FROM archives WHERE kind = 1 AND state = 'stored' ORDER BY number"
        with self.site.inventory.reading() as tx:
            stored = list(tx.connection.execute(sql))
            jobs = list(tx.connection.execute("SELECT name FROM jobs ORDER BY number"))
        if stored:
            _, pack = stored[which % len(stored)]
            for (job,) in jobs:
                site = self.site.with_job(name=job)
                site.amend(records.RetiredRecord([pack]), kind=RunKind.COMPACT)

    def check_there(self, _which: int = 0) -> None:
        """A check of the destination by its list."""
        if self.vault():
            check(replace(self.site, vault=self._there))

    def check_here(self, _which: int = 0) -> None:
        """A check of the source by its list."""
        check(self.site)

    def lose(self, which: int) -> None:
        """The destination loses a copy."""
        with self.site.inventory.reading() as tx:
            sql = """SELECT k.archive_id, a.pack_id FROM copies k JOIN archives a ON a.number = k.archive
                     WHERE k.vault = ? AND k.archive_id IS NOT NULL
                     AND k.state IN ('stored', 'unconfirmed', 'condemned') ORDER BY k.archive"""
            some = [
                tuple(row) for row in tx.connection.execute(sql, (self.vault(),)) if row[0] in self.there.held
            ]
        if some:
            lost, pack = some[which % len(some)]
            self.there.vault.delete_archives({ArchiveId(lost): None})
            self.there.held.pop(lost, None)
            self.vanished.add(lost)
            self.unsent.add(pack)
            self.has_lost = True

    # How it is done.

    @property
    def _there(self) -> Vault:
        return self.wrapped or self.there

    @contextmanager
    def around(self, wrap: Callable[[Vault], Vault], *, source: bool) -> Iterator[None]:
        """Meanwhile one vault is seen through a wrapper."""
        if source:
            self.site = replace(self.site, vault=wrap(self.here))
        else:
            self.wrapped = wrap(self.there)
        try:
            yield
        finally:
            self.site = replace(self.site, vault=self.here)
            self.wrapped = None

    def reopen(self) -> None:
        """A new process."""
        self.site = self.site.reopen(self.here)

    def other_process(self) -> Site:
        """Another process on the same state."""
        other = Site.attach(self.site.folder, self.here, [self.folder / JOBS[0]], clock=self.clock)
        return replace(other, keys=self.site.keys, wait=self.site.wait, job=self.site.job)

    # The laws.

    def said(self, state: KeptThere) -> list[tuple[str, int]]:
        """The copies in that state, as the inventory has it."""
        vault, found = self.vault(), list[tuple[str, int]]()
        for job in JOBS:
            row = self.row(job)
            if row is not None:
                with self.site.inventory.reading() as tx:
                    states = copied.kept_there(tx, vault, row.number)
                found += [(job, number) for number, of in states.items() if of is state]
        return found

    def judge(self) -> None:
        """What is said to be copied is there, and so is what was forgotten there within the grace."""
        vault, since = self.vault(), self.clock.now() - GRACE
        for job in JOBS:
            row = self.row(job)
            if row is None:
                continue
            with self.site.inventory.reading() as tx:
                states = copied.kept_there(tx, vault, row.number)
                recent = {n for n, at in copied.forgotten_there(tx, vault, row.number).items() if at > since}
                for number, state in states.items():
                    if state is KeptThere.COPIED or number in recent:
                        lacks = self._lacks(tx, vault, row.number, number)
                        assert not lacks, f"{job} {number} is {state} and lacks {lacks}"

    def _lacks(self, tx: Transaction, vault: int, job: int, number: int) -> list[list[int]]:
        """The chunks' packs of which none is at the destination, nor was lost by it."""
        found = archives.get_archives(
            tx, [c.archive for c in copied.list_copies(tx, vault)], self.site.inventory.id
        )
        there = copied.as_in_vault(tx, vault, found)
        remain = {
            n
            for n, archive in there.items()
            if (archive.state in REMAIN and archive.archive_id in self.there.held)
            or archive.archive_id in self.vanished
            or (
                archive.label.pack_id in self.unsent and archive.state is ArchiveState.SUBMITTED
            )  # sent again, and has no id yet
        }
        return [among for among in copied.needs_of(tx, {job: [number]}) if remain.isdisjoint(among)]

    def is_harmed(self, job: str, number: int) -> bool:
        """Whether the destination lost something of it that was not sent again yet."""
        row = self.row(job)
        assert row is not None
        with self.site.inventory.reading() as tx:
            vault = self.vault()
            found = archives.get_archives(
                tx, [c.archive for c in copied.list_copies(tx, vault)], self.site.inventory.id
            )
            there = copied.as_in_vault(tx, vault, found)
            good = {n for n, archive in there.items() if archive.archive_id in self.there.held}
            named = {c.archive for c in copied.list_copies(tx, vault) if c.is_said}
            needs = copied.needs_of(tx, {row.number: [number]})
        return any((good & named).isdisjoint(among) for among in needs)

    def writer_there(self) -> InventoryId:
        """The newest inventory, of this one and those before it, that has catalogs at the destination."""
        sql = """SELECT substr(a.header, 49, 16) FROM archives a JOIN domains d ON d.number = a.domain
                 WHERE d.vault = ? AND a.kind = 2 AND a.state IN ('stored', 'unconfirmed', 'retired')"""
        with self.site.inventory.reading() as tx:
            writers = {row[0] for row in tx.connection.execute(sql, (self.vault(),))}
        inventory = self.site.inventory
        return next(writer for writer in (inventory.id, *inventory.ancestors) if writer in writers)

    def prove(self) -> None:
        """What a rebuild from the destination alone gives of each job, byte for byte."""
        said = self.said(KeptThere.COPIED)
        with self.site.inventory.reading() as tx:
            open_runs = next(
                iter(tx.connection.execute("SELECT count(*) FROM runs WHERE outcome = 'running'"))
            )[0]
        if not said or open_runs:
            return
        self.proofs += 1
        if not self.there.traits.lists_at_once:
            self.pair.pass_time(2 * DAY)
        key, more = self.site.key, self.site.more_keys
        machine = Bare(self.folder / f"bare {self.proofs}", self.there, self.site, key, more)
        machine.rebuild(Wish(inventory=self.writer_there().hex()), wait=self.site.wait)
        built = machine.site()
        with built.inventory.reading() as tx:
            listed = snapshots.list_snapshots(tx)
        differing = {(str(s.job), s.number) for s in listed} ^ set(said)
        assert not differing, f"the catalogs there say something else of {sorted(differing)}"
        for snapshot in listed:
            if self.is_harmed(snapshot.job, snapshot.number):
                continue
            target = self.folder / f"out {self.proofs}"
            job = built.with_job(sources=[self.folder / snapshot.job], name=snapshot.job)
            report = job.restore(snapshot.id, target)
            assert not report.problems, report
            assert_same_tree(target, self.trees[snapshot.job, snapshot.number])
            shutil.rmtree(target)
        built.close()
        shutil.rmtree(machine.folder)

    def drain(self) -> None:
        """In the end all that can be copied is, and what nothing needs is gone at both sides."""
        self.reopen()
        for _ in range(5):
            self.pair.pass_time(100 * DAY)
            self.check_there()
            self.check_here()
            for which in (0, 1):
                site = self.job(which)
                if self.row(site.job.name) is not None:
                    self._copied(site, CopyChoice())
            self.judge()
            self.prune_there()
            self.prune_here()
        self.judge()
        self.prove()
        with self.site.inventory.reading() as tx:
            every = [(str(s.job), s.number) for s in snapshots.list_snapshots(tx)]
            counts = {copy.state for copy in copied.list_copies(tx, self.vault())}
        gone = {*self.said(KeptThere.FORGOTTEN), *self.said(KeptThere.DROPPED)}
        listed = {snapshot for snapshot in every if not self.is_gone_for_good(*snapshot)}
        assert listed <= {*self.said(KeptThere.COPIED), *gone}, "a copy that is wanted is not made"
        assert counts <= {ArchiveState.STORED, ArchiveState.DELETED, ArchiveState.LOST}, counts

    def is_gone_for_good(self, _job: str, _number: int) -> bool:
        """Whether neither vault has something that a snapshot needs."""
        return False

    def close(self) -> None:
        """Let go."""
        self.site.close()
        shutil.rmtree(self.folder)
