"""What a policy keeps of known nights, each with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from backup.errors import ConfigError
from backup.retention.policy import ALL, Candidate, Decision, Policy, decide, unknown_tags
from backup.retention.spans import parse_span
from tests.retention.histories import BERLIN, LATER, kept

UTC_ZONE = ZoneInfo("UTC")


def at(*texts: str, zone: ZoneInfo = UTC_ZONE) -> list[Candidate]:
    """Whole snapshots of these local times, numbered from 1; a bare date is at half past two."""
    texts = tuple(text if " " in text else f"{text} 02:30" for text in texts)
    return [
        Candidate(number, datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC))
        for number, text in enumerate(texts, 1)
    ]


def told(
    policy: Policy | None, snapshots: Sequence[Candidate], *, now: datetime = LATER, zone: ZoneInfo = UTC_ZONE
) -> list[tuple[str, ...]]:
    """The reasons of each snapshot, in the order of numbers; those of forgotten ones begin with "-"."""
    decisions = decide(policy, snapshots, now=now, zone=zone)
    return [decision.reasons if decision.is_kept else ("-", *decision.reasons) for decision in decisions]


# Counts.


def test_of_each_day_the_newest_stays() -> None:
    snapshots = at("2026-03-01 02:30", "2026-03-01 14:00", "2026-03-03 02:30", "2026-03-03 02:31")
    assert told(Policy(daily=2), snapshots) == [
        ("-", "2026-03-01 has a newer snapshot"),
        ("one of the last 2 days that have a backup",),
        ("-", "2026-03-03 has a newer snapshot"),
        ("one of the last 2 days that have a backup",),
    ]


def test_days_without_a_backup_are_not_counted() -> None:
    snapshots = at("2026-01-01", "2026-02-01", "2026-02-28", "2026-03-01")
    assert kept(Policy(daily=3), snapshots, UTC_ZONE) == {2, 3, 4}


def test_the_oldest_is_kept_while_a_count_has_some_left() -> None:
    """Why "monthly = 4" may keep two snapshots of one month, at first."""
    snapshots = at("2026-02-03", "2026-02-17", "2026-02-28", "2026-03-01")
    assert told(Policy(monthly=4), snapshots) == [
        ("the oldest: monthly has 2 left",),
        ("-", "2026-02 has a newer snapshot"),
        ("one of the last 4 months that have a backup",),
        ("one of the last 4 months that have a backup",),
    ]
    assert kept(Policy(monthly=2), snapshots, UTC_ZONE) == {3, 4}


def test_one_of_a_kind_is_told_in_the_singular() -> None:
    assert told(Policy(last=1, yearly=1), at("2025-03-01", "2026-03-01")) == [
        ("-", "older than the last snapshot", "older than the last year that has a backup"),
        ("the last snapshot", "the last year that has a backup"),
    ]


def test_no_limit_keeps_one_of_each_period() -> None:
    snapshots = at("2024-01-01 01:00", "2024-01-01 02:00", "2025-06-01 02:30")
    assert told(Policy(daily=ALL), snapshots) == [
        ("the oldest: daily has no limit",),
        ("the newest of its day: daily has no limit",),
        ("the newest of its day: daily has no limit",),
    ]
    assert kept(Policy(last=ALL), snapshots, UTC_ZONE) == {1, 2, 3}


def test_each_rule_that_keeps_a_snapshot_is_told() -> None:
    policy = Policy(within=parse_span("2d"), last=1, hourly=1, weekly=1)
    assert told(policy, at("2026-03-01", "2026-03-02"))[1] == (
        "within 2 days of the newest snapshot",
        "the last snapshot",
        "the last hour that has a backup",
        "the last week that has a backup",
    )


def test_weeks_are_iso_weeks_and_belong_to_iso_years() -> None:
    """Monday 2024-12-30 to Sunday 2025-01-05 are one week; so are 2020-12-28 to 2021-01-03, the 53rd."""
    snapshots = at("2024-12-29", "2024-12-30", "2025-01-05", "2025-01-06")
    assert told(Policy(weekly=2), snapshots) == [
        ("-", "older than the last 2 weeks that have a backup"),
        ("-", "week 2025-W01 has a newer snapshot"),
        ("one of the last 2 weeks that have a backup",),
        ("one of the last 2 weeks that have a backup",),
    ]
    assert kept(Policy(weekly=2), at("2020-12-28", "2021-01-03", "2021-01-04"), UTC_ZONE) == {2, 3}


def test_a_leap_day_is_a_day() -> None:
    snapshots = at("2024-02-28", "2024-02-29", "2024-03-01")
    assert kept(Policy(daily=3), snapshots, UTC_ZONE) == {1, 2, 3}
    assert kept(Policy(monthly=2), snapshots, UTC_ZONE) == {2, 3}


def test_days_are_those_of_the_job_s_time_zone() -> None:
    """23:30 and 00:30 in Berlin are two days, in UTC one."""
    snapshots = at("2026-03-01 23:30", "2026-03-02 00:30", zone=BERLIN)
    assert kept(Policy(daily=1), snapshots, BERLIN) == {2}
    assert kept(Policy(daily=2), snapshots, BERLIN) == {1, 2}
    assert told(Policy(daily=1), snapshots, zone=UTC_ZONE)[0] == ("-", "2026-03-01 has a newer snapshot")


def test_the_hour_that_comes_twice_in_autumn_is_two_hours() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, and an hour later again
    snapshots = [Candidate(1, first), Candidate(2, first + timedelta(hours=1))]
    assert kept(Policy(hourly=2), snapshots, BERLIN) == {1, 2}
    assert told(Policy(hourly=2), snapshots, zone=BERLIN)[0] == (
        "one of the last 2 hours that have a backup",
    )
    assert kept(Policy(hourly=1), snapshots, BERLIN) == {2}


# Spans.


def test_a_span_counts_from_the_newest_snapshot() -> None:
    """Not from now: a machine that was off for a year keeps what it had."""
    snapshots = at("2026-01-30 02:30", "2026-01-30 02:31", "2026-03-01 02:30")
    assert told(Policy(within=parse_span("30d")), snapshots) == [
        ("-", "30 days or more before the newest snapshot"),
        ("within 30 days of the newest snapshot",),
        ("within 30 days of the newest snapshot",),
    ]


def test_a_span_with_periods_keeps_the_newest_of_each() -> None:
    snapshots = at("2026-01-31", "2026-02-01 01:00", "2026-02-01 02:00", "2026-03-01 01:30")
    assert told(Policy(within_daily=parse_span("1m")), snapshots) == [
        ("-", "1 month or more before the newest snapshot"),
        ("-", "1 month or more before the newest snapshot"),
        ("the newest of its day, within 1 month of the newest snapshot",),
        ("the newest of its day, within 1 month of the newest snapshot",),
    ]
    assert told(Policy(within_monthly=parse_span("1y")), snapshots)[1] == (
        "-",
        "2026-02 has a newer snapshot",
    )


def test_the_oldest_is_kept_while_the_history_is_shorter_than_the_span() -> None:
    snapshots = at("2026-02-01 01:00", "2026-02-01 02:00", "2026-02-01 03:00", "2026-03-01 01:30")
    assert told(Policy(within_daily=parse_span("29d")), snapshots)[:2] == [
        ("the oldest: within 29 days of the newest snapshot",),
        ("-", "2026-02-01 has a newer snapshot"),
    ]
    assert kept(Policy(within_daily=parse_span("28d")), snapshots, UTC_ZONE) == {3, 4}


# Tags and pins.


def test_tags_are_kept_and_counted() -> None:
    release, db = frozenset({"release"}), frozenset({"release", "db"})
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    snapshots = [
        Candidate(n, begin + timedelta(days=n), tags=tags) for n, tags in enumerate([release, db, db])
    ]
    policy = Policy(daily=1, tags=(frozenset({"release", "db"}), frozenset({"old"})))
    assert told(policy, snapshots) == [
        ("-", "not tagged db+release or old", "older than the last day that has a backup"),
        ("tagged db+release",),
        ("tagged db+release", "the last day that has a backup"),
    ]
    assert unknown_tags(policy, snapshots) == ["old"]


def test_a_pinned_snapshot_is_kept_and_counted() -> None:
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    snapshots = [Candidate(n, begin + timedelta(days=n), is_pinned=n != 1) for n in range(3)]
    assert told(Policy(last=1), snapshots) == [
        ("pinned",),
        ("-", "older than the last snapshot"),
        ("pinned", "the last snapshot"),
    ]


# Wrong dates.


def test_a_snapshot_from_the_future_is_kept_and_counted_nowhere() -> None:
    snapshots = at("2026-03-01", "2026-03-02", "2042-01-01", "2026-03-03")
    assert told(Policy(last=2, within=parse_span("1d")), snapshots, now=snapshots[3].started_at) == [
        ("-", "1 day or more before the newest snapshot", "older than the last 2 snapshots"),
        ("one of the last 2 snapshots",),
        ("dated in the future, 2042-01-01 02:30: no rule counts it",),
        ("within 1 day of the newest snapshot", "one of the last 2 snapshots"),
    ]


def test_five_minutes_ahead_are_no_future() -> None:
    snapshots = at("2026-03-01", "2026-03-02")
    almost = snapshots[1].started_at - timedelta(minutes=5)
    assert kept(Policy(last=1), snapshots, UTC_ZONE, almost) == {2}
    assert kept(Policy(last=1), snapshots, UTC_ZONE, almost - timedelta(seconds=1)) == {1, 2}


def test_a_snapshot_dated_a_year_back_takes_no_place_in_that_year() -> None:
    """It would be the newest of 2025-03-31, and push out the real one of that month."""
    snapshots = at("2025-03-31 02:30", "2026-03-29", "2026-03-30", "2025-03-31 20:00", "2026-04-01")
    assert told(Policy(monthly=3), snapshots) == [
        ("one of the last 3 months that have a backup",),
        ("-", "2026-03 has a newer snapshot"),
        ("one of the last 3 months that have a backup",),
        ("dated 2025-03-31 20:00, against the order of the snapshots: no rule counts it",),
        ("one of the last 3 months that have a backup",),
    ]


def test_a_clock_that_was_ahead_for_nights_is_outvoted_once_its_future_has_come() -> None:
    """When the year is over, the nights dated too late still count nowhere."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    dates = [begin + timedelta(days=n + (365 if 20 <= n < 30 else 0)) for n in range(500)]
    snapshots = [Candidate(n, date) for n, date in enumerate(dates)]
    assert kept(Policy(daily=3), snapshots, UTC_ZONE) == {*range(20, 30), 497, 498, 499}


