"""A policy beside Debian's restic: the same snapshots stay, but for what docs/retention.md tells."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from backup.retention.history import Candidate
from backup.retention.policy import Policy
from backup.retention.spans import Span
from tests.retention.histories import kept
from tests.retention.restic import Past, Restic, ask_all, digits, installed, read_answers

ALL_PAIRS = int(os.environ.get("NIGHTVAULT_RESTIC_POLICIES", "0"))
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def ours(policy: Policy, past: Past) -> str:
    numbers = kept(policy, past.snapshots, ZoneInfo(past.zone), NOW)
    return "".join("1" if one.number in numbers else "0" for one in past.snapshots)


def assert_as_restic(policy: Policy, past: Past, theirs: str) -> None:
    """The same; where spans of months begin on a day that a month lacks, at least the same."""
    found = ours(policy, past)
    if past.is_at_a_months_end and _has_months(policy):
        assert all(our >= their for our, their in zip(found, theirs, strict=True)), (policy, past.host)
    else:
        assert found == theirs, (policy, past.host)


def _has_months(policy: Policy) -> bool:
    spans = [getattr(policy, name) for name in Policy.__slots__ if name.startswith("within")]
    return any(span.months or span.years for span in spans)


def test_what_restic_answered_to_more_than_500_policies_and_histories() -> None:
    judged = 0
    for policy, past, theirs in read_answers():
        assert_as_restic(policy, past, theirs)
        judged += 1
    assert judged >= 500


def test_the_histories_show_the_difference_of_months() -> None:
    """Some of them lose to restic what a calendar's month keeps; none is left out for no reason."""
    answers = list(read_answers())
    set_apart = [one for one in answers if one[1].is_at_a_months_end and _has_months(one[0])]
    assert 0 < len(set_apart) < len(answers) / 10


@pytest.mark.parametrize("ahead", [timedelta(days=365), timedelta(days=9000)])
def test_the_same_with_a_snapshot_from_the_future(ahead: timedelta) -> None:
    """restic would count it; beside it we keep what restic keeps without it."""
    for policy, past, theirs in list(read_answers())[::7]:
        future = Candidate(99, NOW + ahead)
        seen = replace(past, snapshots=(*past.snapshots[:5], future, *past.snapshots[5:]))
        if not (past.is_at_a_months_end and _has_months(policy)):
            assert ours(policy, seen) == f"{theirs[:5]}1{theirs[5:]}"


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason="restic is not installed")
def test_restic_itself_still_answers_so(tmp_path: Path) -> None:
    """Two short histories; all of them with NIGHTVAULT_RESTIC_POLICIES=576."""
    if ALL_PAIRS:
        judged = 0
        for policy, past, theirs in ask_all(tmp_path, ALL_PAIRS):
            assert_as_restic(policy, past, theirs)
            judged += 1
        assert judged >= ALL_PAIRS
        return
    begin = datetime(2024, 12, 27, 1, 30, tzinfo=UTC)
    zone = "Europe/Berlin"
    nights = tuple(Candidate(n, begin + timedelta(days=n)) for n in range(6))
    weeks = tuple(Candidate(n, begin + timedelta(days=6 * n)) for n in range(4))
    known = [Past("nights", zone, nights), Past("weeks", zone, weeks)]
    restic = Restic(tmp_path, zone)
    restic.make(known)
    for policy in (
        Policy(weekly=2, last=1),
        Policy(daily=3, yearly=2),
        Policy(within=Span(days=3), monthly=4),
    ):
        answer = restic.kept(policy)
        for past in known:
            assert ours(policy, past) == digits(past, answer[past.host])
