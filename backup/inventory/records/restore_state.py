"""The state of restores and their retrievals: requested, shared, ready, written; bulk updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from backup.inventory.records.retrievals import Retrieval, retrieval_of
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed as rows_changed
from backup.inventory.store.driver import marks, records, run_many, value_of
from backup.inventory.store.states import HAS_OUTPUT, RetrievalStage
from backup.inventory.store.times import micros
from backup.model import ByteRange, Problem, RetrievalId, Tier, VaultName

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
    values = ", ".join(f'"{name}" = ?' for name in _CHANGING)
    run_many(tx, f"UPDATE retrievals SET {values} WHERE number = ?", map(_values, changed))


def _values(retrieval: Retrieval) -> tuple[Any, ...]:
    """The values of `_CHANGING`, and the number."""
    return (
        retrieval.extent.start,
        retrieval.extent.end,
        retrieval.tier.value,
        retrieval.token,
        retrieval.retrieval_id,
        retrieval.state,
        micros(retrieval.requested_at) if retrieval.requested_at else None,
        retrieval.asked.start if retrieval.asked else None,
        retrieval.asked.end if retrieval.asked else None,
        retrieval.written_to,
        micros(retrieval.until) if retrieval.until else None,
        retrieval.number,
    )


def again(retrieval: Retrieval, token: str) -> Retrieval:
    """The retrieval planned again, as its output is gone or was never made; only what is not written yet."""
    anew = replace(retrieval, token=token, state=RetrievalStage.PLANNED)
    return replace(anew, retrieval_id=None, requested_at=None, asked=None, until=None)


def alive_retrievals(
    tx: Transaction, archives: Iterable[int], now: datetime
) -> Mapping[int, list[Retrieval]]:
    """Retrievals of all restores by archive, whose output may still come, or exists beyond `now`."""
    wanted = sorted(set(archives))
    found: dict[int, list[Retrieval]] = {}
    for start in range(0, len(wanted), _BATCH):
        some = wanted[start : start + _BATCH]
        sql = f"""SELECT * FROM retrievals WHERE archive IN ({marks(some)}) AND retrieval_id IS NOT NULL
                  AND asked_from IS NOT NULL AND state IN ({marks(HAS_OUTPUT)}) AND until > ?"""
        for row in records(tx, sql, (*some, *sorted(HAS_OUTPUT), micros(now))):
            found.setdefault(row["archive"], []).append(retrieval_of(row))
    return found


def shareable(retrieval: Retrieval, wanted: ByteRange, tier: Tier) -> bool:
    """Whether a retrieval has output for `wanted`: it covers it, and is no later than `tier` would be."""
    asked = retrieval.asked
    soon = retrieval.state is not RetrievalStage.WAITING or _SPEED[retrieval.tier] >= _SPEED[tier]
    return asked is not None and asked.start <= wanted.start and wanted.end <= asked.end and soon


def output_gone(tx: Transaction, ids: Iterable[RetrievalId], now: datetime) -> None:
    """Record that these outputs no longer exist in the vault."""
    gone = list(ids)
    for start in range(0, len(gone), _BATCH):
        some = gone[start : start + _BATCH]
        sql = f"UPDATE retrievals SET until = ? WHERE retrieval_id IN ({marks(some)})"
        rows_changed(tx, sql, (micros(now), *some))


class _Met(msgspec.Struct):
    path: bytes
    kind: str
    detail: str


class _Failed(msgspec.Struct):
    why: str
    times: int = 1


class _StoredProgress(msgspec.Struct):
    gone: list[bytes] = []
    problems: list[_Met] = []
    files: int = 0
    written: int = 0
    fetched: int = 0
    seconds: float = 0.0
    failures: dict[int, _Failed] = {}
    has_begun: bool = True
    has_entered: bool = False
    elsewhere: dict[int, str] = {}
    place: tuple[bytes, int, int] | None = None
    left: Decimal | None = None
    unsound: dict[int, str] = {}


class Failure(Struct, frozen=True):
    """The latest reason why a retrieval failed, and the number of failures."""

    why: str
    times: int = 1


class RestoreTarget(Struct, frozen=True):
    """Where a restore writes: the target's real path when it began, and which directory that led to."""

    path: bytes
    device: int
    inode: int


