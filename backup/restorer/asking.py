"""Requests retrievals for a restore, as many as can be fetched in time, and checks their progress.

Retrievals of another restore that can still be fetched are shared and not paid twice. No more is requested at
a time than the link can download before the outputs expire; the rest is requested after that. How a vault is
asked is in `transfer/retrievals`; here is what a restore does with the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec.structs import replace

from backup.errors import ArchiveMissingError, NightvaultError
from backup.inventory.content import archives, copied, copied_pruning, lost
from backup.inventory.content.archives import Archive, ArchiveState
from backup.inventory.records import retrievals
from backup.inventory.records.restore_state import (
    RestoreState,
    again,
    note_failures,
    output_gone,
    read_progress,
    retrievals_changed,
    unsound_archives,
)
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.states import SETTLED, UNDER_WAY, RetrievalStage
from backup.model import OnCapacity, RetrievalId, RetrievalState, RetrievalStatus, Tier, VaultName
from backup.restorer.context import RestoreContext, alone_with
from backup.restorer.places import named_in
from backup.restorer.selection.choice import Choice
from backup.transfer.recognise import meet
from backup.transfer.retrievals.ask import ask
from backup.transfer.retrievals.client import Pending, RetrievalAnswer, RetrievalClient, Seen, Verdict, Wanted
from backup.transfer.retrievals.look import TIMES, look
from backup.transfer.retrievals.once import new_token
from backup.transfer.retrievals.rounds import due
from backup.transfer.retrievals.sharing import LAST_HOUR, asking_alone, share
from backup.wording import counted, size

GONE = "its archive is gone from the vault"
OUTPUT_LIVES = timedelta(hours=24)  # at least, after completion: Glacier developer guide, GetJobOutput
BATCH = 64
_OTHER_TIER = {OnCapacity.STANDARD: Tier.STANDARD, OnCapacity.BULK: Tier.BULK}


def advance(restore: Restore, context: RestoreContext, *, anew: bool = False) -> Sequence[Retrieval]:
    """Check the progress of the vault, request what was not requested yet, and return all retrievals.

    If an output is gone, or a retrieval failed once, what is not written yet is requested again. A retrieval
    whose archive is not available is `failed`, and the rest goes on. It is requested again if the user wishes
    (`anew`), and once when all others are done. May be interrupted anywhere and run again. `CapacityError`
    when the vault cannot serve the tier and the user chose to fail then.
    """
    with alone_with(context.inventory, restore):
        client = RetrievalClient(
            context.vault, context.clock, context.patience, context.progress.note, context.askers
        )
        store = RestoreRetrievals(restore, context)
        failed = [retrieval for retrieval in store.known() if retrieval.state is RetrievalStage.FAILED]
        store.leave_unsound()
        look(store, client)
        store.plan_failed(failed, anew=anew)
        asked, shared = _ask_for_planned(store, restore, context, client)
        while store.take_moved():
            more = _ask_for_planned(store, restore, context, client)
            asked, shared = asked or more[0], shared or more[1]
        # A waiting vault may not know yet what it was just asked for: it is looked at the next time.
        if shared or (asked and not context.vault.traits.waits):
            look(store, client)
        return store.known()


def _ask_for_planned(
    store: RestoreRetrievals, restore: Restore, context: RestoreContext, client: RetrievalClient
) -> tuple[bool, bool]:
    """Request the planned ranges that are due; returns whether any was requested, and whether any is shared.

    Room at the target counts too: what cannot be written would lie and expire.
    """
    known, traits = store.known(), context.vault.traits
    wanted = due(
        [
            retrieval
            for retrieval in known
            if retrieval.state is RetrievalStage.PLANNED and context.may_ask(retrieval)
        ],
        lambda retrieval: retrieval.left.length,
        under_way=sum(retrieval.left.length for retrieval in known if retrieval.state in UNDER_WAY),
        budget=None if Choice.decode(restore.choice).output else context.round_bytes,  # a stream needs all
        traits=traits,
    )
    if not wanted:
        return False, False
    open_ones = client.open_retrievals()
    asked = shared = False
    for start in range(0, len(wanted), BATCH):
        batch, theirs = wanted[start : start + BATCH], False
        with asking_alone(context.inventory, context.clock):
            if traits.waits:
                batch, theirs = share(batch, context.inventory, context.clock.now(), store.serves)
            outcome = ask(store.wanted(batch), store, client, open_ones)
        asked, shared = asked or bool(batch), shared or theirs
        if context.unattended and batch and not traits.fetches_for_nothing:
            context.progress.note(_request_text(batch, restore))
        if outcome.short is None:
            continue
        if restore.on_capacity is OnCapacity.FAIL:
            raise outcome.short
        other = _OTHER_TIER.get(restore.on_capacity)
        then = f"{other} is asked for" if other else "it is tried again"
        context.progress.note(f"{outcome.short}: {then} the next time")
        break
    return asked, shared


def _request_text(batch: Sequence[Retrieval], restore: Restore) -> str:
    """A request that costs, where nobody watches."""
    total = size(sum(retrieval.left.length for retrieval in batch))
    return f"asked vault {restore.vault} for {counted(len(batch), 'retrieval')} of {total} ({restore.tier})"


class RestoreRetrievals:
    """The retrievals of one restore, as rows of the inventory."""

    def __init__(self, restore: Restore, context: RestoreContext) -> None:
        self._restore = restore
        self._context = context
        self._placed: dict[int, Archive] = {}
        self._has_moved = False

    def take_moved(self) -> bool:
        """Whether an archive is to be asked for elsewhere since the last call: it is not where it was."""
        moved, self._has_moved = self._has_moved, False
        return moved

    def known(self) -> list[Retrieval]:
        """Return all retrievals as recorded now."""
        with self._context.inventory.reading() as tx:
            return retrievals.retrievals_of(tx, self._restore.number)

    def pending(self) -> list[Pending[Retrieval]]:
        """Return the retrievals that wait or can be fetched."""
        times = self._failed_times()
        return [
            Pending(retrieval, retrieval.retrieval_id, retrieval.requested_at, times.get(retrieval.number, 0))
            for retrieval in self.known()
            if retrieval.retrieval_id is not None and retrieval.state in UNDER_WAY
        ]

    def seen(self, seen: Sequence[Seen[Retrieval]]) -> None:
        """Record the vault's answers; what failed twice is failed, expired outputs are no longer shared."""
        now = self._context.clock.now()
        changed: list[Retrieval] = []
        gone: set[RetrievalId] = set()
        failed: dict[int, str] = {}
        for answer in seen:
            retrieval = answer.record
            if answer.verdict in {Verdict.WAITS, Verdict.READY}:
                after = _seen(retrieval, answer.status, now)
            else:
                gone.add(answer.retrieval_id)
                after = again(retrieval, new_token())
                if answer.status.state is RetrievalState.FAILED:
                    failed[retrieval.number] = f"the vault could not retrieve its archive: {answer.why}"
                if answer.verdict is Verdict.GIVEN_UP:
                    after = replace(after, state=RetrievalStage.FAILED)
                    told = f"a retrieval failed again ({answer.why}): what needs it cannot be restored"
                    self._context.progress.note(told)
            if after != retrieval:
                changed.append(after)
        with self._context.inventory.writing() as tx:
            retrievals_changed(tx, changed)
            note_failures(tx, self._restore.number, failed)
            output_gone(tx, gone, now)

    def has_granted(self) -> bool:
        """Whether the vault ever accepted a request of this restore."""
        return any(retrieval.retrieval_id for retrieval in self.known())

    def serves(self, shared: Retrieval) -> bool:
        """Whether the output of another restore is of the vault that its archive would be read from."""
        joined = self._context.joined
        if joined is None or shared.retrieval_id is None:
            return True
        with self._context.inventory.reading() as tx:
            place = self._context.archives(tx, [shared.archive])[shared.archive].vault
        return joined.vault_of(shared.retrieval_id) == place

    def wanted(self, planned: Sequence[Retrieval]) -> list[Wanted[Retrieval]]:
        """Return requests for the rest of each retrieval; for a truncated archive all of it."""
        with self._context.inventory.reading() as tx:
            numbers = sorted({retrieval.archive for retrieval in planned})
            found = self._context.archives(tx, numbers)
        self._placed |= found
        wanted = []
        for retrieval in planned:
            archive, named = found.get(retrieval.archive), f"archive {retrieval.archive}"
            archive_id, size = (archive.archive_id, archive.size) if archive is not None else (None, 0)
            if archive is not None and self._context.joined is not None:
                archive_id = named_in(archive)
            wanted.append(
                Wanted(
                    retrieval,
                    archive_id,
                    size,
                    retrieval.left,
                    retrieval.tier,
                    retrieval.token,
                    named,
                    or_all=True,
                )
            )
        return wanted

    def answered(self, answers: Sequence[RetrievalAnswer[Retrieval]]) -> None:
        """Record accepted and failed requests, and the tier to use if one is not available.

        An archive that the vault does not have is marked lost: it is asked for in another vault with a copy
        of it, else the next restore looks for its chunks in other archives, and the next backup stores again
        what it can. Of a vault that is not known nothing is marked.
        """
        now = self._context.clock.now()
        changed: list[Retrieval] = []
        failed: dict[int, str] = {}
        missing = {
            answer.record.archive for answer in answers if isinstance(answer.refused, ArchiveMissingError)
        }
        lost = self._lost(missing, now)
        asked = [answer.record for answer in answers]
        elsewhere = self._elsewhere([retrieval for retrieval in asked if retrieval.archive in lost])
        passed_over = missing - lost
        elsewhere |= self._passed_over([retrieval for retrieval in asked if retrieval.archive in passed_over])
        other = _OTHER_TIER.get(self._restore.on_capacity)
        for answer in answers:
            retrieval = answer.record
            if answer.retrieval_id is not None:
                changed.append(_asked(answer, answer.retrieval_id, now))
            elif retrieval.archive in elsewhere:
                changed.append(again(retrieval, new_token()))
            elif answer.refused is not None:
                self._context.progress.note(f"{answer.refused}: what needs it cannot be restored")
                failed[retrieval.number] = _reason(answer.refused)
                asked_at = now if retrieval.archive in lost else None  # what older lists show is not believed
                changed.append(replace(retrieval, state=RetrievalStage.FAILED, requested_at=asked_at))
            elif answer.short is not None and other is not None and retrieval.tier is not other:
                changed.append(replace(retrieval, tier=other))
        with self._context.inventory.writing() as tx:
            retrievals_changed(tx, changed)
            note_failures(tx, self._restore.number, failed)

    def _lost(self, missing: set[int], now: datetime) -> set[int]:
        """Mark archives as lost in the vaults that lack them, and are known; returns those."""
        by_vault: dict[VaultName, set[int]] = {}
        for number in missing & self._placed.keys():
            by_vault.setdefault(self._placed[number].vault, set()).add(number)
        found: set[int] = set()
        for vault, numbers in by_vault.items():
            if not self._is_known(vault):
                continue
            found |= numbers
            with self._context.inventory.writing() as tx:
                own = archives.get_archives(tx, sorted(numbers), self._context.inventory.id)
                of_job = {number for number, archive in own.items() if archive.vault == vault}
                lost.mark(tx, of_job, ArchiveState.LOST)
                there = copied.vault_number(tx, vault)
                copied_pruning.mark(tx, there, numbers - of_job, ArchiveState.LOST, now)
        return found

    def _passed_over(self, missing: Sequence[Retrieval]) -> set[int]:
        """Same, of a vault that is not known, as after a rebuild: nothing in it is marked as lost."""
        joined, placed = self._context.joined, self._placed
        lies = {each.archive: placed[each.archive].vault for each in missing if each.archive in placed}
        if joined is None:
            return set()
        joined.unsound |= lies
        joined.left |= lies.keys()
        found = self._elsewhere([retrieval for retrieval in missing if retrieval.archive in lies])
        joined.left -= lies.keys() - found
        for number, vault in lies.items():
            del joined.unsound[number]
            if number in found:
                self._context.note_unsound(self._restore.number, number, vault)
        return found

    def _elsewhere(self, missing: Sequence[Retrieval]) -> set[int]:
        """Those archives that another vault has: asked for there, within what is left of the limit."""
        joined = self._context.joined
        if joined is None or not missing:
            return set()
        with self._context.inventory.reading() as tx:
            places = self._context.archives(tx, {retrieval.archive for retrieval in missing})
        found: set[int] = set()
        for vault in sorted({archive.vault for archive in places.values() if joined.is_sound(archive)}):
            moved = [retrieval for retrieval in missing if places[retrieval.archive].vault == vault]
            some = {retrieval.archive for retrieval in moved}
            lacks = f"vault {self._placed[min(some)].vault} lacks {counted(len(some), 'archive')}"
            asked = sum(
                retrieval.left.length
                if joined.at(vault).traits.retrieves_ranges
                else places[retrieval.archive].size
                for retrieval in moved
            )
            tier = moved[0].tier
            if self._context.may_read(self._restore.number, vault, len(moved), asked, tier):
                self._context.progress.note(f"{lacks}: read from {vault}")
                found |= some
            else:
                self._context.progress.note(
                    f"{lacks}; {vault} has them, but with {tier} that costs more than is left of the limit"
                )
        self._has_moved = self._has_moved or bool(found)
        return found

    def leave_unsound(self) -> None:
        """Ask another vault for what one did not give back as stored, within what is left of the limit."""
        joined, context = self._context.joined, self._context
        if joined is None:
            return
        with context.inventory.reading() as tx:
            joined.unsound |= unsound_archives(tx, self._restore.number)
        some = [
            retrieval
            for retrieval in self.known()
            if retrieval.state in {RetrievalStage.PLANNED, *UNDER_WAY}
            and retrieval.archive in joined.unsound.keys() - joined.left
            and joined.vault_asked(retrieval.retrieval_id) in {None, joined.unsound[retrieval.archive]}
        ]
        joined.left |= {retrieval.archive for retrieval in some}
        with context.inventory.reading() as tx:
            places = context.archives(tx, {retrieval.archive for retrieval in some})
        moved: list[Retrieval] = []
        for retrieval in some:
            place = places[retrieval.archive]
            whole = not joined.at(place.vault).traits.retrieves_ranges
            asked = place.size if whole else retrieval.left.length
            is_other = place.vault != joined.unsound[retrieval.archive] and joined.is_sound(place)
            if is_other and context.may_read(self._restore.number, place.vault, 1, asked, retrieval.tier):
                moved.append(again(retrieval, new_token()))
            else:
                joined.left.discard(retrieval.archive)
        with context.inventory.writing() as tx:
            retrievals_changed(tx, moved)

    def _is_known(self, name: VaultName) -> bool:
        """Whether it shows that it is the one that was backed up into: another one lacks everything."""
        joined = self._context.joined
        vault = self._context.vault if joined is None else joined.at(name)
        with suppress(NightvaultError):
            meeting = meet(self._context.inventory, vault, self._context.patience)
            return meeting.known is not None and not meeting.is_other
        return False

    def plan_failed(self, failed: Sequence[Retrieval], *, anew: bool) -> None:
        """Plan failed retrievals again: as the user wishes, or once when all others are done."""
        if not failed:
            return
        if not anew:
            if any(retrieval.state not in SETTLED for retrieval in self.known()):
                return
            times = self._failed_times()
            failed = [retrieval for retrieval in failed if times.get(retrieval.number, 0) < TIMES]
        with self._context.inventory.writing() as tx:
            retrievals_changed(tx, [again(retrieval, new_token()) for retrieval in failed])

    def _failed_times(self) -> dict[int, int]:
        with self._context.inventory.reading() as tx:
            kept = read_progress(tx, self._restore.number) or RestoreState()
        return {number: failure.times for number, failure in kept.failures.items()}


def _seen(retrieval: Retrieval, status: RetrievalStatus, now: datetime) -> Retrieval:
    """The retrieval as the vault has it; while it waits, its output will live a day from now at least."""
    longest = now + OUTPUT_LIVES  # more than that was noted by a clock that was ahead
    until = None if retrieval.until is None else min(retrieval.until, longest)
    if status.state is RetrievalState.READY:
        return replace(retrieval, state=RetrievalStage.READY, until=status.until or until)
    stale = until is None or until < longest - LAST_HOUR
    return replace(retrieval, state=RetrievalStage.WAITING, until=longest if stale else until)


def _reason(error: NightvaultError) -> str:
    return GONE if isinstance(error, ArchiveMissingError) else f"its archive cannot be had: {error}"


def _asked(answer: RetrievalAnswer[Retrieval], retrieval_id: RetrievalId, now: datetime) -> Retrieval:
    retrieval = answer.record
    return replace(
        retrieval,
        state=RetrievalStage.WAITING,
        retrieval_id=retrieval_id,
        asked=answer.asked or retrieval.left,
        requested_at=now,
        until=now + OUTPUT_LIVES,
    )
