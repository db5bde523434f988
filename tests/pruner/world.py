"""A server with two jobs and one vault of any kind, to which everything happens that can happen."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from zoneinfo import ZoneInfo

from msgspec.structs import asdict, replace

from backup.app.retention.undelete import chosen_archives, said_by_jobs
from backup.app.retention.undo import undo_of_job
from backup.catalogs.amend import Amender, amending
from backup.format import records
from backup.format.pack import parse_header
from backup.inventory.content.shrunk import accepting, waits
from backup.inventory.content.snapshots import get_snapshot
from backup.inventory.records.runs import JobRow, find_job, list_jobs
from backup.inventory.store.times import micros
from backup.kinds import RunKind
from backup.model import ArchiveId, InventoryId, JobName, SnapshotId
from backup.protocols import Vault
from backup.pruner.compact import JobRules, compact
from backup.pruner.context import PruneContext
from backup.pruner.listed import PruneStoppedError
from backup.pruner.report import PruneReport
from backup.rebuilder.context import Wish
from backup.rebuilder.members import ForkError, Trust
from backup.retention.prune import DEFAULT_GRACE
from tests.pruner.judged import DAY, HOUR, JOBS
from tests.pruner.judged_others import UNRECORDED, JudgedBesideOthers
from tests.support.backups import Site
from tests.support.checks import check
from tests.support.keepers import Keeper
from tests.support.rebuilds import Bare, lines_of
from tests.support.trees import assert_same_tree, snapshot_of

FILES = ("a", "b", "c", "d")
CONTENTS = [random.Random(number).randbytes(1500 + 100 * number) for number in range(8)]

Around = Callable[[Vault], Vault]
"""Puts a wrapper around the vault for one thing that happens."""


class World(JudgedBesideOthers):
    """The server with two jobs, and everything that can happen to it."""

    def jump(self, by: timedelta) -> None:
        """Our clock is set wrong, or right again."""
        self.skew += by
        self.has_jumped |= abs(by) > HOUR
        self.clock.advance(by)
        now = self.clock.now()
        self.told = {archive: min(at, now) for archive, at in self.told.items()}

    def job(self, which: int) -> Site:
        """The server with one of its jobs."""
        name = JOBS[which % len(JOBS)]
        return self.site.with_job(sources=[self.folder / name], name=name)

    def change(self, which: int, file: int, content: int) -> None:
        """A file of a job gets one of a few contents, or goes."""
        path = self.folder / JOBS[which % len(JOBS)] / FILES[file % len(FILES)]
        if content % 9 == 8:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(CONTENTS[content % len(CONTENTS)])

    def back_up(self, which: int) -> None:
        """A backup; what is stored and built upon is not sent again."""
        site = self.job(which)
        with site.inventory.reading() as tx:
            row = find_job(tx, site.job.name)
            number = 1
            if row is not None:
                number = self._rows("SELECT next_snapshot FROM jobs WHERE number = ?", row.number)[0][0]
        self.coming[site.job.name, number] = snapshot_of(site.job.sources[0])
        newest = self._rows("SELECT coalesce(max(number), 0) FROM archives")[0][0]
        self.judge_told(site.backup())
        twice = self._rows(_STORED_TWICE, newest, newest)
        assert not twice, f"stored although it was there: {twice}"

    def forget(self, which: int) -> None:
        """One snapshot."""
        kept = [snapshot for snapshot in self.snapshots() if not snapshot[3]]
        if kept:
            chosen = kept[which % len(kept)]
            self.forgotten.add(chosen[0])  # unless it is cut off before it is told
            self._amend(chosen[1], records.ForgottenRecord([chosen[2]], micros(self.clock.now())))

    def take_back(self, which: int) -> None:
        """One forgotten snapshot, if it can come back: as `forget --undo` does."""
        gone = [snapshot_row for snapshot_row in self.snapshots() if snapshot_row[3]]
        if gone:
            snapshot, job, *_ = gone[which % len(gone)]
            with self._amending() as amender:
                rows = self._jobs()
                (row,) = (listed for listed in rows if listed.name == job)
                chosen = [SnapshotId(snapshot)]
                for _ in undo_of_job(self.site.inventory, amender, rows, row, chosen, if_all=False):
                    pass

    def pin(self, which: int) -> None:
        """A pin is a mark like any other to a prune."""
        kept = [snapshot for snapshot in self.snapshots() if not snapshot[3]]
        if kept:
            _, job, number, _ = kept[which % len(kept)]
            self._amend(job, records.MarksRecord(number, ["tag"], True, "", None), kind=RunKind.MARK)

    def retire(self, which: int) -> None:
        """As a compaction does by whatever policy: an archive is not built upon any more."""
        stored = self._rows("SELECT number, pack_id FROM archives WHERE kind = 1 AND state = 'stored'")
        if stored:
            number, pack = stored[which % len(stored)]
            for (job,) in self._rows(_NAMED_BY, number):
                self._amend(job, records.RetiredRecord([pack]), kind=RunKind.COMPACT)

    def compact(self, _which: int = 0) -> None:
        """What is worth it is retired."""
        site = self.site
        context = PruneContext(
            **asdict(site.world), keys=site.keys, sending=site.job.sending, deleting=site.vault
        )
        rules = JobRules(None, None, ZoneInfo("UTC"))
        compact(context, {JobName(job): rules for job in JOBS}, pack_size=site.job.pack_size)

    def undelete(self, _which: int = 0) -> None:
        """What is condemned is built upon again, as `undelete --all` does."""
        with self._amending() as amender:
            with self.site.inventory.reading() as tx:
                chosen = chosen_archives(tx, self.vault.name, ())
            jobs = {job.number: job for job in self._jobs()}
            for job, some in said_by_jobs(chosen, jobs):
                amender.amend(RunKind.PRUNE, job, some, {})

    def say_it_is_right(self) -> None:
        """A person accepts each snapshot in which a source lost all of its files."""
        with self.site.inventory.reading() as tx:
            waiting = [(wait.job, get_snapshot(tx, wait.snapshot)) for wait in waits(tx)]
        for job, snapshot in waiting:
            self._amend(job, accepting(snapshot.number), kind=RunKind.MARK)

    def _amending(self) -> AbstractContextManager[Amender]:
        return amending(self.site.keys, self.site.world, self.site.job.sending)

    def _jobs(self) -> list[JobRow]:
        with self.site.inventory.reading() as tx:
            return list(list_jobs(tx, self.vault.name))

    def _amend(self, job: str, record: records.Record, kind: RunKind = RunKind.FORGET) -> None:
        with self.site.inventory.reading() as tx:
            row = find_job(tx, JobName(job))
        assert row is not None
        with self._amending() as amender:
            amender.amend(kind, row, [record], {})

    def prune(self, *, deletes: bool = True, only_plan: bool = False) -> PruneReport:
        """A step of a prune."""
        before = dict(self.vault.held)
        try:
            report = self.site.prune(deletes=deletes, only_plan=only_plan)
        finally:
            self._judge_deleted(before, may=deletes and not only_plan)
        if report.state == "done":
            self.judge_listed()
        return report

    def others_look(self) -> None:
        """Somebody else finds what he may delete: condemned, after grace, and no snapshot needs it."""
        now = self.clock.now()
        needed = self._needed(also_forgotten=True)
        due = {archive for archive, at in self.told.items() if at + DEFAULT_GRACE <= now}
        self.seen = self.vault.held.keys() & due - needed

    def others_delete(self) -> None:
        """He deletes it, whatever was stored since."""
        for key in sorted(self.seen & self.vault.held.keys()):
            self._vanish(key)
        self.seen = set()

    def keep(self, _which: int = 0) -> None:
        """A keeper deletes in the server's place, by its catalogs alone; his floor is the grace period."""
        if abs(self.skew) > timedelta(minutes=4):
            return
        before = dict(self.vault.held)
        self.keeper().keep()
        self._judge_deleted(before, may=True)
        self.gone_behind |= before.keys() - self.vault.held.keys()

    def keeper(self, accept: Sequence[str] = ()) -> Keeper:
        """A keeper of the vault; the packs `accept` take no part, by a person's word."""
        floor, folder = DEFAULT_GRACE, self.folder / "keeper"
        return Keeper(folder, self.vault, self.clock, floor, self.wait, accept=accept)

    def lose(self, which: int) -> None:
        """The vault loses an archive of data."""
        data = [row[0] for row in self._rows(_DATA_THERE) if row[0] in self.vault.held]
        if data:
            lost = data[which % len(data)]
            self._vanish(lost)
            self.vanished.add(lost)
            self.has_lost = True
            held = self._chunks_in(lost)
            self.lost_once |= held
            self.lost |= held - self._readable()

    def _vanish(self, archive_id: str) -> None:
        self.vault.vault.delete_archives({ArchiveId(archive_id): None})
        self.vault.held.pop(archive_id, None)
        self.gone_behind.add(archive_id)

    def check(self) -> None:
        """A check by the list, and of the inventory by its own laws."""
        if abs(self.skew) < HOUR:
            self._compare()
        self.judge_rows()

    def _compare(self) -> None:
        """A check by a list of the vault."""
        check(self.site)
        lost = {archive for (archive,) in self._rows(_LOST)}
        assert not lost & self.vault.held.keys(), "found lost, and the vault has it"

    def restore(self, which: int) -> None:
        """One kept snapshot, byte for byte."""
        kept = [row for row in self.snapshots() if not row[3] and row[0] not in self.unreadable]
        if kept:
            snapshot, job, _, _ = kept[which % len(kept)]
            self.restore_one(snapshot, job)

    def restore_one(self, snapshot: str, job: str) -> None:
        """This snapshot, byte for byte.

        A restore that meets a loss names each archive that is lost. Where it could not take what it held from
        elsewhere in the same command, the next one does.
        """
        target = self.folder / f"out {self.steps}"
        site = self.site.with_job(sources=[self.folder / job], name=job)
        while True:
            before = {archive for (archive,) in self._rows(_LOST)}
            report = site.restore(snapshot, target)
            met = {archive for (archive,) in self._rows(_LOST)} - before
            told = " ".join(report.warnings)
            assert all(archive in told for archive in met), "met a loss, and its report does not name it"
            if not (self.has_lost and met and report.problems):
                break
            shutil.rmtree(target)
        assert_same_tree(self.trees[snapshot], target)
        shutil.rmtree(target)

    def rebuild(self, _which: int = 0) -> None:
        """The machine is gone; another goes on from what the vault has, if that is whole."""
        self.reopen()
        writer = self.writer()
        if writer is None:
            return
        before = {snapshot for snapshot, *_, is_forgotten in self.snapshots() if not is_forgotten}
        self.wait_for_list()
        self.let_go()
        self.site.close()
        self.machines += 1
        bare = Bare(self.folder / f"state {self.machines}", self.vault, self.site)
        bare.new_id = InventoryId(b"rebuilt%9d" % self.machines)
        self.site = self.made_anew(bare, writer)
        known = {row[0] for row in self._rows("SELECT archive_id FROM archives WHERE archive_id IS NOT NULL")}
        self.orphans |= self.vault.held.keys() - known
        self.lost |= self.lost_once - self._readable()  # stored anew by a run that came to nothing
        self.forgotten_at_rebuild(before)

    def writer(self) -> InventoryId | None:
        """The inventory that wrote last, if every job can be rebuilt from the vault."""
        newest = [parse_header(row[0]) for row in self._rows(_NEWEST_CATALOGS)]
        writers = {header.fields.inventory_id for header in newest}
        if not writers or self._rows(_WITHOUT_FULL):
            return None
        if self._rows("SELECT 1 FROM uploads") and writers != {self.site.inventory.id}:
            return None  # what a machine that was rebuilt sent at last would be a stranger's to the next
        line = (self.site.inventory.id, *self.site.inventory.ancestors)
        return next(inventory_id for inventory_id in line if inventory_id in writers)

    def wait_for_list(self) -> None:
        """Without a recovery line the newest list is all there is."""
        if not self.vault.traits.lists_at_once:
            self.pass_time(2 * DAY)

    def made_anew(self, bare: Bare, writer: InventoryId) -> Site:
        """Rebuild on a bare machine what that inventory wrote; it is as the inventory in use says.

        An old image may have gone on from where that inventory, or an ancestor, had, before any heir stored
        something of a job: then the recovery lines of the server in use say which way is meant.
        """
        knows_all = self.knows_all(writer)
        wish = Wish(inventory=writer.hex(), trust=Trust())
        try:
            report = bare.rebuild(wish, wait=self.wait)
        except ForkError:
            every = self.knows_all(writer, *self._lineage())
            assert not every, "asks which way is meant, and there is one"
            report = bare.rebuild(replace(wish, lines=lines_of(self.site)), wait=self.wait)
            knows_all = not self._rows(UNRECORDED)
        if knows_all:
            self._judge_rebuilt(bare.folder / "inventory.sqlite", report)
        assert report.state == "done"
        return bare.site()

    def reopen(self) -> None:
        """A new process."""
        self.let_go()
        self.site = self.site.reopen(self.vault)

    @contextmanager
    def around(self, wrap: Around) -> Iterator[None]:
        """Meanwhile the server sees its vault through a wrapper."""
        self.site = replace(self.site, vault=wrap(self.vault))
        try:
            yield
        finally:
            self.site = replace(self.site, vault=self.vault)

    def other_process(self) -> Site:
        """Another process on the same state."""
        other = Site.attach(self.site.folder, self.vault, [self.folder / JOBS[0]], clock=self.clock)
        return replace(other, keys=self.site.keys, wait=self.wait, job=self.site.job)

    def drain(self) -> None:
        """Everything dead goes at last, once nobody waits for an answer."""
        self.reopen()
        self.jump(-self.skew)
        self.vault.refuses_until = None
        self.say_it_is_right()
        for _ in range(12):
            self.pass_time(100 * DAY)
            if (
                self.has_jumped
            ):  # a cold vault makes no new list where nothing happens, and old ones are doubted
                self.back_up(0)
            if self.has_lost:  # a prune stops until a check has seen it
                self._compare()
            report = self.prune_to_the_end()
            self.judge()
            has_work = report.condemned.archives or report.deleted.archives or report.waiting
            if report.state == "done" and not (has_work or self._may_come_true()):
                break
        self._judge_drained()

    def prune_to_the_end(self) -> PruneReport:
        """A prune with whatever list it waits for.

        It first finishes what a cut left: after a stop a check may see what became of that.
        """
        has_stopped = False
        for _ in range(4):
            try:
                report = self.prune()
            except PruneStoppedError as error:
                if has_stopped or "lacks" not in str(error):
                    raise
                has_stopped = True
                self._compare()
                continue
            if report.state != "waiting":
                break
            self.wait()
        return report

    def close(self, *, every: bool) -> None:
        """What is kept comes back byte for byte: a few of it, or everything."""
        self.judge_rows()
        kept = [
            snapshot
            for snapshot in self.snapshots()
            if not snapshot[3] and snapshot[0] not in self.unreadable
        ]
        for snapshot, job, *_ in kept if every else kept[-2:]:
            self.steps += 1
            self.restore_one(snapshot, job)
        self.let_go()
        self.site.close()
        shutil.rmtree(self.folder)


