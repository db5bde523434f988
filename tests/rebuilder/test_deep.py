"""Packs that no catalog covers: their own directories give their chunks back, so that none is sent again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from backup.model import PackKind
from backup.rebuilder.context import Wish
from tests.support.backups import Site
from tests.support.catalogs import add_a_night, spoil
from tests.support.integrity import list_now
from tests.support.rebuilds import Bare, bare, rows
from tests.support.trees import assert_same_tree


def test_uncovered_packs_are_built_upon(site: Site, tmp_path: Path, source: Path) -> None:
    new_bytes = add_a_night(site, source)
    plain = bare(tmp_path, site, "plain")
    assert plain.rebuild().recovered_packs == 0
    new = bare(tmp_path, site, "deep")
    report = new.rebuild(Wish(deep=True))
    assert report.recovered_packs >= 2
    assert rows(new.folder)["snapshots"] == rows(plain.folder)["snapshots"]
    was = {row[2] for row in rows(site.folder)["chunks"]}
    assert {row[2] for row in rows(new.folder)["chunks"]} == was, "every chunk is known again"
    again = new.site()
    assert again.backup().bytes_new < 1000 < new_bytes
    again.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")
    again.close()


def test_what_cannot_be_read_is_named(site: Site, tmp_path: Path, source: Path) -> None:
    add_a_night(site, source)
    with sqlite3.connect(site.folder / "inventory.sqlite") as db:
        (newest,) = db.execute("SELECT max(number) FROM archives WHERE kind = 1").fetchone()
        (archive_id,) = db.execute("SELECT archive_id FROM archives WHERE number = ?", (newest,)).fetchone()
    db.close()
    spoil(site, archive_id, 0.999999)
    report = Bare(tmp_path / "new", site.vault, site).rebuild(Wish(deep=True))
    assert [(suspicion.kind, suspicion.archive_id) for suspicion in report.suspicions] == [
        ("not-covered", archive_id)
    ]
    assert report.recovered_packs >= 1
    data = [
        archive
        for archive in list_now(site.vault).archives
        if archive.label and archive.label.kind is PackKind.DATA
    ]
    assert report.recovered_packs < len(data)
