"""A prune's decisions: nothing that is needed goes, nothing before its day, and everything at last."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.retention.prune import PrunedArchive, PrunePlan, PruneRules, Why, plan_prune

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GRACE = 3 * DAY

days = st.integers(-8, 2).map(lambda days: NOW + days * DAY)
maybe = st.none() | days
often = st.one_of(days, days, days, st.none())


@st.composite
def pruned(draw: st.DrawFn, number: int) -> PrunedArchive:
    """Any archive, also one whose times contradict each other."""
    is_condemned, is_decided = draw(st.sampled_from([(False, False), (True, False), (True, True)]))
    return PrunedArchive(
        number=number,
        pack_id=bytes([number]),
        size=draw(st.integers(1, 1000)),
        stored_at=draw(days),
        free_at=draw(days),
        is_condemned=is_condemned,
        is_decided=is_decided,
        condemned_at=draw(often) if is_condemned else None,
        told_at=draw(often) if is_condemned else None,
        retry_at=draw(maybe) if is_condemned else None,
        run_is_open=draw(st.booleans()),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[PrunedArchive], set[int], PruneRules]:
    """Archives, those that are needed, and rules."""
    archives = [draw(pruned(number)) for number in range(draw(st.integers(0, 8)))]
    needed = {archive.number for archive in archives if draw(st.integers(0, 2)) == 0}
    rules = PruneRules(
        grace=draw(st.integers(0, 4)) * DAY,
        listed_before=draw(days),
        max_fee=Decimal(draw(st.integers(0, 3000))),
        may_delete=draw(st.sampled_from([True, True, True, False])),
    )
    return archives, needed, rules


def fee(one: PrunedArchive, now: datetime) -> Decimal | None:
    """A day of a byte costs one; of every fifth archive the price is not known."""
    return None if one.number % 5 == 4 else Decimal(one.size * max(0, (one.free_at - now).days))


def plan(case: tuple[list[PrunedArchive], set[int], PruneRules], now: datetime = NOW) -> PrunePlan:
    archives, needed, rules = case
    return plan_prune(archives, needed, rules, now=now, fee=fee)


def numbers(archives: tuple[PrunedArchive, ...]) -> set[int]:
    return {archive.number for archive in archives}


@given(cases())
def test_what_is_needed_neither_goes_nor_is_condemned(
    case: tuple[list[PrunedArchive], set[int], PruneRules],
) -> None:
    archives, needed, _ = case
    found = plan(case)
    decided = {archive.number for archive in archives if archive.is_decided}
    assert numbers(found.delete) & needed <= decided
    assert not numbers(found.condemn) & needed
    assert (
        numbers(found.take_up)
        == {archive.number for archive in archives if archive.number in needed and archive.is_condemned}
        - decided
    )
    assert numbers(found.take_up) <= needed


@given(cases())
def test_each_archive_has_one_fate(case: tuple[list[PrunedArchive], set[int], PruneRules]) -> None:
    """Of what nothing needs: condemned now, deleted, or waiting; only an open run's is left alone."""
    archives, needed, _ = case
    found = plan(case)
    fates = [found.condemn, found.take_up, found.delete, tuple(archive.archive for archive in found.waiting)]
    every = [archive.number for fate in fates for archive in fate]
    assert len(every) == len(set(every))
    for archive in archives:
        if archive.number not in needed and archive.number not in every:
            assert archive.run_is_open
            assert not archive.is_condemned


@given(cases())
def test_nothing_goes_before_its_day(case: tuple[list[PrunedArchive], set[int], PruneRules]) -> None:
    _, _, rules = case
    found = plan(case)
    paid = {archive.archive.number for archive in found.early}
    for archive in found.delete:
        assert rules.may_delete
        assert archive.retry_at is None or archive.retry_at <= NOW
        if archive.is_decided:
            continue
        assert archive.is_condemned
        assert archive.condemned_at is not None
        assert archive.told_at is not None
        assert max(archive.condemned_at, archive.told_at) + rules.grace <= NOW
        assert archive.told_at < rules.listed_before
        assert archive.free_at <= NOW or archive.number in paid


