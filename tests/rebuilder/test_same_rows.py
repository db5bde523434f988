"""A rebuilt inventory is compared with the one in use: equal, or each difference is named with its kind."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import Table

from backup.format import records
from backup.inventory.rebuilt.carried_rows import PAIRINGS
from backup.inventory.rebuilt.row_pairing import SINCE, UNNAMED
from backup.inventory.rebuilt.same_rows import EXTRA, MISSING, Comparison, compare
from backup.inventory.rebuilt.unknowable_rows import UNKNOWABLE
from backup.inventory.store.schema import METADATA
from backup.inventory.store.times import micros
from backup.kinds import RunKind
from tests.support.backups import Site
from tests.support.catalogs import catalogs, remove
from tests.support.rebuilds import bare

DAY = timedelta(days=1)
CARRIED = {pairing.table: pairing for pairing in PAIRINGS}
A_DIRECTORY = "SELECT min(number) AS number FROM entries WHERE kind = 2 AND removed_in IS NULL"
UNKNOWN = {name for unknowable in UNKNOWABLE for name in unknowable.what}


@pytest.fixture
def lived(site: Site, source: Path) -> Site:
    """A server of which every carried table has a row: with marks, a mount point, condemned archives."""
    first, second, _ = site.snapshots()
    (source / "fourth night").write_bytes(b"x" * 1000)
    site.clock.sleep(86400)
    site.backup()
    at = micros(site.clock.now())
    site.amend(records.MarksRecord(second.number, ["yearly"], True, "for the audit", at))
    site.amend(records.ForgottenRecord([first.number], at))
    with site.inventory.reading() as tx:
        pack = tx.connection.execute("SELECT min(pack_id) FROM archives WHERE kind = 1").fetchone()[0]
    site.amend(records.CondemnedRecord([pack], at), kind=RunKind.PRUNE)
    with site.inventory.writing() as tx:
        tx.connection.execute(f"UPDATE hints SET is_mount = 1 WHERE entry = ({A_DIRECTORY})")
    return site


def rebuilt(site: Site, folder: Path, *, with_mount: bool = True) -> Path:
    """The file of a rebuilt inventory."""
    new = bare(folder, site)
    assert new.rebuild().state == "done"
    file = new.folder / "inventory.sqlite"
    with closing(sqlite3.connect(file)) as database, database:
        if with_mount:  # as if a catalog had told of it
            database.execute(f"INSERT INTO hints SELECT number, 0, 0, 1 FROM ({A_DIRECTORY})")
    return file


def compared(site: Site, file: Path, until: datetime | None = None) -> Comparison:
    """The comparison of a copy of that file with the inventory in use."""
    copy = file.with_name("copy.sqlite")
    shutil.copyfile(file, copy)
    return compare(
        str(copy),
        str(site.folder / "inventory.sqlite"),
        site.vault.name,
        shown_until=until or site.clock.now(),
    )


@pytest.mark.parametrize("bytes_too", [False, True])
def test_a_catalog_that_the_vault_holds_twice_is_no_difference(
    lived: Site, tmp_path: Path, bytes_too: bool
) -> None:
    """Where the answer to an upload was lost it is sent again a day later; a rebuild may take either."""
    file = rebuilt(lived, tmp_path)
    with closing(sqlite3.connect(file)) as database, database:
        spoils = ", tree_hash = zeroblob(32)" if bytes_too else ""
        newest = "SELECT archive FROM catalogs ORDER BY job, number DESC LIMIT 1"
        database.execute(
            f"UPDATE archives SET archive_id = 'the other one'{spoils} WHERE number = ({newest})"
        )
    found = compared(lived, file)
    explained = [difference.count for difference in found.explained if difference.kind == "archive_id"]
    assert (found.are_same, explained) == ((False, []) if bytes_too else (True, [1]))


def test_all_that_catalogs_carry_is_the_same(lived: Site, tmp_path: Path) -> None:
    found = compared(lived, rebuilt(lived, tmp_path))
    assert found.differences == []
    assert [difference.why for difference in found.explained] in ([], [UNNAMED])
    assert set(found.rows) == set(CARRIED)
    assert all(found.rows.values()), f"nothing was compared: {found.rows}"


def columns() -> list[tuple[Table, str]]:
    """All columns of carried tables that are not among what no rebuild knows."""
    tables = [METADATA.tables[name] for name in CARRIED]
    every = [(table, column.name) for table in tables for column in table.columns]
    return [(table, name) for table, name in every if f"{table.name}.{name}" not in UNKNOWN]


def test_every_table_and_column_is_compared_or_explained() -> None:
    named = set(METADATA.tables)
    assert {name.split(".")[0] for name in UNKNOWN} <= named
    assert set(CARRIED) | {name for name in UNKNOWN if "." not in name} == named
    for table, name in columns():
        one = CARRIED[table.name]
        assert name in {*one.by, *(field.name for field in one.fields)} or table.name == "hints", name


CHANGED = {
    "INTEGER": "{c} + 1000000",
    "BIGINT": "{c} + 1000000",
    "TEXT": "{c} || 'x'",
    "BLOB": "{c} || x'78'",
}


def test_a_change_of_any_column_is_a_difference(lived: Site, tmp_path: Path) -> None:
    """The law: there is no column of which a rebuild could give something else back unnoticed."""
    file = rebuilt(lived, tmp_path)
    whole = file.read_bytes()
    for table, name in columns():
        if (table.name, name) == ("catalogs", "archive"):
            continue  # a reference to nothing: no rebuild ends with one
        kind = table.c[name].type.compile()
        was = f'"{name}"' if not table.c[name].nullable else f'coalesce("{name}", {empty(kind)})'
        change = CHANGED[kind].format(c=was)
        if (table.name, name) == ("archives", "state"):
            change = "'lost'"
        with closing(sqlite3.connect(file)) as database, database:
            where = "is_mount = 1" if table.name == "hints" else "1"
            keys = ", ".join(f'"{column.name}"' for column in table.primary_key)
            sql = f"""UPDATE "{table.name}" SET "{name}" = {change} WHERE ({keys}) IN
                      (SELECT {keys} FROM "{table.name}" WHERE {where} LIMIT 1)"""
            assert database.execute(sql).rowcount == 1
        assert not compared(lived, file).are_same, f"{table.name}.{name}"
        file.write_bytes(whole)


def empty(kind: str) -> str:
    """A value that is not null."""
    return "0" if kind in {"INTEGER", "BIGINT"} else "''" if kind == "TEXT" else "x''"


def test_a_row_that_one_side_lacks_is_a_difference(lived: Site, tmp_path: Path) -> None:
    file, used = rebuilt(lived, tmp_path), lived.folder / "inventory.sqlite"
    copies = {path: tmp_path / f"copy of {number}" for number, path in enumerate((file, used))}
    for path, copy in copies.items():
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
    whole = {copy: copy.read_bytes() for copy in copies.values()}
    for name, (place, kind) in itertools.product(CARRIED, ((file, MISSING), (used, EXTRA))):
        for copy, data in whole.items():
            copy.write_bytes(data)
        remove_a_row(copies[place], name)
        until = lived.clock.now() + DAY
        found = compare(str(copies[file]), str(copies[used]), lived.vault.name, shown_until=until)
        assert not found.are_same
        if name not in {"vaults", "domains", "archives"}:  # of which others are missed
            assert (name, kind) in {(difference.table, difference.kind) for difference in found.differences}


def remove_a_row(file: Path, name: str) -> None:
    where = "is_mount = 1" if name == "hints" else "1"
    keys = ", ".join(f'"{column.name}"' for column in METADATA.tables[name].primary_key)
    sql = f"""DELETE FROM "{name}" WHERE ({keys}) IN
              (SELECT {keys} FROM "{name}" WHERE {where} ORDER BY 1 DESC LIMIT 1)"""
    with closing(sqlite3.connect(file)) as database, database:
        assert database.execute(sql).rowcount == 1


def test_what_came_after_the_rebuilt_state_is_left_out(lived: Site, tmp_path: Path, source: Path) -> None:
    file, listed = rebuilt(lived, tmp_path), lived.clock.now()
    (source / "deep" / "new").parent.mkdir(exist_ok=True)
    (source / "deep" / "new").write_text("a later night")
    (source / "third night").unlink()
    (source / "fourth night").write_text("changed")
    replace(lived, most_deltas=1).backup()
    assert compared(lived, file, listed).differences == []
    lived.amend(records.ForgottenRecord([2, 3], micros(lived.clock.now())))
    found = compared(lived, file, listed)
    assert found.differences == []
    assert [difference.count for difference in found.explained if difference.kind == "forgotten_at"] == [2]
    assert {difference.why for difference in found.explained if difference.table == "snapshots"} == {SINCE}
    lived.amend(records.DroppedRecord([1, 2]))
    found = compared(lived, file, listed)
    assert found.differences == []
    assert {"snapshots", "entries"} <= {
        difference.table for difference in found.explained if difference.why == SINCE
    }
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE entries SET mode = mode + 1 WHERE name = ?", (b"third night",))
    (one,) = compared(lived, file, listed).differences
    assert (one.table, one.kind, one.count) == ("entries", "mode", 1)
    assert one.examples[0].endswith("33188 here, 33189 rebuilt") or "third night" in one.examples[0]


def test_an_older_state_is_a_difference_where_the_vault_should_have_a_newer_one(
    site: Site, tmp_path: Path
) -> None:
    """Catalog 3 is gone from the vault, and the inventory calls it stored."""
    remove(site, catalogs(site)[3, "delta"].archive_id)
    site.clock.sleep(1)
    found = compared(site, rebuilt(site, tmp_path, with_mount=False))
    (one,) = found.differences
    assert (one.table, one.kind, one.count) == ("catalogs", MISSING, 1)
