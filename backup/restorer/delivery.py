"""One session of a restore: fetches what is ready, verifies, decrypts and writes it; records the end.

Progress is recorded from time to time, after a sync of the target: the next session continues from there,
however this one ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from backup.errors import InterruptedRunError, RetrievalNotReadyError
from backup.inventory.content import archives, packed, snapshots
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import readings, retrievals, runs
from backup.inventory.records import restore_state as books
from backup.inventory.records.ended_runs import settle_dead_restores
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.records.runs import Run
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.states import RestoreStage, RetrievalStage
from backup.kinds import Outcome
from backup.model import ByteRange, Tier, VaultName
from backup.protocols import Clock
from backup.restorer.context import RestoreContext, alone_with, lock_of
from backup.restorer.given_up import warnings_of
from backup.restorer.pack_keys import PackKeyFile
from backup.restorer.plan import RestorePlan, plan_restore
from backup.restorer.report import RestoreReport, is_partly_ready, is_ready
from backup.restorer.selection.choice import Choice
from backup.restorer.selection.select import Selection, frames_by_archive
from backup.restorer.session import Session
from backup.restorer.writer.confirmed import Confirmed
from backup.wording import counted


def deliver(
    restore: Restore, known: Sequence[Retrieval], context: RestoreContext, *, fresh: RestorePlan | None = None
) -> RestoreReport:
    """Fetch, verify, open and write what is ready; files that cannot be completed are named in the report.

    `fresh` is a plan made a moment ago, which is used if it is that of this restore.

    While some retrievals are not ready the restore stays open, and the report says how many.
    `RetrievalNotReadyError` if nothing is ready. After any error the restore stays open: the next session
    writes the rest, and requests nothing that can still be fetched.
    """
    with alone_with(context.inventory, restore):
        with context.inventory.reading() as tx:
            now = retrievals.retrievals_of(tx, restore.number)
            before = books.read_progress(tx, restore.number)
            snapshot = snapshots.get_snapshot(tx, restore.snapshot)
            confirmed = Confirmed.decode(retrievals.read_confirmed(tx, restore.number))
        if not (is_ready(known) and is_ready(now)) and not is_partly_ready(now):
            raise RetrievalNotReadyError(
                f"restore {restore.id} still waits for the vault", advice="run the same command again later"
            )
        pack_keys = PackKeyFile(context.key_directory, restore.id).read()
        choice = Choice.decode(restore.choice)
        has_failed = any(retrieval.state is RetrievalStage.FAILED for retrieval in now)
        if fresh is not None and not has_failed and fresh.is_for(snapshot, restore.path, choice, confirmed):
            plan = fresh
        else:
            plan = plan_restore(snapshot, restore.path, context, choice, confirmed=confirmed, known=now)
        run = open_run(restore, snapshot, context)
        try:
            report = Session(restore, now, plan, pack_keys, before, context).run()
        except BaseException as error:
            fail_run(run, error, context)
            raise
        return end_restore(restore, report, run, context, read_back=plan.selection if choice.verify else None)


def end_restore(
    restore: Restore,
    report: RestoreReport,
    run: Run,
    context: RestoreContext,
    *,
    read_back: Selection | None = None,
) -> RestoreReport:
    """Record how the session ended, and that the restore is over if it was the last.

    Data that was `read_back` from the target counts as opened from then on.
    """
    now = context.clock.now()
    took = max(0.0, (now - run.started_at).total_seconds())
    report = replace(report, seconds=report.seconds + took)
    is_over = report.outcome is not Outcome.RUNNING
    if is_over:
        lacks = warnings_of(context.inventory, restore, is_whole=report.outcome is Outcome.DONE)
        report = replace(report, warnings=(*report.warnings, *lacks))
    places, unsound = _places(restore, context), {} if context.joined is None else context.joined.unsound
    warnings = (*report.warnings, *_told_of(unsound.values()))
    report = replace(report, vaults=dict(Counter(places.values())), warnings=warnings)
    outcome = report.outcome if is_over else Outcome.INTERRUPTED
    with context.inventory.writing() as tx:
        if is_over:
            retrievals.close_restore(tx, restore.number, RestoreStage.DONE, now)
            if read_back is not None:
                bad = {problem.path for problem in report.problems}
                own = archives.get_archives(tx, sorted(places), context.inventory.id)
                copies = {number for number, vault in places.items() if own[number].vault != vault}
                record_opened(tx, run.number, read_back, bad, restore.tier, now, but=copies | unsound.keys())
        runs.finish_run(tx, run.number, outcome, report.document(), now)
    if is_over:
        PackKeyFile(context.key_directory, restore.id).wipe()
    return report


def _told_of(vaults: Iterable[VaultName]) -> Iterator[str]:
    """Warnings of vaults that did not give back archives as they were stored, where another one did."""
    for vault, count in sorted(Counter(vaults).items()):
        yield (
            f"vault {vault} did not give back {counted(count, 'archive')} as stored: what was wrong was read "
            f"from a copy; `nightvault check --vault {vault} --read-data 1%` looks for more"
        )


def _places(restore: Restore, context: RestoreContext) -> dict[int, VaultName]:
    """The vault that each archive was read from, where copies lie in others, too; else nothing."""
    if context.joined is None:
        return {}
    with context.inventory.reading() as tx:
        known = retrievals.retrievals_of(tx, restore.number)
    return {
        retrieval.archive: context.joined.vault_of(retrieval.retrieval_id)
        for retrieval in known
        if retrieval.retrieval_id is not None
    }


def record_opened(
    tx: Transaction,
    run: int,
    selection: Selection,
    bad: Collection[bytes],
    tier: Tier,
    now: datetime,
    *,
    but: Collection[int] = (),
    copies: Mapping[int, int] | None = None,
) -> None:
    """Record as opened the frames of which every file that was restored is as it was saved: not in `bad`.

    `but` those of archives of which anything was read from a copy. `copies`: of these archives the copies in
    another vault were opened, by its number.
    """
    spoilt: set[tuple[int, int]] = set()
    for file in selection.files if bad else ():
        if any(name.path in bad for name in file.entry.names):
            chunks = [selection.locations[number] for number in file.chunks]
            spoilt |= {(chunk.archive, chunk.frame) for chunk in chunks}
    for archive, frames in frames_by_archive(selection.locations).items():
        if archive in but:
            continue
        good = [
            ByteRange(row.offset, row.offset + row.sealed_length)
            for row in packed.frame_rows(tx, archive)
            if row.number in frames and (archive, row.number) not in spoilt
        ]
        readings.record_opened(tx, run, archive, good, tier, now, (copies or {}).get(archive))


def open_run(restore: Restore, snapshot: Snapshot, context: RestoreContext) -> Run:
    """Record the start of a session, and the end of those whose process died."""
    inventory, now = context.inventory, context.clock.now()
    with inventory.writing() as tx:
        settle_dead_restores(tx, inventory.lock_directory, now, but=lock_of(restore))
        return runs.open_restore(tx, runs.find_job(tx, snapshot.job), now)


def give_up(restore: Restore, inventory: Inventory, key_directory: str, clock: Clock) -> None:
    """Record that a restore is cancelled, and wipe its keys; the caller holds its lock."""
    with inventory.writing() as tx:
        retrievals.close_restore(tx, restore.number, RestoreStage.CANCELLED, clock.now())
    PackKeyFile(key_directory, restore.id).wipe()


def fail_run(run: Run, error: BaseException, context: RestoreContext) -> None:
    """Record the end of a failed run; a killed process cannot."""
    if not isinstance(error, (Exception, KeyboardInterrupt)):
        return
    stopped = isinstance(error, (InterruptedRunError, KeyboardInterrupt, BrokenPipeError))
    outcome = Outcome.INTERRUPTED if stopped else Outcome.FAILED
    why = {"error": str(error) or type(error).__name__}
    with context.inventory.writing() as tx:
        runs.finish_run(tx, run.number, outcome, why, context.clock.now())
