"""The first page: whether all is well, the concerns, each job with its last thirty nights, what runs."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from markupsafe import Markup
from msgspec import Struct
from msgspec.structs import asdict, replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.app.base.certificate_dates import CertificateStatus
from backup.app.money.prices import known_table
from backup.app.money.stats import terms_of
from backup.app.status.concerns import concerns_of
from backup.app.status.parts import (
    Concern,
    JobStatus,
    Level,
    RestoreStatus,
    ScheduledStatus,
    Status,
    TaskStatus,
    VaultStatus,
)
from backup.app.status.recorded import status_in
from backup.config import Config
from backup.files import open_small
from backup.inventory.pages import run_pages
from backup.inventory.pages.run_pages import BackupRow
from backup.inventory.pages.snapshot_pages import SnapshotSize, counts_by_job, sizes_since
from backup.inventory.questions.proofs import Proof, proofs
from backup.inventory.questions.status import HeldArchives, held
from backup.inventory.records.readings import LockDate
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros, moment
from backup.model import JobName, VaultName
from backup.retention.stats import MONTH
from backup.web.context import context_of
from backup.web.daemon_desk import DaemonStatus
from backup.web.pages.html import framed, texts
from backup.web.pages.thirty_nights import (
    DAYS,
    NightCell,
    NightOutcome,
    by_job,
    daily_sizes,
    drawn_strip,
    growth,
    matrix,
    strip,
)
from backup.web.texts import Texts
from backup.wording import duration, size

ACTIVE = frozenset({"running", "queued", "waiting"})
_LOOKED_AT = timedelta(days=2 * DAYS)  # thirty nights, and what is usual before them
_LARGEST_CERTIFICATE = 256 * 1024
_NOT_OVER = frozenset({NightOutcome.NONE, NightOutcome.RUNNING})
_WRONG = frozenset({NightOutcome.FAILED, NightOutcome.INTERRUPTED, NightOutcome.MISSED})


class JobCard(Struct, frozen=True):
    """A job in the overview; `level` is that of its worst problem, None without problems.

    `nights` are the last thirty, oldest first, and `uploaded` the bytes that they stored. `sizes` are the
    bytes of its newest snapshots, oldest first, at most one for each of these nights. `configured`: the job
    is still in the config. `live` is the daemon's task of its backup.
    """

    name: JobName
    vault: VaultName
    is_configured: bool
    schedule: str | None
    level: Level | None
    last_good: datetime | None
    last_run: int | None
    last_outcome: NightOutcome
    last_run_at: datetime | None
    last_error: str | None
    next_at: datetime | None
    overdue_from: datetime | None
    is_overdue: bool
    paused_until: datetime | None
    snapshots: int
    newest_snapshot: str | None
    files: int
    bytes: int
    uploaded: int
    sizes: Sequence[tuple[datetime, int]]
    nights: Sequence[NightCell]
    live: TaskStatus | None
    last_drill: datetime | None = None  # when a restore of it was last proven

    @property
    def newest_failed(self) -> bool:
        """Whether the newest night that is over failed, was interrupted or was missed."""
        over = (night.outcome for night in reversed(self.nights) if night.outcome not in _NOT_OVER)
        return next(over, self.last_outcome) in _WRONG


class HostCard(Struct, frozen=True):
    """A server with its jobs, those with problems first."""

    name: str
    level: Level | None
    jobs: Sequence[JobCard]


class PricedVault(VaultStatus, frozen=True, kw_only=True):
    """A vault with the parts of its month's cost in words (`why`), and when its data were last read back."""

    why: str
    last_read_back: datetime | None


class Overview(Struct, frozen=True):
    """The first page. `problems` are the concerns of `nightvault status`, critical ones first, with commands.

    `as_of`: the time of the daemon's answer; None without one, so that it is unknown what runs. `newest`:
    when the newest run in the inventory began or ended. `month`: the cost a month of all vaults, None if a
    price is unknown.
    """

    now: datetime
    as_of: datetime | None
    newest: datetime | None
    level: Level | None
    problems: Sequence[Concern]
    hosts: Sequence[HostCard]
    vaults: Sequence[PricedVault]
    restores: Sequence[RestoreStatus]
    tasks: Sequence[TaskStatus]
    certificate: CertificateStatus | None
    month: Decimal | None
    currency: str
    last_read_back: datetime | None
    last_opened: datetime | None = None  # when what was read back was last opened with a recovery key
    scheduled: Sequence[ScheduledStatus] = ()  # all but the backups
    locks: Sequence[LockDate] = ()  # until when each job restores, where its vault locks what is stored


