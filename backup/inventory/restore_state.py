"""The state of restores and their retrievals: requested, shared, ready, written; bulk updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import bindparam, select, update

from backup.inventory.database import Transaction
from backup.inventory.retrievals import Retrieval, retrieval_of
from backup.inventory.schema import micros, restores, retrievals
from backup.inventory.stages import HAS_OUTPUT, RetrievalStage
from backup.model import ByteRange, Problem, RetrievalId, Tier

_BATCH = 500
_CHANGING = [
    *("start", "end", "tier", "token", "retrieval_id", "state", "requested_at"),
    *("asked_from", "asked_to", "written_to", "until"),
]
_SPEED = {Tier.BULK: 0, Tier.STANDARD: 1, Tier.EXPEDITED: 2}


def retrievals_changed(tx: Transaction, changed: Sequence[Retrieval]) -> None:
    """Update retrievals; everything but number, restore and archive may have changed."""
    if not changed:
        return
    query = update(retrievals).where(retrievals.c.number == bindparam("b_number"))
    tx.execute(
        query.values({name: bindparam(f"b_{name}") for name in _CHANGING}), [_values(one) for one in changed]
    )


def _values(one: Retrieval) -> dict[str, Any]:
    row = {
        "number": one.number,
        "start": one.extent.start,
        "end": one.extent.end,
        "tier": one.tier.value,
        "token": one.token,
        "retrieval_id": one.retrieval_id,
        "state": one.state,
        "requested_at": micros(one.requested_at) if one.requested_at else None,
        "asked_from": one.asked.start if one.asked else None,
        "asked_to": one.asked.end if one.asked else None,
        "written_to": one.written_to,
        "until": micros(one.until) if one.until else None,
    }
    return {f"b_{name}": value for name, value in row.items()}


def again(one: Retrieval, token: str) -> Retrieval:
    """The retrieval planned again, as its output is gone or was never made; what is written is not needed."""
    anew = replace(one, token=token, state=RetrievalStage.PLANNED)
    return replace(anew, retrieval_id=None, requested_at=None, asked=None, until=None)


def alive_retrievals(
    tx: Transaction, archives: Iterable[int], now: datetime
) -> Mapping[int, list[Retrieval]]:
    """Retrievals of all restores by archive, whose output may still come, or exists beyond `now`."""
    wanted = sorted(set(archives))
    found: dict[int, list[Retrieval]] = {}
    for start in range(0, len(wanted), _BATCH):
        query = select(retrievals).where(
            retrievals.c.archive.in_(wanted[start : start + _BATCH]),
            retrievals.c.retrieval_id.is_not(None),
            retrievals.c.asked_from.is_not(None),
            retrievals.c.state.in_(sorted(HAS_OUTPUT)),
            retrievals.c.until > micros(now),
        )
        for row in tx.execute(query):
            found.setdefault(row.archive, []).append(retrieval_of(row))
    return found


def shareable(one: Retrieval, wanted: ByteRange, tier: Tier) -> bool:
    """Whether the output of `one` can serve `wanted`: it covers it, and is no later than `tier` would be."""
    asked = one.asked
    soon = one.state is not RetrievalStage.WAITING or _SPEED[one.tier] >= _SPEED[tier]
    return asked is not None and asked.start <= wanted.start and wanted.end <= asked.end and soon


def output_gone(tx: Transaction, ids: Iterable[RetrievalId], now: datetime) -> None:
    """Record that these outputs no longer exist in the vault."""
    gone = list(ids)
    for start in range(0, len(gone), _BATCH):
        chosen = retrievals.c.retrieval_id.in_(gone[start : start + _BATCH])
        tx.execute(update(retrievals).where(chosen).values(until=micros(now)))


class _Met(msgspec.Struct):
    path: bytes
    kind: str
    detail: str


class _Failed(msgspec.Struct):
    why: str
    times: int = 1


class _Kept(msgspec.Struct):
    gone: list[bytes] = []
    problems: list[_Met] = []
    files: int = 0
    written: int = 0
    fetched: int = 0
    seconds: float = 0.0
    failures: dict[int, _Failed] = {}
    has_begun: bool = True
    has_entered: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """The latest reason why a retrieval failed, and the number of failures."""

    why: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class RestoreState:
    """The state of a restore after its sessions so far.

    `written` are bytes of finished files, `fetched` those that came from the vault; `gone` are the paths of
    files that were given up; `failures` are those of retrievals, by number. Before anything was written
    (`has_begun`) there may be failures alone, and directories, once a session `has_entered` the target.
    """

    files: int = 0
    written: int = 0
    fetched: int = 0
    seconds: float = 0.0
    problems: tuple[Problem, ...] = ()
    gone: frozenset[bytes] = field(default_factory=frozenset)
    failures: Mapping[int, Failure] = field(default_factory=dict)
    has_begun: bool = True
    has_entered: bool = False


def read_progress(tx: Transaction, restore: int) -> RestoreState | None:
    """The recorded state of a restore; None if there is none yet."""
    data = tx.execute(select(restores.c.progress).where(restores.c.number == restore)).scalar()
    if data is None:
        return None
    kept = msgspec.msgpack.decode(data, type=_Kept)
    met = tuple(Problem.of(one.path, one.kind, one.detail) for one in kept.problems)
    failures = {number: Failure(one.why, one.times) for number, one in kept.failures.items()}
    counts = (kept.files, kept.written, kept.fetched, kept.seconds)
    return RestoreState(*counts, met, frozenset(kept.gone), failures, kept.has_begun, kept.has_entered)


def keep_progress(tx: Transaction, restore: int, progress: RestoreState) -> None:
    """Record the state of a restore."""
    problems = [_Met(one.path, str(one.kind), one.detail) for one in progress.problems]
    kept = _Kept(
        gone=sorted(progress.gone),
        problems=problems,
        files=progress.files,
        written=progress.written,
        fetched=progress.fetched,
        seconds=progress.seconds,
        failures={number: _Failed(one.why, one.times) for number, one in progress.failures.items()},
        has_begun=progress.has_begun,
        has_entered=progress.has_entered,
    )
    data = msgspec.msgpack.encode(kept)
    tx.execute(update(restores).where(restores.c.number == restore).values(progress=data))


def note_entered(tx: Transaction, restore: int) -> None:
    """Record that a session is about to make directories."""
    before = read_progress(tx, restore) or RestoreState(has_begun=False)
    keep_progress(tx, restore, replace(before, has_entered=True))


def note_failures(tx: Transaction, restore: int, why: Mapping[int, str]) -> None:
    """Record one more failure of each of these retrievals, by number."""
    if not why:
        return
    before = read_progress(tx, restore) or RestoreState(has_begun=False)
    failures = dict(before.failures)
    for number, reason in why.items():
        known = failures.get(number)
        failures[number] = Failure(reason, known.times + 1 if known else 1)
    keep_progress(tx, restore, replace(before, failures=failures))
