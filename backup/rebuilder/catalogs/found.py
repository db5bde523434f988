"""The results of a rebuild so far: catalogs, their places, and the jobs with their newest states."""

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
    """A job in work: how many full catalogs were requested, and its chain once that is found."""

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
    """A correctly signed catalog whose signer nobody had vouched for when it was read."""

    candidate: CatalogCandidate
    path: str
    header: Header
    error: UntrustedError


@dataclass(slots=True)
class KnownVault:
    """The content of the vault as far as it is known."""

    candidates: dict[ArchiveId, CatalogCandidate] = field(default_factory=dict)
    files: dict[bytes, CatalogFile] = field(default_factory=dict)  # by header hash
    starts: dict[bytes, records.Start] = field(default_factory=dict)
    seen: set[ArchiveId] = field(default_factory=set)
    listing: Listing | None = None
