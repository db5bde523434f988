"""The list of all checks, and running them: one that fails is itself a finding, and stops no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct

from backup.app.base.silent_mounts import silent_places, without
from backup.app.doctor import history, jobs, machine, recovery, rights, table, vaults
from backup.app.doctor.finding import Check, DoctorContext, Finding, FullRestore
from backup.app.status.parts import Level
from backup.app.status.status import read_status
from backup.config import Config
from backup.errors import NightvaultError
from backup.format.keys import RecoveryKey
from backup.kinds import KINDS
from backup.protocols import Clock


def concerns(context: DoctorContext) -> Iterator[Finding]:
    """Yield each concern of the status as a finding, with the reason why it matters."""
    for concern in context.status.concerns if context.status else ():
        command = concern.command or "nightvault status"
        why = table.WHY[concern.topic] if concern.kind is None else KINDS[concern.kind].harm
        yield Finding(str(concern.topic), concern.level, concern.text, why, command)


LOCAL: Mapping[str, Check] = {
    "inventory": machine.inventory_opens,
    "inventory's file": machine.inventory_whole,
    "status": concerns,
    "modes": machine.modes,
    "changed by others": machine.changed_by_others,
    "recovery key": machine.recovery_key_here,
    "enrolment": machine.enrolment,
    "recovery lines": machine.recovery_lines,
    "jobs": jobs.no_jobs,
    "sources": jobs.missing_sources,
    "never run": history.never_run,
    "never read": history.never_read,
    "last check": history.unchecked,
    "last rebuild drill": history.never_drilled,
    "last drill": history.last_drill,
    "databases loaded": history.never_loaded,
    "last night": history.unusual,
    "center": history.center_untold,
    "warnings": history.unread_warnings,
    "retention": jobs.no_policy,
    "left out": jobs.precious_left_out,
    "databases": jobs.without_dump,
    "containers": jobs.unread_volumes,
    "full restore": recovery.expected,
    "places": jobs.places_apart,
    "one disk": jobs.one_disk,
}
"""Checks that ask no vault, by what they look at."""

ASKING: Mapping[str, Check] = {
    "credentials": vaults.roles_open,
    "vaults": vaults.vault_there,
    "identities": vaults.known_vaults,
    "vault locks": vaults.vault_locks,
    "bucket settings": vaults.bucket_settings,
    "rights": rights.roles_at_work,
}
"""Checks that ask vaults."""


class Report(Struct, frozen=True):
    """The findings, critical ones first; the checks that ran, and the requests that were sent.

    `notes` say what was tried, or was not; `restores` are estimates of full restores.
    """

    findings: Sequence[Finding]
    looked_at: Sequence[str]
    requests: Sequence[str]
    notes: Sequence[str]
    restores: Sequence[FullRestore]


def examine(
    config: Config,
    clock: Clock,
    *,
    offline: bool = False,
    seconds: float = 20.0,
    keys: Sequence[RecoveryKey] = (),
    fresh: bool = False,
) -> Report:
    """Run all checks; `offline` skips the vaults. Each request has a deadline of so many seconds.

    Rights that worked recently are tried only if `fresh`.
    """
    chosen = _chosen(offline=offline, has_key=bool(keys))
    silent = silent_places(config)
    answering = without(config, silent)
    context = DoctorContext(answering, clock, None, seconds, keys, is_fresh=fresh, silent=silent)
    with suppress(NightvaultError):  # why is a finding of its own
        context.status = read_status(config, clock.now())
    if silent:
        chosen.pop("jobs")  # some were left out
    dead = {vault.path for vault in config.vaults} if context.status else set()  # its concerns name vaults
    found = [table.MOUNT_SILENT.finding(place=what) for path, what in silent.items() if path not in dead]
    for name, check in chosen.items():
        found += _findings(name, check, context)
    context.notes += _of_key(context, offline=offline)
    distinct = list(dict.fromkeys(found))
    distinct.sort(key=lambda finding: finding.level is not Level.CRITICAL)
    return Report(distinct, list(chosen), context.requests, context.notes, context.restores)


def _chosen(*, offline: bool, has_key: bool) -> dict[str, Check]:
    """The checks that are to be made, in their order."""
    chosen = dict(LOCAL)
    if has_key:
        chosen["the key given"] = recovery.opens_header
    if not offline:
        chosen |= ASKING
        if has_key:
            chosen["the newest catalog"] = recovery.opens_catalog
    return chosen


def _of_key(context: DoctorContext, *, offline: bool) -> Iterator[str]:
    """The part of the recovery key that was not tried, in a sentence."""
    if not context.keys:
        yield "the recovery key was not tried: give it with --key FILE, from a stick"
    elif context.status is None:
        yield "the recovery key was not tried, as the inventory cannot be read"
    elif offline:
        yield "the recovery key was tried with the headers of catalogs alone, because of --offline"


def _findings(name: str, check: Check, context: DoctorContext) -> list[Finding]:
    try:
        return list(check(context))
    except NightvaultError as error:
        return [table.CHECK_FAILED.finding(place=name, error=error, advice=error.advice)]
