"""Finds the problems in a status, critical ones first; pure.

Critical: a job is overdue, or its vault is not the one that it is bound to; a check or drill found something
missing or damaged; an archive that kept snapshots need is lost or damaged; the date is over until which a
job restores whatever an intruder does; the certificate or one above it has expired, or will within three days
(a short-lived one: a tenth of its life); the jobs, the runs or lost archives cannot be determined.

A warning: anything else that has a schedule is overdue; the newest backup, forget, prune, compaction, check,
drill or rebuild drill failed or was partial; the certificate expires within 14 days (a fifth of its life),
cannot be read, or is not renewed though two thirds of its life are over or renewals fail for an hour; the
daemon does not run though something has a schedule, or waits for the clock; a date is still to come; a
suspended process holds a lock; a restore does not go on, or lacks something; a directory vault is not there,
does not answer, or is not set up in AWS; less is free on a disk than should be (a quarter of it: critical);
storing costs more than it may; archives that nothing needs wait a month longer than necessary for the keeper;
the last good check of a vault is too old; a channel does not take its messages; a stranger writes of this
server's jobs, or a source has lost nearly everything, and no person has answered; what a locking vault
holds of a job is not locked for as long as it is to be; a bucket's rule does harm, or its lock was switched;
a part of the status cannot be determined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from backup.app.base.certificate_dates import CertificateStatus
from backup.app.machine.renewal_times import SOON, VERY_SOON, certificate_bounds, late_at, patience
from backup.app.status.parts import (
    UNKNOWN,
    Concern,
    DiskStatus,
    JobStatus,
    Level,
    RenewalStatus,
    Status,
    Topic,
)
from backup.app.status.run_concerns import attempts, bad_runs, failed_runs, shown
from backup.kinds import RunKind, TaskKind
from backup.wording import counted, size

OF_DATES = frozenset({"jobs", "dates of jobs", "schedules", "what ended well", "what vaults hold"})
"""The parts of a status without which nobody knows what is overdue."""
_SET_UP = "nightvault setup aws --plan"
_MISSED = timedelta(days=3)  # some renew each day, and a day may be missed


def concerns_of(status: Status) -> list[Concern]:
    """Return all concerns, the critical first."""
    found = [
        *overdue(status),
        *_unknown(status),
        *_wrong_vaults(status),
        *_away(status),
        *_losses(status),
        *failed_runs(status),
        *attempts(status),
        *_certificate(status.certificate, status.now),
        *_renewal(status.renewal, status.certificate, status.now),
        *_clocks(status),
        *_daemon(status),
        *_locks(status),
        *_unlocked(status),
        *_begun_locks(status),
        *_restores(status),
        *_disks(status.disks),
        *_costs(status),
        *_undeleted(status),
        *_checks(status),
        *_undelivered(status),
        *_strangers(status),
        *_shrunk(status),
        *_switched(status),
    ]
    return sorted(found, key=lambda concern: concern.level is not Level.CRITICAL)


def overdue(status: Status) -> Iterator[Concern]:
    """Yield a concern for each overdue job, and for each other overdue task."""
    for job in status.jobs:
        if job.is_overdue and job.overdue_from is not None:
            last = "it was never backed up" if job.last_good is None else f"last good {shown(job.last_good)}"
            text = f"job {job.name} is overdue since {shown(job.overdue_from)}: {last}{_at_it(job, status)}"
            if job.paused_until is not None:
                text += f"; it is paused until {shown(job.paused_until)}"
            yield Concern(Level.CRITICAL, Topic.OVERDUE, text, f"nightvault backup {job.name}", job.name)
    for task in status.scheduled:
        if task.is_overdue and task.overdue_from is not None and task.kind != TaskKind.RENEWAL:
            last = "it never ended well" if task.last_good is None else f"last good {shown(task.last_good)}"
            text = f"{task.text} is overdue since {shown(task.overdue_from)}: {last}"
            if task.paused_until is not None:
                text += f"; it is paused until {shown(task.paused_until)}"
            about = f"{task.kind} {task.name}"
            yield Concern(Level.WARNING, Topic.OVERDUE, text, task.command, about=about)


def _at_it(job: JobStatus, status: Status) -> str:
    """That a backup of the job runs now, as the first one may for days."""
    run = status.backups.get(job.name)
    return "" if run is None else f"; a backup of it runs since {shown(run.started_at)}"


def late_or_unknown(status: Status) -> list[Concern]:
    """Return the concerns about overdue tasks, and about errors that keep that from being known."""
    unknown = [
        concern for concern in status.concerns if concern.topic is Topic.UNKNOWN and concern.about in OF_DATES
    ]
    return [concern for concern in status.concerns if concern.topic is Topic.OVERDUE or concern in unknown]


def _unknown(status: Status) -> Iterator[Concern]:
    """Parts of the status that could not be found out: what they would say is not known to be well."""
    for gap in status.unknown:
        topic = Topic.COST if gap.what == "money" else Topic.UNKNOWN
        command = "nightvault prices" if gap.what == "money" else "nightvault doctor"
        yield Concern(gap.level, topic, f"{gap.what}: not known, because {gap.why}", command, about=gap.what)


def _away(status: Status) -> Iterator[Concern]:
    """Vaults that are not there, or not set up yet, before a run fails by that."""
    told = {status.vault_of(run) for run in bad_runs(status) if "vault" in (run.error or "")}
    for vault in status.vaults:
        if vault.not_set_up:
            yield Concern(Level.WARNING, Topic.VAULT, vault.not_set_up, _SET_UP, about=vault.name)
        if vault.is_silent or (vault.is_away and vault.name not in told):
            how = "does not answer: it hangs." if vault.is_silent else "is not there: is its disk mounted?"
            text = f"vault {vault.name} {how} No backup can be stored in it"
            yield Concern(Level.WARNING, Topic.AWAY, text, "nightvault vaults", about=vault.name)


def _wrong_vaults(status: Status) -> Iterator[Concern]:
    """The jobs of which every backup is refused, before it is a run that could fail."""
    for job in status.jobs:
        if job.bound_to not in {None, job.vault}:
            text = (
                f"job {job.name} is kept in vault {job.bound_to}, and the config says {job.vault}: "
                "no backup of it is made"
            )
            yield Concern(Level.CRITICAL, Topic.VAULT, text, "nightvault config check", job.name)


def _losses(status: Status) -> Iterator[Concern]:
    """Yield concerns about archives that are lost or damaged, until stored again or no longer needed.

    Not if the vault's last check reports it, until the next check is good.
    """
    told = {run.vault for run in status.ended if run.kind is RunKind.CHECK and run.found_damage}
    configured = {vault.name for vault in status.vaults if vault.kind != UNKNOWN}
    for vault, count in status.losses.items():
        if vault in told:
            continue
        are = "is" if count == 1 else "are"
        text = (
            f"{counted(count, 'archive')} of vault {vault} {are} lost or damaged, and kept snapshots need "
            f"what is in {'it' if count == 1 else 'them'}"
        )
        command = f"nightvault check --{f'vault {vault}' if vault in configured else 'inventory'}"
        yield Concern(Level.CRITICAL, Topic.VAULT, text, command, about=f"{vault} archives")


def _certificate(certificate: CertificateStatus | None, now: datetime) -> Iterator[Concern]:
    level = certificate_level(certificate, now)
    if certificate is None:
        return
    if level is not None:
        if certificate.not_after is None or certificate.not_before is None:
            text = f"the certificate cannot be looked at: {certificate.unreadable}"
        elif now < certificate.not_before:
            text = f"the certificate is not valid before {shown(certificate.not_before)}"
        else:
            text = f"the certificate {_ends(certificate.not_after, now)}"
        yield Concern(level, Topic.CERTIFICATE, text, "nightvault identity show")
    above = issuer_level(certificate, now)
    if above is not None and certificate.issuer_ends is not None:
        ends = _ends(certificate.issuer_ends, now)
        text = (
            f"the certificate above this server's, of {certificate.issuer}, {ends}: nobody below it gets in"
        )
        yield Concern(above, Topic.CERTIFICATE, text, "nightvault identity show", about="issuer")


def _ends(end: datetime, now: datetime) -> str:
    return f"{'expired' if end < now else 'expires'} on {shown(end)}"


def issuer_level(certificate: CertificateStatus, now: datetime) -> Level | None:
    """Return the level of concern for the end of an issuer's certificate; None if it is not near."""
    if certificate.issuer_ends is None:
        return None
    left = certificate.issuer_ends - now
    return Level.CRITICAL if left < VERY_SOON else Level.WARNING if left < SOON else None


