"""Stand-ins for the seams: a clock moved by hand, progress that is only kept, a vault that fails on cue."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from backup.cost.limit import CostLimit
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    ByteRange,
    Fetched,
    FileStamp,
    InventoryId,
    ListedArchive,
    Listing,
    ListingId,
    OpenUpload,
    PackId,
    Part,
    Refusal,
    RetrievalId,
    RetrievalStatus,
    StoredPart,
    Tier,
    TreeHash,
    UploadId,
    VaultIdentity,
    VaultName,
    VaultState,
)
from backup.protocols import NamesVersions, Vault, VaultTraits
from backup.vault.directory import DirectoryVault

START = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
T = TypeVar("T")

NO_LIMIT = CostLimit(None, "a test")
"""Retrievals that may cost what they will."""


def no_limit(_wants: object) -> CostLimit:
    """Nothing that is wanted has a limit."""
    return NO_LIMIT


class ManualClock:
    """A `Clock` that stands still until somebody sleeps or `advance`s it; remembers each sleep."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def now(self) -> datetime:
        """The time."""
        with self._lock:
            return self._now

    def sleep(self, seconds: float) -> None:
        """Move on by `seconds`, at once."""
        with self._lock:
            self.slept.append(seconds)
            self._now += timedelta(seconds=seconds)

    def set(self, now: datetime) -> None:
        """Be set to another time."""
        with self._lock:
            self._now = now

    def advance(self, by: timedelta) -> None:
        """Move on without a sleep."""
        with self._lock:
            self._now += by


@dataclass
class Silent:
    """A `Progress` that shows nothing and adds everything up."""

    phases: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    done: int = 0
    packed: int = 0
    uploaded: int = 0
    stored: int = 0
    ended: list[bool] = field(default_factory=list)

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        """A phase begins."""
        self.phases.append(title)

    def expect(self, total: int | None, *, sends: bool = False) -> None:
        """Keep nothing of it."""

    def advance(
        self, *, files: int = 0, done: int = 0, packed: int = 0, uploaded: int = 0, stored: int = 0
    ) -> None:
        """Add up."""
        self.files += files
        self.done += done
        self.packed += packed
        self.uploaded += uploaded
        self.stored += stored

    def note(self, text: str) -> None:
        """Keep the line."""
        self.notes.append(text)

    def finish(self, *, is_done: bool = True) -> None:
        """The phase is over: as it should be?"""
        self.ended.append(is_done)


class PowerCut(BaseException):
    """The machine went dark: no `except Exception` may catch it."""


@dataclass
class Fault:
    """One planned failure of a method: after `skip` calls of it, `count` calls in a row raise `error`.

    `after` lets each such call take effect first, so that only its answer is lost. `method` "*" means any
    call of the seam.
    """

    method: str
    error: BaseException
    after: bool = False
    skip: int = 0
    count: int = 1
    met: int = 0

    def concerns(self, method: str) -> bool:
        """Whether this call is the turn of this fault; counts the call."""
        if self.method not in {"*", method}:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.met == self.count:
            return False
        self.met += 1
        return True


def cut_at(call: int, *, after: bool = False) -> Fault:
    """A `PowerCut` at call number `call` (from 0) of all calls together; all later ones find no power."""
    return Fault("*", PowerCut(f"at vault call {call}"), after=after, skip=call)


