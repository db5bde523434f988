"""Names and paths as a snapshot has them, the kinds of its entries, the steps of a path."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from backup.wording import shown_path


class Kind(StrEnum):
    """The kind of an entry."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"


class Name(Struct, frozen=True):
    """A name or an absolute path in a snapshot, whose bytes may be anything.

    `text` is safe to show on one line: what cannot be printed, or reorders text, stands there as an escape.
    `raw` are the exact bytes, for an address (percent-encoded byte by byte), a form or JSON (docs/json.md).
    """

    raw: bytes

    @property
    def text(self) -> str:
        """As it is shown."""
        return shown_path(self.raw)


class Step(Struct, frozen=True):
    """One step of the path that leads to a page: `name` is shown, `path` is where it leads."""

    name: Name
    path: Name
