"""Restores read from copies, and mix vaults archive by archive."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.inventory.content import archives, copied
from backup.inventory.content.archives import ArchiveState
from backup.kinds import Outcome
from backup.model import MIB
from backup.protocols import Vault
from backup.vault.directory import DirectoryVault
from tests.copier.support import copies, nights
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, ManualClock
from tests.support.emulated import RunningEmulator
from tests.support.rigs import s3_client, s3_vault
from tests.support.trees import Seen, snapshot_of


def restored(site: Site, tmp_path: Path, name: str) -> Iterator[dict[bytes, Seen]]:
    """What each snapshot gives, oldest first; all of them whole."""
    for snapshot in site.snapshots():
        target = tmp_path / f"{name}-{snapshot.number}"
        report = site.restore(snapshot.id, target)
        assert report.outcome is Outcome.DONE, report.problems
        yield dict(snapshot_of(target))


def data_files(site: Site, vault: Vault, folder: Path) -> list[Path]:
    """The files of the job's data archives in a directory vault, by archive."""
    with site.inventory.reading() as tx:
        every = archives.list_archives(tx, site.inventory.id, vault=site.vault.name)
        own = {archive.number: archive for archive in every if not archive.label.generation}
        there = {copy.number: copy for copy in copied.copies_of(tx, own)}
    found = own if vault is site.vault else there
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    return [files[str(found[number].archive_id).rsplit("/", 1)[-1]] for number in own]


@pytest.mark.parametrize("seed", range(4))
def test_a_random_half_of_the_archives_of_each_vault_is_enough(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, seed: int
) -> None:
    seen = nights(site, source, 4)
    assert copies(site, second).outcome is Outcome.DONE
    dice = random.Random(seed)
    own = data_files(site, site.vault, tmp_path / "vault")
    theirs = data_files(site, second, tmp_path / "second")
    assert len(own) == len(theirs) >= 4
    gone = set(dice.sample(range(len(own)), len(own) // 2))
    for number, paths in enumerate(zip(own, theirs, strict=True)):
        lost = paths[number not in gone]
        lost.parent.chmod(0o700)
        lost.unlink()
    both = replace(site, copies=(second,), reads_first=second.name if seed % 2 else None)
    assert list(restored(both, tmp_path, "both")) == seen
    with site.inventory.reading() as tx:
        lost_here = [number for number, state in archives.states(tx).items() if state is ArchiveState.LOST]
        number = archives.get_or_create_vault(tx, second.name)
        lost_there = [copy for copy in copied.list_copies(tx, number) if copy.state is ArchiveState.LOST]
    assert lost_there if seed % 2 else lost_here
    assert list(restored(replace(both, reads_first=None), tmp_path, "again")) == seen


def test_what_is_damaged_here_is_read_there(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    seen = nights(site, source, 3)
    copies(site, second)
    own = data_files(site, site.vault, tmp_path / "vault")
    theirs = data_files(site, second, tmp_path / "second")
    for number, paths in enumerate(zip(own, theirs, strict=True)):
        path = paths[number % 2]
        good = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(bytes(byte ^ 1 for byte in good))
    assert list(restored(replace(site, copies=(second,)), tmp_path, "both")) == seen
    with pytest.raises(AssertionError, match="Problem"):
        list(restored(site, tmp_path, "own"))


def test_from_the_named_vault_alone(site: Site, source: Path, second: DirectoryVault, tmp_path: Path) -> None:
    seen = nights(site, source, 2)
    copies(site, second)
    asked = FaultyVault(site.vault)
    one = replace(site, vault=asked, copies=(second,), reads_first=second.name)
    assert list(restored(one, tmp_path, "second")) == seen
    assert not asked.calls, "the job's own vault was asked"
    report = one.restore(one.snapshots()[-1].id, tmp_path / "more")
    assert report.from_vaults == "1 archive from vault second"


def test_a_cold_vault_is_waited_for_only_where_it_is_needed(
    site: Site, source: Path, emulator: RunningEmulator, tmp_path: Path, clock: ManualClock
) -> None:
    bucket: Vault = s3_vault(s3_client(emulator.s3_url), "cold-copies", name="cold", clock=clock)
    bucket.create()
    site = replace(site, job=replace(site.job, part_size=8 * MIB))
    seen = nights(site, source, 2)
    copies(site, bucket)
    waits: list[object] = []
    both = replace(site, copies=(bucket,), wait=lambda: waits.append(emulator.advance(13 * 3600)))
    assert list(restored(both, tmp_path, "all")) == seen
    assert not waits
    gone = data_files(site, site.vault, tmp_path / "vault")[0]
    gone.parent.chmod(0o700)
    gone.unlink()
    assert list(restored(both, tmp_path, "mixed")) == seen
    assert waits
