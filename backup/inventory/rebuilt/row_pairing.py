"""A table of two inventories as pairs of rows: which columns must be equal, and why one may differ."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

SINCE = "changed by catalogs that are newer than those of the rebuilt state"
UNNAMED = "named by no catalog of the rebuilt state"
UNUSED = "no snapshot of the rebuilt state has it"
DELETED = "deleted since, or being deleted"
CONFIRMED = "whether a list has shown it: the next list confirms it"
CHECKED = "found by a check, which no catalog carries until the next backup"
HELD = "dropped, but an open restore still reads it"
EARLIER = "a catalog from before the newest full one: not needed any more"
LATER = "a catalog that is newer than the rebuilt state"
NOT_STORED = "its upload has not ended"
NO_CATALOG = "no catalog of it was stored yet when the vault made its list, or a line named it"
NOT_ASKED = "the vault was not asked for its identity, or the inventory does not know it yet"
LOST = "known to be lost or damaged"


class Field(Struct, frozen=True):
    """A column: SQL for its value in both inventories, and for why it may differ (NULL if it may not)."""

    name: str
    used: str
    built: str
    why: str = "NULL"


class Only(Struct, frozen=True):
    """Rows that only one inventory has: SQL for them, and for why that is right (NULL if it is not)."""

    rows: str
    why: str = "NULL"


class Pairing(Struct, frozen=True):
    """A table whose rows are compared, matched `by` columns; `key` and `extra_key` name a row in words."""

    table: str
    by: Sequence[str]
    key: str
    pairs: str
    fields: Sequence[Field]
    missing: Only
    extra: Only
    extra_key: str


def same(*names: str, why: str = "NULL") -> list[Field]:
    """Fields for columns with the same name in both inventories."""
    return [Field(name, f'u."{name}"', f'b."{name}"', why) for name in names]


def _text(why: str) -> str:
    return "'" + why.replace("'", "''") + "'"


def when(*cases: tuple[str, str]) -> str:
    """SQL that gives the reason of the first condition that holds; NULL if none does."""
    return "CASE " + " ".join(f"WHEN {condition} THEN {_text(why)}" for condition, why in cases) + " END"


HELD_TWICE = when(
    (
        (
            "u.archive_id IS NOT NULL AND b.archive_id IS NOT NULL AND u.header = b.header "
            "AND u.size = b.size AND u.tree_hash = b.tree_hash"
        ),
        "the vault holds it twice, since the answer to its first upload was lost: either is whole",
    )
)
"""Why the ids of one catalog may differ, which a signed header names in both archives."""
