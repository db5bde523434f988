"""Compaction without retrieval: retires archives; the next backup stores their live files again from disk.

New data does not refer to a retired archive. The next backup reads the files that need a chunk in it, and
stores these chunks again; older snapshots use the new archive, too. A prune deletes the old one once no kept
snapshot needs a chunk that it alone holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from backup.catalogs.amend import Amender, amending
from backup.format import records
from backup.inventory.content import compaction, pruning, snapshots
from backup.inventory.content.shrunk import waits
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import runs
from backup.inventory.records.runs import RunKind
from backup.inventory.store.connections import Transaction
from backup.model import JobName, VaultName
from backup.pruner.context import PruneContext
from backup.retention.compact import Compaction, CompactRules, Partly, plan_compact
from backup.retention.expiry import ends_of
from backup.retention.history import Candidate
from backup.retention.policy import Policy
from backup.schedule import Schedule

HORIZON = timedelta(days=730)
_PACKS_A_RECORD = 50_000


class JobRules(Struct, frozen=True):
    """The rules by which a job's snapshots are forgotten: its policy, its schedule, its time zone."""

    policy: Policy | None
    schedule: Schedule | None
    zone: ZoneInfo


class CompactReport(Struct, frozen=True):
    """The archives retired, or to be retired; `gain` in dollars over the horizon, None without a price."""

    vault: VaultName
    is_plan: bool
    horizon: timedelta
    chosen: Sequence[Compaction]
    recovery_lines: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def gain(self) -> Decimal | None:
        """The total saving."""
        gains = [choice.gain for choice in self.chosen if choice.gain is not None]
        return sum(gains, Decimal(0)) if gains else None

    @property
    def freed(self) -> int:
        """The bytes that are freed in the end."""
        return sum(choice.freed for choice in self.chosen)

    @property
    def stored_anew(self) -> int:
        """The bytes that the next backups store again."""
        return sum(choice.archive.stored_anew for choice in self.chosen)

    @property
    def gone_at(self) -> datetime | None:
        """The time at which the last of the old archives can be deleted."""
        return max((choice.gone_at for choice in self.chosen), default=None)

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "vault": self.vault,
            "plan": self.is_plan,
            "horizon_days": self.horizon.days,
            "archives": len(self.chosen),
            "bytes": sum(choice.archive.size for choice in self.chosen),
            "stored_anew": self.stored_anew,
            "freed": self.freed,
            "gain": None if self.gain is None else str(self.gain),
            "gone_at": self.gone_at.isoformat() if self.gone_at else None,
            "recovery_lines": dict(self.recovery_lines),
            "warnings": list(self.warnings),
        }


def compact(
    context: PruneContext,
    jobs: Mapping[JobName, JobRules],
    *,
    pack_size: int,
    horizon: timedelta = HORIZON,
    min_gain: Decimal = Decimal(0),
    only_plan: bool = False,
) -> CompactReport:
    """Retire the archives of a vault for which that saves more than it costs; `jobs` are those of the config.

    `LockedError` while a backup runs.
    """
    with amending(context.keys, context.backup, context.sending, only_plan=only_plan) as amender:
        rules = CompactRules(horizon, context.grace, pack_size, min_gain)
        now = context.backup.clock.now()
        with context.backup.inventory.reading() as tx:
            found = _partly(tx, context, jobs, rules, now)
            chosen = plan_compact(found, rules, context.price, now=now)
            report = CompactReport(context.backup.vault.name, only_plan, horizon, chosen)
        if only_plan or not chosen:
            return report
        return _retire(context, amender, report)


def _partly(
    tx: Transaction,
    context: PruneContext,
    jobs: Mapping[JobName, JobRules],
    rules: CompactRules,
    now: datetime,
) -> list[Partly]:
    """The archives of which a part is live, with the day on which the rest is needed no more."""
    ends: dict[int, list[tuple[int, int]]] = {}
    active: set[int] = set()
    held = {wait.job_number for wait in waits(tx, may_shrink=context.may_shrink)}
    for job in runs.list_jobs(tx, context.backup.vault.name):
        every = snapshots.list_snapshots(tx, job=job.name)
        if job.name in jobs:
            active.add(job.number)
        rule = None if job.number in held else jobs.get(job.name)  # nothing of it goes before an answer
        ends[job.number] = _days(every, rule, now, rules.horizon)
    uses = compaction.chunk_uses(tx, ends, active)
    minimum = context.backup.vault.traits.minimum_storage
    return [
        Partly(
            number=archive.number,
            pack_id=archive.pack_id,
            size=archive.size,
            stored_at=archive.stored_at,
            free_at=archive.stored_at + minimum,
            length=archive.length,
            live=archive.live,
            needed_until=None if archive.days == compaction.NEVER else now + timedelta(days=archive.days),
        )
        for archive in compaction.partly_used(tx, context.backup.vault.name, uses)
    ]


def _days(
    every: Sequence[Snapshot], job: JobRules | None, now: datetime, horizon: timedelta
) -> list[tuple[int, int]]:
    """For how many days each kept snapshot of a job will stay, by number."""
    candidates = [
        Candidate(
            snapshot.number,
            snapshot.started_at,
            snapshot.is_whole,
            frozenset(snapshot.tags),
            snapshot.pin is not None and snapshot.pin.holds_at(now),
        )
        for snapshot in every
    ]
    if job is None:
        return [(candidate.number, compaction.NEVER) for candidate in candidates]
    ends = ends_of(job.policy, job.schedule, candidates, now=now, zone=job.zone, horizon=horizon)
    found: list[tuple[int, int]] = []
    for number, end in sorted(ends.items()):
        days = compaction.NEVER if end is None else (end - now).days + 1
        found.append((number, min(days, compaction.NEVER)))
    return found


def _retire(context: PruneContext, amender: Amender, report: CompactReport) -> CompactReport:
    """Say so in a catalog of each job whose catalogs named one of the archives."""
    packs = {choice.archive.number: choice.archive.pack_id for choice in report.chosen}
    inventory, vault = context.backup.inventory, context.backup.vault.name
    by_job: dict[int, list[bytes]] = defaultdict(list)
    with inventory.reading() as tx:
        known = {row.number: row for row in runs.list_jobs(tx, vault)}
        for archive in pruning.stored_archives(tx, vault):
            if archive.number in packs:
                for number in archive.jobs:
                    by_job[number].append(archive.pack_id)
    lines: dict[str, str] = {}
    warnings: list[str] = []
    for number, of_job in sorted(by_job.items()):
        amendment = [
            records.RetiredRecord(of_job[start : start + _PACKS_A_RECORD])
            for start in range(0, len(of_job), _PACKS_A_RECORD)
        ]
        job = known[number]
        told = {"retired": len(of_job), "stored_anew": report.stored_anew}
        amended = amender.amend(RunKind.COMPACT, job, amendment, told)
        lines[job.name] = amended.recovery_line
        warnings += amended.warnings
    return CompactReport(
        report.vault, report.is_plan, report.horizon, report.chosen, recovery_lines=lines, warnings=warnings
    )
