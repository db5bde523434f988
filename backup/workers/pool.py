"""The workers of a run: started as there is more to do; one warning if one cannot be started or dies.

pool = Pool(start, most=3, warn=warn, subject="files were read by one process: the other")
pool.start_one()                        # None if there may be no other
pool.give_up(worker, error)             # the others go on
pool.close()
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Generic, Protocol, TypeVar

from backup.errors import WorkerGoneError


class Closable(Protocol):
    """A worker, or an object that owns one."""

    def close(self) -> None:
        """End it; nothing happens the second time."""


_W = TypeVar("_W", bound=Closable)


class Pool(Generic[_W]):
    """At most `most` workers, for use from one thread; `close` it whatever happened."""

    def __init__(
        self,
        start: Callable[[], _W],
        most: int,
        warn: Callable[[str], None],
        subject: str,
        *,
        misses_any: bool = False,
    ) -> None:
        """`warn` gets `subject` and why a worker is missing.

        If one cannot be started while others run, this is only said if the pool `misses_any`.
        """
        self.workers: list[_W] = []
        self._start = start
        self.most = most
        self._warn = warn
        self._subject = subject
        self._misses_any = misses_any

    def start_one(self) -> _W | None:
        """Start one more worker; None if there are `most` already, or the system cannot start one."""
        if len(self.workers) >= self.most:
            return None
        try:
            worker = self._start()
        except OSError as error:
            self.most = 0  # it is not tried again
            if self._misses_any or not self.workers:
                self._warn(f"{self._subject} cannot be started: {error.strerror or error}")
            return None
        self.workers.append(worker)
        return worker

    def give_up(self, worker: _W, error: WorkerGoneError) -> None:
        """Remove a worker that is gone; no other is started in its place."""
        self.most = 0
        self._warn(f"{self._subject} is gone: {error}")
        worker.close()

    def close(self) -> None:
        """End them all."""
        self.most = 0
        with ExitStack() as ending:
            while self.workers:
                ending.callback(self.workers.pop().close)
