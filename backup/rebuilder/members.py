"""Catalogs as a rebuild sees them: candidates, believed ones, chains of them, and errors about them."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from backup.errors import ConfigError, FormatError, NewerFormatError, NightvaultError
from backup.format.header import CatalogFeature, CatalogFields, Header
from backup.model import ArchiveId, ArchiveLabel, Generation, InventoryId, TreeHash


class UntrustedError(FormatError):
    """A catalog is well signed, by a signer that nobody vouches for."""


class ForkError(NightvaultError):
    """Two catalogs go on from the same one."""


class TwoSignersError(NightvaultError):
    """Recovery keys vouch for two signers of one inventory."""


class OlderStateError(NightvaultError):
    """The vault does not show what the recovery line names."""


class OtherNameError(ConfigError):
    """The catalogs know their vault by another name than the config."""

    kind = "config"

    def __init__(self, name: str, called: str) -> None:
        super().__init__(
            f"what is in this vault was stored under the name {name}, not {called}",
            advice=f'write name = "{name}" in its [[vault]], then run it again',
        )
        self.name = name


class QuestionError(NightvaultError):
    """A state can be had only by a catalog that nothing proves to belong there: a person must say so."""


class Trust(Struct, frozen=True):
    """The signers believed without a recovery key: that of the fingerprint alone, or whoever wrote."""

    signer: bytes | None = None
    vault: bool = False


class CatalogCandidate(Struct, frozen=True):
    """A catalog that a listing, a line or another catalog speaks of. A hint, all of it."""

    archive_id: ArchiveId
    size: int
    label: ArchiveLabel
    tree_hash: TreeHash | None = None
    created_at: datetime | None = None


class Member(Struct, frozen=True):
    """A catalog whose header passed rule 1."""

    archive_id: ArchiveId
    header: Header

    @property
    def catalog(self) -> CatalogFields:
        """Its place, as the header says."""
        place = self.header.fields.catalog
        if place is None:
            raise FormatError("it is no catalog")
        return place

    @property
    def is_delta(self) -> bool:
        """Whether the next delta goes on from it: a job's first catalog is full, and does that, too."""
        place = self.catalog
        return place.generation is Generation.DELTA or CatalogFeature.FIRST_DELTA in place.features

    @property
    def state(self) -> bytes:
        """The header hash of the delta whose state it gives."""
        return self.header.hash if self.is_delta else self.catalog.parent_header_hash

    @property
    def inventory_id(self) -> InventoryId:
        """The inventory that wrote it."""
        return self.header.fields.inventory_id


class NewerCatalogError(NewerFormatError):
    """A later version wrote a catalog that would be needed: nothing older takes its place by itself."""

    def __init__(self, member: Member, vault: str) -> None:
        pack = member.header.fields.pack_id.hex()
        super().__init__(
            f"catalog {member.catalog.number} (pack {pack}) in vault {vault} was written by a newer "
            "nightvault: install that version or a later one",
            advice="nothing was changed. The state of an older catalog can be had with --tip PACK; it lacks "
            "what was done since, such as forgetting",
        )
        self.member = member


class Chain(Struct, frozen=True):
    """A full catalog and the deltas after it, oldest first; they end with the state of delta `number`.

    `gap`: the walk back from the tip met a state that no catalog at hand explains. Then `base` is None.
    """

    tip: bytes  # header hash of the delta whose state this is
    number: int
    base: Member | None
    deltas: tuple[Member, ...]
    gap: bytes | None = None
    doubtful: Member | None = None  # a full catalog that would close the gap, and does not count

    @property
    def members(self) -> tuple[Member, ...]:
        """The catalogs that are applied, in order."""
        return (*((self.base,) if self.base else ()), *self.deltas)
