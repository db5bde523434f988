"""Compaction without retrieval: retires archives; the next backup stores their live files again from disk.

New data does not refer to a retired archive. The next backup reads the files that need a chunk in it, and
stores these chunks again; older snapshots use the new archive, too. A prune deletes the old one once no kept
snapshot needs a chunk that it alone holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct, field
from msgspec.structs import fields, replace

from backup.catalogs.amend import Amender
from backup.format import records
from backup.inventory.content import compaction, pruning, snapshots
from backup.inventory.content.shrunk import waits
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import runs
from backup.inventory.store.connections import Transaction
from backup.kinds import Outcome, RunKind
from backup.model import JobName, VaultName
from backup.pruner.context import PruneContext
from backup.reports import Fact, warned
from backup.retention.compact import Compaction, CompactRules, Partly, plan_compact
from backup.retention.expiry import ends_of
from backup.retention.history import Candidate
from backup.retention.policy import Policy
from backup.schedule import Schedule
from backup.wording import counted, money, size

HORIZON = timedelta(days=730)
_PACKS_A_RECORD = 50_000


class JobRules(Struct, frozen=True):
    """The rules by which a job's snapshots are forgotten: its policy, its schedule, its time zone."""

    policy: Policy | None
    schedule: Schedule | None
    zone: ZoneInfo


class CompactReport(Struct, frozen=True, rename={"is_plan": "plan"}):
    """The report of a compaction: archives and bytes that were retired, or are to be.

    Of the bytes `freed` come free by `gone_at`; `stored_anew` are stored again by the next backups. `gain`:
    dollars over the horizon, None without a price.
    """

    vault: VaultName
    is_plan: bool
    horizon_days: int
    archives: int = 0
    bytes: int = 0
    stored_anew: int = 0
    freed: int = 0
    gain: Decimal | None = None
    gone_at: datetime | None = None
    recovery_lines: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def subject(self) -> str:
        """The run in words."""
        return f"compaction of vault {self.vault}"

    @property
    def waits_for(self) -> str:
        """Nothing: it is done in one step."""
        return ""

    @property
    def outcome(self) -> Outcome:
        """Partial with a warning."""
        return Outcome.PARTIAL if self.warnings else Outcome.DONE

    def facts(self, currency: str = "USD") -> Iterator[Fact]:
        """Warnings, counts, and a row for each sum."""
        yield from warned(self.warnings)
        retired = counted(self.archives, "archive")
        yield Fact(
            f"{retired} retired, {size(self.stored_anew)} to be stored anew, {size(self.freed)} come free"
        )
        if not self.archives:
            return
        yield Fact(f"{retired}, {size(self.bytes)}", "to retire" if self.is_plan else "retired")
        yield Fact(f"{size(self.stored_anew)}, by the next backups, from the disk", "stored anew")
        last = f"the last of it by {self.gone_at:%Y-%m-%d}" if self.gone_at else ""
        yield Fact(f"{size(self.freed)}, {last}", "comes free")
        if self.gain is not None:
            within = f"within {self.horizon_days / 365:.3g} years, by today's prices"
            yield Fact(f"{money(self.gain, currency)} {within}", "gain")

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        names = {field.name: field.encode_name for field in fields(self)}
        return {names[name]: getattr(self, name) for name in names} | {
            "gain": None if self.gain is None else str(self.gain),
            "gone_at": self.gone_at.isoformat() if self.gone_at else None,
            "recovery_lines": dict(self.recovery_lines),
            "warnings": list(self.warnings),
        }


def _report_of(
    vault: VaultName, chosen: Sequence[Compaction], horizon: timedelta, *, is_plan: bool
) -> CompactReport:
    gains = [choice.gain for choice in chosen if choice.gain is not None]
    return CompactReport(
        vault,
        is_plan,
        horizon.days,
        archives=len(chosen),
        bytes=sum(choice.archive.size for choice in chosen),
        stored_anew=sum(choice.archive.stored_anew for choice in chosen),
        freed=sum(choice.freed for choice in chosen),
        gain=sum(gains, Decimal(0)) if gains else None,
        gone_at=max((choice.gone_at for choice in chosen), default=None),
    )


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
    with context.amending(only_plan=only_plan) as amender:
        rules = CompactRules(horizon, context.grace, pack_size, min_gain)
        now = context.clock.now()
        with context.inventory.reading() as tx:
            found = _partly(tx, context, jobs, rules, now)
            chosen = plan_compact(found, rules, context.price, now=now)
        report = _report_of(context.vault.name, chosen, horizon, is_plan=only_plan)
        if only_plan or not chosen:
            return report
        return _retire(context, amender, chosen, report)


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
    for job in runs.list_jobs(tx, context.vault.name):
        every = snapshots.list_snapshots(tx, job=job.name)
        if job.name in jobs:
            active.add(job.number)
        rule = None if job.number in held else jobs.get(job.name)  # nothing of it goes before an answer
        ends[job.number] = _days(every, rule, now, rules.horizon)
    uses = compaction.chunk_uses(tx, ends, active)
    minimum = context.vault.traits.minimum_storage
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
        for archive in compaction.partly_used(tx, context.vault.name, uses)
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


def _retire(
    context: PruneContext, amender: Amender, chosen: Sequence[Compaction], report: CompactReport
) -> CompactReport:
    """Say so in a catalog of each job whose catalogs named one of the archives."""
    packs = {choice.archive.number: choice.archive.pack_id for choice in chosen}
    inventory, vault = context.inventory, context.vault.name
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
    return replace(report, recovery_lines=lines, warnings=warnings)
