"""How a run gets on, told to a terminal, a log, a script or nobody, as often as each can read."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from backup.cli import render

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Monotonic = Callable[[], float]
_log = logging.getLogger(__name__)


class Silent:
    """Tells nobody."""

    def start(self, title: str, total: int | None = None) -> None:
        """Nothing to see."""

    def advance(self, *, files: int = 0, done: int = 0, stored: int = 0) -> None:
        """Nothing to see."""

    def note(self, text: str) -> None:
        """Nothing to see."""

    def finish(self) -> None:
        """Nothing to see."""


class Logged(Silent):
    """Notes as lines of the log; how far a run is can be asked of the inventory."""

    def note(self, text: str) -> None:
        """One line."""
        _log.info("%s", render.printable(text))


class _Counting(ABC):
    """Adds up, and calls `_draw` when `_pause` seconds have passed since the last time."""

    _pause = 0.1

    def __init__(self, stream: IO[str], *, monotonic: Monotonic = time.monotonic) -> None:
        self._stream = stream
        self._monotonic = monotonic
        self._begin("", None)

    def _begin(self, title: str, total: int | None) -> None:
        self.title, self.total = title, total
        self.files = self.done = self.stored = 0
        self._started = self._drawn = self._monotonic()

    def start(self, title: str, total: int | None = None) -> None:
        self._begin(title, total)

    def advance(self, *, files: int = 0, done: int = 0, stored: int = 0) -> None:
        self.files += files
        self.done += done
        self.stored += stored
        now = self._monotonic()
        if now - self._drawn >= self._pause:
            self._drawn = now
            self._draw()

    @abstractmethod
    def _draw(self) -> None:
        """Tell how far it is."""

    @property
    def seconds(self) -> float:
        """Since the phase began."""
        return self._monotonic() - self._started

    @property
    def seconds_left(self) -> float | None:
        """At the mean rate so far; None when nobody knows."""
        if not self.total or not self.done:
            return None
        return max(0, self.total - self.done) * self.seconds / self.done


class PlainLines(_Counting):
    """A line now and then: every 10 s at first, later ten times as long as it has run divided by 100."""

    _pause = 10.0

    def start(self, title: str, total: int | None = None) -> None:
        """Say what begins."""
        super().start(title, total)
        self._pause = PlainLines._pause
        self._write(title + (f": {render.size(total)}" if total else ""))

    def note(self, text: str) -> None:
        """A line of its own."""
        self._write(text)

    def finish(self) -> None:
        """Say what it came to."""
        self._write(f"{self.title}: done, {self._figures(finished=True)} in {render.duration(self.seconds)}")

    def _draw(self) -> None:
        self._pause = max(PlainLines._pause, self.seconds / 10)
        left = self.seconds_left
        self._write(
            f"{self.title}: {self._figures()}" + (f", {render.duration(round(left))} left" if left else "")
        )

    def _figures(self, *, finished: bool = False) -> str:
        of_total = f" of {render.size(self.total)}" if self.total and not finished else ""
        parts = [f"{self.files:,} files" if self.files else "", f"{render.size(self.done)}{of_total}"]
        parts.append(f"{render.size(self.stored)} stored" if self.stored else "")
        parts.append(render.rate(self.done, self.seconds) if self.done else "")
        return ", ".join(part for part in parts if part)

    def _write(self, line: str) -> None:
        self._stream.write(render.printable(line) + "\n")
        self._stream.flush()


class JsonLines(_Counting):
    """JSON lines for scripts: `{"progress": {...}}` once a second, `{"note": "..."}`; docs/json.md."""

    _pause = 1.0

    def start(self, title: str, total: int | None = None) -> None:
        """The phase's first line."""
        super().start(title, total)
        self._draw()

    def note(self, text: str) -> None:
        """A line of its own."""
        self._write({"note": text})

    def finish(self) -> None:
        """The phase's last line."""
        self._write({"progress": self._document(finished=True)})

    def _draw(self) -> None:
        self._write({"progress": self._document(finished=False)})

    def _document(self, *, finished: bool) -> dict[str, object]:
        return {
            "title": self.title,
            "total": self.total,
            "files": self.files,
            "done": self.done,
            "stored": self.stored,
            "seconds": round(self.seconds, 3),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 3),
            "finished": finished,
        }

    def _write(self, document: object) -> None:
        self._stream.write(render.json_line(document) + "\n")
        self._stream.flush()


class TerminalBar(_Counting):
    """A bar with rate and time left, redrawn in place."""

    def __init__(self, stream: IO[str], *, monotonic: Monotonic = time.monotonic) -> None:
        super().__init__(stream, monotonic=monotonic)
        self._rich: RichProgress | None = None

    def start(self, title: str, total: int | None = None) -> None:
        """Draw a bar; a phase that was not finished is left as it is."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._stop()
        super().start(title, total)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        self._rich = Progress(*columns, console=console, refresh_per_second=4)
        self._task = self._rich.add_task(render.printable(title), total=total, figures="")
        self._rich.start()

    def note(self, text: str) -> None:
        """A line above the bar."""
        if self._rich is None:
            self._stream.write(render.printable(text) + "\n")
        else:
            self._rich.console.print(render.printable(text))

    def finish(self) -> None:
        """Leave the last state standing."""
        if self._rich is not None:
            self._draw(finished=True)
            self._stop()

    def _stop(self) -> None:
        if self._rich is not None:
            self._rich.stop()
            self._rich = None

    def _draw(self, *, finished: bool = False) -> None:
        if self._rich is None:
            return
        of_total = f"/{render.size(self.total)}" if self.total and not finished else ""
        parts = [render.size(self.done) + of_total]
        parts.append(f"{self.files:,} files" if self.files else "")
        parts.append(f"{render.size(self.stored)} stored" if self.stored else "")
        parts.append(render.rate(self.done, self.seconds) if self.done else "")
        if finished:
            parts.append(render.duration(self.seconds))
        elif self.seconds_left is not None:
            parts.append(f"{render.duration(round(self.seconds_left))} left")
        figures = ", ".join(part for part in parts if part)
        total = self.done or 1 if finished else self.total
        self._rich.update(
            self._task, completed=self.done or (1 if finished else 0), total=total, figures=figures
        )
