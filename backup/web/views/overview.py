"""The view of the overview: `nightvault status`, thirty nights of each job, and the daemon's tasks."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from backup.app.base.certificate_dates import CertificateStatus
from backup.app.money.prices import known_table
from backup.app.money.stats import terms_of
from backup.app.status.concerns import concerns_of
from backup.app.status.parts import Concern, JobStatus, Level, Status, VaultStatus
from backup.app.status.recorded import status_in
from backup.config import Config
from backup.files import open_small
from backup.inventory.pages import run_pages
from backup.inventory.pages.run_pages import RunRow
from backup.inventory.pages.snapshot_pages import SnapshotSize, counts_by_job, sizes_since
from backup.inventory.questions.proofs import Proof, proofs
from backup.inventory.questions.status import HeldArchives, held
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros, moment
from backup.model import JobName, VaultName
from backup.retention.stats import MONTH
from backup.web.views.daemon import DaemonStatus
from backup.web.views.strip import DAYS, by_job, strip
from backup.web.views.values.overview import (
    HostCard,
    JobCard,
    NightOutcome,
    Overview,
    VaultCard,
)
from backup.wording import size

_MOST = 256 * 1024


def certificate_of(config: Config) -> CertificateStatus | None:
    """Return the certificate's status from its file; None without one, on a token, or if it is unreadable."""
    if config.identity is None or ":" in config.identity.certificate.partition("/")[0]:
        return None
    from cryptography import x509

    try:
        with open(config.identity.certificate, "rb", opener=open_small) as file:
            found, *above = x509.load_pem_x509_certificates(file.read(_MOST))
    except (OSError, ValueError):
        return None  # `nightvault status` says what is wrong with it
    return CertificateStatus.of(found, above)


_LOOKED_AT = timedelta(days=2 * DAYS)  # thirty nights, and what is usual before them


class _Rows(Struct, frozen=True):
    """What the inventory gave beside the status."""

    runs: Mapping[str, Sequence[RunRow]]
    sizes: Mapping[JobName, Sequence[SnapshotSize]]
    counts: Mapping[JobName, int]
    held: Sequence[HeldArchives]
    proofs: Mapping[tuple[VaultName, JobName | None], Proof]


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
        hosts=[HostCard(socket.gethostname(), _worst(jobs), sorted(jobs, key=_urgency))],
        vaults=[_vault(config, vault, rows) for vault in found.vaults],
        restores=found.restores,
        tasks=list(daemon.tasks) if daemon else [],
        certificate=found.certificate,
        month=total([vault.month for vault in found.vaults]),
        currency=found.currency,
        last_read_back=proof.last_read_back,
        scheduled=found.scheduled,
        last_opened=proof.last_opened,
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


def _worst(jobs: Sequence[JobCard]) -> Level | None:
    levels = {job.level for job in jobs}
    return next((level for level in (Level.CRITICAL, Level.WARNING) if level in levels), None)


def _level(concerns: Sequence[Concern], job: JobName) -> Level | None:
    """The worst level of what concerns a job; critical ones come first."""
    return next((concern.level for concern in concerns if concern.job == job), None)


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
        level=_level(found.concerns, status.name),
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
        sizes=_a_day(sizes),
        nights=nights,
        live=daemon.task("backup", status.name) if daemon else None,
        last_drill=status.proof.last_opened,
    )


def _a_day(sizes: Sequence[SnapshotSize]) -> list[tuple[datetime, int]]:
    """The last size of each day."""
    found = {
        snapshot.started_at.astimezone().date(): (snapshot.started_at, snapshot.bytes) for snapshot in sizes
    }
    return [found[day] for day in sorted(found)][-DAYS:]


def _vault(config: Config, status: VaultStatus, rows: _Rows) -> VaultCard:
    proof = sum((proof for (vault, _), proof in rows.proofs.items() if vault == status.name), Proof())
    return VaultCard(
        name=status.name,
        kind=status.kind,
        archives=status.archives,
        bytes=status.bytes,
        month=status.month,
        is_free=status.is_free,
        why=_why(config, status, rows.held),
        checked_at=status.checked_at,
        last_read_back=proof.last_read_back,
        unverified_since=status.unverified_since,
        next_prune=status.next_prune,
    )


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
