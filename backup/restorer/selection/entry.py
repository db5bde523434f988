"""An entry to restore: where below the target it is, and what it is to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from backup.model import EntryKind, Extra, Owner


def is_step(name: bytes) -> bool:
    """Whether a name can only mean an entry of the directory it is used in."""
    return name not in {b"", b".", b".."} and b"/" not in name and b"\0" not in name


class RestoreEntry(NamedTuple):
    """One entry; `links` are further names of the same file or special file."""

    directory: bytes  # relative to the target
    name: bytes
    kind: EntryKind
    mode: int
    owner: Owner
    mtime_ns: int
    size: int
    extra: Extra | None
    links: tuple[RestoreEntry, ...] = ()
    number: int = 0  # of its row in the inventory
    on_the_way: bool = False  # a directory that was not chosen itself, but holds what was

    @property
    def holes(self) -> bytes:
        """A sparse file's holes, packed."""
        return self.extra.holes if self.extra else b""

    @property
    def path(self) -> bytes:
        """The path below the target."""
        return self.directory + b"/" + self.name if self.directory else self.name

    @property
    def names(self) -> Iterator[RestoreEntry]:
        """This entry and those that are linked to it."""
        yield self
        yield from self.links
