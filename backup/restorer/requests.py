"""Send requests for retrievals side by side: ten thousand archives must not take a day to ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from backup.errors import (
    ArchiveMissingError,
    ArchiveShortError,
    CapacityError,
    NightvaultError,
    VaultError,
)
from backup.inventory.archives import Archive
from backup.inventory.retrievals import Retrieval
from backup.model import ByteRange, RetrievalId
from backup.restorer.context import RestoreContext
from backup.transfer.blame import is_of_one_archive


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """What the vault said to one request: an id, or why there is none. All None: it was not sent.

    `asked` is the range that was granted. What was `refused` need not be refused to other archives.
    """

    retrieval: Retrieval
    retrieval_id: RetrievalId | None = None
    asked: ByteRange | None = None
    refused: NightvaultError | None = None
    short: CapacityError | None = None
    error: BaseException | None = None


def request_all(
    wanted: Sequence[Retrieval],
    found: Mapping[int, Archive],
    open_ones: Mapping[str, RetrievalId],
    context: RestoreContext,
) -> list[RequestOutcome]:
    """Ask for each on worker threads; the answers in the order of `wanted`.

    After the first that shows that others will fare alike (no capacity, no permission, no network), those
    that were not begun are not sent.
    """
    if not wanted:
        return []
    answers: list[RequestOutcome] = []
    workers = ThreadPoolExecutor(max(1, min(context.askers, len(wanted))), "ask")
    try:
        futures = [workers.submit(_ask, one, found.get(one.archive), open_ones, context) for one in wanted]
        for one, future in zip(wanted, futures, strict=True):
            answer = RequestOutcome(one) if future.cancelled() else _answer(one, future)
            answers.append(answer)
            if answer.short or answer.error:
                for other in futures:
                    other.cancel()
    finally:
        workers.shutdown(wait=True, cancel_futures=True)
    return answers


def _answer(one: Retrieval, future: Future[tuple[RetrievalId, ByteRange]]) -> RequestOutcome:
    try:
        return RequestOutcome(one, *future.result())
    except CapacityError as error:
        return RequestOutcome(one, short=error)
    except NightvaultError as error:
        if is_of_one_archive(error) or type(error) is VaultError:
            return RequestOutcome(one, refused=error)
        return RequestOutcome(one, error=error)
    except BaseException as error:  # noqa: BLE001  what the others were answered is recorded first
        return RequestOutcome(one, error=error)


def _ask(
    one: Retrieval, archive: Archive | None, open_ones: Mapping[str, RetrievalId], context: RestoreContext
) -> tuple[RetrievalId, ByteRange]:
    """Ask once: a request whose answer was lost, then or now, is found again by its token, not paid twice.

    Of an archive that was cut short all that is left is asked for: what was before the cut is right still.
    """
    archive_id = archive.archive_id if archive is not None else None
    if archive is None or archive_id is None:
        raise ArchiveMissingError(f"archive {one.archive} is not in the vault")
    everything = ByteRange(0, archive.size)
    wanted = one.left
    tried = False

    def ask() -> RetrievalId:
        nonlocal tried
        found = context.vault.open_retrievals() if tried else open_ones
        tried = True
        extent = None if wanted == everything else wanted
        return found.get(one.token) or context.vault.request_retrieval(
            archive_id, extent, one.tier, one.token
        )

    try:
        return context.patience.call(ask), wanted
    except ArchiveShortError:
        if wanted == everything:
            raise
    wanted = everything
    return context.patience.call(ask), wanted
