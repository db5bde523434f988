"""The report of a restore: its progress and its result."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.states import OVER, SETTLED, RestoreStage, RetrievalStage
from backup.kinds import Outcome
from backup.model import Problem
from backup.reports import Fact, warned
from backup.wording import counted, shown_path, size

_MOST_SAID = 20  # problems that the log names
_Path = bytes  # a count is called so below


class RestoreReport(Struct, frozen=True):
    """The progress of a restore: `waiting` retrievals are not ready, `outcome` is RUNNING until the end.

    `files` counts everything but directories; `bytes` were written, `retrieved` made readable by the vault,
    `fetched` downloaded. `kept` entries stayed as they were, `removed` ones were not in the snapshot,
    `verified` files were read back. `warnings` are sentences about this session that leave nothing undone.
    `vaults`: how many archives were read from each, where copies lie in others than the job's.
    """

    restore: str
    snapshot: str
    target: _Path = b""
    outcome: Outcome = Outcome.RUNNING
    waiting: int = 0
    retrievals: int = 0
    files: int = 0
    directories: int = 0
    bytes: int = 0
    retrieved: int = 0
    fetched: int = 0
    kept: int = 0
    removed: int = 0
    verified: int = 0
    seconds: float = 0.0
    problems: Sequence[Problem] = ()
    warnings: Sequence[str] = ()
    vaults: Mapping[str, int] = {}

    @property
    def subject(self) -> str:
        """The restore, by its id."""
        return f"restore {self.restore}"

    @property
    def waits_for(self) -> str:
        """The retrievals that it waits for; empty at the end."""
        return counted(self.waiting, "retrieval") if self.outcome is Outcome.RUNNING else ""

    def facts(self, currency: str = "USD") -> Iterator[Fact]:  # noqa: ARG002
        """Problems, warnings, figures; a row for what was written and for what was fetched."""
        for problem in self.problems[:_MOST_SAID]:
            yield Fact(f"{problem.kind}: {shown_path(problem.path)}: {problem.detail}", level=logging.WARNING)
        yield from warned(self.warnings)
        yield Fact(
            f"{self.outcome}, {self.files:,} files of {size(self.bytes)} below {shown_path(self.target)}, "
            f"{self.waiting} of {self.retrievals} retrievals to come"
        )
        yield Fact(f"{counted(self.files, 'file')}, {size(self.bytes)}", "restored")
        yield Fact(size(self.fetched), "fetched")
        if self.vaults:
            yield Fact(self.from_vaults, "from")

    @property
    def from_vaults(self) -> str:
        """The number of archives read from each vault, in words."""
        every = sorted(self.vaults.items())
        return ", ".join(f"{counted(count, 'archive')} from vault {vault}" for vault, count in every)

    def document(self) -> dict[str, Any]:
        """The report as JSON; the keys are part of the interface. Paths are rendered by who shows it."""
        names = [name for name in self.__struct_fields__ if name not in {"problems", "target"}]
        document = {name: getattr(self, name) for name in names}
        return document | {"outcome": str(self.outcome), "warnings": list(self.warnings)}


def is_ready(known: Sequence[Retrieval]) -> bool:
    """Whether every retrieval can be fetched, was fetched, or never will be (archive gone)."""
    return all(retrieval.state in SETTLED for retrieval in known)


def is_partly_ready(known: Sequence[Retrieval]) -> bool:
    """Whether there is something to fetch now."""
    return any(retrieval.state is RetrievalStage.READY for retrieval in known)


def has_come(known: Sequence[Retrieval]) -> bool:
    """Whether a step would bring something, or has nothing more to wait for."""
    return is_ready(known) or is_partly_ready(known)


def stage(restore: Restore, known: Sequence[Retrieval]) -> str:
    """The stage of a restore as a short text.

    planned, waiting, partly ready, ready, downloading (partly written), verified (all written, not finished),
    and at the end done or cancelled.
    """
    if restore.state is not RestoreStage.OPEN:
        return restore.state
    states = {retrieval.state for retrieval in known}
    has_fetched = RetrievalStage.FETCHED in states
    if states <= OVER:
        return "verified" if has_fetched else "planned"
    if states <= {RetrievalStage.PLANNED}:
        return "planned"
    if RetrievalStage.READY in states:
        if not states <= SETTLED:
            return "partly ready"
        return "downloading" if has_fetched or any(retrieval.written_to for retrieval in known) else "ready"
    return "waiting" if RetrievalStage.WAITING in states else "partly asked for"


def waiting_report(restore: Restore, known: Sequence[Retrieval]) -> RestoreReport:
    """Return the report of a restore that cannot be delivered yet."""
    waiting = sum(retrieval.state not in SETTLED for retrieval in known)
    return RestoreReport(restore.id, restore.snapshot, restore.target, Outcome.RUNNING, waiting, len(known))
