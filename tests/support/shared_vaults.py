"""A vault that several servers share, on each kind of vault; time passes there and here alike.

first = shared.first()                     # a server, with some nights; `shared` is a fixture
thief = stranger(first)                    # another one, by the same recovery key
heir = shared.heir(first, "heir")          # the first one, rebuilt elsewhere
shared.assert_whole(first, tmp_path)       # its newest snapshot comes back byte for byte
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.catalogs.report import BackupReport
from backup.format.records import ForgottenRecord
from backup.inventory.store.times import micros
from backup.model import MIB, InventoryId, PackKind, VaultName
from backup.protocols import Vault
from backup.pruner.report import PruneReport
from backup.rebuilder.context import Wish
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from tests.support.backups import Site
from tests.support.clocks import EmulatorClock
from tests.support.doubles import ManualClock
from tests.support.emulated import RunningEmulator
from tests.support.rebuilds import Bare
from tests.support.rigs import glacier_client, s3_client, s3_vault
from tests.support.strangers import listing_of
from tests.support.trees import assert_same_tree

KINDS = ("directory", "bucket", "glacier")
DAY = timedelta(days=1)
HOURS = timedelta(hours=13)
AGE = timedelta(days=200)  # after which no kind of vault bills for what is deleted
_numbers = itertools.count()


@dataclass
class SharedVault:
    """The vault, its clock, and the folder in which its servers live."""

    vault: Vault
    clock: ManualClock
    folder: Path
    emulator: RunningEmulator | None = None
    open: list[Site] = field(default_factory=list)

    def pass_time(self, by: timedelta = DAY) -> None:
        """Time passes; a cold vault makes its list."""
        self.clock.advance(by)
        if self.emulator is not None:
            self.emulator.advance(by.total_seconds())
            self.emulator.make_inventories()

    def wait(self) -> None:
        """The hours pass that a cold vault takes."""
        self.pass_time(HOURS)

    def first(self, nights: int = 3) -> Site:
        """A server with some nights: each adds a file."""
        source = self.folder / "source"
        source.mkdir()
        size = max(MIB, self.vault.traits.smallest_part)
        made = Site.create(
            self.folder / "first",
            self.vault,
            [source],
            clock=self.clock,
            wait=self.wait,
            part_size=size,
            pack_size=2 * size,
        )
        self.open.append(made)
        for number in range(1, nights + 1):
            self.night(made, f"night {number}")
        return made

    def night(self, site: Site, name: str) -> BackupReport:
        """A new file and a backup; a day passes."""
        (source_of(site) / name).write_bytes(os.urandom(20_000))
        report = site.backup()
        self.pass_time()
        return report

    def prune(self, site: Site, *, deletes: bool = False) -> PruneReport:
        """A prune, with whatever list it waits for."""
        while (report := site.prune(deletes=deletes)).state == "waiting":
            self.wait()
        return report

    def give_up(self, site: Site) -> set[str]:
        """A night whose archive nobody needs any more is given up; the ids of its data archives.

        It is old enough to be deleted; the server does not delete it itself.
        """
        before = self.data_of(site.inventory.id)
        self.night(site, "given up")
        (source_of(site) / "given up").unlink()
        gone = self.data_of(site.inventory.id) - before
        self.pass_time(AGE)
        number = site.snapshot().number
        self.night(site, "after it")
        site.amend(ForgottenRecord([number], micros(self.clock.now())))
        assert self.prune(site).condemned.archives
        self.pass_time(4 * DAY)
        assert self.prune(site).dropped
        self.pass_time()
        return gone

    def heir(
        self, of: Site, name: str, *, is_signed: bool = True, wish: Wish | None = None, jobs: str = ""
    ) -> Site:
        """The server of an inventory rebuilt elsewhere; unless `is_signed`, its enrolment is of version 1."""
        machine = self.bare(of, name)
        wish = wish or Wish(inventory=of.inventory.id.hex(), jobs=frozenset(filter(None, [jobs])))
        assert machine.rebuild(wish, wait=self.wait).state == "done"
        made = machine.site()
        self.open.append(made)
        return made if is_signed else of_version_1(made)

    def bare(self, of: Site, name: str) -> Bare:
        """A machine with nothing but the vault and the recovery key."""
        made = Bare(self.folder / name, self.vault, of)
        made.new_id = InventoryId(name.encode().ljust(16, b".")[:16])
        return made

    def image_of(self, site: Site, name: str = "image") -> Site:
        """The state of a server as it is now, brought back later; the server itself goes on."""
        site.inventory.close()
        shutil.copytree(site.folder, self.folder / name)
        made = replace(site, folder=self.folder / name).reopen()
        self.open.append(made)
        return made

    def archives(self) -> dict[str, str]:
        """All that the vault holds: its id and description."""
        return {line.archive_id: line.description for line in listing_of(self._anybody()).archives}

    def data_of(self, *inventories: InventoryId) -> set[str]:
        """The data archives that these inventories stored."""
        lines = listing_of(self._anybody()).archives
        labels = [(line.archive_id, line.label) for line in lines if line.label is not None]
        data = [(archive, label) for archive, label in labels if label.kind is PackKind.DATA]
        return {archive for archive, label in data if label.inventory_id in inventories}

    def marks(self) -> list[str]:
        """The marks of heirs."""
        lines = listing_of(self._anybody()).archives
        return sorted(line.description for line in lines if "/heir-" in line.description)

    def _anybody(self) -> Site:
        return self.open[0]

    def assert_whole(self, site: Site, target: Path, source: Path | None = None) -> None:
        """Its newest snapshot comes back byte for byte."""
        site.restore("latest", target)
        assert_same_tree(source or source_of(site), target)

    def close(self) -> None:
        """Let go of all inventories."""
        for site in self.open:
            site.close()


@contextmanager
def shared_vault(kind: str, folder: Path, emulator: RunningEmulator | None) -> Iterator[SharedVault]:
    """A new vault of a kind, empty; `emulator` is there for all but a directory."""
    if emulator is None:
        clock = ManualClock()
        vault: Vault = DirectoryVault(VaultName("shared"), str(folder / "vault"), clock)
    else:
        clock, name = ManualClock(EmulatorClock(emulator).now()), f"shared-{next(_numbers)}"
        if kind == "bucket":
            client, its_clock = s3_client(emulator.s3_url), EmulatorClock(emulator)
            vault = s3_vault(client, name, name="shared", clock=its_clock, storage_class="GLACIER_IR")
        else:
            vault = GlacierVault(VaultName("shared"), glacier_client(emulator), name)
    vault.create()
    made = SharedVault(vault, clock, folder, emulator)
    try:
        yield made
    finally:
        made.close()


_SLOW = pytest.mark.slow  # more requests of more kinds, for what a directory shows in a tenth of the time


@pytest.fixture(params=["directory", *(pytest.param(kind, marks=_SLOW) for kind in KINDS[1:])])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SharedVault]:
    """A new vault of each kind; a folder's `conftest.py` imports this."""
    kind = request.param
    emulator = None if kind == "directory" else request.getfixturevalue("emulator")
    with shared_vault(kind, tmp_path, emulator) as made:
        yield made


def source_of(site: Site) -> Path:
    """The folder that it backs up."""
    return Path(os.fsdecode(site.job.sources[0]))


def of_version_1(site: Site) -> Site:
    """The same server, enrolled by tags alone: nothing of it can prove who goes on."""
    keys = site.keys
    tags = tuple(
        slot for slot in keys.enrolments if slot[0] in {recipient.id for recipient in keys.recipients}
    )
    return replace(site, keys=replace(keys, enrolments=tags, vouching=(), signature=b""))
