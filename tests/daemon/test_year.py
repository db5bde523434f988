"""A year of nights as a law: whatever happens to the machine, each night that can be run is run once.

The board decides, by a clock that jumps from one moment that matters to the next; runs take time, fail, are
cut off. When nights are is found here in another way than the daemon does, minute by minute of the zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from backup.app.tasks.times import NEAR, SLACK
from backup.schedule import CatchUp
from tests.daemon.machine import USUAL, Event, Machine, able
from tests.support import campaigns
from tests.support.daemons import task

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
YEARS = campaigns.share("NIGHTVAULT_TEST_YEARS", 10)
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Pacific/Chatham", "Africa/Cairo"]
RETRY = (10 * MINUTE, HOUR, 3 * HOUR)
UNSET = 12 * MINUTE  # how long a clock may be unset after a start
WALL = time(2, 30)


@cache
def nights(zone: str) -> list[datetime]:
    """The moments at which a clock in the zone first shows 02:30 or later, of each day of a year."""
    here = ZoneInfo(zone)
    return [_first_minute(date(2026, 1, 10) + n * DAY, here) for n in range(366)]


def _first_minute(day: date, here: ZoneInfo) -> datetime:
    moment = datetime.combine(day, WALL, here).astimezone(UTC) - 3 * HOUR
    while True:
        local = moment.astimezone(here)
        if local.date() == day and local.time() >= WALL:
            return moment
        moment += MINUTE


KINDS = ["off", "kill", "stop", "sleep", "away", "slow", "pause", "cut after the end"]
until_near_a_night = st.tuples(st.integers(1, 3), st.integers(-45, 45))  # nights later, minutes from that
Drawn = tuple[str, int, int, int | tuple[int, int], int]
events = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 364),  # near which night
        st.one_of(st.integers(0, 12), st.integers(-90, 400)),  # minutes from it, also while it is run
        st.one_of(st.integers(1, 90), st.integers(60, 1500), st.integers(1500, 7000), until_near_a_night),
        st.sampled_from([0, 0, 1, 7, 12]),
    ),
    max_size=30,
)


def placed(drawn: Sequence[Drawn], zone: str) -> list[Event]:
    """The events in order; one that would begin before another has ended is left out."""
    found: list[Event] = []
    for kind, night, after, lasts, unset in sorted(drawn, key=lambda row: (row[1], row[2])):
        begin = nights(zone)[night] + after * MINUTE
        if not found or begin > found[-1].end + found[-1].unset + MINUTE:
            if kind == "kill":
                end = begin + MINUTE
            elif isinstance(lasts, int):
                end = begin + lasts * MINUTE
            else:
                end = nights(zone)[min(night + lasts[0], 365)] + lasts[1] * MINUTE
            if end <= begin:
                continue
            found.append(Event(kind, begin, end, (unset if kind == "off" else 0) * MINUTE))
    return found


def a_year(zone: str, jitter: timedelta, catch_up: CatchUp, happens: Sequence[Event]) -> Machine:
    of = task(
        name="nightly", schedule="daily at 02:30", zone=zone, jitter=jitter, catch_up=catch_up, retry=RETRY
    )
    machine = Machine(of, happens, nights(zone)[0] - 5 * HOUR)
    machine.live(nights(zone)[-1])
    return machine


@settings(
    max_examples=YEARS,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink a year takes long, and says no more
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    st.sampled_from(ZONES),
    st.sampled_from([timedelta(), 90 * MINUTE]),
    st.sampled_from([CatchUp.ONCE, CatchUp.ONCE, CatchUp.SKIP]),
    events,
)
@example("Europe/Berlin", timedelta(), CatchUp.ONCE, [])
@example("America/New_York", 90 * MINUTE, CatchUp.ONCE, [])
@example("Australia/Lord_Howe", timedelta(), CatchUp.SKIP, [])
@example("UTC", timedelta(), CatchUp.ONCE, [("sleep", 9, -60, (2, -20), 0)])
@example("UTC", timedelta(), CatchUp.ONCE, [("off", 9, 7, 50, 1), ("slow", 363, 12, (2, 43), 0)])
@example("UTC", timedelta(), CatchUp.ONCE, [("off", 9, 5, (2, -20), 0), ("away", 20, -9, (1, -35), 0)])
def test_each_night_that_can_be_run_is_run_once(
    zone: str, jitter: timedelta, catch_up: CatchUp, drawn: Sequence[Drawn]
) -> None:
    machine = a_year(zone, jitter, catch_up, placed(drawn, zone))
    good = [attempt.began for attempt in machine.attempts if attempt.outcome == "done"]
    failed = [attempt.began for attempt in machine.attempts if attempt.outcome == "failed"]
    need = jitter + RETRY[-1] + 2 * USUAL + 5 * MINUTE
    for begin, end in zip(nights(zone), nights(zone)[1:]):  # noqa: B905
        here = [night for night in good if begin <= night < end]
        tries = [night for night in failed if begin <= night < end]
        assert len(here) <= 1, f"twice in the night of {begin}: {here}"
        assert len(tries) <= 1 + len(RETRY), f"tried too often in the night of {begin}: {tries}"
        free = [(a, b) for a, b in able(machine, begin, end) if b - a >= need]
        if catch_up is CatchUp.SKIP:
            free = [(a, b) for a, b in free if a == begin]
        if free and len(tries) <= len(RETRY) and not _was_cut_often(machine, free[0][0]):
            assert here, f"not in the night of {begin}, although it could from {free[0][0]}"
    for event in machine.events:
        if event.kind in {"sleep", "off"} and event.end - event.begin >= HOUR:
            woken = [night for night in good if event.end <= night < event.end + min(NEAR, SLACK)]
            assert len(woken) <= 1, f"two runs after waking at {event.end}: {woken}"
    if catch_up is CatchUp.SKIP:
        for before, attempt in pairwise(machine.attempts):
            late = attempt.began - max(begin for begin in nights(zone) if begin <= attempt.began)
            assert before.outcome != "done" or late <= jitter + SLACK + MINUTE, (
                "it made up for what was missed"
            )
    if not machine.events:
        assert len(good) == len(nights(zone)) - 1
        assert all(begin <= ran <= begin + jitter + MINUTE for begin, ran in zip(nights(zone), good))  # noqa: B905


def _was_cut_often(machine: Machine, moment: datetime) -> bool:
    """Whether more attempts in a row were cut off than go on at once: then it is as after a failure."""
    before = [attempt.outcome for attempt in machine.attempts if attempt.began < moment]
    return before[-4:].count("cut") == 4
