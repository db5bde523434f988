"""Directories, versions, searches and nights as pages show them, beside what the inventory says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime

import pytest
from msgspec.structs import replace

from backup.config import Config
from backup.inventory.content.entries import entries_below
from backup.inventory.content.snapshots import Snapshot, get_snapshot
from backup.inventory.questions import searching
from backup.inventory.questions.changes import differing
from backup.inventory.store.connections import Transaction
from backup.web.guard.faults import BadParameterError, NotThereError
from backup.web.pages import browse, changes, nights, runs, search, versions
from backup.web.pages.changes import Change
from backup.web.pages.entries import Kind
from tests.support.seeded_inventories import HUGE, snapshot_id
from tests.support.seeded_pages import SNAPSHOTS

MIDDLE = snapshot_id(1, SNAPSHOTS // 2)


def test_a_directory_page_by_page_is_the_whole_directory(
    tx: Transaction, config: Config, now: datetime
) -> None:
    wanted = [row.name for _, row in entries_below(tx, 1, HUGE, SNAPSHOTS // 2)]
    found: list[bytes] = []
    after = None
    while True:
        page = browse.directory(tx, config, now, MIDDLE, HUGE, after=after)
        found += [entry.name.raw for entry in page.entries]
        assert page.is_first == (after is None)
        after = page.next_after
        if after is None or len(found) > 2_000:
            break
    assert len(set(found)) == len(found)
    assert found == wanted[: len(found)]
    assert after is not None or found == wanted


def test_a_directory_tells_where_its_bytes_lie(tx: Transaction, config: Config, now: datetime) -> None:
    page = browse.directory(tx, config, now, MIDDLE, b"/srv/data/00001")
    assert page.count == len(page.entries)
    (place,) = page.places
    assert (place.vault, place.storage_class, place.needs_thaw) == ("cold", "s3:DEEP_ARCHIVE", True)
    assert place.thawed_until is None
    assert [step.name.text for step in page.steps] == ["/", "srv", "data", "00001"]
    assert page.itself is not None
    assert page.itself.mode == "drwxr-xr-x"


def test_a_file_is_a_page_of_its_own(tx: Transaction, config: Config, now: datetime) -> None:
    page = browse.directory(tx, config, now, MIDDLE, HUGE + b"/Report-00000000.pdf")
    assert page.itself is not None
    assert (page.itself.kind, page.entries, page.count) == (Kind.FILE, [], 0)
    assert sum(place.archives for place in page.places) == 1


@pytest.mark.parametrize("path", [b"/nowhere", b"/srv/huge/none", b"/srv/huge/Report-00000000.pdf/x"])
def test_a_path_that_is_not_there(tx: Transaction, config: Config, now: datetime, path: bytes) -> None:
    with pytest.raises(NotThereError):
        browse.directory(tx, config, now, MIDDLE, path)


@pytest.mark.parametrize(
    "path", [b"", b"srv", b"/srv/../etc", b"/srv//x", b"/a\0b", b"/" + b"x" * 256, b"/x" * 2500]
)
def test_a_path_that_cannot_be(tx: Transaction, config: Config, now: datetime, path: bytes) -> None:
    with pytest.raises(BadParameterError):
        browse.directory(tx, config, now, MIDDLE, path)


@pytest.mark.parametrize("words", ["", "latest", "xyz", "12345", "A" * 8, "' OR 1=1 --", "0" * 17])
def test_a_snapshot_that_cannot_be(tx: Transaction, config: Config, now: datetime, words: str) -> None:
    with pytest.raises(BadParameterError):
        browse.directory(tx, config, now, words)


@pytest.mark.parametrize("after", ["!", "a.b", "x" * 9000, "ä", "AAA", "1"])
def test_a_cursor_that_nobody_gave(tx: Transaction, config: Config, now: datetime, after: str) -> None:
    for ask in (
        lambda: browse.directory(tx, config, now, MIDDLE, after=after + "."),
        lambda: search.search(tx, "x", after=after),
        lambda: changes.changes(tx, MIDDLE, after=after),
    ):
        with pytest.raises(BadParameterError):
            ask()


def test_search_finds_parts_of_names_in_any_case(tx: Transaction) -> None:
    page = search.search(tx, "rEPORT-0000010")
    assert {hit.path.raw.rpartition(b"/")[2] for hit in page.hits} == {
        b"Report-00000100.pdf",
        b"Report-00000104.pdf",
        b"Report-00000108.pdf",
    }
    assert all(hit.last == snapshot_id(1, SNAPSHOTS) and not hit.is_gone for hit in page.hits)
    assert page.next_after is None
    assert search.search(tx, "").hits == []


def test_search_takes_wildcards_and_folders(tx: Transaction) -> None:
    one_folder = search.search(tx, "data/00001/*")
    assert {hit.path.raw.rpartition(b"/")[0] for hit in one_folder.hits} == {b"/srv/data/00001"}
    assert search.search(tx, "?hop.dump").hits[0].path.raw == b"/db/shop.dump"
    assert search.search(tx, "?hop.dump", job="web").hits == []
    assert search.search(tx, "100%").hits == []
    assert search.search(tx, "Report_0").hits == []
    with pytest.raises(BadParameterError):
        search.search(tx, "*" * 20)
    with pytest.raises(NotThereError):
        search.search(tx, "x", job="nobody")


def test_search_goes_on_where_it_ended(tx: Transaction) -> None:
    found: list[bytes] = []
    after = None
    for _ in range(5):
        page = search.search(tx, ".pdf", after=after)
        found += [hit.path.raw for hit in page.hits]
        after = page.next_after
        assert after is not None
    assert len(set(found)) == len(found) == 250


def test_search_that_looks_at_a_part_finds_all_in_the_end(
    tx: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By job, directory and name; each once, whatever a part ends with."""

    def all_of(words: str) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        after = None
        while True:
            page = search.search(tx, words, after=after)
            found += [(page_hit.job, page_hit.path.raw) for page_hit in page.hits]
            after = page.next_after
            if after is None:
                return found

    whole = all_of("0010")
    assert len({job for job, _ in all_of("s")}) == 2
    assert len(whole) > 20
    for most in (997, 10_000):
        monkeypatch.setattr(searching, "MOST_LOOKED_AT", most)
        assert all_of("0010") == whole
        assert search.search(tx, "zzzz").is_cut


