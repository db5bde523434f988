"""The status for scripts: as JSON, and as the output of a Nagios plugin with its exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec.structs import asdict

from backup.app.machine.renewal_times import certificate_bounds
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
from backup.cli.render.render import counted, path_document, printable
from backup.inventory.questions.proofs import Proof
from backup.inventory.records.readings import Grade
from backup.inventory.records.runs import Run

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
"""The exit codes of Nagios."""

_CODES = {None: OK, Level.WARNING: WARNING, Level.CRITICAL: CRITICAL}
_WORDS = {OK: "OK", WARNING: "WARNING", CRITICAL: "CRITICAL", UNKNOWN: "UNKNOWN"}


def status_document(status: Status) -> dict[str, Any]:
    """Return a status as a JSON document."""
    certificate = status.certificate
    return {
        "as_of": status.now,
        "well": status.is_well,
        "concerns": [_concern(concern) for concern in status.concerns],
        "daemon_runs": status.daemon_runs,
        "jobs": [_job(job, status) for job in status.jobs],
        "running": [_run(run, status) for run in status.running],
        "tasks": None if status.tasks is None else [_task(task) for task in status.tasks],
        "restores": [_restore(restore) for restore in status.restores],
        "vaults": [_vault(vault) for vault in status.vaults],
        "certificate": None
        if certificate is None
        else {
            "not_before": certificate.not_before,
            "not_after": certificate.not_after,
            "days_left": None if certificate.not_after is None else (certificate.not_after - status.now).days,
            "error": certificate.unreadable,
            "issuer": certificate.issuer,
            "issuer_ends": certificate.issuer_ends,
        },
        "renewal": None if status.renewal is None else asdict(status.renewal),
        "scheduled": [_scheduled(task, status.now) for task in status.scheduled],
        "unknown": [{"what": gap.what, "why": gap.why} for gap in status.unknown],
        "disks": [asdict(disk) for disk in status.disks],
        "currency": status.currency,
        "proven": proof_document(status.proof),
    }


def proof_document(proof: Proof) -> dict[str, Any]:
    """Return how much was ever read back and opened, as JSON: bytes and shares."""
    return {
        "bytes": proof.bytes,
        "read_back": proof.read_back,
        "opened": proof.opened,
        "read_back_share": _rounded(proof.share(Grade.READ_BACK)),
        "opened_share": _rounded(proof.share(Grade.OPENED)),
        "last_read_back": proof.last_read_back,
        "last_opened": proof.last_opened,
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def _concern(concern: Concern) -> dict[str, Any]:
    document = asdict(concern)
    document.pop("about")  # ours, to tell lasting states from one another
    return document


def _job(job: JobStatus, status: Status) -> dict[str, Any]:
    return {
        "job": job.name,
        "vault": job.vault,
        "schedule": job.schedule,
        "retention": job.has_policy,
        "last_good": job.last_good,
        "age": None if job.last_good is None else (status.now - job.last_good).total_seconds(),
        "last_run": None if job.last_run is None else _run(job.last_run, status),
        "next_at": job.next_at,
        "overdue_from": job.overdue_from,
        "overdue": job.is_overdue,
        "paused_until": job.paused_until,
        "timer": job.has_timer,
        "proven": proof_document(job.proof),
        "locks": None if job.locks is None else asdict(job.locks),
        "holds": list(job.holds),
        "databases": [
            {"kind": proof.engine, "name": proof.database, "loaded_at": proof.loaded_at}
            for proof in job.databases
        ],
    }


def _scheduled(task: ScheduledStatus, now: datetime) -> dict[str, Any]:
    document = asdict(task)
    document["task"] = document.pop("text")
    document["overdue"] = document.pop("is_overdue")
    return document | {"age": None if task.last_good is None else (now - task.last_good).total_seconds()}


def _task(task: TaskStatus) -> dict[str, Any]:
    document = asdict(task)
    document["task"] = document.pop("text")
    return document


def _run(run: Run, status: Status) -> dict[str, Any]:
    return {
        "run": run.number,
        "kind": run.kind,
        "job": run.job,
        "vault": status.vault_of(run),
        "outcome": run.outcome,
        "dead": run.number in status.dead,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "error": run.error,
    }


def _restore(restore: RestoreStatus) -> dict[str, Any]:
    return asdict(restore) | {"target": path_document(restore.target)}


def _vault(vault: VaultStatus) -> dict[str, Any]:
    document = asdict(vault)
    document["vault"] = document.pop("name")
    document["month"] = None if vault.month is None else f"{vault.month:.6f}"
    document.pop("is_free")
    lock = vault.lock
    if lock is not None:
        document["lock"] = {name: getattr(lock, name) for name in ("days", "ends_at", "locked_at")}
    return document


def nagios_lines(status: Status) -> tuple[int, str]:
    """Return the exit code and lines of a Nagios plugin: state, text and performance data, then concerns."""
    code = _CODES[status.worst]
    texts = [_plain(concern.text) for concern in status.concerns]
    first = texts[0] if texts else f"all is well with {counted(len(status.jobs), 'job')}"
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    head = f"{_WORDS[code]}: {first}{more} | {' '.join(_measured(status))}".rstrip(" |")
    return code, "\n".join([head, *texts[1:]])


def nagios_unknown(message: str) -> str:
    """Return the line of a Nagios plugin for the state UNKNOWN."""
    return f"{_WORDS[UNKNOWN]}: {_plain(message)}"


def _plain(text: str) -> str:
    """On one line, without the bar before which a plugin's text ends."""
    return " ".join(printable(text).replace("|", "/").split())


def _measured(status: Status) -> Iterator[str]:
    """The measured values: `'label'=value[unit];warn;critical;least`."""
    for job in status.jobs:
        if job.last_good is not None:
            limit = "" if job.overdue_from is None else _seconds(job.overdue_from - job.last_good)
            yield f"'age_{job.name}'={_seconds(status.now - job.last_good)}s;;{limit};0"
    for vault in status.vaults:
        yield f"'stored_{vault.name}'={vault.bytes}B;;;0"
        if vault.month is not None:
            yield f"'month_{vault.name}'={_amount(vault.month)};;;0"
    certificate = status.certificate
    if certificate is not None and certificate.not_after is not None and certificate.not_before is not None:
        warn, alarm = certificate_bounds(certificate.not_after - certificate.not_before)
        left = _seconds(certificate.not_after - status.now)
        yield f"'certificate'={left}s;{_seconds(warn)}:;{_seconds(alarm)}:"


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())


def _amount(money: Decimal) -> str:
    return f"{money:.2f}"
