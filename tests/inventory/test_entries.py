"""Entries are intervals: snapshot n is the rows with added_in <= n and (removed_in null or > n)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import InventoryDamagedError
from backup.inventory.content import archives, entries, shrunk
from backup.inventory.content.entries import EntryRow, LiveEntry, StagedEntry
from backup.inventory.content.entry_versions import versions_in
from backup.inventory.records import runs
from backup.inventory.store import schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.driver import raw_rows
from backup.model import EntryKind, Hint, JobName, Owner, VaultName
from tests.support.made_up_inventories import Ledger, columns, fresh_ledger, ledger_of


@pytest.fixture
def ledger(inventory: Inventory) -> Ledger:
    return ledger_of(inventory)


def below(ledger: Ledger, path: bytes, number: int) -> set[tuple[bytes, bytes, int]]:
    """What a snapshot holds below a path: directory, name, size."""
    with ledger.inventory.reading() as tx:
        rows = list(entries.entries_below(tx, ledger.job.number, path, number))
    assert [(where, row.name) for where, row in rows] == sorted((where, row.name) for where, row in rows)
    return {(where, row.name, row.size) for where, row in rows}


NAMES = (b"a", b"b", b"\xff")
PATHS = (b"/s", b"/s/a", b"/s/a/x", b"/s/a-", b"/s/a0", b"/sa")


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),  # whether the run is committed
            st.dictionaries(
                st.tuples(st.sampled_from(PATHS), st.sampled_from(NAMES)),
                st.one_of(st.none(), st.integers(0, 9)),
            ),
        ),
        max_size=8,
    )
)
def test_snapshots_hold_what_was_true_then(
    nights: list[tuple[bool, dict[tuple[bytes, bytes], int | None]]],
) -> None:
    with fresh_ledger() as ledger:
        paths = {path: number for number, path in enumerate(PATHS, 1)}
        with ledger.inventory.writing() as tx:
            entries.add_directories(tx, ledger.job.number, paths)
        truth: dict[tuple[bytes, bytes], int] = {}
        live: dict[tuple[bytes, bytes], int] = {}
        expected: dict[int, set[tuple[bytes, bytes, int]]] = {}
        for is_committed, edits in nights:
            run = ledger.run()
            assert run.snapshot_number is not None
            added = {
                key: ledger.entry(paths[key[0]], key[1], size=size)
                for key, size in edits.items()
                if size is not None
            }
            removed = [live[key] for key in edits if key in live]
            with ledger.inventory.writing() as tx:
                entries.stage(tx, run.number, added=columns(added.values()), removed=removed)
                assert entries.count_staged(tx, run.number) == (len(added), len(removed))
                if not is_committed:
                    entries.discard_staged(tx, run.number)
                    continue
                entries.apply_staged(tx, run.number, run.snapshot_number)
            for key, size in edits.items():
                truth.pop(key, None)
                live.pop(key, None)
                if size is not None:
                    truth[key] = size
                    live[key] = added[key].number
            expected[run.snapshot_number] = {(*key, size) for key, size in truth.items()}
        for number, rows in expected.items():
            for top in (b"/s", b"/s/a", b"/"):
                inside = {row for row in rows if (row[0] + b"/").startswith(top.rstrip(b"/") + b"/")}
                assert below(ledger, top, number) == inside
        with ledger.inventory.reading() as tx:
            for path, directory in paths.items():
                newest = {entry.name: entry.size for entry in newest_in(tx, directory)}
                assert newest == {key[1]: size for key, size in truth.items() if key[0] == path}
            for table in (schema.staged_entries, schema.staged_removals, schema.staged_hints):
                assert tx.connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0] == 0


def newest_in(tx: Transaction, directory: int) -> list[LiveEntry]:
    """The newest version of everything in a directory."""
    return [LiveEntry._make(row) for row in entries.live_rows(lambda: tx, directory)]


def test_a_file_looks_as_the_system_would_show_it(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    found = os.stat(tmp_path / "file")
    run = ledger.run()
    entry = ledger.entry(1, b"file", size=5)._replace(
        kind=EntryKind.FILE,
        mode=stat.S_IMODE(found.st_mode),
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=found.st_ino,
    )
    with ledger.inventory.writing() as tx:
        entries.add_directories(tx, ledger.job.number, {b"/d": 1})
        entries.stage(tx, run.number, added=columns([entry]))
        entries.apply_staged(tx, run.number, 1)
        (one,) = newest_in(tx, 1)
    assert one[8:] == (found.st_mode, 5, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    assert one.mode == stat.S_IMODE(found.st_mode)


def test_hints_are_updated_in_place_and_go_with_their_entry(ledger: Ledger) -> None:
    first, second = ledger.run(), ledger.run()
    kept, gone = ledger.entry(1, b"kept"), ledger.entry(1, b"gone")
    with ledger.inventory.writing() as tx:
        entries.add_directories(tx, ledger.job.number, {b"/d": 1})
        entries.stage(tx, first.number, added=columns([kept, gone]))
        entries.apply_staged(tx, first.number, 1)
        entries.stage(tx, second.number, removed=[gone.number], hinted=[(kept.number, Hint(70, 80, True))])
        entries.apply_staged(tx, second.number, 2)
        (one,) = newest_in(tx, 1)
        assert (one.inode, one.ctime_ns, one.is_mount) == (70, 80, 1)
        assert tx.connection.execute("SELECT count(*) FROM hints").fetchone()[0] == 1
        tx.connection.execute("DELETE FROM hints")
        (one,) = newest_in(tx, 1)
        assert (one.inode, one.ctime_ns, one.is_mount) == (0, 0, 0), "lost without harm"


def test_staged_rows_come_back_as_they_went_in(ledger: Ledger) -> None:
    run = ledger.run()
    rows = [ledger.entry(2, b"b"), ledger.entry(1, b"\xff\x00a", size=2**62)]
    with ledger.inventory.writing() as tx:
        entries.add_directories(tx, ledger.job.number, {b"/d": 1, b"/e": 2})
        entries.stage(tx, run.number, added=columns(rows))
        entries.apply_staged(tx, run.number, 1)
        found = list(entries.all_entries(tx, ledger.job.number))
        by_directory = reversed(rows)
        assert [(*row, 1, None) for row in (entry[:11] for entry in by_directory)] == found
        assert list(entries.all_directories(tx, ledger.job.number)) == [(1, b"/d"), (2, b"/e")]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 3]), st.sampled_from([0, 1]), st.sampled_from([None, b"x"]))))
def test_staged_columns_may_have_one_value_or_many(some: list[tuple[int, int, bytes | None]]) -> None:
    with fresh_ledger() as ledger:
        run = ledger.run()
        rows = [
            ledger.entry(1, b"%d" % number)._replace(owner=owner, extra=extra, is_mount=is_mount)
            for number, (owner, is_mount, extra) in enumerate(some)
        ]
        with ledger.inventory.writing() as tx:
            entries.stage(tx, run.number, added=columns(rows))
            names = ", ".join(StagedEntry._fields)
            found = list(raw_rows(tx, f"SELECT run, {names} FROM staged_entries ORDER BY number", ()))
    assert found == [(run.number, *entry) for entry in rows]


@pytest.mark.parametrize("ends", ["applied", "discarded"])
def test_what_another_run_has_staged_stays(ledger: Ledger, ends: str) -> None:
    first, second = ledger.run(), ledger.run()
    with ledger.inventory.writing() as tx:
        entries.add_directories(tx, ledger.job.number, {b"/d": 1})
        entries.stage(tx, first.number, added=columns([ledger.entry(1, b"a"), ledger.entry(1, b"b")]))
        entries.stage(tx, second.number, added=columns([ledger.entry(1, b"c")]))
        if ends == "applied":
            entries.apply_staged(tx, first.number, 1)
        else:
            entries.discard_staged(tx, first.number)
        assert entries.count_staged(tx, first.number) == (0, 0)
        assert entries.count_staged(tx, second.number) == (1, 0)
        entries.apply_staged(tx, second.number, 2)
        assert entries.count_staged(tx, second.number) == (0, 0)
        assert len(list(entries.all_entries(tx, ledger.job.number))) == (3 if ends == "applied" else 1)


def test_a_staged_entry_of_no_directory_is_not_made_true(ledger: Ledger) -> None:
    run = ledger.run()
    with ledger.inventory.writing() as tx:
        entries.stage(tx, run.number, added=columns([ledger.entry(4711, b"lost")]))
    with pytest.raises(InventoryDamagedError), ledger.inventory.writing() as tx:
        entries.apply_staged(tx, run.number, 1)


def test_looking_for_one_entry_and_one_directory(ledger: Ledger) -> None:
    run = ledger.run()
    top, inside = ledger.entry(1, b"d"), ledger.entry(2, b"f")
    with ledger.inventory.writing() as tx:
        entries.add_directories(tx, ledger.job.number, {b"/": 1, b"/d": 2})
        entries.stage(tx, run.number, added=columns([top, inside]))
        entries.apply_staged(tx, run.number, 1)
        job = ledger.job.number
        found = entries.entry_at(tx, job, b"/d/f", 1)
        assert isinstance(found, EntryRow)
        assert (found.number, found.added_in, found.removed_in) == (inside.number, 1, None)
        assert entries.entry_at(tx, job, b"/d/", 1) is not None
        assert entries.entry_at(tx, job, b"/d/f", 0) is None
        assert entries.entry_at(tx, job, b"/d/g", 1) is None
        assert [row.name for row in versions_in(tx, job, b"/d", 1)] == [b"f"]
        assert list(versions_in(tx, job + 1, b"/d", 1)) == []
        assert entries.find_directory(tx, job, b"/d") == 2
        assert entries.find_directory(tx, job + 1, b"/d") is None
        assert list(entries.all_directories(tx, job)) == [(1, b"/"), (2, b"/d")]
        numbers = [EntryRow._make(row).number for row in entries.all_entries(tx, job)]
        assert numbers == [top.number, inside.number]


def test_live_below_takes_no_namesakes(ledger: Ledger) -> None:
    run = ledger.run()
    paths = {
        path: number for number, path in enumerate((b"/a", b"/a/b", b"/a/b/c", b"/a-", b"/a/b0", b"/a0"), 1)
    }
    rows = {path: ledger.entry(number, b"x") for path, number in paths.items()}
    with ledger.inventory.writing() as tx:
        entries.add_directories(tx, ledger.job.number, paths)
        entries.stage(tx, run.number, added=columns(rows.values()))
        entries.apply_staged(tx, run.number, 1)
        assert set(entries.live_below(tx, ledger.job.number, b"/a/b")) == {
            rows[path].number for path in (b"/a/b", b"/a/b/c")
        }
        assert len(entries.live_below(tx, ledger.job.number, b"/")) == len(paths)


def test_what_a_source_holds_is_counted_as_snapshots_and_runs_have_it(ledger: Ledger) -> None:
    """Not what another job has there, nor what another run has staged: each file has a size of its own."""
    job, folder = ledger.job.number, EntryKind.DIRECTORY
    with ledger.inventory.writing() as tx:
        vault = archives.get_or_create_vault(tx, VaultName("v"))
        other = Ledger(
            ledger.inventory, runs.get_or_create_job(tx, JobName("other"), vault, b"o" * 16), ledger.numbers
        )
        paths = (b"/", b"/a", b"/a/b", b"/a-", b"/a0")
        entries.add_directories(tx, job, {path: number for number, path in enumerate(paths, 1)})
        entries.add_directories(tx, other.job.number, {b"/a": 6})
    night, after, staging, others = ledger.run(), ledger.run(), ledger.run(), other.run()
    with ledger.inventory.writing() as tx:
        files = [ledger.entry(number, b"x", size=10**number) for number in range(1, 7)]
        inner = ledger.entry(2, b"b")._replace(kind=folder)
        entries.stage(tx, night.number, added=columns([*files, inner]))
        entries.apply_staged(tx, night.number, 1)
        entries.stage(tx, after.number, added=columns([ledger.entry(2, b"y", size=3)]), removed=[3])
        entries.apply_staged(tx, after.number, 2)
        new = [ledger.entry(3, b"z", size=4), ledger.entry(3, b"c")._replace(kind=folder)]
        beside = [ledger.entry(2, b"v", size=5), ledger.entry(5, b"w", size=5), ledger.entry(6, b"w", size=5)]
        entries.stage(tx, staging.number, added=columns([*new, beside[2]]), removed=[2])
        entries.stage(tx, others.number, added=columns(beside[:2]), removed=[1, 4, 5, 6])
    with ledger.inventory.reading() as tx:
        counted = [shrunk.count_below(tx, job, b"/a", snapshot=number) for number in range(4)]
        assert counted == [(0, 0), (2, 1_100), (2, 103), (2, 103)]
        assert shrunk.count_below(tx, job, b"/a") == (2, 103)
        assert shrunk.count_below(tx, job, b"/a", staged_by=staging.number) == (2, 7)
        assert shrunk.count_below(tx, job, b"/a/b", snapshot=1) == (1, 1_000)
        assert shrunk.count_below(tx, job, b"/", snapshot=1) == (5, 111_110)
        assert shrunk.count_below(tx, other.job.number, b"/a") == (1, 10**6)
        kind = int(EntryKind.FILE)
        first = [(b"/a", b"x", kind, 100), (b"/a/b", b"x", kind, 1_000)]
        then = [(b"/a", b"x", kind, 100), (b"/a", b"y", kind, 3)]
        for number, expected in enumerate([[], first, then, then]):
            assert sorted(shrunk.files_below(tx, job, b"/a", number)) == expected
        sizes = [shrunk.file_size(tx, job, b"/a/b/x", number) for number in range(3)]
        assert sizes == [0, 1_000, 0]
        assert [shrunk.file_size(tx, job, b"/a/x", 1), shrunk.file_size(tx, job, b"/a/y", 2)] == [100, 3]
        assert shrunk.file_size(tx, job, b"/a/z", 2) == 0
        assert shrunk.file_size(tx, other.job.number, b"/a/x", 1) == 10**6


def test_owners_are_told_apart_by_number_and_name(inventory: Inventory) -> None:
    known = [Owner(0, 0, "root", "root"), Owner(0, 0, "admin", "root"), Owner(2**32 - 2, 1, "", "")]
    with inventory.writing() as tx:
        numbers = {owner: entries.add_owner(tx, owner) for owner in known}
        assert entries.load_owners(tx) == numbers
        assert entries.owners_by_number(tx) == {number: owner for owner, number in numbers.items()}
