"""The values that `ask` and `look` share, and the store to which they write."""

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
    """A vault and how it is asked: `askers` requests at once; `note` gets sentences for the user."""

    vault: Vault
    clock: Clock
    patience: RetryPolicy
    note: Callable[[str], None]
    askers: int = 8

    def open_retrievals(self) -> Mapping[str, RetrievalId]:
        """The vault's open retrievals: ids by token."""
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
        """The range of the whole archive."""
        return ByteRange(0, self.size)


class RetrievalAnswer(Struct, Generic[R], frozen=True):
    """The vault's answer to one request: an id, or why there is none. All None: it was not sent.

    `asked` is the range that was granted. `refused` is this archive's own fault; `short` says that the tier
    cannot be served now; `error` would hit other requests, too.
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
    """The next step for a request, by the state that the vault reports."""

    WAITS = "waits"
    READY = "ready"
    AGAIN = "again"
    GIVEN_UP = "given up"


class Seen(Struct, Generic[R], frozen=True):
    """A request with its state in the vault, and the next step."""

    record: R
    retrieval_id: RetrievalId
    verdict: Verdict
    status: RetrievalStatus

    @property
    def why(self) -> str:
        """The reason in the vault's own words."""
        return self.status.message or "no reason given"


class AskResult(Struct, frozen=True):
    """The result of `ask`: whether a request was granted or refused for good; `short`: no capacity."""

    has_settled: bool = False
    short: CapacityError | None = None


class RetrievalStore(Protocol[R]):
    """Keeps requests as rows of the inventory, or in a rebuild's journal; durably when a method returns."""

    def pending(self) -> Sequence[Pending[R]]:
        """The requests that the vault accepted, and whose outputs are still wanted."""
        ...

    def seen(self, seen: Sequence[Seen[R]]) -> None:
        """Record the state of requests: one to be sent `AGAIN` gets a new token."""
        ...

    def has_granted(self) -> bool:
        """Whether the vault ever took a request of these."""
        ...

    def answered(self, answers: Sequence[RetrievalAnswer[R]]) -> None:
        """Record the vault's answers, before any error among them is raised."""
        ...
