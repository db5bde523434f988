"""A source that has lost nearly everything: told, kept until somebody answers, also by a rebuild."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.archiver.dryrun import changes
from backup.catalogs import commit
from backup.catalogs.report import SourceCounts, Tally
from backup.inventory.content.shrunk import accepting, shrunk_records, waits
from backup.inventory.content.snapshots import COMPARED
from backup.inventory.records import runs
from backup.kinds import Outcome
from backup.source.filters import CACHE_TAG, Filters, Tag
from tests.support.backups import Site
from tests.support.doubles import PowerCut
from tests.support.rebuilds import bare

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
        return [wait.snapshot for wait in waits(tx)]


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

    def test_a_full_catalog_carries_each_mark_and_the_highest_answer(self, site: Site, source: Path) -> None:
        fill(source, 30)
        site.backup()
        empty(source)
        site.backup()
        site.backup()
        numbers = [snapshot.number for snapshot in site.snapshots()[1:]]
        for answer in ([], [numbers[0]], [numbers[1]]):
            for number in answer:
                site.amend(accepting(number))
            with site.inventory.reading() as tx:
                found = [(record.snapshot, record.accepted) for record in shrunk_records(tx, 1)]
            assert found == [*((number, False) for number in numbers), *((number, True) for number in answer)]

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

    def test_each_job_waits_for_an_answer_of_its_own(self, site: Site, source: Path) -> None:
        fill(source, 30)
        jobs = [site, site.with_job(name="another")]
        for job in jobs:
            job.backup()
        empty(source)
        shrunk = [job.backup() for job in jobs]
        with site.inventory.reading() as tx:
            found = [(wait.job, wait.snapshot) for wait in waits(tx)]
            assert found == [(report.job, report.snapshot) for report in reversed(shrunk)], "by their names"
            assert [wait.job for wait in waits(tx, may_shrink=[site.job.name])] == ["another"]
            for wait in waits(tx):
                assert len(shrunk_records(tx, wait.job_number)) == 1
        accept(site)
        assert waiting(site) == [shrunk[1].snapshot]

    @pytest.mark.parametrize(
        ("before", "left", "is_lost"),
        [
            (30, 3, False),
            (30, 2, True),
            (20, 1, True),
            (19, 1, False),
            (19, 0, True),
            (1, 0, True),
            (0, 0, False),
        ],
    )
    def test_it_takes_nine_tenths_of_twenty_files_and_all_of_fewer(
        self, site: Site, source: Path, before: int, left: int, is_lost: bool
    ) -> None:
        fill(source, before)
        site.backup()
        empty(source, but=left)
        assert bool(site.backup().shrunk) is is_lost

    def test_of_few_files_everything_must_be_gone_since_the_newest_night(
        self, site: Site, source: Path
    ) -> None:
        fill(source, 5)
        site.backup()
        empty(source, but=1)
        assert not site.backup().shrunk
        empty(source)
        assert "it holds 0 files (0 B), and held 1 file (10 B)" in site.backup().shrunk[0]
        accept(site)
        assert not site.backup().shrunk

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

    def test_the_fullest_of_an_older_version_counts_as_well(self, site: Site, source: Path) -> None:
        """It did not record what each source held: a job's only one held all that the snapshot has."""
        fill(source, 40)
        site.backup()
        empty(source, but=20)
        site.backup()
        with site.inventory.writing() as tx:
            tx.connection.execute("UPDATE snapshots SET counts = NULL, roots = NULL")
        empty(source, but=3)
        assert "and held 40 files" in site.backup().shrunk[0]

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
        site = replace(site, job=replace(site.job, may_shrink=may_shrink, tags=("kept",)))
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
            tx.connection.execute("UPDATE snapshots SET counts = NULL")
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

    @pytest.mark.parametrize(
        ("filters", "tag"), [(Filters(tags=[Tag(b".no")]), ".no"), (Filters(exclude_caches=True), CACHE_TAG)]
    )
    @pytest.mark.parametrize("where", ["", "cache"])
    def test_but_by_a_tag_that_came_since_it_left_with_the_data(
        self, site: Site, source: Path, filters: Filters, tag: str, where: str
    ) -> None:
        fill(source / "cache", 30)
        site = site.with_job(filters=filters)
        site.backup()
        (source / where / tag).write_text(SIGNATURE)
        assert site.backup().shrunk
        accept(site)
        assert site.backup().outcome is Outcome.DONE

    @pytest.mark.parametrize("filters", [Filters(["elsewhere/"]), Filters(tags=[Tag(b".none")])])
    def test_but_what_left_beside_it_is(self, site: Site, source: Path, filters: Filters) -> None:
        fill(source / "cache", 30)
        site.backup()
        empty(source / "cache")
        assert site.with_job(filters=filters).backup().shrunk


