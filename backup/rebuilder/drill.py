"""A rebuild drill: rebuilds the inventory in a scratch folder, compares it with the one in use, removes it.

    drill(wish, context)      # one step; "waiting" while the vault makes its list or retrieves catalogs

The inventory in use is read in one transaction, so backups may go on; what they commit after the catalogs
that were rebuilt is left out of the comparison. Nothing is stored in the vault, and no key is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backup.as_parts import parts_of
from backup.errors import FormatError, NightvaultError, SpoolError
from backup.format.pack import parse_header
from backup.inventory.content.identities import newest_catalog_header
from backup.inventory.questions.compared import covers_until
from backup.inventory.rebuilt.columns import UNKNOWABLE
from backup.inventory.rebuilt.drill_queries import CatalogsRead
from backup.inventory.store.copies import database_size
from backup.inventory.store.database import Inventory
from backup.inventory.store.holders import held_locks
from backup.inventory.store.locks import BACKUP
from backup.inventory.store.states import StepStage
from backup.kinds import Outcome
from backup.model import MIB, InventoryId, VaultName
from backup.protocols import phase
from backup.rebuilder.context import CatalogRun, Wish
from backup.rebuilder.drill_folder import Begun, DrillFolder
from backup.rebuilder.findings import Comparison
from backup.rebuilder.rebuild import rebuild
from backup.rebuilder.report import RebuildReport
from backup.rebuilder.same_records import compare

LOCK = "rebuild-drill"
_SLACK = 64 * MIB
_STALE = timedelta(days=3)
_PAUSES = (1.0, 5.0, 15.0)
"""Seconds between comparisons while a backup is at work; recording a catalog that was accepted takes less."""


class RebuildDrillContext(CatalogRun, frozen=True, kw_only=True):
    """All inputs of a drill except the options; `inventory` is the one in use."""

    inventory: Inventory
    state_directory: str


class RebuildDrillReport(Struct, frozen=True):
    """The report of a step: `worked` is the working time in seconds, `took` the time since its beginning."""

    rebuilt: RebuildReport
    comparison: Comparison | None = None
    began: datetime | None = None
    worked: float = 0.0
    took: float = 0.0

    @property
    def waits_for(self) -> str:
        """The thing that it waits for; empty once it is over."""
        return self.rebuilt.waits_for

    @property
    def outcome(self) -> Outcome:
        """Failed, if the rebuilt inventory differs from the one in use."""
        if not self.are_same:
            return Outcome.FAILED
        return Outcome.PARTIAL if self.rebuilt.is_partial else Outcome.DONE

    @property
    def catalogs(self) -> CatalogsRead:
        """The catalogs of which it was rebuilt."""
        return CatalogsRead() if self.comparison is None else self.comparison.catalogs

    @property
    def are_same(self) -> bool:
        """Whether the rebuilt inventory has everything that catalogs contain."""
        return self.comparison is not None and self.comparison.are_same

    def document(self) -> dict[str, Any]:
        """As JSON; the keys are part of the interface."""
        rebuilt = self.rebuilt.document()
        found = self.comparison
        told: Mapping[str, Any] = {} if found is None else parts_of(found)
        return {
            "dry_run": True,
            "vault": self.rebuilt.vault,
            "state": str(self.rebuilt.state),
            "waits_for": self.rebuilt.waits_for,
            "same": None if found is None else found.are_same,
            "rows": told.get("rows", {}),
            "differences": _without_why(told.get("differences", ())),
            "explained": list(told.get("explained", ())),
            "unknowable": [
                {"what": list(unknowable.what), "why": unknowable.why} for unknowable in UNKNOWABLE
            ],
            "catalogs": self.catalogs.count,
            "catalog_bytes": self.catalogs.size,
            "worked": round(self.worked, 3),
            "seconds": round(self.took, 3),
            "rebuilt": rebuilt,
        }

    def summary(self) -> dict[str, Any]:
        """The part of it that the record of a run keeps: without what is long, or the same each time."""
        document = self.document()
        rebuilt = document.pop("rebuilt")
        for name in ("unknowable", "dry_run", "state", "waits_for"):
            del document[name]
        if not self.are_same:
            first = document["differences"][0] if document["differences"] else None
            document["error"] = "a rebuilt inventory would differ from this one" + (
                f": {first['table']}, {first['kind']} ({first['count']})" if first else ""
            )
        return {**document, "jobs": rebuilt["jobs"], "suspicions": rebuilt["suspicions"][:20]}


def _without_why(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in difference.items() if key != "why"} for difference in found]


def drill(wish: Wish, context: RebuildDrillContext) -> RebuildDrillReport:
    """Run one step. Raises what `rebuild` raises; `LockedError` while another drill runs here."""
    began = context.clock.now()
    with (
        context.inventory.locked(LOCK),
        DrillFolder.opened(context.state_directory, context.vault.name) as folder,
    ):
        begun = folder.begun(began)
        if abs(began - begun.at) > _STALE:  # its list is old, and what the vault made readable is gone
            folder.forget()
            begun = Begun(began)
        _require_room(folder.path, context.inventory)
        meant = wish.inventory or _inventory_of_newest(context.inventory, context.vault.name).hex()
        wish = replace(wish, inventory=meant)
        try:
            report = rebuild(wish, context.rebuild_at(f"sqlite:///{folder.inventory}", folder.asked))
            compared = _compared(wish, context, folder, report)
        except NightvaultError as error:
            if not (error.retryable or context.vault.traits.waits):
                folder.end()
            raise
        now = context.clock.now()
        worked = begun.worked + max(0.0, (now - began).total_seconds())
        if report.state is StepStage.WAITING:
            folder.note(Begun(begun.at, worked))
        else:
            folder.end()
        took = max(worked, (now - begun.at).total_seconds())
        return RebuildDrillReport(report, compared, begun.at, worked, took)


def _compared(
    wish: Wish, context: RebuildDrillContext, folder: DrillFolder, report: RebuildReport
) -> Comparison | None:
    """The comparison, once there is something to compare."""
    if report.state is StepStage.WAITING:
        return None
    for pause in (*_PAUSES, None):
        is_at_work = BACKUP in (held_locks(context.state_directory) or ())
        found = _compare(wish, context, folder, report)
        if found.are_same or not is_at_work or pause is None:
            break
        context.clock.sleep(pause)  # the vault may have a catalog that the backup has not recorded yet
    return found


def _compare(
    wish: Wish, context: RebuildDrillContext, folder: DrillFolder, report: RebuildReport
) -> Comparison:
    progress = context.progress
    with phase(progress, "Comparing row by row", counts="job"):
        return compare(
            folder.inventory,
            context.inventory,
            context.vault.name,
            jobs=wish.jobs,
            shown_until=_shown_until(wish, context, report),
            tell=lambda _: progress.advance(files=1),
        )


def _shown_until(wish: Wish, context: RebuildDrillContext, report: RebuildReport) -> datetime | None:
    """Until when stored catalogs were to be seen by the rebuild; None where it was not to take the newest."""
    if report.listed_at is None or wish.before or wish.tip:
        return None
    return covers_until(report.listed_at, at_once=context.vault.traits.lists_at_once)


def _inventory_of_newest(inventory: Inventory, vault: VaultName) -> InventoryId:
    """The inventory that the newest catalog in the vault names: this one, or the one it was rebuilt from."""
    with inventory.reading() as tx:
        header = newest_catalog_header(tx, vault)
    if header is not None:
        with suppress(FormatError):
            return InventoryId(parse_header(header).fields.inventory_id)
    raise NightvaultError(
        f"no catalog of this inventory is known to be in vault {vault}: there is nothing to rebuild yet",
        advice="run a backup first",
    )


def _require_room(folder: str, inventory: Inventory) -> None:
    """`SpoolError` where a second inventory, and the catalogs, would not fit."""
    need = 2 * database_size(inventory.connections) + _SLACK
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < need:
        raise SpoolError(
            f"a rebuild drill needs {need >> 20} MiB in {folder}, and {free >> 20} are free",
            advice="free some space there",
        )
