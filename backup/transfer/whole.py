"""Downloads whole archives to files: in pieces, each compared with the vault's hash where it gives one.

A file has its name only once all its bytes are there and on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from backup.errors import (
    NightvaultError,
    PackUnreadableError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    VaultError,
)
from backup.files import Draft, spool_errors
from backup.format.treehash import aligned_pieces, combine, leaf_hashes
from backup.inventory.content.archives import Archive
from backup.model import MIB, ArchiveId, ByteRange, RetrievalId, Tier
from backup.protocols import Clock, Vault
from backup.transfer.fault_scope import require_own_fault
from backup.transfer.retrievals.once import new_token
from backup.transfer.retry import RetryPolicy
from backup.transfer.sent import named

PIECE = 16 * MIB
TRIES = 3


class WholeArchive(Struct, frozen=True):
    """A ready retrieval of bytes `extent` of an archive of `size` bytes, and the file they go to.

    `hashed` is given the tree hash's leaves of each piece, in order, before it is written.
    """

    retrieval_id: RetrievalId
    size: int
    extent: ByteRange
    path: str
    hashed: Callable[[Sequence[bytes]], object] | None = None


def fetch_to_files(
    vault: Vault,
    clock: Clock,
    wanted: Sequence[WholeArchive],
    *,
    at_once: int = 3,
    tell: Callable[[str], None] | None = None,
) -> Iterator[tuple[WholeArchive, NightvaultError | None]]:
    """Yield each archive once done, in order, with an error of its own if any; others are raised."""
    patience = RetryPolicy(clock, tell=tell)

    def fetch(archive: WholeArchive) -> NightvaultError | None:
        try:
            _fetch(vault, patience, archive)
        except (RetrievalExpiredError, RetrievalNotReadyError) as error:
            return error
        except NightvaultError as error:
            require_own_fault(error, vault, patience)
            return error
        return None

    with ThreadPoolExecutor(at_once, "fetch") as workers:
        try:
            yield from zip(wanted, workers.map(fetch, wanted), strict=True)
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(vault: Vault, patience: RetryPolicy, archive: WholeArchive) -> None:
    with spool_errors(archive.path, "written"), Draft(archive.path, beside=f"{archive.path}.part") as draft:
        draft.file.writelines(
            _piece(vault, patience, archive, piece)
            for piece in aligned_pieces(archive.extent, archive.size, PIECE)
        )
        draft.place()


def _piece(
    vault: Vault, patience: RetryPolicy, archive: WholeArchive, piece: ByteRange
) -> bytes | memoryview:
    """Bytes that match the vault's own hash, where it gives one; what stays wrong shows when it is opened."""
    within = ByteRange(piece.start - archive.extent.start, piece.end - archive.extent.start)
    for _ in range(TRIES):
        fetched = patience.call(lambda: vault.fetch(archive.retrieval_id, within))
        if len(fetched.data) != piece.length:
            raise VaultError(f"the vault gave {len(fetched.data)} bytes, not {piece.length}")
        is_hashed = fetched.tree_hash is not None or archive.hashed is not None
        leaves = leaf_hashes(fetched.data) if is_hashed else []
        if fetched.tree_hash is None or combine(leaves) == fetched.tree_hash:
            break
    if archive.hashed is not None:
        archive.hashed(leaves)
    return fetched.data


class WhereTheyLie(Struct, frozen=True):
    """Reads packs, as they are sent, of a vault that gives bytes at once and for nothing; for any threads."""

    vault: Vault
    patience: RetryPolicy

    def read(self, archive: Archive, extent: ByteRange) -> bytes | memoryview:
        """Exactly these bytes of a pack. `PackUnreadableError` if that pack alone cannot give them."""
        vault, name, token = self.vault, ArchiveId(archive.archive_id or ""), new_token()

        def fetch() -> bytes | memoryview:
            return vault.fetch(vault.request_retrieval(name, None, Tier.STANDARD, token), extent).data

        try:
            data = self.patience.call(fetch)
        except NightvaultError as error:
            if not isinstance(error, RetrievalExpiredError):
                require_own_fault(error, vault, self.patience)
            raise PackUnreadableError(
                f"{named(archive)} cannot be read, and is not copied: {error}"
            ) from error
        return data

    def leaves(self, archive: Archive) -> list[bytes] | None:
        """The leaves of its tree hash; None if it is not what was recorded. `PackUnreadableError`."""
        whole = ByteRange(0, archive.size)
        pieces = aligned_pieces(whole, archive.size, PIECE)
        leaves = [leaf for piece in pieces for leaf in leaf_hashes(self.read(archive, piece))]
        return leaves if combine(leaves) == archive.tree_hash else None
