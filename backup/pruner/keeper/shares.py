"""Groups archives that are deleted, wait or stay for the same reason, for the keeper's report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime

from backup.inventory.content.pruning import StoredArchive
from backup.pruner.delete import Deleted
from backup.pruner.keeper.report import Share
from backup.pruner.keeper.rules import Decision
from backup.retention.prune import Waiting, Why

_WORDS = {
    Why.CATALOGS: "a catalog of each job that named it, which says that it is condemned",
    Why.GRACE: "until it has been condemned as long as the floor asks for, by the vault's dates",
    Why.DURATION: "the vault's minimum duration",
    Why.SHRUNK: "an answer on the server: a source of it has lost nearly everything",
}


def share_of(archives: Sequence[StoredArchive], why: str = "", detail: str = "") -> Share:
    """Return these archives as one group: how many, their bytes, why and until when they stay."""
    return Share(len(archives), sum(archive.size for archive in archives), why, detail)


def waiting_shares(decided: Decision) -> list[Share]:
    """Return the condemned archives that stay, by reason and day, the soonest first."""
    groups: dict[tuple[Why, date | None], list[Waiting]] = defaultdict(list)
    for archive in decided.waiting:
        groups[archive.why, archive.until and archive.until.date()].append(archive)
    found = [
        Share(
            len(of_group),
            sum(archive.archive.size for archive in of_group),
            why.name.lower(),
            _WORDS.get(why, why.value),
            max((archive.until for archive in of_group if archive.until is not None), default=None),
        )
        for (why, _), of_group in groups.items()
    ]
    found.sort(key=lambda share: (share.until is None, str(share.until), share.why))
    if decided.held:
        found.append(share_of(decided.held, "held", "a snapshot that was there within the floor needs it"))
    if decided.needed:
        found.append(
            share_of(decided.needed, "needed", "a snapshot that was not dropped, or a rebuild, needs it")
        )
    return found


def refused_shares(done: Deleted) -> list[Share]:
    """Return the archives that the vault refused to delete, by reason and day."""
    groups: dict[tuple[str, datetime | None], list[StoredArchive]] = defaultdict(list)
    for archive, refusal in done.refused:
        groups[refusal.detail, refusal.kept_until].append(archive)
    return [
        Share(len(archives), sum(archive.size for archive in archives), "refused", detail, until)
        for (detail, until), archives in groups.items()
    ]
