"""An archive that several jobs share is lost, and stored again by one of them.

A job's catalogs name what its entries need, wherever it lies by then: each job alone comes back whole.
"""

from __future__ import annotations

import dataclasses
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.checker.invariants import check_invariants
from backup.inventory.content.lost import sound_locations
from backup.inventory.content.packed import chunk_locations
from backup.model import MIB, ArchiveId, VaultName
from backup.rebuilder.context import Wish
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.checks import check, kinds, query
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, Silent, cut_at
from tests.support.rebuilds import bare, line_of
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too

NAMES = ("one", "two")


@dataclass
class Jobs:
    """Some jobs of one server, whose sources share a file that fills an archive of its own."""

    folder: Path
    clock: ManualClock
    disk: DirectoryVault
    sites: dict[str, Site]

    def backup(self, name: str) -> None:
        """A night of one job."""
        self.clock.sleep(86400)
        self.sites[name].backup()

    def lose(self, archive_id: str) -> None:
        """The vault loses an archive, and a check finds out."""
        self.disk.delete_archives({ArchiveId(archive_id): None})
        self.clock.sleep(7200)
        check(self.site)

    @property
    def site(self) -> Site:
        """Any of them."""
        return next(iter(self.sites.values()))

    def source(self, name: str) -> Path:
        """What a job reads."""
        return self.folder / f"source {name}"

    def shared_archives(self) -> set[str]:
        """Those that hold a chunk which a file of each job needs."""
        needs = [needed_by(self.site, name) for name in self.sites]
        return set.intersection(*needs)

    def laws(self) -> list[str]:
        """Laws that are broken."""
        secret = self.site.keys.secret
        report = check_invariants(self.site.inventory, secret.content_key, self.clock, Silent())
        return [finding.what for finding in report.findings]

    def assert_alone(self, name: str) -> None:
        """A rebuild of this job alone gives it back whole."""
        number = len(list(self.folder.glob("bare-*")))
        new = bare(self.folder, self.site, f"bare-{number}")
        report = new.rebuild(Wish(jobs=frozenset({name}), inventory=self.site.inventory.id.hex()))
        assert [job.name for job in report.jobs] == [name]
        again = replace(new.site(), job=self.sites[name].job)
        out = self.folder / f"out-{number}"
        assert again.restore("latest", out).problems == ()
        assert_same_tree(self.source(name), out)
        again.close()


def needed_by(site: Site, name: str) -> set[str]:
    """The archives where chunks of a job's live files lie, by their numbers."""
    rows = query(
        site,
        "SELECT e.chunks FROM entries e JOIN directories d ON d.number = e.directory JOIN jobs j"
        " ON j.number = d.job WHERE j.name = ? AND e.removed_in IS NULL AND e.chunks IS NOT NULL",
        name,
    )
    numbers = {number for (packed,) in rows for number in memoryview(packed).cast("I")}
    marks = ",".join(map(str, numbers))
    sql = "SELECT DISTINCT archive_id FROM archives a JOIN chunks c ON c.archive = a.number AND c.number IN "
    sql += f"({marks})"
    return {row[0] for row in query(site, sql)}


def made_jobs(folder: Path, names: tuple[str, ...] = NAMES) -> Jobs:
    """All have run once; the first stored what they share."""
    clock = ManualClock()
    disk = DirectoryVault(VaultName("disk"), str(folder / "vault"), clock)
    disk.create()
    shared = random.Random(3).randbytes(2 * MIB)
    sites: dict[str, Site] = {}
    for name in names:
        source = folder / f"source {name}"
        source.mkdir()
        (source / "shared").write_bytes(shared)
        (source / "own").write_bytes(random.Random(name).randbytes(300_000))
        if not sites:
            sites[name] = Site.create(folder / "state", disk, [source], name=name, clock=clock)
        else:
            first = next(iter(sites.values()))
            sites[name] = first.with_job(sources=[source], name=name)
    made = Jobs(folder, clock, disk, sites)
    for name in names:
        made.backup(name)
    return made


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = made_jobs(tmp_path)
    yield made
    made.site.close()


def test_stored_again_by_one_it_is_named_by_the_other(jobs: Jobs) -> None:
    """The check says that the other does not name it, and its next night heals that."""
    (lost,) = jobs.shared_archives()
    jobs.lose(lost)
    jobs.backup("one")
    report = check(jobs.site)
    assert kinds(report) == {"unnamed": 1}
    assert (report.findings[0].what, report.is_grave) == ("two", True)
    assert jobs.laws() == ["named"]
    jobs.backup("two")
    assert kinds(check(jobs.site)) == {}
    assert jobs.laws() == []
    for name in NAMES:
        jobs.assert_alone(name)