def _renewal(
    renewal: RenewalStatus | None, certificate: CertificateStatus | None, now: datetime
) -> Iterator[Concern]:
    """That the certificate is not renewed, long before it expires."""
    if renewal is None or certificate is None or certificate.not_before is None:
        return
    start, end = certificate.not_before, certificate.not_after or certificate.not_before
    since, late = renewal.failing_since, late_at(start, end, by_others=renewal.files)
    if since is not None and now - since >= patience(start, end):
        text = f"renewing the certificate {renewal.way} has failed since {shown(since)}: {renewal.error}"
    elif now >= late:
        why = "it wrote no new files" if renewal.files else "nothing tried to: does the daemon run?"
        why = f"it has failed since {shown(since)}: {renewal.error}" if since is not None else why
        text = f"the certificate was to be renewed {renewal.way} by {shown(late)}; {why}"
    else:
        return
    yield Concern(Level.WARNING, Topic.CERTIFICATE, text, "nightvault identity renew", about="renewal")


def certificate_level(certificate: CertificateStatus | None, now: datetime) -> Level | None:
    """Return the level of concern for a certificate; None if there is no certificate, or time enough."""
    if certificate is None:
        return None
    if certificate.not_after is None or certificate.not_before is None:
        return Level.WARNING
    warn, alarm = certificate_bounds(certificate.not_after - certificate.not_before)
    left = certificate.not_after - now
    if left < alarm or now < certificate.not_before:
        return Level.CRITICAL
    return Level.WARNING if left < warn else None


