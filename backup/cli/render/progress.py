"""The progress of a run: as lines of text, as JSON lines, for a log, or kept for a request.

A backup has three figures: bytes seen (read, or found unchanged), bytes uploaded of these, and bytes that
the vault has accepted as whole archives. The time left is that of the slowest figure. No figure exceeds the
total, and 100 % is shown only at the end.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from backup.app.restores.silence import Silent
from backup.cli.render import render

Monotonic = Callable[[], float]
_LEAST_SENT = 1024**2  # bytes of a backup from which its speed says something
_log = logging.getLogger(__name__)


class Logged(Silent):
    """A progress that logs notes and ignores figures."""

    def note(self, text: str) -> None:
        """Log one line."""
        _log.info("%s", render.printable(text))


class Figures:
    """The current figures of a phase."""

    def __init__(self, title: str = "", total: int | None = None, counts: str = "file") -> None:
        self.title, self.counts = title, counts
        self._expected, self._sends = total, False
        self.files = self.done = self.packed = self.uploaded = self.stored = 0

    def expect(self, total: int | None, *, sends: bool) -> None:
        """Set the expected bytes, and whether the speed is that of sending alone."""
        self._expected, self._sends = total, sends

    def add(self, *, files: int, done: int, packed: int, uploaded: int, stored: int) -> None:
        """Add to the figures."""
        self.files += files
        self.done += done
        self.packed += packed
        self.uploaded += uploaded
        self.stored += stored

    @property
    def total(self) -> int | None:
        """The bytes expected; at least those done, as the last snapshot gives only an estimate."""
        return None if self._expected is None else max(self._expected, self.done)

    @property
    def share(self) -> float | None:
        """The share done, by the slower of reading and sending; below 1 before the end."""
        if not self.total:
            return None
        read = self.done / self.total
        sent = min(1.0, self.uploaded / self.packed) if self.packed else 1.0
        return min(read * sent, 0.999)

    def seconds_left(self, seconds: float) -> float | None:
        """Return the seconds left for the slower of reading and sending, at its mean rate; None: unknown."""
        if not self.total or not self.done:
            return None
        left = (self.total - self.done) * seconds / self.done
        to_send = self.packed * self.total / self.done - self.uploaded
        if to_send > 0:
            if not self.uploaded:
                return None
            left = max(left, to_send * seconds / self.uploaded)
        return left

    def _rate(self, seconds: float) -> str:
        """The speed of what takes longest: of sending where something is sent, else of what was done.

        A backup that sends next to nothing has none: what is unchanged is not read.
        """
        moved = self.uploaded if self.packed or self._sends else self.done
        return render.rate(moved, seconds) if moved > (_LEAST_SENT if self._sends else 0) else ""

    def long(self, seconds: float, *, is_over: bool = False) -> str:
        """Return all figures in one line."""
        parts = [render.counted(self.files, self.counts) if self.files else ""]
        word = " seen" if self.packed else ""
        if self.done or self.total or self.packed:
            parts.append(f"{_of(self.done, None if is_over else self.total)}{word}")
        if self.packed:
            parts.append(f"{_of(self.uploaded, None if is_over else self.packed)} uploaded")
        parts.append(f"{render.size(self.stored)} stored" if self.stored else "")
        parts.append(self._rate(seconds))
        return ", ".join(part for part in parts if part)

    def short(self, seconds: float) -> Iterator[str]:
        """Return the figures, most important first, for a line that may not have room for all."""
        word = "seen " if self.packed else ""
        if self.done or self.total or self.packed:
            yield f"{word}{_pair(self.done, self.total)}"
        if self.packed:
            yield f"uploaded {_pair(self.uploaded, self.packed)}"
        if self.stored:
            yield f"stored {render.size(self.stored)}"
        if self.files:
            yield render.counted(self.files, self.counts)
        if rate := self._rate(seconds):
            yield rate


def _of(some: int, whole: int | None) -> str:
    return render.size(some) if not whole else f"{render.size(min(some, whole))} of {render.size(whole)}"


def _pair(some: int, whole: int | None) -> str:
    """Part and whole in the unit of the whole: 1.2/20.0 GiB."""
    if not whole:
        return render.size(some)
    number, _, unit = render.size(whole).partition(" ")
    base = whole / float(number) if float(number) else 1.0
    return f"{min(some, whole) / base:.{1 if '.' in number else 0}f}/{number} {unit}"


class Counting(ABC):
    """The base of progresses: adds figures up, and calls `_draw` at most every `_pause` seconds."""

    _pause = 0.1
    _beats = True  # whether a thread of its own draws, too, as a wait must not be silent

    def __init__(self, stream: IO[str], *, monotonic: Monotonic = time.monotonic) -> None:
        self._stream = stream
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._stop_beating: threading.Event | None = None
        self.figures = Figures()
        self._is_open = False
        self._started = self._drawn = monotonic()

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        with self._lock:
            self._still()
            self.figures, self._is_open = Figures(title, total, counts), True
            self._started = self._drawn = self._monotonic()
            if self._beats:
                self._stop_beating = threading.Event()
                beat = threading.Thread(target=self._beat, args=[self._stop_beating], daemon=True)
                beat.start()

    def expect(self, total: int | None, *, sends: bool = False) -> None:
        self.figures.expect(total, sends=sends)

    def advance(
        self, *, files: int = 0, done: int = 0, packed: int = 0, uploaded: int = 0, stored: int = 0
    ) -> None:
        self.figures.add(files=files, done=done, packed=packed, uploaded=uploaded, stored=stored)
        self._draw_if_due()

    def _draw_if_due(self) -> None:
        if self._monotonic() - self._drawn < self._pause:
            return
        with self._lock:
            if self._monotonic() - self._drawn >= self._pause:
                self._drawn = self._monotonic()
                self._draw()

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(1.0):
            with self._lock:
                if not stop.is_set():
                    self._draw_if_due()

    def _still(self) -> None:
        if self._stop_beating is not None:
            self._stop_beating.set()
            self._stop_beating = None

    @contextmanager
    def _last(self) -> Iterator[bool]:
        """End the phase, after which nothing is drawn; gives whether there was one."""
        with self._lock:
            self._still()
            was_open, self._is_open = self._is_open, False
            yield was_open

    @abstractmethod
    def _draw(self) -> None:
        """Show the figures so far."""

    @property
    def seconds(self) -> float:
        """The seconds since the phase began."""
        return self._monotonic() - self._started

    @property
    def seconds_left(self) -> float | None:
        """The seconds left at the mean rates so far; None if unknown."""
        return self.figures.seconds_left(self.seconds)

    def _figures_document(self) -> dict[str, object]:
        """The figures so far as JSON; the time left is `null` where nobody knows."""
        figures, left = self.figures, self.seconds_left
        return {
            "title": figures.title,
            "total": figures.total,
            "files": figures.files,
            "counts": figures.counts,
            "done": figures.done,
            "packed": figures.packed,
            "uploaded": min(figures.uploaded, figures.packed) if figures.packed else figures.uploaded,
            "stored": figures.stored,
            "seconds": round(self.seconds, 3),
            "seconds_left": None if left is None else round(left, 3),
        }


class Followed(Counting):
    """A progress that logs notes, and gives its figures to any thread on request."""

    _beats = False

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def note(self, text: str) -> None:
        """Log one line."""
        _log.info("%s", render.printable(text))

    def finish(self, *, is_done: bool = True) -> None:  # noqa: ARG002  the seam's signature
        """End the phase."""
        with self._last():
            pass

    def document(self) -> dict[str, object] | None:
        """Return the figures of the phase, as `JsonLines` has them; None between two phases."""
        with self._lock:
            return self._figures_document() if self._is_open else None

    def _draw(self) -> None:
        """Draw nothing."""


class PlainLines(Counting):
    """Lines of text: every 10 s at first, later at intervals of a tenth of the elapsed time."""

    _pause = 10.0

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        """Write the title of the phase."""
        super().start(title, total, counts=counts)
        self._pause = PlainLines._pause
        self._write(title + (f": {render.size(total)}" if total else ""))

    def note(self, text: str) -> None:
        """Write one line."""
        self._write(text)

    def finish(self, *, is_done: bool = True) -> None:
        """Write the final figures."""
        with self._last() as was_open:
            if not was_open:
                return
            how = "done" if is_done else "not done"
            figures = self.figures.long(self.seconds, is_over=True)
            took = render.duration(self.seconds)
            self._write(f"{self.figures.title}: {how}{', ' if figures else ''}{figures} in {took}")

    def _draw(self) -> None:
        self._pause = max(PlainLines._pause, self.seconds / 10)
        left = self.seconds_left
        rest = f", {render.duration(round(left))} left" if left else ""
        figures = self.figures.long(self.seconds) or f"{render.duration(round(self.seconds))} so far"
        self._write(f"{self.figures.title}: {figures}{rest}")

    def _write(self, line: str) -> None:
        with self._lock:
            self._stream.write(render.printable(line) + "\n")
            self._stream.flush()


class JsonLines(Counting):
    """JSON lines for scripts: `{"progress": {...}}` once a second, `{"note": "..."}`; docs/json.md."""

    _pause = 1.0

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        """Write the first line of the phase."""
        super().start(title, total, counts=counts)
        self._write({"progress": self._document(finished=False)})

    def note(self, text: str) -> None:
        """Write one line."""
        self._write({"note": text})

    def finish(self, *, is_done: bool = True) -> None:
        """Write the last line of the phase."""
        with self._last() as was_open:
            if not was_open:
                return
            self._write({"progress": self._document(finished=True) | {"done_well": is_done}})

    def _draw(self) -> None:
        self._write({"progress": self._document(finished=False)})

    def _document(self, *, finished: bool) -> dict[str, object]:
        document = self._figures_document()
        return document | ({"seconds_left": 0.0} if finished else {}) | {"finished": finished}

    def _write(self, document: object) -> None:
        with self._lock:
            self._stream.write(render.json_line(document) + "\n")
            self._stream.flush()
