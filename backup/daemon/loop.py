"""The daemon's main thread: signals, ticks, systemd's watchdog, reloads, and a stop within ten seconds."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Thread
from types import FrameType

from backup.daemon.board import Board
from backup.daemon.executor import Executor
from backup.daemon.systemd import Systemd
from backup.daemon.ticks import Ticks

STOP_SECONDS = 8.0
"""How long runs may take to end: parts in flight are done by then, or are sent again after a restart."""
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
READ_SECONDS = 30.0
"""Seconds that a config may be read before that is told."""
RENEW_SECONDS = 86_400.0
"""How long a daemon that is to begin anew waits for a moment in which nothing runs."""
_HUNG_SECONDS = 600.0  # without a look for so long the daemon hangs, and systemd may begin it again
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Loop:
    """Runs a board until `stop` is set or a signal comes. Must run in the main thread.

    `look_seconds`: how long a `stop` without a signal, or a clock that was set back, may stay unnoticed.
    `woken`: SIGHUPs that arrived before it ran. `begins_anew`: it ended for a restart, as SIGUSR1 asked.
    """

    board: Board
    executor: Executor
    stop: Event
    reload: Callable[[], None] = lambda: None
    systemd: Systemd = field(default_factory=Systemd)
    stop_seconds: float = STOP_SECONDS
    look_seconds: float = 0.5
    read_seconds: float = READ_SECONDS
    woken: SimpleQueue[int] = field(default_factory=SimpleQueue)
    begins_anew: bool = field(default=False, init=False)
    _renew_by: float | None = field(default=None, init=False)
    _next_sign: float = field(default=0.0, init=False)
    _reloads: SimpleQueue[None] = field(default_factory=SimpleQueue, init=False)
    _reading_since: float | None = field(default=None, init=False)

    def run(self) -> bool:
        """Run tasks until asked to stop; return whether all runs then ended in time.

        A second signal ends the process at once.
        """
        ticks, count = Ticks(self.board.look), len(self.board.scheduled)
        with _signals(self.woken):
            ticks.start()
            Thread(target=self._reread, name="reload", daemon=True).start()
            _log.info("started with %d %s", count, "task" if count == 1 else "tasks")
            self.systemd.tell("READY=1", f"STATUS={self._status()}")
            while not self.stop.is_set():
                self._heed()
                self._renew()
                self._tell_of_long_reading()
                ticks.reset_late()
                self._give_sign()
            self.systemd.tell("STOPPING=1", "STATUS=stopping")
            self.board.stop()
            ended = self.executor.wait(self.stop_seconds) and ticks.stop(self.look_seconds)
        left = self.board.runs()
        for run in left:
            after = "was cancelled" if run.cancelled.is_set() else "goes on after the next start"
            _log.warning("%s: dropped, as it did not end in %g s; it %s", run.task, self.stop_seconds, after)
        _log.info("stopped")
        return ended and not left

    def _heed(self) -> None:
        try:
            number = self.woken.get(timeout=self.look_seconds)
        except Empty:
            return
        if number == signal.SIGHUP and not _terminal_is_gone():
            self._reloads.put(None)
        elif number == signal.SIGUSR1:
            self._renew_by = time.monotonic() + RENEW_SECONDS
            _log.info("asked to begin anew: as soon as nothing runs")
        else:
            self.stop.set()  # before anything that could wait
            if number == signal.SIGHUP:
                _leave_terminal()
            _log.info("asked to stop")

    def _renew(self) -> None:
        """End for a new daemon to begin, as a new version asks it to: between runs if it can."""
        if self._renew_by is not None and (not self.board.runs() or time.monotonic() > self._renew_by):
            self.begins_anew = True
            self.stop.set()

    def _reread(self) -> None:
        """Reload as often as asked, on a thread of its own: the disk of the file may not answer."""
        while True:
            self._reloads.get()
            with suppress(Empty):
                while True:  # one reading answers all that were asked for by now
                    self._reloads.get_nowait()
            self._reading_since = time.monotonic()
            self.systemd.reloading()
            try:
                self.reload()
            except Exception as error:  # noqa: BLE001  the next one may go well
                _log.error("the config was not reloaded: unexpected %s: %s", type(error).__name__, error)
                _log.debug("where it happened", exc_info=error)
            self._reading_since = None
            self.systemd.tell("READY=1")

    def _tell_of_long_reading(self) -> None:
        """Tell once of a reading that does not end."""
        since = self._reading_since
        if since is not None and time.monotonic() - since > self.read_seconds:
            self._reading_since = None
            _log.error(
                "the config cannot be read: no answer from its disk in %g s; the old one stays",
                self.read_seconds,
            )

    def _give_sign(self) -> None:
        """Tell systemd that we live, as long as the board is looked at."""
        now, period = time.monotonic(), self.systemd.watchdog_seconds
        if now < self._next_sign:
            return
        self._next_sign = now + min(period or 30.0, 30.0)
        if now - self.board.looked_at < _HUNG_SECONDS:
            self.systemd.tell(*(["WATCHDOG=1"] if period else []), f"STATUS={self._status()}")

    def _status(self) -> str:
        """The line that `systemctl status` shows: what runs, or what is next."""
        if self.board.gate.is_waiting:
            return "waits for this machine's clock to be set"
        running = [str(run.task) for run in self.board.runs()]
        if running:
            return f"runs {', '.join(running)}"
        coming = [
            (line.next_at, str(line.task)) for line in self.board.lines() if line.next_at and line.task.vault
        ]
        if not coming:
            return "nothing is due"
        at, what = min(coming)
        return f"next: {what}, {at.astimezone():%Y-%m-%d %H:%M}"


def _terminal_is_gone() -> bool:
    """Whether the terminal that we were started in has been closed: SIGHUP means that, then."""
    try:
        termios.tcgetattr(sys.stderr.fileno())
    except termios.error as error:
        return bool(error.args[0] == errno.EIO)  # else there never was one
    except (OSError, ValueError):
        return False
    return False


def _leave_terminal() -> None:
    """Write to nothing instead of a terminal that is gone: each write to it would be an error."""
    with open(os.devnull, "r+b", buffering=0) as nothing:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                os.dup2(nothing.fileno(), stream.fileno())


@contextmanager
def _signals(woken: SimpleQueue[int]) -> Iterator[None]:
    """Put SIGHUP, SIGUSR1, the first SIGTERM or SIGINT into a queue; the next of these has its usual effect.

    No exception and no `Event.set` from a handler: either may strike while this thread holds a lock that a
    clean end needs. Putting into a `SimpleQueue` is safe there by its documentation.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if number in _STOP_SIGNALS:
            for signal_number in _STOP_SIGNALS:
                signal.signal(signal_number, signal.SIG_DFL)
        woken.put(number)

    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    heeded = (*_STOP_SIGNALS, signal.SIGUSR1, *([signal.SIGHUP] if hangs_up else []))
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
