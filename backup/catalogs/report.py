"""The counts and the report of a backup run."""

from __future__ import annotations

import logging
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import replace

from backup.format.records import MOST, DumpRecord
from backup.kinds import Outcome
from backup.model import KIB, JobName, Problem, SnapshotId, VaultName
from backup.reports import Fact, warned
from backup.source.roots import resolved
from backup.wording import counted, shown_path, size

_KIND = 0o170000
_Path = bytes  # a count is called so below

LEAST_FILES: Final = 20
"""A source that had fewer files loses nearly everything by a few of them: there it takes all."""
LEAST_STREAM: Final = 64 * KIB
"""A stream of fewer bytes (a list, the dump of an empty database) may lose most of them by chance."""
_MOST_SAID: Final = 20  # problems that the log names
_PART: Final = 10  # fewer than one of so many is left

Count = tuple[int, int]
"""Files, and their bytes."""
_NONE: Final = (0, 0)


class Tally(Struct):
    """The counts of a run while it goes on."""

    entries: int = 0
    files: int = 0
    bytes: int = 0
    files_read: int = 0
    bytes_read: int = 0
    bytes_new: int = 0
    files_again: int = 0
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    mounted: list[_Path] = field(default_factory=list)  # where other file systems are mounted
    by_source: Sequence[Count] = ()  # files and bytes of each source; empty: not known
    roots: Sequence[_Path] = ()  # the real path of each source: where the new snapshot has what it holds
    streams: Count = _NONE  # of `files` and `bytes`: those of streams, which are no source's
    by_stream: dict[_Path, int] = field(default_factory=dict)  # bytes of each that this run brought
    dumps: list[DumpRecord] = field(default_factory=list)  # what is known of those that are of databases

    def see(self, found: os.stat_result) -> None:
        """Count an entry of the sources; directories are not counted as files."""
        self.entries += 1
        kind = found.st_mode & _KIND
        if kind == stat.S_IFREG:
            self.files += 1
            self.bytes += found.st_size
        elif kind != stat.S_IFDIR:
            self.files += 1

    def see_files(self, files: int, size: int) -> None:
        """Count regular files of the sources."""
        self.entries += files
        self.files += files
        self.bytes += size

    def see_stream(self, size: int) -> None:
        """Count a stream of the snapshot."""
        self.files, self.bytes = self.files + 1, self.bytes + size
        self.streams = self.streams[0] + 1, self.streams[1] + size

    def limit(self) -> None:
        """Limit sizes to what a record can hold: holes of sparse files may add up to more."""
        self.bytes = min(self.bytes, MOST)
        self.by_source = [(files, min(size, MOST)) for files, size in self.by_source]

    def read(self, files: int, size: int, new: int) -> None:
        """Count what was read, and how much of it was new."""
        self.files_read, self.bytes_read, self.bytes_new = files, size, new


class RecoveredReport(Struct, frozen=True):
    """The report of a backup whose process died before it could report: its snapshot."""

    snapshot: SnapshotId
    files: int
    bytes: int

    def facts(self, currency: str = "USD") -> Iterator[Fact]:  # noqa: ARG002
        """A row for the snapshot and for what it holds."""
        return _holds(self.snapshot, self.files, self.bytes)


