"""The open restores of a status: their progress, and when they can continue."""

from __future__ import annotations

from collections.abc import Sequence

from backup.app.base.folders import Folders
from backup.app.money.expected_times import expected
from backup.app.restores.held import HeldNotes
from backup.app.status.parts import RestoreStatus
from backup.config import Config
from backup.inventory.questions import status as queries
from backup.inventory.records.retrievals import Restore
from backup.inventory.store.states import SETTLED, RestoreStage, RetrievalStage
from backup.restorer.report import stage


def restore_status(
    config: Config, restore: Restore, groups: Sequence[queries.RetrievalGroup]
) -> RestoreStatus:
    """Return the status of an open restore, given its retrievals."""
    examples = [group.example for group in groups]
    settings = next((vault for vault in config.vaults if vault.name == restore.vault), None)
    when = expected(settings, examples) if settings is not None else None
    note = HeldNotes(Folders(config.state_dir).restores).read(restore.id)
    ready = [group.until for group in examples if group.state is RetrievalStage.READY and group.until]
    return RestoreStatus(
        id=restore.id,
        snapshot=restore.snapshot,
        vault=restore.vault,
        target=restore.target,
        stage=stage(restore, examples) if restore.state is RestoreStage.OPEN else str(restore.state),
        retrievals=sum(group.count for group in groups),
        waiting=sum(group.count for group in groups if group.example.state not in SETTLED),
        failed=sum(group.count for group in groups if group.example.state is RetrievalStage.FAILED),
        expected_at=None if when is None else when.latest,
        ready_until=min(ready, default=None),
        held=note.why if note else None,
    )
