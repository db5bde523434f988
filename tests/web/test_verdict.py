"""The answer in large letters: well only if every job's newest night was."""

from __future__ import annotations

from datetime import date

import pytest
from msgspec.structs import replace

from backup.app.status.parts import Level
from backup.web.pages.archives import months
from backup.web.pages.overview import HostCard, Overview, verdict
from backup.web.pages.thirty_nights import NightCell, NightOutcome
from backup.web.texts import Texts
from tests.web.believable import the_overview
from tests.web.believable_plans import the_money

ENGLISH = Texts("en")


def after(*outcomes: NightOutcome, level: Level | None = None) -> Overview:
    """A good day, but for the newest nights of one job."""
    well = the_overview("www", well=True)
    first, *others = well.hosts[0].jobs
    nights = [NightCell(date(2026, 11, 1 + n), outcome) for n, outcome in enumerate(outcomes)]
    jobs = [replace(first, nights=nights), *others]
    return replace(well, level=level, hosts=[HostCard("web1", None, jobs)])


@pytest.mark.parametrize("outcome", [NightOutcome.FAILED, NightOutcome.MISSED, NightOutcome.INTERRUPTED])
def test_it_is_not_well_once_a_newest_night_went_wrong(outcome: NightOutcome) -> None:
    for nights in ([outcome], [outcome, NightOutcome.NONE], [outcome, NightOutcome.RUNNING]):
        found = verdict(after(NightOutcome.DONE, *nights, level=Level.WARNING), ENGLISH)
        assert (found.kind, found.title) == ("bad", "Not all is well")
        assert "The newest night of www went wrong." in found.told


def test_what_was_made_good_is_well_again() -> None:
    assert verdict(after(NightOutcome.FAILED, NightOutcome.DONE), ENGLISH).title == "All is well"
    assert verdict(after(NightOutcome.PARTIAL, level=Level.WARNING), ENGLISH).title == "Well, with a warning"
    assert verdict(after(NightOutcome.DONE, level=Level.CRITICAL), ENGLISH).title == "Not all is well"


def test_twelve_months_stand_beside_each_other_also_empty_ones() -> None:
    money = the_money("www")
    one = [line for line in money.months if line.month == "2026-02"]
    found = months(replace(money, months=one), ENGLISH)
    assert found is not None
    assert found.labels == [f"25-{n:02}" for n in range(3, 13)] + ["26-01", "26-02"]
    assert months(replace(money, months=[]), ENGLISH) is None
