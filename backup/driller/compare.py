"""Compares restored files with the inventory (content, metadata, hard links), and with the source.

Owners, and attributes that only root may set, are compared if root restored. The source is compared where
it is on this machine and its size and time are still those of the snapshot.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from backup.checker.report import CheckFinding
from backup.driller.report import MOST_NAMED, Opened
from backup.errors import FormatError
from backup.format.acl import ACCESS, DEFAULT
from backup.inventory.content.snapshots import Snapshot
from backup.model import MIB, EntryKind, Extra, Problem
from backup.restorer.selection.entry import RestoreEntry
from backup.restorer.selection.files import RestoreFile
from backup.restorer.selection.select import Selection
from backup.restorer.writer.existing import Existing, holds
from backup.restorer.writer.metadata import CAPABILITY, lends_rights, withheld
from backup.restorer.writer.owners import Owners, Strangers
from backup.restorer.writer.special import KINDS
from backup.source.attributes import Attributes, read_attributes
from backup.source.flags import KEPT, read_flags
from backup.wording import shown_path

_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NANOSECONDS = 1_000  # some file systems store microseconds


@dataclass(slots=True)
class ComparisonResult:
    """The result of a comparison: counts, findings, and the paths that are as they were saved."""

    opened: Opened
    findings: list[CheckFinding] = field(default_factory=list)
    good: set[bytes] = field(default_factory=set)


def compare(
    target: int,
    selection: Selection,
    snapshot: Snapshot,
    chunk_key: bytes,
    problems: Mapping[bytes, Problem],
) -> ComparisonResult:
    """Compare what lies below an open directory; `problems` are those of the restore, by path."""
    comparison = _TargetComparison(target, selection, snapshot, chunk_key, problems)
    try:
        return comparison.run()
    finally:
        comparison.close()


class _TargetComparison:
    """One comparison, over the files and directories of a selection."""

    def __init__(
        self,
        target: int,
        selection: Selection,
        snapshot: Snapshot,
        chunk_key: bytes,
        problems: Mapping[bytes, Problem],
    ) -> None:
        self._existing = Existing(target)
        self._selection = selection
        self._chunk_key = chunk_key
        self._problems = problems
        self._owners = Owners()
        self._is_root = os.geteuid() == 0
        self._has_source = snapshot.host == socket.gethostname()
        self._found: list[CheckFinding] = []

    def close(self) -> None:
        """Close all handles."""
        self._existing.close()

    def run(self) -> ComparisonResult:
        """Compare everything."""
        good: set[bytes] = set()
        names: list[str] = []
        files = size = links = with_source = directories = 0
        for file in self._selection.files:
            for entry in file.entry.names:
                before = len(self._found)
                self._found += self._entry(entry)
                if not self._stat(entry):
                    continue
                is_whole = self._is_readable(entry) and self._holds(entry, file)
                if is_whole:
                    with_source += self._compare_source(entry)
                files, size = files + 1, size + entry.size
                if len(names) < MOST_NAMED:
                    names.append(f"/{shown_path(entry.path)}")
                if len(self._found) == before:
                    good.add(entry.path)
            links += self._links(file.entry)
        for directory in self._selection.directories:
            self._found += self._entry(directory)
            directories += 1
        for problem in self._selection.problems:
            self._add_finding("not-restored", problem.path, problem.detail)
        return ComparisonResult(
            Opened(files, size, directories, links, with_source, names), self._found, good
        )

    def _add_finding(self, kind: str, path: bytes, detail: str) -> None:
        self._found.append(CheckFinding(kind, f"/{shown_path(path)}", detail))

    def _stat(self, entry: RestoreEntry) -> os.stat_result | None:
        return self._existing.stat(entry.directory, entry.name)

    def _is_readable(self, entry: RestoreEntry) -> bool:
        return self._is_root or bool(entry.mode & 0o400)

    def _holds(self, entry: RestoreEntry, file: RestoreFile) -> bool:
        if holds(self._existing, entry, file, self._selection.locations, self._chunk_key):
            return True
        self._add_finding("content", entry.path, "its bytes are not those that were saved")
        return False

    # Metadata.

    def _entry(self, entry: RestoreEntry) -> Iterator[CheckFinding]:
        """Deviations of one entry from its row."""
        found = self._stat(entry)
        if found is None:
            met = self._problems.get(entry.path)
            why = met.detail if met is not None else "it is not there"
            yield CheckFinding("not-restored", f"/{shown_path(entry.path)}", why)
            return
        for what in self._deviations(entry, found):
            yield CheckFinding("metadata", f"/{shown_path(entry.path)}", what)

    def _deviations(self, entry: RestoreEntry, found: os.stat_result) -> Iterator[str]:
        if stat.S_IFMT(found.st_mode) != KINDS.get(entry.kind, _kind(entry.kind)):
            yield "it is of another kind"
            return
        mode, wanted = (
            stat.S_IMODE(found.st_mode),
            entry.mode & ~withheld(entry, entry.mode, self._strangers(entry)),
        )
        if mode != wanted and (self._is_root or (mode ^ wanted) & ~(stat.S_ISUID | stat.S_ISGID)):
            yield f"its mode is {mode:04o} instead of {wanted:04o}"
        uid, gid = self._owners.ids(entry.owner)
        if self._is_root and (found.st_uid, found.st_gid) != (uid, gid):
            yield f"its owner is {found.st_uid}:{found.st_gid} instead of {uid}:{gid}"
        if abs(found.st_mtime_ns - entry.mtime_ns) >= _NANOSECONDS:
            yield "its time is another one"
        if entry.kind in {EntryKind.FILE, EntryKind.DIRECTORY} and self._is_readable(entry):
            yield from self._attributes(entry)

    def _strangers(self, entry: RestoreEntry) -> Strangers:
        return self._owners.strangers(entry.owner) if lends_rights(entry) else Strangers()

    def _attributes(self, entry: RestoreEntry) -> Iterator[str]:
        handle = self._open(entry)
        if handle is None:
            return
        try:
            have, flags = read_attributes(handle), read_flags(handle)
        finally:
            os.close(handle)
        extra = entry.extra or Extra()
        want, there = self._wanted(extra), self._there(have)
        if any(self._strangers(entry)):
            want.pop(CAPABILITY, None)
        for name in sorted(want.keys() | there.keys()):
            if want.get(name) != there.get(name):
                yield f"its {os.fsdecode(name)} is not what was saved"
        if flags is not None and self._is_root and have.flags != extra.flags & KEPT:
            yield "its flags (chattr) are not what was saved"

    def _open(self, entry: RestoreEntry) -> int | None:
        handle = self._existing.directory(entry.directory)
        with suppress(OSError):
            return None if handle is None else os.open(entry.name, _LOOK, dir_fd=handle)
        return None

    def _wanted(self, extra: Extra) -> dict[bytes, bytes]:
        """The attributes that should be there, ACLs with the ids of this machine."""
        found = {}
        for name, value in extra.xattrs:
            if not self._is_compared(name):
                continue
            found[name] = value
            if name in {ACCESS, DEFAULT}:
                with suppress(FormatError):
                    found[name] = self._owners.acl(value, extra)
        return found

    def _there(self, have: Attributes) -> dict[bytes, bytes]:
        return {name: value for name, value in have.xattrs if self._is_compared(name)}

    def _is_compared(self, name: bytes) -> bool:
        """Whether an attribute can be set here; what a system labels by itself is not compared."""
        if name in {b"security.selinux", b"security.ima"}:
            return False
        return name.startswith(b"user.") or name in {ACCESS, DEFAULT} or self._is_root

    # Hard links.

    def _links(self, first: RestoreEntry) -> int:
        """The further names of a file that lead to its inode; those that do not are findings."""
        status = self._stat(first)
        if status is None:
            return 0
        good = 0
        for name in first.links:
            other = self._stat(name)
            if other is None:
                continue
            if (status.st_dev, status.st_ino) == (other.st_dev, other.st_ino):
                good += 1
            else:
                self._add_finding("hard-link", name.path, f"it is no hard link to /{shown_path(first.path)}")
        if status.st_nlink != 1 + len(first.links):
            told = f"it has {status.st_nlink} names instead of {1 + len(first.links)}"
            self._add_finding("hard-link", first.path, told)
        return good

    # The source.

    def _compare_source(self, entry: RestoreEntry) -> int:
        """Compare with the source's file if it is unchanged by size and time; whether that was possible."""
        if not self._has_source or entry.holes:
            return 0
        with suppress(OSError):
            source = os.open(b"/" + entry.path, _LOOK)
            try:
                if not _is_unchanged(source, entry):
                    return 0
                is_same = self._has_bytes_of(source, entry)
                if not _is_unchanged(source, entry):
                    return 0
            finally:
                os.close(source)
            if not is_same:
                told = "the source has the same size and time, and other bytes: a disk that fails?"
                self._add_finding("source-differs", entry.path, told)
            return 1
        return 0

    def _has_bytes_of(self, source: int, entry: RestoreEntry) -> bool:
        restored = self._open(entry)
        if restored is None:
            return False
        try:
            at = 0
            while at < entry.size:
                size = min(MIB, entry.size - at)
                data = os.pread(source, size, at)
                if not data or data != os.pread(restored, len(data), at):
                    return False
                at += len(data)
            return True
        finally:
            os.close(restored)


def _is_unchanged(handle: int, entry: RestoreEntry) -> bool:
    found = os.fstat(handle)
    same = (found.st_size, found.st_mtime_ns) == (entry.size, entry.mtime_ns)
    return stat.S_ISREG(found.st_mode) and same


def _kind(kind: EntryKind) -> int:
    return stat.S_IFDIR if kind is EntryKind.DIRECTORY else stat.S_IFREG
