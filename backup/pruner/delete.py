"""Deletes archives from the vault in batches, and records the answer to each batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from msgspec import Struct

from backup.errors import InterruptedRunError
from backup.inventory.content import copied, copied_pruning, pruning
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.pruning import StoredArchive
from backup.inventory.records.retrievals import listed_versions
from backup.model import ArchiveId, Refusal
from backup.protocols import Clock, Progress, Vault
from backup.pruner.context import PruneContext
from backup.pruner.listed import PruneStoppedError
from backup.transfer.retry import RetryPolicy

_ASK_AGAIN = timedelta(days=7)  # a refusal that gives no date
_AT_LEAST = timedelta(hours=1)
_ASLEEP = timedelta(hours=1)

_Answer = Mapping[ArchiveId, Refusal]


@dataclass(slots=True)
class Deleted:
    """The result: archives that are gone, and those that the vault refused to delete."""

    gone: list[StoredArchive] = field(default_factory=list)
    refused: list[tuple[StoredArchive, Refusal]] = field(default_factory=list)


Record = Callable[[Deleted], object]
"""A function that records the result of one batch."""


class Deleting(Struct, frozen=True):
    """The settings of deletions: vault, retry policy, how many at once, when to stop.

    `versions` has what the list that was decided by shows of some archives. `before_batch` and
    `before_request` raise if nothing more may be deleted; the former on the caller's thread.
    """

    vault: Vault
    patience: RetryPolicy
    progress: Progress
    threads: int = 8
    stop: Callable[[], bool] = lambda: False
    versions: Callable[[Collection[ArchiveId]], Mapping[ArchiveId, str]] = lambda _: {}
    before_batch: Callable[[], None] = lambda: None
    before_request: Callable[[], None] = lambda: None


def delete_decided(
    archives: Sequence[StoredArchive], vault: Vault, context: PruneContext, listing: int, since: datetime
) -> Deleted:
    """Delete archives whose deletion is recorded, decided `since` by that listing.

    An error leaves the rest for next time. A refused deletion is tried again on the day that the vault names,
    or in a week. Who sleeps meanwhile asks for nothing more: by now somebody else may go on with this
    server's jobs, and need it.
    """
    awake = _Awake(context.clock, since)

    def versions(ids: Collection[ArchiveId]) -> Mapping[ArchiveId, str]:
        with context.inventory.reading() as tx:
            return listed_versions(tx, listing, ids)

    work = Deleting(
        vault,
        context.patience,
        context.progress,
        context.threads,
        context.stop,
        versions,
        before_request=awake.require,
    )
    return delete_all(archives, work, lambda some: _record(some, context))


class _Awake:
    """Notices that no request was sent for long: this machine slept, or its clock was set."""

    def __init__(self, clock: Clock, since: datetime) -> None:
        self._clock = clock
        self._last = since

    def require(self) -> None:
        """`PruneStoppedError` if the last request was sent long ago."""
        now, last = self._clock.now(), self._last
        if abs(now - last) > _ASLEEP:
            hours = abs(now - last).total_seconds() / 3600
            raise PruneStoppedError(
                f"{hours:.1f} hours passed while archives were deleted: this machine slept, or its clock was "
                "set",
                advice="run it again: it looks at the vault first, and then deletes what is left",
            )
        self._last = now


def delete_all(archives: Sequence[StoredArchive], work: Deleting, record: Record) -> Deleted:
    """Delete archives; `record` is called with the answer to each batch.

    If one request of a batch fails, the answers to the others are recorded before its error is raised.
    """
    every = Deleted()
    size = max(1, work.vault.traits.deletes_at_once)
    at_once = work.threads if size == 1 else 1
    with ThreadPoolExecutor(at_once) as pool:
        for group in _batches(archives, size * at_once):
            if work.stop():
                raise InterruptedRunError("the prune was stopped; what is left is deleted the next time")
            work.before_batch()
            versions = work.versions([archive.archive_id for archive in group])
            asked = [(batch, pool.submit(_ask, batch, versions, work)) for batch in _batches(group, size)]
            wait([answer for _, answer in asked])
            some = _answered(asked)
            record(some)
            every.gone += some.gone
            every.refused += some.refused
            work.progress.advance(files=len(some.gone), done=sum(archive.size for archive in some.gone))
            for _, answer in asked:
                answer.result()  # raises what went wrong
    return every


def _ask(some: Sequence[StoredArchive], versions: Mapping[ArchiveId, str], work: Deleting) -> _Answer:
    stored = {archive.archive_id: archive.stored_at for archive in some}

    def ask() -> _Answer:
        work.before_request()
        return work.vault.delete_archives(stored, versions)

    return work.patience.call(ask)


def _answered(asked: Sequence[tuple[Sequence[StoredArchive], Future[_Answer]]]) -> Deleted:
    found = Deleted()
    for batch, answer in asked:
        if answer.exception() is None:
            refusals = answer.result()
            found.gone += [archive for archive in batch if archive.archive_id not in refusals]
            found.refused += [
                (archive, refusals[archive.archive_id]) for archive in batch if archive.archive_id in refusals
            ]
    return found


def _record(some: Deleted, context: PruneContext) -> None:
    """Record the answers.

    A refused archive is certainly still there only if its deletion was never requested before.
    """
    now = context.clock.now()
    for_certain = {
        archive.number for archive, _ in some.refused if archive.state is not ArchiveState.DELETING
    }
    with context.inventory.writing() as tx:
        for is_copy in (False, True):
            gone = [archive.number for archive in some.gone if archive.is_copy is is_copy]
            refused = [
                (archive.number, max(refusal.kept_until or now + _ASK_AGAIN, now + _AT_LEAST), refusal.detail)
                for archive, refusal in some.refused
                if archive.is_copy is is_copy
            ]
            if is_copy:
                vault = copied.vault_number(tx, context.vault.name)
                copied_pruning.record_deleted(tx, vault, gone, now)
                copied_pruning.record_refused(tx, vault, refused, for_certain=for_certain)
            else:
                pruning.record_deleted(tx, gone, now)
                pruning.record_refused(tx, refused, for_certain=for_certain)


def _batches(items: Sequence[StoredArchive], size: int) -> Iterator[list[StoredArchive]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
