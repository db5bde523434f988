"""What is worth a message: laws over any history of runs, and the cases that people asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.inventory.records.messages import Condition
from backup.inventory.records.runs import Run
from backup.inventory.store.states import MessageKind
from backup.kinds import Outcome, RunKind
from backup.model import JobName
from backup.notify import decide
from backup.notify.decide import FLAPS_WITHIN, MOST_FLAPS, Consequences
from backup.notify.run_letters import LetterContext, by_turns, letter_of

START = datetime(2026, 11, 1, 3, 0, tzinfo=UTC)
ENDED = [outcome for outcome in Outcome if outcome is not Outcome.RUNNING]


def run(number: int, outcome: Outcome, kind: RunKind = RunKind.BACKUP, **report: object) -> Run:
    return Run(number, kind, JobName("main"), outcome, START, START, None, report)


class World:
    """States that were told of, and messages by key."""

    def __init__(self) -> None:
        self.told: dict[str, Condition] = {}
        self.flapped: Condition | None = None
        self.messages: dict[str, tuple[MessageKind, date]] = {}

    def apply(self, step: Consequences, today: date) -> MessageKind | None:
        for subject in step.ended:
            del self.told[subject]
        for state in (step.state, step.hour):
            if state is not None:
                self.told[state.subject] = state
        self.flapped = step.flapped
        if step.kind is not None:
            assert step.key not in self.messages, "a key is used once"
            self.messages[step.key] = step.kind, today
        return step.kind

    def see(self, one: Run, now: datetime) -> MessageKind | None:
        return self.apply(decide.of_run(one, self.told, now, now.date()), now.date())

    def see_overdue(self, now: datetime) -> MessageKind | None:
        subject = decide.overdue_subject("main")
        step = decide.of_state(MessageKind.OVERDUE, subject, self.told, now, now.date())
        return self.apply(step, now.date())


histories = st.lists(st.tuples(st.sampled_from(ENDED), st.integers(1, 40)), max_size=40)


@given(histories)
def test_of_any_history(history: list[tuple[Outcome, int]]) -> None:
    """One failure a day and level at most; each success after one is told, and none without one."""
    world, now, is_bad, told_today = World(), START, False, set[tuple[date, Outcome]]()
    for number, (outcome, hours) in enumerate(history, 1):
        now += timedelta(hours=hours)
        kind = world.see(run(number, outcome), now)
        if outcome is Outcome.DONE:
            assert kind is (MessageKind.RECOVERED if is_bad else None)
            is_bad, told_today = False, set()
        elif outcome is Outcome.INTERRUPTED:
            assert kind is None
        else:
            worse_was_told = (now.date(), Outcome.FAILED) in told_today
            expected = (now.date(), outcome) not in told_today and not worse_was_told
            assert (kind is MessageKind.FAILED) == expected
            told_today.add((now.date(), outcome))
            is_bad = True
    assert bool(set(world.told) - {"flaps/backup/main"}) == is_bad


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 90)), max_size=80))
def test_what_fails_and_works_by_turns_is_told_once_an_hour_with_its_count(
    history: list[tuple[bool, int]],
) -> None:
    """Of any hour at most three failures are told; none is untold for ever: what is not told is counted."""
    world, now, told_at, untold, was_good = World(), START, list[datetime](), 0, True
    for number, (is_good, minutes) in enumerate(history, 1):
        now += timedelta(minutes=minutes)
        kind = world.see(run(number, Outcome.DONE if is_good else Outcome.FAILED), now)
        if kind is MessageKind.FAILED and was_good:
            told_at.append(now)
        assert world.flapped is None or world.flapped.level - MOST_FLAPS == untold > 0
        if world.flapped is not None or not untold:
            untold = 0
        untold += not is_good and kind is None and "backup/main" not in world.told
        was_good = "backup/main" not in world.told
    hours = [[time for time in told_at if first <= time < first + FLAPS_WITHIN] for first in told_at]
    assert max(map(len, hours), default=0) <= MOST_FLAPS + 1


def test_a_job_of_each_minute_that_fails_every_second_time() -> None:
    world, now, told = World(), START, list[MessageKind | None]()
    for number in range(24 * 60):
        outcome = Outcome.DONE if number % 2 else Outcome.FAILED
        told.append(world.see(run(number + 1, outcome), now + timedelta(minutes=number)))
    assert told[:4] == [MessageKind.FAILED, MessageKind.RECOVERED] * 2
    assert set(told[4:60]) == {None}
    assert told.count(MessageKind.FAILED) == told.count(MessageKind.RECOVERED) == 25


@given(histories)
def test_looking_twice_tells_nothing_more(history: list[tuple[Outcome, int]]) -> None:
    world, now = World(), START
    for number, (outcome, hours) in enumerate(history, 1):
        now += timedelta(hours=hours)
        world.see(run(number, outcome), now)
        assert world.see(run(number, outcome), now) is None


def test_an_overdue_job_that_works_again() -> None:
    world = World()
    assert world.see_overdue(START) is MessageKind.OVERDUE
    assert world.see_overdue(START + timedelta(hours=1)) is None
    assert world.see_overdue(START + timedelta(days=1)) is MessageKind.OVERDUE
    assert world.see(run(1, Outcome.DONE), START + timedelta(days=1)) is MessageKind.RECOVERED
    assert world.told == {}


def test_a_partial_backup_ends_that_it_is_overdue() -> None:
    world = World()
    world.see_overdue(START)
    assert world.see(run(1, Outcome.PARTIAL), START) is MessageKind.FAILED
    assert set(world.told) == {"backup/main", "flaps/backup/main"}


def test_a_failure_of_the_policy_is_another_state() -> None:
    world = World()
    assert world.see(run(1, Outcome.FAILED, RunKind.FORGET), START) is MessageKind.FAILED
    assert world.see(run(2, Outcome.DONE), START) is None
    assert world.see(run(3, Outcome.DONE, RunKind.FORGET), START) is MessageKind.RECOVERED


def test_one_sort_of_check_does_not_end_what_another_found() -> None:
    """Reports have the keys of all sorts: those of the others hold nothing."""
    world = World()
    nothing: dict[str, object] = {"read": None, "compared": None, "laws": None}
    read, compared = {**nothing, "read": {}}, {**nothing, "compared": {}}
    assert world.see(run(1, Outcome.FAILED, RunKind.CHECK, **read), START) is MessageKind.FAILED
    assert world.see(run(2, Outcome.FAILED, RunKind.CHECK, **compared), START) is MessageKind.FAILED
    assert world.see(run(3, Outcome.DONE, RunKind.CHECK, **compared), START) is MessageKind.RECOVERED
    assert world.see(run(4, Outcome.DONE, RunKind.CHECK, **read), START) is MessageKind.RECOVERED


@pytest.mark.parametrize("kind", [RunKind.RESTORE, RunKind.MARK])
def test_where_somebody_sits_nobody_is_told(kind: RunKind) -> None:
    assert World().see(run(1, Outcome.FAILED, kind), START) is None


def test_the_letter_after_an_hour_by_turns_has_the_count() -> None:
    at = LetterContext(host="web1", zone=UTC)
    letter = letter_of(run(9, Outcome.FAILED), MessageKind.FAILED, at)
    told = by_turns(letter, Condition("flaps/backup/main", START, START.date(), MOST_FLAPS + 28), at)
    assert told.title == f"{letter.title}, by turns"
    assert told.facts[-1][0] == "by turns"
    assert told.facts[-1][1].startswith("28 more failures within the hour from 2026-11-01 03:00")
