"""A small server that backs up night after night into a directory, on a clock that is moved by hand."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from backup.checker.invariants import check_invariants
from backup.format import records
from backup.inventory.content import archives
from backup.inventory.content.archives import ArchiveState
from backup.inventory.store.times import micros
from backup.model import PackKind, VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.integrity import list_now
from tests.support.trees import Seen, assert_same_tree, snapshot_of

DAY = timedelta(days=1)
SIZE = 300_000


class Nights:
    """A site, night after night: each adds a file and removes the one of three nights before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), self.clock)
        self.vault.create()
        self.source = folder / "source"
        self.source.mkdir()
        self.site = Site.create(folder / "state", self.vault, [self.source], clock=self.clock)
        self.trees: dict[int, dict[bytes, Seen]] = {}

    def night(self, name: str | None = None, contents: bytes | None = None) -> int:
        """A backup; the number of its snapshot."""
        number = self.site.snapshots(also_forgotten=True)[-1].number + 1 if self.trees else 1
        (self.source / (name or f"file {number}")).write_bytes(contents or os.urandom(SIZE))
        (self.source / f"file {number - 3}").unlink(missing_ok=True)
        self.site.backup()
        made = self.site.snapshots()[-1].number
        self.trees[made] = snapshot_of(self.source)
        self.clock.advance(DAY)
        return made

    def forget(self, *numbers: int) -> None:
        """Mark snapshots as forgotten."""
        self.site.amend(*self.forgotten(*numbers))

    def forgotten(self, *numbers: int) -> list[records.ForgottenRecord]:
        """The record that forgets them now."""
        return [records.ForgottenRecord(list(numbers), micros(self.clock.now()))]

    def take_back(self, *numbers: int) -> None:
        """Undo that."""
        self.site.amend(records.TakenBackRecord(list(numbers)))

    def restore_file(self, number: int, name: str) -> bytes:
        """The contents that a file had in a snapshot."""
        target = self.folder / f"one file {number}"
        self.site.restore(self.site.snapshots()[number - 1].id, target)
        return (target / name).read_bytes()

    def assert_lawful(self) -> None:
        """The inventory violates none of its laws."""
        key = self.site.keys.secret.content_key
        report = check_invariants(self.site.inventory, key, self.clock, self.site.progress)
        assert report.findings == ()

    def listed(self) -> set[str]:
        """The archives that the vault holds."""
        return {archive.archive_id for archive in list_now(self.vault).archives}

    def states(self, kind: PackKind = PackKind.DATA) -> list[ArchiveState]:
        """Those of all archives that the inventory says are there."""
        with self.site.inventory.reading() as tx:
            every = archives.list_archives(tx, self.site.inventory.id)
        return [archive.state for archive in every if archive.label.kind is kind]

    def assert_kept(self) -> None:
        """Every kept snapshot restores as it was."""
        for snapshot in self.site.snapshots():
            target = self.folder / "out" / f"{snapshot.id} {len(os.listdir(self.folder))}"
            self.site.restore(snapshot.id, target)
            assert_same_tree(self.trees[snapshot.number], target)
