"""The kinds of runs, each with all that others must know of it, in one table.

A new kind of run is a line here, a class in `backup/operations/`, and its command.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from backup.inventory.records.runs import Run, RunKind
from backup.reports import Report


class Kind(Struct, frozen=True):
    """What distinguishes a kind of run: its noun, its types, and what it means that one was not well.

    `report` and `operation` are `module:Class`, imported when they are needed; a kind without an operation is
    begun by nobody but its command.
    """

    noun: str
    harm: str
    report: str = ""
    operation: str = ""


KINDS: Final[Mapping[RunKind, Kind]] = {
    RunKind.BACKUP: Kind("backup", "what was to be saved is missing from the vault"),
    RunKind.RESTORE: Kind("restore", "what was to come back is not all there"),
    RunKind.CHECK: Kind(
        "check", "what it could not read or found otherwise may be missing when it is needed"
    ),
    RunKind.FORGET: Kind("forget", "old snapshots are kept, and what is stored for them is paid for"),
    RunKind.MARK: Kind("mark", "the mark is not in the vault: a rebuild would not know it"),
    RunKind.PRUNE: Kind(
        "prune",
        "what no snapshot needs stays in the vault, and is paid for; no backup is harmed",
        report="backup.pruner.report:PruneReport",
        operation="backup.operations.prune:Prune",
    ),
    RunKind.COMPACT: Kind(
        "compaction",
        "what little is needed of stays in the vault, and is paid for; no backup is harmed",
        report="backup.pruner.compact:CompactReport",
        operation="backup.operations.compact:Compact",
    ),
    RunKind.REBUILD_DRILL: Kind(
        "rebuild drill", "nobody knows whether this server could be rebuilt from the vault"
    ),
    RunKind.DRILL: Kind("drill", "nobody knows whether a restore would bring everything back"),
}


def report_of(run: Run) -> Report | None:
    """The report of a recorded run; None if it has none, as where it failed or an older version made it."""
    name = KINDS[run.kind].report
    if not name:
        return None
    try:
        report: Report = msgspec.convert(run.report, load(name), strict=False)
    except msgspec.ValidationError:
        return None
    return report


def load(name: str) -> Any:
    """The class that a table names `module:Class`."""
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)