_STORED_TWICE = """SELECT n.number, o.archive FROM chunks n JOIN archives a ON a.number = n.archive
                   JOIN chunks o ON o.id = n.id JOIN archives b ON b.number = o.archive
                   WHERE n.archive > ? AND o.archive <= ? AND b.state = 'stored' AND a.domain = b.domain"""
_NAMED_BY = """SELECT DISTINCT j.name FROM catalog_archives n JOIN catalogs c ON c.archive = n.catalog
               JOIN jobs j ON j.number = c.job WHERE n.archive = ? ORDER BY j.name"""
_LOST = "SELECT archive_id FROM archives WHERE state = 'lost' ORDER BY number"
_DATA_THERE = """SELECT archive_id FROM archives WHERE kind = 1 AND archive_id IS NOT NULL
                 AND state NOT IN ('lost', 'deleted', 'deleting') ORDER BY number"""
_NEWEST_CATALOGS = """SELECT a.header FROM catalogs c JOIN archives a ON a.number = c.archive
                      WHERE a.state = 'stored' AND NOT EXISTS (
                        SELECT 1 FROM catalogs o JOIN archives b ON b.number = o.archive
                        WHERE o.job = c.job AND o.number > c.number AND b.state = 'stored')"""
_WITHOUT_FULL = """SELECT j.number FROM jobs j WHERE NOT EXISTS (
                    SELECT 1 FROM catalogs c JOIN archives a ON a.number = c.archive
                    WHERE c.job = j.number AND c.generation = 2 AND a.state = 'stored')"""