@given(cases())
def test_no_more_is_paid_than_may_be(case: tuple[list[PrunedArchive], set[int], PruneRules]) -> None:
    archives, needed, rules = case
    found = plan(case)
    assert found.fee <= rules.max_fee
    assert found.fee == sum((fee(archive.archive, NOW) or Decimal(0) for archive in found.early), Decimal(0))
    free = plan((archives, needed, replace(rules, max_fee=Decimal(0))))
    assert free.fee == 0
    assert numbers(found.delete) - numbers(free.delete) == {archive.archive.number for archive in found.early}
    assert {archive.why for archive in found.early} <= {Why.DURATION}


@given(cases(), st.integers(0, 200))
def test_what_may_go_today_may_go_later(
    case: tuple[list[PrunedArchive], set[int], PruneRules], later: int
) -> None:
    archives, needed, rules = case
    free = replace(rules, max_fee=Decimal(0))
    now = plan((archives, needed, free))
    then = plan(
        (archives, needed, replace(free, listed_before=free.listed_before + later * DAY)), NOW + later * DAY
    )
    assert numbers(now.delete) <= numbers(then.delete)
    assert numbers(now.condemn) <= numbers(then.condemn)


@given(cases())
def test_what_is_needed_besides_keeps_more(case: tuple[list[PrunedArchive], set[int], PruneRules]) -> None:
    archives, needed, rules = case
    decided = {archive.number for archive in archives if archive.is_decided}
    all_needed = plan((archives, {archive.number for archive in archives}, rules))
    assert not all_needed.condemn
    assert numbers(all_needed.delete) <= decided
    for archive in archives:
        more = plan((archives, {*needed, archive.number}, replace(rules, max_fee=Decimal(0))))
        assert numbers(more.delete) <= numbers(
            plan((archives, needed, replace(rules, max_fee=Decimal(0)))).delete
        )


@given(cases())
def test_a_day_that_is_told_is_the_day(case: tuple[list[PrunedArchive], set[int], PruneRules]) -> None:
    """What waits for a day goes on that day, unless something else comes up then."""
    archives, needed, rules = case
    for archive in plan(case).waiting:
        assert archive.until is None or archive.until > NOW
        if archive.until is not None and archive.why is not Why.CATALOGS:
            late = replace(rules, listed_before=archive.until + DAY, max_fee=Decimal(0))
            then = plan((archives, needed, late), archive.until)
            others = {two.archive.number: two for two in then.waiting}
            if archive.archive.number in others:
                assert others[archive.archive.number].why is not archive.why


@given(cases())
def test_everything_dead_goes_at_last(case: tuple[list[PrunedArchive], set[int], PruneRules]) -> None:
    """As long as somebody condemns, tells, lists and deletes."""
    archives, needed, rules = case
    now = NOW
    left = {archive.number: archive for archive in archives}
    for _ in range(5):
        now += 150 * DAY
        may = replace(rules, listed_before=now, may_delete=True)
        found = plan_prune(left.values(), needed, may, now=now, fee=fee)
        for archive in found.delete:
            del left[archive.number]
        told = [
            *found.condemn,
            *(archive.archive for archive in found.waiting if archive.why is Why.CATALOGS),
        ]
        for archive in told:
            left[archive.number] = replace(archive, is_condemned=True, condemned_at=now, told_at=now)
        for archive in found.take_up:
            left[archive.number] = replace(archive, is_condemned=False, condemned_at=None, told_at=None)
    assert left.keys() <= needed
    assert plan_prune(left.values(), needed, may, now=now, fee=fee).is_empty


def condemned(number: int, *, size: int = 1, free_in: int = -1) -> PrunedArchive:
    """One that was condemned, and told to be, five days ago."""
    then = NOW - 5 * DAY
    return PrunedArchive(
        number, b"", size, then, NOW + free_in * DAY, is_condemned=True, condemned_at=then, told_at=then
    )


