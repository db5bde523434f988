"""What `status` tells of anyway, with the reason why it matters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backup.app.doctor.finding import DoctorContext, Finding
from backup.app.status.parts import Topic
from backup.inventory.records.runs import RunKind

WHY: Mapping[Topic, str] = {
    Topic.OVERDUE: "what has changed since the last good backup is nowhere else",
    Topic.RUN: "what it was to do is not done",
    Topic.CLOCK: "schedules, retention and AWS's signatures go by the clock",
    Topic.DAEMON: "nothing begins backups, prunes and checks",
    Topic.CERTIFICATE: "without a valid certificate AWS gives no credentials, and no backup is stored",
    Topic.LOCK: "no backup can begin while the lock is held",
    Topic.RESTORE: "what was retrieved expires, and is paid for again",
    Topic.DISK: "a backup that finds no space fails",
    Topic.COST: "more is stored than was meant to be paid for",
    Topic.CHECK: "nobody knows whether the archives are still there and whole",
    Topic.VAULT: "what has changed since the last good backup is nowhere else",
    Topic.SHRUNK: "a disk may be away, or somebody deleted what is needed; old snapshots pile up meanwhile",
    Topic.AWAY: "no backup can be stored in it, and nothing be restored from it",
    Topic.UNKNOWN: "what cannot be looked at is not known to be well",
    Topic.MESSAGES: "nobody is told when a backup fails",
}

OF_RUNS: Mapping[RunKind, str] = {
    RunKind.BACKUP: "what was to be saved is missing from the vault",
    RunKind.RESTORE: "what was to come back is not all there",
    RunKind.CHECK: "what it could not read or found otherwise may be missing when it is needed",
    RunKind.FORGET: "old snapshots are kept, and what is stored for them is paid for",
    RunKind.MARK: "the mark is not in the vault: a rebuild would not know it",
    RunKind.PRUNE: "what no snapshot needs stays in the vault, and is paid for; no backup is harmed",
    RunKind.COMPACT: "what little is needed of stays in the vault, and is paid for; no backup is harmed",
    RunKind.REBUILD_DRILL: "nobody knows whether this server could be rebuilt from the vault",
    RunKind.DRILL: "nobody knows whether a restore would bring everything back",
}
"""Why it matters that a run of that kind was not well."""


def concerns(context: DoctorContext) -> Iterator[Finding]:
    """Each concern of the status."""
    for one in context.status.concerns if context.status else ():
        command = one.command or "nightvault status"
        why = WHY[one.topic] if one.kind is None else OF_RUNS[one.kind]
        yield Finding(str(one.topic), one.level, one.text, why, command)