def test_two_snapshots_of_which_either_may_be_wrong_are_both_kept() -> None:
    snapshots = at("2026-03-01", "2026-03-09", "2026-03-05", "2026-03-10", "2026-03-11")
    assert kept(Policy(last=1), snapshots, UTC_ZONE) == {2, 3, 5}


def test_a_clock_that_was_set_back_by_hours_leaves_the_order_of_numbers() -> None:
    """The snapshot that was made last stands for its day, though its date is the earlier one."""
    snapshots = at("2026-03-01 10:00", "2026-03-02 15:00", "2026-03-02 12:00", "2026-03-03 10:00")
    assert told(Policy(daily=2), snapshots)[1:3] == [
        ("-", "2026-03-02 has a newer snapshot"),
        ("one of the last 2 days that have a backup",),
    ]
    across = at("2026-03-01 10:00", "2026-03-02 01:00", "2026-03-01 23:00", "2026-03-02 20:00")
    assert kept(Policy(daily=2), across, UTC_ZONE) == {3, 4}


def test_a_pinned_snapshot_with_a_wrong_date_has_both_reasons() -> None:
    pinned = Candidate(2, LATER, is_pinned=True)
    decision = decide(
        Policy(last=1), [*at("2026-03-01"), pinned], now=LATER - timedelta(days=9), zone=UTC_ZONE
    )[1]
    assert decision.reasons == ("pinned", "dated in the future, 2100-01-01 00:00: no rule counts it")
    assert decision.is_misdated


