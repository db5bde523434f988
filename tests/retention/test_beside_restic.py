"""A policy beside Debian's restic: the same snapshots stay, but for what docs/retention.md tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from backup.retention.history import Candidate
from backup.retention.policy import Policy
from backup.retention.spans import Span
from tests.retention.histories import kept
from tests.retention.restic import Past, Restic, ask_all, digits, installed, read_answers
from tests.support import campaigns

ALL_PAIRS = campaigns.share("NIGHTVAULT_RESTIC_POLICIES", 0)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def ours(policy: Policy, past: Past) -> str:
    numbers = kept(policy, past.snapshots, ZoneInfo(past.zone), NOW)
    return "".join("1" if candidate.number in numbers else "0" for candidate in past.snapshots)


def test_what_restic_answered_to_more_than_500_policies_and_histories() -> None:
    judged = 0
    for policy, past, theirs in read_answers():
        assert ours(policy, past) == theirs, (policy, past.host)
        judged += 1
    assert judged >= 500


@pytest.mark.parametrize("ahead", [timedelta(days=365), timedelta(days=9000)])
def test_the_same_with_a_snapshot_from_the_future(ahead: timedelta) -> None:
    """restic would count it; beside it we keep what restic keeps without it."""
    for policy, past, theirs in list(read_answers())[::7]:
        future = Candidate(99, NOW + ahead)
        seen = replace(past, snapshots=(*past.snapshots[:5], future, *past.snapshots[5:]))
        assert ours(policy, seen) == f"{theirs[:5]}1{theirs[5:]}"


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(not installed(), reason="restic is not installed")
def test_restic_itself_still_answers_so(tmp_path: Path) -> None:
    """Three short histories, and a month that begins on a day that there is not: 31 February.

    With NIGHTVAULT_RESTIC_POLICIES=576 all histories and policies.
    """
    if ALL_PAIRS:
        judged = 0
        for policy, past, theirs in ask_all(tmp_path, ALL_PAIRS):
            assert ours(policy, past) == theirs, (policy, past.host)
            judged += 1
        assert judged >= ALL_PAIRS
        return
    zone, begin = "Europe/Berlin", datetime(2024, 12, 28, 1, 30, tzinfo=UTC)
    known = [
        Past(name, zone, _every(begin, days))
        for name, days in (("nights", (0, 1, 2, 3)), ("weeks", (0, 6, 12)))
    ]
    march = Past("march", zone, _every(datetime(2026, 3, 2, 2, tzinfo=UTC), (0, 29)))
    restic = Restic(tmp_path, zone)
    restic.make([*known, march])
    month = Policy(within=Span(months=1))
    for policy in (Policy(weekly=2, last=1), Policy(daily=2, yearly=2), month):
        answer = restic.kept(policy)
        for past in known:
            assert ours(policy, past) == digits(past, answer[past.host])
    assert (ours(month, march), digits(march, answer["march"])) == ("11", "01")


def _every(begin: datetime, days: tuple[int, ...]) -> tuple[Candidate, ...]:
    return tuple(Candidate(day + 1, begin + timedelta(days=day)) for day in days)
