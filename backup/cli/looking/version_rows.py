"""Versions of entries, as `find` and `versions` show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.inventory.content.entry_versions import Series, Version
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction
    from backup.model import JobName


def version_document(version: Version, known: Sequence[Snapshot]) -> dict[str, Any]:
    """Return a version as JSON, with the first and last snapshot that have it."""
    from backup.cli.render.render import path_document
    from backup.model import EntryKind

    return {
        **path_document(version.path),
        "job": known[0].job,
        "kind": EntryKind(version.kind).name.lower().replace("_", "-"),
        "size": version.size,
        "mode": f"{version.mode:04o}",
        "mtime_ns": version.mtime_ns,
        "first": {"id": known[0].id, "started_at": known[0].started_at},
        "last": {"id": known[-1].id, "started_at": known[-1].started_at},
        "snapshots": len(known),
    }


def numbers_of_jobs(tx: Transaction, series: dict[int, Series[Snapshot]], job: JobName | None) -> list[int]:
    """Return the numbers of all jobs that have snapshots, or of the one called `job`. `UsageError`."""
    from backup.inventory.records.runs import find_job

    if job is None:
        return list(series)
    found = find_job(tx, job)
    if found is None or found.number not in series:
        raise UsageError(
            f"there are no snapshots of a job {job!r}", advice="`nightvault snapshots` lists them"
        )
    return [found.number]
