"""All jobs of an inventory come back with one rebuild, or those that are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.inventory.content import snapshots
from backup.rebuilder.context import Wish
from tests.support.backups import Site
from tests.support.rebuilds import Bare, bare, line_of, rows


@pytest.fixture
def pair(site: Site, tmp_path: Path) -> tuple[Site, Site]:
    """The job of before, and another that shares its chunks."""
    other = tmp_path / "other source"
    other.mkdir()
    (other / "copy of large").write_bytes((Path(site.job.sources[0].decode()) / "large").read_bytes())
    (other / "own").write_text("own")
    second = site.with_job(sources=[other], name="zweiter")
    second.backup()
    return site, second


def test_both_jobs_row_by_row(pair: tuple[Site, Site], tmp_path: Path) -> None:
    new = bare(tmp_path, pair[0])
    report = new.rebuild()
    assert [(job.name, job.snapshots) for job in report.jobs] == [("job", 3), ("zweiter", 1)]
    assert rows(new.folder) == rows(pair[0].folder)


def test_both_lines_and_no_list(pair: tuple[Site, Site], tmp_path: Path) -> None:
    new = bare(tmp_path, pair[0])
    report = new.rebuild(Wish(lines=[line_of(site) for site in pair]))
    assert all(job.line_met for job in report.jobs)
    assert rows(new.folder)["entries"] == rows(pair[0].folder)["entries"]
    assert rows(new.folder)["chunks"] == rows(pair[0].folder)["chunks"]


def test_one_job_has_all_that_it_needs(pair: tuple[Site, Site], tmp_path: Path) -> None:
    new = Bare(tmp_path / "one", pair[0].vault, pair[1])
    report = new.rebuild(Wish(jobs=frozenset({"zweiter"})))
    assert [job.name for job in report.jobs] == ["zweiter"]
    site = new.site()
    site.restore("latest", tmp_path / "out")
    assert (tmp_path / "out" / "own").read_text() == "own"
    assert (tmp_path / "out" / "copy of large").stat().st_size > 1000
    with site.inventory.reading() as tx:
        assert {snapshot.job for snapshot in snapshots.list_snapshots(tx)} == {"zweiter"}
    site.close()
