"""Forgetting by a config: plans what stays and goes of each job, then stores one amendment for each.

    def planner(tx): return [plan_by_policy(config, tx, job, now) for job in jobs]  # changes nothing
    for vault in vaults_of(planner(tx)):
        for plan, done in forget_in(at, vault, planner): ...

A plan is made again under the lock, so that it is based on the present state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from backup.app.backups.amending import amending_vault
from backup.app.base.clock import naming_emulator
from backup.app.base.run_context import RunContext
from backup.catalogs.amend import Amended, Amender
from backup.config import Config, JobSettings
from backup.config.settings import CopySettings
from backup.errors import ClockError, ConfigError, UsageError
from backup.format.records import ForgottenRecord
from backup.inventory.content import copied, snapshots
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.shrunk import Wait, waits
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import retrievals, runs
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros
from backup.kinds import RunKind
from backup.model import JobName, SnapshotId, VaultName
from backup.retention.copies import CopyRule
from backup.retention.forget import LEFT_OUT, ForgetPlan, plan_chosen, plan_forget
from backup.retention.history import Candidate
from backup.retention.policy import Policy, decide, unknown_tags
from backup.transfer.recognise import compare_clocks


class JobPlan(Struct, frozen=True):
    """The plan of a `forget` for one job; `policy` is None where snapshots were named."""

    job: JobRow
    vault: VaultName
    zone: ZoneInfo
    policy: Policy | None
    snapshots: Mapping[int, Snapshot]
    plan: ForgetPlan
    warnings: tuple[str, ...] = ()
    leaves_out: bool = False  # all of a source, so that the policy takes nothing

    @property
    def goes(self) -> list[Snapshot]:
        """The snapshots that go, oldest first."""
        return [self.snapshots[number] for number in self.plan.numbers]


Planner = Callable[[Transaction], Sequence[JobPlan]]


def jobs_with_policy(config: Config, tx: Transaction, *, any_job: bool = False) -> list[JobName]:
    """The config's jobs with snapshots and a policy, or `any_job` with snapshots. `UsageError` for none."""
    known = set(runs.all_job_names(tx))
    if not any_job and all(job.policy is None for job in config.jobs):
        raise UsageError(
            "no job has a policy, so all snapshots are kept",
            advice="give a job a [job.retention], or say --keep-last and the like for this time",
        )
    return [job.name for job in config.jobs if job.name in known and (any_job or job.policy is not None)]


def plan_by_policy(
    config: Config, tx: Transaction, job: JobName, now: datetime, *, instead: Policy | None = None
) -> JobPlan:
    """Return the plan by the job's policy, or by one given `instead`. `UsageError` without a policy.

    The job's policy takes nothing while the job leaves out all of a source: only older snapshots have its
    files.
    """
    from backup.app.backups.source_warnings import wholly_left_out

    settings = _settings(config, job)
    policy = instead or (settings.policy if settings else None)
    if policy is None:
        raise UsageError(
            f"job {job} has no policy, so it keeps all its snapshots",
            advice="give it a [job.retention], or say --keep-last and the like for this time",
        )
    row, every = _known(tx, job)
    zone = _zone(settings)
    candidates = [Candidate.of_snapshot(snapshot, now) for snapshot in every]
    decisions = decide(policy, candidates, now=now, zone=zone)
    wait = _wait(tx, job, settings)
    wanted = _wanted(tx, row, settings, every, now)
    emptied = instead is None and settings is not None and bool(wholly_left_out(tx, settings))
    plan = plan_forget(
        candidates,
        decisions,
        read_by_restores=_read(tx, every),
        wanted=wanted,
        waits=wait is not None,
        leaves_out=emptied,
    )
    unknown = unknown_tags(policy, candidates)
    warnings = [f"no snapshot of job {job} is tagged {', '.join(unknown)}"] if unknown and candidates else []
    warnings += [f"{wait.text()}: `{wait.command}`"] if wait else []
    if emptied:
        warnings.append(f"nothing was forgotten by the policy of job {job}, since {LEFT_OUT}")
    return replace(_job_plan(tx, row, zone, policy, every, plan, warnings), leaves_out=emptied)


def plan_by_name(
    config: Config, tx: Transaction, job: JobName, chosen: Collection[SnapshotId], now: datetime
) -> JobPlan:
    """Return the plan for a job whose snapshots were named by these ids."""
    row, every = _known(tx, job)
    candidates = [Candidate.of_snapshot(snapshot, now) for snapshot in every]
    numbers = {snapshot.number for snapshot in every if snapshot.id in chosen}
    settings = _settings(config, job)
    wait = _wait(tx, job, settings)
    plan = plan_chosen(candidates, numbers, read_by_restores=_read(tx, every), waits=wait is not None)
    return _job_plan(tx, row, _zone(settings), None, every, plan, [])


def refuse_refused(plans: Sequence[JobPlan]) -> None:
    """`UsageError` if a named snapshot has to stay."""
    refused = [
        f"{plan.snapshots[snapshot.number].id[:8]} of job {plan.job.name}: {snapshot.reason}"
        for plan in plans
        for snapshot in plan.plan.refused
    ]
    if refused:
        raise UsageError(
            "nothing was forgotten, since some of these have to stay: " + "; ".join(refused),
            advice="leave them out; `nightvault unpin`, `nightvault restores` and `nightvault snapshots "
            "accept` end what keeps one",
        )


