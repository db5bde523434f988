"""Records how far each retrieval is written, only after the target's disk holds it.

Written data is synced on a separate thread while the next files are made; the record is written after that
sync, so that it never claims more than the disk holds. A failed sync ends the session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from msgspec import Struct

from backup.inventory.records import restore_state as books
from backup.inventory.records.restore_state import RestoreState
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.database import Inventory
from backup.model import KIB
from backup.restorer.writer.write import Writer

_BLOCK = 4 * KIB  # what the smallest file takes on most file systems


class _Checkpoint(Struct, frozen=True):
    """The record that is written when all that came before it is on the disk."""

    syncing: Future[None]
    changed: Sequence[Retrieval]
    so_far: RestoreState


class Checkpoints:
    """The retrievals of one session, and the records of their progress; use it from one thread."""

    def __init__(
        self, restore: Restore, known: Sequence[Retrieval], inventory: Inventory, writer: Writer
    ) -> None:
        self._restore = restore
        self._inventory = inventory
        self._writer = writer
        self._known = {retrieval.number: retrieval for retrieval in known}
        self._changed: set[int] = set()
        self._accepted: deque[Retrieval] = deque()  # as each is once its newest frames are done
        self._syncer = ThreadPoolExecutor(1, "sync")
        self._under_way: _Checkpoint | None = None
        self._bytes = 0  # of frames since the last sync began
        self._files = 0  # the writer's count when it did

    @property
    def unsynced(self) -> int:
        """Bytes that may not be on disk yet: of frames, or of the blocks of files if these are more."""
        return max(self._bytes, (self._writer.files - self._files) * _BLOCK)

    @property
    def known(self) -> Mapping[int, Retrieval]:
        """The retrievals as they are now, by number."""
        return self._known

    def set(self, retrieval: Retrieval) -> None:
        """Take a changed retrieval, to be recorded with the next checkpoint."""
        self._known[retrieval.number] = retrieval
        self._changed.add(retrieval.number)

    def accept(self, retrieval: Retrieval, length: int) -> None:
        """Take the next frame, of `length` bytes; once it is written, its retrieval is `retrieval`."""
        self._accepted.append(retrieval)
        self._bytes += length

    def note_done(self, under_way: int) -> None:
        """Take over the progress of frames that are written, which excludes the last `under_way`."""
        while len(self._accepted) > under_way:
            self.set(self._accepted.popleft())

    def begin(self, so_far: RestoreState) -> None:
        """Start a sync of all that was written, on the thread."""
        self.end()
        changed = [self._known[number] for number in sorted(self._changed)]
        self._under_way = _Checkpoint(self._syncer.submit(self._writer.syncing()), changed, so_far)
        self._changed.clear()
        self._bytes, self._files = 0, self._writer.files

    def end(self) -> None:
        """Wait for the running sync, then record what it covers."""
        checkpoint = self._under_way
        if checkpoint is None:
            return
        checkpoint.syncing.result()
        self._writer.synced()
        with self._inventory.writing() as tx:
            books.retrievals_changed(tx, checkpoint.changed)
            books.keep_progress(tx, self._restore.number, checkpoint.so_far)
        self._under_way = None

    def end_if_synced(self) -> None:
        """Record what a finished sync covers, without waiting."""
        if self._under_way is not None and self._under_way.syncing.done():
            self.end()

    def record(self, so_far: RestoreState) -> None:
        """Sync and record all that was written."""
        self.begin(so_far)
        self.end()

    def run(self, last: Callable[[], None]) -> None:
        """Run the last sync of a restore on the thread, so that Ctrl-C does not hide its errors."""
        self._syncer.submit(last).result()

    def close(self) -> None:
        """End the thread."""
        self._syncer.shutdown()