# Partial snapshots.


def part(snapshots: list[Candidate], *numbers: int) -> list[Candidate]:
    """The same, and those of these numbers are partial."""
    return [
        Candidate(candidate.number, candidate.started_at, candidate.number not in numbers, candidate.tags)
        for candidate in snapshots
    ]


def test_a_partial_snapshot_stands_for_a_day_only_without_a_whole_one() -> None:
    snapshots = part(at("2026-03-01 01:00", "2026-03-01 02:00", "2026-03-02", "2026-03-03"), 2, 3)
    assert told(Policy(daily=3), snapshots)[:3] == [
        ("one of the last 3 days that have a backup",),
        ("-", "2026-03-01 has a newer or a whole snapshot"),
        ("one of the last 3 days that have a backup",),
    ]


def test_the_newest_snapshot_stays_even_if_a_whole_one_stands_for_its_day() -> None:
    snapshots = part(at("2026-03-01 01:00", "2026-03-01 02:00", "2026-03-01 03:00"), 2, 3)
    assert told(Policy(daily=1), snapshots) == [
        ("the last day that has a backup",),
        ("-", "2026-03-01 has a newer or a whole snapshot"),
        ("the newest snapshot: always kept",),
    ]


def test_partial_nights_do_not_push_out_the_last_whole_ones() -> None:
    snapshots = part(at(*(f"2026-03-{day:02}" for day in range(1, 9))), 4, 5, 6, 7, 8)
    assert told(Policy(last=2), snapshots)[1:4] == [
        ("one of the last 2 whole snapshots",),
        ("one of the last 2 whole snapshots",),
        ("-", "older than the last 2 snapshots"),
    ]
    assert told(Policy(within=parse_span("2d")), snapshots)[0:2] == [
        ("-", "2 days or more before the newest whole snapshot"),
        ("within 2 days of the newest whole snapshot",),
    ]


