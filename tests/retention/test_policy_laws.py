"""Laws of a policy: any order, enough of each period, wrong dates harm nobody, more is never less."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from backup.retention.history import Candidate
from backup.retention.policy import ALL, Policy, decide
from backup.retention.spans import Span, parse_span
from tests.retention.histories import LATER, POLICIES, ZONES, kept, mixed, moments, whole

MONDAY = date(1, 1, 1)


def _policy(rules: dict[str, Any]) -> Policy:
    return Policy(**rules)


def _staying(policy: Policy, snapshots: list[Candidate], zone: ZoneInfo, now: datetime) -> list[Candidate]:
    numbers = kept(policy, snapshots, zone, now)
    return [candidate for candidate in snapshots if candidate.number in numbers]


def _week(local: datetime) -> object:
    """The Monday of the week, by counting days only."""
    return (local.date() - MONDAY).days // 7


PERIODS: dict[str, Callable[[datetime], object]] = {
    "last": lambda local: (local.astimezone(UTC), object()),
    "hourly": lambda local: (local.strftime("%Y%m%d%H"), local.fold),
    "daily": lambda local: local.toordinal(),
    "weekly": _week,
    "monthly": lambda local: local.strftime("%Y%m"),
    "yearly": lambda local: local.strftime("%Y"),
}


@settings(max_examples=40)
@given(POLICIES, mixed(), ZONES, st.randoms(use_true_random=False))
def test_the_order_in_which_snapshots_are_given_is_nothing(
    policy: Policy, snapshots: list[Candidate], zone: ZoneInfo, chance: random.Random
) -> None:
    mixed_up = list(snapshots)
    chance.shuffle(mixed_up)
    decisions = decide(policy, snapshots, now=LATER, zone=zone)
    assert decide(policy, mixed_up, now=LATER, zone=zone) == decisions
    assert [decision.number for decision in decisions] == sorted(candidate.number for candidate in snapshots)


@pytest.mark.parametrize("rule", PERIODS)
@given(moments(), st.integers(1, 12), ZONES)
def test_at_least_as_many_periods_are_kept_as_are_counted(
    rule: str, dates: list[datetime], count: int, zone: ZoneInfo
) -> None:
    """Periods as the standard library's calendar and plain counting of days have them."""
    snapshots = whole(dates)
    staying = kept(_policy({rule: count}), snapshots, zone)

    def periods(among: list[Candidate]) -> list[object]:
        return list(
            dict.fromkeys(PERIODS[rule](candidate.started_at.astimezone(zone)) for candidate in among)
        )

    there = periods(list(reversed(snapshots)))
    covered = periods([candidate for candidate in reversed(snapshots) if candidate.number in staying])
    if rule == "last":
        assert staying == {candidate.number for candidate in snapshots[-count:]}
        return
    assert covered[:count] == there[:count]
    oldest = 1 if len(there) < count else 0
    assert len(staying) <= min(count, len(there)) + oldest
    assert not oldest or snapshots[0].number in staying


@settings(max_examples=40)
@given(mixed(), POLICIES, ZONES)
def test_of_each_day_the_newest_whole_snapshot_stands_for_it(
    snapshots: list[Candidate], policy: Policy, zone: ZoneInfo
) -> None:
    staying = kept(replace(policy, daily=ALL), snapshots, zone)
    by_day: dict[date, list[Candidate]] = {}
    for candidate in snapshots:
        by_day.setdefault(candidate.started_at.astimezone(zone).date(), []).append(candidate)
    for one_day in by_day.values():
        standing = [candidate for candidate in one_day if candidate.is_whole] or one_day
        assert standing[-1].number in staying


