"""What a month allows: the law holds for clocks that jump, crashes, and two processes at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.driller import budget
from backup.driller.context import DrillContext
from backup.driller.money import MILLIONTHS, first_of, millionths, spent
from backup.errors import MonthSpentError
from backup.inventory.records import drills, runs
from backup.inventory.records.drills import Charge, month_of
from backup.inventory.records.readings import Grade
from backup.inventory.store.database import open_inventory
from backup.kinds import Outcome
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.drills import drill_world

NOV = month_of(datetime(2026, 11, 26, tzinfo=UTC))
LIMIT = 100
_names = count()


class CrashError(Exception):
    """The process ends here."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("money")
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), clock)
    vault.create()
    (folder / "source").mkdir()
    (folder / "source" / "a").write_text("alpha")
    site = Site.create(folder / "state", vault, [folder / "source"], clock=clock)
    site.backup()
    yield site
    site.close()


def world(site: Site, name: str) -> DrillContext:
    return drill_world(site, files=1, limit=str(Decimal(LIMIT) / MILLIONTHS), name=name)


def begin(context: DrillContext, cost: int, *, crashes: bool = False) -> int | None:
    """Record a drill; whether it was allowed."""
    now = context.clock.now()
    try:
        with context.inventory.writing() as tx:
            run = budget.begin(tx, context, Grade.READ_BACK, cost, now)
            if crashes:
                raise CrashError
    except (MonthSpentError, CrashError):
        return None
    return run.number


def end(context: DrillContext, run: int) -> None:
    with context.inventory.writing() as tx:
        runs.finish_run(tx, run, Outcome.DONE, {"drill": context.name}, context.clock.now())


def test_months() -> None:
    assert first_of(NOV) == datetime(2026, 11, 1, tzinfo=UTC)
    assert first_of(NOV + 1) == datetime(2026, 12, 1, tzinfo=UTC)
    assert first_of(NOV + 2) == datetime(2027, 1, 1, tzinfo=UTC)
    new_york = datetime.fromisoformat("2026-10-31T23:30:00-05:00")
    assert month_of(new_york) == NOV, "months are those of UTC"
    assert millionths(Decimal("0.0000001")) == 1, "rounded up"


def test_what_counts() -> None:
    charges = [Charge(1, NOV - 1, 5), Charge(2, NOV, 7), Charge(3, NOV + 1, 11), Charge(4, NOV + 9, 13)]
    assert spent(charges, NOV, lambda _run: False) == 31, "what is dated later may be of now"
    assert spent(charges, NOV, lambda run: run == 4) == 18
    assert spent(charges, NOV - 1, lambda run: run > 2) == 5 + 7


STEPS = st.lists(
    st.tuples(
        st.integers(-2, 3),  # the month that the clock shows
        st.sampled_from(["drill", "drill", "crash", "backup"]),
        st.integers(0, 70),
    ),
    max_size=14,
)


@settings(max_examples=120, deadline=None)
@given(STEPS)
@example([(2, "drill", 60), (0, "drill", 60), (2, "drill", 60)])
@example([(0, "drill", 60), (1, "drill", 60), (0, "drill", 60), (1, "backup", 0), (1, "drill", 60)])
def test_no_month_that_the_clock_shows_costs_more(site: Site, steps: list[tuple[int, str, int]]) -> None:
    """And what the clock dated ahead counts as long as no later run shows that it is over."""
    context = world(site, f"drill-{next(_names)}")
    allowed: list[tuple[int, int, int]] = []  # place in time, month shown, cost
    dates: list[int] = []  # the month that the clock showed at each run
    for shown, what, cost in steps:
        clock = ManualClock(first_of(NOV + shown) + timedelta(days=3))
        at = drill_world_at(context, clock)
        if what == "backup":
            with site.inventory.writing() as tx:
                runs.open_check(tx, clock.now())
            dates.append(shown)
            continue
        counted = sum(
            price
            for place, month, price in allowed
            if month == shown or (month > shown and not any(date < shown for date in dates[place + 1 :]))
        )
        run = begin(at, cost, crashes=what == "crash")
        assert (run is not None) == (what == "drill" and counted + cost <= LIMIT)
        if run is not None:
            allowed.append((len(dates), shown, cost))
            dates.append(shown)
    for month in {shown for _, shown, _ in allowed}:
        assert sum(cost for _, shown, cost in allowed if shown == month) <= LIMIT


def drill_world_at(context: DrillContext, clock: ManualClock) -> DrillContext:
    return replace(context, clock=clock)


def test_two_processes_share_the_month(site: Site, tmp_path: Path) -> None:
    """Eight begin at once, each from an inventory of its own: no more than fit are allowed."""
    name, gate, allowed = f"drill-{next(_names)}", threading.Barrier(8), []

    def one() -> None:
        folder = site.folder
        inventory = open_inventory(f"sqlite:///{folder}/inventory.sqlite", lock_directory=str(folder))
        context = world(site, name)
        context = replace(context, inventory=inventory)
        gate.wait()
        allowed.append(begin(context, 30))
        inventory.close()

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(run is not None for run in allowed) == LIMIT // 30
    with site.inventory.reading() as tx:
        assert sum(charge.cost for charge in drills.charges_of(tx, name)) == 90
