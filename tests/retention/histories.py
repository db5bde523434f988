"""Histories and policies for the tests of retention, made by Hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from backup.retention.history import Candidate
from backup.retention.policy import ALL, Policy, decide
from backup.retention.spans import NO_SPAN, Span

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = st.sampled_from(
    [
        ZoneInfo(name)
        for name in ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
    ]
)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
"""A moment at which no snapshot of these histories is in the future."""
_GAPS = st.one_of(
    st.integers(0, 3 * 60),
    st.integers(60, 3 * 24 * 60),
    st.just(24 * 60),
    st.integers(24 * 60, 100 * 24 * 60),
)


def moments(least: int = 1, most: int = 60) -> st.SearchStrategy[list[datetime]]:
    """Dates of snapshots in their order, with gaps of minutes to months."""
    begin = st.datetimes(datetime(2015, 1, 1), datetime(2027, 12, 31))  # noqa: DTZ001

    def dates(drawn: tuple[datetime, list[int]]) -> list[datetime]:
        at, found = drawn[0].replace(second=0, microsecond=0, tzinfo=UTC), []
        for gap in drawn[1]:
            at += timedelta(minutes=gap)
            found.append(at)
        return found

    return st.tuples(begin, st.lists(_GAPS, min_size=least, max_size=most)).map(dates)


def whole(dates: Sequence[datetime]) -> list[Candidate]:
    """Whole snapshots of these dates, numbered in their order."""
    return [Candidate(number, date) for number, date in enumerate(dates, 1)]


_TAGS = st.sampled_from(
    [frozenset[str](), frozenset({"release"}), frozenset({"db"}), frozenset({"release", "db"})]
)
_KINDS = st.tuples(st.booleans(), _TAGS, st.sampled_from([False] * 5 + [True]))


@st.composite
def mixed(draw: st.DrawFn) -> list[Candidate]:
    """Snapshots of right dates, some of them partial, tagged or pinned."""
    dates = draw(moments(most=25))
    kinds = draw(st.lists(_KINDS, min_size=len(dates), max_size=len(dates)))
    return [
        Candidate(3 * number, date, *kind)
        for number, (date, kind) in enumerate(zip(dates, kinds, strict=True), 1)
    ]


_COUNTS = st.one_of(st.just(0), st.integers(0, 12), st.just(ALL))
_SPANS = st.one_of(
    st.just(NO_SPAN),
    st.builds(
        Span,
        years=st.integers(0, 2),
        months=st.integers(0, 14),
        weeks=st.integers(0, 9),
        days=st.integers(0, 40),
        hours=st.integers(0, 30),
    ),
)
_NAMES = ("hourly", "daily", "weekly", "monthly", "yearly")
POLICIES = st.builds(
    Policy,
    last=_COUNTS,
    within=_SPANS,
    tags=st.sampled_from([(), (), (frozenset({"release"}),), (frozenset({"release", "db"}),)]),
    **dict.fromkeys(_NAMES, _COUNTS),
    **dict.fromkeys([f"within_{name}" for name in _NAMES], _SPANS),
).filter(lambda policy: not policy.is_empty and policy != Policy(tags=policy.tags))
"""Policies with a rule that is not about tags alone, which may keep nothing."""


def kept(policy: Policy, candidates: Sequence[Candidate], zone: ZoneInfo, now: datetime = LATER) -> set[int]:
    """The numbers of the snapshots that stay."""
    return {
        decision.number for decision in decide(policy, candidates, now=now, zone=zone) if decision.is_kept
    }
