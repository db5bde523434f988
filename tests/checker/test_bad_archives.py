"""An archive that cannot be had stops nothing but what needs it."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from backup.checker import read_sample
from backup.checker.read_sample import begin_reading, plan_sample
from backup.checker.report import CheckReport
from backup.checker.sample import Amount
from backup.errors import (
    ArchiveUnreadableError,
    DeniedError,
    IntegrityError,
    NightvaultError,
    VaultError,
    VaultMissingError,
)
from backup.model import ArchiveId, RetrievalId, RetrievalState, RetrievalStatus
from backup.protocols import Vault
from backup.rebuilder.context import Wish
from backup.rebuilder.members import OlderStateError
from backup.vault import dirfd
from tests.support.backups import Site
from tests.support.catalogs import add_a_night, catalogs
from tests.support.checks import archive_file, archive_ids, check, check_world, kinds, query
from tests.support.doubles import NO_LIMIT, FaultyVault
from tests.support.rebuilds import Bare, bare, line_of
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too

BAD = [
    VaultError("Input/output error"),
    ArchiveUnreadableError("Input/output error"),
    IntegrityError("Input/output error: cut short"),
]


class BadOne(FaultyVault):
    """A vault that fails one method for one archive, whose retrievals have its id in theirs."""

    def __init__(self, vault: Vault, bad: str, method: str, error: NightvaultError) -> None:
        super().__init__(vault)
        self._bad, self._method, self._error = bad, method, error

    def _check(self, method: str, concerned: str) -> None:
        if method == self._method and self._bad in concerned:
            raise self._error

    def request_retrieval(self, archive_id: ArchiveId, *rest: Any) -> RetrievalId:
        self._check("request_retrieval", archive_id)
        return super().request_retrieval(archive_id, *rest)

    def fetch(self, retrieval_id: RetrievalId, *rest: Any) -> Any:
        self._check("fetch", retrieval_id)
        return super().fetch(retrieval_id, *rest)

    def retrieval_statuses(self, ids: Any) -> Any:
        failed = RetrievalStatus(RetrievalState.FAILED, str(self._error))
        return {
            retrieval_id: failed
            if self._method == "retrieval_statuses" and self._bad in retrieval_id
            else status
            for retrieval_id, status in super().retrieval_statuses(ids).items()
        }


METHODS = ["request_retrieval", "fetch", "retrieval_statuses"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", BAD)
def test_a_rebuild_does_without_a_catalog_that_cannot_be_read(
    site: Site, tmp_path: Path, method: str, error: NightvaultError
) -> None:
    newest = catalogs(site)[3, "delta"].archive_id
    new = bare(tmp_path, site)
    vault = BadOne(site.vault, newest, method, error)
    report = new.act(vault=vault)
    for _ in range(3):
        report = new.act(vault=vault) if report.state == "waiting" else report
    assert [(suspicion.kind, suspicion.archive_id) for suspicion in report.suspicions] == [
        ("missing", newest)
    ]
    assert "Input/output error" in report.suspicions[0].detail
    assert report.jobs[0].number == 2


@pytest.mark.parametrize("size", [0, 5, 200, -100])
def test_a_catalog_that_was_cut_short(site: Site, tmp_path: Path, size: int) -> None:
    newest = catalogs(site)[3, "delta"].archive_id
    path = archive_file(tmp_path / "vault", newest)
    os.truncate(path, path.stat().st_size + size if size < 0 else size)
    report = bare(tmp_path, site).rebuild()
    assert {suspicion.archive_id for suspicion in report.suspicions} == {newest}
    assert report.jobs[0].number == 2
    with pytest.raises(OlderStateError, match="does not show catalog 3"):
        bare(tmp_path, site, "by line").rebuild(Wish(lines=[line_of(site)]))


@pytest.mark.parametrize("method", ["request_retrieval", "fetch"])
@pytest.mark.parametrize("error", [DeniedError("no"), VaultMissingError("unmounted")])
def test_a_vault_that_is_away_is_no_older_state(
    site: Site, tmp_path: Path, method: str, error: NightvaultError
) -> None:
    """What is said of one catalog may be true of the vault: a rebuild of less is not what was asked for."""
    new = bare(tmp_path, site)
    with pytest.raises(type(error)):
        new.act(vault=BadOne(site.vault, catalogs(site)[3, "delta"].archive_id, method, error))
    assert new.rebuild().jobs[0].number == 3


@pytest.mark.parametrize("size", [0, 5, 200, -100])
def test_deep_does_without_packs_that_were_cut_short(
    site: Site, tmp_path: Path, source: Path, size: int
) -> None:
    add_a_night(site, source)
    bad = uncovered(site)[0]
    path = archive_file(tmp_path / "vault", bad)
    os.truncate(path, path.stat().st_size + size if size < 0 else size)
    report = Bare(tmp_path / "new", site.vault, site).rebuild(Wish(deep=True))
    assert [(suspicion.kind, suspicion.archive_id) for suspicion in report.suspicions] == [
        ("not-covered", bad)
    ]
    assert report.recovered_packs == len(uncovered(site)) - 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", BAD)
def test_deep_does_without_packs_that_cannot_be_read(
    site: Site, tmp_path: Path, source: Path, method: str, error: NightvaultError
) -> None:
    add_a_night(site, source)
    bad = uncovered(site)[0]
    new = bare(tmp_path, site)
    vault = BadOne(site.vault, bad, method, error)
    report = new.act(Wish(deep=True), vault=vault)
    for _ in range(3):
        report = new.act(Wish(deep=True), vault=vault) if report.state == "waiting" else report
    assert [(suspicion.kind, suspicion.archive_id) for suspicion in report.suspicions] == [
        ("not-covered", bad)
    ]
    assert report.recovered_packs == len(uncovered(site)) - 1


def uncovered(site: Site) -> list[str]:
    """The archives of the last night, by the inventory that is gone."""
    with sqlite3.connect(site.folder / "inventory.sqlite") as db:
        found = db.execute(
            "SELECT archive_id FROM archives WHERE kind = 1 AND run = (SELECT max(run) FROM archives)"
        ).fetchall()
    db.close()
    return [row[0] for row in found]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", BAD)
def test_a_check_reads_on_behind_an_archive_that_cannot_be_read(
    site: Site, method: str, error: NightvaultError
) -> None:
    bad = archive_ids(site)[0]
    report = read(site, BadOne(site.vault, bad, method, error))
    assert {finding.what for finding in report.findings} == {bad}
    others = query(site, "SELECT count(*) FROM readings WHERE read_at IS NOT NULL")[0][0]
    assert others >= len(archive_ids(site)) - 1


def read(site: Site, vault: Vault) -> CheckReport:
    world = check_world(site, vault=vault, keys=[site.key])
    run = begin_reading(plan_sample(Amount(share=Fraction(1)), world), world, NO_LIMIT)
    return read_sample.go_on(run, world)


def test_a_header_that_is_damaged_in_the_inventory_does_not_stop_a_check(site: Site) -> None:
    with site.inventory.writing() as tx:
        tx.connection.execute("UPDATE archives SET header = zeroblob(40) WHERE number = 1")
    assert kinds(read(site, site.vault)) == {"sealed": 1}


def test_a_list_is_made_although_one_record_cannot_be_read(
    site: Site, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = archive_file(tmp_path / "vault", archive_ids(site)[0]).with_suffix(".json").stat().st_ino
    real: Callable[[int, int, int], bytes] = dirfd.read_at

    def failing(fd: int, length: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == inode:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, length, offset)

    monkeypatch.setattr(dirfd, "read_at", failing)
    assert check(site).findings == ()
    new = bare(tmp_path, site)
    new.rebuild()
    again = new.site()
    again.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")
    again.close()
