"""Values that several pages show: names of files, snapshots, problems, figures of money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from backup.model import JobName, SnapshotId
from backup.wording import shown_path


class Kind(StrEnum):
    """The kind of an entry."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"


@dataclass(frozen=True, slots=True)
class Name:
    """A name or an absolute path in a snapshot, whose bytes may be anything.

    `text` is safe to show on one line: what cannot be printed, or reorders text, stands there as an escape.
    `raw` are the exact bytes, for an address (percent-encoded byte by byte), a form or JSON (docs/json.md).
    """

    raw: bytes

    @property
    def text(self) -> str:
        """As it is shown."""
        return shown_path(self.raw)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the path that leads to a page: `name` is shown, `path` is where it leads."""

    name: Name
    path: Name


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """A snapshot in a list, or the one that a page is about.

    `problems` counts what its run could not save, or could save only in part; `is_whole`: everything that
    the job names was saved. `forgotten_at` is set while it is forgotten and can be taken back. `run` is None
    after a rebuild.
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


@dataclass(frozen=True, slots=True)
class ProblemLine:
    """A problem with an entry: `kind` is a word of `model.ProblemKind`; a warning was saved all the same."""

    path: Name
    kind: str
    detail: str
    is_warning: bool


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in the price table's currency, without tax; `amount` None: no price is known."""

    amount: Decimal | None
    currency: str
