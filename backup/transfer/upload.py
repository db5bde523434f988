"""Uploads packs to the vault part by part: recorded first, resumable, bounded, retried.

    with Uploader(...) as uploader:
        uploader.resume(pending)            # what a dead process left behind
        uploader.send(uploader.record(pack, "x.pack", ...))
        uploader.drain()                    # every pack is stored now

The caller's thread keeps the records: it records a pack as submitted before its first byte is sent, and as
stored when the vault has completed it. Worker threads carry bytes and return values. `record` alone, which is
the database's work, may be called on another thread.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from backup.errors import (
    ArchiveTakenError,
    IntegrityError,
    NightvaultError,
    PackUnreadableError,
    UploadExpiredError,
)
from backup.format.crc64 import crc64
from backup.format.treehash import part_size_for
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive, CatalogPosition, PendingUpload
from backup.inventory.store.database import Inventory
from backup.model import ArchiveId, Pack, PackId, Part, StoredPart, UploadId
from backup.protocols import Clock, NamesVersions, Progress, TakesFiles, Vault, phase
from backup.transfer.concurrency import Concurrency, Gate
from backup.transfer.retry import RetryPolicy
from backup.transfer.sent import (
    ArchiveRecords,
    Outgoing,
    PackSource,
    Sent,
    UploadRecords,
    leaves_of,
    mapped,
    named,
    outgoing_of,
    parts_of,
    remove,
    tree_of_part,
)

PARTS_AT_ONCE = 3  # at first
_ANEW = 2  # how often an upload that the vault gave up is begun again before that ends the run


class _Sending(Struct, frozen=True):
    """A pack on its way; its upload was begun `anew` so many times, `others` were begun before.

    `is_left`: an earlier run left it, so that its files are yet to be read, if need be again.
    """

    pack: Outgoing
    done: Future[ArchiveId]
    anew: int = 0
    others: Sequence[UploadId] = ()
    is_left: bool = False


class Uploader:
    """Uploads of one vault. Use it from one thread; it owns its worker threads and ends them.

    `parts_at_once` parts are sent at once, each mapped meanwhile; with `most_at_once` as many as make it
    faster, up to that. Packs without a file in the spool are read from `source`, part by part; one that
    cannot be is not stored, and is in `unreadable` by its number, with the reason.
    """

    def __init__(
        self,
        *,
        inventory: Inventory,
        vault: Vault,
        clock: Clock,
        progress: Progress,
        spool: str,
        part_size: int,
        records: UploadRecords | None = None,
        source: PackSource | None = None,
        packs_at_once: int = 2,
        parts_at_once: int = PARTS_AT_ONCE,
        most_at_once: int | None = None,
    ) -> None:
        self._inventory = inventory
        self._records = records or ArchiveRecords(inventory)
        self._vault = vault
        self._source = source
        self._clock = clock
        self._progress = progress
        self._spool = spool
        self._part_size = part_size
        self._most = packs_at_once
        self._patience = RetryPolicy(clock, tell=progress.note)
        self.sent = Sent(progress)
        self._sending: deque[_Sending] = deque()
        self._packs = ThreadPoolExecutor(packs_at_once, "pack")
        most = most_at_once or parts_at_once
        fixed = Concurrency.fixed(parts_at_once)
        self._gate = Gate(Concurrency(min(parts_at_once, most), most) if most_at_once else fixed, clock)
        self._parts = ThreadPoolExecutor(most + 1, "part")  # one that waits shows that all lanes are full
        self._newly_stored: list[int] = []
        self.stored_archives = 0
        self.stored_bytes = 0
        self.unreadable: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._gate.close()
            self._parts.shutdown(wait=False, cancel_futures=True)
        self._packs.shutdown(wait=True, cancel_futures=kind is not None)
        self._parts.shutdown(wait=True)

    def record(
        self,
        pack: Pack,
        spool_file: str,
        *,
        domain: int,
        run: int,
        chunk_numbers: Sequence[int] = (),
        catalog: CatalogPosition | None = None,
    ) -> Outgoing:
        """Record a pack as submitted (its spool file is synced already), for `send`; on any thread."""
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
            archive = archives.get_archives(tx, [number], self._inventory.id)[number]
        hashes = pack.part_hashes if pack.part_size == part_size else ()
        parts = parts_of(pack.size, part_size, pack.leaves, hashes)
        return Outgoing(archive, part_size, spool_file, parts, pack.stamp)

    def send(self, outgoing: Outgoing) -> int:
        """Begin the upload of a recorded pack; its archive number. Waits while too many are under way."""
        self._collect(leave=self._most - 1)
        self._sending.append(_Sending(outgoing, self._begin(outgoing)))
        self._progress.advance(packed=outgoing.archive.size)
        return outgoing.archive.number

    def drain(self) -> None:
        """Wait until everything submitted is stored and recorded."""
        self._collect(leave=0)

    def take_stored(self) -> Sequence[int]:
        """Numbers of the archives that were recorded as stored since the last call, in order."""
        taken, self._newly_stored = self._newly_stored, []
        return taken

    def resume(self, pending: Sequence[PendingUpload]) -> None:
        """Finish what a dead process left: nothing that the vault has is sent again.

        A pack that is gone or damaged where it is sent from is recorded as lost; it is not built upon.
        """
        if not pending:
            return
        total = sum(upload.archive.size for upload in pending)
        with phase(self._progress, "Sending what an earlier run left", total, counts="archive"):
            self._resume(pending)
        self.stored_archives = self.stored_bytes = 0  # they count for the run that made them
        self._newly_stored.clear()

    def _resume(self, pending: Sequence[PendingUpload]) -> None:
        begun = self._open_uploads()
        for upload in pending:
            known = [upload.upload_id] if upload.upload_id else []
            known += [
                upload_id
                for upload_id in begun.get(upload.archive.label.pack_id, ())
                if upload_id not in known
            ]
            leaves, what = self._leaves(upload)
            if leaves is None:
                why = f"{what} is gone or damaged"
                self._lose(upload.archive.number, upload.spool_file, known, why)
                continue
            self._collect(leave=self._most - 1)
            outgoing = outgoing_of(upload, leaves)
            done = self._take_up(outgoing, known[0]) if known else self._begin(outgoing)
            self._sending.append(_Sending(outgoing, done, others=known[1:], is_left=True))
            self._progress.advance(files=1, done=upload.archive.size, packed=upload.archive.size)
        self.drain()

    def _collect(self, *, leave: int) -> None:
        """Record what is stored, oldest first, until at most `leave` packs are under way."""
        while len(self._sending) > leave or (self._sending and self._sending[0].done.done()):
            sending = self._sending.popleft()
            self.sent.wait_for(sending.done)
            try:
                self._stored(sending.pack, sending.done.result())
            except UploadExpiredError:
                if sending.anew == _ANEW and not sending.others:
                    raise
                self._sending.appendleft(self._again(sending))
            except ArchiveTakenError as error:
                why = str(error) if sending.is_left else ""
                self._lose(sending.pack.archive.number, sending.pack.spool_file, sending.others, why)
                if not sending.is_left:  # what this run has read already counts on it
                    raise
            except PackUnreadableError as error:
                archive = sending.pack.archive
                self._lose(archive.number, "", sending.others, "")
                self.unreadable[archive.number] = str(error)

    def _again(self, sending: _Sending) -> _Sending:
        """The same pack by another upload, as the vault gave this one up."""
        pack, others = sending.pack, sending.others
        if others:
            return replace(sending, done=self._take_up(pack, others[0]), others=others[1:])
        return replace(sending, done=self._begin(pack), anew=sending.anew + 1)

    def _begin(self, pack: Outgoing) -> Future[ArchiveId]:
        """Begin an upload, which is recorded before it can become an archive, and send the pack."""
        archive = pack.archive
        upload_id = self._patience.call(lambda: self._vault.begin_upload(archive.label, pack.part_size))
        self._note_begun(pack, upload_id)
        return self._packs.submit(self._send, pack, upload_id)

    def _take_up(self, pack: Outgoing, upload_id: UploadId) -> Future[ArchiveId]:
        """Go on with an upload that was begun before, which is recorded then as well."""
        self._note_begun(pack, upload_id)
        return self._packs.submit(self._finish, pack, upload_id)

    def _note_begun(self, pack: Outgoing, upload_id: UploadId) -> None:
        """Once it is an archive, no list of uploads shows it any more: a repeated Complete finds it."""
        self._records.begun(pack.archive.number, upload_id)

    def _stored(self, pack: Outgoing, archive_id: ArchiveId) -> None:
        """Record that a pack is in the vault."""
        number, size = pack.archive.number, pack.archive.size
        version = self._vault.take_version(archive_id) if isinstance(self._vault, NamesVersions) else ""
        self._records.stored(number, archive_id, self._clock.now(), version)
        self._drop(pack.spool_file)
        self._newly_stored.append(number)
        self.stored_archives += 1
        self.stored_bytes += size
        self.sent.whole(number, size)
        self.sent.tell()
        self._progress.advance(stored=size)

    def _open_uploads(self) -> dict[PackId, list[UploadId]]:
        """Uploads of ours that the vault has begun: the answer to a `begin` may have been lost."""
        found: dict[PackId, list[UploadId]] = {}
        for upload in self._patience.call(self._vault.list_uploads):
            if upload.label and upload.label.inventory_id in {self._inventory.id, *self._inventory.ancestors}:
                found.setdefault(upload.label.pack_id, []).append(upload.upload_id)
        return found

    def _lose(self, number: int, spool_file: str, known: Sequence[UploadId], why: str) -> None:
        """Give a pack up that cannot be sent any more; say so, if nothing else does."""
        for upload_id in known:
            self._patience.call(partial(self._vault.abort_upload, upload_id))
        self._records.lost(number, self._clock.now())
        self._drop(spool_file)
        if why:
            self._progress.note(f"{why}; {self._records.MADE_AGAIN}")

    def _drop(self, spool_file: str) -> None:
        if spool_file:
            remove(os.path.join(self._spool, spool_file))

    def _leaves(self, upload: PendingUpload) -> tuple[list[bytes] | None, str]:
        """The leaves of what is left to send, None if it is not what was recorded; and its name in words."""
        archive = upload.archive
        if upload.spool_file:
            path = os.path.join(self._spool, upload.spool_file)
            return leaves_of(path, archive), f"the spool file {upload.spool_file}"
        try:
            leaves = None if self._source is None else self._source.leaves(archive)
        except PackUnreadableError:
            leaves = None
        return leaves, named(archive)

    # On worker threads: bytes and vault calls, no books.

    def _send(self, pack: Outgoing, upload_id: UploadId, present: Sequence[StoredPart] = ()) -> ArchiveId:
        """Send the parts that are not `present`, then complete. `UploadExpiredError` if it was given up."""
        if not present and self._put_file(pack, upload_id):
            self.sent.part(pack.archive.number, 0, pack.archive.size)
            return self._complete(pack.archive, upload_id, pack.parts)
        there = {part.offset: part for part in present}
        sending = [
            self._parts.submit(self._part, pack, part, upload_id)
            for part in pack.parts
            if not ((stored := there.get(part.offset)) and stored.is_same_as(part))
        ]
        try:
            sent = {part.offset: part for part in (future.result() for future in sending)}
            parts = [sent.get(part.offset, part) for part in pack.parts]
            pack.require_whole(parts)
        except PackUnreadableError:
            wait(sending)  # none arrives after the upload is given up
            self._patience.call(partial(self._vault.abort_upload, upload_id))
            raise
        return self._complete(pack.archive, upload_id, parts)

    def _put_file(self, pack: Outgoing, upload_id: UploadId) -> bool:
        """Hand the spool file over as it is, if there is one and the vault can take it."""
        vault = self._vault
        if not isinstance(vault, TakesFiles) or not pack.spool_file:
            return False
        path = os.path.join(self._spool, pack.spool_file)
        return self._patience.call(partial(vault.put_file, upload_id, path, pack.parts, pack.stamp))

    def _part(self, pack: Outgoing, part: Part, upload_id: UploadId) -> Part:
        """Send one part; hashes that only the vault wants and packing did not make are made here."""
        traits = self._vault.traits
        with self._gate.passing(part.length), self._body(pack, part) as body:
            if not pack.spool_file:
                part = tree_of_part(pack.archive, part, body)
            if traits.checks_sha256 and not part.sha256:
                part = replace(part, sha256=hashlib.sha256(body).digest())
            if traits.checks_crc64 and part.crc64 is None:
                part = replace(part, crc64=crc64(body))
            self._patience.call(partial(self._put, upload_id, part, body))
        self.sent.part(pack.archive.number, part.offset, part.length)
        return part

    @contextmanager
    def _body(self, pack: Outgoing, part: Part) -> Iterator[memoryview]:
        """The bytes of a part: of the spool file, else of where the pack lies."""
        if pack.spool_file:
            with mapped(os.path.join(self._spool, pack.spool_file), part.extent) as body:
                yield body
        elif self._source is None:
            raise PackUnreadableError(f"{named(pack.archive)} is nowhere to be read from")
        else:
            yield memoryview(self._source.read(pack.archive, part.extent))

    def _put(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
        """Send a part, and report retryable errors to the gate: there may be too many parts at once."""
        try:
            self._vault.put_part(upload_id, part, body)
        except NightvaultError as error:
            if error.retryable:
                self._gate.trouble()
            raise

    def _complete(self, archive: Archive, upload_id: UploadId, parts: Sequence[Part]) -> ArchiveId:
        return self._patience.call(
            lambda: self._vault.complete_upload(
                upload_id, archive.label, archive.size, archive.tree_hash, parts
            )
        )

    def _finish(self, pack: Outgoing, upload_id: UploadId) -> ArchiveId:
        """Repeat Complete, else send what is missing; `UploadExpiredError` if it was given up."""
        if self._vault.traits.tags_parts:
            pack = replace(pack, parts=self._known_parts(pack))
        try:
            return self._complete(pack.archive, upload_id, pack.parts)
        except IntegrityError:
            return self._send(pack, upload_id, self._present(pack, upload_id))

    def _known_parts(self, pack: Outgoing) -> list[Part]:
        """The parts of a pack that an earlier run left, with what a bucket knows them by."""
        found = []
        for part in pack.parts:
            with self._body(pack, part) as body:
                tag = hashlib.md5(body, usedforsecurity=False).hexdigest()
                found.append(replace(part, crc64=crc64(body), tag=tag))
        return found

    def _present(self, pack: Outgoing, upload_id: UploadId) -> Sequence[StoredPart]:
        return self._patience.call(lambda: self._vault.list_parts(upload_id, pack.part_size))
