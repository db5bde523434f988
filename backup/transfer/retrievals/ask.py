"""Ask a vault for ranges of archives, each once, side by side: ten thousand must not take a day."""

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
from backup.transfer.blame import is_of_one_archive
from backup.transfer.retrievals.desk import AskResult, Desk, RetrievalAnswer, RetrievalStore, Wanted
from backup.transfer.retrievals.once import ask_once

R = TypeVar("R")


def ask(
    wanted: Sequence[Wanted[R]],
    store: RetrievalStore[R],
    desk: Desk,
    known: Mapping[str, RetrievalId] | None = None,
) -> AskResult:
    """Ask for each, and record every answer; `short` if the vault cannot serve a tier just now.

    `known` are the vault's open retrievals. What would refuse others, too (no permission, no network), is
    raised after all answers are recorded. So is a refusal that does not say whose fault it is, as long as
    this vault granted nothing to this store.
    """
    answers = request_all(wanted, desk, known or {})
    refusal = _refusal_of_all(answers, store)
    if refusal is not None:
        answers = [_without_unclear(one) for one in answers]
    store.answered(answers)
    for one in answers:
        if one.error is not None:
            raise one.error
    if refusal is not None:
        raise refusal
    has_settled = any(one.retrieval_id is not None or one.refused is not None for one in answers)
    return AskResult(has_settled, next((one.short for one in answers if one.short is not None), None))


def request_all(
    wanted: Sequence[Wanted[R]], desk: Desk, known: Mapping[str, RetrievalId]
) -> list[RetrievalAnswer[R]]:
    """Ask for each on worker threads; the answers in the order of `wanted`.

    After the first that shows that others will fare alike (no capacity, no permission, no network), those
    that were not begun are not sent.
    """
    if not wanted:
        return []
    stop = threading.Event()

    def answer(one: Wanted[R]) -> RetrievalAnswer[R]:
        if stop.is_set():
            return RetrievalAnswer(one.record)
        said = _answer(one, desk, known)
        if said.short or said.error:
            stop.set()
        return said

    with ThreadPoolExecutor(max(1, min(desk.askers, len(wanted))), "ask") as workers:
        try:
            return list(workers.map(answer, wanted))
        finally:
            stop.set()  # also when this thread was interrupted


def _answer(one: Wanted[R], desk: Desk, known: Mapping[str, RetrievalId]) -> RetrievalAnswer[R]:
    try:
        return RetrievalAnswer(one.record, *_request(one, desk, known))
    except CapacityError as error:
        return RetrievalAnswer(one.record, short=error)
    except NightvaultError as error:
        if is_of_one_archive(error) or type(error) is VaultError:
            return RetrievalAnswer(one.record, refused=error)
        return RetrievalAnswer(one.record, error=error)
    except BaseException as error:  # noqa: BLE001  what the others were answered is recorded first
        return RetrievalAnswer(one.record, error=error)


def _request(one: Wanted[R], desk: Desk, known: Mapping[str, RetrievalId]) -> tuple[RetrievalId, ByteRange]:
    """Ask once for the range; of an archive that was cut short for all that is left, if that will do."""
    archive_id = one.archive_id
    if archive_id is None:
        raise ArchiveMissingError(f"{one.named} is not in the vault")

    def request(extent: ByteRange) -> RetrievalId:
        whole = None if extent == one.everything else extent
        return ask_once(
            desk.vault,
            desk.patience,
            one.token,
            lambda: desk.vault.request_retrieval(archive_id, whole, one.tier, one.token),
            known,
        )

    try:
        return request(one.extent), one.extent
    except ArchiveShortError:
        if not one.or_all or one.extent == one.everything:
            raise
    return request(one.everything), one.everything


def _refusal_of_all(
    answers: Sequence[RetrievalAnswer[R]], store: RetrievalStore[R]
) -> NightvaultError | None:
    """A refusal that does not say whose fault it is, while nothing was granted yet."""
    unclear = [one.refused for one in answers if one.refused and not is_of_one_archive(one.refused)]
    if not unclear or any(one.retrieval_id for one in answers) or store.has_granted():
        return None
    return unclear[0]


def _without_unclear(one: RetrievalAnswer[R]) -> RetrievalAnswer[R]:
    is_unclear = one.refused is not None and not is_of_one_archive(one.refused)
    return replace(one, refused=None) if is_unclear else one