def test_the_one_that_stored_it_first_may_be_the_other(jobs: Jobs) -> None:
    (lost,) = jobs.shared_archives()
    jobs.lose(lost)
    jobs.backup("two")
    assert jobs.laws() == ["named"]
    jobs.backup("one")
    assert jobs.laws() == []
    for name in NAMES:
        jobs.assert_alone(name)


def test_again_and_again(jobs: Jobs) -> None:
    """What was stored again is lost, too."""
    for storing, other in (NAMES, NAMES[::-1], NAMES):
        for lost in where_it_lies(jobs):
            jobs.lose(lost)
        jobs.backup(storing)
        jobs.backup(other)
        assert jobs.laws() == []
    for name in NAMES:
        jobs.assert_alone(name)


def where_it_lies(jobs: Jobs) -> set[str]:
    """The sound archives that hold the shared file's chunks."""
    rows = query(
        jobs.site,
        "SELECT DISTINCT a.archive_id FROM archives a JOIN chunks c ON c.archive = a.number"
        " WHERE a.state = 'stored' AND c.prefix IN"
        " (SELECT prefix FROM chunk_prefixes GROUP BY prefix HAVING count(*) > 1)",
    )
    return {row[0] for row in rows} or jobs.shared_archives()


def test_a_night_without_change_names_nothing_again(jobs: Jobs) -> None:
    (lost,) = jobs.shared_archives()
    jobs.lose(lost)
    for _ in range(3):
        for name in NAMES:
            jobs.backup(name)
    named = query(
        jobs.site,
        "SELECT j.name, n.archive, count(*) FROM catalog_archives n JOIN catalogs c ON c.archive = n.catalog"
        " JOIN jobs j ON j.number = c.job WHERE (c.generation = 1 OR c.parent IS NULL)"
        " GROUP BY j.name, n.archive",
    )
    deltas = query(jobs.site, "SELECT count(*) FROM catalogs WHERE generation = 1 OR parent IS NULL")[0][0]
    assert deltas == 8
    assert {count for *_, count in named} == {1}


def test_found_again_nothing_else_is_needed(jobs: Jobs) -> None:
    (lost,) = jobs.shared_archives()
    path = jobs.folder / "vault" / "archives" / lost[:2] / lost
    data, record = path.read_bytes(), path.with_suffix(".json").read_bytes()
    jobs.lose(lost)
    path.write_bytes(data)
    path.with_suffix(".json").write_bytes(record)
    assert kinds(check(jobs.site)) == {"found-again": 1}
    assert jobs.laws() == []
    jobs.assert_alone("two")


def test_of_two_sound_copies_the_other_serves_where_one_is_gone(jobs: Jobs) -> None:
    """Lost, stored again, found again; then a restore is told that it is not there."""
    (lost,) = jobs.shared_archives()
    path = jobs.folder / "vault" / "archives" / lost[:2] / lost
    data, record = path.read_bytes(), path.with_suffix(".json").read_bytes()
    jobs.lose(lost)
    jobs.backup("one")
    path.write_bytes(data)
    path.with_suffix(".json").write_bytes(record)
    check(jobs.site)
    with jobs.site.inventory.reading() as tx:
        ((number,),) = query(jobs.site, "SELECT number FROM archives WHERE archive_id = ?", lost)
        numbers = [row[0] for row in query(jobs.site, "SELECT number FROM chunks WHERE archive = ?", number)]
        places = {location.number: location for location in chunk_locations(tx, numbers)}
        assert list(sound_locations(tx, {number}, places)) == []
        found = {
            location.number: location for location in sound_locations(tx, {number}, places, gone={number})
        }
        none = sound_locations(
            tx, {number}, places, gone={number}, may_be=lambda place: place.archive == number
        )
        assert list(none) == []
    assert found
    for chunk, place in found.items():
        assert (place.id, place.length) == (places[chunk].id, places[chunk].length)
        assert place.archive != number


