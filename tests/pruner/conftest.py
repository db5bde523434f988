"""A server whose forgotten night is condemned and given up, made once; each test has a copy of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backup.model import ArchiveId, PackKind, VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.integrity import list_now
from tests.support.keepers import Keeper, keeper_of
from tests.support.nightly_servers import DAY, Nights
from tests.support.shared_vaults import shared

__all__ = ["given_up", "kept", "shared"]


@dataclass
class Kept:
    """A server that may not delete, and a keeper. `condemned` is the archive that only night 1 needed."""

    folder: Path
    clock: ManualClock
    vault: DirectoryVault
    site: Site
    keeper: Keeper
    condemned: ArchiveId

    def data(self) -> set[ArchiveId]:
        """The data archives that the vault holds."""
        listed = list_now(self.vault).archives
        return {
            archive.archive_id for archive in listed if archive.label and archive.label.kind is PackKind.DATA
        }

    def catalogs(self) -> list[ArchiveId]:
        """The catalogs that it holds, by number."""
        listed = list_now(self.vault).archives
        found = [archive for archive in listed if archive.label and archive.label.kind is PackKind.CATALOG]
        return [archive.archive_id for archive in sorted(found, key=lambda archive: archive.label.number)]  # type: ignore[union-attr]

    def change(self, name: str) -> None:
        """A new file in the source: what the next backup stores."""
        (self.folder / "source" / name).write_bytes(name.encode() * 1000)


@pytest.fixture(scope="session")
def given_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ManualClock, ArchiveId]:
    """Two nights; the first is forgotten, its archive condemned, and after the grace it is dropped."""
    folder = tmp_path_factory.mktemp("given-up")
    nights = Nights(folder)
    nights.night()
    nights.clock.advance(2 * DAY)
    (nights.source / "file 1").unlink()
    nights.night()
    nights.forget(1)
    assert nights.site.prune(deletes=False).condemned.archives == 1
    nights.clock.advance(4 * DAY)
    assert nights.site.prune(deletes=False).dropped.keys() == {"job"}
    nights.site.close()
    listed = list_now(nights.vault).archives
    data = [archive for archive in listed if archive.label and archive.label.kind is PackKind.DATA]
    return folder, nights.clock, min(data, key=lambda archive: archive.created_at).archive_id


@pytest.fixture
def kept(given_up: tuple[Path, ManualClock, ArchiveId], tmp_path: Path) -> Iterator[Kept]:
    """That server, copied."""
    template, clock, condemned = given_up
    folder = tmp_path / "kept"
    shutil.copytree(template, folder)
    now = ManualClock(clock.now())
    vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), now)
    site = Site.attach(folder / "state", vault, [folder / "source"], clock=now)
    yield Kept(folder, now, vault, site, keeper_of(site, folder / "keeper"), condemned)
    site.close()