def test_versions_newest_first_with_what_differs(tx: Transaction, config: Config, now: datetime) -> None:
    page = versions.versions_of_path(tx, config, now, "web", HUGE + b"/Report-00000000.pdf")
    assert [version.snapshots for version in page.versions] == [SNAPSHOTS - 1, 1]
    assert [version.is_newest for version in page.versions] == [True, False]
    assert page.versions[0].what == ["content", "times"]
    assert page.versions[1].what == []
    assert [sum(place.archives for place in version.places) for version in page.versions] == [1, 1]
    assert not page.is_gone
    with pytest.raises(NotThereError):
        versions.versions_of_path(tx, config, now, "web", b"/none")


@pytest.mark.parametrize(("older", "newer"), [(49, 50), (40, 50), (1, 2), (20, 90)])
def test_changes_are_those_of_diff(tx: Transaction, older: int, newer: int) -> None:
    first, last = get_snapshot(tx, snapshot_id(1, older)), get_snapshot(tx, snapshot_id(1, newer))
    wanted = [
        (before.path if before else after.path if after else b"", before is None, after is None)
        for before, after in differing(tx, first, last)
    ]
    found: list[tuple[bytes, bool, bool]] = []
    after = None
    while True:
        page = changes.changes(tx, snapshot_id(1, newer), older=snapshot_id(1, older), after=after)
        found += [
            (line.path.raw, line.change is Change.ADDED, line.change is Change.REMOVED)
            for line in page.changes
        ]
        after = page.next_after
        if after is None:
            break
    assert found == wanted
    assert page.counts.added + page.counts.removed + page.counts.changed == len(wanted)
    assert page.counts.is_whole


