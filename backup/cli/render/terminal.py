"""The progress of a run on a terminal: two lines that are redrawn in place, with notes above them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

from backup.cli.render import render
from backup.cli.render.progress import Counting, Monotonic

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

_LEAST_BAR, _MOST_BAR = 8, 40


class TerminalBar(Counting):
    """A bar with the time left, and the figures below it."""

    _beats = False  # it is drawn four times a second anyway

    def __init__(self, stream: IO[str], *, monotonic: Monotonic = time.monotonic) -> None:
        super().__init__(stream, monotonic=monotonic)
        self._live: Live | None = None

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        """Draw a bar; that of a phase that was not finished disappears."""
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        if self._live is not None:
            self._live.stop()
        super().start(title, total, counts=counts)
        console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        self._spinner = Spinner("dots")
        self._live = Live(
            console=console, refresh_per_second=4, transient=True, get_renderable=lambda: self._frame(console)
        )
        self._live.start()

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        live = self._live
        if live is None:
            self._stream.write(render.printable(text) + "\n")
            self._stream.flush()
        else:
            live.console.print(render.printable(text))

    def finish(self, *, is_done: bool = True) -> None:
        """Replace the bar by lines with the final figures."""
        live, self._live = self._live, None
        if live is None:
            return
        live.stop()
        how = "done" if is_done else "not done"
        head = f"{render.printable(self.figures.title)}: {how} in {render.duration(self.seconds)}"
        figures = self.figures.long(self.seconds, is_over=True)
        for line in (head, *(_lines(figures, live.console.width) if figures else ())):
            live.console.print(line)

    def _draw(self) -> None:
        """Nothing: the bar draws itself."""

    def _frame(self, console: Console) -> Group:
        from rich.console import Group
        from rich.text import Text

        width = max(console.width - 1, 20)
        spinner = self._spinner.render(time.monotonic())
        icon = spinner.plain if isinstance(spinner, Text) else "*"
        return Group(Text(self._head(icon, width)), Text(_fitting(self.figures.short(self.seconds), width)))

    def _head(self, icon: str, width: int) -> str:
        """Title, bar, percent and time left."""
        from rich.cells import cell_len, set_cell_size

        share, left = self.figures.share, self.seconds_left
        end = f" {share:4.0%}" if share is not None else ""
        end += f"  {render.duration(round(left))} left" if left else f"  {render.duration(self.seconds)}"
        title = render.printable(self.figures.title)
        room = width - cell_len(icon) - 2 - cell_len(end)
        bar = min(_MOST_BAR, max(_LEAST_BAR, room - cell_len(title) - 1)) if share is not None else 0
        most = max(4, room - bar - 1)
        if cell_len(title) > most:
            title = set_cell_size(title, most - 1).rstrip() + "…"
        drawn = ""
        if share is not None:
            full = int(bar * share)
            drawn = " " + "━" * full + "─" * (bar - full)
        return f"{icon} {title}{drawn}{end}"


def _fitting(parts: Iterable[str], width: int) -> str:
    """A line of as many of the parts as fit into it."""
    from rich.cells import cell_len

    line = " "
    for part in parts:
        longer = f"{line}{',' if line.strip() else ''} {part}"
        if cell_len(longer) > width:
            break
        line = longer
    return line


def _lines(text: str, width: int) -> list[str]:
    """A text in lines that fit, indented, broken at its commas."""
    lines = [" "]
    for part in text.split(", "):
        if len(lines[-1]) + len(part) + 2 > width and lines[-1].strip():
            lines[-1] += ","
            lines.append(" ")
        lines[-1] += (", " if lines[-1].strip() else " ") + part
    return lines