class BackupReport(Struct, frozen=True):
    """The report of a run that made a snapshot. Sizes in bytes, time in seconds."""

    job: JobName
    vault: VaultName
    run: int
    snapshot: SnapshotId
    outcome: Outcome
    files: int
    bytes: int
    files_read: int
    bytes_read: int
    bytes_new: int
    bytes_uploaded: int
    archives: int
    entries_added: int
    entries_removed: int
    seconds: float
    recipients: Sequence[str]
    catalog: str  # the vault's id of the delta catalog
    problems: Sequence[Problem] = ()  # kept with the snapshot, not with the run
    warnings: Sequence[str] = ()
    recovery_line: str = ""  # from which this state is found without the inventory
    older_packs: Mapping[str, Any] | None = (
        None  # what other recovery keys than the present ones are needed for
    )
    files_again: int = 0  # of `files_read`, unchanged: what held them is lost, damaged or given up
    shrunk: Sequence[str] = ()  # a sentence for each source that has lost nearly everything

    @property
    def subject(self) -> str:
        """The job."""
        return f"job {self.job}"

    @property
    def waits_for(self) -> str:
        """Nothing: it is done in one step."""
        return ""

    def facts(self, currency: str = "USD") -> Iterator[Fact]:  # noqa: ARG002
        """Problems, warnings, figures; a row for each figure."""
        for problem in self.problems[:_MOST_SAID]:
            yield Fact(f"{problem.kind}: {shown_path(problem.path)}: {problem.detail}", level=logging.WARNING)
        if len(self.problems) > _MOST_SAID:
            yield Fact(f"and {len(self.problems) - _MOST_SAID} more", level=logging.WARNING)
        yield from warned(self.warnings)
        yield Fact(
            f"snapshot {self.snapshot[:8]}, {self.files:,} files of {size(self.bytes)}, "
            f"{size(self.bytes_read)} read, "
            f"{size(self.bytes_uploaded)} uploaded in {counted(self.archives, 'archive')}"
        )
        yield from _holds(self.snapshot, self.files, self.bytes)
        yield Fact(f"{counted(self.files_read, 'file')}, {size(self.bytes_read)}", "read")
        yield Fact(size(self.bytes_uploaded), "uploaded")

    def as_partial(self, *warnings: str) -> BackupReport:
        """Return the report as partial, with these warnings, too."""
        return replace(self, outcome=Outcome.PARTIAL, warnings=(*self.warnings, *warnings))

    def document(self) -> dict[str, Any]:
        """The report as JSON; the keys are part of the interface. The caller renders problems."""
        names = [name for name in self.__struct_fields__ if name != "problems"]
        document: dict[str, Any] = {name: getattr(self, name) for name in names}
        lists = {name: list(document[name]) for name in ("recipients", "warnings", "shrunk")}
        return document | lists | {"outcome": str(self.outcome)}


def _holds(snapshot: SnapshotId, files: int, size_: int) -> Iterator[Fact]:
    yield Fact(snapshot[:8], "snapshot")
    yield Fact(f"{counted(files, 'file')}, {size(size_)}", "holds")


class SourceCounts:
    """Files and bytes of each source, counted by directory during a scan."""

    def __init__(self, sources: Sequence[bytes]) -> None:
        self._sources = [resolved(source) for source in sources]
        self._tops = sorted(set(self._sources), key=_in_tree_order)
        self._keys = [_in_tree_order(top) for top in self._tops]
        self._around = [[*_holders(self._tops[:at], top), top] for at, top in enumerate(self._tops)]
        self._counts = dict.fromkeys(self._tops, _NONE)

    def add(self, directory: bytes, files: int, size: int) -> None:
        """Count what lies in a directory, for each source that holds it."""
        at = bisect_right(self._keys, _in_tree_order(directory)) - 1
        # A source that holds it is the last one up to it in this order, or one around that.
        for top in _holders(self._around[at] if at >= 0 else (), directory):
            before = self._counts[top]
            self._counts[top] = before[0] + files, before[1] + size

    def totals(self) -> list[Count]:
        """Files and bytes of each source, in their order."""
        return [self._counts[source] for source in self._sources]


def _in_tree_order(path: bytes) -> bytes:
    return path.rstrip(b"/").replace(b"/", b"\0")


def _holders(tops: Sequence[bytes], path: bytes) -> list[bytes]:
    return [top for top in tops if path == top or path.startswith(top.rstrip(b"/") + b"/")]


def is_lost(now: Count, before: Count, by: int) -> bool:
    """Whether a source has lost nearly all its files (`by` 0) or bytes (1); of a small one, all its files."""
    if before[0] < LEAST_FILES:
        return now[0] == 0 < before[0]
    return now[by] * _PART < before[by]


def is_stream_lost(now: int, before: int) -> bool:
    """Whether a stream has lost nearly all its bytes; an empty one is taken as intended."""
    return before >= LEAST_STREAM and 0 < now * _PART < before