@given(
    st.lists(st.integers(0, 24 * 60 - 1), min_size=1, max_size=60),
    st.dates(date(2019, 1, 1), date(2027, 1, 1)),
    st.integers(1, 30),
    ZONES,
)
def test_a_nightly_run_at_any_hour_never_loses_a_day(
    minutes: list[int], first: date, count: int, zone: ZoneInfo
) -> None:
    """Forgotten after each night, as a daemon does: the last days are all there, whatever the hour was."""
    policy, staying = Policy(daily=count), list[Candidate]()
    for number, minute in enumerate(minutes):
        wall = datetime.combine(first + timedelta(days=number), time_of_day(minute // 60, minute % 60), zone)
        now = wall.astimezone(UTC)
        staying.append(Candidate(number, now))
        staying = _staying(policy, staying, zone, now)
        assert {candidate.number for candidate in staying} >= set(
            range(max(0, number - count + 1), number + 1)
        )


@given(
    POLICIES,
    moments(least=3),
    st.integers(0, 60),
    st.sampled_from([timedelta(days=365), timedelta(days=-365), timedelta(days=366 * 20)]),
    st.timedeltas(timedelta(0), timedelta(days=700)),
    ZONES,
)
def test_a_snapshot_with_a_wrong_date_changes_nothing_for_the_others(
    policy: Policy, dates: list[datetime], place: int, off: timedelta, ago: timedelta, zone: ZoneInfo
) -> None:
    """It is in the future, or at least two others prove by their numbers that it is wrong."""
    snapshots = [Candidate(10 * number, at) for number, at in enumerate(dates, 1)]
    place %= len(dates)
    now = dates[-1] + ago
    wrong = Candidate(10 * (place + 1) + 5, dates[place] + off)
    skipped = [
        candidate
        for candidate in snapshots
        if (candidate.number < wrong.number and candidate.started_at > wrong.started_at + timedelta(days=1))
        or (candidate.number > wrong.number and candidate.started_at < wrong.started_at - timedelta(days=1))
    ]
    assume(wrong.started_at > now + timedelta(minutes=5) or len(skipped) >= 2)
    before = decide(policy, snapshots, now=now, zone=zone)
    after = {
        decision.number: decision for decision in decide(policy, [*snapshots, wrong], now=now, zone=zone)
    }
    told = after.pop(wrong.number)
    assert tuple(after.values()) == before
    assert (told.is_kept, told.is_misdated) == (True, True)
    assert "no rule counts it" in told.reasons[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_years_with_a_clock_that_jumps_lose_no_night(seed: int) -> None:
    """Forgotten each time, as a daemon does: all that would be there without the wrong dates is there."""
    chance, zone = random.Random(seed), ZoneInfo("Europe/Berlin")
    policy = Policy(within=parse_span("30d"), weekly=8, monthly=12, yearly=3)
    right, mixed_up, wrong = list[Candidate](), list[Candidate](), 0
    for night in range(0, 365 * 5, 3):
        now = datetime(2021, 1, 1, 1, 30, tzinfo=UTC) + timedelta(days=night)
        right.append(Candidate(2 * night, now))
        mixed_up.append(Candidate(2 * night, now))
        if chance.random() < 0.02:
            off = timedelta(days=chance.choice([365, -365, -700, 900]))
            mixed_up.append(Candidate(2 * night + 1, now + off))
            wrong += 1
        right, mixed_up = (_staying(policy, snapshots, zone, now) for snapshots in (right, mixed_up))
        assert {candidate.number for candidate in right} <= {candidate.number for candidate in mixed_up}
    assert wrong >= 5


@settings(max_examples=40)
@given(POLICIES, POLICIES, mixed(), ZONES)
def test_more_to_keep_never_keeps_fewer(
    policy: Policy, other: Policy, snapshots: list[Candidate], zone: ZoneInfo
) -> None:
    """Rules that are each at least those of both keep all that either keeps."""
    more = {
        field.name: _more(getattr(policy, field.name), getattr(other, field.name)) for field in fields(Policy)
    }
    staying = kept(_policy(more), snapshots, zone)
    assert staying >= kept(policy, snapshots, zone) | kept(other, snapshots, zone)


def _more(one: object, other: object) -> object:
    """The larger count, all tags, the sum of two spans: none of them is less than either."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return (*one, *other)
    if isinstance(one, Span) and isinstance(other, Span):
        names = [field.name for field in fields(Span)]
        return Span(**{name: getattr(one, name) + getattr(other, name) for name in names})
    if ALL in (one, other):
        return ALL
    assert isinstance(one, int)
    assert isinstance(other, int)
    return max(one, other)


@settings(max_examples=40)
@given(POLICIES, mixed(), ZONES)
def test_a_second_time_nothing_more_is_forgotten(
    policy: Policy, snapshots: list[Candidate], zone: ZoneInfo
) -> None:
    first = kept(policy, snapshots, zone)
    assert kept(policy, [candidate for candidate in snapshots if candidate.number in first], zone) == first


@settings(max_examples=40)
@given(POLICIES, mixed(), ZONES)
def test_each_decision_has_its_reasons_and_the_last_whole_snapshot_stays(
    policy: Policy, snapshots: list[Candidate], zone: ZoneInfo
) -> None:
    decisions = {snapshot.number: snapshot for snapshot in decide(policy, snapshots, now=LATER, zone=zone)}
    for candidate in snapshots:
        decision = decisions[candidate.number]
        assert decision.is_kept or len(decision.reasons) == len(policy.rules())
        assert all(decision.reasons)
        assert not candidate.is_pinned or (decision.is_kept and "pinned" in decision.reasons)
    whole_ones = [candidate.number for candidate in snapshots if candidate.is_whole]
    assert all(decisions[number].is_kept for number in [*whole_ones[-1:], snapshots[-1].number])


@settings(max_examples=40)
@given(POLICIES, mixed(), ZONES)
def test_pins_change_nothing_for_the_others(
    policy: Policy, snapshots: list[Candidate], zone: ZoneInfo
) -> None:
    without = [replace(candidate, is_pinned=False) for candidate in snapshots]
    pinned = {candidate.number for candidate in snapshots if candidate.is_pinned}
    assert kept(policy, snapshots, zone) == kept(policy, without, zone) | pinned


@settings(max_examples=40)
@given(mixed(), st.integers(1, 9), ZONES)
def test_partial_snapshots_push_out_no_whole_one_of_the_last(
    snapshots: list[Candidate], count: int, zone: ZoneInfo
) -> None:
    whole_ones = [candidate for candidate in snapshots if candidate.is_whole]
    for policy in (Policy(last=count), Policy(within=Span(days=count))):
        staying = kept(policy, snapshots, zone)
        assert not whole_ones or staying >= kept(policy, whole_ones, zone)


def test_ten_thousand_snapshots_take_no_second() -> None:
    """A hundred with wrong dates among them, and every kind of rule."""
    begin = datetime(2019, 1, 1, tzinfo=UTC)
    policy = Policy(
        last=7, hourly=24, daily=7, weekly=8, monthly=12, yearly=3, within=parse_span("30d"),
        within_hourly=parse_span("2d"), within_daily=parse_span("90d"), within_weekly=parse_span("1y"),
        within_monthly=parse_span("5y"), within_yearly=parse_span("20y"), tags=(frozenset({"release"}),),
    )  # fmt: skip
    snapshots = [
        Candidate(n, begin + timedelta(hours=6 * n, days=365 * (n % 100 == 0)), n % 7 != 0)
        for n in range(10_000)
    ]
    now, began = snapshots[-1].started_at, time.process_time()
    decisions = decide(policy, snapshots, now=now, zone=ZoneInfo("Europe/Berlin"))
    assert time.process_time() - began < 1
    assert len(decisions) == 10_000
