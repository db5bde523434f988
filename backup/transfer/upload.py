"""Bring packs to the vault part by part: recorded first, resumable, bounded, retried.

    with Uploader(...) as uploader:
        uploader.resume(pending)            # what a dead process left behind
        uploader.submit(pack, "x.pack", ...)
        uploader.drain()                    # every pack is stored now

The caller's thread keeps the books: it records a pack as submitted before its first byte is sent, and as
stored when the vault has completed it. Worker threads carry bytes and return values.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self

from backup.errors import IntegrityError, UploadExpiredError
from backup.format.treehash import combine, leaf_hashes, part_size_for
from backup.inventory import archives
from backup.inventory.archives import Archive, CatalogPlace, PendingUpload
from backup.inventory.database import Inventory
from backup.model import MIB, ArchiveId, ByteRange, Pack, PackId, Part, TreeHash, UploadId
from backup.protocols import Clock, Progress, Vault
from backup.transfer.retry import Patience
from backup.transfer.spool import spool_errors

_Place = tuple[int, int, bytes | None]  # offset, length, tree hash of a part that the vault has
_WINDOW = 32 * MIB  # what is mapped at once of a spool file that is hashed again


@dataclass(frozen=True, slots=True)
class _Sending:
    """A pack on its way."""

    archive: int
    size: int
    spool_file: str
    done: Future[ArchiveId]


class Uploader:
    """Uploads of one vault. Use it from one thread; it owns its worker threads and ends them."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        vault: Vault,
        clock: Clock,
        progress: Progress,
        spool: str,
        part_size: int,
        packs_at_once: int = 2,
        parts_at_once: int = 3,
    ) -> None:
        self._inventory = inventory
        self._vault = vault
        self._clock = clock
        self._progress = progress
        self._spool = spool
        self._part_size = part_size
        self._most = packs_at_once
        self._patience = Patience(clock)
        self._sending: deque[_Sending] = deque()
        self._packs = ThreadPoolExecutor(packs_at_once, "pack")
        self._parts = ThreadPoolExecutor(parts_at_once, "part")
        self.stored_archives = 0
        self.stored_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._parts.shutdown(wait=False, cancel_futures=True)
        self._packs.shutdown(wait=True, cancel_futures=kind is not None)
        self._parts.shutdown(wait=True)

    def submit(
        self,
        pack: Pack,
        spool_file: str,
        *,
        domain: int,
        run: int,
        chunk_numbers: Sequence[int] = (),
        catalog: CatalogPlace | None = None,
    ) -> int:
        """Record a pack (its spool file is synced already), begin its upload and send it; its archive number.

        Waits while too many packs are under way.
        """
        self._collect(leave=self._most - 1)
        part_size = part_size_for(pack.size, self._part_size)
        with self._inventory.writing() as tx:
            number = archives.submit(
                tx,
                pack,
                domain=domain,
                run=run,
                chunk_numbers=chunk_numbers,
                spool_file=spool_file,
                part_size=part_size,
                now=self._clock.now(),
                catalog=catalog,
            )
        upload_id = self._patience.call(lambda: self._vault.begin_upload(pack.label, part_size))
        with self._inventory.writing() as tx:
            archives.upload_begun(tx, number, upload_id)
            archive = archives.get_archives(tx, [number], self._inventory.id)[number]
        done = self._packs.submit(self._send, archive, upload_id, part_size, spool_file, pack.leaves)
        self._sending.append(_Sending(number, pack.size, spool_file, done))
        return number

    def drain(self) -> None:
        """Wait until everything submitted is stored and recorded."""
        self._collect(leave=0)

    def resume(self, pending: Sequence[PendingUpload]) -> None:
        """Finish what a dead process left: nothing that the vault has is sent again.

        A pack whose spool file is gone or damaged is recorded as lost; nobody builds upon it.
        """
        begun = self._open_uploads() if pending else {}
        for one in pending:
            known = [one.upload_id] if one.upload_id else []
            known += [found for found in begun.get(one.archive.label.pack_id, ()) if found not in known]
            leaves = _leaves_of(os.path.join(self._spool, one.spool_file), one.archive)
            if leaves is None:
                self._lose(one, known)
                continue
            self._collect(leave=self._most - 1)
            done = self._packs.submit(self._finish, one, known, leaves)
            self._sending.append(_Sending(one.archive.number, one.archive.size, one.spool_file, done))
        self.drain()
        self.stored_archives = self.stored_bytes = 0  # they count for the run that made them

    def _collect(self, *, leave: int) -> None:
        """Record what is stored, oldest first, until at most `leave` packs are under way."""
        while len(self._sending) > leave or (self._sending and self._sending[0].done.done()):
            sent = self._sending.popleft()
            archive_id = sent.done.result()
            with self._inventory.writing() as tx:
                archives.mark_stored(tx, sent.archive, archive_id, self._clock.now())
            _remove(os.path.join(self._spool, sent.spool_file))
            self.stored_archives += 1
            self.stored_bytes += sent.size
            self._progress.advance(stored=sent.size)

    def _open_uploads(self) -> dict[PackId, list[UploadId]]:
        """Uploads of ours that the vault has begun: the answer to a `begin` may have been lost."""
        found: dict[PackId, list[UploadId]] = {}
        for one in self._patience.call(self._vault.list_uploads):
            if one.label and one.label.inventory_id == self._inventory.id:
                found.setdefault(one.label.pack_id, []).append(one.upload_id)
        return found

    def _lose(self, pending: PendingUpload, known: Sequence[UploadId]) -> None:
        """Give a pack up that cannot be sent any more."""
        for upload_id in known:
            self._patience.call(partial(self._vault.abort_upload, upload_id))
        with self._inventory.writing() as tx:
            archives.mark_lost(tx, pending.archive.number)
        _remove(os.path.join(self._spool, pending.spool_file))
        self._progress.note(
            f"the spool file {pending.spool_file} is gone or damaged; its files are read again"
        )

    # On worker threads: bytes and vault calls, no books.

    def _send(
        self,
        archive: Archive,
        upload_id: UploadId,
        part_size: int,
        spool_file: str,
        leaves: Sequence[bytes],
        present: frozenset[_Place] = frozenset(),
    ) -> ArchiveId:
        """Send the parts that are not `present`, then complete."""
        path = os.path.join(self._spool, spool_file)
        parts = _parts_of(archive.size, part_size, leaves)
        sending = [
            self._parts.submit(self._part, path, part, upload_id)
            for part in parts
            if (part.offset, part.length, part.tree_hash) not in present
        ]
        sent = {part.offset: part for part in (future.result() for future in sending)}
        return self._complete(archive, upload_id, [sent.get(part.offset, part) for part in parts])

    def _part(self, path: str, part: Part, upload_id: UploadId) -> Part:
        """Send one part; its plain hash is made here, where the bytes are."""
        with _mapped(path, ByteRange(part.offset, part.offset + part.length)) as body:
            if self._vault.traits.checks_sha256:
                part = replace(part, sha256=hashlib.sha256(body).digest())
            self._patience.call(partial(self._vault.put_part, upload_id, part, body))
        return part

    def _complete(self, archive: Archive, upload_id: UploadId, parts: Sequence[Part]) -> ArchiveId:
        return self._patience.call(
            lambda: self._vault.complete_upload(
                upload_id, archive.label, archive.size, archive.tree_hash, parts
            )
        )

    def _finish(
        self, pending: PendingUpload, known: Sequence[UploadId], leaves: Sequence[bytes]
    ) -> ArchiveId:
        """Repeat Complete; else send what is missing; else begin anew."""
        archive, part_size, spool_file = pending.archive, pending.part_size, pending.spool_file
        parts = _parts_of(archive.size, part_size, leaves)
        for upload_id in known:
            try:
                return self._complete(archive, upload_id, parts)
            except IntegrityError:
                present = self._present(upload_id)
                return self._send(archive, upload_id, part_size, spool_file, leaves, present)
            except UploadExpiredError:
                continue
        begun = self._patience.call(lambda: self._vault.begin_upload(archive.label, part_size))
        return self._send(archive, begun, part_size, spool_file, leaves)

    def _present(self, upload_id: UploadId) -> frozenset[_Place]:
        stored = self._patience.call(lambda: self._vault.list_parts(upload_id))
        return frozenset((part.offset, part.length, part.tree_hash) for part in stored)


