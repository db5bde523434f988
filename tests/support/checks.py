"""Checks of a site, and the ways in which a vault loses things."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from backup.catalogs.run_setup import successors
from backup.checker.check import compare_with_vault
from backup.checker.context import CheckContext
from backup.checker.report import CheckReport
from backup.format.keys import RecoveryKey
from backup.inventory.questions.proofs import Proof, proofs
from backup.model import MIB
from backup.protocols import Vault
from tests.support.backups import Site


def check_world(
    site: Site, *, keys: Sequence[RecoveryKey] = (), vault: Vault | None = None, seed: int = 1, **more: Any
) -> CheckContext:
    """Where the site's checks touch the world."""
    options: dict[str, Any] = {"slice_size": MIB, "successors": successors(site.keys)}
    return CheckContext(
        inventory=site.inventory,
        vault=vault or site.vault,
        clock=site.clock,
        progress=site.progress,
        secret=site.keys.secret,
        keys=keys,
        askers=1,
        chance=random.Random(seed),
        **(options | more),
    )


def check(site: Site, *, vault: Vault | None = None) -> CheckReport:
    """The site's inventory against its vault's list, waiting as needed."""
    world = check_world(site, vault=vault)
    report = compare_with_vault(world)
    while report.state == "waiting":
        site.wait()
        report = compare_with_vault(world)
    return report


def kinds(report: CheckReport) -> dict[str, int]:
    """How many findings of each kind."""
    found: dict[str, int] = {}
    for finding in report.findings:
        found[finding.kind] = found.get(finding.kind, 0) + 1
    return found


def proof_of(site: Site) -> Proof:
    """What was ever proven of all that the site stores."""
    with site.inventory.reading() as tx:
        return sum(proofs(tx, site.clock.now()).values(), Proof())


def query(site: Site, text: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of the inventory, read behind its back."""
    with sqlite3.connect(site.folder / "inventory.sqlite") as database:
        rows = database.execute(text, values).fetchall()
    database.close()
    return rows


def archive_ids(site: Site, where: str = "kind = 1 AND state = 'stored'") -> list[str]:
    """Archive ids by number: of data by default."""
    return [row[0] for row in query(site, f"SELECT archive_id FROM archives WHERE {where} ORDER BY number")]


def state_of(site: Site, archive_id: str) -> str:
    """What the inventory says of an archive."""
    ((state,),) = query(site, "SELECT state FROM archives WHERE archive_id = ?", archive_id)
    return str(state)


def needing(site: Site, ids: Collection[str], *, live: bool = False) -> set[bytes]:
    """Names of the files that need chunks of these archives, by the rows themselves."""
    return {name for name, _, ends in versions(site, ids) if not live or ends is None}


def versions(site: Site, ids: Collection[str]) -> list[tuple[bytes, int, int | None]]:
    """Name, beginning and end of each version that needs chunks of these archives."""
    marks = ",".join("?" * len(ids))
    within = f"SELECT number FROM archives WHERE archive_id IN ({marks})"
    numbers = {row[0] for row in query(site, f"SELECT number FROM chunks WHERE archive IN ({within})", *ids)}
    rows = query(site, "SELECT name, added_in, removed_in, chunks FROM entries WHERE chunks IS NOT NULL")
    found = [row for row in rows if numbers & set(memoryview(row[3]).cast("I"))]
    return [(name, begins, ends) for name, begins, ends, _ in found]


def archive_file(vault: Path, archive_id: str) -> Path:
    """The file of an archive in a directory vault."""
    (found,) = [path for path in vault.rglob(f"*{archive_id}*") if path.suffix != ".json"]
    return found


def corrupt(path: Path, offset: int, length: int = 1) -> None:
    """Turn bytes over, in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        bad = bytes(255 - byte for byte in file.read(length))
        file.seek(offset)
        file.write(bad)