def test_changes_of_the_first_snapshot_are_all_it_has(tx: Transaction) -> None:
    page = changes.changes(tx, snapshot_id(1, 1), path=b"/srv/data/00002")
    assert {line.change for line in page.changes} == {Change.ADDED}
    assert len(page.changes) == 100
    assert page.older is None
    assert page.later == snapshot_id(1, 2)


def test_two_jobs_have_no_common_nights(tx: Transaction) -> None:
    with pytest.raises(BadParameterError):
        changes.changes(tx, snapshot_id(1, 3), older=snapshot_id(2, 2))


def test_runs_page_by_page(tx: Transaction) -> None:
    seen: list[int] = []
    before: int | None = None
    while True:
        page = runs.run_page(tx, job="web", before=before)
        seen += [run.number for run in page.runs]
        before = page.next_before
        if before is None:
            break
    assert seen == list(range(SNAPSHOTS, 0, -1))
    partial = runs.run_page(tx, job="web", outcome="partial")
    assert {run.problems for run in partial.runs} == {1}
    for wrong in ({"kind": "x"}, {"outcome": "x"}, {"before": "-1"}, {"before": "1e9"}, {"before": "9" * 30}):
        with pytest.raises(BadParameterError):
            runs.run_page(tx, **wrong)


def test_a_run_with_its_problems_and_what_it_stored(tx: Transaction) -> None:
    run = runs.one_run(tx, "10")
    assert [problem.path.text for problem in run.problems] == ["/srv/data/00010/locked"]
    assert run.snapshot is not None
    assert run.snapshot.id == snapshot_id(1, 10)
    assert run.previous_snapshot == snapshot_id(1, 9)
    assert (run.earlier, run.later) == (9, 11)
    assert run.stored_count == len(run.stored) > 0
    with pytest.raises(NotThereError):
        runs.one_run(tx, "999999")
    with pytest.raises(BadParameterError):
        runs.one_run(tx, "x")


def test_browsing_begins_at_the_sources(tx: Transaction, config: Config, now: datetime) -> None:
    snapshot = get_snapshot(tx, MIDDLE)
    page = browse.directory(tx, config, now, MIDDLE, None)
    assert page.path.raw == os.path.commonpath(snapshot.tops)
    assert page.entries
    assert list(browse.directory(tx, config, now, MIDDLE).sources) == [], "of the root that was asked for"


def test_browsing_begins_beside_a_source_that_is_a_file(
    tx: Transaction, config: Config, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = replace(get_snapshot(tx, MIDDLE), roots=(HUGE + b"/Report-00000000.pdf",), sources=(b"/x",))
    monkeypatch.setattr(browse, "the_snapshot", lambda *_: alone)
    assert browse.directory(tx, config, now, MIDDLE, None).path.raw == HUGE
    both = replace(alone, roots=(HUGE, b"/srv/data"), sources=(b"/x", b"/y"))
    monkeypatch.setattr(browse, "the_snapshot", lambda *_: both)
    page = browse.directory(tx, config, now, MIDDLE, None)
    assert (page.path.raw, [source.raw for source in page.sources]) == (b"/srv", [HUGE, b"/srv/data"])


def test_nights_without_what_is_forgotten_page_by_page(tx: Transaction) -> None:
    job = get_snapshot(tx, MIDDLE).job
    every, kept = (list(nights_of(tx, job, forgotten=also)) for also in (True, False))
    assert [snapshot for snapshot in every if snapshot.forgotten_at is None] == kept
    assert nights.snapshot_page(tx, job).has_forgotten == any(
        snapshot.forgotten_at for snapshot in every[:100]
    )


def nights_of(tx: Transaction, job: str, *, forgotten: bool) -> Iterator[Snapshot]:
    """All of a job's snapshots, page by page."""
    before = None
    while True:
        page = nights.snapshot_page(tx, job, before=before, forgotten=forgotten)
        assert (page.is_first, page.shows_forgotten) == (before is None, forgotten)
        yield from page.snapshots
        before = page.next_before
        if before is None:
            return