def test_the_last_whole_snapshot_is_always_kept() -> None:
    """A week of partial days would use up the count."""
    snapshots = part(at(*(f"2026-03-{day:02}" for day in range(1, 9))), 3, 4, 5, 6, 7, 8)
    assert told(Policy(daily=6), snapshots)[:2] == [
        ("-", "older than the last 6 days that have a backup"),
        ("the last whole snapshot: always kept",),
    ]


# No policy, and one that would keep nothing.


def test_without_a_policy_nothing_is_forgotten() -> None:
    decisions = decide(None, at("2026-03-02", "2020-01-01"), now=LATER, zone=UTC_ZONE)
    assert decisions == tuple(Decision(number, True, ("there is no policy",)) for number in (1, 2))


def test_a_policy_without_rules_is_refused() -> None:
    with pytest.raises(ConfigError, match="would keep nothing"):
        decide(Policy(), [], now=LATER, zone=UTC_ZONE)
    with pytest.raises(ConfigError, match="counts of 0 or more"):
        Policy(daily=-1)
    with pytest.raises(ConfigError, match="not empty"):
        Policy(tags=(frozenset(),))


def test_a_tag_that_no_snapshot_has_does_not_forget_everything() -> None:
    policy = Policy(tags=(frozenset({"relaese"}),))
    with pytest.raises(ConfigError, match=r"no rule of this policy \(tagged relaese\) keeps any of these 2"):
        decide(policy, at("2026-03-01", "2026-03-02"), now=LATER, zone=UTC_ZONE)
    assert kept(policy, at("2026-03-01"), UTC_ZONE) == {1}
    assert decide(policy, [], now=LATER, zone=UTC_ZONE) == ()


def test_a_number_that_comes_twice_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="same number"):
        decide(Policy(last=1), [*at("2026-03-01"), *at("2026-03-02")], now=LATER, zone=UTC_ZONE)


def test_a_policy_in_words() -> None:
    policy = Policy(within=parse_span("30d"), weekly=8, monthly=ALL, within_daily=parse_span("1y6m"))
    assert str(policy) == "all within 30 days, 8 weekly, all monthly, daily within 1 year 6 months"
