"""A source that has lost nearly everything: told, kept until somebody answers, also by a rebuild."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.archiver import commit
from backup.archiver.report import SourceCounts
from backup.inventory import runs
from backup.inventory.runs import Outcome
from backup.inventory.shrunk import accepting, waits
from backup.inventory.snapshots import COMPARED
from backup.source.filters import CACHE_TAG, Filters, Tag
from tests.support.backups import Site
from tests.support.doubles import PowerCut
from tests.support.rebuilding import bare

SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"


def fill(folder: Path, files: int, size: int = 10) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        (folder / f"{number:03}").write_bytes(bytes([number % 256]) * size)


def empty(folder: Path, *, but: int = 0) -> None:
    for path in sorted(folder.iterdir())[but:]:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def waiting(site: Site) -> list[str]:
    with site.inventory.reading() as tx:
        return [one.snapshot for one in waits(tx)]


def accept(site: Site) -> None:
    site.amend(accepting(site.snapshots()[-1].number))


class TestANight:
    def test_that_loses_nearly_everything_is_partial_and_waits_for_an_answer(
        self, site: Site, source: Path
    ) -> None:
        fill(source, 30)
        assert site.backup().outcome is Outcome.DONE
        empty(source, but=2)
        for _ in range(2):  # each night, until somebody answers
            report = site.backup()
            assert report.outcome is Outcome.PARTIAL
            assert report.problems == ()
            (told,) = report.shrunk
            assert told == (
                f"source {source} has lost nearly everything: it holds 2 files (20 B), "
                "and held 30 files (300 B)"
            )
            assert f"`nightvault snapshots accept {report.snapshot[:8]}`" in report.warnings[-1]
            assert waiting(site) == [report.snapshot]
        accept(site)
        assert waiting(site) == []
        for _ in range(2):
            report = site.backup()
            assert (report.outcome, report.shrunk, report.warnings) == (Outcome.DONE, (), ())

    def test_later_nights_that_are_full_again_end_no_wait(self, site: Site, source: Path) -> None:
        fill(source, 30)
        site.backup()
        empty(source)
        shrunk = site.backup().snapshot
        fill(source, 30)
        assert site.backup().outcome is Outcome.DONE
        assert waiting(site) == [shrunk]
        accept(site)
        empty(source)
        assert site.backup().outcome is Outcome.PARTIAL, "the newest full one is usual"

    def test_nights_that_wait_never_become_what_is_usual(self, site: Site, source: Path) -> None:
        fill(source, 30)
        site.backup()
        empty(source)
        assert all(site.backup().shrunk for _ in range(COMPARED + 1))

    def test_a_job_that_may_shrink_ends_the_wait_also_once_all_is_back(
        self, site: Site, source: Path
    ) -> None:
        fill(source, 30)
        site.backup()
        empty(source)
        site.backup()
        fill(source, 30)
        replace(site, job=replace(site.job, may_shrink=True)).backup()
        assert waiting(site) == []

    def test_an_answer_is_of_a_snapshot_that_is_there_and_never_taken_back(
        self, site: Site, source: Path
    ) -> None:
        fill(source, 30)
        site.backup()
        empty(source)
        shrunk = site.backup().snapshot
        site.amend(accepting(99))
        assert waiting(site) == [shrunk]
        accept(site)
        site.amend(accepting(1))
        assert waiting(site) == []

    @pytest.mark.parametrize(
        ("before", "left", "is_lost"), [(30, 3, False), (30, 2, True), (20, 1, True), (19, 0, False)]
    )
    def test_it_takes_nine_tenths_of_twenty_files(
        self, site: Site, source: Path, before: int, left: int, is_lost: bool
    ) -> None:
        fill(source, before)
        site.backup()
        empty(source, but=left)
        assert bool(site.backup().shrunk) is is_lost

    def test_or_nine_tenths_of_the_bytes(self, site: Site, source: Path) -> None:
        fill(source, 25)
        (source / "large").write_bytes(bytes(100_000))
        site.backup()
        (source / "large").write_bytes(b"x")
        assert site.backup().shrunk

    def test_in_small_steps_is_no_way_around(self, site: Site, source: Path) -> None:
        fill(source, 40)
        site.backup()
        for left in (20, 9, 4):
            empty(source, but=left)
            assert not site.backup().shrunk
        empty(source, but=3)
        assert site.backup().shrunk, "the fullest of seven nights counts"

    def test_seven_nights_later_what_was_long_ago_is_not_asked_for(self, site: Site, source: Path) -> None:
        fill(source, 40)
        site.backup()
        empty(source, but=10)
        for _ in range(7):
            assert not site.backup().shrunk
        empty(source, but=3)
        assert not site.backup().shrunk

    def test_a_job_that_may_shrink_is_done_and_ends_the_wait(self, site: Site, source: Path) -> None:
        fill(source, 30)
        site.backup()
        empty(source)
        assert site.backup().outcome is Outcome.PARTIAL
        free = replace(site, job=replace(site.job, may_shrink=True))
        report = free.backup()
        assert (report.outcome, report.shrunk) == (Outcome.DONE, ())
        assert waiting(site) == []
        assert site.backup().outcome is Outcome.DONE, "what was before is not asked for again"

    def test_a_symlink_in_place_of_the_source(self, site: Site, source: Path, tmp_path: Path) -> None:
        fill(source, 30)
        site.backup()
        source.rename(tmp_path / "larger")
        source.symlink_to(tmp_path / "larger")
        assert site.backup().shrunk

    @pytest.mark.parametrize("may_shrink", [False, True])
    def test_a_run_that_died_before_its_commit_is_told_by_the_next(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch, may_shrink: bool
    ) -> None:
        site = replace(site, job=replace(site.job, may_shrink=may_shrink))
        fill(source, 30)
        site.backup()
        empty(source)

        def die(*_: object) -> None:
            raise PowerCut("just before the commit")

        with monkeypatch.context() as patch:
            patch.setattr(commit, "make_true", die)
            with pytest.raises(PowerCut):
                site.backup()
        site = site.reopen()
        site.backup()
        with site.inventory.reading() as tx:
            _, died, _ = runs.list_runs(tx)
        assert died.outcome is (Outcome.DONE if may_shrink else Outcome.PARTIAL)
        if may_shrink:
            assert "shrunk" not in died.report
            return
        assert "has lost nearly everything" in died.report["shrunk"][0]
        assert "snapshots accept" in died.report["warnings"][0]


class TestOfSeveralSources:
    @pytest.fixture
    def two(self, site: Site, source: Path) -> Site:
        fill(source / "large", 300)
        fill(source / "small", 25)
        return site.with_job(sources=[source / "large", source / "small"])

    def test_each_is_compared_with_itself(self, two: Site, source: Path) -> None:
        two.backup()
        empty(source / "small")
        (told,) = two.backup().shrunk
        assert f"source {source}/small has" in told

    def test_one_that_is_no_source_any_more_is_no_loss(self, two: Site, source: Path) -> None:
        two.backup()
        assert not two.with_job(sources=[source / "small"]).backup().shrunk

    def test_a_source_is_found_by_its_path_not_by_its_place_in_the_list(
        self, site: Site, source: Path
    ) -> None:
        fill(source / "few", 5)
        fill(source / "many", 60)
        fill(source / "other", 60)
        site.with_job(sources=[source / "few", source / "many"]).backup()
        empty(source / "many", but=2)
        (told,) = site.with_job(sources=[source / "many", source / "other"]).backup().shrunk
        assert f"source {source}/many has" in told

    def test_one_in_another_counts_for_both(self, site: Site, source: Path) -> None:
        fill(source / "in", 30)
        site.backup()
        both = site.with_job(sources=[source, source / "in"])
        assert not both.backup().shrunk
        empty(source / "in")
        assert len(both.backup().shrunk) == 2

    def test_what_an_older_version_saved_is_counted_once(self, two: Site, source: Path) -> None:
        two.backup()
        with two.inventory.writing() as tx:
            tx.exec_driver_sql("UPDATE snapshots SET counts = NULL")
        empty(source / "small")
        (told,) = two.backup().shrunk
        assert told.endswith("it holds 0 files (0 B), and held 25 files (250 B)")

    def test_what_was_kept_as_it_was_counts(self, two: Site, source: Path) -> None:
        """A source that is not there is a problem, and no loss."""
        two.backup()
        (source / "small").rename(source / "away")
        report = two.backup()
        assert (report.outcome, report.shrunk) == (Outcome.PARTIAL, ())
        assert waiting(two) == []


class TestWhatTheJobLeavesOut:
    """It left by the config: that was meant."""

    @pytest.mark.parametrize(
        "filters",
        [
            Filters(["cache/"]),
            Filters(["0*", "1*", "2*"]),
            Filters(larger_than=5),
            Filters(tags=[Tag(b".nobackup")]),
            Filters(exclude_caches=True),
        ],
    )
    def test_is_no_loss(self, site: Site, source: Path, filters: Filters) -> None:
        fill(source / "cache", 30)
        (source / "cache" / ".nobackup").touch()
        (source / "cache" / CACHE_TAG).write_text(SIGNATURE)
        site.backup()
        report = site.with_job(filters=filters).backup()
        assert (report.outcome, report.shrunk) == (Outcome.DONE, ())
        assert report.files < 5

    @pytest.mark.parametrize("filters", [Filters(["elsewhere/"]), Filters(tags=[Tag(b".none")])])
    def test_but_what_left_beside_it_is(self, site: Site, source: Path, filters: Filters) -> None:
        fill(source / "cache", 30)
        site.backup()
        empty(source / "cache")
        assert site.with_job(filters=filters).backup().shrunk


class TestRebuilt:
    @pytest.mark.parametrize("answered", [False, True])
    @pytest.mark.parametrize("by_full", [False, True])
    def test_the_wait_and_the_answer_come_back(
        self, site: Site, source: Path, tmp_path: Path, by_full: bool, answered: bool
    ) -> None:
        site = replace(site, most_deltas=1 if by_full else None)
        fill(source, 30)
        site.backup()
        empty(source)
        shrunk = site.backup().snapshot
        if answered:
            accept(site)
        new = bare(tmp_path, site)
        new.rebuild()
        rebuilt = new.site()
        assert waiting(rebuilt) == ([] if answered else [shrunk])
        assert bool(rebuilt.backup().shrunk) is not answered, "what was usual came back, too"
        rebuilt.close()


PATHS = st.lists(st.sampled_from([b"a", b"a-", b"b", b"a!"]), max_size=4).map(
    lambda parts: b"/" + b"/".join(parts)
)


@given(tops=st.lists(PATHS, min_size=1, max_size=4), directories=st.lists(PATHS, max_size=8))
def test_directories_count_for_all_sources_that_hold_them(
    tops: list[bytes], directories: list[bytes]
) -> None:
    counts = SourceCounts(tops)
    for directory in directories:
        counts.add(directory, 1, 7)
    held = [sum((one + b"/").startswith(top.rstrip(b"/") + b"/") for one in directories) for top in tops]
    assert counts.totals() == [(number, 7 * number) for number in held]
