"""The kinds of runs and of tasks, each with all that others must know of it, in one table.

A new kind of run is a line here, a class in `backup/operations/`, and its command.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct


class RunKind(StrEnum):
    """The kind of a run; part of the JSON interface."""

    BACKUP = "backup"
    RESTORE = "restore"
    CHECK = "check"
    FORGET = "forget"
    MARK = "mark"
    PRUNE = "prune"
    COMPACT = "compact"
    REBUILD_DRILL = "rebuild-drill"
    DRILL = "drill"
    COPY = "copy"
    EXTEND = "extend"


class TaskKind(StrEnum):
    """The kinds of tasks, in the order in which those due at the same time run."""

    BACKUP = "backup"
    FORGET = "forget"
    COMPACT = "compact"
    PRUNE = "prune"
    CHECK = "check"
    DRILL = "drill"
    COPY = "copy"
    EXTEND = "extend"
    RESTORES = "restores"
    RENEWAL = "renewal"


class Outcome(StrEnum):
    """The outcome of a run; part of the JSON interface."""

    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


def parts_of_name(name: str) -> list[str]:
    """The parts of a task's name: a job, vault or drill; of a copy the job, and the vault it goes into."""
    return name.split("@")


class TaskTraits(Struct, frozen=True):
    """How a task is named and done by hand, and what it takes.

    `text` names it, and `command` runs it by hand, with the parts of its name as {}: a copy's, "main@cold",
    has a job and a vault. An attempt was good if its outcome is
    one of `good`. `of_job`, `of_vault`: what its name is; that of a vault has its schedule in the vault's
    setting of the kind's name.
    """

    text: str
    command: str
    of_job: bool = False
    of_vault: bool = False
    good: tuple[Outcome, ...] = (Outcome.DONE, Outcome.PARTIAL)
    stores_catalogs: bool = False

    def text_of(self, name: str) -> str:
        """The task of that name in words."""
        return self.text.format(*parts_of_name(name))

    def command_of(self, name: str) -> str:
        """The command that does it by hand."""
        return self.command.format(*parts_of_name(name))


class Kind(Struct, frozen=True):
    """A kind of run: its noun, and why it matters that one was not well.

    Classes are named `module:Class`, and imported when they are needed: `reports` are the forms that the
    record of a run has, `operation` does one; a kind without an operation is begun by its command alone.
    `task`: that which the daemon does by a schedule. `again`: the command to give after one that was not
    well, with its vault as {}; without it `nightvault runs` tells more.
    """

    noun: str
    harm: str
    again: str = ""
    reports: tuple[str, ...] = ()
    operation: str = ""
    task: TaskTraits | None = None


