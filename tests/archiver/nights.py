"""Some nights of changes, and what their catalogs tell compared with what the inventory has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from backup.inventory.content import archives, packed
from backup.inventory.records import runs
from backup.inventory.store.database import Inventory
from backup.inventory.store.driver import raw_rows
from tests.archiver.reader import OpenedCatalog, Rebuilt
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, PowerCut, cut_at


def live_through_a_week(site: Site, source: Path) -> None:
    """Seven nights of changes, one of them without any, one cut short."""
    (source / "kept").write_bytes(os.urandom(300_000))
    (source / "sub").mkdir()
    site.backup()
    for night in range(1, 6):
        (source / "sub" / f"night {night}").write_bytes(os.urandom(2000))
        if night > 1:
            (source / "sub" / f"night {night - 1}").unlink()
        if night == 3:
            cut = FaultyVault(site.vault, cut_at(1))
            with pytest.raises(PowerCut):
                site.reopen(cut).backup()
        site.backup()
    shutil.rmtree(source / "sub")
    (source / "sub").write_text("a file now")
    site.backup()
    site.backup()


def of_inventory(inventory: Inventory, job: int) -> Rebuilt:
    """The same tables from the inventory."""
    found = Rebuilt()
    with inventory.reading() as tx:
        paths = dict(raw_rows(tx, "SELECT number, path FROM directories WHERE job = ?", (job,)))
        used = {directory for (directory,) in raw_rows(tx, "SELECT directory FROM entries", ())}
        found.directories = {number: path for number, path in paths.items() if number in used}
        for row in raw_rows(tx, "SELECT * FROM entries", ()):
            if row[1] in found.directories:
                values = list(row)[1:]
                values[9] = values[9] or b""
                found.entries[row[0]] = tuple(values)
        found.owners = {row[0]: tuple(row[1:]) for row in raw_rows(tx, "SELECT * FROM owners", ())}
        named = archives.named_archives(tx, job)
        found.frames = {number: packed.frame_rows(tx, number) for number in named}
        found.chunks = {
            chunk: (number, row)
            for number in named
            for chunk, row in zip(*packed.chunks_of(tx, number), strict=True)
        }
        found.snapshot_ids = dict(raw_rows(tx, "SELECT number, id FROM snapshots WHERE job = ?", (job,)))
    return found


def assert_equal(rebuilt: Rebuilt, kept: Rebuilt) -> None:
    """Catalogs and inventory tell the same."""
    assert rebuilt.entries == kept.entries
    assert rebuilt.owners.items() >= kept.owners.items()
    assert rebuilt.directories.items() >= kept.directories.items()
    assert rebuilt.frames == kept.frames
    assert rebuilt.chunks == kept.chunks
    assert rebuilt.snapshot_ids == kept.snapshot_ids


def deltas(found: list[OpenedCatalog]) -> list[OpenedCatalog]:
    return [catalog for catalog in found if catalog.is_delta]


def job_number(site: Site) -> int:
    with site.inventory.reading() as tx:
        job = runs.find_job(tx, site.job.name)
    assert job is not None
    return job.number
