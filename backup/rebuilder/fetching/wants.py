"""Bytes of archives that a rebuild wants on its disk, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from backup.errors import NightvaultError
from backup.model import ArchiveId, ByteRange


class Want(Struct, frozen=True):
    """Bytes of an archive: all of it, or whole MiB (the last may be short)."""

    archive_id: ArchiveId
    size: int
    extent: ByteRange

    @property
    def name(self) -> str:
        """Its name in the journal and the folder."""
        whole = self.extent == ByteRange(0, self.size)
        return self.archive_id if whole else f"{self.archive_id} {self.extent.start}-{self.extent.end}"


def whole(archive_id: ArchiveId, size: int) -> Want:
    """All of an archive."""
    return Want(archive_id, size, ByteRange(0, size))


@dataclass(slots=True)
class Brought:
    """Archives on the disk and missing ones with the reason, by name; the number that is not ready yet.

    `refused` were looked at before they came down, and did not.
    """

    paths: dict[str, str] = field(default_factory=dict)
    refused: dict[str, NightvaultError] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    waiting: int = 0