class FaultyVault:
    """Any `Vault`, with faults on cue; without faults it is transparent.

    `calls` counts calls by method, `sent` the parts that reached the vault by (pack id, offset), `total` all
    calls. Once a `PowerCut` was raised every call raises one; to go on, wrap the inner vault anew.
    """

    def __init__(self, vault: Vault, *faults: Fault) -> None:
        self.vault = vault
        self.faults = list(faults)
        self.calls: Counter[str] = Counter()
        self.sent: Counter[tuple[PackId | None, int]] = Counter()
        self._packs: dict[UploadId, PackId | None] = {}
        self._lock = threading.Lock()
        self._dark = False

    @property
    def total(self) -> int:
        """How many calls there were."""
        with self._lock:
            return self.calls.total()

    def assert_all_met(self) -> None:
        """Every planned fault happened as often as planned."""
        unmet = [fault for fault in self.faults if fault.met != fault.count]
        assert not unmet, f"these faults were never met: {unmet}"

    def _meet(self, method: str, call: Callable[[], T]) -> T:
        with self._lock:
            self.calls[method] += 1
            if self._dark:
                raise PowerCut("there is no power")
            due = [fault for fault in self.faults if fault.concerns(method)]
            self._dark = any(isinstance(fault.error, PowerCut) for fault in due)
        for fault in due:
            if not fault.after:
                raise fault.error
        result = call()
        for fault in due:
            raise fault.error
        return result

    def _pack_of(self, upload_id: UploadId) -> PackId | None:
        """The pack of an upload; the vault itself is asked about one begun before this wrapper was put on."""
        if upload_id not in self._packs:
            for upload in self.vault.list_uploads():
                self._packs.setdefault(upload.upload_id, upload.label.pack_id if upload.label else None)
        return self._packs.get(upload_id)

    @property
    def name(self) -> VaultName:
        """The inner vault's."""
        return self.vault.name

    @property
    def traits(self) -> VaultTraits:
        """The inner vault's."""
        return self.vault.traits

    def create(self) -> None:
        """See `Vault`, as all below."""
        self._meet("create", self.vault.create)

    def state(self) -> VaultState:
        return self._meet("state", self.vault.state)

    def identities(self, inventory_id: InventoryId) -> Sequence[VaultIdentity]:
        return self._meet("identities", lambda: self.vault.identities(inventory_id))

    def add_identity(self, inventory_id: InventoryId, token: str) -> None:
        self._meet("add_identity", lambda: self.vault.add_identity(inventory_id, token))

    def add_mark(self, name: str) -> None:
        self._meet("add_mark", lambda: self.vault.add_mark(name))

    def newest_catalogs(
        self, inventory_id: InventoryId, known: Mapping[bytes, int]
    ) -> Sequence[ListedArchive]:
        return self._meet("newest_catalogs", lambda: self.vault.newest_catalogs(inventory_id, known))

    def begin_upload(self, label: ArchiveLabel, part_size: int) -> UploadId:
        def begin() -> UploadId:
            upload_id = self.vault.begin_upload(label, part_size)
            self._packs[upload_id] = label.pack_id
            return upload_id

        return self._meet("begin_upload", begin)

    def put_part(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
        def put() -> None:
            with self._lock:
                self.sent[self._pack_of(upload_id), part.offset] += 1
            self.vault.put_part(upload_id, part, body)

        self._meet("put_part", put)

    def list_parts(self, upload_id: UploadId, part_size: int) -> Sequence[StoredPart]:
        return self._meet("list_parts", lambda: self.vault.list_parts(upload_id, part_size))

    def complete_upload(
        self, upload_id: UploadId, label: ArchiveLabel, size: int, tree_hash: TreeHash, parts: Sequence[Part]
    ) -> ArchiveId:
        return self._meet(
            "complete_upload", lambda: self.vault.complete_upload(upload_id, label, size, tree_hash, parts)
        )

    def take_version(self, archive_id: ArchiveId) -> str:
        return self.vault.take_version(archive_id) if isinstance(self.vault, NamesVersions) else ""

    def abort_upload(self, upload_id: UploadId) -> None:
        self._meet("abort_upload", lambda: self.vault.abort_upload(upload_id))

    def list_uploads(self) -> Sequence[OpenUpload]:
        return self._meet("list_uploads", self.vault.list_uploads)

    def request_retrieval(
        self, archive_id: ArchiveId, extent: ByteRange | None, tier: Tier, token: str
    ) -> RetrievalId:
        return self._meet(
            "request_retrieval", lambda: self.vault.request_retrieval(archive_id, extent, tier, token)
        )

    def open_retrievals(self) -> Mapping[str, RetrievalId]:
        return self._meet("open_retrievals", self.vault.open_retrievals)

    def retrieval_statuses(self, ids: Iterable[RetrievalId]) -> Mapping[RetrievalId, RetrievalStatus]:
        return self._meet("retrieval_statuses", lambda: self.vault.retrieval_statuses(ids))

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        return self._meet("fetch", lambda: self.vault.fetch(retrieval_id, extent))

    def request_listing(self, token: str) -> ListingId:
        return self._meet("request_listing", lambda: self.vault.request_listing(token))

    def listing_status(self, listing_id: ListingId) -> RetrievalStatus:
        return self._meet("listing_status", lambda: self.vault.listing_status(listing_id))

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        return self._meet("fetch_listing", lambda: self.vault.fetch_listing(listing_id))

    def delete_archives(
        self, stored: Mapping[ArchiveId, datetime | None], versions: Mapping[ArchiveId, str] | None = None
    ) -> Mapping[ArchiveId, Refusal]:
        return self._meet("delete_archives", lambda: self.vault.delete_archives(stored, versions))


class Blindfolded(FaultyVault):
    """A vault that shows no run what is in it: two copies of one server both go on, as they could before.

    Only the archives `own` are shown.
    """

    def __init__(self, vault: Vault, own: Sequence[str] = ()) -> None:
        super().__init__(vault)
        self._own = own

    def newest_catalogs(
        self, inventory_id: InventoryId, known: Mapping[bytes, int]
    ) -> Sequence[ListedArchive]:
        every = self.vault.newest_catalogs(inventory_id, known)
        return [archive for archive in every if archive.archive_id in self._own]


class FaultyDisk(FaultyVault):
    """The same of a directory vault that takes whole files; each counts in `sent` as a part at 0."""

    vault: DirectoryVault

    def takes_from(self, directory: str) -> bool:
        return self.vault.takes_from(directory)

    def put_file(
        self, upload_id: UploadId, path: str, parts: Sequence[Part], stamp: FileStamp | None = None
    ) -> bool:
        def put() -> bool:
            with self._lock:
                self.sent[self._pack_of(upload_id), 0] += 1
            return self.vault.put_file(upload_id, path, parts, stamp)

        return self._meet("put_file", put)
