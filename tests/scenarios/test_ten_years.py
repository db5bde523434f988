"""Years of nights in minutes: no run is lost, what is kept comes back, what is due goes, the bill fits."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.books import NOBODY, RESTORES
from tests.scenarios.machine import KINDS, WorldClock, prepare, unpack
from tests.scenarios.story import START, Story, begin
from tests.support import campaigns
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.renewals import renewal_site

pytestmark = pytest.mark.slow

RENEWED = "glacier"
"""The server with a certificate: three of them would show the same."""

YEARS = campaigns.share("NIGHTVAULT_YEARS", 1)
A_YEAR = 1800  # seconds, on a busy machine
RECORD = os.environ.get("NIGHTVAULT_YEARS_RECORD", "")
BALANCE = 9
"""After so many quarters an inventory has removed old runs, kept forty backups, and seen a year with both."""
FLAT = Decimal("1.03")  # by so much its file may be larger later than it ever was until then
MOST_OLD_RUNS = 30  # that something needs
ROUNDED = Decimal("0.000001")  # dollars: what is foretold and what is charged are rounded to it


@pytest.mark.parametrize("kind", KINDS)
def test_years_of_nights(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulthandler.dump_traceback_later(YEARS * A_YEAR, exit=True)  # later than that of other tests
    unpack(tmp_path)
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "emulator", accounts) as emulator, ExitStack() as more:
        clock = WorldClock(START, emulator if kind != "directory" else None)
        prepare(monkeypatch, clock)
        identity = None
        if kind == RENEWED:
            (tmp_path / "renewed").mkdir()
            identity = more.enter_context(renewal_site(tmp_path / "renewed", clock=clock))
        story = begin(tmp_path, kind, YEARS, emulator, clock, identity)
        story.money.begin()
        story.after_year = record
        gc.freeze()  # after each run cycles are looked for: among what the nights made, not among all modules
        story.live()
        result = record(story)
    assert_holds(story, result)


def record(story: Story) -> Mapping[str, Any]:
    """What there is to tell until now, kept if somebody wants it."""
    found = {**story.result(), "wrong": story.archives.wrong}
    if RECORD:
        Path(RECORD, f"{story.kind}.json").write_text(json.dumps(found, indent=1) + "\n")
    return found


def assert_holds(story: Story, result: Mapping[str, Any]) -> None:
    """No run is lost or doubled, the bill is what was foretold, inventories in balance grow no more."""
    assert not story.archives.wrong, "\n".join(story.archives.wrong)
    assert result["refused"] == 0
    for task in story.machine.times:
        runs = story.runs_of(task)
        assert not runs.lost, f"{task}: {runs}"
        assert not runs.doubled, f"{task}: {runs}"
    for first, end in pairwise([*story.begun, len(result["inventory"])]):
        sizes = result["inventory"][first:end]
        most = max(sizes[:BALANCE]) * FLAT
        assert max(sizes) <= most, f"the inventory of quarters {first} to {end} grows: {sizes}"
    assert max(result["old_runs"]) <= MOST_OLD_RUNS, f"old runs are remembered: {result['old_runs']}"
    assert not story.money.beside[NOBODY], "something was charged that nobody asked for"
    every = [("money", *picture) for picture in result["money"].items()]
    every += [("money_of_all", *picture) for picture in result["money_of_all"].items()]
    for key, part, money in every:
        foretold, charged = Decimal(money["foretold"]), Decimal(money["charged"])
        # A quote counts eight days of a copy; it lies for seven, less the twelve hours until it is made.
        least = Decimal("0.8125") if part == "copies" else Decimal("0.99")
        most = Decimal("1.01")
        if (key, part) == ("money_of_all", "copies"):  # with those of drills, in proportion to what they read
            restores = story.money.charged[RESTORES]
            most *= (restores + story.money.beside["drill"]) / (restores or 1)
        bounds = foretold * least - ROUNDED, foretold * most + ROUNDED
        assert bounds[0] <= charged <= bounds[1], f"{part}: {money}"