def test_a_rebuild_marks_as_lost_what_the_list_lacks(jobs: Jobs) -> None:
    """By the list alone: no check ran. The next night stores it again, and names it."""
    (lost,) = jobs.shared_archives()
    jobs.disk.delete_archives({ArchiveId(lost): None})
    jobs.clock.sleep(7200)
    new = bare(jobs.folder, jobs.site)
    report = new.rebuild()
    assert [(suspicion.kind, suspicion.archive_id) for suspicion in report.suspicions] == [("withheld", lost)]
    assert state_in(new.folder, lost) == "lost"
    again = new.site()
    sites = {name: replace(again, job=site.job) for name, site in jobs.sites.items()}
    rebuilt = dataclasses.replace(jobs, sites=sites)
    rebuilt.backup("two")
    assert kinds(check(again))["unnamed"] == 1
    rebuilt.backup("one")
    assert rebuilt.laws() == []
    for name in NAMES:
        rebuilt.assert_alone(name)
    again.close()


def test_a_rebuild_marks_as_damaged_what_the_list_shows_otherwise(jobs: Jobs) -> None:
    (bad,) = jobs.shared_archives()
    path = jobs.folder / "vault" / "archives" / bad[:2] / bad
    path.write_bytes(path.read_bytes()[:-1])
    new = bare(jobs.folder, jobs.site)
    report = new.rebuild()
    assert [(suspicion.kind, suspicion.archive_id) for suspicion in report.suspicions] == [("differs", bad)]
    assert state_in(new.folder, bad) == "damaged"


def test_a_rebuild_without_a_list_takes_what_was_stored_again(jobs: Jobs) -> None:
    """By a recovery line nothing is known of what is there: the copy that was made last is."""
    (lost,) = jobs.shared_archives()
    jobs.lose(lost)
    jobs.backup("one")
    jobs.backup("two")
    new = bare(jobs.folder, jobs.site)
    for name in NAMES:
        made = bare(jobs.folder, jobs.site, f"line-{name}")
        report = made.rebuild(Wish(lines=[line_of(jobs.sites[name])]))
        assert report.listed_at is None
        again = replace(made.site(), job=jobs.sites[name].job)
        out = jobs.folder / f"out-line-{name}"
        assert again.restore("latest", out).problems == ()
        assert_same_tree(jobs.source(name), out)
        again.close()
    del new


def state_in(folder: Path, archive_id: str) -> str:
    with sqlite3.connect(folder / "inventory.sqlite") as database:
        ((state,),) = database.execute("SELECT state FROM archives WHERE archive_id = ?", (archive_id,))
    database.close()
    return str(state)


@pytest.mark.parametrize("after", [False, True])
def test_cut_at_every_call_of_the_night_that_heals(tmp_path: Path, after: bool) -> None:
    """Whatever ends the other job's night, the next one leaves it whole."""
    calls = 0
    while True:
        folder = tmp_path / f"{calls}"
        folder.mkdir()
        jobs = made_jobs(folder)
        (lost,) = jobs.shared_archives()
        jobs.lose(lost)
        jobs.backup("one")
        vault = FaultyVault(jobs.disk, cut_at(calls, after=after))
        two = replace(jobs.sites["two"], vault=vault)
        jobs.clock.sleep(86400)
        try:
            two.backup()
        except PowerCut:
            again = jobs.sites["two"].reopen()
            jobs.sites = {name: replace(again, job=site.job) for name, site in jobs.sites.items()}
            jobs.backup("two")
            is_over = False
        else:
            is_over = True
        assert jobs.laws() == []
        if calls % 5 == 0 or is_over:
            jobs.assert_alone("two")
        jobs.site.close()
        if is_over:
            break
        calls += 1
    assert calls > 3


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("backup"), st.sampled_from(["one", "two", "three"])),
        st.tuples(st.just("lose"), st.integers(0, 5)),
        st.tuples(st.just("change"), st.sampled_from(["one", "two", "three"])),
    ),
    min_size=2,
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_after_its_own_night_each_job_alone_is_whole(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str | int]]
) -> None:
    """A law: whatever was lost, and whoever stored it again, a job that ran since names what it needs."""
    jobs = made_jobs(tmp_path_factory.mktemp("law"), ("one", "two", "three"))
    content = random.Random(1)
    for what, which in steps:
        if what == "backup":
            jobs.backup(str(which))
        elif what == "change":
            (jobs.source(str(which)) / "own").write_bytes(content.randbytes(200_000))
        else:
            data = query(jobs.site, "SELECT archive_id FROM archives WHERE kind = 1 AND state = 'stored'")
            if data:
                jobs.lose(data[int(which) % len(data)][0])
    for name in jobs.sites:
        jobs.backup(name)
    # What a later job stored again an earlier one does not name yet.
    for name in jobs.sites:
        jobs.backup(name)
    assert jobs.laws() == []
    for name in jobs.sites:
        jobs.assert_alone(name)
    jobs.site.close()