KINDS: Final[Mapping[RunKind, Kind]] = {
    RunKind.BACKUP: Kind(
        "backup",
        "what was to be saved is missing from the vault",
        reports=("backup.catalogs.report:BackupReport", "backup.catalogs.report:RecoveredReport"),
        operation="backup.operations.backup:Backup",
        task=TaskTraits("job {}", "nightvault backup {}", of_job=True, stores_catalogs=True),
    ),
    RunKind.RESTORE: Kind(
        "restore",
        "what was to come back is not all there",
        reports=("backup.restorer.report:RestoreReport",),
    ),
    RunKind.CHECK: Kind(
        "check",
        "what it could not read or found otherwise may be missing when it is needed",
        "nightvault check --vault {}",
        reports=("backup.checker.report:CheckSummary",),
        operation="backup.operations.check:Check",
        task=TaskTraits(
            "check of vault {}", "nightvault check --vault {}", of_vault=True, good=(Outcome.DONE,)
        ),
    ),
    RunKind.FORGET: Kind(
        "forget",
        "old snapshots are kept, and what is stored for them is paid for",
        operation="backup.operations.forget:Forget",
        task=TaskTraits("forget of job {}", "nightvault forget {}", of_job=True, stores_catalogs=True),
    ),
    RunKind.MARK: Kind("mark", "the mark is not in the vault: a rebuild would not know it"),
    RunKind.PRUNE: Kind(
        "prune",
        "what no snapshot needs stays in the vault, and is paid for; no backup is harmed",
        "nightvault prune --vault {}",
        reports=("backup.pruner.report:PruneReport",),
        operation="backup.operations.prune:Prune",
        task=TaskTraits(
            "prune of vault {}", "nightvault prune --vault {}", of_vault=True, stores_catalogs=True
        ),
    ),
    RunKind.COMPACT: Kind(
        "compaction",
        "what little is needed of stays in the vault, and is paid for; no backup is harmed",
        "nightvault compact --vault {}",
        reports=("backup.pruner.compact:CompactReport",),
        operation="backup.operations.compact:Compact",
        task=TaskTraits(
            "compaction of vault {}", "nightvault compact --vault {}", of_vault=True, stores_catalogs=True
        ),
    ),
    RunKind.REBUILD_DRILL: Kind(
        "rebuild drill",
        "nobody knows whether this server could be rebuilt from the vault",
        "nightvault rebuild --dry-run --vault {} --key FILE",
    ),
    RunKind.DRILL: Kind(
        "drill",
        "nobody knows whether a restore would bring everything back",
        "nightvault drills",
        reports=("backup.driller.report:DrillSummary",),
        operation="backup.operations.drill:Drill",
        task=TaskTraits("drill {}", "nightvault drill run {}", good=(Outcome.DONE,)),
    ),
    RunKind.COPY: Kind(
        "copy",
        "what it was to copy lies in one vault alone",
        reports=("backup.copier.report:CopyReport",),
        operation="backup.operations.copy:Copy",
        task=TaskTraits(
            "copy of job {} to vault {}",
            "nightvault copy --job {} --to {}",
            of_job=True,
            good=(Outcome.DONE,),
        ),
    ),
    RunKind.EXTEND: Kind(
        "renewal of locks",
        "locks run out, and whoever takes the server over then may delete what they protect",
        "nightvault object-lock extend --vault {}",
        reports=("backup.locker.report:ExtendReport",),
        operation="backup.operations.extend:Extend",
        task=TaskTraits(
            "renewal of locks of vault {}",
            "nightvault object-lock extend --vault {}",
            of_vault=True,
            good=(Outcome.DONE,),
        ),
    ),
}


TASKS: Final[Mapping[TaskKind, TaskTraits]] = {
    TaskKind(kind): line.task for kind, line in KINDS.items() if line.task is not None
} | {
    TaskKind.RESTORES: TaskTraits("{}", "nightvault restores"),
    TaskKind.RENEWAL: TaskTraits("{}", "nightvault identity renew"),
}
"""All kinds of tasks; the last two only look whether something is to be done, and record no run."""


def run_of(task: TaskKind) -> RunKind | None:
    """The kind of run that a task's attempt records; None if it records none."""
    return RunKind(task.value) if task.value in set(RunKind) else None


def run_title(kind: RunKind, job: str | None, vault: str | None, *, reads_back: bool = False) -> str:
    """A run in words: "backup of job main", "prune of vault cold", "reading back vault cold"."""
    if reads_back:
        return f"reading back vault {vault}"
    noun = KINDS[kind].noun
    if kind is RunKind.COPY and job and vault:
        return f"{noun} of job {job} to vault {vault}"
    return f"{noun} of job {job}" if job else f"{noun} of vault {vault}" if vault else noun


def command_after(kind: RunKind, job: str | None, vault: str | None, *, reads_back: bool = False) -> str:
    """The command to give after a run that was not well."""
    again = KINDS[kind].again
    if again and (vault or "{}" not in again):
        return again.format(vault) + (" --read-data 1%" if reads_back else "")  # any amount shows it
    if kind is RunKind.CHECK:
        return "nightvault check --inventory"
    return f"nightvault runs --job {job}" if job else "nightvault runs"


def name_of_task(kind: RunKind, job: str | None, vault: str | None, drill: str | None = None) -> str | None:
    """The name of the task that does what such a run did: a job, drill or vault; of a copy job and vault."""
    if kind is RunKind.COPY:
        return f"{job}@{vault}"
    return job or drill or vault


def load(name: str) -> Any:
    """The class that a table names `module:Class`."""
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)
