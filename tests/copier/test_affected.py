"""A check names the files that need what a copy lost, and the vault that still has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.checker.report import Affected, CheckReport
from backup.format.records import ForgottenRecord, RetiredRecord
from backup.inventory.content import archives, copied
from backup.inventory.store.times import micros
from backup.kinds import Outcome, RunKind
from backup.protocols import Vault
from backup.vault.directory import DirectoryVault
from tests.copier.support import copies, nights
from tests.support.backups import Site
from tests.support.checks import check
from tests.support.doubles import ManualClock


def lose(site: Site, vault: Vault, folder: Path, which: int) -> None:
    """Delete one of the job's data packs from a directory vault."""
    with site.inventory.reading() as tx:
        every = archives.list_archives(tx, site.inventory.id, vault=site.vault.name)
        own = {archive.number: archive for archive in every if not archive.label.generation}
        there = own | {copy.number: copy for copy in copied.copies_of(tx, own) if copy.vault == vault.name}
    its_id = str([*there.values()][which].archive_id).rsplit("/", 1)[-1]
    [path] = [path for path in folder.rglob("*") if path.name == its_id]
    path.parent.chmod(0o700)
    path.unlink()


def at(site: Site, vault: Vault) -> CheckReport:
    """A check of one of the vaults."""
    return check(replace(site, vault=vault))


def test_what_a_copy_lost_is_named_until_it_is_made_again(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    (source / "kept").write_bytes(os.urandom(2_000_000))
    nights(site, source, 2)
    copies(site, second)
    nights(site, source, 1, first=2)  # has "kept", too, and is not there
    assert at(site, second).outcome is Outcome.DONE
    lose(site, second, tmp_path / "second", 0)
    for _ in range(2):
        report = at(site, second)
        assert report.outcome is Outcome.FAILED
        assert os.fsencode(source / "kept") in report.affected.paths
        assert [lost.id for lost in report.affected.snapshots] == [s.id for s in site.snapshots()[:2]]
        assert (report.affected.whole_in, report.affected.again) == ([site.vault.name], True)
        assert any(
            "still whole in vault" in fact.value and "next copy" in fact.value for fact in report.facts()
        )
    assert at(site, site.vault).affected == Affected()
    copies(site, second)
    report = at(site, second)
    assert (report.outcome, report.affected) == (Outcome.DONE, Affected())


def test_what_the_jobs_own_vault_lost_is_told_to_be_in_the_copy(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    nights(site, source, 2)
    copies(site, second)
    lose(site, site.vault, tmp_path / "vault", 0)
    report = at(site, site.vault)
    assert report.affected.files
    assert (report.affected.whole_in, report.affected.again) == ([second.name], False)
    assert at(site, second).affected == Affected()


@pytest.mark.parametrize("same", [True, False])
def test_what_both_lost_is_whole_nowhere(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, *, same: bool
) -> None:
    """Whole is said of all the files that are affected, or not at all."""
    nights(site, source, 2)
    copies(site, second)
    lose(site, site.vault, tmp_path / "vault", 0)
    lose(site, second, tmp_path / "second", 0 if same else 1)
    own = at(site, site.vault).affected
    there = at(site, second).affected
    own = at(site, site.vault).affected if same else own
    assert own.files
    assert there.files
    assert there.again is not same
    assert there.whole_in == ([] if same else [site.vault.name])
    assert own.whole_in == ([] if same else [second.name])


def test_what_is_forgotten_there_is_not_affected(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    nights(site, source, 2)
    copies(site, second)
    lose(site, second, tmp_path / "second", 0)
    before = at(site, second).affected
    replace(site, vault=second).amend(ForgottenRecord([1], micros(clock.now())))
    after = at(site, second).affected
    assert {snapshot.id for snapshot in before.snapshots} >= {site.snapshots()[0].id}
    assert site.snapshots()[0].id not in {snapshot.id for snapshot in after.snapshots}
    assert after.files < before.files


def test_a_twin_there_stands_in(site: Site, source: Path, second: DirectoryVault, tmp_path: Path) -> None:
    (source / "file").write_bytes(os.urandom(1_500_000))
    site.backup()
    copies(site, second)
    with site.inventory.reading() as tx:
        [(first,)] = tx.connection.execute("SELECT pack_id FROM archives WHERE kind = 1")
    site.amend(RetiredRecord([first]), kind=RunKind.COMPACT)
    site.backup()
    copies(site, second)
    lose(site, second, tmp_path / "second", 0)
    report = at(site, second)
    assert [finding.kind for finding in report.findings if finding.is_grave] == ["missing"]
    assert report.affected == Affected()
