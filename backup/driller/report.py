"""The report of a drill: what it proved, its findings, and its cost."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from backup.as_parts import parts_of
from backup.checker.report import Affected, CheckFinding, CheckReport, ReadBack
from backup.driller.money import money_of
from backup.inventory.records.readings import Grade
from backup.inventory.store.states import StepStage
from backup.kinds import Outcome
from backup.model import JobName, VaultName
from backup.reports import Fact
from backup.wording import counted, escape, size

GRADES: Mapping[Grade, str] = {
    Grade.READ_BACK: "read back",
    Grade.OPENED: "opened",
    Grade.LOADED: "loaded",
}
"""The words of the grades; part of the JSON interface."""
DEVIATIONS = frozenset({"content", "metadata", "hard-link", "not-restored", "not-loaded"})
"""Kinds of findings on what was restored and is not as it was saved."""
MOST_NAMED = 3
"""The number of opened files that are named at most."""
_MOST_KEPT, _MOST_SAID = 100, 20


class Opened(Struct, frozen=True):
    """Counts of what was restored and compared with the inventory.

    `with_source` of the files were compared with the source, too; `hard_links` are further names of files
    that lead to the same inode, as they should. `names` are the first few files, as paths to be shown.
    """

    files: int = 0
    bytes: int = 0
    directories: int = 0
    hard_links: int = 0
    with_source: int = 0
    names: Sequence[str] = ()


class LoadedDump(Struct, frozen=True):
    """The dump of a database that was loaded into a server of the drill's own, and counted."""

    job: str
    kind: str
    database: str
    tables: int
    rows: int


class DrillReport(Struct, frozen=True):
    """A drill that is done, or that waits for the vault.

    `cost` is its estimated cost in millionths; `run` is None if there was nothing to read.
    """

    state: StepStage
    name: str
    grade: Grade
    vault: VaultName
    currency: str
    waits_for: str = ""
    run: int | None = None
    cost: int = 0
    read: ReadBack | None = None
    opened: Opened | None = None
    loaded: Sequence[LoadedDump] = ()
    findings: Sequence[CheckFinding] = ()
    affected: Affected = field(default_factory=Affected)
    seconds: float = 0.0

    @property
    def subject(self) -> str:
        """The run in words."""
        return f"drill {self.name}"

    @property
    def warnings(self) -> Sequence[str]:
        """None: what is not well is among the findings."""
        return ()

    def facts(self, currency: str = "USD") -> Iterator[Fact]:  # noqa: ARG002
        """The findings with advice, what was read back and opened; a row for each, and for the cost."""
        for finding in self.findings[:_MOST_SAID]:
            told = ": ".join(filter(None, (finding.kind, finding.what, finding.detail)))
            yield Fact(told, level=logging.ERROR if self.is_grave else logging.WARNING)
        if self.advice:
            yield Fact(self.advice)
        if self.run is None:
            yield Fact("nothing is stored yet")
        if self.read is not None:
            yield Fact(f"{size(self.read.bytes)} read back, {self.outcome}")
        if self.opened is not None:
            count = counted(self.opened.files, "file")
            yield Fact(f"{count} of {size(self.opened.bytes)} opened, {self.outcome}")
        yield from (Fact(load_text(dump)) for dump in self.loaded)
        yield from _rows(self.read, self.opened, money_of(self.cost), self.currency)

    @property
    def is_grave(self) -> bool:
        """Whether something cannot be restored as it was saved."""
        return bool(self.affected.files) or any(
            finding.is_grave or finding.kind in DEVIATIONS for finding in self.findings
        )

    @property
    def outcome(self) -> Outcome:
        """The outcome of the run."""
        if self.is_grave:
            return Outcome.FAILED
        return Outcome.PARTIAL if self.findings else Outcome.DONE

    @property
    def advice(self) -> str:
        """Advice on the findings; empty if there are none."""
        if not self.is_grave:
            return ""
        if any(finding.kind in DEVIATIONS for finding in self.findings):
            return "restore some of these files by hand and look: `nightvault restore --help`"
        if self.affected.again:
            return "`nightvault copy`: it sends again what is not sound there"
        if self.affected.live_files:
            return "`nightvault backup`: it stores again what is still on this machine"
        return f"`nightvault check --vault {self.vault}` names what is affected"

    def read_back(self, report: CheckReport) -> DrillReport:
        """Return this report, completed by what the checker read."""
        return replace(
            self,
            state=report.state,
            waits_for=report.waits_for,
            read=report.read,
            findings=report.findings,
            affected=report.affected,
            seconds=report.seconds,
        )

    def document(self) -> dict[str, Any]:
        """As JSON, but for paths (bytes); the keys are part of the interface."""
        document: dict[str, Any] = parts_of(self)
        document["drill"] = document.pop("name")
        document["grade"] = GRADES[self.grade]
        document["cost"] = f"{money_of(self.cost):f}"
        return document | {"outcome": str(self.outcome), "advice": self.advice}

    def summary(self) -> dict[str, Any]:
        """The part that is kept with the run: counts, and the first findings."""
        document = self.document()
        kept = ("drill", "grade", "vault", "cost", "currency", "read", "opened", "loaded", "advice")
        told = {"advice": bool(self.advice), "loaded": bool(self.loaded)}
        summary = {key: document[key] for key in kept if told.get(key, True)}
        summary["findings"] = document["findings"][:_MOST_KEPT]
        if self.is_grave:
            summary["error"] = "; ".join(
                f"{finding.kind}: {finding.what}: {finding.detail}" for finding in self.findings[:3]
            )
        return summary | {"affected_files": self.affected.files}


class DrillSummary(Struct, frozen=True):
    """The part of its report that the record of a drill keeps."""

    drill: str
    cost: Decimal
    currency: str
    findings: Sequence[CheckFinding]
    read: ReadBack | None = None
    opened: Opened | None = None
    loaded: Sequence[LoadedDump] = ()

    def facts(self, currency: str = "USD") -> Iterator[Fact]:  # noqa: ARG002
        """A row for what was read back or opened, for each database that was loaded, and for the cost."""
        yield from _rows(self.read, self.opened, self.cost, self.currency)
        yield from (Fact(load_text(dump), "loaded") for dump in self.loaded)


def _rows(read: ReadBack | None, opened: Opened | None, cost: Decimal, currency: str) -> Iterator[Fact]:
    if read is not None:
        yield Fact(f"{size(read.bytes)} in {counted(read.archives, 'archive')}", "read back")
    if opened is not None:
        yield Fact(f"{counted(opened.files, 'file')}, {size(opened.bytes)}", "opened")
    if cost:
        yield Fact(f"{cost:.2f} {currency} at most", "cost")


def load_text(dump: LoadedDump) -> str:
    """Return what was loaded as text."""
    counts = f"{counted(dump.tables, 'table')}, {counted(dump.rows, 'row')}"
    return f"loaded {dump.kind} {escape(dump.database)}: {counts}"


def names_of(jobs: Sequence[JobName] | None, vault: VaultName) -> str:
    """Return the jobs or the vault of a drill, as text."""
    return f"vault {vault}" if jobs is None else ", ".join(f"job {name}" for name in jobs)