def test_the_list_must_be_newer_than_what_condemned() -> None:
    then = NOW - 5 * DAY
    for listed, goes in ((then - DAY, False), (then, False), (then + HOUR, True)):
        found = plan(([condemned(1)], set(), PruneRules(GRACE, listed)))
        assert bool(found.delete) == goes
        assert [(archive.why, archive.until) for archive in found.waiting] == (
            [] if goes else [(Why.LISTING, None)]
        )


def test_a_list_that_shows_the_catalogs_is_expected_within_four_days() -> None:
    then = NOW - 5 * HOUR
    one = replace(condemned(1), condemned_at=then, told_at=then)
    found = plan(([one], set(), PruneRules(HOUR, then)))
    assert [(wait.why, wait.until) for wait in found.waiting] == [(Why.LISTING, then + 4 * DAY)]


@pytest.mark.parametrize("is_decided", [False, True])
def test_what_was_refused_is_asked_again_on_its_day(is_decided: bool) -> None:
    one = replace(condemned(1), retry_at=NOW + DAY, refusal="it is locked", is_decided=is_decided)
    found = plan(([one], set(), PruneRules(GRACE, NOW)))
    assert [(wait.why, wait.until) for wait in found.waiting] == [(Why.REFUSED, NOW + DAY)]
    assert plan(([replace(one, retry_at=NOW)], set(), PruneRules(GRACE, NOW))).waiting == ()


def test_fees_add_up_to_what_may_be_paid() -> None:
    """The cheapest a byte first; one that is too dear does not keep smaller ones from going."""
    archives = [condemned(1, size=100, free_in=9), condemned(2, size=10, free_in=9), condemned(3, free_in=2)]
    for most, goes in ((0, []), (1, []), (2, [3]), (91, [3]), (92, [2, 3]), (900, [2, 3]), (992, [1, 2, 3])):
        found = plan((archives, set(), PruneRules(GRACE, NOW, Decimal(most))))
        assert [archive.number for archive in found.delete] == goes, most


# A walk: backups, forgetting, undoing, pruning, cuts and refusals in any order.


@dataclass
class Kept:
    """An archive of the walk, with what its jobs' catalogs say of it, and when the last said so."""

    jobs: set[int]
    stored_at: datetime
    told: dict[int, datetime] = field(default_factory=dict)
    is_open: bool = False
    is_decided: bool = False
    retry_at: datetime | None = None


