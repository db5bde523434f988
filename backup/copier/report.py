"""The report of a copy."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backup.kinds import Outcome
from backup.model import JobName, SnapshotId, Tier, VaultName
from backup.reports import Fact, warned
from backup.wording import counted, money, size


class Asks(Struct, frozen=True):
    """The terms on which archives of a source that waits are made readable: tier, cost if it is known."""

    tier: Tier
    cost: Decimal | None = None


class CopyReport(Struct, frozen=True):
    """The result of a copy, or of its plan: snapshots of a job, packs and their bytes.

    `not_copied` are snapshots that lack a pack; `problems` say why. `forgotten`: how many were forgotten
    there; of a plan `forgets` says which would be. `asks`: of a plan, where the source makes archives
    readable hours later.
    """

    job: JobName
    vault: VaultName
    source: VaultName
    snapshots: tuple[SnapshotId, ...] = ()
    archives: int = 0
    bytes: int = 0
    not_copied: tuple[SnapshotId, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    recovery_line: str = ""
    waits_for: str = ""
    forgotten: int = 0
    forgets: tuple[SnapshotId, ...] = ()
    asks: Asks | None = None

    def then(self, later: CopyReport) -> CopyReport:
        """This report, and that of a later round."""
        return replace(
            later,
            snapshots=(*self.snapshots, *later.snapshots),
            archives=self.archives + later.archives,
            bytes=self.bytes + later.bytes,
            problems=(*self.problems, *later.problems),
            warnings=(*self.warnings, *later.warnings),
            recovery_line=later.recovery_line or self.recovery_line,
            forgotten=self.forgotten + later.forgotten,
        )

    @property
    def subject(self) -> str:
        """The run in words."""
        return f"copy of job {self.job} to vault {self.vault}"

    @property
    def outcome(self) -> Outcome:
        """Partial, if something could not be copied."""
        return Outcome.PARTIAL if self.problems or self.not_copied else Outcome.DONE

    def facts(self, currency: str = "USD") -> Iterator[Fact]:
        """Problems and warnings, then counts."""
        yield from warned((*self.problems, *self.warnings))
        yield Fact(
            f"{counted(len(self.snapshots), 'snapshot')} copied from vault {self.source}: "
            f"{counted(self.archives, 'archive')}, {size(self.bytes)}"
        )
        yield Fact(self.source, "from vault")
        yield Fact(f"{len(self.snapshots):,} copied", "snapshots")
        yield Fact(f"{self.archives:,} sent, {size(self.bytes)}", "archives")
        if self.asks is not None:
            cost = money(self.asks.cost, currency)
            yield Fact(f"{self.asks.tier}, round by round, hours later each: {cost}", "retrieval")
        if self.forgotten:
            which = f": {', '.join(snapshot[:8] for snapshot in self.forgets)}" if self.forgets else ""
            yield Fact(f"{counted(self.forgotten, 'snapshot')} there, by the copy's policy{which}", "forgot")

    def document(self) -> dict[str, Any]:
        """The report as JSON; its keys are part of the interface."""
        return {
            "job": self.job,
            "vault": self.vault,
            "source": self.source,
            "snapshots": list(self.snapshots),
            "archives": self.archives,
            "bytes": self.bytes,
            "not_copied": list(self.not_copied),
            "forgotten": self.forgotten,
            "forgets": list(self.forgets),
            "retrieval": None if self.asks is None else _asked(self.asks),
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "recovery_line": self.recovery_line,
        }


def _asked(asks: Asks) -> dict[str, Any]:
    return {"tier": asks.tier, "cost": None if asks.cost is None else str(asks.cost)}
