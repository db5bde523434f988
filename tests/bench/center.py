"""How quick a center is with many servers: `python -m tests.bench.center`.

What docs/center.md promises, each with its limit, on a PostgreSQL of its own that is filled by COPY: servers
with a year of days each, then the overview, the list, one server, and reports that come in. It ends with 1 if
anything does not hold.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

from sqlalchemy import Engine

from backup.center.database import opened_database, set_up
from backup.center.receive import take_report
from backup.center.view import all_hosts, days_of, host_named, overview
from tests.bench.looking import Limit
from tests.support.centers import body_of, center_database, superuser
from tests.support.many_hosts import fill, identity_of

_TIMES = 9
_REPORTS = 300


def main() -> None:
    """Fill, measure each and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.center", description="a center's promises")
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=365)
    given = parser.parse_args()
    with center_database() as (server, url):
        engine = opened_database(url)
        set_up(engine)
        now, began = datetime.now(UTC), time.monotonic()
        with closing(superuser(server, "nightvault")) as connection:
            fill(connection, given.hosts, given.days, now)
        print(f"{given.hosts:,} servers, {given.days} days each, filled in {time.monotonic() - began:.0f} s")
        limits = measured(engine, now)
        engine.dispose()
    print("| what | found | limit |\n|---|--:|--:|")
    for limit in limits:
        print(limit)
    sys.exit(not all(limit.holds for limit in limits))


def measured(engine: Engine, now: datetime) -> list[Limit]:
    """Each promise, as the median of some times."""
    name = "server00042"
    identity = host_named(engine, name, now)[0].host_id
    return [
        _timed("overview", 200, lambda: overview(engine, now)),
        _timed("list of all servers", 2000, lambda: all_hosts(engine, now)),
        _timed("a server, what it told", 50, lambda: host_named(engine, name, now)),
        _timed("a server's last thirty days", 50, lambda: days_of(engine, identity, now)),
        Limit("reports taken, one after the other", _rate(engine, now), 33, "a second", is_least=True),
    ]


def _timed(what: str, limit: float, work: Callable[[], object]) -> Limit:
    work()
    found = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - began))
    return Limit(what, statistics.median(found), limit, "ms")


def _rate(engine: Engine, now: datetime) -> float:
    """How many changes of a server's report are taken in a second, by one connection."""
    changed = {"in": {"rest": {"to": "y"}}}
    began = time.perf_counter()
    for number in range(_REPORTS):
        take_report(engine, identity_of(number), body_of(2, changed, chain=f"{number:032x}"), now)
    return _REPORTS / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
