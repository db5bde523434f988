"""The findings of a rebuild drill: differences of the rebuilt inventory, and why some are explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct
from msgspec import field as default

from backup.format.records import ArchiveRecord
from backup.inventory.content.archives import ArchiveState
from backup.inventory.rebuilt.columns import COMPARED
from backup.inventory.rebuilt.drill_queries import CatalogRow, CatalogsRead
from backup.model import Generation

MISSING, EXTRA = "missing in the rebuilt one", "only in the rebuilt one"
"""Kinds of differences besides columns: a row of one side alone."""

SINCE = "changed by catalogs that are newer than those of the rebuilt state"
UNNAMED = "named by no catalog of the rebuilt state"
UNUSED = "no snapshot of the rebuilt state has it"
DELETED = "deleted since, or being deleted"
CONFIRMED = "whether a list has shown it: the next list confirms it"
CHECKED = "found by a check, which no catalog carries until the next backup"
HELD = "dropped, but an open restore still reads it"
HELD_TWICE = "the vault holds it twice, since the answer to its first upload was lost: either is whole"
EARLIER = "a catalog from before the newest full one: not needed any more"
LATER = "a catalog that is newer than the rebuilt state"
TOLD_APART = "one job's catalogs retired it, and another's took it up again: it is restored from either way"
NOT_STORED = "its upload has not ended"
NO_CATALOG = "no catalog of it was stored yet when the vault made its list, or a line named it"
NOT_ASKED = "the vault was not asked for its identity, or the inventory does not know it yet"
LOST = "known to be lost or damaged"

Shown = str | Callable[[], str]
"""The name of a row in an example; a function if that costs a query."""
_MOST_EXAMPLES: Final = 5
_LONG: Final = 40


@dataclass(slots=True)
class RowDifference:
    """Rows that differ in one way: a table, the column (or the side that lacks them), how many, and a few.

    `why` is empty for differences; else it explains them.
    """

    table: str
    kind: str
    why: str = ""
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Comparison(Struct, frozen=True):
    """The result of a comparison: rows compared by table, differences, and differences that are explained."""

    rows: dict[str, int]
    differences: Sequence[RowDifference]
    explained: Sequence[RowDifference]
    catalogs: CatalogsRead = default(default_factory=CatalogsRead)

    @property
    def are_same(self) -> bool:
        """Whether nothing differs that a rebuild should have brought back."""
        return not self.differences


class Findings:
    """Collects what differs, and counts what was compared; `rows` by table."""

    def __init__(self) -> None:
        self.rows = dict.fromkeys(COMPARED, 0)
        self._found: dict[tuple[str, str, str], RowDifference] = {}

    def add(self, table: str, kind: str, why: str, shown: Shown, what: str = "") -> None:
        """Add a row that differs; `what` follows its name in an example."""
        difference = self._found.setdefault((table, kind, why), RowDifference(table, kind, why))
        difference.count += 1
        if len(difference.examples) < _MOST_EXAMPLES:
            difference.examples.append((shown if isinstance(shown, str) else shown()) + what)

    def differ(self, table: str, column: str, why: str, shown: Shown, here: Any, rebuilt: Any) -> None:
        """Compare a column of a row that both have."""
        if here != rebuilt:
            self.add(table, column, why, shown, f": {_value(here)} here, {_value(rebuilt)} rebuilt")

    def comparison(self, catalogs: CatalogsRead) -> Comparison:
        """All that was found, by table: first the rows that one side lacks."""

        def order(found: RowDifference) -> tuple[int, int]:
            return COMPARED.index(found.table), {MISSING: 0, EXTRA: 1}.get(found.kind, 2)

        every = sorted(self._found.values(), key=order)
        different, explained = (
            [row for row in every if bool(row.why) is has_why] for has_why in (False, True)
        )
        return Comparison(self.rows, different, explained, catalogs)


_SOUND: Final = frozenset({ArchiveState.STORED, ArchiveState.UNCONFIRMED})
_RELIED_ON: Final = _SOUND | {ArchiveState.RETIRED}
_SPOILED: Final = frozenset({ArchiveState.LOST, ArchiveState.DAMAGED})
_GOING: Final = frozenset({ArchiveState.DELETING, ArchiveState.DELETED})
_CONDEMNED: Final = frozenset({ArchiveState.CONDEMNED, ArchiveState.DELETING})
_MARKED: Final = _SOUND | _GOING | {ArchiveState.RETIRED, ArchiveState.CONDEMNED}


def why_state(used: str, rebuilt: str, *, has_moved: bool, is_of_several: Callable[[], bool]) -> str:
    """Why the states of an archive differ; "" if they should not.

    `has_moved`: there are newer catalogs; `is_of_several`: whether those of several jobs name it.
    """
    if used in _SOUND and rebuilt in _SOUND:
        return CONFIRMED
    if used in _GOING and rebuilt in {ArchiveState.CONDEMNED, ArchiveState.DELETED}:
        return DELETED
    if used == ArchiveState.CONDEMNED and rebuilt == ArchiveState.DELETED:
        return DELETED
    if used in _SPOILED and rebuilt in _SOUND | {ArchiveState.RETIRED}:
        return CHECKED
    if has_moved and used in _MARKED and rebuilt in _MARKED:
        return SINCE
    is_told_apart = {used, rebuilt} <= _RELIED_ON and is_of_several()
    return TOLD_APART if is_told_apart else ""


def why_unread(row: CatalogRow, oldest: int, newest: int, until: int) -> str:
    """Why a catalog is none of those that were read, from `oldest` to `newest`; "" if it should be.

    The list showed those that were stored before `until`, in microseconds.
    """
    if row.state is ArchiveState.SUBMITTED:
        return NOT_STORED
    if row.state in _SPOILED | _GOING:
        return LOST
    if row.number > newest and row.stored_at >= until:
        return LATER
    return EARLIER if row.number < oldest or row.generation == Generation.FULL else ""


def is_condemned(archive: ArchiveRecord) -> bool:
    """Whether the records of a full catalog say since when, and by which job, the archive is condemned."""
    return archive.state in _CONDEMNED


def keeps_condemnation(archive: ArchiveRecord) -> bool:
    """Whether the inventory still knows that an archive is condemned, of which its state says more."""
    return archive.state in _SPOILED or (archive.state == ArchiveState.DELETED and bool(archive.header))


def shown_bytes(name: bytes) -> str:
    """A path as text; bytes that are none are escaped."""
    return name.decode(errors="backslashreplace")


def _value(value: Any) -> str:
    """A value in an example; a long one is cut."""
    if value is None or value in ("", b""):
        return "nothing"
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if isinstance(value, bytes) and not text.isprintable():
        text = value.hex()
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"
