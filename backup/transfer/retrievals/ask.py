"""Ask a vault for ranges of archives, each once, concurrently: ten thousand must not take a day."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from msgspec.structs import replace

from backup.errors import (
    ArchiveMissingError,
    ArchiveShortError,
    CapacityError,
    NightvaultError,
    VaultError,
)
from backup.model import ByteRange, RetrievalId
from backup.transfer.fault_scope import is_of_one_archive
from backup.transfer.retrievals.client import (
    AskResult,
    RetrievalAnswer,
    RetrievalClient,
    RetrievalStore,
    Wanted,
)
from backup.transfer.retrievals.once import ask_once

R = TypeVar("R")


def ask(
    wanted: Sequence[Wanted[R]],
    store: RetrievalStore[R],
    client: RetrievalClient,
    known: Mapping[str, RetrievalId] | None = None,
) -> AskResult:
    """Ask for each, and record every answer; `short` if the vault cannot serve a tier just now.

    `known` are the vault's open retrievals. An error that would hit others, too (no permission, no network),
    is raised after all answers are recorded. So is a refusal that may not be the archive's own fault, as long
    as this vault granted nothing to this store.
    """
    answers = request_all(wanted, client, known or {})
    refusal = _refusal_of_all(answers, store)
    if refusal is not None:
        answers = [_without_unclear(answer) for answer in answers]
    store.answered(answers)
    for answer in answers:
        if answer.error is not None:
            raise answer.error
    if refusal is not None:
        raise refusal
    has_settled = any(answer.retrieval_id is not None or answer.refused is not None for answer in answers)
    return AskResult(
        has_settled, next((answer.short for answer in answers if answer.short is not None), None)
    )


def request_all(
    wanted: Sequence[Wanted[R]], client: RetrievalClient, known: Mapping[str, RetrievalId]
) -> list[RetrievalAnswer[R]]:
    """Ask for each on worker threads; the answers in the order of `wanted`.

    After the first error that would hit the others, too (no capacity, no permission, no network), those that
    were not begun are not sent.
    """
    if not wanted:
        return []
    stop = threading.Event()

    def answer(request: Wanted[R]) -> RetrievalAnswer[R]:
        if stop.is_set():
            return RetrievalAnswer(request.record)
        said = _answer(request, client, known)
        if said.short or said.error:
            stop.set()
        return said

    with ThreadPoolExecutor(max(1, min(client.askers, len(wanted))), "ask") as workers:
        try:
            return list(workers.map(answer, wanted))
        finally:
            stop.set()  # also when this thread was interrupted


def _answer(
    wanted: Wanted[R], client: RetrievalClient, known: Mapping[str, RetrievalId]
) -> RetrievalAnswer[R]:
    try:
        return RetrievalAnswer(wanted.record, *_request(wanted, client, known))
    except CapacityError as error:
        return RetrievalAnswer(wanted.record, short=error)
    except NightvaultError as error:
        if is_of_one_archive(error) or type(error) is VaultError:
            return RetrievalAnswer(wanted.record, refused=error)
        return RetrievalAnswer(wanted.record, error=error)
    except BaseException as error:  # noqa: BLE001  what the others were answered is recorded first
        return RetrievalAnswer(wanted.record, error=error)


def _request(
    wanted: Wanted[R], client: RetrievalClient, known: Mapping[str, RetrievalId]
) -> tuple[RetrievalId, ByteRange]:
    """Ask once for the range; of an archive that was cut short for all that is left, if that will do."""
    archive_id = wanted.archive_id
    if archive_id is None:
        raise ArchiveMissingError(f"{wanted.named} is not in the vault")

    def request(extent: ByteRange) -> RetrievalId:
        whole = None if extent == wanted.everything else extent
        return ask_once(
            client.vault,
            client.patience,
            wanted.token,
            lambda: client.vault.request_retrieval(archive_id, whole, wanted.tier, wanted.token),
            known,
        )

    try:
        return request(wanted.extent), wanted.extent
    except ArchiveShortError:
        if not wanted.or_all or wanted.extent == wanted.everything:
            raise
    return request(wanted.everything), wanted.everything


def _refusal_of_all(
    answers: Sequence[RetrievalAnswer[R]], store: RetrievalStore[R]
) -> NightvaultError | None:
    """A refusal that does not say whose fault it is, while nothing was granted yet."""
    unclear = [
        answer.refused for answer in answers if answer.refused and not is_of_one_archive(answer.refused)
    ]
    if not unclear or any(answer.retrieval_id for answer in answers) or store.has_granted():
        return None
    return unclear[0]


def _without_unclear(answer: RetrievalAnswer[R]) -> RetrievalAnswer[R]:
    is_unclear = answer.refused is not None and not is_of_one_archive(answer.refused)
    return replace(answer, refused=None) if is_unclear else answer
