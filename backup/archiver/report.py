"""The counts and the report of a backup run."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from backup.inventory.runs import Outcome
from backup.model import JobName, Problem, SnapshotId, VaultName

_KIND = 0o170000


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

    def see(self, found: os.stat_result) -> None:
        """Count an entry of the sources; directories do not count as files."""
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

    def read(self, files: int, size: int, new: int) -> None:
        """Count what was read, and how much of it was new."""
        self.files_read, self.bytes_read, self.bytes_new = files, size, new


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
    problems: Sequence[Problem]
    recipients: Sequence[str]
    catalog: str  # the vault's id of the delta catalog
    warnings: Sequence[str] = ()
    recovery_line: str = ""  # from which this state is found without the inventory
    older_packs: Mapping[str, Any] | None = (
        None  # what other recovery keys than the present ones are needed for
    )
    files_again: int = 0  # of `files_read`, unchanged: what held them is lost, damaged or given up

    def document(self) -> dict[str, Any]:
        """The report as JSON; the keys are part of the interface. The caller renders problems."""
        names = [name for name in self.__struct_fields__ if name != "problems"]
        document: dict[str, Any] = {name: getattr(self, name) for name in names}
        lists = {"recipients": list(self.recipients), "warnings": list(self.warnings)}
        return document | lists | {"outcome": str(self.outcome)}
