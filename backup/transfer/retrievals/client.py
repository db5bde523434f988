"""Values that `ask` and `look` share, and the store that they write to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from backup.errors import CapacityError, NightvaultError
from backup.model import ArchiveId, ByteRange, RetrievalId, RetrievalStatus, Tier
from backup.protocols import Clock, Vault
from backup.transfer.retry import RetryPolicy

R = TypeVar("R")


class RetrievalClient(Struct, frozen=True):
    """A vault and how it is asked: `askers` requests side by side, `note` gets sentences for a reader."""

    vault: Vault
    clock: Clock
    patience: RetryPolicy
    note: Callable[[str], None]
    askers: int = 8

    def open_ones(self) -> Mapping[str, RetrievalId]:
        """The requests that the vault has taken, by token."""
        return self.patience.call(self.vault.open_retrievals)


class Wanted(Struct, Generic[R], frozen=True):
    """A range of an archive to be asked for; `record` is the caller's own. No `archive_id`: not in the vault.

    `or_all`: of an archive that was cut short ask for all that is left instead.
    """

    record: R
    archive_id: ArchiveId | None
    size: int
    extent: ByteRange
    tier: Tier
    token: str
    named: str
    or_all: bool = False

    @property
    def everything(self) -> ByteRange:
        """All of the archive."""
        return ByteRange(0, self.size)


class RetrievalAnswer(Struct, Generic[R], frozen=True):
    """The vault's answer to one request: an id, or why there is none. All None: it was not sent.

    `asked` is the range that was granted. `refused` is this archive's own fault; `short` says that the tier
    cannot be served now; with `error` others will fare alike.
    """

    record: R
    retrieval_id: RetrievalId | None = None
    asked: ByteRange | None = None
    refused: NightvaultError | None = None
    short: CapacityError | None = None
    error: BaseException | None = None


class Pending(Struct, Generic[R], frozen=True):
    """A request that the vault took; `failures`: how often it could not make the output before."""

    record: R
    retrieval_id: RetrievalId
    requested_at: datetime | None
    failures: int = 0


class Verdict(StrEnum):
    """The next step for a request, by the state that the vault told."""

    WAITS = "waits"
    READY = "ready"
    AGAIN = "again"
    GIVEN_UP = "given up"


class Seen(Struct, Generic[R], frozen=True):
    """A request as it was seen, and what follows."""

    record: R
    retrieval_id: RetrievalId
    verdict: Verdict
    status: RetrievalStatus

    @property
    def why(self) -> str:
        """The vault's own word."""
        return self.status.message or "no reason given"


class AskResult(Struct, frozen=True):
    """The outcome of asking: whether anything was granted or refused for good; what no tier could serve."""

    has_settled: bool = False
    short: CapacityError | None = None


class RetrievalStore(Protocol[R]):
    """Remembers requests: rows of the inventory, or a rebuild's journal. What it was told has lasted."""

    def pending(self) -> Sequence[Pending[R]]:
        """Those that the vault took, and whose outputs are wanted still."""
        ...

    def seen(self, seen: Sequence[Seen[R]]) -> None:
        """Record how far they are: what is to be asked for `AGAIN` gets a new token."""
        ...

    def has_granted(self) -> bool:
        """Whether the vault ever took a request of these."""
        ...

    def answered(self, answers: Sequence[RetrievalAnswer[R]]) -> None:
        """Record what the vault said, before anything of it is raised."""
        ...
