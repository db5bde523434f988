"""The last act of a restore: fetch, verify, open and write, then record that it is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from backup.errors import InterruptedRunError, NightvaultError, RetrievalExpiredError, RetrievalNotReadyError
from backup.format.pack import derive_keys
from backup.inventory import retrievals, runs, snapshots
from backup.inventory.retrievals import Restore, Retrieval
from backup.inventory.runs import Outcome, Run
from backup.model import Problem, RetrievalId
from backup.restorer.assemble import Assembly, OpenedArchive
from backup.restorer.keyfile import PackKeyFile
from backup.restorer.owners import Owners
from backup.restorer.plan import RangePlan, cover
from backup.restorer.planning import RestorePlan, plan_restore
from backup.restorer.report import RestoreReport, is_ready
from backup.restorer.target import Target
from backup.restorer.world import RestoreWorld, alone_with
from backup.restorer.write import Writer
from backup.transfer.retrieve import Fetcher, ReadyRange

_GONE = "its archive is gone from the vault"


def deliver(restore: Restore, known: Sequence[Retrieval], world: RestoreWorld) -> RestoreReport:
    """Fetch, verify, open and write. Files that cannot be made whole are named in the report.

    `RetrievalNotReadyError` if something that was asked for is not there yet. After any error the restore is
    open still: it begins to write anew, and asks for nothing that can still be fetched.
    """
    with alone_with(world.inventory, restore):
        with world.inventory.reading() as tx:
            now = retrievals.retrievals_of(tx, restore.number)
            snapshot = snapshots.find_snapshot(tx, restore.snapshot)
        if not (is_ready(known) and is_ready(now)):
            raise RetrievalNotReadyError(
                f"restore {restore.id} still waits for the vault", advice="run the same command again later"
            )
        pack_keys = PackKeyFile(world.key_directory, restore.id).read()
        plan = plan_restore(snapshot, restore.path, world)
        with world.inventory.writing() as tx:
            run = runs.open_restore(tx, runs.find_job(tx, snapshot.job), world.clock.now())
        try:
            report = _Delivery(restore, now, plan, pack_keys, world).run()
        except BaseException as error:
            _fail(run, error, world)
            raise
        report = replace(report, seconds=(world.clock.now() - run.started_at).total_seconds())
        with world.inventory.writing() as tx:
            retrievals.close_restore(tx, restore.number, "done", world.clock.now())
            runs.finish_run(tx, run.number, report.outcome, report.document(), world.clock.now())
        PackKeyFile(world.key_directory, restore.id).wipe()
        return report


def _fail(run: Run, error: BaseException, world: RestoreWorld) -> None:
    """Record the end of a run that did not get through; a killed process cannot."""
    if isinstance(error, NightvaultError):
        stopped = isinstance(error, InterruptedRunError)
    elif isinstance(error, KeyboardInterrupt):
        stopped = True
    else:
        return
    outcome = Outcome.INTERRUPTED if stopped else Outcome.FAILED
    with world.inventory.writing() as tx:
        runs.finish_run(tx, run.number, outcome, {"error": str(error)}, world.clock.now())


class _Delivery:
    """One attempt to bring a restore's files below its target."""

    def __init__(
        self,
        restore: Restore,
        known: Sequence[Retrieval],
        plan: RestorePlan,
        pack_keys: dict[int, bytes],
        world: RestoreWorld,
    ) -> None:
        self._restore = restore
        self._known = known
        self._plan = plan
        self._pack_keys = pack_keys
        self._world = world
        self._problems: list[Problem] = list(plan.selection.problems)
        self._files_told = 0

    def run(self) -> RestoreReport:
        """Write everything; what was begun is thrown away when this fails."""
        progress, plan = self._world.progress, self._plan
        target = Target(os.fsdecode(self._restore.target))
        owners = Owners(numeric=self._world.numeric_owner)
        writer = Writer(target, self._problems.append, self._restore.id, owners)
        progress.start(f"Restoring {plan.snapshot.id[:8]}", plan.selection.data_bytes)
        try:
            key = self._world.secret.chunk_key
            assembly = Assembly(plan.selection, writer, self._problems.append, chunk_key=key)
            assembly.begin()
            self._tell(writer)
            self._fetch(assembly, writer)
            assembly.finish()
            writer.finish()
        except BaseException:
            writer.abandon()
            raise
        finally:
            progress.finish()
            target.close()
        return self._report(writer)

    def _fetch(self, assembly: Assembly, writer: Writer) -> None:
        ready: list[tuple[RetrievalId, RangePlan]] = []
        asked = [(one.archive, one.extent) for one in self._known]
        for archive in self._plan.archives.keys() - self._pack_keys.keys():
            assembly.lose(archive, "the keys of its archive could not be opened")
        for archive, why in self._plan.lost.items():
            assembly.lose(archive, why)
        for one, laid in zip(self._known, cover(self._plan.ranges, asked), strict=True):
            if one.state == "failed":
                assembly.lose(one.archive, _GONE, laid.frames)
            elif laid.frames and one.retrieval_id is not None:
                ready.append((one.retrieval_id, laid))
        with Fetcher(self._world.vault, self._world.clock) as fetcher:
            for retrieval_id, extent in ready:
                self._fetch_range(retrieval_id, extent, fetcher, assembly, writer)

    def _fetch_range(
        self,
        retrieval_id: RetrievalId,
        one: RangePlan,
        fetcher: Fetcher,
        assembly: Assembly,
        writer: Writer,
    ) -> None:
        archive = self._plan.archives[one.archive]
        keys = derive_keys(self._pack_keys[one.archive], archive.header)
        opened = OpenedArchive(archive.label.pack_id, keys)
        ready = ReadyRange(retrieval_id, archive.size, one.extent, one.frames)
        try:
            for row, sealed in fetcher.frames(ready):
                done = assembly.accept(one.archive, opened, row, sealed)
                self._tell(writer, done)
        except RetrievalExpiredError as error:
            raise RetrievalExpiredError(
                f"restore {self._restore.id}: {error}",
                advice="run the same command again: what is gone is asked for anew, and only that",
            ) from error

    def _tell(self, writer: Writer, done: int = 0) -> None:
        self._world.progress.advance(files=writer.files - self._files_told, done=done)
        self._files_told = writer.files

    def _report(self, writer: Writer) -> RestoreReport:
        return RestoreReport(
            restore=self._restore.id,
            snapshot=self._plan.snapshot.id,
            target=self._restore.target,
            outcome=Outcome.PARTIAL if self._problems else Outcome.DONE,
            waiting=0,
            retrievals=len(self._known),
            files=writer.files,
            directories=writer.directories,
            bytes=writer.bytes,
            retrieved=sum(one.extent.length for one in self._known if one.state == "ready"),
            problems=tuple(self._problems),
        )
