"""Queries for copies: packs of archives that lie in another vault, too, and snapshots that are said there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from msgspec.structs import replace

from backup.inventory.content.archives import (
    SOUND,
    Archive,
    ArchiveState,
    PendingUpload,
    get_archives,
)
from backup.inventory.content.need import Kept, archives_with, chunks_held, holders_of
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import (
    changed,
    insert_row,
    insert_tuples,
    marks,
    needed,
    numerals,
    raw_rows,
    row_of,
    value_of,
)
from backup.inventory.store.states import ReadingStage
from backup.inventory.store.times import micros, moment
from backup.model import ArchiveId, Generation, InventoryId, SnapshotId, UploadId, VaultName

REQUESTS_END = timedelta(days=1)
"""After that time a vault has carried out a deletion that was asked for, or never will."""
_BATCH = 500


class CopiedArchive(NamedTuple):
    """The pack of an archive in another vault; `is_said`: a stored catalog names it, where it lies now."""

    archive: int
    state: ArchiveState
    since: datetime
    is_said: bool


def submit_copy(
    tx: Transaction,
    archive: int,
    vault: int,
    domain: int,
    *,
    spool_file: str,
    part_size: int,
    now: datetime,
) -> None:
    """Record a copy before its first byte is sent; one that was lost is made again.

    What catalogs there said of it, they said of what was lost: another has to name it anew. So did readings.
    """
    read = "DELETE FROM readings WHERE archive = ? AND copied_to = ? AND state = ?"
    changed(tx, read, (archive, vault, ReadingStage.READ))
    changed(tx, "DELETE FROM condemned_copies WHERE archive = ? AND vault = ?", (archive, vault))
    changed(tx, "DELETE FROM copies WHERE archive = ? AND vault = ?", (archive, vault))
    said = """DELETE FROM catalog_archives WHERE archive = ? AND catalog IN (
                SELECT c.number FROM archives c JOIN domains d ON d.number = c.domain WHERE d.vault = ?)"""
    changed(tx, said, (archive, vault))
    where = {"archive": archive, "vault": vault, "domain": domain}
    state = {"state": ArchiveState.SUBMITTED, "since": micros(now)}
    insert_row(tx, "copies", **where, **state, spool_file=spool_file, part_size=part_size)


def place_apart(tx: Transaction, archives: Iterable[int], vault: int, domain: int) -> None:
    """Record that a vault has no copies of these: entries there name their chunks, which others have, too."""
    sql = """INSERT INTO copies (archive, vault, domain, state, since, part_size, spool_file)
             SELECT number, ?, ?, ?, coalesce(stored_at, submitted_at), 0, ''
             FROM archives WHERE number = ?
             ON CONFLICT (archive, vault) DO NOTHING"""
    for archive in archives:
        changed(tx, sql, (vault, domain, ArchiveState.DELETED, archive))


def copy_begun(tx: Transaction, archive: int, vault: int, upload_id: UploadId) -> None:
    """Record the vault's id of the upload."""
    sql = "UPDATE copies SET upload_id = ? WHERE archive = ? AND vault = ?"
    changed(tx, sql, (upload_id, archive, vault))


def copy_stored(
    tx: Transaction, archive: int, vault: int, archive_id: ArchiveId, now: datetime, version: str = ""
) -> None:
    """Record that the vault has completed the copy."""
    sql = """UPDATE copies SET state = ?, since = ?, stored_at = ?, archive_id = ?, version = ?,
                               upload_id = NULL WHERE archive = ? AND vault = ?"""
    at = micros(now)
    changed(tx, sql, (ArchiveState.STORED, at, at, archive_id, version or None, archive, vault))


def copy_lost(tx: Transaction, archive: int, vault: int, now: datetime) -> None:
    """Record that the copy is not in the vault: it is made again."""
    sql = "UPDATE copies SET state = ?, since = ?, upload_id = NULL WHERE archive = ? AND vault = ?"
    changed(tx, sql, (ArchiveState.LOST, micros(now), archive, vault))


def pending_copies(tx: Transaction, vault: int, inventory_id: InventoryId) -> list[PendingUpload]:
    """Copies into a vault that a dead process left behind, by archive."""
    sql = """SELECT archive, upload_id, part_size, spool_file FROM copies
             WHERE vault = ? AND state = ? ORDER BY archive"""
    rows = list(raw_rows(tx, sql, (vault, ArchiveState.SUBMITTED)))
    found = get_archives(tx, [row[0] for row in rows], inventory_id)
    return [PendingUpload(found[archive], *rest) for archive, *rest in rows]


