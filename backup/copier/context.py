"""Inputs of a copy, and the choice of snapshots."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import ClassVar, Self

from msgspec import Struct

from backup.catalogs.amend import KeepLine
from backup.catalogs.context import BackupContext, Keys, Sending
from backup.cost.limit import CostLimit
from backup.inventory.content import copied
from backup.inventory.content.archives import Archive, bytes_of, get_archives
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.store.database import Inventory
from backup.model import MIB, ArchiveId, SnapshotId, UploadId
from backup.protocols import Vault
from backup.rebuilder.context import CatalogRun
from backup.retention.copies import CopyRule

_BATCH = 500


class CopyContext(BackupContext, frozen=True, kw_only=True):
    """Inputs of a copy into `vault` of what lies in `source`; packs on their way are in `folder`.

    `limit_on` gives the limit on reading so many archives and bytes from the source, `round_bytes` how much
    is asked for at a time where it makes them readable hours later. `reading` reads the catalogs of `vault`,
    with recovery keys: only after a rebuild is it needed, once.
    """

    source: Vault
    keys: Keys
    sending: Sending
    folder: str
    limit_on: Callable[[int, int], CostLimit]
    reading: CatalogRun | None = None
    keep_line: KeepLine | None = None
    round_bytes: int = 64 * 1024 * MIB


class CopyChoice(Struct, frozen=True):
    """The snapshots to copy: that one, those since then, with one of the tags, due by a rule; else all."""

    snapshot: SnapshotId | None = None
    since: datetime | None = None
    tags: tuple[str, ...] = ()
    rule: CopyRule | None = None

    def of(self, source: Sequence[Snapshot], there: Sequence[Snapshot], now: datetime) -> list[Snapshot]:
        """Those at the source that are to be copied now; `there` has what the destination keeps."""
        due = None if self.rule is None else self.rule.due(source, there, now)
        held = {snapshot.number for snapshot in there}
        some = [snapshot for snapshot in source if self.takes(snapshot) and snapshot.number not in held]
        return [snapshot for snapshot in some if due is None or snapshot.number in due]

    def takes(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot is one of those that were named."""
        return (
            snapshot.forgotten_at is None
            and self.snapshot in {None, snapshot.id}
            and (self.since is None or snapshot.started_at >= self.since)
            and (not self.tags or not set(self.tags).isdisjoint(snapshot.tags))
        )


class Packs(Struct, frozen=True):
    """The archives to send, by number, rising, and their bytes; each is read when its turn comes."""

    inventory: Inventory
    numbers: Sequence[int]
    bytes: int

    @classmethod
    def of(cls, inventory: Inventory, numbers: Sequence[int]) -> Self:
        """The archives of these numbers."""
        with inventory.reading() as tx:
            return cls(inventory, numbers, bytes_of(tx, numbers))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[Archive]:
        """Each of them."""
        for start in range(0, len(self), _BATCH):
            some = self.numbers[start : start + _BATCH]
            with self.inventory.reading() as tx:
                found = get_archives(tx, some, self.inventory.id)
            yield from (found[number] for number in some if number in found)

    def without(self, numbers: Collection[int]) -> Packs:
        """All but these."""
        left = array("q", (number for number in self.numbers if number not in numbers))
        return self if len(left) == len(self) else Packs.of(self.inventory, left)


class CopyRecords(Struct, frozen=True):
    """Uploads of copies into a vault, by its number."""

    MADE_AGAIN: ClassVar[str] = "it is copied again"

    inventory: Inventory
    vault: int

    def begun(self, archive: int, upload_id: UploadId) -> None:
        """Record the vault's id of the upload."""
        with self.inventory.writing() as tx:
            copied.copy_begun(tx, archive, self.vault, upload_id)

    def stored(self, archive: int, archive_id: ArchiveId, now: datetime, version: str) -> None:
        """Record the copy as stored."""
        with self.inventory.writing() as tx:
            copied.copy_stored(tx, archive, self.vault, archive_id, now, version)

    def lost(self, archive: int, now: datetime) -> None:
        """Record the copy as lost: it is made again."""
        with self.inventory.writing() as tx:
            copied.copy_lost(tx, archive, self.vault, now)
