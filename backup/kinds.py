"""The kinds of runs, each with all that others must know of it, in one table.

A new kind of run is a line here, a class in `backup/operations/`, and its command.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Struct

from backup.inventory.records.runs import Run, RunKind
from backup.reports import Fact


class Kind(Struct, frozen=True):
    """What distinguishes a kind of run: its noun, its types, and what it means that one was not well.

    Classes are named `module:Class`, and imported when they are needed: `reports` are the forms that the
    record of a run has, `operation` does one; a kind without an operation is begun by its command alone.
    """

    noun: str
    harm: str
    reports: tuple[str, ...] = ()
    operation: str = ""


KINDS: Final[Mapping[RunKind, Kind]] = {
    RunKind.BACKUP: Kind(
        "backup",
        "what was to be saved is missing from the vault",
        reports=("backup.catalogs.report:BackupReport", "backup.catalogs.report:RecoveredReport"),
        operation="backup.operations.backup:Backup",
    ),
    RunKind.RESTORE: Kind("restore", "what was to come back is not all there"),
    RunKind.CHECK: Kind(
        "check", "what it could not read or found otherwise may be missing when it is needed"
    ),
    RunKind.FORGET: Kind(
        "forget",
        "old snapshots are kept, and what is stored for them is paid for",
        operation="backup.operations.forget:Forget",
    ),
    RunKind.MARK: Kind("mark", "the mark is not in the vault: a rebuild would not know it"),
    RunKind.PRUNE: Kind(
        "prune",
        "what no snapshot needs stays in the vault, and is paid for; no backup is harmed",
        reports=("backup.pruner.report:PruneReport",),
        operation="backup.operations.prune:Prune",
    ),
    RunKind.COMPACT: Kind(
        "compaction",
        "what little is needed of stays in the vault, and is paid for; no backup is harmed",
        reports=("backup.pruner.compact:CompactReport",),
        operation="backup.operations.compact:Compact",
    ),
    RunKind.REBUILD_DRILL: Kind(
        "rebuild drill", "nobody knows whether this server could be rebuilt from the vault"
    ),
    RunKind.DRILL: Kind("drill", "nobody knows whether a restore would bring everything back"),
}


def recorded_facts(run: Run, currency: str) -> list[Fact]:
    """The facts of a recorded run; none without a report, as where it failed or an older version made it."""
    for name in KINDS[run.kind].reports:
        with suppress(msgspec.ValidationError):
            return list(msgspec.convert(run.report, load(name), strict=False).facts(currency))
    return []


def load(name: str) -> Any:
    """The class that a table names `module:Class`."""
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)