def list_copies(tx: Transaction, vault: int) -> list[CopiedArchive]:
    """All copies in a vault, by archive."""
    said = set(each_said(tx, vault))
    sql = "SELECT archive, state, since FROM copies WHERE vault = ? ORDER BY archive"
    return [
        CopiedArchive(archive, ArchiveState(state), moment(since), archive in said)
        for archive, state, since in raw_rows(tx, sql, (vault,))
    ]


def each_said(tx: Transaction, vault: int, job: int | None = None) -> Iterator[int]:
    """The archives that stored catalogs in a vault name; of a `job`'s also those that no list has shown."""
    states = (ArchiveState.STORED,) if job is None else SOUND
    sql = f"""SELECT DISTINCT n.archive FROM catalog_archives n JOIN catalogs k ON k.archive = n.catalog
              JOIN archives c ON c.number = n.catalog JOIN domains d ON d.number = c.domain
              WHERE d.vault = ? AND k.job = coalesce(?, k.job) AND c.state IN ({marks(states)})"""
    return (archive for (archive,) in raw_rows(tx, sql, (vault, job, *states)))


def each_there(tx: Transaction, vault: int, state: ArchiveState | None = None) -> Iterator[int]:
    """The archives with a copy in a vault, in that state or in any."""
    sql = "SELECT archive FROM copies WHERE vault = ? AND state = coalesce(?, state)"
    return (archive for (archive,) in raw_rows(tx, sql, (vault, state)))


def states_there(
    tx: Transaction, vault: int, archives: Sequence[int]
) -> list[tuple[int, ArchiveState, datetime]]:
    """The copies of these archives in a vault: archive, state, and since when."""
    sql = f"""SELECT archive, state, since FROM copies
              WHERE vault = ? AND archive IN ({numerals(archives)})"""
    rows = raw_rows(tx, sql, (vault,))
    return [(archive, ArchiveState(state), moment(since)) for archive, state, since in rows]


def as_in_vault(tx: Transaction, vault: int, found: Mapping[int, Archive]) -> dict[int, Archive]:
    """The archives as a vault has them: those with a copy there with its id, version, time and domain."""
    return {**found, **{copy.number: copy for copy in _copies_of(tx, found, "k.vault = ?", (vault,))}}


def copies_of(tx: Transaction, found: Mapping[int, Archive]) -> Iterator[Archive]:
    """All copies of these archives, as other vaults have them."""
    return _copies_of(tx, found, "1")


def _copies_of(
    tx: Transaction, found: Mapping[int, Archive], where: str, values: tuple[int, ...] = ()
) -> Iterator[Archive]:
    numbers = list(found)
    for start in range(0, len(numbers), _BATCH):
        sql = f"""SELECT k.archive, v.name, k.domain, k.state, k.archive_id,
                         coalesce(k.stored_at, k.since), k.version
                  FROM copies k JOIN vaults v ON v.number = k.vault
                  WHERE {where} AND k.archive IN ({numerals(numbers[start : start + _BATCH])})"""
        for archive, name, domain, state, archive_id, since, version in raw_rows(tx, sql, values):
            yield replace(
                found[archive],
                vault=VaultName(name),
                domain=domain,
                state=ArchiveState(state),
                archive_id=ArchiveId(archive_id) if archive_id else None,
                stored_at=moment(since),
                version=version or "",
            )


def home_of(tx: Transaction, snapshot: SnapshotId) -> VaultName:
    """The vault of a snapshot's job: that from which it was copied."""
    sql = """SELECT v.name FROM snapshots s JOIN jobs j ON j.number = s.job
             JOIN vaults v ON v.number = j.vault WHERE s.id = ?"""
    return VaultName(needed(tx, sql, (snapshot,)))


def vaults_with(tx: Transaction, job: int, number: int) -> list[VaultName]:
    """The vaults that have a copy of a snapshot."""
    sql = f"""SELECT v.name FROM copied_snapshots s JOIN vaults v ON v.number = s.vault
              WHERE s.job = ? AND s.number = ? AND s.state IN ({marks(TOLD)}) ORDER BY v.name"""
    return [VaultName(name) for (name,) in raw_rows(tx, sql, (job, number, *TOLD))]


def as_described(tx: Transaction, vault: int, found: Mapping[int, Archive]) -> dict[int, Archive]:
    """The archives as catalogs of that vault describe them: what is on its way is not there yet."""
    there = as_in_vault(tx, vault, found)
    return {
        number: replace(archive, state=ArchiveState.LOST)
        if archive.state is ArchiveState.SUBMITTED
        else archive
        for number, archive in there.items()
    }