def _clocks(status: Status) -> Iterator[Concern]:
    if status.waits_for_clock:
        text = "the daemon waits for this machine's clock to be set: it shows a time before the newest run"
        yield Concern(Level.WARNING, Topic.CLOCK, text, "timedatectl")
    for job in status.jobs:
        if job.ahead is not None:
            text = (
                f"job {job.name} has a date that is still to come, {shown(job.ahead)}: this machine's clock "
                "was ahead then, or is behind now"
            )
            yield Concern(Level.WARNING, Topic.CLOCK, text, f"nightvault runs --job {job.name}", job.name)


def _daemon(status: Status) -> Iterator[Concern]:
    if status.daemon_runs is False and status.for_daemon:
        text = "the daemon does not run, so no schedule is kept"
        if any(job.has_timer for job in status.jobs):
            those = ", ".join(status.for_daemon.values())
            text = f"the daemon does not run, and no timer is enabled for {those}"
        command = "systemctl status nightvault" if status.has_unit else "nightvault install --systemd"
        yield Concern(Level.WARNING, Topic.DAEMON, text, command)
    if status.unread:
        text = f"the daemon keeps no schedule of {', '.join(status.unread)}: it has not read this config"
        yield Concern(Level.WARNING, Topic.DAEMON, text, "systemctl reload nightvault")
    if status.is_silent and not any(holder.lock == "daemon" for holder in status.suspended):
        text = "the daemon gives no answer on its socket: it hangs, or could not make one (see its log)"
        yield Concern(Level.WARNING, Topic.DAEMON, text, "systemctl status nightvault")


def _locks(status: Status) -> Iterator[Concern]:
    for suspended in status.suspended:
        text = f"process {suspended.process} holds the lock {suspended.lock}, and is suspended"
        yield Concern(Level.WARNING, Topic.LOCK, text, "nightvault unlock")


def _unlocked(status: Status) -> Iterator[Concern]:
    """Jobs of which what is stored is not locked for as long as it is to be."""
    for job in status.jobs:
        if job.lock_for is None or job.last_good is None:
            continue
        date, command = job.locks, f"nightvault object-lock extend --vault {job.vault}"
        level = Level.WARNING
        if date is None:
            text = f"job {job.name}: nobody knows until when it restores whatever an intruder does"
        elif date.until is None:
            text = f"job {job.name}: something that its snapshots need is not locked"
        elif date.until <= status.now:
            text = f"job {job.name}: since {shown(date.until)} an intruder can delete what its snapshots need"
            level = Level.CRITICAL
        elif date.until < status.now + job.lock_for - min(_MISSED, job.lock_for / 4):
            days = job.lock_for.days
            until = f"job {job.name} restores until {shown(date.until)}"
            text = f"{until} whatever an intruder does, which is less than {days} days"
        elif status.now - date.as_of > job.lock_for:
            text = f"job {job.name}: nobody has looked since {shown(date.as_of)} until when it is locked"
        else:
            continue
        yield Concern(level, Topic.PROTECTION, text, command, job.name, about=job.name)


