"""Reads the state of requests from a vault, and decides the next step for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from msgspec.structs import replace

from backup.model import RetrievalState, RetrievalStatus
from backup.transfer.retrievals.client import Pending, RetrievalClient, RetrievalStore, Seen, Verdict
from backup.transfer.retrievals.freshness import may_be_unknown

R = TypeVar("R")
TIMES: Final = 2
"""So often the vault may fail to retrieve an archive before nobody but the user asks for it again."""


def look(store: RetrievalStore[R], client: RetrievalClient) -> Sequence[Seen[R]]:
    """Record the state of each request that the vault accepted, and return it with the next step.

    An output that is gone is requested again; so is one that the vault failed to make, until it failed
    `TIMES` times. A vault that says that it does not know a request it has just accepted is not believed.
    """
    pending = store.pending()
    if not pending:
        return ()
    ids = list(dict.fromkeys(retrieval.retrieval_id for retrieval in pending))
    statuses = client.patience.call(lambda: client.vault.retrieval_statuses(ids))
    seen = [_judge(retrieval, statuses[retrieval.retrieval_id], client) for retrieval in pending]
    for answer in seen:
        if answer.verdict is Verdict.AGAIN:
            client.note(f"a retrieval is {answer.status.state} ({answer.why}): it is asked for again")
    store.seen(seen)
    return seen


def _judge(pending: Pending[R], status: RetrievalStatus, client: RetrievalClient) -> Seen[R]:
    if may_be_unknown(status.state, pending.requested_at, client.clock, client.vault.traits):
        status = replace(status, state=RetrievalState.WAITING)
    return Seen(pending.record, pending.retrieval_id, _verdict(status.state, pending.failures), status)


def _verdict(state: RetrievalState, failures: int) -> Verdict:
    if state is RetrievalState.WAITING:
        return Verdict.WAITS
    if state is RetrievalState.READY:
        return Verdict.READY
    if state is RetrievalState.FAILED and failures + 1 >= TIMES:
        return Verdict.GIVEN_UP
    return Verdict.AGAIN
