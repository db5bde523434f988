"""A rebuilt inventory is compared with the one in use: equal, or each difference is named with its kind."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from backup.catalogs import catalogs
from backup.catalogs.catalogs import start_record, state_records
from backup.errors import InventoryDamagedError
from backup.format import catalog, records
from backup.inventory.rebuilt.columns import CARRIED, COMPARED, DERIVED, UNKNOWABLE
from backup.inventory.store import driver
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import open_copy
from backup.inventory.store.driver import executed
from backup.inventory.store.schema import METADATA
from backup.inventory.store.times import micros
from backup.kinds import RunKind
from backup.rebuilder import same_records
from backup.rebuilder.findings import EXTRA, MISSING, SINCE, TOLD_APART, UNNAMED, Comparison
from backup.rebuilder.sides import merged
from tests.support.backups import Site
from tests.support.catalogs import catalogs as stored_catalogs
from tests.support.catalogs import remove
from tests.support.rebuilds import bare

DAY = timedelta(days=1)
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
    site.amend(records.ShrunkRecord(second.number, [(b"/source", 1, 10, 100, 1000)]))
    site.amend(records.ShrunkRecord(second.number, [], accepted=True))
    with site.inventory.reading() as tx:
        pack = tx.connection.execute("SELECT min(pack_id) FROM archives WHERE kind = 1").fetchone()[0]
    site.amend(records.CondemnedRecord([pack], at), kind=RunKind.PRUNE)
    with site.inventory.reading() as tx:
        file = tx.connection.execute("SELECT min(number) FROM entries WHERE kind = 1").fetchone()[0]
    tables = [("public.orders", 40, 41)]
    site.amend(records.DumpRecord(file, "postgresql", "shop", "17.2", "UTF8", ["pg_restore"], tables))
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
    """The comparison of that file with the inventory in use."""
    until = until or site.clock.now()
    return same_records.compare(str(file), site.inventory, site.vault.name, shown_until=until)


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
    assert set(found.rows) == set(COMPARED)
    assert all(found.rows.values()), f"nothing was compared: {found.rows}"


@pytest.mark.parametrize("is_shared", [True, False])
def test_an_archive_that_one_job_retired_and_another_took_up(
    site: Site, tmp_path: Path, is_shared: bool
) -> None:
    """Each job's last word counts in a rebuild, the last of all here: an archive of one job alone differs."""
    sharing = [site, site.with_job(name="sharing")]
    if is_shared:
        sharing[1].backup()
    with site.inventory.reading() as tx:
        pack = tx.connection.execute("SELECT min(pack_id) FROM archives WHERE kind = 1").fetchone()[0]
    for server in sharing[: 1 + is_shared]:
        server.amend(records.RetiredRecord([pack]), kind=RunKind.COMPACT)
    site.amend(records.CondemnedRecord([pack], micros(site.clock.now())), kind=RunKind.PRUNE)
    site.amend(records.TakenUpRecord([pack]), kind=RunKind.PRUNE)
    file = rebuilt(site, tmp_path, with_mount=False)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE archives SET state = 'retired' WHERE pack_id = ?", (pack,))
    found = compared(site, file)
    told = [
        (difference.kind, difference.why) for difference in found.explained if difference.table == "archives"
    ]
    if is_shared:
        assert (found.are_same, told) == (True, [("state", TOLD_APART)])
    else:
        assert not found.are_same


def test_every_column_has_one_line() -> None:
    """It is carried by a record, derived, or on this server alone, with the reason why it may be lost."""
    lines = [*CARRIED, *DERIVED]
    for name in UNKNOWN:
        table, _, column = name.partition(".")
        names = [column] if column else METADATA.tables[table].columns.keys()
        lines += [f"{table}.{name}" for name in names]
    every = [f"{table.name}.{column.name}" for table in METADATA.tables.values() for column in table.columns]
    assert sorted(lines) == sorted(every)
    assert {name.split(".")[0] for name in (*CARRIED, *DERIVED)} == set(COMPARED)


def test_what_carries_a_column_exists() -> None:
    for carrier in CARRIED.values():
        record, *fields = carrier.split(".")
        assert {*fields[:1]} <= {*getattr(records, record).__struct_fields__}, carrier


def packed(value: object) -> str:
    """A value as the inventory packs it, in SQL."""
    return f"x'{msgspec.msgpack.encode(value).hex()}'"


