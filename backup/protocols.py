"""The four seams: Vault, CredentialSource, Clock, Progress; each docstring is a promise to callers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from msgspec import Struct

from backup.model import (
    ArchiveId,
    ArchiveLabel,
    ByteRange,
    Credentials,
    Fetched,
    FileStamp,
    InventoryId,
    ListedArchive,
    Listing,
    ListingId,
    ObjectLock,
    OpenUpload,
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


class VaultTraits(Struct, frozen=True):
    """Properties of a vault that callers need for planning.

    `retrieves_ranges`: a retrieval may ask for a part of an archive, aligned to MiB.
    `waits`: a retrieval or listing becomes ready hours later (else at once).
    `keeps_metadata_hot`: catalogs can be read without a retrieval. `minimum_storage`: deleting earlier costs
    the rest of it. `if_missing`: advice where its list lacks what was stored; empty if there is none.
    `checks_sha256`: `put_part` needs `Part.sha256`; else it may be empty, and a pass over the bytes is saved.
    `checks_crc64`: `put_part` and `complete_upload` need `Part.crc64`.
    `tags_parts`: `complete_upload` needs `Part.tag` and `crc64` of a part that another process may have sent.
    `requests_at_once`: the best number of concurrent retrieval requests, each by a thread of its own.
    `lists_at_once`: a listing is ready as soon as it is requested, and true to the moment it is made.
    `fetches_for_nothing`: a fetch costs no request and comes without a hash, so it may begin anywhere.
    `deletes_at_once`: how many archives one request deletes.
    """

    retrieves_ranges: bool
    waits: bool
    keeps_metadata_hot: bool
    minimum_storage: timedelta
    smallest_part: int
    largest_part: int
    most_parts: int
    checks_sha256: bool = True
    checks_crc64: bool = False
    tags_parts: bool = False
    requests_at_once: int = 8
    lists_at_once: bool = False
    lists_for_nothing: bool = False
    fetches_for_nothing: bool = False
    deletes_at_once: int = 1
    if_missing: str = ""


class Vault(Protocol):
    """A place where archives are kept. Safe for use from several threads at once.

    Every method raises our errors only: `UnreachableError` (retryable) when the service or network is
    away, `ThrottledError` (retryable) when it asks for patience, `DeniedError`, `VaultMissingError`,
    else `VaultError`. Nothing here retries: callers do, with the Clock's sleep.
    """

    @property
    def name(self) -> VaultName:
        """Its name in the config."""
        ...

    @property
    def traits(self) -> VaultTraits:
        """Its properties; constant."""
        ...

    def create(self) -> None:
        """Create the vault if it does not exist; no effect if it does."""
        ...

    def state(self) -> VaultState:
        """The vault's status; a vault that does not exist is `exists=False`, no error."""
        ...

    # Which vault this is, whatever its name: another disk may be mounted at the same path.

    def identities(self, inventory_id: InventoryId) -> Sequence[VaultIdentity]:
        """Identities that tell this vault from others, for an inventory; a copy of the vault has the same.

        Empty where none was left for that inventory yet. `VaultMissingError` if the vault does not exist.
        """
        ...

    def add_identity(self, inventory_id: InventoryId, token: str) -> None:
        """Store an identity in the vault; no effect in one that has an identity by itself.

        `token`: 32 hex digits, drawn by the caller, so that repeating it after a lost answer changes nothing.
        """
        ...

    def newest_catalogs(
        self, inventory_id: InventoryId, known: Mapping[bytes, int]
    ) -> Sequence[ListedArchive]:
        """Catalogs of an inventory that exist now: for each job at least those from its `known` number on.

        For jobs (by id) that are not in `known`, all of them; marks of the inventory's heirs; and others'
        catalogs of the `known` jobs where that costs nothing more. Empty unless the vault `lists_at_once`.
        """
        ...

    def add_mark(self, name: str) -> None:
        """Leave a mark of that name (`format.enrolment.HeirMark`), which lists show from then on.

        It is no archive: nothing of ours retrieves or deletes it. Repeating it does no harm.
        """
        ...

    # Uploads: always multipart, so that a lost answer can be repeated safely.

    def begin_upload(self, label: ArchiveLabel, part_size: int) -> UploadId:
        """Begin an upload of parts of `part_size` bytes (the last may be shorter).

        `part_size` is a power of two MiB within the traits. Repeating it begins another upload.
        """
        ...

    def put_part(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
        """Send one part; any order, any thread; sending it again replaces it.

        The vault (or its server) checks the body against the part's hashes: a mismatch is `IntegrityError`
        and nothing is kept. `UploadExpiredError` when the upload is unknown.
        """
        ...

    def list_parts(self, upload_id: UploadId, part_size: int) -> Sequence[StoredPart]:
        """The parts that the vault has, by offset; `part_size` is what the upload was begun with.

        `UploadExpiredError` when the upload is unknown.
        """
        ...

    def complete_upload(
        self, upload_id: UploadId, label: ArchiveLabel, size: int, tree_hash: TreeHash, parts: Sequence[Part]
    ) -> ArchiveId:
        """Make the archive of its parts, durably, and return its id.

        Repeated after a success it returns the same id, as long as the vault remembers; after that
        `UploadExpiredError`, also if the vault has given the upload up: begin another. On a gap, a wrong size
        or a wrong hash: `IntegrityError`, and the upload stays. `ArchiveTakenError` if an object that is not
        ours has its key: the upload is aborted, and the pack must be made again.
        """
        ...

    def abort_upload(self, upload_id: UploadId) -> None:
        """Delete an upload; no error when it is gone already."""
        ...

    def list_uploads(self) -> Sequence[OpenUpload]:
        """All uploads begun and not completed, ours and others'."""
        ...

    # Retrievals: ask, wait, fetch.

    def request_retrieval(
        self, archive_id: ArchiveId, extent: ByteRange | None, tier: Tier, token: str
    ) -> RetrievalId:
        """Ask for an archive (`extent` None) or a MiB-aligned range of it to be made readable.

        `token` (printable ASCII, at most 64 characters) is kept with the request where the vault can, so that
        a request whose answer was lost is found again by `open_retrievals`. `ArchiveMissingError` if the
        archive is not there.
        """
        ...

    def open_retrievals(self) -> Mapping[str, RetrievalId]:
        """Token to id of every retrieval that is waiting or ready; for listings requested by us, too."""
        ...

    def retrieval_statuses(self, ids: Iterable[RetrievalId]) -> Mapping[RetrievalId, RetrievalStatus]:
        """The state of each; one that the vault does not know (any more) is EXPIRED."""
        ...

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        """Bytes of a ready retrieval; `extent` counts from the start of what was retrieved.

        Exactly `extent.length` bytes or an error (`UnreachableError` when the connection was cut);
        `RetrievalNotReadyError`, `RetrievalExpiredError`.
        """
        ...

    # Listings: the vault's own list, hours away and a day old on cold vaults.

    def request_listing(self, token: str) -> ListingId:
        """Ask for the list of archives. `VaultError` if the vault has never made one yet."""
        ...

    def listing_status(self, listing_id: ListingId) -> RetrievalStatus:
        """The status of a requested listing."""
        ...

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        """The whole list of a ready listing."""
        ...

    # Deletions.

    def delete_archives(
        self, stored: Mapping[ArchiveId, datetime | None], versions: Mapping[ArchiveId, str] | None = None, /
    ) -> Mapping[ArchiveId, Refusal]:
        """Delete archives durably, and return those that the vault itself refuses to delete.

        `stored` tells when each was stored (None: unknown), for locks that go by age. `versions`: those that
        the vault's list showed; another object in such a place is a refusal. An archive that is gone
        already is no refusal, so repeating it after an error or a lost answer is safe: what was deleted
        before the error stays deleted. With at most `deletes_at_once` archives a call, little is repeated.

        A refusal is a lock, a legal hold or a policy of the vault's own: try again when it has ended. Without
        the permission to delete it is `DeniedError`, which says nothing about the archives.
        """
        ...


@runtime_checkable
class TakesFiles(Protocol):
    """An optional ability of a `Vault` that may lie on the spool's own file system."""

    def takes_from(self, directory: str) -> bool:
        """Whether `put_file` is expected to take files of this directory."""
        ...

    def put_file(
        self, upload_id: UploadId, path: str, parts: Sequence[Part], stamp: FileStamp | None = None
    ) -> bool:
        """Take a finished, synced file as all parts of an upload, without a copy of its bytes.

        False where that cannot be (another file system): then nothing was taken, and the parts are to be
        sent. The file must not be written to any more. `UploadExpiredError` when the upload is unknown.

        `stamp` is what the file had when its bytes were hashed and proven. A file that still has it is not
        hashed again; any other is, and `IntegrityError` is raised unless it consists of exactly these parts.
        """
        ...


@runtime_checkable
class ReadsDirectly(Protocol):
    """An optional ability of a `Vault` whose archives may be readable without a request for that."""

    def readable(self, archive_id: ArchiveId, size: int) -> RetrievalId | None:
        """The id by which `fetch` reads an archive as it lies there; None if it must be retrieved first.

        Nothing is asked for or looked at: an archive that was moved elsewhere fails when it is read.
        """
        ...


@runtime_checkable
class NamesVersions(Protocol):
    """An optional ability of a `Vault` in which one of several objects may lie under an archive's id."""

    def take_version(self, archive_id: ArchiveId) -> str:
        """The version of the object that `complete_upload` made, as the vault's lists have it; only once.

        Empty where it is not known.
        """
        ...


class LockableObjects(Struct, frozen=True):
    """The ids of objects that can be locked: archives, and `others`: identities and marks.

    `covered` are those among them over which somebody else put a delete marker, or another object. `rules`: a
    sentence for each rule of the vault's own by which it deletes or freezes some of them.
    """

    archives: frozenset[ArchiveId]
    others: frozenset[ArchiveId]
    covered: frozenset[ArchiveId] = frozenset()
    rules: tuple[str, ...] = ()


@runtime_checkable
class LocksObjects(Protocol):
    """An optional ability of a `Vault`, whose objects can be locked until a date: nobody deletes them before.

    Errors are those of `Vault`; `ArchiveMissingError` for an object that is not there.
    """

    @property
    def locks(self) -> bool:
        """Whether what is stored in it is locked."""
        ...

    def vault_time(self) -> datetime:
        """The time by its own clock, which decides."""
        ...

    def lockable(self, inventory_ids: Collection[InventoryId]) -> LockableObjects:
        """All archives that are there, be they hidden, and these inventories' identities and marks."""
        ...

    def lock_of(self, key: ArchiveId) -> ObjectLock | None:
        """The lock of an object; None if it was never locked."""
        ...

    def lock_until(self, key: ArchiveId, until: datetime) -> ObjectLock:
        """Lock an object until then; its lock from then on, as the vault has it. It may be repeated."""
        ...

    def hold(self, key: ArchiveId, *, is_on: bool) -> None:
        """Put an object under a legal hold, which has no end, or end that. It may be repeated."""
        ...


class CredentialSource(Protocol):
    """A source of AWS keys."""

    def credentials(self) -> Credentials:
        """Keys that are valid now, renewed in time; safe from many threads, one fetch at a time.

        `IdentityError`, `DeniedError` or `UnreachableError` when there are none to be had; a failed renewal
        is no error as long as the last keys still work.
        """
        ...


class Clock(Protocol):
    """The time, injected from outside."""

    def now(self) -> datetime:
        """The time, in UTC, with its zone."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; a test's clock only advances."""
        ...


class Progress(Protocol):
    """The receiver of a run's progress; called from the run's own thread only, but for `note`.

    Calls are cheap and may be many; an implementation draws or writes no more often than its reader can read.
    """

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        """Begin a phase; `total` bytes are expected, None if unknown; `counts` is the noun for `files`."""
        ...

    def expect(self, total: int | None, *, sends: bool = False) -> None:
        """Say how much the phase is expected to see, once it is known; from any thread.

        If the phase `sends`, the speed shown is that of sending; otherwise none.
        """
        ...

    def advance(
        self, *, files: int = 0, done: int = 0, packed: int = 0, uploaded: int = 0, stored: int = 0
    ) -> None:
        """Add files and bytes that were processed.

        Of a backup, in bytes of packs: `packed` are to be sent, `uploaded` went up, `stored` are in archives
        that the vault has accepted as a whole.
        """
        ...

    def note(self, text: str) -> None:
        """Show one line that a reader should see (a warning, a wait); from any thread."""
        ...

    def finish(self, *, is_done: bool = True) -> None:
        """End the phase; not `is_done` if it ended early."""
        ...


@contextmanager
def phase(
    progress: Progress, title: str, total: int | None = None, *, counts: str = "file"
) -> Iterator[None]:
    """A context manager for a phase, which is done at its end, and not if an exception ends it."""
    progress.start(title, total, counts=counts)
    try:
        yield
    except BaseException:
        progress.finish(is_done=False)
        raise
    progress.finish()
