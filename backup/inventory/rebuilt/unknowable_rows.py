"""The tables and columns of an inventory that a rebuild cannot bring back, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct


class Unknowable(Struct, frozen=True):
    """Tables, and columns as TABLE.COLUMN, that no rebuild brings back; why, or the consequence."""

    what: Sequence[str]
    why: str


UNKNOWABLE: Final = (
    Unknowable(("about",), "a rebuilt inventory has an id of its own, and names the one before it"),
    Unknowable(
        ("counters", "jobs.next_snapshot", "jobs.next_catalog"),
        "a rebuild skips some numbers, so that none is given out twice",
    ),
    Unknowable(("runs", "snapshots.run", "archives.run"), "reports of runs are on this server alone"),
    Unknowable(
        ("hints.inode", "hints.ctime_ns"),
        "by these unchanged files are known: the next backup reads every file once",
    ),
    Unknowable(
        ("staged_entries", "staged_removals", "staged_hints", "uploads"),
        "they belong to a run that has not ended: it begins anew",
    ),
    Unknowable(("chunk_prefixes",), "they are made anew of the chunks' ids"),
    Unknowable(
        ("archives.submitted_at", "archives.taken_up_at", "domains.created_at"), "times that no catalog has"
    ),
    Unknowable(("disks",), "which disk was mounted where: the next backup notes it"),
    Unknowable(("deletions",), "requests of prunes; the vault's list shows what is gone"),
    Unknowable(("restores", "retrievals"), "an open restore is begun anew"),
    Unknowable(("listings", "listed_archives"), "lists that were kept: a new one is asked for"),
    Unknowable(
        ("strangers", "passed_catalogs"), "who else writes into the vault, and answers to it: it is seen anew"
    ),
    Unknowable(("vaults.heir_mark",), "a rebuilt inventory leaves a mark of its own"),
    Unknowable(("readings",), "what checks have read back; full catalogs carry a summary of it"),
    Unknowable(("drills", "drill_costs"), "drills, and what they cost, are on this server alone"),
    Unknowable(("tasks", "pauses"), "when tasks of the daemon were done last, and pauses"),
    Unknowable(("messages", "deliveries", "conditions"), "messages to people"),
    Unknowable(
        ("vaults.number", "jobs.number", "jobs.vault", "domains.number"),
        "they are numbered anew, and compared by name or id",
    ),
)
"""Everything that no catalog carries."""
