"""The report of a rebuild that is done or waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from backup.as_parts import parts_of
from backup.inventory.store.states import StepStage
from backup.model import InventoryId, VaultName


class Suspicion(Struct, frozen=True):
    """Something wrong in the vault: it is reported, and not used.

    `kind`: refused, other-key, relabelled, damaged, missing, duplicate, withheld, differs, not-covered,
    out-of-range, newer, newer-format, not-its-own, heir, left-out, too-large.
    """

    kind: str
    archive_id: str
    detail: str


class RebuiltJob(Struct, frozen=True):
    """A job of the new inventory: the state of delta catalog `number`; `not_covered` are newer ones."""

    name: str
    number: int
    snapshots: int
    catalogs: int
    not_covered: Sequence[int] = ()
    line_met: bool = False


class RebuildReport(Struct, frozen=True):
    """A rebuild that is done, or that waits for the vault."""

    state: StepStage
    vault: VaultName
    waits_for: str = ""
    inventory_id: InventoryId | None = None
    predecessor: InventoryId | None = None
    jobs: Sequence[RebuiltJob] = ()
    entries: int = 0
    archives: int = 0
    unconfirmed: int = 0
    recovered_packs: int = 0
    recovered_chunks: int = 0
    missing_recipients: int = 0
    not_enrolled: Sequence[str] = ()  # recipients whose keys were not at hand to vouch for the new inventory
    listed_at: datetime | None = None
    suspicions: Sequence[Suspicion] = ()
    condemned_catalogs: Mapping[bytes, tuple[bytes, int]] = field(default_factory=dict)  # pack: job, when
    seconds: float = 0.0

    @property
    def is_partial(self) -> bool:
        """Whether something that once existed is missing from the new inventory, or from the vault."""
        grave = {"withheld", "differs", "damaged", "missing", "other-key", "out-of-range"}
        grave |= {"newer", "newer-format", "not-its-own", "heir", "too-large"}
        return any(job.not_covered for job in self.jobs) or any(
            suspicion.kind in grave for suspicion in self.suspicions
        )

    def document(self) -> dict[str, Any]:
        """As JSON; the keys are part of the interface."""
        document: dict[str, Any] = parts_of(self)
        for name in ("inventory_id", "predecessor"):
            document[name] = document[name].hex() if document[name] else None
        document["inventory"] = document.pop("inventory_id")
        del document["condemned_catalogs"]
        document["partial"] = self.is_partial
        return document
