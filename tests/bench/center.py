"""How quick a center is with many servers: `python -m tests.bench.center`.

What docs/center.md promises, each with its limit, on a PostgreSQL of its own that is filled by COPY and syncs
to the disk: servers with a year of days each, then the overview, the list, one server, and reports that come
in; then `center serve` as a process, which servers tell by HTTP so often a second for some minutes. It ends
with 1 if anything does not hold.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct
from sqlalchemy import Engine

from backup.center.database import opened_database
from backup.center.excuses import Excuse, ExcuseKind, make_excuse
from backup.center.identity import HostIdentity, Trust
from backup.center.receive import take_report
from backup.center.view import all_hosts, days_of, host_named, overview
from backup.credentials.identity import Identity
from backup.format.host_report import PATH
from tests.bench.looking import Limit
from tests.support.centers import Center, body_of, center_database, free_port, new_center, superuser
from tests.support.database_servers import RunningServer
from tests.support.many_hosts import fill, identity_of

_TIMES = 9
_REPORTS = 300
_TELLERS = 200
_CALLERS = 16
_KNOWN = 40
CHANGED = {"in": {"rest": {"to": "y"}}}


def main() -> None:
    """Fill, measure each and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.center", description="a center's promises")
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--minutes", type=float, default=10, help="of reports by HTTP")
    parser.add_argument("--rate", type=float, default=33.4, help="of them, a second")
    given = parser.parse_args()
    with center_database(is_durable=True) as (server, url), tempfile.TemporaryDirectory() as folder:
        center = new_center(Path(folder), url)
        center.port = free_port()
        tellers = [center.identity(f"teller{number}") for number in range(min(_TELLERS, given.hosts // 2))]
        engine, now, began = opened_database(url), datetime.now(UTC), time.monotonic()
        with closing(superuser(server, "nightvault")) as connection:
            known = [_known(center, teller, now) for teller in tellers]
            fill(connection, given.hosts, given.days, now, known)
            connection.execute("CHECKPOINT")
        for number in range(_KNOWN):
            until = now + timedelta(days=1)
            make_excuse(
                engine, Excuse(f"{10 * number + 1:032x}", None, ExcuseKind.ACK, "", "", now, now, until)
            )
        print(f"{given.hosts:,} servers, {given.days} days each, filled in {time.monotonic() - began:.0f} s")
        limits = measured(engine, now)
        engine.dispose()
        limits += told_by_http(center, server, tellers, given.rate, 60 * given.minutes)
    print(f"load of the machine: {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores")
    print("| what | found | limit |\n|---|--:|--:|")
    for limit in limits:
        print(limit)
    sys.exit(not all(limit.holds for limit in limits))


def _known(center: Center, teller: Identity, now: datetime) -> HostIdentity:
    """Return who a server is for a center that trusts the same authority."""
    host = f"127.0.0.1:{center.port}"
    headers = {name.lower(): value for name, value in center.signed(teller, b"").items()}
    trust = Trust([center.authority.certificate], [], frozenset({host}))
    return trust.identity_of(headers, b"", now, PATH)


def measured(engine: Engine, now: datetime) -> list[Limit]:
    """Each promise, as the median of some times."""
    name = "server00043"
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
    began = time.perf_counter()
    for number in range(1, 2 * _REPORTS, 2):  # those that are known by a certificate have even ones
        take_report(engine, identity_of(number), body_of(2, CHANGED, chain=f"{number:032x}"), now)
    return _REPORTS / (time.perf_counter() - began)


class _Answer(Struct, frozen=True):
    status: int
    late: float
    seconds: float


def told_by_http(
    center: Center, server: RunningServer, tellers: Sequence[Identity], rate: float, seconds: float
) -> list[Limit]:
    """Servers tell a process in turn, at a steady rate, in a chain each, with 8,000 letters that change."""
    count = int(rate * seconds)
    before, of_postgresql = resource.getrusage(resource.RUSAGE_CHILDREN), _cpu_of_tree(server.process.pid)
    with center.served("--name", f"127.0.0.1:{center.port}"):
        began = time.monotonic() + 1

        def tell(place: int) -> _Answer:
            teller, number = place % len(tellers), place // len(tellers) + 1
            told = {"to": _told(place)} if number == 1 else {"in": {"rest": {"to": os.urandom(4000).hex()}}}
            body = body_of(number, told, chain=f"{teller + 1:032x}"[::-1])
            due = began + place / rate
            time.sleep(max(0.0, due - time.monotonic()))
            asked = time.monotonic()
            status, _ = center.send(tellers[teller], body)
            return _Answer(status, asked - due, time.monotonic() - asked)

        with ThreadPoolExecutor(_CALLERS) as callers:
            answers = list(callers.map(tell, range(count)))
        took = time.monotonic() - began
        database = _cpu_of_tree(server.process.pid) - of_postgresql
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    served = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    times = sorted(answer.seconds for answer in answers)
    refused = sum(answer.status != 200 for answer in answers)
    return [
        Limit(
            f"reports by HTTP for {took / 60:.1f} minutes",
            count / took,
            rate * 0.99,
            "a second",
            is_least=True,
        ),
        Limit("of them not taken", refused, 0, "reports"),
        Limit("their answers, median", 1000 * times[count // 2], 200, "ms"),
        Limit("99 of 100 of them", 1000 * times[count * 99 // 100], 2000, "ms"),
        Limit("CPU of `center serve`, for each", 1000 * served / count, 15, "ms"),
        Limit("CPU of PostgreSQL, for each", 1000 * database / count, 15, "ms"),
    ]


def _told(place: int) -> dict[str, object]:
    return {"well": True, "concerns": [], "jobs": [], "place": place, "rest": ""}


def _cpu_of_tree(parent: int) -> float:
    """Seconds of CPU that a process and its children have used, those that have ended included."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile: its parent has its time
        if int(path.parts[2]) == parent:
            total += sum(map(int, fields[11:15]))
        elif int(fields[1]) == parent:
            total += sum(map(int, fields[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