class _Rows(Struct, frozen=True):
    """The rows of the inventory beside the status."""

    runs: Mapping[str, Sequence[BackupRow]]
    sizes: Mapping[JobName, Sequence[SnapshotSize]]
    counts: Mapping[JobName, int]
    held: Sequence[HeldArchives]
    proofs: Mapping[tuple[VaultName, JobName | None], Proof]


def certificate_of(config: Config) -> CertificateStatus | None:
    """Return the certificate's status from its file; None without one, on a token, or if it is unreadable."""
    if config.identity is None or ":" in config.identity.certificate.partition("/")[0]:
        return None
    from cryptography import x509

    try:
        with open(config.identity.certificate, "rb", opener=open_small) as file:
            found, *above = x509.load_pem_x509_certificates(file.read(_LARGEST_CERTIFICATE))
    except (OSError, ValueError):
        return None  # `nightvault status` says what is wrong with it
    return CertificateStatus.of(found, above)


def overview(tx: Transaction, config: Config, now: datetime, daemon: DaemonStatus | None) -> Overview:
    """Return the overview of all jobs and vaults."""
    found = the_status(tx, config, now, daemon)
    rows = _Rows(
        runs=by_job(run_pages.backups_since(tx, micros(now - _LOOKED_AT))),
        sizes=sizes_since(tx, micros(now - timedelta(days=DAYS))),
        counts=counts_by_job(tx),
        held=held(tx),
        proofs=proofs(tx, now),
    )
    _, newest = run_pages.newest(tx)
    jobs = [_job(config, job, found, rows, daemon) for job in found.jobs]
    proof = sum(rows.proofs.values(), Proof())
    return Overview(
        now=now,
        as_of=daemon.as_of if daemon else None,
        newest=moment(newest) if newest else None,
        level=found.worst,
        problems=found.concerns,
        hosts=[HostCard(socket.gethostname(), _worst(job.level for job in jobs), sorted(jobs, key=_urgency))],
        vaults=[_vault(config, vault, rows) for vault in found.vaults],
        restores=found.restores,
        tasks=list(daemon.tasks) if daemon else [],
        certificate=found.certificate,
        month=total([vault.month for vault in found.vaults]),
        currency=found.currency,
        last_read_back=proof.last_read_back,
        scheduled=found.scheduled,
        last_opened=proof.last_opened,
        locks=[job.locks for job in found.jobs if job.locks is not None and job.lock_for is not None],
    )


def the_status(tx: Transaction, config: Config, now: datetime, daemon: DaemonStatus | None) -> Status:
    """Return the status as `nightvault status` has it, with the daemon's answer if there is one.

    The page cannot see locks: without an answer it does not know whether a daemon runs.
    """
    found = status_in(tx, config, now, certificate_of(config))
    if daemon is None:
        return found
    heard = replace(found, daemon_runs=True, waits_for_clock=daemon.waits_for_clock)
    return replace(heard, concerns=concerns_of(heard))


