"""The report of a check: findings by kind, what is affected, and what was not checked."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from backup.as_parts import parts_of
from backup.inventory.store.states import StepStage
from backup.kinds import Outcome
from backup.model import JobName, SnapshotId, VaultName
from backup.reports import Fact
from backup.wording import counted, local_time, size

GRAVE = frozenset(
    {"missing", "differs", "damaged", "lost", "law", "unnamed", "other-vault", "newer-catalog", "not-its-own"}
)
_MOST_KEPT, _MOST_SAID = 100, 20
UNREAD = frozenset({"unread", "sealed"})


class CheckFinding(Struct, frozen=True):
    """Something that a check found.

    `kind`: missing, differs, damaged (an archive of ours), lost (known since an earlier check, and needed
    still), law (of the inventory), unnamed (a job, whose catalogs lack what was stored again), other-vault
    (not the one that was stored into), newer-catalog (the inventory is an old copy), not-its-own (a catalog
    of one of its jobs, or a mark, by an inventory that nothing proves to be this server's); unread (cannot be
    read now), sealed (no key given opens it); found-again, confirmed, adopted; orphan, duplicate,
    other-inventory, foreign (in the vault, but not in the inventory).
    """

    kind: str
    what: str  # an archive id, or a law
    detail: str

    @property
    def is_grave(self) -> bool:
        """Whether something that was stored cannot be restored as it was."""
        return self.kind in GRAVE


class AffectedSnapshot(Struct, frozen=True):
    """A snapshot, and the number of its files that need lost chunks."""

    id: SnapshotId
    job: JobName
    files: int


class Affected(Struct, frozen=True):
    """Files that cannot be restored whole: versions of files, how many of them are live, the first paths.

    `whole_in` are other vaults of which each has all that they need; `again`: they are copies, and the next
    copy makes all of it again.
    """

    files: int = 0
    size: int = 0
    live_files: int = 0
    snapshots: Sequence[AffectedSnapshot] = ()
    paths: Sequence[bytes] = ()
    whole_in: Sequence[VaultName] = ()
    again: bool = False

    @property
    def comfort(self) -> str:
        """The places that still have all of it, in words; empty if there are none."""
        some = [f"still whole in vault {', '.join(self.whole_in)}"] if self.whole_in else []
        return ", and ".join([*some, *(["made again by the next copy"] if self.again else [])])


class ComparedList(Struct, frozen=True):
    """The inventory against the vault's own list of `as_of`."""

    as_of: datetime
    listed: int
    shown: int  # ours that it shows as they were stored
    newer: int  # ours that are newer than it: it says nothing of them
    unconfirmed: int
    confirmed: int = 0


class ReadBack(Struct, frozen=True):
    """Counts of what was read; `never_read` bytes no check has read yet, of all that is stored."""

    archives: int = 0
    whole_archives: int = 0
    frames: int = 0
    bytes: int = 0
    opened_frames: int = 0
    chunks: int = 0
    damaged_frames: int = 0
    stored_bytes: int = 0
    never_read: int = 0


class Invariants(Struct, frozen=True):
    """The report of a check of the inventory's invariants."""

    laws: int = 0
    entries: int = 0
    chunks: int = 0


class CheckReport(Struct, frozen=True):
    """A check that is done, or that waits for the vault."""

    state: StepStage
    vault: VaultName | None
    waits_for: str = ""
    run: int | None = None
    compared: ComparedList | None = None
    read: ReadBack | None = None
    laws: Invariants | None = None
    findings: Sequence[CheckFinding] = ()
    affected: Affected = field(default_factory=Affected)
    seconds: float = 0.0

    @property
    def subject(self) -> str:
        """The run in words."""
        return f"check of vault {self.vault}"

    @property
    def warnings(self) -> Sequence[str]:
        """None: what is not well is among the findings."""
        return ()

    def facts(self, currency: str = "USD") -> Iterator[Fact]:  # noqa: ARG002
        """The grave findings, what is affected, what was compared and read; a row for each part."""
        for grave in [finding for finding in self.findings if finding.is_grave][:_MOST_SAID]:
            yield Fact(f"{grave.kind}: {grave.what}: {grave.detail}", level=logging.ERROR)
        if self.affected.files:
            cannot = f"{counted(self.affected.files, 'file')} cannot be restored whole"
            where = f" from vault {self.vault}: {self.affected.comfort}" if self.affected.comfort else ""
            yield Fact(cannot + where, level=logging.ERROR)
        if self.compared is not None:
            yield Fact(f"its list shows {counted(self.compared.shown, 'archive')} as stored")
        if self.read is not None:
            yield Fact(f"{size(self.read.bytes)} read back, {size(self.read.never_read)} never read yet")
        yield from _rows(self.compared, self.read)

    @property
    def is_grave(self) -> bool:
        """Whether something is damaged, missing or contradicts itself."""
        return bool(self.affected.files) or any(finding.is_grave for finding in self.findings)

    @property
    def is_partial(self) -> bool:
        """Whether a part of the check could not be done."""
        return any(finding.kind in UNREAD for finding in self.findings)

    @property
    def outcome(self) -> Outcome:
        """The outcome of the run."""
        if self.is_grave:
            return Outcome.FAILED
        return Outcome.PARTIAL if self.is_partial else Outcome.DONE

    def document(self) -> dict[str, Any]:
        """The report as JSON values, except that paths are bytes; the keys are part of the interface."""
        document: dict[str, Any] = parts_of(self)
        return document | {"outcome": str(self.outcome)}

    def summary(self) -> dict[str, Any]:
        """The part that is kept with the run: counts, and the grave findings."""
        kinds = Counter(finding.kind for finding in self.findings)
        grave = [asdict(finding) for finding in self.findings if finding.is_grave]
        return {
            "vault": self.vault,
            "compared": _plain(self.compared),
            "read": _plain(self.read),
            "laws": _plain(self.laws),
            "findings": dict(kinds),
            "grave": grave[:_MOST_KEPT],
            "affected_files": self.affected.files,
            "affected_live_files": self.affected.live_files,
        }


class CheckSummary(Struct, frozen=True):
    """The part of a check's report that its record keeps; findings are counts by kind."""

    vault: VaultName | None
    findings: Mapping[str, int]
    compared: ComparedList | None = None
    read: ReadBack | None = None

    def facts(self, currency: str = "USD") -> Iterator[Fact]:  # noqa: ARG002
        """A row for each part."""
        return _rows(self.compared, self.read)


def _rows(compared: ComparedList | None, read: ReadBack | None) -> Iterator[Fact]:
    if compared is not None:
        stored = f"{counted(compared.shown, 'archive')} as stored, by a list of {local_time(compared.as_of)}"
        yield Fact(stored, "compared")
    if read is not None:
        never = f"{size(read.never_read)} never read yet"
        yield Fact(f"{size(read.bytes)} in {counted(read.archives, 'archive')}; {never}", "read back")


def _plain(part: Any) -> dict[str, Any] | None:
    """A part of the report as JSON has it."""
    if part is None:
        return None
    return {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in asdict(part).items()
    }
