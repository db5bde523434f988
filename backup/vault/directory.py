"""A local directory as a vault: a `Vault` whose retrievals and listings are ready at once."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from backup.errors import (
    ArchiveMissingError,
    ArchiveShortError,
    IntegrityError,
    RetrievalExpiredError,
    UnmarkedVaultError,
    UploadExpiredError,
    VaultError,
    VaultMissingError,
)
from backup.files import are_linkable
from backup.format import pack, treehash
from backup.model import (
    MIB,
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
    Part,
    Refusal,
    RetrievalId,
    RetrievalState,
    RetrievalStatus,
    StoredPart,
    Tier,
    TreeHash,
    UploadId,
    VaultIdentity,
    VaultName,
    VaultState,
)
from backup.protocols import Clock, VaultTraits
from backup.vault import directory_lists, dirfd, layout, upload_checks
from backup.vault.layout import ArchiveRecord, Root, UploadRecord
from backup.vault.marker import LAYOUT, Marker, read_marker, write_first_marker, write_marker_anew
from backup.vault.rate_limit import NO_LIMITS, UNLIMITED, RateLimits

TRAITS = VaultTraits(
    retrieves_ranges=True,
    waits=False,
    keeps_metadata_hot=False,
    minimum_storage=timedelta(0),
    smallest_part=MIB,
    largest_part=4096 * MIB,
    most_parts=10_000,
    checks_sha256=False,
    lists_at_once=True,
    lists_for_nothing=True,
    fetches_for_nothing=True,
    deletes_at_once=1000,
)

_LISTING = ListingId("now")
_PROTECTED = Refusal("its file is protected: immutable (chattr +i), append-only, or another user's")


class DirectoryVault:
    """A `Vault` in a directory of this machine, in the layout of `layout.py`.

    It keeps no record of retrievals, so `open_retrievals` is empty: asking again costs nothing.
    """

    def __init__(
        self,
        name: VaultName,
        path: str,
        clock: Clock,
        limits: RateLimits = NO_LIMITS,
        *,
        reads_unmarked: bool = False,
    ) -> None:
        self._name = name
        self._path = os.path.abspath(path)
        self._clock = clock
        self._limits = limits
        self._reads_unmarked = reads_unmarked
        self._completing = threading.Lock()

    @property
    def name(self) -> VaultName:
        """The vault's name in the config."""
        return self._name

    @property
    def traits(self) -> VaultTraits:
        """The limits and abilities of a directory vault."""
        return TRAITS

    def create(self) -> None:
        """Make the directory (0700; the one above must exist) and its marker. `UnmarkedVaultError`."""
        marker = Marker(LAYOUT, secrets.token_hex(16), self._clock.now())
        with dirfd.failing_as_vault("make a vault", self._path):
            try:
                os.mkdir(self._path, 0o700)
            except FileExistsError:
                pass
            except FileNotFoundError as error:
                above = os.path.dirname(self._path)
                message = f"cannot make a vault in {self._path}: there is no {above}"
                advice = f"mount the disk that holds {above}, or make that directory"
                raise VaultMissingError(message, advice=advice) from error
            with self._directory() as root:
                write_first_marker(root, self._name, marker)

    def state(self) -> VaultState:
        """The number of archives and bytes in the vault, which is there without its marker, too."""
        try:
            listing = self.fetch_listing(_LISTING)
        except VaultMissingError:
            return VaultState(exists=False, location=self._path)
        sizes = [line.size for line in listing.archives if not directory_lists.is_mark(line)]
        return VaultState(True, self._path, len(sizes), sum(sizes), listing.as_of)

    # Which vault this is.

    def identities(self, inventory_id: InventoryId) -> Sequence[VaultIdentity]:  # noqa: ARG002 (all see the same)
        """The vault's id, from its marker file. `UnmarkedVaultError` if that is missing or damaged."""
        with self._reading("look which vault it is") as root:
            try:
                return [VaultIdentity(read_marker(root, self._name).id)]
            except UnmarkedVaultError:
                if self._reads_unmarked:
                    return []
                raise

    def add_identity(self, inventory_id: InventoryId, token: str) -> None:  # noqa: ARG002 (all see the same)
        """Write the marker anew, with that id, if it is missing or damaged; else it has one."""
        marker = Marker(LAYOUT, token, self._clock.now())
        with self._reading("write its marker anew") as root:
            write_marker_anew(root, self._name, marker)

    def read_unmarked(self) -> DirectoryVault:
        """The same vault for read-only use: its archives identify it if the marker does not."""
        return DirectoryVault(self._name, self._path, self._clock, self._limits, reads_unmarked=True)

    def newest_catalogs(
        self,
        inventory_id: InventoryId,
        known: Mapping[bytes, int],
    ) -> Sequence[ListedArchive]:
        """All catalogs of the inventory and of its jobs in this vault: every record is read anyway."""
        with self._reading("list the catalogs") as root:
            return [
                *directory_lists.catalogs_in(root, inventory_id, known),
                *directory_lists.marks_in(root, inventory_id),
            ]

    def add_mark(self, name: str) -> None:
        """An empty file below `meta/`, durably."""
        with self._root("leave a mark") as root:
            directory_lists.write_mark(root, name)

    # Uploads.

    def begin_upload(self, label: ArchiveLabel, part_size: int) -> UploadId:
        """Begin an upload under a new random id."""
        if part_size & (part_size - 1) or not TRAITS.smallest_part <= part_size <= TRAITS.largest_part:
            raise VaultError(f"parts have a power of two from 1 MiB to 4 GiB, not {part_size} bytes")
        upload_id = UploadId(secrets.token_hex(16))
        record = UploadRecord(pack.describe(label), part_size, self._clock.now())
        with self._root("begin an upload") as root:
            layout.make_upload(root, upload_id, record)
        return upload_id

    def put_part(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
        """Write one part at its offset and sync it; its tree hash is verified, `sha256` is ignored.

        Two threads must not send different bytes for the same part at once.
        """
        with (
            self._root(f"write to upload {upload_id}") as root,
            layout.open_upload(root, upload_id) as (upload, record),
        ):
            upload_checks.check_place(part, body.nbytes, record.part_size)
            if treehash.tree_hash(body) != part.tree_hash:
                raise upload_checks.changed(upload_id, part.offset)
            stored = StoredPart(part.offset, part.length, part.tree_hash)
            layout.write_part(upload, stored, body, self._limits.up)

    def takes_from(self, directory: str) -> bool:
        """Whether the directory is on the same mount as the vault, and no rate limit is set."""
        return self._limits.up is UNLIMITED and are_linkable(directory, self._path)

    def put_file(
        self, upload_id: UploadId, path: str, parts: Sequence[Part], stamp: FileStamp | None = None
    ) -> bool:
        """Hard-link the file into the upload, if it lies on this file system and no rate limit is set.

        It is hashed unless it has the stamp: then it is the very file that was verified (a copy would have
        another inode), and nobody wrote to it since.
        """
        if self._limits.up is not UNLIMITED:
            return False
        stored = [StoredPart(part.offset, part.length, part.tree_hash) for part in parts]
        with (
            self._root(f"take a file into upload {upload_id}") as root,
            layout.open_upload(root, upload_id) as (upload, _),
        ):
            if not layout.link_file(upload, path):
                return False
            try:
                if stamp is None or layout.linked_stamp(upload) != stamp:
                    upload_checks.check_linked(upload, upload_id, stored)
                upload_checks.check_linked_size(upload, upload_id, stored)
            except IntegrityError:
                layout.drop_linked(upload)
                raise
            layout.adopt_linked(upload, stored)
        return True

    def list_parts(
        self,
        upload_id: UploadId,
        part_size: int,  # noqa: ARG002 (the vault noted where each part lies)
    ) -> Sequence[StoredPart]:
        """The parts that are written and synced."""
        with (
            self._root(f"list the parts of upload {upload_id}") as root,
            layout.open_upload(root, upload_id) as (upload, _),
        ):
            return layout.read_parts(upload)

    def complete_upload(
        self,
        upload_id: UploadId,
        label: ArchiveLabel,
        size: int,
        tree_hash: TreeHash,
        parts: Sequence[Part],  # noqa: ARG002 (what the vault noted of them decides)
    ) -> ArchiveId:
        """Check the parts' offsets and hashes, then rename the data file, which makes it an archive."""
        archive_id = ArchiveId(upload_id)
        record = ArchiveRecord(pack.describe(label), size, tree_hash.hex(), self._clock.now())
        with self._completing, self._root(f"complete upload {upload_id}") as root:
            if layout.archive_size(root, archive_id) is None:
                with layout.open_upload(root, upload_id) as (upload, begun):
                    upload_checks.check_whole(upload_id, layout.read_parts(upload), begun, record)
                layout.make_archive(root, upload_id, record)
            else:
                upload_checks.check_repeated(archive_id, layout.archive_record(root, archive_id), record)
            layout.remove_upload(root, upload_id)
        return archive_id

    def abort_upload(self, upload_id: UploadId) -> None:
        """Remove an upload and its bytes; an archive that was completed from it stays."""
        with self._root(f"abort upload {upload_id}") as root:
            layout.remove_upload(root, upload_id)

    def list_uploads(self) -> Sequence[OpenUpload]:
        """All uploads that were begun and not completed."""
        found = []
        with self._root("list the uploads") as root:
            for upload_id in layout.upload_ids(root):
                with suppress(UploadExpiredError), layout.open_upload(root, upload_id) as (_, record):
                    label = pack.parse_description(record.description)
                    found.append(OpenUpload(upload_id, label, record.part_size, record.started_at))
        return found

    # Retrievals: the id says it all.

    def request_retrieval(
        self,
        archive_id: ArchiveId,
        extent: ByteRange | None,
        tier: Tier,  # noqa: ARG002 (all are as fast)
        token: str,  # noqa: ARG002 (there is nothing to find again)
    ) -> RetrievalId:
        """A retrieval that is ready at once; ranges must be aligned to MiB, as in Glacier."""
        with (
            self._reading(f"retrieve archive {archive_id}") as root,
            dirfd.failing_as_archive(archive_id, self._path),
        ):
            size = layout.archive_size(root, archive_id)
        if size is None:
            raise ArchiveMissingError(f"vault {self._path} has no archive {archive_id}")
        if size == 0:
            raise ArchiveShortError(f"archive {archive_id} in {self._path} is empty")
        start, end = (extent.start, extent.end) if extent else (0, size)
        if end > size:
            raise ArchiveShortError(f"archive {archive_id} ends at byte {size}, before byte {end}")
        if start % MIB or not 0 <= start < end <= size or (end % MIB and end != size):
            raise VaultError(
                f"bytes {start} to {end} of archive {archive_id} are no range of whole MiB of it"
            )
        return directory_lists.retrieval_of(archive_id, start, end)

    def readable(self, archive_id: ArchiveId, size: int) -> RetrievalId:
        """The id of all of it."""
        return directory_lists.retrieval_of(archive_id, 0, size)

    def open_retrievals(self) -> Mapping[str, RetrievalId]:
        """An empty list: the directory keeps no record of retrievals."""
        with self._reading("look for retrievals"):
            return {}

    def retrieval_statuses(self, ids: Iterable[RetrievalId]) -> Mapping[RetrievalId, RetrievalStatus]:
        """READY for each archive that is still there."""
        statuses = {}
        with self._reading("look for archives") as root:
            for id_ in ids:
                parsed = directory_lists.parse_retrieval(id_)
                there = parsed is not None and layout.archive_size(root, parsed[0]) is not None
                statuses[id_] = RetrievalStatus(RetrievalState.READY if there else RetrievalState.EXPIRED)
        return statuses

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        """Read bytes of an archive; the vault has no hash of its own for them."""
        with self._reading(f"fetch retrieval {retrieval_id}") as root:
            parsed = directory_lists.parse_retrieval(retrieval_id)
            if parsed is None:
                raise RetrievalExpiredError(f"vault {self._path} knows no retrieval {retrieval_id}")
            archive_id, retrieved = parsed
            if 0 <= extent.start < extent.end and extent.end > retrieved.length:
                raise ArchiveShortError(f"{retrieval_id} ends before byte {extent.end}")
            if not 0 <= extent.start < extent.end <= retrieved.length:
                raise VaultError(f"bytes {extent.start} to {extent.end} are not within {retrieval_id}")
            wanted = ByteRange(retrieved.start + extent.start, retrieved.start + extent.end)
            try:
                return Fetched(layout.read_archive(root, archive_id, wanted, self._limits.down), None)
            except ArchiveMissingError as error:
                raise RetrievalExpiredError(str(error)) from error

    # Listings and deletions.

    def request_listing(self, token: str) -> ListingId:  # noqa: ARG002 (there is nothing to find again)
        """A listing that is ready at once."""
        with self._reading("list the archives"):
            return _LISTING

    def listing_status(self, listing_id: ListingId) -> RetrievalStatus:
        """READY, always: the list is made when it is fetched."""
        with self._reading("list the archives"):
            return RetrievalStatus(RetrievalState.READY if listing_id == _LISTING else RetrievalState.EXPIRED)

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        """The archives that are in the directory now."""
        as_of = self._clock.now()
        with self._reading("list the archives") as root:
            if listing_id != _LISTING:
                raise RetrievalExpiredError(f"vault {self._path} knows no listing {listing_id}")
            return Listing(as_of, [*directory_lists.archives_in(root), *directory_lists.marks_in(root)])

    def delete_archives(
        self, stored: Mapping[ArchiveId, datetime | None], _: object = None
    ) -> Mapping[ArchiveId, Refusal]:
        """Remove archives and their records; what the file system itself protects is refused."""
        with self._root("delete archives") as root:
            return dict.fromkeys(layout.remove_archives(root, stored), _PROTECTED)

    # The directory is opened for each call: so a disk can be unmounted in between, and is missed if it was.

    @contextmanager
    def _directory(self) -> Iterator[Root]:
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield Root(fd, self._path)
        finally:
            os.close(fd)

    @contextmanager
    def _root(self, doing: str) -> Iterator[Root]:
        """For writing: with its marker."""
        with self._opened(doing) as root:
            read_marker(root, self._name)
            yield root

    @contextmanager
    def _reading(self, doing: str) -> Iterator[Root]:
        """Open the vault for reading, which works even if the marker is missing or damaged."""
        with self._opened(doing) as root:
            with suppress(UnmarkedVaultError):
                read_marker(root, self._name)
            yield root

    @contextmanager
    def _opened(self, doing: str) -> Iterator[Root]:
        if not os.path.isdir(self._path):
            raise VaultMissingError(
                f"cannot {doing}: there is no directory {self._path}",
                advice=f"mount the disk that holds {self._path}, or correct the path",
            )
        with dirfd.failing_as_vault(doing, self._path), self._directory() as root:
            yield root
