"""The record of how far each retrieval is written, made only once the target's disk holds it.

What was written is synced on a thread of its own while the next files are made; the record is written when
that sync is over, so that it never promises more than the disk holds. A sync that fails ends the session.
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
    """The retrievals of one session as they are now, and the record of them; use it from one thread."""

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
        """Bytes that the disk may not hold yet: of frames, or of the blocks of files if these are more."""
        return max(self._bytes, (self._writer.files - self._files) * _BLOCK)

    @property
    def known(self) -> Mapping[int, Retrieval]:
        """The retrievals as they are now, by number."""
        return self._known

    def set(self, retrieval: Retrieval) -> None:
        """A retrieval has changed; it is recorded with the next checkpoint."""
        self._known[retrieval.number] = retrieval
        self._changed.add(retrieval.number)

    def accept(self, retrieval: Retrieval, length: int) -> None:
        """The next frame of a retrieval, of `length` bytes, is being written; it is `retrieval` then."""
        self._accepted.append(retrieval)
        self._bytes += length

    def note_done(self, under_way: int) -> None:
        """Take down how far each retrieval is written: of frames that are done, and of none `under_way`."""
        while len(self._accepted) > under_way:
            self.set(self._accepted.popleft())

    def begin(self, so_far: RestoreState) -> None:
        """Have what was written synced on the thread."""
        self.end()
        changed = [self._known[number] for number in sorted(self._changed)]
        self._under_way = _Checkpoint(self._syncer.submit(self._writer.syncing()), changed, so_far)
        self._changed.clear()
        self._bytes, self._files = 0, self._writer.files

    def end(self) -> None:
        """Wait for the sync that is under way, then record what it holds."""
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
        """Record what the disk holds by now, without waiting."""
        if self._under_way is not None and self._under_way.syncing.done():
            self.end()

    def record(self, so_far: RestoreState) -> None:
        """Sync what was written, and record it."""
        self.begin(so_far)
        self.end()

    def run(self, last: Callable[[], None]) -> None:
        """Run the last sync of a restore on the thread: no Ctrl-C hides what it says."""
        self._syncer.submit(last).result()

    def close(self) -> None:
        """End the thread."""
        self._syncer.shutdown()
