"""The bytes that went up: counted by the threads that send, reported by the one that keeps the records."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import Any, Final

from backup.protocols import Progress

_LOOK: Final = 0.5  # seconds between two words about a wait


class Sent:
    """Bytes of parts that the vault has taken; one that is sent anew counts once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._parts: dict[tuple[int, int], int] = {}  # by archive and offset, until that is stored
        self._new = 0

    def part(self, archive: int, offset: int, size: int) -> None:
        """A part went up; from any thread."""
        with self._lock:
            if (archive, offset) not in self._parts:
                self._parts[archive, offset] = size
                self._new += size

    def whole(self, archive: int, size: int) -> None:
        """All of an archive is there: what was counted of it, and what was there before."""
        with self._lock:
            mine = [key for key in self._parts if key[0] == archive]
            self._new += size - sum(self._parts.pop(key) for key in mine)

    def take(self) -> int:
        """The bytes since the last time, to be told."""
        with self._lock:
            new, self._new = self._new, 0
        return new

    def tell(self) -> None:
        """Pass on what is new; from the thread that keeps the records."""
        self._progress.advance(uploaded=self.take())

    def wait_for(self, done: Future[Any]) -> None:
        """Wait for an upload, and tell meanwhile how it gets on."""
        while not done.done():
            wait([done], timeout=_LOOK)
            self.tell()
