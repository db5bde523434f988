"""What a rebuild has found so far: catalogs, where they lie, and the jobs with their newest states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from backup.format import records
from backup.format.header import Header
from backup.format.line import RecoveryLine
from backup.model import ArchiveId, InventoryId, Listing
from backup.rebuilder.catalogs.file import CatalogFile
from backup.rebuilder.members import CatalogCandidate, Chain, Member, UntrustedError

_NOBODY = InventoryId(b"")


@dataclass(slots=True)
class FoundJob:
    """A job on its way: how many full generations were asked for, and its chain once it is there."""

    id: bytes
    line: RecoveryLine | None
    generations: int = 1
    has_links: bool = False
    chain: Chain | None = None
    newer: Member | None = None  # of a later version, and needed for its newest state
    not_covered: Sequence[int] = ()
    name: str = ""
    owner: InventoryId = _NOBODY  # the inventory of the lineage that wrote of it last


class Refused(Struct, frozen=True):
    """A catalog that is well signed, by a signer that nobody vouched for when it came."""

    candidate: CatalogCandidate
    path: str
    header: Header
    error: UntrustedError


@dataclass(slots=True)
class KnownVault:
    """The vault as it is known so far."""

    candidates: dict[ArchiveId, CatalogCandidate] = field(default_factory=dict)
    files: dict[bytes, CatalogFile] = field(default_factory=dict)  # by header hash
    starts: dict[bytes, records.Start] = field(default_factory=dict)
    seen: set[ArchiveId] = field(default_factory=set)
    listing: Listing | None = None
