"""Entries to restore: one, with its path below the target and the state it should have; many small files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from backup.model import EntryKind, Extra, Owner

_NO_STEPS: Final = frozenset({b"", b".", b".."})


def is_step(name: bytes) -> bool:
    """Whether a name is safe as one path component: it can only name an entry of its own directory."""
    return name not in _NO_STEPS and b"/" not in name and b"\0" not in name


def are_steps(names: Sequence[bytes]) -> bool:
    """Same as `is_step`, of every name."""
    joined = b"".join(names)
    return b"/" not in joined and b"\0" not in joined and _NO_STEPS.isdisjoint(names)


class RestoreEntry(NamedTuple):
    """One entry to restore; `links` are further names of the same file or special file."""

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
    on_the_way: bool = False  # a directory that was not chosen, but contains something that was

    @property
    def holes(self) -> bytes:
        """The packed holes of a sparse file; empty for others."""
        return self.extra.holes if self.extra else b""

    @property
    def path(self) -> bytes:
        """The path relative to the target."""
        return self.directory + b"/" + self.name if self.directory else self.name

    @property
    def names(self) -> Iterator[RestoreEntry]:
        """This entry and its hard links."""
        yield self
        yield from self.links


class NewFiles(NamedTuple):
    """Small plain files to make of a buffer's bytes; a column for each field, an item for each file.

    `directories` are indexes into `paths`, which are relative to the target, `owners` user and group ids;
    a file is `starts` to `ends` of the buffer, and `chunks` are their ids, or empty for empty files.
    """

    paths: Sequence[bytes]
    directories: Sequence[int]
    names: Sequence[bytes]
    modes: Sequence[int]
    owners: Sequence[tuple[int, int]]
    mtimes: Sequence[int]
    starts: Sequence[int]
    ends: Sequence[int]
    chunks: Sequence[bytes]

    def some(self, which: slice) -> NewFiles:
        """Return some of the files."""
        return NewFiles(self.paths, *(column[which] for column in self[1:]))  # type: ignore[arg-type]

    def entry(self, index: int) -> RestoreEntry:
        """Return one of the files as an entry."""
        owner, size = Owner(*self.owners[index]), self.ends[index] - self.starts[index]
        place = self.paths[self.directories[index]], self.names[index]
        return RestoreEntry(*place, EntryKind.FILE, self.modes[index], owner, self.mtimes[index], size, None)
