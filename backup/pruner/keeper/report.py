"""The keeper's report: what was deleted, what stays and why, and signs of an intruder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from backup.inventory.store.states import StepStage
from backup.model import VaultName


class Sign(StrEnum):
    """Signs of an intruder on a server."""

    FORGOTTEN = "forgotten"  # many snapshots at once
    DROPPED = "dropped"  # snapshots taken away that were not forgotten before
    CONDEMNED = "condemned"  # much at once
    FLOOD = "flood"  # far more catalogs a day than usual
    DATES = "dates"  # snapshots whose dates cannot be right


@dataclass(frozen=True, slots=True)
class Finding:
    """A sign about a job of a server, or about the whole server (`job` empty), as a sentence."""

    sign: Sign
    job: str
    detail: str


class Share(Struct, frozen=True):
    """Archives with the same fate: how many, their bytes; why they stay, and until when."""

    archives: int
    bytes: int
    why: str = ""
    detail: str = ""
    until: datetime | None = None


class InventoryReport(Struct, frozen=True):
    """The result for one server; `stopped` says why nothing was deleted, `advice` what to do."""

    inventory: str
    jobs: Sequence[str] = ()
    stopped: str = ""
    advice: str = ""
    deleted: Share = Share(0, 0)
    waiting: Sequence[Share] = ()
    refused: Sequence[Share] = ()
    findings: Sequence[Finding] = ()
    warnings: Sequence[str] = ()


class KeeperReport(Struct, frozen=True):
    """The result of one step.

    `floor`: everything that a state since then held stays; `listed_at`: the list's own time.
    """

    state: StepStage
    vault: VaultName
    waits_for: str = ""
    is_plan: bool = False
    listed_at: datetime | None = None
    floor: datetime | None = None
    inventories: Sequence[InventoryReport] = ()

    @property
    def is_partial(self) -> bool:
        """Whether an admin must look: a server was skipped, or there are signs of an intruder."""
        every = self.inventories
        return any(report.stopped or report.findings or report.warnings for report in every) or any(
            share.until is None for report in every for share in report.refused
        )

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        document["plan"] = document.pop("is_plan")
        document["partial"] = self.is_partial
        return document