CHANGED = {
    "INTEGER": "{c} + 1000000",
    "BIGINT": "{c} + 1000000",
    "TEXT": "{c} || 'x'",
    "BLOB": "CAST({c} || x'78' AS BLOB)",
    "archives.kind": "3 - {c}",
    "archives.state": "'lost'",
    "catalogs.generation": "3 - {c}",
    "chunks.id": "zeroblob(32)",
    "dumps.back": packed(["other"]),
    "dumps.tables": packed([("other", 1, 2)]),
    "entries.directory": "(SELECT max(number) FROM directories WHERE number <> {c})",
    "frames.digest": "zeroblob(16)",
    "snapshots.sources": packed([b"other"]),
    "snapshots.problems": packed([(b"other", "unreadable", "")]),
    "snapshots.counts": packed([(1, 2)]),
    "snapshots.roots": packed([b"other"]),
    "snapshots.shrunk": packed([(b"other", 0, 0, 1, 1)]),
    "snapshots.tags": """'["other"]'""",
}
"""Another value of a column, or of a type of column: one that can be read."""


def test_a_change_of_any_column_is_a_difference(lived: Site, tmp_path: Path) -> None:
    """The law: there is no column of which a rebuild could give something else back unnoticed."""
    file = rebuilt(lived, tmp_path)
    for name in (*CARRIED, *DERIVED):
        if name != "catalogs.archive":  # a reference to nothing: no rebuild ends with one
            assert is_noticed(lived, file, name), name


def is_noticed(site: Site, file: Path, column: str) -> bool:
    """Whether a change of this column (`table.column`) is a difference of that column, or of whole rows."""
    whole, (table_name, name) = file.read_bytes(), column.split(".")
    table = METADATA.tables[table_name]
    kind = table.c[name].type.compile()
    was = f'"{name}"' if not table.c[name].nullable else f'coalesce("{name}", {empty(kind)})'
    change = (CHANGED.get(column) or CHANGED[kind]).format(c=was)
    keys = ", ".join(f'"{key.name}"' for key in table.primary_key)
    sql = f"""UPDATE "{table_name}" SET "{name}" = {change} WHERE ({keys}) IN
              (SELECT {keys} FROM "{table_name}" WHERE {WHERE.get(column, "1")} LIMIT 1)"""
    with closing(sqlite3.connect(file)) as database, database:
        assert database.execute(sql).rowcount == 1
    try:
        found = compared(site, file).differences
        return any(row.table == table_name and row.kind in {name, MISSING, EXTRA} for row in found)
    finally:
        file.write_bytes(whole)


WHERE = {
    "hints.entry": "is_mount = 1",
    "hints.is_mount": "is_mount = 1",
    "snapshots.forgotten_at": "forgotten_at IS NOT NULL",
    "snapshots.pin_note": "pin_note IS NOT NULL",
    "snapshots.pin_until": "pin_note IS NOT NULL",
    "snapshots.shrunk": "shrunk IS NOT NULL",
}
"""Rows that catalogs carry, where that is not all of a table."""


def empty(kind: str) -> str:
    """A value that is not null."""
    return "0" if kind in {"INTEGER", "BIGINT"} else "''" if kind == "TEXT" else "x''"