def total(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """Return the sum; None if an amount is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


def _urgency(job: JobCard) -> tuple[int, str]:
    return (0 if job.level is Level.CRITICAL else 1 if job.level else 2), job.name


def _worst(levels: Iterable[Level | None]) -> Level | None:
    known = set(levels)
    return next((level for level in (Level.CRITICAL, Level.WARNING) if level in known), None)


def _job(
    config: Config, status: JobStatus, found: Status, rows: _Rows, daemon: DaemonStatus | None
) -> JobCard:
    settings = next((job for job in config.jobs if job.name == status.name), None)
    runs = rows.runs.get(status.name, ())
    nights = strip(settings, runs, found.now, None)
    sizes = rows.sizes.get(status.name, ())
    last = runs[-1] if runs else None
    return JobCard(
        name=status.name,
        vault=status.vault,
        is_configured=True,
        schedule=status.schedule,
        level=_worst(concern.level for concern in found.concerns if concern.job == status.name),
        last_good=status.last_good,
        last_run=status.last_run.number if status.last_run else None,
        last_outcome=NightOutcome(
            last.outcome if last else status.last_run.outcome if status.last_run else "none"
        ),
        last_run_at=status.last_run.started_at if status.last_run else None,
        last_error=status.last_run.error if status.last_run else None,
        next_at=status.next_at,
        overdue_from=status.overdue_from,
        is_overdue=status.is_overdue,
        paused_until=status.paused_until,
        snapshots=rows.counts.get(status.name, 0),
        newest_snapshot=sizes[-1].id if sizes else None,
        files=sizes[-1].files if sizes else 0,
        bytes=sizes[-1].bytes if sizes else 0,
        uploaded=sum(night.bytes_uploaded for night in nights),
        sizes=daily_sizes(sizes),
        nights=nights,
        live=daemon.task("backup", status.name) if daemon else None,
        last_drill=status.proof.last_opened,
    )


def _vault(config: Config, status: VaultStatus, rows: _Rows) -> PricedVault:
    proof = sum((proof for (vault, _), proof in rows.proofs.items() if vault == status.name), Proof())
    why = _why(config, status, rows.held)
    return PricedVault(**asdict(status), why=why, last_read_back=proof.last_read_back)


def _why(config: Config, status: VaultStatus, rows: Sequence[HeldArchives]) -> str:
    """Of what a month's cost is made: bytes by storage class, with what each costs."""
    settings = next((vault for vault in config.vaults if vault.name == status.name), None)
    if settings is None:
        return "the config does not have this vault any more"
    if status.is_free:
        return "a directory: nobody bills it"
    table = known_table(config)
    if table is None:
        return "the prices are not known"  # a concern says why
    terms = terms_of(config, table, settings)
    parts = []
    for held_of in (row for row in rows if row.vault == status.name):
        price = terms.prices[held_of.kind]
        cost = None if price is None else price.storing(held_of.bytes, held_of.archives, MONTH)
        told = "no price is known" if cost is None else f"{cost:.2f} {table.currency}"
        noun = held_of.kind.name.lower().replace("catalog", "catalogs")
        parts.append(f"{size(held_of.bytes)} of {noun} in {terms.classes[held_of.kind]}: {told}")
    return "; ".join(parts) or "nothing is stored yet"


class Verdict(Struct, frozen=True):
    """The headline of the overview: `kind` is good, warn or bad."""

    kind: str
    title: Markup
    told: Markup


def shown(it: Overview, said: Texts) -> dict[str, Any]:
    """Return the values of the template."""
    return {
        "it": it,
        "verdict": verdict(it, said),
        "active": active(it.tasks),
        "rows": [
            (host.name, [(job, drawn_strip(job.name, job.nights, said)) for job in host.jobs])
            for host in it.hosts
            if host.jobs
        ],
        "matrix": matrix({job.name: job.nights for job in _jobs(it)}),
        "growth": growth({job.name: job.sizes for job in _jobs(it) if job.sizes}, said),
    }


def active(tasks: Sequence[TaskStatus]) -> list[TaskStatus]:
    """Return the tasks that run, or wait to run."""
    return [task for task in tasks if task.state in ACTIVE]


def verdict(it: Overview, said: Texts) -> Verdict:
    """Return the headline; it mentions the good backups first, even if not all is well."""
    jobs = [job for job in _jobs(it) if job.is_configured]
    good = [job for job in jobs if job.last_good is not None and not job.is_overdue]
    if not jobs:
        return Verdict("warn", said.say("Nothing is backed up yet"), said.say("The config names no job."))
    newest = max(((job.last_good, job.name) for job in jobs if job.last_good is not None), default=None)
    told = [_covered(len(good), len(jobs), said)]
    if newest is not None:
        ago = duration(max(0.0, (it.now - newest[0]).total_seconds()))
        told.append(said.say("The newest: %(job)s, %(time)s ago.", job=newest[1], time=ago))
    coming = sorted(job.next_at for job in jobs if job.next_at is not None and job.next_at > it.now)
    if coming:
        left = duration((coming[0] - it.now).total_seconds())
        told.append(said.say("The next begins in %(time)s.", time=left))
    text = Markup(" ").join(told)
    failed = [job.name for job in jobs if job.newest_failed]
    if failed:
        wrong = said.count(
            "The newest night of %(jobs)s went wrong.",
            "The newest nights of %(jobs)s went wrong.",
            len(failed),
            jobs=", ".join(failed),
        )
        return Verdict("bad", said.say("Not all is well"), Markup(" ").join([wrong, text]))
    if it.level is None:
        return Verdict("good", said.say("All is well"), text)
    if it.level is Level.CRITICAL:
        return Verdict("bad", said.say("Not all is well"), text)
    return Verdict("warn", said.say("Well, with a warning"), text)


def _covered(good: int, all_: int, said: Texts) -> Markup:
    if good == all_:
        return said.count(
            "The job has a good backup in time.", "Each of the %(n)s jobs has a good backup in time.", all_
        )
    return said.say("%(good)s of %(all)s jobs have a good backup in time.", good=good, all=all_)


def _jobs(it: Overview) -> Iterator[JobCard]:
    for host in it.hosts:
        yield from host.jobs


async def show(request: Request) -> Response:
    """Show the overview."""
    context = context_of(request)
    now, daemon = context.clock.now(), await context.daemon.parsed()
    found = await context.reading.view(overview, context.config, now, daemon)
    return await framed(request, "overview.html", here="overview", **shown(found, texts()))


async def explain(request: Request) -> Response:
    """Show what each kind of concern means, and its page in the documentation."""
    return await framed(request, "help.html", here="overview")


OVERVIEW = (Route("/", show, name="overview"), Route("/help", explain, name="help"))