class RestoreState(Struct, frozen=True):
    """The state of a restore after its sessions so far.

    `written` are bytes of finished files, `fetched` those that came from the vault; `gone` are the paths of
    files that were given up; `failures` are those of retrievals, by number. Before anything was written
    (`has_begun`) there may be failures alone, and directories, once a session `has_entered` the target.
    `elsewhere`: archives (by number, with the reason) that could not be had and are not asked for any more.
    `place`: where all sessions write; None for a dump, and for restores that an older version began.
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
    elsewhere: Mapping[int, str] = field(default_factory=dict)
    place: RestoreTarget | None = None


def read_progress(tx: Transaction, restore: int) -> RestoreState | None:
    """The recorded state of a restore; None if there is none yet."""
    kept = _stored(tx, restore)
    if kept is None:
        return None
    met = tuple(Problem.of(problem.path, problem.kind, problem.detail) for problem in kept.problems)
    failures = {number: Failure(failed.why, failed.times) for number, failed in kept.failures.items()}
    counts = (kept.files, kept.written, kept.fetched, kept.seconds)
    stages = (kept.has_begun, kept.has_entered)
    place = RestoreTarget(*kept.place) if kept.place else None
    return RestoreState(*counts, met, frozenset(kept.gone), failures, *stages, kept.elsewhere, place)


def _stored(tx: Transaction, restore: int) -> _StoredProgress | None:
    data = value_of(tx, "SELECT progress FROM restores WHERE number = ?", (restore,))
    return None if data is None else msgspec.msgpack.decode(data, type=_StoredProgress)


def _store(tx: Transaction, restore: int, kept: _StoredProgress) -> None:
    data = msgspec.msgpack.encode(kept)
    rows_changed(tx, "UPDATE restores SET progress = ? WHERE number = ?", (data, restore))


def keep_progress(tx: Transaction, restore: int, progress: RestoreState) -> None:
    """Record the state of a restore."""
    place, before = progress.place, _stored(tx, restore)
    problems = [_Met(problem.path, str(problem.kind), problem.detail) for problem in progress.problems]
    kept = _StoredProgress(
        gone=sorted(progress.gone),
        problems=problems,
        files=progress.files,
        written=progress.written,
        fetched=progress.fetched,
        seconds=progress.seconds,
        failures={
            number: _Failed(failure.why, failure.times) for number, failure in progress.failures.items()
        },
        has_begun=progress.has_begun,
        has_entered=progress.has_entered,
        elsewhere=dict(progress.elsewhere),
        place=(place.path, place.device, place.inode) if place is not None else None,
        left=None if before is None else before.left,
        unsound={} if before is None else before.unsound,
    )
    _store(tx, restore, kept)


def note_left(tx: Transaction, restore: int, left: Decimal) -> None:
    """Record how much of its limit of cost a restore has left for what it does not plan."""
    kept = _stored(tx, restore) or _StoredProgress(has_begun=False)
    kept.left = left
    _store(tx, restore, kept)


def spend(tx: Transaction, restore: int, cost: Decimal | None) -> bool:
    """Take a cost, None: not known, from what a restore has left; false, and nothing, if that is less.

    Without a limit there is nothing to take it from.
    """
    kept = _stored(tx, restore)
    if kept is None or kept.left is None:
        return True
    if cost is None or cost > kept.left:
        return False
    kept.left -= cost
    _store(tx, restore, kept)
    return True


def note_entered(tx: Transaction, restore: int) -> None:
    """Record that a session is about to make directories."""
    before = read_progress(tx, restore) or RestoreState(has_begun=False)
    keep_progress(tx, restore, replace(before, has_entered=True))


def note_place(tx: Transaction, restore: int, place: RestoreTarget) -> None:
    """Record where a restore writes."""
    before = read_progress(tx, restore) or RestoreState(has_begun=False)
    keep_progress(tx, restore, replace(before, place=place))


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


def note_unsound(tx: Transaction, restore: int, archive: int, vault: VaultName) -> None:
    """Record that a vault did not give back an archive as it was stored: whoever goes on reads another's."""
    kept = _stored(tx, restore) or _StoredProgress(has_begun=False)
    kept.unsound[archive] = vault
    _store(tx, restore, kept)


def unsound_archives(tx: Transaction, restore: int) -> dict[int, VaultName]:
    """The archives, by number, that a vault did not give back to a restore as they were stored."""
    kept = _stored(tx, restore)
    return {} if kept is None else {number: VaultName(name) for number, name in kept.unsound.items()}


def note_elsewhere(tx: Transaction, restore: int, why: Mapping[int, str]) -> None:
    """Record archives, by number, that a restore replaced by others before its requests, for its report."""
    if why:
        before = read_progress(tx, restore) or RestoreState(has_begun=False)
        keep_progress(tx, restore, replace(before, elsewhere={**before.elsewhere, **why}))