def vaults_of(plans: Sequence[JobPlan]) -> list[VaultName]:
    """Return the vaults of the jobs of which snapshots go."""
    return list(dict.fromkeys(plan.vault for plan in plans if plan.goes))


def forget_in(at: RunContext, vault: VaultName, planner: Planner) -> Iterator[tuple[JobPlan, Amended]]:
    """Forget in one vault, job by job, what plans made under its lock say; each job is committed by itself.

    A job of which nothing goes is skipped. An error stops the rest, and undoes nothing done before: the same
    command goes on. `ClockError` if the vault's clock differs: a policy would mistake new snapshots for old
    ones.
    """
    with amending_vault(at, vault) as amender:
        with naming_emulator(at.config.vault(vault)):
            _require_same_time(amender, at)
        with at.inventory.reading() as tx:
            plans = [plan for plan in planner(tx) if plan.vault == vault and plan.goes]
        refuse_refused(plans)
        for plan in plans:
            record = ForgottenRecord(plan.plan.numbers, micros(at.clock.now()))
            yield plan, amender.amend(RunKind.FORGET, plan.job, [record], report_of(plan))


def _require_same_time(amender: Amender, at: RunContext) -> None:
    clocks = compare_clocks(amender.vault, at.clock, at.patience)
    if clocks.are_apart:
        raise ClockError(
            clocks.text(amender.vault.name),
            advice="set the clock right: which nights are old is decided by it; nothing was forgotten",
        )


def report_of(plan: JobPlan) -> dict[str, Any]:
    """Return the report stored with the run: policy, forgotten snapshots, number of kept ones."""
    return {
        "policy": str(plan.policy) if plan.policy else None,
        "forgotten": [snapshot.id for snapshot in plan.goes],
        "kept": len(plan.plan.stays),
    }


def _job_plan(
    tx: Transaction,
    row: JobRow,
    zone: ZoneInfo,
    policy: Policy | None,
    every: Sequence[Snapshot],
    plan: ForgetPlan,
    warnings: Sequence[str],
) -> JobPlan:
    vault = runs.vault_of_job(tx, row.number)
    return JobPlan(
        row, vault, zone, policy, {snapshot.number: snapshot for snapshot in every}, plan, tuple(warnings)
    )


def _known(tx: Transaction, job: JobName) -> tuple[JobRow, list[Snapshot]]:
    """A job with its snapshots that are not forgotten."""
    row = runs.find_job(tx, job)
    if row is None:
        raise UsageError(
            f"job {job} was never backed up", advice="`nightvault snapshots` lists what there is"
        )
    return row, snapshots.list_snapshots(tx, job=job)


def _read(tx: Transaction, every: Sequence[Snapshot]) -> set[int]:
    """The numbers of the snapshots that open restores read."""
    read = retrievals.read_by_restores(tx)
    return {snapshot.number for snapshot in every if snapshot.id in read}


def rule_of(job: JobSettings, copy: CopySettings) -> CopyRule:
    """Return the rule by which a job's snapshots are copied, and kept there."""
    return CopyRule(copy.policy, _zone(job), timedelta(seconds=copy.delay), job.may_shrink)


def _wanted(
    tx: Transaction, row: JobRow, job: JobSettings | None, every: Sequence[Snapshot], now: datetime
) -> dict[int, VaultName]:
    """The snapshots of which copies are still to be made, with a vault that lacks one."""
    wanted = copied.wanted_of(tx, row.number)
    if job is None or not job.copy:
        return wanted
    known = snapshots.list_snapshots(tx, job=row.name, also_forgotten=True, also_alone=True)
    for copy in job.copy:
        states = copied.kept_there(tx, copied.vault_number(tx, copy.vault), row.number)
        there = [snapshot for snapshot in known if states.get(snapshot.number) is KeptThere.COPIED]
        others = [
            snapshot
            for snapshot in every
            if states.get(snapshot.number, KeptThere.WANTED) is KeptThere.WANTED
        ]
        try:
            due = rule_of(job, copy).wanted(others, there, now)
        except ConfigError:  # none has a tag that is kept: the copy itself says so
            due = {snapshot.number for snapshot in others}
        wanted |= dict.fromkeys(due, copy.vault)
    return wanted


def _wait(tx: Transaction, job: JobName, settings: JobSettings | None) -> Wait | None:
    """The question that must be answered before anything of a job is forgotten; None without one."""
    if settings is not None and settings.may_shrink:
        return None
    return next((wait for wait in waits(tx) if wait.job == job), None)


def _settings(config: Config, job: JobName) -> JobSettings | None:
    """The settings of a job; None if the config has it no more."""
    return next((settings for settings in config.jobs if settings.name == job), None)


def _zone(settings: JobSettings | None) -> ZoneInfo:
    """The job's time zone; UTC for one that the config has no more."""
    return ZoneInfo(settings.zone if settings else "UTC")