def _begun_locks(status: Status) -> Iterator[Concern]:
    """Locks of Glacier vaults that were begun, and neither completed nor aborted."""
    for vault in status.vaults:
        lock = vault.lock
        if lock is None or lock.locked_at is not None:
            continue
        begun = f"the lock of vault {vault.name} that was begun ({lock.text})"
        command = f"nightvault vault-lock complete --vault {vault.name}"
        if lock.ends_at > status.now:
            left = counted(int((lock.ends_at - status.now).total_seconds() // 3600), "hour")
            text = f"{begun} is gone in {left}, unless it is completed"
        else:
            text, command = f"{begun} was not completed, and is gone", command.replace("complete", "abort")
        yield Concern(Level.WARNING, Topic.PROTECTION, text, command, about=vault.name)


def _restores(status: Status) -> Iterator[Concern]:
    for restore in status.restores:
        if restore.held:
            text = f"restore {restore.id[:8]} does not go on: {restore.held}"
            yield Concern(Level.WARNING, Topic.RESTORE, text, "nightvault restores")
        elif restore.failed:
            text = (
                f"restore {restore.id[:8]}: the vault could not make {restore.failed} of "
                f"{restore.retrievals} readable"
            )
            yield Concern(Level.WARNING, Topic.RESTORE, text, "nightvault restores")


def _disks(disks: Sequence[DiskStatus]) -> Iterator[Concern]:
    for disk in disks:
        if disk.free < disk.least:
            text = (
                f"only {size(disk.free)} free where {disk.what} lies ({disk.path}), less than "
                f"{size(disk.least)}"
            )
            level = Level.CRITICAL if disk.free < disk.least // 4 else Level.WARNING
            yield Concern(level, Topic.DISK, text, f"df -h {disk.path}", about=disk.path)


def _costs(status: Status) -> Iterator[Concern]:
    total = sum((vault.month for vault in status.vaults if vault.month is not None), Decimal(0))
    if status.most_month is not None and total > status.most_month:
        text = (
            f"storing costs {total:.2f} {status.currency} a month, more than the limit of "
            f"{status.most_month:.2f} (monitoring.max_month_cost)"
        )
        yield Concern(Level.WARNING, Topic.COST, text, "nightvault stats")


def _undeleted(status: Status) -> Iterator[Concern]:
    """Condemned archives that nobody deletes; where a source lost nearly everything, nobody may."""
    held = {shrunk.vault for shrunk in status.waits}
    for undeleted in status.undeleted:
        if undeleted.vault not in held:
            many = (
                f"{counted(undeleted.archives, 'archive')} of vault {undeleted.vault}, "
                f"{size(undeleted.bytes)}"
            )
            wait = "waits" if undeleted.archives == 1 else "wait"
            text = f"{many}, {wait} since {shown(undeleted.since)} for the server that deletes"
            command = f"nightvault prune --vault {undeleted.vault} --dry-run"
            yield Concern(Level.WARNING, Topic.COST, text, command, about=undeleted.vault)


def _checks(status: Status) -> Iterator[Concern]:
    """Vaults whose last good check is too old; one that was never checked counts from its first archive."""
    for vault in status.vaults:
        since = vault.checked_at or vault.stored_since
        if status.check_age is None or vault.kind == UNKNOWN or since is None:
            continue
        if status.now - since > status.check_age:
            told = "was never checked" if vault.checked_at is None else f"was last checked {shown(since)}"
            text = f"vault {vault.name} {told}: monitoring.check_age is {status.check_age.days} days"
            command = f"nightvault check --vault {vault.name}"
            yield Concern(Level.WARNING, Topic.CHECK, text, command, about=vault.name)


def _undelivered(status: Status) -> Iterator[Concern]:
    for message in status.undelivered:
        text = (
            f"channel {message.channel}: {counted(message.messages, 'message')} not sent since "
            f"{shown(message.since)}"
        )
        text += f": {message.answer}" if message.answer else ""
        yield Concern(Level.WARNING, Topic.MESSAGES, text, "nightvault notify test", about=message.channel)


def _strangers(status: Status) -> Iterator[Concern]:
    """Others that write of this server's jobs, until a person answers; nothing is deleted meanwhile."""
    for stranger in status.strangers:
        text = (
            f"{stranger.text()}, since {shown(stranger.seen_at)}: nothing is deleted there until somebody "
            "answers"
        )
        command = f"nightvault check --vault {stranger.vault} --accept {stranger.pack}"
        yield Concern(Level.WARNING, Topic.VAULT, text, command, about=f"{stranger.vault} {stranger.pack}")


def _shrunk(status: Status) -> Iterator[Concern]:
    """Sources that lost nearly everything, until a person answers."""
    for wait in status.waits:
        yield Concern(Level.WARNING, Topic.SHRUNK, wait.text(), wait.command, wait.job, about=wait.job)


def _switched(status: Status) -> Iterator[Concern]:
    """Settings of buckets that do harm, and what somebody has switched there."""
    for each in status.settings:
        about = f"{each.vault} {each.told}"
        yield Concern(Level.WARNING, Topic.VAULT, each.text, "nightvault doctor", about=about)
