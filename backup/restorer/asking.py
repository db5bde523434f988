"""Ask a vault for what a restore needs, once, as much as can be fetched in time; and see how far it is.

What another restore of ours has asked for, or could still fetch, is shared and not paid twice. Not more is
asked for at a time than the link brings down while outputs live; the rest is asked for when that has come.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from backup.errors import ArchiveMissingError, LockedError, NightvaultError
from backup.inventory import archives, retrievals
from backup.inventory.restore_state import (
    Failure,
    again,
    alive_retrievals,
    note_failures,
    output_gone,
    read_progress,
    retrievals_changed,
    shareable,
)
from backup.inventory.retrievals import Restore, Retrieval
from backup.inventory.stages import SETTLED, UNDER_WAY, RetrievalStage
from backup.model import RetrievalId, RetrievalState, RetrievalStatus, Tier
from backup.restorer.context import RestoreContext, alone_with
from backup.restorer.requests import RequestOutcome, request_all
from backup.transfer.blame import is_of_one_archive
from backup.transfer.retrievals.freshness import may_be_unknown

GONE = "its archive is gone from the vault"
OUTPUT_LIVES = timedelta(hours=24)  # at least, after completion: Glacier developer guide, GetJobOutput
BATCH = 64
_TIMES = 2  # so often a retrieval may fail before nobody but the user asks for it again
_LAST_HOUR = timedelta(hours=1)
_GONE = {RetrievalState.EXPIRED, RetrievalState.FAILED}
_OTHER_TIER = {"standard": Tier.STANDARD, "bulk": Tier.BULK}
_LOCK_TRIES, _LOCK_PAUSE = 600, 0.2


def advance(restore: Restore, context: RestoreContext, *, anew: bool = False) -> Sequence[Retrieval]:
    """See how far the vault is, and ask for what was not asked for yet; the retrievals as they stand now.

    One whose output is gone, or that failed once, is planned anew and asked for again, but not what was
    written of it. One whose archive cannot be had is `failed`: the rest goes on. It is asked for again
    `anew`, as the user wishes, and once when all others came: it may be whole by then. May be cut anywhere
    and run again. `CapacityError` when the vault cannot serve the tier and the user chose to fail then.
    """
    with alone_with(context.inventory, restore):
        failed = [one for one in _known(restore, context) if one.state is RetrievalStage.FAILED]
        _look(restore, context)
        _plan_failed(failed, restore, context, anew=anew)
        asked, shared = _ask_for_planned(restore, context)
        # A waiting vault may not know yet what it was just asked for: it is looked at the next time.
        if shared or (asked and not context.vault.traits.waits):
            _look(restore, context)
        return _known(restore, context)


def _known(restore: Restore, context: RestoreContext) -> list[Retrieval]:
    with context.inventory.reading() as tx:
        return retrievals.retrievals_of(tx, restore.number)


def _failures(restore: Restore, context: RestoreContext) -> Mapping[int, Failure]:
    with context.inventory.reading() as tx:
        kept = read_progress(tx, restore.number)
    return kept.failures if kept else {}


def _plan_failed(
    failed: Sequence[Retrieval], restore: Restore, context: RestoreContext, *, anew: bool
) -> None:
    """Plan what failed before anew: as the user wishes, or once more when nothing else is waited for."""
    if not failed:
        return
    if not anew:
        if any(one.state not in SETTLED for one in _known(restore, context)):
            return
        times = _failures(restore, context)
        failed = [one for one in failed if one.number not in times or times[one.number].times < _TIMES]
    with context.inventory.writing() as tx:
        retrievals_changed(tx, [again(one, os.urandom(12).hex()) for one in failed])


def _look(restore: Restore, context: RestoreContext) -> None:
    """Note the vault's word on each retrieval that it was asked for."""
    asked = [
        one for one in _known(restore, context) if one.retrieval_id is not None and one.state in UNDER_WAY
    ]
    if not asked:
        return
    ids = list(dict.fromkeys(one.retrieval_id for one in asked if one.retrieval_id is not None))
    statuses = context.patience.call(lambda: context.vault.retrieval_statuses(ids))
    now = context.clock.now()
    before = _failures(restore, context)
    gone: set[RetrievalId] = set()
    changed: list[Retrieval] = []
    failed: dict[int, str] = {}
    for one in asked:
        if one.retrieval_id is None:
            continue
        status = statuses[one.retrieval_id]
        if may_be_unknown(status.state, one.requested_at, context.clock, context.vault.traits):
            continue
        if status.state in _GONE:
            gone.add(one.retrieval_id)
            changed.append(_lapsed(one, status, before, failed, context))
        else:
            changed.append(_seen(one, status, now))
    with context.inventory.writing() as tx:
        retrievals_changed(tx, [one for one in changed if one not in asked])
        note_failures(tx, restore.number, failed)
        output_gone(tx, gone, now)