class TestASourceBelowASymlink:
    """That symlink leads elsewhere one night, or nowhere: what it held has another real path by then."""

    @pytest.fixture
    def led(self, site: Site, source: Path, tmp_path: Path) -> Site:
        fill(source / "nas" / "www", 30)
        fill(source / "etc", 3)
        (tmp_path / "srv").symlink_to(source / "nas")
        site = site.with_job(sources=[source / "etc", tmp_path / "srv" / "www"])
        assert site.backup().warnings == ()
        return site

    @pytest.mark.parametrize("rebuilt", [False, True])
    @pytest.mark.parametrize("how", ["to another", "a folder now"])
    def test_that_is_nearly_empty_there_waits(
        self, led: Site, source: Path, tmp_path: Path, how: str, rebuilt: bool
    ) -> None:
        (tmp_path / "srv").unlink()
        if how == "to another":
            (source / "b" / "www").mkdir(parents=True)
            (tmp_path / "srv").symlink_to(source / "b")
        else:
            (tmp_path / "srv" / "www").mkdir(parents=True)
        if rebuilt:
            new = bare(tmp_path, led)
            new.rebuild()
            led = new.site()
        for night in range(2):
            report = led.backup()
            assert (report.outcome, report.problems) == (Outcome.PARTIAL, ())
            assert "and held 30 files" in report.shrunk[0]
            told = [warning for warning in report.warnings if "when this job last ran it led to" in warning]
            assert len(told) == (0 if night else 1)
            assert waiting(led) == [report.snapshot]
        accept(led)
        assert led.backup().outcome is Outcome.DONE

    def test_that_is_as_full_there_is_named_once(self, led: Site, source: Path, tmp_path: Path) -> None:
        fill(source / "b" / "www", 30)
        (tmp_path / "srv").unlink()
        (tmp_path / "srv").symlink_to(source / "b")
        report = led.backup()
        assert (report.outcome, report.shrunk) == (Outcome.DONE, ())
        (told,) = report.warnings
        assert f"{source}/nas/www, and now to {source}/b/www" in told
        assert led.backup().warnings == ()

    @pytest.mark.parametrize("left", ["nothing", "a link that leads nowhere"])
    @pytest.mark.parametrize("rebuilt", [False, True])
    def test_of_which_nothing_is_there_is_kept(
        self, led: Site, source: Path, tmp_path: Path, left: str, rebuilt: bool
    ) -> None:
        if rebuilt:  # from a full catalog
            led = replace(led, most_deltas=1)
            led.backup()
        (tmp_path / "srv").unlink()
        if left != "nothing":
            (tmp_path / "srv").symlink_to(source / "none" / "srv")
        if rebuilt:
            new = bare(tmp_path, led)
            new.rebuild()
            led = new.site()
        (source / "etc" / "000").unlink()
        for _ in range(2):
            assert [str(change.what) for change in changes(led.job, led.inventory, Tally())].count(
                "removed"
            ) <= 1
            report = led.backup()
            assert (report.outcome, report.shrunk, report.warnings) == (Outcome.PARTIAL, (), ())
            assert os.fsencode(source / "nas" / "www") in [problem.path for problem in report.problems]
            assert led.snapshots()[-1].counts[1] == (30, 300)
            assert report.files == 32
        (tmp_path / "srv").unlink(missing_ok=True)
        (tmp_path / "srv").symlink_to(source / "nas")
        report = led.backup()
        assert (report.outcome, report.files, report.files_read) == (Outcome.DONE, 32, 30 if rebuilt else 0)
        (tmp_path / "srv").unlink()
        assert led.with_job(sources=[source / "etc"]).backup().files == 2, "it left with its source"

    def test_that_another_source_contains_is_told_by_that(
        self, site: Site, source: Path, tmp_path: Path
    ) -> None:
        fill(source / "nas" / "www", 30)
        (tmp_path / "srv").symlink_to(source / "nas")
        site = site.with_job(sources=[source, tmp_path / "srv" / "www"])
        site.backup()
        (tmp_path / "srv").unlink()
        (source / "nas" / "www" / "000").unlink()
        assert site.backup().files == 29

    def test_nowhere_while_a_part_of_it_is_named_by_its_real_path(
        self, led: Site, source: Path, tmp_path: Path
    ) -> None:
        """The way to that part leads through what is kept, of which the scan finds nothing else."""
        fill(source / "nas" / "www" / "part", 3)
        site = led.with_job(sources=[*map(os.fsdecode, led.job.sources), source / "nas" / "www" / "part"])
        site.backup()
        (tmp_path / "srv").unlink()
        report = site.backup()
        assert (report.outcome, report.files, report.shrunk) == (Outcome.PARTIAL, 36, ())

    def test_before_its_real_path_was_recorded(self, led: Site, source: Path, tmp_path: Path) -> None:
        with led.inventory.writing() as tx:
            tx.connection.execute("UPDATE snapshots SET roots = NULL")
        (tmp_path / "srv").unlink()
        (tmp_path / "srv" / "www").mkdir(parents=True)
        assert "and held 30 files (300 B)" in led.backup().shrunk[0]