def test_what_the_writer_of_full_catalogs_leaves_out_is_noticed(
    lived: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutants: catalogs and drills forget a field together, if no test does not see that it is gone.

    With a writer that leaves a field empty, or a record out, one of the laws above must fail, or the drill
    break off, since the records come in no order then.
    """
    file = rebuilt(lived, tmp_path)
    kinds = {carrier.split(".")[0] for carrier in CARRIED.values()} - {"Start"}  # no catalog lacks that
    for carrier in sorted({*CARRIED.values(), *kinds}):
        carried = [column for column, by in CARRIED.items() if f"{by}.".startswith(f"{carrier}.")]
        with monkeypatch.context() as patch, suppress(RuntimeError):
            leave_out(patch, carrier)
            found = compared(lived, file)
            is_whole = found.are_same and all(found.rows.values())
            lives = is_whole and all(is_noticed(lived, file, column) for column in carried)
            assert not lives, carrier


def leave_out(patch: pytest.MonkeyPatch, carrier: str) -> None:
    """Have the writer of full catalogs leave out a record, a field, or a field of packed rows."""
    name, *fields = carrier.split(".")
    kind = getattr(records, name)
    if len(fields) == 2:
        pack = getattr(catalog, f"split_{name.removesuffix('Record').lower()}")
        empty = {fields[1]: {"id": bytes(32), "digest": bytes(16)}.get(fields[1], 0)}
        patch.setattr(
            catalog,
            pack.__name__,
            lambda *values: pack(*values[:-1], [row._replace(**empty) for row in values[-1]]),
        )
        return

    def without(stream: Iterable[Any]) -> Iterator[Any]:
        for record in stream:
            is_entry = isinstance(record, tuple)
            if not (isinstance(record, kind) or (is_entry and kind is records.EntryRecord)):
                yield record
            elif fields and is_entry:
                at = kind.__struct_fields__.index(fields[0]) + 1
                yield (*record[:at], emptied(fields[0], record[at]), *record[at + 1 :])
            elif fields:
                yield replace(record, **{fields[0]: emptied(fields[0], getattr(record, fields[0]))})

    patch.setattr(catalogs, "start_record", lambda *values: next(without([start_record(*values)])))
    patch.setattr(catalogs, "state_records", lambda *values: without(state_records(*values)))


def emptied(field: str, value: Any) -> Any:
    """The empty value of a field."""
    if field in {"extra", "content_id", "removed_in", "until", "job_inventory", "job_nonce"}:
        return None
    return "" if isinstance(value, str) else type(value)()


def test_a_row_that_cannot_be_read_is_damage(lived: Site, tmp_path: Path) -> None:
    file = rebuilt(lived, tmp_path)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE snapshots SET problems = x'c1'")
    with pytest.raises(InventoryDamagedError, match=r"bare/inventory.sqlite cannot be compared"):
        compared(lived, file)


def test_the_number_of_queries_does_not_grow_with_the_files(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def queries(folder: str) -> tuple[int, int]:
        seen: list[str] = []

        def noted(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Any:
            seen.append(sql)
            return executed(tx, sql, values)

        file = rebuilt(site, tmp_path / folder, with_mount=False)
        with monkeypatch.context() as patch:
            patch.setattr(driver, "executed", noted)
            found = compared(site, file)
        assert found.are_same
        return found.rows["entries"], len(seen)

    for folder in ("few", "many"):
        (tmp_path / folder).mkdir()
    before = queries("few")
    for number in range(300):
        (source / f"one of many {number}").write_bytes(b"")
    site.backup()
    after = queries("many")
    assert after[0] - before[0] >= 300
    assert after[1] - before[1] < 30
    assert before[1] > 20


def test_no_row_of_files_is_sorted(lived: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLite sorts is held in memory, all of it: a drill's would grow with the files."""
    file, plans = rebuilt(lived, tmp_path), dict[str, str]()

    def explained(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Any:
        steps = tx.connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        plans[sql] = "; ".join(step[3] for step in steps)
        return executed(tx, sql, values)

    monkeypatch.setattr(driver, "executed", explained)
    assert compared(lived, file).are_same
    of_files = {sql: plan for sql, plan in plans.items() if re.search(r"FROM (entries|directories)", sql)}
    assert len(of_files) >= 2
    assert {sql: plan for sql, plan in of_files.items() if "TEMP B-TREE" in plan} == {}


def test_streams_that_come_in_no_order_are_not_compared() -> None:
    assert list(merged(iter([1, 3]), iter([2, 3]), int)) == [(1, None), (None, 2), (3, 3)]
    with pytest.raises(RuntimeError, match="2 comes after 3"):
        list(merged(iter([1, 3, 2]), iter([1, 2, 3]), int))


def test_a_row_that_one_side_lacks_is_a_difference(lived: Site, tmp_path: Path) -> None:
    file, used = rebuilt(lived, tmp_path), lived.folder / "inventory.sqlite"
    copies = {path: tmp_path / f"copy of {number}" for number, path in enumerate((file, used))}
    for path, copy in copies.items():
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
    whole = {copy: copy.read_bytes() for copy in copies.values()}
    for name, (place, kind) in itertools.product(COMPARED, ((file, MISSING), (used, EXTRA))):
        for copy, data in whole.items():
            copy.write_bytes(data)
        remove_a_row(copies[place], name)
        until = lived.clock.now() + DAY
        other, _ = open_copy(str(copies[used]))
        with closing(other):
            found = same_records.compare(str(copies[file]), other, lived.vault.name, shown_until=until)
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
    remove(site, stored_catalogs(site)[3, "delta"].archive_id)
    site.clock.sleep(1)
    found = compared(site, rebuilt(site, tmp_path, with_mount=False))
    (one,) = found.differences
    assert (one.table, one.kind, one.count) == ("catalogs", MISSING, 1)
