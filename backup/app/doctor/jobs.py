"""Jobs: what they keep, whether they were ever done, what they leave out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from datetime import timedelta

from backup.app.backups.source_warnings import (
    linked_sources,
    nested_places,
    own_as_sources,
    own_in_sources,
    saved_own,
)
from backup.app.base.filters import filters_of, overrides_of
from backup.app.doctor.finding import DoctorContext, Finding, warning
from backup.app.status.parts import UNKNOWN
from backup.app.tasks.tasks import TaskKind

UNREAD = timedelta(days=180)
"""How long an archive may lie before it is a finding that nothing of it was ever read back."""

UNCHECKED = timedelta(days=90)
"""The greatest age of a vault's last good check where the config has no `check_age`."""

UNDRILLED, NEVER_DRILLED = timedelta(days=400), timedelta(days=90)
"""The greatest age of the last good rebuild drill, or of the first archive if there was none."""

_PRECIOUS = (".ssh", ".gnupg", ".password-store", ".local/share/keyrings", ".mozilla", ".thunderbird")


def no_jobs(context: DoctorContext) -> Iterator[Finding]:
    """A config without a job."""
    if not context.config.jobs:
        yield warning(
            "jobs", "the config has no job", "nothing is backed up", f"add [[job]] to {context.config.path}"
        )


def no_policy(context: DoctorContext) -> Iterator[Finding]:
    """Jobs that keep all of their snapshots for ever."""
    for job in context.config.jobs:
        if job.policy is None:
            yield warning(
                "retention",
                f"job {job.name} has no policy: each of its snapshots is kept for ever",
                "the vault only grows, and so does its price",
                f"add [job.retention] to the job in {context.config.path}",
            )


def never_run(context: DoctorContext) -> Iterator[Finding]:
    """Jobs without a backup that are not overdue either, as they have no schedule or are new."""
    for job in context.status.jobs if context.status else ():
        if job.last_good is None and not job.is_overdue:
            why = "there is nothing yet to restore its files from"
            yield warning(
                "never-run", f"job {job.name} was never backed up", why, f"nightvault backup {job.name}"
            )


def never_read(context: DoctorContext) -> Iterator[Finding]:
    """Vaults with old archives that no check has read anything of."""
    for vault in context.status.vaults if context.status else ():
        since = vault.unverified_since
        if since is not None and context.now - since > UNREAD:
            yield warning(
                "never-read",
                f"vault {vault.name}: nothing was ever read back of what was stored by {since:%Y-%m-%d}",
                "that an archive is listed does not prove that it can be opened",
                f"nightvault check --vault {vault.name} --read-data 1%",
            )


def unchecked(context: DoctorContext) -> Iterator[Finding]:
    """Vaults without a good check for long; where the config says how long, or when, the status tells it."""
    if context.status is None or context.config.monitoring.check_age is not None:
        return
    scheduled = {task.name for task in context.status.scheduled if task.kind == TaskKind.CHECK}
    for vault in context.status.vaults:
        since = vault.checked_at or vault.stored_since
        if (
            vault.kind == UNKNOWN
            or vault.name in scheduled
            or since is None
            or context.now - since <= UNCHECKED
        ):
            continue
        told = "never checked" if vault.checked_at is None else f"last checked on {since:%Y-%m-%d}"
        yield warning(
            "unchecked",
            f"vault {vault.name} was {told}",
            "nobody knows whether the archives are still there",
            f"nightvault check --vault {vault.name}",
        )


def never_drilled(context: DoctorContext) -> Iterator[Finding]:
    """Vaults from which nobody has proven for long that the server could be rebuilt."""
    for vault in context.status.vaults if context.status else ():
        last, since = vault.rebuild_drilled_at, vault.stored_since
        if vault.kind == UNKNOWN or since is None:
            continue
        if last is None and context.now - since > NEVER_DRILLED:
            told = "nobody ever tried whether this server could be rebuilt from it"
        elif last is not None and context.now - last > UNDRILLED:
            told = f"whether this server could be rebuilt from it was last tried on {last:%Y-%m-%d}"
        else:
            continue
        yield warning(
            "rebuild-drill",
            f"vault {vault.name}: {told}",
            "it needs the recovery key, the vault's list and all catalogs: each may be missing unnoticed",
            f"nightvault rebuild --dry-run --vault {vault.name} --key FILE",
        )