def _lapsed(
    one: Retrieval,
    status: RetrievalStatus,
    before: Mapping[int, Failure],
    failed: dict[int, str],
    context: RestoreContext,
) -> Retrieval:
    """One whose output is gone, or was never made, planned anew; failed if that was in vain twice."""
    why = status.message or "no reason given"
    if status.state is RetrievalState.FAILED:
        failed[one.number] = f"the vault could not retrieve its archive: {why}"
        known = before.get(one.number)
        if known is not None and known.times + 1 >= _TIMES:
            context.progress.note(f"a retrieval failed again ({why}): what needs it cannot be restored")
            return replace(again(one, os.urandom(12).hex()), state=RetrievalStage.FAILED)
    context.progress.note(f"a retrieval is {status.state} ({why}): it is asked for again")
    return again(one, os.urandom(12).hex())


def _seen(one: Retrieval, status: RetrievalStatus, now: datetime) -> Retrieval:
    """The retrieval as the vault has it; while it waits, its output will live a day from now at least."""
    longest = now + OUTPUT_LIVES  # more than that was noted by a clock that was ahead
    until = None if one.until is None else min(one.until, longest)
    if status.state is RetrievalState.READY:
        return replace(one, state=RetrievalStage.READY, until=status.until or until)
    stale = until is None or until < longest - _LAST_HOUR
    return replace(one, state=RetrievalStage.WAITING, until=longest if stale else until)


def _ask_for_planned(restore: Restore, context: RestoreContext) -> tuple[bool, bool]:
    """Ask for as many of the planned ranges as are due; whether any was asked for, and whether any shared."""
    due = _due(_known(restore, context), context)
    if not due:
        return False, False
    with context.inventory.reading() as tx:
        found = archives.get_archives(tx, sorted({one.archive for one in due}), context.inventory.id)
    open_ones = context.patience.call(context.vault.open_retrievals)
    asked = shared = False
    for start in range(0, len(due), BATCH):
        with _asking_alone(context):
            batch, theirs = _share(due[start : start + BATCH], context)
            answers = request_all(batch, found, open_ones, context)
            goes_on = _record(answers, restore, context)
        asked, shared = asked or bool(batch), shared or theirs
        if not goes_on:
            break
    return asked, shared


def _due(known: Sequence[Retrieval], context: RestoreContext) -> list[Retrieval]:
    """The planned ranges that fit into this round: what comes down in time, and at least one.

    Room at the target counts too: what cannot be written would lie and expire.
    """
    planned = [one for one in known if one.state is RetrievalStage.PLANNED]
    if not context.vault.traits.waits or context.round_bytes is None:
        return planned
    under_way = sum(one.left.length for one in known if one.state in UNDER_WAY)
    room = context.round_bytes - under_way
    due: list[Retrieval] = []
    for one in planned:
        room -= one.left.length
        if room < 0 and (due or under_way):
            break
        due.append(one)
    return due


@contextmanager
def _asking_alone(context: RestoreContext) -> Iterator[None]:
    """One process asks at a time, so that two restores see what the other asks for."""
    for tried in range(_LOCK_TRIES):
        try:
            held = context.inventory.locked("asking")
            held.__enter__()
        except LockedError as error:
            if tried == _LOCK_TRIES - 1:
                raise LockedError("another restore is asking the vault for long") from error
            context.clock.sleep(_LOCK_PAUSE)
            continue
        try:
            yield
        finally:
            held.__exit__(None, None, None)
        return


