"""Simulated nights: what the policy decides night by night, in a picture and a table for people."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import UsageError
from backup.retention.picture import picture
from backup.retention.policy import ALL, Candidate, Policy, decide
from backup.retention.simulate import Simulation, simulate
from backup.retention.table import COLUMNS, kept_list, table
from backup.schedule import parse_schedule
from tests.retention.histories import BERLIN, POLICIES
from tests.retention.year_picture import PICTURE, PROPOSED, simulated

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def year() -> Simulation:
    return simulated()


# What is kept.


@settings(max_examples=6)
@given(POLICIES, st.sampled_from(["0 23 * * 1", "every 5d", "30 2 29 * *", "0 12 */3 * *"]))
def test_a_simulation_is_what_the_policy_decides_each_night(policy: Policy, text: str) -> None:
    found = simulated(policy, text)
    staying: list[Candidate] = []
    for night, at in enumerate(found.nights):
        staying.append(Candidate(night, at))
        decisions = decide(policy, staying, now=at, zone=BERLIN)
        staying = [candidate for candidate, told in zip(staying, decisions, strict=True) if told.is_kept]
        assert found.kept_after(night) == [candidate.number for candidate in staying]
    again = {
        decision.number: decision.reasons
        for decision in decide(policy, staying, now=found.nights[-1], zone=BERLIN)
    }
    assert {stay.night: stay.reasons for stay in found.at_the_end.kept if stay.reasons} == {
        number: reasons for number, reasons in again.items() if "always kept" not in reasons[0]
    }


def test_looks_are_at_the_ends_of_months(year: Simulation) -> None:
    nights = [year.local(look.night) for look in year.looks]
    assert [(night.month, (night + timedelta(days=1)).day) for night in nights] == [
        (n, 1) for n in range(1, 13)
    ]
    for look in year.looks:
        assert [stay.night for stay in look.kept] == year.kept_after(look.night)


def test_three_years_of_nights_take_no_three_seconds() -> None:
    began = time.process_time()
    found = simulated(years=3)
    assert time.process_time() - began < 3
    assert len(found.nights) == 1096
    assert 44 <= len(found.at_the_end.kept) <= 30 + 8 + 12 + 3
    assert found.forgotten_after[0] is not None
    assert found.local(found.at_the_end.kept[0].night).date().isoformat() == "2026-12-31"


def test_looks_of_many_years_are_further_apart() -> None:
    found = simulated(Policy(yearly=ALL), "0 0 1 * *", years=25)
    assert len(found.nights) == 299
    assert len(found.looks) <= 37
    assert [found.local(stay.night).month for stay in found.at_the_end.kept].count(12) == 25


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(UsageError, match="no rule about time"):
        simulated(Policy(tags=(frozenset({"release"}),)))
    with pytest.raises(UsageError, match="more than 30000 times in 1 year"):
        simulated(text="every 1m")
    with pytest.raises(UsageError, match="is never due in 1 year"):
        simulated(text="0 0 29 2 *")


def test_a_simulation_may_begin_on_a_leap_day() -> None:
    schedule = parse_schedule("every 30d", "UTC")
    found = simulate(PROPOSED, schedule, begin=datetime(2024, 2, 29, tzinfo=UTC), years=1)
    assert found.nights[0] == datetime(2024, 2, 29, tzinfo=UTC)
    assert len(found.nights) == 13


# How it is shown.


def marks(text: str) -> dict[float, int]:
    """The number of marks with a hint in each row, by the row's height in the picture."""
    found: dict[float, int] = {}
    for mark in ET.fromstring(text).iter(f"{SVG}rect"):
        if mark.find(f"{SVG}title") is not None:
            found[float(mark.attrib["y"])] = found.get(float(mark.attrib["y"]), 0) + 1
    return found


def test_the_picture_says_what_it_shows_and_needs_no_script(year: Simulation) -> None:
    drawn = picture(year)
    root = ET.fromstring(drawn)
    assert root.attrib["role"] == "img"
    named = {
        element.attrib["id"]: element.text for element in root if element.tag in (f"{SVG}title", f"{SVG}desc")
    }
    assert set(root.attrib["aria-labelledby"].split()) == set(named)
    assert named["title"] == 'Kept of "daily at 02:30": all within 30 days, 8 weekly, 12 monthly, 3 yearly'
    assert f"At the end {len(year.at_the_end.kept)} of 365 are kept" in str(named["description"])
    assert "prefers-color-scheme: dark" in drawn
    assert not re.search(r"<script|\son\w+=|href|url\(|@import", drawn)
    assert len(marks(drawn)) == len(year.looks)


def test_every_kept_night_is_in_the_picture(year: Simulation) -> None:
    """As the hints of the marks have it: those of a run say how many nights it is."""
    hints = [str(element.text) for element in ET.fromstring(picture(year)).iter(f"{SVG}title")][1:]
    nights = sum(int(match[1]) if (match := re.match(r"(\d+) nights, ", hint)) else 1 for hint in hints)
    assert nights == sum(len(look.kept) for look in year.looks)


def test_words_of_a_policy_cannot_break_the_picture() -> None:
    policy = Policy(last=1, tags=(frozenset({'<b a="1">&'}),))
    assert ET.fromstring(picture(simulated(policy, "0 0 1 3 *"))) is not None


def test_the_table_fits_80_columns(year: Simulation) -> None:
    shown = table(year).splitlines()
    assert max(map(len, shown)) <= COLUMNS
    assert shown[3] == "2026-01-31     31  2026-01-01   ###+"
    assert shown[14] == "2026-12-31     45  2026-01-01   .  .   .   .   .   .   .   .   .   .   ...++###"
    listed = kept_list(year)
    assert max(map(len, listed.splitlines())) <= COLUMNS
    assert len(re.findall(r"^2026-", listed, re.MULTILINE)) == len(year.at_the_end.kept)
    assert listed.endswith("45 of 365 are kept\n")


def test_one_night_alone_can_be_shown() -> None:
    alone = simulated(text="0 0 1 3 *")
    assert len(marks(picture(alone))) == 1
    assert "2026-03-01      1  2026-03-01   " + "#" in table(alone)


def test_the_picture_of_the_page_is_what_is_drawn(year: Simulation) -> None:
    """`.venv/bin/python -m tests.retention.year_picture` draws it anew."""
    assert PICTURE.read_text(encoding="utf-8") == picture(year)
