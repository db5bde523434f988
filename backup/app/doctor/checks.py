"""All checks in their order, and running them: one that fails is a finding itself, and hinders no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from backup.app.doctor import databases, jobs, known, machine, nights, rights, vaults
from backup.app.doctor.finding import Check, Finding, Patient, warning
from backup.app.status import read_status
from backup.app.status_parts import Level
from backup.config import Config
from backup.errors import NightvaultError
from backup.protocols import Clock

LOCAL: Mapping[str, Check] = {
    "inventory": machine.inventory_opens,
    "inventory's file": machine.inventory_whole,
    "status": known.concerns,
    "modes": machine.modes,
    "recovery key": machine.recovery_key_here,
    "enrolment": machine.enrolment,
    "recovery lines": machine.recovery_lines,
    "jobs": jobs.no_jobs,
    "sources": jobs.missing_sources,
    "never run": jobs.never_run,
    "never read": jobs.never_read,
    "last night": nights.unusual,
    "warnings": nights.unread_warnings,
    "retention": jobs.no_policy,
    "left out": jobs.precious_left_out,
    "databases": databases.without_dump,
}
"""Checks that ask no vault, by what they look at."""

ASKING: Mapping[str, Check] = {
    "credentials": vaults.roles_open,
    "vaults": vaults.vault_there,
    "bucket settings": vaults.bucket_settings,
    "rights": rights.backups_may_not_delete,
}
"""Checks that ask vaults."""


@dataclass(frozen=True, slots=True)
class Report:
    """The findings, critical ones first; what was looked at, and the requests that were sent for it."""

    findings: Sequence[Finding]
    looked_at: Sequence[str]
    requests: Sequence[str]


def examine(config: Config, clock: Clock, *, offline: bool = False, seconds: float = 20.0) -> Report:
    """Look at everything; `offline` asks no vault. Each request has a deadline of so many seconds."""
    chosen = dict(LOCAL) if offline else {**LOCAL, **ASKING}
    patient = Patient(config, clock, None, seconds)
    with suppress(NightvaultError):  # why is a finding of its own
        patient.status = read_status(config, clock.now())
    found = [one for name, check in chosen.items() for one in _findings(name, check, patient)]
    distinct = list(dict.fromkeys(found))
    distinct.sort(key=lambda one: one.level is not Level.CRITICAL)
    return Report(distinct, list(chosen), patient.requests)


def _findings(name: str, check: Check, patient: Patient) -> list[Finding]:
    try:
        return list(check(patient))
    except NightvaultError as error:
        why = "nobody knows whether it is as it should be"
        return [warning("check", f"cannot look at {name}: {error}", why, error.advice or "nightvault status")]
