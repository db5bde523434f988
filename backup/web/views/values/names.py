"""Values of names and paths in a snapshot, kinds of entries, and steps of a path."""

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

    `text` is safe to show on one line: characters that are unprintable or reorder text are escaped.
    `raw` are the exact bytes, for an address (percent-encoded byte by byte), a form or JSON (docs/json.md).
    """

    raw: bytes

    @property
    def text(self) -> str:
        """The name as it is shown."""
        return shown_path(self.raw)


class Step(Struct, frozen=True):
    """A step of a path (breadcrumb): `name` is shown, `path` is its link."""

    name: Name
    path: Name
