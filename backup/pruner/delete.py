"""Deletes archives from the vault in batches, and records each batch as its answer comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from backup.errors import InterruptedRunError
from backup.inventory import pruning
from backup.inventory.pruning import StoredArchive
from backup.model import ArchiveId, Refusal
from backup.protocols import Progress, Vault
from backup.pruner.context import PruneContext
from backup.transfer.retry import Patience

_ASK_AGAIN = timedelta(days=7)  # a refusal that gives no date
_AT_A_TIME = 1_000


@dataclass(frozen=True, slots=True)
class Deleted:
    """What came of it: archives that are gone, and those that the vault keeps."""

    gone: tuple[StoredArchive, ...]
    refused: tuple[tuple[StoredArchive, Refusal], ...]


Record = Callable[[Sequence[StoredArchive], Sequence[tuple[StoredArchive, Refusal]]], object]
"""Takes what is gone and what was refused of one batch."""


@dataclass(frozen=True, slots=True)
class Deleting:
    """How archives are deleted: each request tried how often, how many side by side, until when."""

    vault: Vault
    patience: Patience
    progress: Progress
    threads: int = 8
    stop: Callable[[], bool] = lambda: False


def delete_decided(archives: Sequence[StoredArchive], vault: Vault, context: PruneContext) -> Deleted:
    """Delete archives whose deletion is recorded. An error leaves the rest for the next time.

    What the vault refuses is condemned as before; it is asked again on the day that the vault tells, or in a
    week.
    """
    work = Deleting(vault, context.patience, context.backup.progress, context.threads, context.stop)
    return delete_all(archives, work, lambda done, kept: _record(done, kept, context))


def delete_all(archives: Sequence[StoredArchive], work: Deleting, record: Record) -> Deleted:
    """Delete archives; each batch is told to `record` as its answer comes."""
    gone: list[StoredArchive] = []
    refused: list[tuple[StoredArchive, Refusal]] = []
    size = max(1, work.vault.traits.deletes_at_once)
    at_once = work.threads if size == 1 else 1
    with ThreadPoolExecutor(at_once) as pool:
        for group in _batches(archives, max(size, at_once)):
            if work.stop():
                raise InterruptedRunError("the prune was stopped; what is left is deleted the next time")
            answers = pool.map(lambda some: _ask(some, work), list(_batches(group, size)))
            answer: dict[ArchiveId, Refusal] = {}
            for one in answers:
                answer |= one
            kept = [(one, answer[one.archive_id]) for one in group if one.archive_id in answer]
            done = [one for one in group if one.archive_id not in answer]
            record(done, kept)
            gone += done
            refused += kept
            work.progress.advance(files=len(done), done=sum(one.size for one in done))
    return Deleted(tuple(gone), tuple(refused))


def _ask(some: Sequence[StoredArchive], work: Deleting) -> Mapping[ArchiveId, Refusal]:
    stored = {one.archive_id: one.stored_at for one in some}
    return work.patience.call(lambda: work.vault.delete_archives(stored))


def _record(
    done: Sequence[StoredArchive], kept: Sequence[tuple[StoredArchive, Refusal]], context: PruneContext
) -> None:
    now = context.backup.clock.now()
    refused = [
        (one.number, max(refusal.kept_until or now + _ASK_AGAIN, now + timedelta(hours=1)), refusal.detail)
        for one, refusal in kept
    ]
    with context.backup.inventory.writing() as tx:
        pruning.record_deleted(tx, [one.number for one in done], now)
        pruning.record_refused(tx, refused)


def _batches(items: Sequence[StoredArchive], size: int) -> Iterator[list[StoredArchive]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
