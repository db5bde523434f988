"""The value of a snapshot in a list, which most pages use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from backup.model import JobName, SnapshotId
from backup.web.views.values.names import Name


class SnapshotLine(Struct, frozen=True):
    """A snapshot in a list, or the subject of a page.

    `problems` counts entries that its run could not save, or only in part; `is_whole`: all sources of the
    job were saved. `forgotten_at` is set while it is forgotten and can be taken back. `run` is None after a
    rebuild.
    """

    id: SnapshotId
    job: JobName
    number: int
    run: int | None
    host: str
    started_at: datetime
    finished_at: datetime
    sources: Sequence[Name]
    files: int
    bytes: int
    problems: int
    is_whole: bool
    forgotten_at: datetime | None
    tags: Sequence[str]
    pin_note: str | None
    pin_until: datetime | None
