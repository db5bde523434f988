"""Nights that are copied into another vault, and what comes back from there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from msgspec.structs import asdict, replace

from backup.copier.context import CopyChoice, CopyContext
from backup.copier.copy import copy
from backup.copier.report import CopyReport
from backup.protocols import Vault
from backup.rebuilder.context import CatalogRun, Wish
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT, no_limit
from tests.support.rebuilds import Bare
from tests.support.trees import Seen, snapshot_of


def context_of(site: Site, to: Vault, *, with_key: bool = False) -> CopyContext:
    """The context of a copy; `with_key`: of one that may read what is there."""
    return CopyContext(
        **asdict(replace(site.world, vault=to)),
        source=site.vault,
        keys=site.keys,
        sending=site.job.sending,
        folder=str(site.folder / "copies" / to.name),
        limit_on=lambda _count, _size: NO_LIMIT,
        reading=reading_of(site, to) if with_key else None,
    )


def reading_of(site: Site, to: Vault) -> CatalogRun:
    """What reads the catalogs of a vault with the recovery key."""
    world = site.world
    return CatalogRun(
        clock=world.clock,
        progress=world.progress,
        vault=to,
        recovery_keys=[site.key, *site.more_keys],
        limit_on=no_limit,
    )


def copies(site: Site, to: Vault, choice: CopyChoice | None = None, *, with_key: bool = False) -> CopyReport:
    return copy(context_of(site, to, with_key=with_key), site.job.name, choice or CopyChoice())


def nights(site: Site, source: Path, count: int, first: int = 0) -> list[dict[bytes, Seen]]:
    """So many backups, each of other files; what each saw."""
    seen = []
    for night in range(first, first + count):
        (source / f"new-{night}").write_bytes(os.urandom(1_500_000))
        (source / "changed").write_bytes(os.urandom(70_000) + bytes([night]))
        if night:
            (source / f"new-{night - 1}").unlink(missing_ok=True)
        site.backup()
        seen.append(dict(snapshot_of(source)))
    return seen


def brought_back(site: Site, to: Vault, tmp_path: Path, name: str) -> list[dict[bytes, Seen]]:
    """What a rebuild from that vault alone gives of each snapshot, oldest first."""
    machine = Bare(tmp_path / name, to, site)
    machine.rebuild(Wish(inventory=site.inventory.id.hex()), wait=site.wait)
    there = machine.site()
    found: list[dict[bytes, Seen]] = []
    for snapshot in there.snapshots():
        target = tmp_path / f"{name}-{snapshot.number}"
        there.restore(snapshot.id, target)
        found.append(dict(snapshot_of(target)))
        shutil.rmtree(target)
    there.close()
    return found
