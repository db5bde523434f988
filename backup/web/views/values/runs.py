"""Runs, and one run with its report."""

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
    """A problem with an entry: `kind` is a word of `model.ProblemKind`; a warning was saved all the same."""

    path: Name
    kind: str
    detail: str
    is_warning: bool


class RunLine(Struct, frozen=True):
    """A run in a list. `seconds` is what it took, None while it runs; `problems` counts those of its report.

    `error` is the sentence of one that failed. Figures are 0 where its kind has none.
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
    """Some runs, newest first. `next_before` asks for the page after this one, None at the end."""

    runs: Sequence[RunLine]
    job: JobName | None
    kind: RunKind | None
    outcome: Outcome | None
    is_first: bool
    next_before: int | None


class StoredLine(Struct, frozen=True):
    """An archive that a run stored: `kind` is data or catalog, `state` a word of `archives.ArchiveState`."""

    number: int
    kind: str
    state: str
    size: int
    archive_id: str | None
    stored_at: datetime | None


class RunDetail(Struct, frozen=True):
    """A run with everything that is known of it.

    `report` is its report as it was recorded, whose fields depend on the kind (docs/json.md). `problems` are
    at most 1,000 in the order of paths, `problem_count` is how many there were. `stored` are at most 200 of
    `stored_count` archives. `log_command` shows its log lines, which the journal keeps, not the inventory.
    `earlier` and `later` are the runs of the same job beside it.
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