def recipients_of(tx: Transaction, archives: Sequence[int]) -> dict[int, bytes]:
    """For whom each archive was sealed: the ids of the recipients, joined."""
    found: dict[int, bytes] = {}
    for start in range(0, len(archives), _BATCH):
        sql = f"""SELECT a.number, d.recipients FROM archives a JOIN domains d ON d.number = a.domain
                  WHERE a.number IN ({numerals(archives[start : start + _BATCH])})"""
        found.update(raw_rows(tx, sql, ()))
    return found


class KeptThere(StrEnum):
    """The state of a snapshot in a vault with copies."""

    WANTED = "wanted"  # to be copied
    COPIED = "copied"  # a stored catalog there names it
    FORGOTTEN = "forgotten"  # there; can be taken back until prune deletes what only it needs
    DROPPED = "dropped"  # there, for good: it is not copied again


TOLD = (KeptThere.COPIED, KeptThere.FORGOTTEN)
"""The contents of the newest state of the job's catalogs there."""


def kept_there(tx: Transaction, vault: int, job: int) -> dict[int, KeptThere]:
    """The states of a job's snapshots in another vault, by number, rising."""
    sql = "SELECT number, state FROM copied_snapshots WHERE vault = ? AND job = ? ORDER BY number"
    return {number: KeptThere(state) for number, state in raw_rows(tx, sql, (vault, job))}


def vault_number(tx: Transaction, vault: VaultName) -> int:
    """The number of a vault; 0 if it was never used."""
    return int(value_of(tx, "SELECT number FROM vaults WHERE name = ?", (vault,)) or 0)


def want(tx: Transaction, vault: int, job: int, numbers: Iterable[int]) -> None:
    """Record the snapshots that are to be copied, in place of those that were to be before."""
    sql = "DELETE FROM copied_snapshots WHERE vault = ? AND job = ? AND state = ?"
    changed(tx, sql, (vault, job, KeptThere.WANTED))
    columns = ("job", "vault", "number", "is_alone", "state")
    known = kept_there(tx, vault, job)
    rows = [(job, vault, number, 0, KeptThere.WANTED) for number in numbers if number not in known]
    insert_tuples(tx, "copied_snapshots", columns, rows)


def wanted_of(tx: Transaction, job: int) -> dict[int, VaultName]:
    """The snapshots of a job that a copy was begun for, with the vault that is to get it."""
    sql = """SELECT k.number, v.name FROM copied_snapshots k JOIN vaults v ON v.number = k.vault
             WHERE k.job = ? AND k.state = ?"""
    return {number: VaultName(name) for number, name in raw_rows(tx, sql, (job, KeptThere.WANTED))}


def record_copied(tx: Transaction, vault: int, job: int, numbers: Iterable[int]) -> None:
    """Record snapshots that a stored catalog of another vault names; repeated it changes nothing."""
    known = kept_there(tx, vault, job)
    columns = ("job", "vault", "number", "is_alone", "state")
    new = [(job, vault, number, 0, KeptThere.COPIED) for number in numbers if number not in known]
    insert_tuples(tx, "copied_snapshots", columns, new)
    sql = "UPDATE copied_snapshots SET state = ? WHERE vault = ? AND job = ? AND number = ? AND state = ?"
    for number in numbers:
        changed(tx, sql, (KeptThere.COPIED, vault, job, number, KeptThere.WANTED))


def has_full_of(tx: Transaction, run: int) -> bool:
    """Whether a copy stored a full catalog after its delta."""
    sql = """SELECT 1 FROM archives a JOIN catalogs c ON c.archive = a.number
             WHERE a.run = ? AND c.generation = ? AND c.parent IS NOT NULL AND a.state = ? AND EXISTS (
               SELECT 1 FROM archives b JOIN catalogs d ON d.archive = b.number
               WHERE b.run = a.run AND d.generation = ? AND d.number < c.number)"""
    values = run, Generation.FULL, ArchiveState.STORED, Generation.DELTA
    return row_of(tx, sql, values) is not None


def forgotten_there(tx: Transaction, vault: int, job: int) -> dict[int, datetime]:
    """When each of a job's snapshots was forgotten in another vault, of those that can come back."""
    sql = "SELECT number, forgotten_at FROM copied_snapshots WHERE vault = ? AND job = ? AND state = ?"
    return {number: moment(at) for number, at in raw_rows(tx, sql, (vault, job, KeptThere.FORGOTTEN))}


