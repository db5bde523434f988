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
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from backup.errors import IntegrityError, UploadExpiredError
from backup.format.treehash import combine, leaf_hashes, part_size_for
from backup.inventory import archives
from backup.inventory.archives import Archive, CatalogPlace, PendingUpload
from backup.inventory.database import Inventory
from backup.model import MIB, ArchiveId, Pack, PackId, Part, UploadId
from backup.protocols import Clock, Progress, Vault
from backup.transfer.retry import Patience


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
        parts_at_once: int = 4,
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
        stop = kind is not None
        self._parts.shutdown(wait=True, cancel_futures=stop)
        self._packs.shutdown(wait=True, cancel_futures=stop)

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
        done = self._packs.submit(
            self._send, archive, upload_id, part_size, spool_file, pack.leaves, frozenset()
        )
        self._sending.append(_Sending(number, pack.size, spool_file, done))
        return number

    def drain(self) -> None:
        """Wait until everything submitted is stored and recorded."""
        self._collect(leave=0)

    def resume(self, pending: Sequence[PendingUpload]) -> None:
        """Finish what a dead process left: nothing that the vault has is sent again.

        A pack whose spool file is gone or damaged is recorded as lost; nobody builds upon it.
        """
        adopted = self._open_uploads() if any(one.upload_id is None for one in pending) else {}
        for one in pending:
            path = os.path.join(self._spool, one.spool_file)
            leaves = _leaves_of(path, one.archive)
            if leaves is None:
                with self._inventory.writing() as tx:
                    archives.mark_lost(tx, one.archive.number)
                _remove(path)
                continue
            upload_id = one.upload_id or adopted.get(one.archive.label.pack_id)
            self._collect(leave=self._most - 1)
            done = self._packs.submit(self._finish, one, upload_id, leaves)
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

    def _open_uploads(self) -> dict[PackId, UploadId]:
        """Uploads of ours that the vault has begun: the answer to `begin` may have been lost."""
        found = self._patience.call(self._vault.list_uploads)
        ours = [one for one in found if one.label and one.label.inventory_id == self._inventory.id]
        return {one.label.pack_id: one.upload_id for one in ours if one.label}

    # On worker threads: bytes and vault calls, no books.

    def _send(
        self,
        archive: Archive,
        upload_id: UploadId,
        part_size: int,
        spool_file: str,
        leaves: Sequence[bytes],
        present: frozenset[tuple[int, int, bytes | None]] = frozenset(),
    ) -> ArchiveId:
        """Send the parts that are not `present` (offset, length, tree hash), then complete."""
        view = _mapped(os.path.join(self._spool, spool_file))
        sending = [
            self._parts.submit(self._part, view, offset, part_size, upload_id, leaves, present)
            for offset in range(0, archive.size, part_size)
        ]
        parts = [future.result() for future in sending]
        return self._complete(archive, upload_id, parts)

    def _part(
        self,
        view: memoryview,
        offset: int,
        part_size: int,
        upload_id: UploadId,
        leaves: Sequence[bytes],
        present: frozenset[tuple[int, int, bytes | None]],
    ) -> Part:
        body = view[offset : offset + part_size]
        tree = combine(leaves[offset // MIB : -(-(offset + len(body)) // MIB)])
        if (offset, len(body), tree) in present:
            return Part(offset, len(body), tree, b"")
        linear = hashlib.sha256(body).digest() if self._vault.traits.checks_sha256 else b""
        part = Part(offset, len(body), tree, linear)
        self._patience.call(lambda: self._vault.put_part(upload_id, part, body))
        return part

    def _complete(self, archive: Archive, upload_id: UploadId, parts: Sequence[Part]) -> ArchiveId:
        return self._patience.call(
            lambda: self._vault.complete_upload(
                upload_id, archive.label, archive.size, archive.tree_hash, parts
            )
        )

    def _finish(
        self, pending: PendingUpload, upload_id: UploadId | None, leaves: Sequence[bytes]
    ) -> ArchiveId:
        """Repeat Complete; else send what is missing; else begin anew."""
        archive, part_size, spool_file = pending.archive, pending.part_size, pending.spool_file
        if upload_id is not None:
            try:
                return self._complete(archive, upload_id, _parts_of(archive.size, part_size, leaves))
            except IntegrityError:
                present = self._present(upload_id)
                return self._send(archive, upload_id, part_size, spool_file, leaves, present)
            except UploadExpiredError:
                pass
        begun = self._patience.call(lambda: self._vault.begin_upload(archive.label, part_size))
        return self._send(archive, begun, part_size, spool_file, leaves)

    def _present(self, upload_id: UploadId) -> frozenset[tuple[int, int, bytes | None]]:
        stored = self._patience.call(lambda: self._vault.list_parts(upload_id))
        return frozenset((part.offset, part.length, part.tree_hash) for part in stored)


def _parts_of(size: int, part_size: int, leaves: Sequence[bytes]) -> list[Part]:
    """The parts of an archive by its leaves, without their plain hashes."""
    parts: list[Part] = []
    for offset in range(0, size, part_size):
        length = min(part_size, size - offset)
        tree = combine(leaves[offset // MIB : -(-(offset + length) // MIB)])
        parts.append(Part(offset, length, tree, b""))
    return parts


def _mapped(path: str) -> memoryview:
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _leaves_of(path: str, archive: Archive) -> list[bytes] | None:
    """The leaves of a spool file, or None if it is not there or not what was recorded."""
    try:
        if os.stat(path).st_size != archive.size:
            return None
    except FileNotFoundError:
        return None
    leaves = leaf_hashes(_mapped(path))
    return leaves if combine(leaves) == archive.tree_hash else None


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
