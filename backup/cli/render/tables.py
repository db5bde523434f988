"""Tables that fit the terminal: columns are cut or left out, so that no line is broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from rich.cells import cell_len, set_cell_size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

_GAP = 2
_FOLDED = 20  # cells that a column is left at least which may break its lines


class Column(Struct, frozen=True):
    """A table's column; `right` aligns numbers, `folds` lets a long text break over lines.

    Without room, columns are cut down to `least` cells; then those with the highest `rank` are left out
    first. A column of `rank` 0 always stays.
    """

    title: str
    right: bool = False
    folds: bool = False
    rank: int = 0
    least: int | None = None


class Sheet(Struct, frozen=True):
    """A table's columns and cells; a cell is a text of one or more lines."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str | None = None

    def widths(self) -> list[int]:
        """Return the width of each column, in terminal cells."""
        cells = zip([column.title for column in self.columns], *self.rows, strict=True)
        return [
            max(cell_len(line) for text in column for line in (text.splitlines() or [""])) for column in cells
        ]

    def left_out(self, width: int) -> list[str]:
        """Return the titles of the columns that do not fit into a width of so many cells."""
        kept = {place for place, _ in self._fitted(width)}
        return [column.title for place, column in enumerate(self.columns) if place not in kept]

    def fitted(self, width: int) -> Table:
        """Return the table of rich with the columns that fit into the width."""
        from rich.table import Table
        from rich.text import Text

        drawn = Table(title=self.title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        chosen = self._fitted(width)
        for place, cells in chosen:
            column = self.columns[place]
            drawn.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=not column.folds,
                overflow="fold",
                width=cells if column.folds else None,
            )
        for row in self.rows:
            drawn.add_row(*(Text(_cut(row[place], cells, self.columns[place])) for place, cells in chosen))
        return drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table that fits, and what it leaves out."""
        yield self.fitted(options.max_width)
        if missing := self.left_out(options.max_width):
            yield f"(--wide shows: {', '.join(missing)})"

    def _fitted(self, width: int) -> list[tuple[int, int]]:
        """The places of the columns that have room, each with its width."""
        chosen = list(enumerate(self.widths()))
        for rank in [None, *sorted({column.rank for column in self.columns if column.rank}, reverse=True)]:
            chosen = [(place, cells) for place, cells in chosen if self.columns[place].rank != rank]
            cut = self._shrunk(chosen, width)
            if _total(cut) <= width:
                break
        return cut

    def _shrunk(self, chosen: Sequence[tuple[int, int]], width: int) -> list[tuple[int, int]]:
        """The columns cut, those that matter least first, no more than is needed."""
        found = dict(chosen)
        for place in sorted(found, key=lambda place: self.columns[place].rank, reverse=True):
            column, cells = self.columns[place], found[place]
            least = _FOLDED if column.folds and column.least is None else column.least
            excess = _total(list(found.items())) - width
            if excess > 0 and least is not None:
                found[place] = max(cells - excess, min(least, cells), cell_len(column.title))
        return list(found.items())


def _total(chosen: Sequence[tuple[int, int]]) -> int:
    return sum(cells for _, cells in chosen) + _GAP * max(0, len(chosen) - 1)


def _cut(text: str, cells: int, column: Column) -> str:
    """A text that takes no more cells, with … for what it lacks; what folds is left whole."""
    if column.folds:
        return text
    return "\n".join(_cut_lines(text, cells))


def _cut_lines(text: str, cells: int) -> Iterator[str]:
    for line in text.splitlines() or [""]:
        yield line if cell_len(line) <= cells else set_cell_size(line, cells - 1).rstrip() + "…"


def column_of(given: object) -> Column:
    """Return the column; for a text a plain column with that title."""
    return given if isinstance(given, Column) else Column(str(given))
