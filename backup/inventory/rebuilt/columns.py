"""Where a rebuild gets each column of the inventory from: a record of catalogs, other columns, or nowhere.

Rebuild drills compare what is `CARRIED` by the records of a full catalog, and what is `DERIVED` by SQL.
`UNKNOWABLE` is on this server alone, with the reason why it may be lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct


def _of(table: str, record: str, columns: str) -> dict[str, str]:
    """Columns that have the name of the field that carries them."""
    return {f"{table}.{column}": f"{record}.{column}" for column in columns.split()}


CARRIED: Final[Mapping[str, str]] = {
    **_of("vaults", "VaultRecord", "name identity"),
    "jobs.id": "Start.job_id",
    "jobs.name": "Start.job_name",
    "jobs.made_by": "Start.job_inventory",
    "jobs.nonce": "Start.job_nonce",
    "jobs.usual_from": "ShrunkRecord.snapshot",
    **_of("owners", "OwnerRecord", "number uid gid user group"),
    **_of("directories", "DirectoryRecord", "number path"),
    "directories.job": "DirectoryRecord",
    **_of("entries", "EntryRecord", "number directory name kind mode owner mtime_ns size extra content_id"),
    **_of("entries", "EntryRecord", "chunks added_in removed_in"),
    "hints.entry": "MountsRecord.entries",
    "hints.is_mount": "MountsRecord",
    **_of("dumps", "DumpRecord", "entry engine database version charset back tables"),
    **_of(
        "snapshots", "SnapshotRecord", "id number started_at finished_at host sources files bytes problems"
    ),
    **_of("snapshots", "SnapshotRecord", "counts roots"),
    "snapshots.job": "SnapshotRecord",
    "snapshots.forgotten_at": "ForgottenRecord.at",
    "snapshots.tags": "MarksRecord.tags",
    "snapshots.pin_note": "MarksRecord.note",
    "snapshots.pin_until": "MarksRecord.until",
    "snapshots.shrunk": "ShrunkRecord.lost",
    **_of("domains", "DomainRecord", "id vault recipients"),
    **_of(
        "archives", "ArchiveRecord", "number domain kind pack_id header size tree_hash archive_id stored_at"
    ),
    **_of("archives", "ArchiveRecord", "state version"),
    "condemnations.archive": "CondemnedRecord.packs",
    "condemnations.job": "CondemnedRecord",
    "condemnations.at": "CondemnedRecord.at",
    "frames.archive": "FramesRecord.archive",
    **_of("frames", "FramesRecord.rows", "number offset sealed_length raw_length flags digest"),
    "chunks.archive": "ChunksRecord.archive",
    "chunks.number": "ChunksRecord.numbers",
    **_of("chunks", "ChunksRecord.rows", "id frame offset length"),
}
"""Columns by `table.column`, each with the record of catalogs that carries it, and the field of that."""

DERIVED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("catalogs.archive", "catalogs.job", "catalogs.number", "catalogs.generation", "catalogs.parent"),
        "of the catalog's own header",
    ),
    **dict.fromkeys(
        ("catalog_archives.catalog", "catalog_archives.archive"), "of the archives that a catalog describes"
    ),
    "chunks.prefix": "of the chunk's id",
}
"""Columns that a rebuild computes anew, and of what."""

COMPARED: Final[Sequence[str]] = (
    *("vaults", "jobs", "owners", "directories", "entries", "hints", "dumps", "snapshots", "domains"),
    "archives",
    *("catalogs", "catalog_archives", "condemnations", "frames", "chunks"),
)
"""The tables of these columns, in the order in which findings are told."""


def _fields_by_record() -> Mapping[str, Sequence[tuple[str, str, str]]]:
    """The fields of each record that carry a column as it is: field, table, column."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for name, carrier in CARRIED.items():
        (table, column), (record, *fields) = name.split("."), carrier.split(".")
        if len(fields) == 1:
            found.setdefault(record, []).append((fields[0], table, column))
    return found


FIELDS: Final = _fields_by_record()


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
    Unknowable(
        ("copies", "copied_snapshots", "condemned_copies"),
        "what lies in other vaults: the catalogs there say it, and their lists",
    ),
    Unknowable(
        ("stopped_containers",), "containers of this server that a run has stopped: look whether all run"
    ),
    Unknowable(("locks", "lock_dates"), "ends of locks: the vault is asked again"),
    Unknowable(("legal_holds",), "which objects are held: `pin --legal-hold`, given again, records it"),
    Unknowable(("vault_locks",), "which locks of vaults were begun here: the vault says what is in place"),
    Unknowable(("bucket_settings",), "how buckets were set: the next backup looks"),
    Unknowable(("deletions",), "requests of prunes; the vault's list shows what is gone"),
    Unknowable(("restores", "retrievals"), "an open restore is begun anew"),
    Unknowable(("listings", "listed_archives"), "lists that were kept: a new one is asked for"),
    Unknowable(
        ("strangers", "passed_catalogs"), "who else writes into the vault, and answers to it: it is seen anew"
    ),
    Unknowable(("vaults.heir_mark",), "a rebuilt inventory leaves a mark of its own"),
    Unknowable(("readings",), "what checks have read back; full catalogs carry a summary of it"),
    Unknowable(("drills", "drill_costs"), "drills, and what they cost, are on this server alone"),
    Unknowable(("loads",), "which dumps drills have loaded: the next ones load them again"),
    Unknowable(("tasks", "pauses"), "when tasks of the daemon were done last, and pauses"),
    Unknowable(("messages", "deliveries", "conditions"), "messages to people"),
    Unknowable(("center_chains",), "what a center was told: a rebuilt inventory begins a new chain"),
    Unknowable(
        ("vaults.number", "jobs.number", "jobs.vault", "domains.number"),
        "they are numbered anew, and compared by name or id",
    ),
)
"""Everything that no catalog carries."""
