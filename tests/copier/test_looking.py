"""The tree of files reads what the job's own vault has not any more from a vault with copies."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.format.records import RetiredRecord
from backup.inventory.content.archives import ArchiveState
from backup.inventory.questions import browsing
from backup.inventory.store.driver import changed
from backup.kinds import RunKind
from backup.model import MIB
from backup.protocols import Vault
from backup.vault.directory import DirectoryVault
from tests.copier.support import copies
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, ManualClock
from tests.support.emulated import RunningEmulator
from tests.support.rigs import s3_client, s3_vault
from tests.support.trees_of_files import LookedInto


def vault_files(disk: DirectoryVault) -> list[Path]:
    """The archives of a directory vault."""
    return [path for path in Path(disk.state().location, "archives").rglob("*") if path.is_file()]


def damage(path: Path) -> None:
    """Change all bytes of an archive."""
    data = bytes(byte ^ 255 for byte in path.read_bytes())
    path.chmod(0o600)
    path.write_bytes(data)


def lose_all(site: Site, disk: DirectoryVault, state: ArchiveState) -> None:
    """Take all packs from the job's own vault, as the inventory has it, too; or damage them."""
    for path in vault_files(disk):
        path.parent.chmod(0o700)
        damage(path) if state is ArchiveState.DAMAGED else path.unlink()
    with site.inventory.writing() as tx:
        assert changed(tx, "UPDATE archives SET state = ? WHERE kind = 1", (state,))


LOST = [ArchiveState.LOST, ArchiveState.DELETED, ArchiveState.DAMAGED]


@pytest.mark.parametrize("state", LOST)
def test_what_only_a_copy_has_is_read_from_there(
    site: Site,
    source: Path,
    disk: DirectoryVault,
    second: DirectoryVault,
    state: ArchiveState,
) -> None:
    filled = {b"large": os.urandom(5_000_000), b"small": b"x" * 100}
    for name, data in filled.items():
        (source / os.fsdecode(name)).write_bytes(data)
    site.backup()
    copies(site, second)
    lose_all(site, disk, state)
    both, own = LookedInto(site, vaults=[second]), LookedInto(site, vaults=[absent(second)])
    try:
        for name, data in filled.items():
            assert both.content(both.place(source / os.fsdecode(name))) == data
        with site.inventory.reading() as tx:
            shown = {chunk.vault for chunk in browsing.held_chunks(tx, range(1, 1000))}
            assert shown == {frame.vault for frame in browsing.wanted_frames(tx, range(1, 1000))}
        assert shown == {site.vault.name if state is ArchiveState.DAMAGED else second.name}
        with pytest.raises(OSError) as caught:  # noqa: PT011 (its number is looked at)
            own.content(own.place(source / "large"))
        assert caught.value.errno == (errno.EIO if state is ArchiveState.DAMAGED else errno.ENODATA)
    finally:
        both.close()
        own.close()


def absent(vault: DirectoryVault) -> Vault:
    """A vault that must be asked, and waited for."""
    return FaultyVault(vault)  # it reads nothing directly


@pytest.mark.parametrize("state", LOST)
def test_a_twin_in_a_copy_is_read_where_the_chunk_has_gone(
    site: Site, source: Path, disk: DirectoryVault, second: DirectoryVault, state: ArchiveState
) -> None:
    """The first pack was never copied: its contents were stored again in another one before."""
    (source / "file").write_bytes(content := random.Random(3).randbytes(1_500_000))
    site.backup()
    with site.inventory.reading() as tx:
        [(first,)] = tx.connection.execute("SELECT pack_id FROM archives WHERE kind = 1")
    site.amend(RetiredRecord([first]), kind=RunKind.COMPACT)
    site.backup()
    copies(site, second)
    with site.inventory.reading() as tx:
        [(count,)] = tx.connection.execute("SELECT count(*) FROM copies WHERE state = 'stored'")
    assert count == 1, "the twin alone"
    lose_all(site, disk, state)
    both, cold = LookedInto(site, vaults=[second]), LookedInto(site, vaults=[absent(second)])
    try:
        for snapshot in site.snapshots():
            place = both.place(source / "file", snapshot.id)
            assert both.content(place) == content
            with pytest.raises(OSError) as caught:  # noqa: PT011 (its number is looked at)
                cold.content(cold.place(source / "file", snapshot.id))
            assert caught.value.errno == (errno.EIO if state is ArchiveState.DAMAGED else errno.ENODATA)
    finally:
        both.close()
        cold.close()


def test_what_a_restore_had_a_cold_copy_make_readable_is_read(
    site: Site,
    source: Path,
    disk: DirectoryVault,
    emulator: RunningEmulator,
    tmp_path: Path,
    clock: ManualClock,
) -> None:
    bucket = s3_vault(s3_client(emulator.s3_url), "cold-looked", name="cold", clock=clock)
    bucket.create()
    site = replace(site, job=replace(site.job, part_size=8 * MIB))
    (source / "file").write_bytes(content := random.Random(4).randbytes(1_500_000))
    site.backup()
    copies(site, bucket)
    lose_all(site, disk, ArchiveState.LOST)
    found = LookedInto(site, vaults=[bucket])
    try:
        path = found.place(source / "file")
        with pytest.raises(OSError, match="No data"):
            found.content(path)
        waits = lambda: emulator.advance(13 * 3600)  # noqa: E731
        replace(site, copies=(bucket,), wait=waits).restore("latest", tmp_path / "out")
        found.packs.forget_all()
        assert found.content(path) == content
    finally:
        found.close()