class Walk:
    """Two jobs, one vault with a minimum duration of ten days, and whatever happens."""

    def __init__(self) -> None:
        self.now = NOW
        self.listed_before = NOW
        self.refuses_until = NOW
        self.archives: dict[int, Kept] = {}
        self.vault: set[int] = set()
        self.snapshots: list[tuple[int, frozenset[int], bool]] = []  # job, archives, forgotten
        self.next = 0

    def step(self, what: int, how: int) -> None:
        """One of the things that happen."""
        happens = [
            self.wait, self.back_up, self.back_up, self.fail, self.forget, self.undo, self.list, self.prune,
            self.prune, self.prune, self.refuse,
        ]  # fmt: skip
        happens[what % len(happens)](how)
        for _, archives, is_forgotten in self.snapshots:
            assert is_forgotten or archives <= self.vault

    def wait(self, how: int) -> None:
        self.now += how % 97 * HOUR

    def back_up(self, how: int) -> None:
        """On what may be built upon, and something new; of an open run, too."""
        job = how % 2
        usable = [number for number, kept in self.archives.items() if not kept.told and not kept.is_decided]
        chosen = {number for place, number in enumerate(usable) if how >> (place % 7 + 1) & 1}
        if how % 3:
            chosen.add(self._store(job, is_open=False))
        for number in chosen:
            self.archives[number].jobs.add(job)
            self.archives[number].is_open = False
        self.snapshots.append((job, frozenset(chosen), False))

    def fail(self, how: int) -> None:
        self._store(how % 2, is_open=True)

    def _store(self, job: int, *, is_open: bool) -> int:
        self.next += 1
        self.archives[self.next] = Kept({job}, self.now, is_open=is_open)
        self.vault.add(self.next)
        return self.next

    def forget(self, how: int) -> None:
        if self.snapshots:
            chosen = how % len(self.snapshots)
            self.snapshots[chosen] = *self.snapshots[chosen][:2], True

    def undo(self, how: int) -> None:
        """Unless something of it was decided upon."""
        if self.snapshots:
            job, archives, _ = self.snapshots[how % len(self.snapshots)]
            if all(
                archive in self.archives and not self.archives[archive].is_decided for archive in archives
            ):
                self.snapshots[how % len(self.snapshots)] = job, archives, False

    def list(self, _how: int) -> None:
        self.listed_before = self.now

    def refuse(self, how: int) -> None:
        self.refuses_until = self.now + how % 5 * DAY

    def prune(self, how: int) -> None:
        """The bits of `how`: where it is cut off, and whether answers are lost."""
        needed = set[int]().union(*(archives for _, archives, gone in self.snapshots if not gone))
        rules = PruneRules(GRACE, self.listed_before)
        found = plan_prune(map(self._seen, self.archives), needed, rules, now=self.now, fee=fee)
        first = {archive.number: not self.archives[archive.number].is_decided for archive in found.delete}
        for archive in found.delete:
            self.archives[archive.number].is_decided = True
        for place, archive in enumerate(found.delete):
            if how >> place % 4 & 1:  # cut off before it was asked
                return
            self._delete(archive.number, is_first=first[archive.number], answer_is_lost=bool(how & 16))
        unsaid = [archive.archive for archive in found.waiting if archive.why is Why.CATALOGS]
        for job in (0, 1):
            for archive in (*found.condemn, *unsaid):
                if job in self.archives[archive.number].jobs:
                    self.archives[archive.number].told.setdefault(job, self.now)
            for archive in found.take_up:
                self.archives[archive.number].told.pop(job, None)
            if how & 32:  # cut off between the catalogs of two jobs
                return

    def _seen(self, number: int) -> PrunedArchive:
        one = self.archives[number]
        at = max(one.told.values()) if one.jobs <= one.told.keys() else None
        free_at = one.stored_at + 10 * DAY
        return PrunedArchive(
            number, b"", 1, one.stored_at, free_at, bool(one.told) or one.is_decided, one.is_decided, at, at,
            one.retry_at, run_is_open=one.is_open,
        )  # fmt: skip

    def _delete(self, number: int, *, is_first: bool, answer_is_lost: bool) -> None:
        one = self.archives[number]
        assert one.jobs <= one.told.keys()
        assert max(one.told.values()) + GRACE <= self.now
        assert one.stored_at + 10 * DAY <= self.now
        assert not any(number in kept for _, kept, is_forgotten in self.snapshots if not is_forgotten)
        if number in self.vault and self.refuses_until > self.now:
            one.retry_at, one.is_decided = self.refuses_until, not is_first
            return
        self.vault.discard(number)
        if not answer_is_lost:
            del self.archives[number]

    def drain(self) -> None:
        """Everything that nothing kept needs goes at last."""
        for _ in range(6):
            self.now += 12 * DAY
            self.list(0)
            self.prune(0)
        needed = set[int]().union(*(archives for _, archives, gone in self.snapshots if not gone))
        assert self.vault == self.archives.keys() == needed


@given(st.binary(min_size=400, max_size=400))
@settings(max_examples=100)
@example(bytes(400))
def test_a_walk_of_200_steps(steps: bytes) -> None:
    """A hundred of them: 20,000 steps."""
    walk = Walk()
    for place in range(0, len(steps), 2):
        walk.step(steps[place], steps[place + 1])
    walk.drain()
