"""What a page may cost: a number of statements that does not grow, and CPU time.

With 50,000 entries always; NIGHTVAULT_PAGE_ENTRIES=1000000 NIGHTVAULT_PAGE_SNAPSHOTS=1000 is the full size,
whose bounds are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import pytest

from backup.config import Config
from backup.inventory.store.connections import Transaction
from backup.web.pages import (
    archives,
    browse,
    changes,
    nights,
    overview,
    quote,
    runs,
    schedule,
    search,
    versions,
)
from tests.support.seeded_inventories import HUGE, snapshot_id
from tests.support.seeded_pages import SNAPSHOTS

View = Callable[[Transaction, Config, datetime], object]
MIDDLE = snapshot_id(1, SNAPSHOTS // 2)
FILE = HUGE + b"/Report-00000000.pdf"
VIEWS: dict[str, tuple[View, int, float]] = {
    # what is made, most statements, most seconds of CPU
    "overview": (lambda tx, config, now: overview.overview(tx, config, now, None), 30, 0.1),
    "directory": (lambda tx, config, now: browse.directory(tx, config, now, MIDDLE, HUGE), 12, 0.1),
    "search": (lambda tx, config, now: search.search(tx, "report-00000"), 6, 1.0),
    "search for nothing": (lambda tx, config, now: search.search(tx, "zzzz"), 6, 1.0),
    "versions": (lambda tx, config, now: versions.versions_of_path(tx, config, now, "web", FILE), 9, 0.1),
    "changes": (lambda tx, config, now: changes.changes(tx, MIDDLE), 12, 0.1),
    "snapshots": (lambda tx, config, now: nights.snapshot_page(tx, "web"), 4, 0.1),
    "runs": (lambda tx, config, now: runs.run_page(tx), 2, 0.1),
    "run": (lambda tx, config, now: runs.one_run(tx, 10), 12, 0.1),
    "quote": (lambda tx, config, now: quote.quote(tx, config, now, MIDDLE, [b"/srv/data/00001"]), 12, 0.1),
    "calendar": (lambda tx, config, now: schedule.schedule(tx, config, now, None), 12, 0.1),
    "money": (archives.money, 24, 0.3),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_page_costs_no_more_than_it_may(tx: Transaction, config: Config, now: datetime, name: str) -> None:
    make, most_statements, most_seconds = VIEWS[name]
    make(tx, config, now)  # what is kept between two requests is there
    statements: list[str] = []
    driver = tx.connection
    driver.set_trace_callback(statements.append)
    try:
        make(tx, config, now)
    finally:
        driver.set_trace_callback(None)
    asked = [
        statement for statement in statements if statement.lstrip().upper().startswith(("SELECT", "WITH"))
    ]
    assert len(asked) <= most_statements, "\n\n".join(asked)
    assert min(_cpu(make, tx, config, now) for _ in range(3)) <= most_seconds


def _cpu(make: View, tx: Transaction, config: Config, now: datetime) -> float:
    began = time.thread_time()
    make(tx, config, now)
    return time.thread_time() - began


@pytest.mark.parametrize(
    "name", ["directory", "versions", "changes", "snapshots", "runs", "run", "quote", "overview", "calendar"]
)
def test_no_page_walks_through_all_entries(tx: Transaction, config: Config, now: datetime, name: str) -> None:
    """SQLite's virtual machine is asked every thousand steps: a walk over all entries is far more."""
    make, _, _ = VIEWS[name]
    make(tx, config, now)
    steps = [0]

    def counted() -> int:
        steps[0] += 1
        return 0

    driver = tx.connection
    driver.set_progress_handler(counted, 1000)
    try:
        make(tx, config, now)
    finally:
        driver.set_progress_handler(None, 0)
    most = 1_000 if name == "overview" else 400  # it groups runs and archives, and no entries
    assert steps[0] <= most, "thousand steps"
