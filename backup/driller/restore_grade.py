"""The grade "opened", which needs the recovery key: files are restored into a scratch directory and compared.

    begin    choose, check that the key opens all of it, record the drill with its cost
    step     begin the restores, ask, deliver what is ready; when all came: compare, record, remove

Each step may be cut anywhere and run again. Keys of packs wait with their restores, as those of any restore
do, so only the first step needs the recovery key.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from backup.checker.read_sample import Piece
from backup.checker.report import CheckFinding
from backup.checker.verify_slice import pack_keys
from backup.cost.limit import CostLimit
from backup.driller import budget, planning, scratch
from backup.driller.compare import ComparisonResult, compare
from backup.driller.context import DrillContext
from backup.driller.money import money_of
from backup.driller.report import MOST_NAMED, DrillReport, LoadedDump, Opened
from backup.errors import RecoveryKeyError, RetrievalExpiredError, UsageError
from backup.format.keys import RecoveryKey
from backup.inventory.content import archives, copied, snapshots
from backup.inventory.questions.proofs import record_load
from backup.inventory.records import drills, retrievals, runs
from backup.inventory.records.drills import Drill
from backup.inventory.records.restore_state import note_place, read_progress
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.connections import Transaction
from backup.inventory.store.states import SETTLED, RestoreStage, RetrievalStage, StepStage
from backup.kinds import Outcome
from backup.model import JobName, Problem, SnapshotId
from backup.restorer import restore as restores
from backup.restorer.delivery import record_opened
from backup.restorer.plan import RestorePlan, plan_restore
from backup.restorer.restore import begin_restore, cancel, find_restore
from backup.restorer.selection.choice import Choice
from backup.restorer.selection.select import Selection, frames_by_archive, select_entries
from backup.restorer.writer.mark import place_of, read_place

_ALL = b"/"


class SnapshotPart(msgspec.Struct):
    """The part of a drill in one snapshot, and the id of its restore once that is begun."""

    job: str
    snapshot: str
    paths: list[bytes]
    restore: str = ""


class OpeningPlan(msgspec.Struct):
    """All parts; `paid` are the tokens of requests whose cost is recorded."""

    parts: list[SnapshotPart]
    paid: list[str] = []


def find(context: DrillContext) -> Drill | None:
    """Return the open drill of this grade; None if there is none."""
    with context.inventory.reading() as tx:
        return drills.find_open(tx, context.name, context.with_key)


def step(context: DrillContext, keys: Sequence[RecoveryKey] = ()) -> DrillReport:
    """Begin a drill, or continue the open one.

    `RecoveryKeyError` if a key is missing, or does not open all packs.
    """
    found = find(context) or begin(context, keys)
    if found is None:
        grade, vault = context.with_key, context.vault.name
        return DrillReport(StepStage.DONE, context.name, grade, vault, context.currency)
    return _Opening(found, context, keys).step()


def begin(context: DrillContext, keys: Sequence[RecoveryKey]) -> Drill | None:
    """Record a drill with its cost before anything is requested; None if nothing is stored yet."""
    chosen = planning.plan(context, context.with_key)
    if chosen is None:
        return None
    if not chosen.pieces:
        raise planning.nothing_readable(context, chosen)
    _require_keys(list(chosen.plans.values()), keys)
    parts = [
        SnapshotPart(job, plan.snapshot.id, list(plan.choice.paths)) for job, plan in chosen.plans.items()
    ]
    packed_plan = msgspec.msgpack.encode(OpeningPlan(parts))
    with context.inventory.writing() as tx:
        now = context.clock.now()
        run = budget.begin(tx, context, context.with_key, chosen.cost, now, packed_plan)
        return drills.get_drill(tx, run.number)


def _require_keys(plans: Sequence[RestorePlan], keys: Sequence[RecoveryKey]) -> None:
    if not keys:
        raise RecoveryKeyError("the recovery key is needed to open anything", advice="give --key FILE")
    for plan in plans:
        for number, archive in plan.archives.items():
            if pack_keys(archive.header, keys) is None:
                raise RecoveryKeyError(
                    f"no recovery key that was given opens archive {number}",
                    advice="nothing was asked for; `nightvault key status` shows for whom they are sealed",
                )


class _Opening:
    """One step of one drill."""

    def __init__(self, drill: Drill, context: DrillContext, keys: Sequence[RecoveryKey]) -> None:
        self._drill = drill
        self._run = drill.run.number
        self._began = drill.run.started_at
        self._context = context
        self._keys = keys
        self._plan = msgspec.msgpack.decode(drill.plan, type=OpeningPlan)
        self._at = replace(context.restore, may_ask=self._may_ask, retry_limit=context.retry_limit)
        self._problems: dict[bytes, Problem] = {}
        self._given_up: list[CheckFinding] = []
        self._folder = scratch.make(context.scratch, self._run)

    def step(self) -> DrillReport:
        """Continue each restore; when all have ended, compare."""
        waits = [self._go_on(number, part) for number, part in enumerate(self._plan.parts)]
        told = ", ".join(reason for reason in waits if reason)
        if told:
            return replace(self._report(), state=StepStage.WAITING, waits_for=told)
        return self._finish()

    # Asking and delivering.

    def _go_on(self, number: int, part: SnapshotPart) -> str:
        """Take a restore as far as it goes now; what it waits for, empty once it is over."""
        restore = self._restore_of(number, part)
        while restore.state is RestoreStage.OPEN:
            self._begin_anew(number, restore)
            self._keep_place(number, restore)
            try:
                done = restores.step(restore, self._at, may_lapse=True)
            except RetrievalExpiredError:  # again, though the vault has just called it ready
                with self._context.inventory.reading() as tx:
                    return f"{len(retrievals.retrievals_of(tx, restore.number))} retrievals"
            if done.report is None:
                return self._waits(restore, done.known)
            self._problems |= {problem.path: problem for problem in done.report.problems}
            restore = self._find(restore.id)
        return ""

    def _begin_anew(self, number: int, restore: Restore) -> None:
        """Remove the files of a session that was killed before it recorded anything."""
        with self._context.inventory.reading() as tx:
            before = read_progress(tx, restore.number)
        if before is None or not before.has_begun:
            scratch.clear(self._context.scratch, self._run, str(number))

    def _keep_place(self, number: int, restore: Restore) -> None:
        """Record the folder of a restore, which is made if it is missing, as the one that it writes into."""
        with scratch.entered(self._context.scratch, self._run, str(number)) as (handle, path):
            place = place_of(handle, path)
        if read_place(restore, self._context.inventory) != place:
            with self._context.inventory.writing() as tx:
                note_place(tx, restore.number, place)

    def _restore_of(self, number: int, part: SnapshotPart) -> Restore:
        """The restore of a part, begun if it is not yet."""
        if part.restore:
            return self._find(part.restore)
        limit = self._limit()
        plan = self._planned(part)
        target = os.fsencode(f"{self._folder}/{number}")
        tier = self._context.tier
        restore = begin_restore(plan, target, self._at, limit, tier=tier, keys=self._some_keys)
        with self._context.inventory.writing() as tx:
            part.restore = restore.id
            tokens = [retrieval.token for retrieval in retrievals.retrievals_of(tx, restore.number)]
            self._plan.paid += tokens
            self._keep(tx)
        return restore

    def _limit(self) -> CostLimit:
        """The cost that was recorded, as the limit on all parts.

        `UsageError` if they have become dearer, as backups came between.
        """
        plans = {JobName(part.job): self._planned(part) for part in self._plan.parts}
        with self._context.inventory.reading() as tx:
            pieces = planning.pieces_of_plans(tx, plans)
        limit, recorded = self._context.limit_on(pieces), self._report().cost
        if budget.cost_of(limit, self._context) > recorded:
            give_up(self._drill, self._context)
            raise UsageError(
                f"drill {self._context.name} was cut off, and would cost more now than was recorded",
                advice="it was given up: run it again",
            )
        return limit if limit.amount is None else replace(limit, amount=money_of(recorded))

    def _planned(self, part: SnapshotPart) -> RestorePlan:
        with self._context.inventory.reading() as tx:
            snapshot = snapshots.get_snapshot(tx, SnapshotId(part.snapshot))
        return plan_restore(snapshot, _ALL, self._at, Choice(paths=tuple(part.paths)))

    def _some_keys(self) -> Sequence[RecoveryKey]:
        if not self._keys:
            raise RecoveryKeyError(
                f"drill {self._context.name} was cut off before it asked for all: it needs the key again",
                advice=f"`nightvault drill run {self._context.name} --key FILE`",
            )
        return self._keys

    def _find(self, restore_id: str) -> Restore:
        return find_restore(self._context.inventory, restore_id)

    def _keep(self, tx: Transaction) -> None:
        drills.keep_plan(tx, self._run, msgspec.msgpack.encode(self._plan))

    def _may_ask(self, retrieval: Retrieval) -> bool:
        """Whether a request may be sent: it is paid already, or the monthly limit allows it once more."""
        if retrieval.token in self._plan.paid:
            return True
        piece = Piece(
            retrieval.archive, retrieval.extent.end, retrieval.left.start, retrieval.left.end, retrieval.left
        )
        with self._context.inventory.writing() as tx:
            if not budget.may_ask_again(tx, self._context, self._run, piece):
                return False
            self._plan.paid.append(retrieval.token)
            self._keep(tx)
        return True

    def _waits(self, restore: Restore, known: Sequence[Retrieval]) -> str:
        """Return, as text, how many retrievals are waited for; gives up if no more may be requested."""
        left = [retrieval for retrieval in known if retrieval.state not in SETTLED]
        planned = [retrieval for retrieval in left if retrieval.state is RetrievalStage.PLANNED]
        if (
            planned
            and len(planned) == len(left)
            and all(retrieval.token not in self._plan.paid for retrieval in planned)
        ):
            why = "a retrieval expired before it was read; requesting it again may cost more than is allowed"
            self._given_up.append(CheckFinding("unread", f"restore {restore.id}", why))
            cancel(restore, self._context.inventory, self._at.key_directory, self._context.clock)
            return ""
        return f"{len(left)} of {len(known)} retrievals"

    # The end.

    def _finish(self) -> DrillReport:
        results = [self._compared(number, part) for number, part in enumerate(self._plan.parts)]
        now = self._context.clock.now()
        findings = [finding for compared, _ in results for finding in compared.findings]
        loaded = self._load(results, findings) if self._context.loads else []
        report = replace(
            self._report(),
            opened=_sum([compared.opened for compared, _ in results]),
            loaded=loaded,
            findings=tuple(findings),
            seconds=max(0.0, (now - self._began).total_seconds()),
        )
        with self._context.inventory.writing() as tx:
            for compared, selection in results:
                if selection is not None:
                    self._record(tx, selection, compared)
            for dump in loaded:
                record_load(tx, JobName(dump.job), dump.kind, dump.database, now)
            runs.finish_run(tx, self._run, report.outcome, report.summary(), now)
            keep = drills.open_runs(tx)
        scratch.sweep(self._context.scratch, keep)
        return report

    def _load(
        self,
        results: Sequence[tuple[ComparisonResult, Selection | None]],
        findings: list[CheckFinding],
    ) -> list[LoadedDump]:
        """Load the dumps that are as they were saved; what is wrong is added to the findings."""
        from backup.driller.loading import load_dumps

        loaded: list[LoadedDump] = []
        for number, (part, (compared, selection)) in enumerate(zip(self._plan.parts, results, strict=True)):
            if selection is None:
                continue
            with self._context.inventory.reading() as tx:
                snapshot = snapshots.get_snapshot(tx, SnapshotId(part.snapshot))
            with scratch.entered(self._context.scratch, self._run, str(number)) as (target, _):
                some, wrong = load_dumps(self._context, target, snapshot, compared.good)
            loaded += some
            findings += wrong
        return loaded

    def _compared(self, number: int, part: SnapshotPart) -> tuple[ComparisonResult, Selection | None]:
        if self._find(part.restore).state is RestoreStage.CANCELLED:
            found = [finding for finding in self._given_up if part.restore in finding.what]
            given_up = CheckFinding("unread", f"job {part.job}", "its restore was cancelled")
            return ComparisonResult(Opened(), found or [given_up]), None
        context = self._context.restore
        with context.inventory.reading() as tx:
            snapshot = snapshots.get_snapshot(tx, SnapshotId(part.snapshot))
            choice = Choice(paths=tuple(part.paths))
            selection = select_entries(tx, snapshot, _ALL, context.secret.content_key, choice)
        with scratch.entered(self._context.scratch, self._run, str(number)) as (target, _):
            compared = compare(target, selection, snapshot, context.secret.chunk_key, self._problems)
        return compared, selection

    def _record(self, tx: Transaction, selection: Selection, compared: ComparisonResult) -> None:
        """Record the data that was restored as it was saved as opened, where it lies."""
        every = {name.path for file in selection.files for name in file.entry.names}
        tier, now = self._context.tier, self._context.clock.now()
        numbers = sorted(frames_by_archive(selection.locations))
        own = archives.get_archives(tx, numbers, self._context.inventory.id)
        name = self._context.vault.name
        vault = copied.vault_number(tx, name)
        copies = {number: vault for number in numbers if own[number].vault != name}
        record_opened(tx, self._run, selection, every - compared.good, tier, now, copies=copies)

    def _report(self) -> DrillReport:
        with self._context.inventory.reading() as tx:
            cost = drills.get_drill(tx, self._run).cost
        context = self._context
        return DrillReport(
            StepStage.DONE,
            context.name,
            context.with_key,
            context.vault.name,
            context.currency,
            run=self._run,
            cost=cost,
        )


def _sum(several: Sequence[Opened]) -> Opened:
    return Opened(
        files=sum(opened.files for opened in several),
        bytes=sum(opened.bytes for opened in several),
        directories=sum(opened.directories for opened in several),
        hard_links=sum(opened.hard_links for opened in several),
        with_source=sum(opened.with_source for opened in several),
        names=[name for opened in several for name in opened.names][:MOST_NAMED],
    )


def give_up(drill: Drill, context: DrillContext) -> None:
    """End a drill that was interrupted before all its restores were begun; begun ones are cancelled."""
    folder = os.fsencode(f"{context.scratch}/{drill.run.number}/")
    with context.inventory.reading() as tx:
        begun = retrievals.list_restores(tx, only_open=True)
    for restore in begun:
        if restore.target.startswith(folder):
            cancel(restore, context.inventory, context.restore.key_directory, context.clock)
    with context.inventory.writing() as tx:
        report = {"drill": drill.name, "grade": "opened", "vault": drill.vault, "error": "cut off"}
        runs.finish_run(tx, drill.run.number, Outcome.INTERRUPTED, report, context.clock.now())


def needs_key(drill: Drill) -> bool:
    """Whether some of its restores are not begun yet, so that the recovery key is needed."""
    plan = msgspec.msgpack.decode(drill.plan, type=OpeningPlan)
    return any(not part.restore for part in plan.parts)