def _share(due: Sequence[Retrieval], context: RestoreContext) -> tuple[list[Retrieval], bool]:
    """Record those that an output of any restore serves, and give the others."""
    if not context.vault.traits.waits:
        return list(due), False
    now = context.clock.now()
    with context.inventory.writing() as tx:
        alive = alive_retrievals(tx, (one.archive for one in due), now + _LAST_HOUR)
        found: list[Retrieval] = []
        rest: list[Retrieval] = []
        for one in due:
            theirs = next((r for r in alive.get(one.archive, ()) if shareable(r, one.left, one.tier)), None)
            if theirs is None:
                rest.append(one)
                continue
            found.append(
                replace(
                    one,
                    state=RetrievalStage.WAITING,
                    tier=theirs.tier,
                    retrieval_id=theirs.retrieval_id,
                    asked=theirs.asked,
                    requested_at=theirs.requested_at,
                    until=theirs.until,
                )
            )
        retrievals_changed(tx, found)
    return rest, bool(found)


def _record(answers: Sequence[RequestOutcome], restore: Restore, context: RestoreContext) -> bool:
    """Record what the vault said; whether to go on asking. What it refused otherwise is raised afterwards."""
    now = context.clock.now()
    changed: list[Retrieval] = []
    failed: dict[int, str] = {}
    refusal = _refusal_of_all(answers, restore, context)
    for answer in answers:
        if answer.retrieval_id is not None:
            changed.append(_asked(answer, answer.retrieval_id, now))
        elif answer.refused is not None and (refusal is None or is_of_one_archive(answer.refused)):
            context.progress.note(f"{answer.refused}: what needs it cannot be restored")
            failed[answer.retrieval.number] = _reason(answer.refused)
            changed.append(replace(answer.retrieval, state=RetrievalStage.FAILED))
    short = next((answer.short for answer in answers if answer.short is not None), None)
    changed.extend(_by_other_tier([a.retrieval for a in answers if a.short is not None], restore))
    with context.inventory.writing() as tx:
        retrievals_changed(tx, changed)
        note_failures(tx, restore.number, failed)
    for answer in answers:
        if answer.error is not None:
            raise answer.error
    if refusal is not None:
        raise refusal
    if short is None:
        return True
    if restore.on_capacity == "fail":
        raise short
    other = _OTHER_TIER.get(restore.on_capacity)
    then = f"{other} is asked for" if other else "it is tried again"
    context.progress.note(f"{short}: {then} the next time")
    return False


def _refusal_of_all(
    answers: Sequence[RequestOutcome], restore: Restore, context: RestoreContext
) -> NightvaultError | None:
    """A refusal that does not say whose fault it is, while this vault granted this restore nothing yet."""
    unclear = [one.refused for one in answers if one.refused and not is_of_one_archive(one.refused)]
    granted = [
        *(one.retrieval_id for one in answers),
        *(one.retrieval_id for one in _known(restore, context)),
    ]
    if not unclear or any(granted):
        return None
    return unclear[0]


def _reason(error: NightvaultError) -> str:
    return GONE if isinstance(error, ArchiveMissingError) else f"its archive cannot be had: {error}"


def _asked(answer: RequestOutcome, retrieval_id: RetrievalId, now: datetime) -> Retrieval:
    one = answer.retrieval
    return replace(
        one,
        state=RetrievalStage.WAITING,
        retrieval_id=retrieval_id,
        asked=answer.asked or one.left,
        requested_at=now,
        until=now + OUTPUT_LIVES,
    )


def _by_other_tier(short: Sequence[Retrieval], restore: Restore) -> list[Retrieval]:
    """What the vault could not serve, to be asked for by the tier that the user chose for that case."""
    other = _OTHER_TIER.get(restore.on_capacity)
    return [replace(one, tier=other) for one in short if other is not None and one.tier is not other]
