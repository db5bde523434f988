"""A vault of any kind with its time, and a record of what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from backup.format.enrolment import HeirMark
from backup.lineage import marks_in
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    PackId,
    Part,
    Refusal,
    TreeHash,
    UploadId,
    VaultState,
)
from backup.protocols import Vault
from tests.support.doubles import FaultyVault, ManualClock


class Holding(FaultyVault):
    """A vault with a record of what it holds, and since when by its own clock; it may refuse to delete."""

    def __init__(self, vault: Vault, now: Callable[[], datetime], *, tells_time: bool) -> None:
        super().__init__(vault)
        self._tells_time = tells_time
        self.held: dict[str, datetime] = {}
        self.packs: dict[str, PackId] = {}
        self.refuses_until: datetime | None = None
        self._time = now

    def state(self) -> VaultState:
        """See `Vault`, as below; the emulator dates its answers by the real time."""
        state = super().state()
        return replace(state, at=self._time()) if self._tells_time else state

    def complete_upload(
        self, upload_id: UploadId, label: ArchiveLabel, size: int, tree_hash: TreeHash, parts: Sequence[Part]
    ) -> ArchiveId:
        archive_id = super().complete_upload(upload_id, label, size, tree_hash, parts)
        self.held.setdefault(archive_id, self._time())
        self.packs[archive_id] = label.pack_id
        return archive_id

    def delete_archives(
        self, stored: Mapping[ArchiveId, datetime | None], versions: Mapping[ArchiveId, str] | None = None
    ) -> Mapping[ArchiveId, Refusal]:
        until = self.refuses_until
        if until is not None and until > self._time():
            return {
                archive_id: Refusal("it is locked", until) for archive_id in stored if archive_id in self.held
            }
        refused = super().delete_archives(stored, versions)
        for archive_id in stored:
            if archive_id not in refused:
                self.held.pop(archive_id, None)
        return refused


class Elsewhere(Holding):
    """The same vault as others see it: what they stored, and what they deleted."""

    def __init__(self, vault: Vault, now: Callable[[], datetime], *, tells_time: bool) -> None:
        super().__init__(vault, now, tells_time=tells_time)
        self.labels: dict[str, ArchiveLabel] = {}
        self.deleted: set[str] = set()
        self.marks: list[HeirMark] = []

    def add_mark(self, name: str) -> None:
        super().add_mark(name)
        self.marks += marks_in([name])

    def complete_upload(
        self, upload_id: UploadId, label: ArchiveLabel, size: int, tree_hash: TreeHash, parts: Sequence[Part]
    ) -> ArchiveId:
        archive_id = super().complete_upload(upload_id, label, size, tree_hash, parts)
        self.labels[archive_id] = label
        return archive_id

    def delete_archives(
        self, stored: Mapping[ArchiveId, datetime | None], versions: Mapping[ArchiveId, str] | None = None
    ) -> Mapping[ArchiveId, Refusal]:
        refused = super().delete_archives(stored, versions)
        self.deleted |= stored.keys() - refused.keys()
        return refused

    def remove(self, archive_ids: Iterable[str]) -> None:
        """A person removes what others stored."""
        for archive_id in archive_ids:
            self.vault.delete_archives({ArchiveId(archive_id): None})
            self.held.pop(archive_id, None)
            self.labels.pop(archive_id, None)


@dataclass
class Ground:
    """A vault of one kind and its time. `has_clock`: it tells its time, and ours may differ from it."""

    vault: Vault
    clock: ManualClock
    pass_time: Callable[[timedelta], object]
    has_clock: bool = False
