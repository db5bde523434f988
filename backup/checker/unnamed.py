"""Jobs whose catalogs do not name where another job stored anew what they need: the vault alone lacks it."""

from __future__ import annotations

from collections.abc import Iterator

from backup.checker.report import Finding
from backup.inventory.content import archives
from backup.inventory.content.lost import replacements, spoiled_archives
from backup.inventory.records import runs
from backup.inventory.store.connections import Transaction
from backup.model import VaultName


def find_unnamed(tx: Transaction, vault: VaultName) -> Iterator[Finding]:
    """A finding for each such job of the vault. Cheap as long as nothing is lost or damaged."""
    if not spoiled_archives(tx, vault):
        return
    for job in runs.list_jobs(tx, vault):
        unnamed = replacements(tx, archives.named_archives(tx, job.number, also_spoiled=True))
        if unnamed:
            count = f"{len(unnamed)} archive{'s' * (len(unnamed) > 1)}"
            detail = (
                f"what it may need was lost and is stored again in {count} that its catalogs do not name:"
                " its next backup names them"
            )
            yield Finding("unnamed", job.name, detail)
