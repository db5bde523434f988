"""Looks at what a backup left in the inventory, and at what its snapshots restore to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from backup.inventory.content import entries
from backup.inventory.store import schema
from backup.model import Problem, ProblemKind
from tests.support.backups import Site

ROWS = (schema.entries, schema.hints, schema.directories, schema.owners, schema.chunks)


def counts(site: Site) -> dict[str, int]:
    """Rows of every table that a file could add to."""
    with site.inventory.reading() as tx:
        return {
            table.name: tx.connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0]
            for table in ROWS
        }


def below(site: Site, snapshot: str = "latest") -> set[bytes]:
    """Paths of a snapshot's entries below the first source, relative to it."""
    top = site.job.sources[0]
    found = site.snapshot(snapshot)
    with site.inventory.reading() as tx:
        rows = entries.entries_below(tx, found.job_number, top, found.number)
        return {os.path.relpath(path + b"/" + row.name, top) for path, row in rows}


def kinds(problems: Sequence[Problem]) -> dict[bytes, ProblemKind]:
    """Problems by the last step of their path."""
    return {os.path.basename(problem.path): problem.kind for problem in problems}


def ages(path: Path) -> None:
    """Give a path a time of long ago."""
    os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)


def restored(site: Site, source: Path, snapshot: str = "latest") -> Path:
    """The first source of a snapshot, restored beside it."""
    target = source.parent / f"restored {len(os.listdir(source.parent))}"
    site.restore(snapshot, target)
    return target