def missing_sources(context: DoctorContext) -> Iterator[Finding]:
    """Sources that are not there, are symlinks, or hold what nightvault itself uses."""
    for job in context.config.jobs:
        for text in own_in_sources(context.config, job, saved_own(context.config, job)):
            yield warning(
                "source",
                text,
                "what a run stores is stored again by the next one",
                f"set exclude_own in {context.config.path}",
            )
        for text in own_as_sources(context.config, job):
            yield warning(
                "source",
                text,
                "the vault grows by it each night, and nothing of it helps after a loss",
                f"change sources in {context.config.path}",
            )
        for text in linked_sources(job):
            yield warning(
                "source",
                text,
                "whoever moved the data, and left a symlink, has no backup of it from then on",
                f"change sources in {context.config.path}",
            )
        for path in job.paths:
            if not os.path.lexists(path):
                yield warning(
                    "source",
                    f"job {job.name}: the source {path} does not exist",
                    "it may have been renamed, or its disk is not mounted: it is not backed up",
                    f"change sources in {context.config.path}, or mount it",
                )


def places_apart(context: DoctorContext) -> Iterator[Finding]:
    """The state directory and vaults of which one lies in another."""
    for text in nested_places(context.config):
        yield warning(
            "places",
            text,
            "a vault is all that is left when the state is lost, or another vault",
            f"change the paths in {context.config.path}",
        )


def one_disk(context: DoctorContext) -> Iterator[Finding]:
    """Vaults that lie on one file system with their sources: a note, as another vault may be elsewhere."""
    for vault in context.config.vaults:
        device = None if vault.path is None else device_of(vault.path)
        if device is None:
            continue
        sources = [path for job in context.config.jobs if job.vault == vault.name for path in job.paths]
        beside = [path for path in dict.fromkeys(sources) if device_of(path) == device]
        if not beside:
            continue
        shown = f"the source {beside[0]}" if len(beside) == 1 else f"{len(beside)} sources ({beside[0]}, …)"
        state = " and the state directory" if device_of(context.config.state_dir) == device else ""
        context.notes.append(
            f"vault {vault.name} lies on one file system with {shown}{state}: a disk that fails takes all of "
            "it. Keep a vault elsewhere, too"
        )
    yield from ()


def device_of(path: str) -> int | None:
    """The file system that a path lies on; None if it is not there."""
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def precious_left_out(context: DoctorContext) -> Iterator[Finding]:
    """Things in homes that nobody wants to lose, and that a filter leaves out."""
    for job in context.config.jobs:
        filters, overrides = filters_of(job), overrides_of(job)
        for source in job.paths:
            filtered = overrides.get(os.fsencode(source), filters)
            for path in _precious_below(source, context.silent):
                directory, name = os.path.split(os.fsencode(path))
                if left_out := filtered.leaving_out(directory, name, os.lstat(path)):
                    yield warning(
                        "left-out",
                        f"job {job.name} leaves out {path}: {left_out.detail}",
                        "keys, passwords and mail are seldom anywhere else",
                        f"change exclude in {context.config.path}, if it should be saved",
                    )


def _precious_below(source: str, silent: Collection[str]) -> Iterator[str]:
    """The precious things in the homes that a source holds: root's, and those in /home."""

    def has(folder: str) -> bool:
        is_held = folder == source or folder.startswith(f"{source.rstrip('/')}/")
        return is_held and folder not in silent

    homes = [os.path.join("/home", name) for name in _directories("/home")] if has("/home") else []
    for home in ("/root", *homes, source):
        for name in _PRECIOUS if has(home) else ():
            path = os.path.join(home, name)
            if os.path.lexists(path):
                yield path


def _directories(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