def _extents(size: int, part_size: int) -> list[ByteRange]:
    """The parts of `size` bytes."""
    return [ByteRange(start, min(start + part_size, size)) for start in range(0, size, part_size)]


def _tree_of(extent: ByteRange, leaves: Sequence[bytes]) -> TreeHash:
    """The tree hash of a part, from the leaves of the whole."""
    return combine(leaves[extent.start // MIB : -(-extent.end // MIB)])


def _parts_of(size: int, part_size: int, leaves: Sequence[bytes]) -> list[Part]:
    """The parts of an archive by its leaves, without their plain hashes."""
    extents = _extents(size, part_size)
    return [Part(extent.start, extent.length, _tree_of(extent, leaves), b"") for extent in extents]


@contextmanager
def _mapped(path: str, extent: ByteRange) -> Iterator[memoryview]:
    """A part of a spool file, mapped while it is used: what is not mapped takes no memory."""
    with spool_errors(path, "read"), open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), extent.length, access=mmap.ACCESS_READ, offset=extent.start)
    with mapped, memoryview(mapped) as view:
        yield view


def _leaves_of(path: str, archive: Archive) -> list[bytes] | None:
    """The leaves of a spool file, or None if it is not there or not what was recorded."""
    with spool_errors(path, "read"):
        if not os.path.exists(path) or os.stat(path).st_size != archive.size:
            return None
    leaves: list[bytes] = []
    for extent in _extents(archive.size, _WINDOW):
        with _mapped(path, extent) as view:
            leaves.extend(leaf_hashes(view))
    return leaves if combine(leaves) == archive.tree_hash else None


def _remove(path: str) -> None:
    with spool_errors(path, "removed"), suppress(FileNotFoundError):
        os.unlink(path)
