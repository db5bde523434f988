"""A thread that writes a run's records into the inventory, in order, while the run reads on.

    writer = WriterThread()
    recording = writer.submit(partial(uploader.record, pack, ...))   # again and again
    writer.finish()                                              # everything is recorded now

The database works without the interpreter's lock, so the run's own thread goes on reading files meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

_MOST_WAITING: Final = 4  # each with columns of some ten thousand entries, or of a pack's chunks

T = TypeVar("T")


class WriterThread:
    """The thread with its queue, for one caller, who must `close` it in the end."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "writer")
        self._waiting: deque[Future[Any]] = deque()
        self._error: BaseException | None = None

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run this after everything submitted before; waits while too much is waiting.

        The first error ends the thread: it is raised here, by the returned future, and by `finish`.
        """
        while self._waiting and (len(self._waiting) >= _MOST_WAITING or self._waiting[0].done()):
            self._waiting.popleft().result()
        doing = self._thread.submit(self._do, work)
        self._waiting.append(doing)
        return doing

    def finish(self) -> None:
        """Wait until everything is done."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Drop what was not begun, and end the thread."""
        self._thread.shutdown(cancel_futures=True)

    # On the thread.

    def _do(self, work: Callable[[], T]) -> T:
        if self._error is not None:
            raise self._error
        try:
            return work()
        except BaseException as error:
            self._error = error
            raise
