"""Undeletes condemned archives: each job that condemned one stores a catalog that takes that back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from backup.app.backups.amending import amending_vault
from backup.app.base.run_context import RunContext
from backup.app.base.vaults import Purpose
from backup.catalogs.amend import Amended
from backup.errors import UsageError
from backup.format.records import TakenUpRecord
from backup.inventory.content import pruning
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.pruning import StoredArchive
from backup.inventory.records import runs
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.kinds import RunKind
from backup.locker.versions import VersionsReport, compare_versions
from backup.model import VaultName
from backup.protocols import Vault

_PACKS_A_RECORD = 50_000
_SHORTEST = 4
_ADVICE = "`nightvault archives` lists them with their states"


def chosen_archives(tx: Transaction, vault: VaultName, words: Sequence[str]) -> list[StoredArchive]:
    """Return the condemned archives of a vault whose ids begin with these words; without words all.

    `UsageError` for a word that matches none or several, or an archive that is not condemned.
    """
    every = pruning.stored_archives(tx, vault)
    if not words:
        return [archive for archive in every if archive.state is ArchiveState.CONDEMNED]
    chosen = {archive.number: archive for archive in (_named(every, vault, word) for word in words)}
    return list(chosen.values())


def _named(every: Sequence[StoredArchive], vault: VaultName, word: str) -> StoredArchive:
    start = word.strip().rstrip("…")
    if len(start) < _SHORTEST:
        raise UsageError(f"{word!r} is too short for the id of an archive", advice=_ADVICE)
    found = [
        archive
        for archive in every
        if archive.archive_id.startswith(start) or archive.pack_id.hex().startswith(start)
    ]
    if not found:
        raise UsageError(f"no archive in vault {vault} has an id that begins with {start}", advice=_ADVICE)
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} archives have ids that begin with {start}",
            advice="`nightvault --json archives` has them in full",
        )
    (archive,) = found
    if archive.state is ArchiveState.DELETING:
        raise UsageError(f"the deletion of archive {start} has begun: it cannot be taken back")
    if archive.state is not ArchiveState.CONDEMNED:
        raise UsageError(
            f"archive {start} is {archive.state}, not condemned: it stays as it is", advice=_ADVICE
        )
    return archive


class Undeleted(Struct, frozen=True):
    """The result: archives taken back, those that the vault no longer has, and the amendments."""

    archives: Sequence[StoredArchive]
    gone: Sequence[StoredArchive]
    amended: Sequence[Amended]


def undelete_archives(at: RunContext, vault: VaultName, words: Sequence[str]) -> Undeleted:
    """Undelete the archives that `words` name, or all, except those missing from a new list.

    Where lists come late, none can be checked. All are unconfirmed until a later list shows them.
    `LockedError` while a backup or a prune runs.
    """
    with amending_vault(at, vault) as amender:
        with at.inventory.reading() as tx:
            named = chosen_archives(tx, vault, words)
            jobs = {job.number: job for job in runs.list_jobs(tx, vault)}
        gone = _gone(at, amender.vault, named)
        chosen = [archive for archive in named if archive not in gone]
        done = [
            amender.amend(
                RunKind.PRUNE, job, records, {"taken_up": sum(len(record.packs) for record in records)}
            )
            for job, records in said_by_jobs(chosen, jobs)
        ]
    return Undeleted(chosen, gone, done)


def undelete_versions(at: RunContext, vault: VaultName, *, is_plan: bool) -> VersionsReport:
    """Take away what somebody put over objects of a bucket, by a person's own keys; a plan only looks."""
    return compare_versions(at.of_vault(vault, Purpose.PERSON), takes_back=True, is_plan=is_plan)


def _gone(at: RunContext, vault: Vault, named: Sequence[StoredArchive]) -> list[StoredArchive]:
    """Return those that another server has deleted, if the vault's list comes at once."""
    if not (named and vault.traits.lists_at_once):
        return []
    listed = at.patience.call(lambda: vault.fetch_listing(vault.request_listing("undelete")))
    there = {archive.archive_id for archive in listed.archives}
    return [archive for archive in named if archive.archive_id not in there]


def said_by_jobs(
    chosen: Sequence[StoredArchive], jobs: Mapping[int, JobRow]
) -> Iterator[tuple[JobRow, list[TakenUpRecord]]]:
    """Yield each job with its records: the jobs that condemned an archive, else any job of the vault."""
    packs: dict[int, list[bytes]] = defaultdict(list)
    for archive in chosen:
        for job in archive.condemned_by.keys() or {min(jobs)}:
            packs[job].append(archive.pack_id)
    for job, of_job in sorted(packs.items()):
        starts = range(0, len(of_job), _PACKS_A_RECORD)
        yield jobs[job], [TakenUpRecord(of_job[start : start + _PACKS_A_RECORD]) for start in starts]
