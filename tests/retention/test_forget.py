"""The plan of a forget: never all, never what is read or pinned, and each snapshot with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from backup.retention.forget import ForgetPlan, plan_chosen, plan_forget
from backup.retention.history import Candidate
from backup.retention.policy import Decision, Policy, decide

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Berlin")


@st.composite
def histories(draw: st.DrawFn) -> list[Candidate]:
    count = draw(st.integers(1, 12))
    return [
        Candidate(
            number,
            NOW - timedelta(hours=draw(st.integers(-48, 2000))),
            is_whole=draw(st.booleans()),
            is_pinned=draw(st.integers(0, 5)) == 0,
        )
        for number in range(1, count + 1)
    ]


some_numbers = st.sets(st.integers(1, 12))


def assert_sound(plan: ForgetPlan, every: Sequence[Candidate], read: set[int]) -> None:
    """What holds of every plan, whatever was asked for."""
    stays, goes = {decision.number for decision in plan.stays}, {decision.number for decision in plan.goes}
    assert stays | goes == {candidate.number for candidate in every}
    assert not stays & goes
    assert stays
    if any(candidate.is_whole for candidate in every):
        assert any(candidate.is_whole for candidate in every if candidate.number in stays)
    assert not goes & (read | {candidate.number for candidate in every if candidate.is_pinned})
    assert all(decision.reasons for decision in (*plan.stays, *plan.goes))
    assert plan.numbers == sorted(goes)


@given(every=histories(), read=some_numbers, policy=st.builds(Policy, last=st.integers(1, 3)))
def test_a_policy_forgets_no_more_than_it_says(
    every: list[Candidate], read: set[int], policy: Policy
) -> None:
    decisions = decide(policy, every, now=NOW, zone=ZONE)
    plan = plan_forget(every, decisions, read_by_restores=read)
    assert_sound(plan, every, read)
    assert not plan.refused
    kept = {decision.number: decision.reasons for decision in decisions if decision.is_kept}
    assert {decision.number: decision.reasons for decision in plan.stays if decision.number in kept} == kept
    assert {decision.number for decision in plan.stays} - kept.keys() <= read


@given(every=histories(), read=some_numbers, forgets=some_numbers)
def test_decisions_that_keep_nothing_are_overruled(
    every: list[Candidate], read: set[int], forgets: set[int]
) -> None:
    """Whoever decided: the plan alone is safe."""
    decisions = [Decision(candidate.number, candidate.number not in forgets, ("why",)) for candidate in every]
    assert_sound(plan_forget(every, decisions, read_by_restores=read), every, read)


@given(every=histories(), read=some_numbers, chosen=some_numbers)
def test_what_is_named_goes_or_is_refused(every: list[Candidate], read: set[int], chosen: set[int]) -> None:
    plan = plan_chosen(every, chosen, read_by_restores=read)
    assert_sound(plan, every, read)
    named = chosen & {candidate.number for candidate in every}
    refused = {snapshot.number for snapshot in plan.refused}
    assert set(plan.numbers) | refused == named
    pinned = {candidate.number for candidate in every if candidate.is_pinned}
    assert len(refused - read - pinned) <= 1  # the last whole one


def candidates(*whole: bool) -> list[Candidate]:
    return [Candidate(n, NOW + timedelta(days=n - 10), is_whole) for n, is_whole in enumerate(whole, 1)]


def test_the_last_whole_one_is_refused_and_not_the_newest() -> None:
    plan = plan_chosen(candidates(True, True, False), {1, 2})
    assert [(snapshot.number, snapshot.reason) for snapshot in plan.refused] == [
        (2, "it is the job's last whole snapshot")
    ]
    assert plan.numbers == [1]


def test_the_last_of_partial_ones_is_refused() -> None:
    plan = plan_chosen(candidates(False, False), {1, 2})
    assert [(snapshot.number, snapshot.reason) for snapshot in plan.refused] == [(2, "it is the job's last")]


def test_each_refusal_says_why() -> None:
    every = [Candidate(1, NOW, is_pinned=True), *candidates(True, True, True)[1:]]
    plan = plan_chosen(every, {1, 2}, read_by_restores={2})
    assert [snapshot.reason for snapshot in plan.refused] == ["it is pinned", "an open restore reads it"]
    assert not plan.goes
