"""Bytes of archives that a rebuild or a copy needs in files, and the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from backup.cost.limit import CostLimit
from backup.errors import NightvaultError
from backup.model import ArchiveId, ByteRange, PackKind


class Want(Struct, frozen=True):
    """The bytes needed of an archive: all of it, or whole MiB (the last may be short); `kind` has a price."""

    archive_id: ArchiveId
    size: int
    extent: ByteRange
    kind: PackKind = PackKind.CATALOG

    @property
    def name(self) -> str:
        """The name in the journal and the folder."""
        whole = self.extent == ByteRange(0, self.size)
        return self.archive_id if whole else f"{self.archive_id} {self.extent.start}-{self.extent.end}"


LimitOnWants = Callable[[Sequence[Want]], CostLimit]
"""Returns the limit of cost that retrieving these is held to, with its cost."""


def whole(archive_id: ArchiveId, size: int, kind: PackKind = PackKind.CATALOG) -> Want:
    """Return a want of all of an archive."""
    return Want(archive_id, size, ByteRange(0, size), kind)


@dataclass(slots=True)
class Brought:
    """The result, by name: downloaded archives, missing ones with the reason; and how many are not ready yet.

    `refused` were rejected by their first bytes, and not downloaded.
    """

    paths: dict[str, str] = field(default_factory=dict)
    refused: dict[str, NightvaultError] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    waiting: int = 0
