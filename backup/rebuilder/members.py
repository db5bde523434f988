"""Catalogs in a rebuild: candidates, trusted ones, chains of them, and errors about them."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from backup.errors import ConfigError, FormatError, NewerFormatError, NightvaultError
from backup.format.header import CatalogFeature, CatalogFields, Header
from backup.model import ArchiveId, ArchiveLabel, Generation, InventoryId, TreeHash


class UntrustedError(FormatError):
    """A catalog is correctly signed, but nobody vouches for its signer."""


class ForkError(NightvaultError):
    """Two catalogs follow the same one."""


class TwoSignersError(NightvaultError):
    """Recovery keys vouch for two signers of one inventory."""


class OlderStateError(NightvaultError):
    """The vault does not show the catalog that the recovery line names."""


class OtherNameError(ConfigError):
    """The catalogs name their vault differently than the config."""

    kind = "config"

    def __init__(self, name: str, called: str) -> None:
        super().__init__(
            f"what is in this vault was stored under the name {name}, not {called}",
            advice=f'write name = "{name}" in its [[vault]], then run it again',
        )
        self.name = name


class QuestionError(NightvaultError):
    """A state needs a catalog that nothing proves to be this server's: the user must decide."""


class Trust(Struct, frozen=True):
    """The signers trusted without a recovery key: only that with the fingerprint, or any."""

    signer: bytes | None = None
    vault: bool = False


class CatalogCandidate(Struct, frozen=True):
    """A catalog that a listing, a line or another catalog names. All of it is unproven."""

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
        """The fields of the catalog, from its header."""
        place = self.header.fields.catalog
        if place is None:
            raise FormatError("it is no catalog")
        return place

    @property
    def is_delta(self) -> bool:
        """Whether the next delta may follow it: also a job's first catalog, which is full."""
        place = self.catalog
        return place.generation is Generation.DELTA or CatalogFeature.FIRST_DELTA in place.features

    @property
    def state(self) -> bytes:
        """The header hash of the delta whose state it contains."""
        return self.header.hash if self.is_delta else self.catalog.parent_header_hash

    @property
    def inventory_id(self) -> InventoryId:
        """The inventory that wrote it."""
        return self.header.fields.inventory_id


class NewerCatalogError(NewerFormatError):
    """A later version wrote a catalog that is needed: no older state is used without the user's word."""

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

    `gap`: the walk back from the tip found a state that no known catalog gives. Then `base` is None.
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
