"""Numbers that a rebuilt inventory gave to others before it read the copies: nothing is lost by them."""

from __future__ import annotations

import os
from pathlib import Path

from backup.copier.context import CopyChoice
from backup.inventory.store.driver import raw_rows
from backup.kinds import Outcome
from backup.model import InventoryId, VaultName
from backup.protocols import Vault
from backup.rebuilder.context import Wish
from backup.vault.directory import DirectoryVault
from tests.copier.support import copies, nights
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.rebuilds import Bare
from tests.support.trees import snapshot_of


def heir_of(site: Site, tmp_path: Path, name: str) -> Site:
    """The server after its state was lost, and its inventory rebuilt from its own vault."""
    machine = Bare(tmp_path / name, site.vault, site)
    machine.new_id = InventoryId(name.encode().ljust(16, b".")[:16])
    machine.rebuild(Wish(inventory=site.inventory.id.hex()))
    return machine.site()


def with_another(site: Site, tmp_path: Path) -> tuple[Site, Path]:
    """Another job of the server, and what it saves."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").write_bytes(os.urandom(50_000))
    return site.with_job(name="other", sources=[theirs]), theirs


def require_back(site: Site, vault: Vault, trees: dict[str, Path], tmp_path: Path) -> None:
    """The newest snapshot of each job comes back from a rebuild of that vault alone."""
    machine = Bare(tmp_path / f"bare of {vault.name}", vault, site)
    report = machine.rebuild(Wish(inventory=site.inventory.id.hex()))
    assert not report.suspicions
    built = machine.site()
    for name, tree in trees.items():
        target = tmp_path / f"back of {name}"
        job = built.with_job(name=name, sources=[tree])
        assert job.restore("latest", target).outcome is Outcome.DONE
        assert dict(snapshot_of(target)) == dict(snapshot_of(tree))
    built.close()


def domains(site: Site, vault: Vault) -> list[int]:
    """The numbers of a vault's domains."""
    sql = "SELECT d.number FROM domains d JOIN vaults v ON v.number = d.vault WHERE v.name = ?"
    with site.inventory.reading() as tx:
        return [number for (number,) in raw_rows(tx, sql, (vault.name,))]


def test_of_a_domain(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    """The number of the copies' domain went to a third vault; one job has nothing new to be copied."""
    other, theirs = with_another(site, tmp_path)
    nights(site, source, 1)
    other.backup()
    copies(site, second)
    copies(other, second)
    before = domains(site, second)
    heir = heir_of(site, tmp_path, "heir")
    nights(heir, source, 1, first=1)
    third = DirectoryVault(VaultName("third"), str(tmp_path / "third"), clock)
    third.create()
    assert len(copies(heir, third).snapshots) == 2
    assert domains(heir, third) == before, "no number was given twice"
    assert len(copies(heir, second, with_key=True).snapshots) == 1
    assert domains(heir, second) != before
    require_back(heir, second, {"job": source, "other": theirs}, tmp_path)


def test_of_a_catalog(site: Site, source: Path, second: DirectoryVault, tmp_path: Path) -> None:
    """The machine in between had copied a job that it never backed up; at home nothing tells of that."""
    other, theirs = with_another(site, tmp_path)
    nights(site, source, 1)
    copies(site, second)
    nights(site, source, 2, first=1)
    other.backup()
    between = heir_of(site, tmp_path, "between")
    between.with_job(name="other", sources=[theirs]).backup()
    for night in between.snapshots()[1:]:
        choice = CopyChoice(snapshot=night.id)
        assert copies(between, second, choice, with_key=True).snapshots == (night.id,)
    heir = heir_of(between, tmp_path, "heir")
    nights(heir, source, 2, first=3)
    assert len(copies(heir, second, with_key=True).snapshots) == 2
    assert len(copies(heir.with_job(name="other", sources=[theirs]), second).snapshots) == 2
    require_back(heir, second, {"job": source, "other": theirs}, tmp_path)