def jobs_copied_to(tx: Transaction, vault: int) -> list[int]:
    """The jobs of which a vault has copies, or is to have some."""
    rows = raw_rows(tx, "SELECT DISTINCT job FROM copied_snapshots WHERE vault = ? ORDER BY job", (vault,))
    return [job for (job,) in rows]


def vault_names(tx: Transaction) -> dict[int, VaultName]:
    """The names of all vaults, by number."""
    return {number: VaultName(name) for number, name in raw_rows(tx, "SELECT number, name FROM vaults", ())}


def vaults_with_copies(tx: Transaction) -> list[int]:
    """The vaults, by number, that have copies, or are to have some."""
    rows = raw_rows(tx, "SELECT DISTINCT vault FROM copied_snapshots ORDER BY vault", ())
    return [vault for (vault,) in rows]


def places_beside(tx: Transaction, vault: VaultName | None) -> list[VaultName]:
    """The other vaults that have what one has, in part: each that has copies, or is copied from."""
    sql = """SELECT v.name FROM vaults v WHERE v.name IS NOT ? AND (
               EXISTS (SELECT 1 FROM copied_snapshots k WHERE k.vault = v.number)
               OR EXISTS (SELECT 1 FROM copied_snapshots k JOIN jobs j ON j.number = k.job
                          WHERE j.vault = v.number AND ? IS NOT NULL)) ORDER BY v.name"""
    return [VaultName(name) for (name,) in raw_rows(tx, sql, (vault, vault))]


def has_alone(tx: Transaction, job: int) -> bool:
    """Whether only copies are left of a snapshot of a job."""
    sql = "SELECT 1 FROM copied_snapshots WHERE job = ? AND is_alone LIMIT 1"
    return row_of(tx, sql, (job,)) is not None


def kept_in(tx: Transaction, vault: VaultName) -> set[tuple[int, int]]:
    """The snapshots, by job and number, that are kept in a vault: of its own jobs, and copies."""
    sql = f"""SELECT s.job, s.number FROM snapshots s JOIN jobs j ON j.number = s.job
              JOIN vaults v ON v.name = ? WHERE (s.forgotten_at IS NULL AND j.vault = v.number) OR EXISTS (
                SELECT 1 FROM copied_snapshots c WHERE c.vault = v.number AND c.job = s.job
                AND c.number = s.number AND c.state = '{KeptThere.COPIED}')"""
    return set(raw_rows(tx, sql, (vault,)))


def has_copies(tx: Transaction, vault: VaultName) -> bool:
    """Whether anything was copied into a vault."""
    sql = "SELECT 1 FROM copies k JOIN vaults v ON v.number = k.vault WHERE v.name = ? LIMIT 1"
    return row_of(tx, sql, (vault,)) is not None


def homes_of_copies(tx: Transaction, vault: int) -> list[int]:
    """The vaults of jobs that have catalogs in this one for their copies."""
    sql = """SELECT DISTINCT j.vault FROM catalogs c JOIN jobs j ON j.number = c.job
             JOIN archives a ON a.number = c.archive JOIN domains d ON d.number = a.domain
             WHERE d.vault = ? AND j.vault <> d.vault"""
    return [home for (home,) in raw_rows(tx, sql, (vault,))]


def is_known(tx: Transaction, vault: VaultName) -> bool:
    """Whether it is known of a vault what it has of others' jobs: copies, or catalogs."""
    return has_copies(tx, vault) or bool(homes_of_copies(tx, vault_number(tx, vault)))


def lose_copies(tx: Transaction, vault: int) -> None:
    """Record that another vault took the place of one with copies: all are made again."""
    sql = "UPDATE copies SET state = ?, upload_id = NULL WHERE vault = ?"
    changed(tx, sql, (ArchiveState.LOST, vault))
    for table in ("copied_snapshots", "condemned_copies"):
        changed(tx, f"DELETE FROM {table} WHERE vault = ?", (vault,))


# What snapshots need.


def needs_of(tx: Transaction, snapshots: Kept) -> list[list[int]]:
    """Same as `each_need`, as a list."""
    return list(each_need(tx, snapshots))


def each_need(tx: Transaction, snapshots: Kept) -> Iterator[list[int]]:
    """The archives in which the chunks of these snapshots lie; chunks of the same ones count once.

    A chunk in a stored archive is taken from there; of any other the archives that hold it, too, will do.
    """
    held = chunks_held(tx, snapshots)
    given: set[frozenset[int]] = set()
    for archive, state in archives_with(tx, held):
        if state is ArchiveState.STORED:
            yield [archive]
            continue
        some = {frozenset(among) for number, among in holders_of(tx, archive).items() if held[number]}
        yield from map(sorted, some - given)
        given |= some
