"""Values of runs in a list, and of one run with its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from backup.inventory.records.runs import Outcome, RunKind
from backup.model import JobName, VaultName
from backup.web.views.values.names import Name
from backup.web.views.values.snapshot_line import SnapshotLine


class ProblemLine(Struct, frozen=True):
    """A problem with an entry: `kind` is of `model.ProblemKind`; an entry with a warning was still saved."""

    path: Name
    kind: str
    detail: str
    is_warning: bool


class RunLine(Struct, frozen=True):
    """A run in a list. `seconds` is its duration, None while it runs; `problems` counts those of its report.

    `error` is the message of a failed run. Figures are 0 if its kind has none.
    """

    number: int
    kind: RunKind
    job: JobName | None
    vault: VaultName | None
    outcome: Outcome
    started_at: datetime
    finished_at: datetime | None
    seconds: float | None
    error: str | None
    files_read: int
    bytes_read: int
    bytes_uploaded: int
    problems: int


class RunPage(Struct, frozen=True):
    """A page of runs, newest first; `next_before` is the next page's cursor, None at the end."""

    runs: Sequence[RunLine]
    job: JobName | None
    kind: RunKind | None
    outcome: Outcome | None
    is_first: bool
    next_before: int | None


class StoredLine(Struct, frozen=True):
    """An archive that a run stored: `kind` is data or catalog, `state` is of `archives.ArchiveState`."""

    number: int
    kind: str
    state: str
    size: int
    archive_id: str | None
    stored_at: datetime | None


class RunDetail(Struct, frozen=True):
    """A run with all details.

    `report` is its report as it was recorded; its fields depend on the kind (docs/json.md). `problems` are
    at most 1,000, sorted by path, of `problem_count`. `stored` are at most 200 of `stored_count` archives.
    `log_command` shows its log lines, which are in the journal. `earlier` and `later` are the runs of the
    same job before and after it.
    """

    line: RunLine
    report: Mapping[str, Any]
    unusual: Sequence[str]
    problems: Sequence[ProblemLine]
    problem_count: int
    snapshot: SnapshotLine | None
    previous_snapshot: str | None
    stored: Sequence[StoredLine]
    stored_count: int
    stored_bytes: int
    log_command: str
    earlier: int | None
    later: int | None