class TestASourceOfAnotherName:
    @pytest.fixture
    def one(self, site: Site, source: Path) -> Site:
        fill(source / "srv" / "www", 30)
        fill(source / "srv" / "db", 30)
        fill(source / "etc", 25)
        site = site.with_job(sources=[source / "srv", source / "etc"])
        site.backup()
        return site

    @pytest.mark.parametrize("name", ["srv/", "./srv", "etc/../srv", "link/srv", ""])
    @pytest.mark.parametrize("roots_known", [True, False])
    def test_is_compared_with_what_the_snapshots_have_there(
        self, one: Site, source: Path, name: str, roots_known: bool
    ) -> None:
        (source / "link").symlink_to(source)
        if not roots_known:
            with one.inventory.writing() as tx:
                tx.connection.execute("UPDATE snapshots SET roots = NULL")
        empty(source / "srv")
        if not name:
            empty(source / "etc")
        one = one.with_job(sources=[f"{source}/{name}"])
        for _ in range(2):
            assert one.backup().shrunk

    def test_so_is_each_part_of_it(self, one: Site, source: Path) -> None:
        empty(source / "srv" / "db")
        (told,) = one.with_job(sources=[source / "srv" / "www", source / "srv" / "db"]).backup().shrunk
        assert told.startswith(f"source {source}/srv/db has")

    def test_one_that_no_snapshot_had_has_lost_nothing(self, one: Site, source: Path) -> None:
        (source / "new").mkdir()
        assert not one.with_job(sources=[source / "new", source / "srv"]).backup().shrunk

    def test_each_part_goes_by_the_filters_of_its_own_source(self, one: Site, source: Path) -> None:
        inner, outer = os.fsencode(source / "srv" / "db"), os.fsencode(source / "srv")
        parts = one.with_job(sources=[outer, inner], filters=Filters([f"{source}/srv/*"]))
        assert not parts.backup().shrunk, "the patterns leave out the other part"
        empty(source / "srv" / "db")
        assert len(parts.backup().shrunk) == 2

    def test_the_newest_night_counts_also_where_it_was_a_part_of_another(
        self, one: Site, source: Path
    ) -> None:
        etc = one.with_job(sources=[source / "etc"])
        etc.backup()
        fill(source / "etc", 300)
        one.with_job(sources=[source]).backup()
        empty(source / "etc", but=20)
        assert "and held 300 files" in etc.backup().shrunk[0]

    def test_the_fullest_night_counts_under_any_name(self, one: Site, source: Path) -> None:
        one = one.with_job(sources=[source / "etc"])
        one.backup()
        empty(source / "etc", but=10)
        one.backup()
        empty(source / "etc", but=2)
        assert one.with_job(sources=[f"{source}/etc/"]).backup().shrunk


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
    held = [
        sum((directory + b"/").startswith(top.rstrip(b"/") + b"/") for directory in directories)
        for top in tops
    ]
    assert counts.totals() == [(number, 7 * number) for number in held]
