"""Many servers at a center: sums, the worst first, a year of days, and what is kept for how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, event, func, select

from backup.center.database import opened_database, seeing, set_up
from backup.center.identity import HostIdentity
from backup.center.receive import KEPT_DAYS, take_report
from backup.center.summary import Standing, summary_of
from backup.center.tables import chains, days, hosts
from backup.center.view import all_hosts, days_of, host_named, overview, remove_host
from tests.support.centers import body_of, center_database, needs_postgresql, superuser
from tests.support.many_hosts import fill

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]

NOW = datetime(2026, 5, 7, 12, tzinfo=UTC)
WEB = HostIdentity("f" * 32, "web1", "CN=web1", "a" * 64, datetime(2030, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with center_database() as (server, url):
        made = opened_database(url)
        set_up(made)
        with closing(superuser(server, "nightvault")) as connection:
            fill(connection, 300, 40, NOW)
        yield made
        made.dispose()


def test_the_overview_counts_all_and_names_those_that_are_not_well(engine: Engine) -> None:
    found = overview(engine, NOW)
    assert found.hosts == {
        **dict.fromkeys(Standing, 0),
        Standing.SILENT: 3,
        Standing.CRITICAL: 12,
        Standing.WARNING: 15,
        Standing.WELL: 270,
    }
    assert found.bytes == 300 * 10**12 + sum(range(300))
    assert found.month == {"USD": 300 * Decimal("1.234567")}
    standings = [host.standing for host in found.not_well]
    assert standings == [Standing.SILENT] * 3 + [Standing.CRITICAL] * 12 + [Standing.WARNING] * 15
    assert [host.name for host in found.not_well[:3]] == ["server00000", "server00100", "server00200"]
    assert found.not_well[0].why == "job job0 was due, and nothing was told since"
    assert [host.name for host in all_hosts(engine, NOW)[:30]] == [host.name for host in found.not_well]


def test_no_document_is_read_for_what_is_shown_of_all(engine: Engine) -> None:
    asked = list[str]()
    event.listen(engine, "before_cursor_execute", lambda *words: asked.append(words[2]))
    overview(engine, NOW)
    all_hosts(engine, NOW)
    assert len(asked) == 6  # two settings of a transaction, and four questions
    assert not [statement for statement in asked if "document" in statement]


def test_a_silent_host_is_one_whose_time_went_by_since_it_told(engine: Engine) -> None:
    host, _ = host_named(engine, "server00001", NOW)
    assert (host.standing, host.due_from) == (Standing.WELL, NOW + timedelta(hours=20))
    assert host_named(engine, "server00001", NOW + timedelta(hours=21))[0].standing is Standing.SILENT


def test_each_day_has_the_worst_that_was_told_on_it_and_goes_after_its_time(engine: Engine) -> None:
    first = NOW - timedelta(days=KEPT_DAYS + 1)
    told = {"well": True, "concerns": [], "jobs": []}
    begun = body_of(chain="1" * 32, changes={"to": told}, at=int(first.timestamp()))
    take_report(engine, WEB, begun, first, uninvited=True)
    failed = {"in": {"concerns": {"to": [{"level": "critical", "text": "disk"}]}}}
    take_report(engine, WEB, body_of(2, chain="1" * 32, changes=failed), NOW, uninvited=True)
    take_report(
        engine, WEB, body_of(3, chain="1" * 32, changes={"in": {"concerns": {"to": []}}}), NOW, uninvited=True
    )
    (today,) = days_of(engine, WEB.host_id, NOW)
    assert (today.standing, today.why, today.reports) == (Standing.CRITICAL, "disk", 2)
    assert host_named(engine, "web1", NOW)[0].standing is Standing.WELL
    again = body_of(chain="2" * 32, at=int(NOW.timestamp()), before="1" * 32, before_number=3)
    take_report(engine, WEB, again, NOW, uninvited=True)
    later = NOW + timedelta(days=1)
    take_report(engine, WEB, body_of(2, chain="2" * 32, changes={}), later, uninvited=True)
    with seeing(engine, WEB.host_id) as connection:
        assert connection.execute(select(days.c.day).order_by(days.c.day)).scalars().all() == [
            NOW.date(),
            later.date(),
        ]
        assert connection.execute(select(chains.c.chain)).scalars().all() == ["2" * 32]
    remove_host(engine, WEB.host_id)
    with seeing(engine, WEB.host_id) as connection:
        for table in (hosts, chains, days):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0


def test_the_oldest_good_run_counts_and_none_if_one_job_was_never_good() -> None:
    jobs = [{"last_good": "2026-05-06T02:00:00Z"}, {"last_good": "2026-05-01T02:00:00+02:00"}]
    assert summary_of({"jobs": jobs}, NOW).good_since == datetime(2026, 5, 1, tzinfo=UTC)
    assert summary_of({"jobs": [*jobs, {}]}, NOW).good_since is None
