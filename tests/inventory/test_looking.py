"""What differs and which versions there are, against snapshots written out in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.inventory.content import entries, entry_versions
from backup.inventory.content.archives import get_or_create_vault
from backup.inventory.content.entry_versions import Version
from backup.inventory.content.snapshots import Snapshot, find_snapshot, record_snapshot
from backup.inventory.questions import changes
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.records import runs
from backup.inventory.store import schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.model import JobName, Owner, SnapshotId, VaultName
from tests.support.doubles import START
from tests.support.made_up_inventories import fresh_ledger

PATHS = [b"/a", b"/a/x", b"/a/y", b"/a-b", b"/a-b/x", b"/a/c/\xff", b"/b"]
Tree = Mapping[bytes, int]  # path to a number that stands for mode and content
trees = st.dictionaries(st.sampled_from(PATHS), st.integers(1, 2), max_size=len(PATHS))


@contextmanager
def filled(histories: Sequence[Sequence[Tree]]) -> Iterator[tuple[Inventory, list[list[Snapshot]]]]:
    """An inventory with a job for each history, as intervals."""
    with fresh_ledger() as ledger:
        numbers = iter(range(1, 1000))
        with ledger.inventory.writing() as tx:
            owner = entries.add_owner(tx, Owner(0, 0))
            made = [
                written(tx, f"job-{place}", history, owner, numbers)
                for place, history in enumerate(histories)
            ]
        yield ledger.inventory, made


def written(
    tx: Transaction, name: str, history: Sequence[Tree], owner: int, numbers: Iterator[int]
) -> list[Snapshot]:
    vault = get_or_create_vault(tx, VaultName("v"))
    job = runs.get_or_create_job(tx, JobName(name), vault, name.encode().ljust(16))
    parents = {path.rpartition(b"/")[0] or b"/" for path in PATHS}
    known = {path: next(numbers) for path in sorted(parents)}
    entries.add_directories(tx, job.number, known)
    rows: dict[bytes, list[list[object]]] = {path: [] for path in PATHS}
    for number, tree in enumerate(history, 1):
        for path, versions in rows.items():
            alive = versions[-1] if versions and versions[-1][-1] is None else None
            what = tree.get(path)
            if alive is not None and alive[4] != what:
                alive[-1] = number
            if what is not None and (alive is None or alive[4] != what):
                home, _, last = path.rpartition(b"/")
                content = bytes([what]) * 16
                start = [
                    next(numbers),
                    known[home or b"/"],
                    last,
                    1,
                    what,
                    owner,
                    0,
                    what,
                    None,
                    content,
                    None,
                ]
                versions.append([*start, number, None])
    insert_rows(tx, schema.entries, [tuple(row) for some in rows.values() for row in some])
    made = []
    for number in range(1, len(history) + 1):
        sid = SnapshotId(f"{job.number:08x}{number:08x}")
        one = Snapshot(sid, job.name, job.number, number, None, START, START, "h", (), (), 0, 0)
        record_snapshot(tx, one)
        made.append(one)
    return made


def below(path: bytes, top: bytes) -> bool:
    return top == b"/" or path == top or path.startswith(top + b"/")


def place(path: bytes) -> tuple[bytes, bytes]:
    """Its directory and its name, by which entries are sorted."""
    home, _, name = path.rpartition(b"/")
    return home or b"/", name


def told(pair: tuple[Version | None, Version | None]) -> tuple[bytes, int | None, int | None]:
    before, after = pair
    one = after or before
    assert one is not None
    return one.path, before.mode if before else None, after.mode if after else None


@settings(max_examples=25, deadline=None)
@given(st.lists(trees, min_size=1, max_size=5), st.lists(trees, min_size=1, max_size=2), st.data())
def test_what_differs_is_what_differs(ours: list[Tree], theirs: list[Tree], data: st.DataObject) -> None:
    with filled([ours, theirs]) as (inventory, made):
        everything = [
            pair
            for some, kept in zip(made, (ours, theirs), strict=True)
            for pair in zip(some, kept, strict=True)
        ]
        (first, before), (second, after) = (data.draw(st.sampled_from(everything)) for _ in range(2))
        top = data.draw(st.sampled_from([b"/", b"/a", b"/a/c", b"/a-b/x"]))
        with inventory.reading() as tx:
            few = data.draw(st.sampled_from([0, changes.MOST_FOUND]))  # by a walk, or by the indexes
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(changes, "MOST_FOUND", few)
                pairs = list(changes.differing(tx, first, second, top))
        assert [told(pair)[0] for pair in pairs] == sorted((told(pair)[0] for pair in pairs), key=place)
        changed = {told(pair) for pair in pairs}
        assert len(changed) == len(pairs)
        expected = {
            (path, before.get(path), after.get(path))
            for path in PATHS
            if below(path, top) and before.get(path) != after.get(path)
        }
        assert {entry for entry in changed if entry[1] != entry[2]} == expected


@settings(max_examples=15, deadline=None)
@given(st.lists(trees, min_size=1, max_size=5))
def test_versions_tell_which_snapshots_have_them(history: list[Tree]) -> None:
    with filled([history]) as (inventory, made), inventory.reading() as tx:
        job = made[0][0].job_number
        series = entry_versions.series_by_job(tx)[job]
        for number, tree in enumerate(history, 1):
            there = {
                version.path: version.mode for version in entry_versions.versions_below(tx, job, at=number)
            }
            assert there == dict(tree)
        for path in PATHS:
            rows = entry_versions.versions_of(tx, job, path)
            rows.reverse()
            assert rows == [
                version for version in entry_versions.versions_below(tx, job) if version.path == path
            ]
            assert entry_versions.versions_of(tx, job, path, limit=1) == rows[-1:]
            having = [(snapshot.number, version.mode) for version in rows for snapshot in series.of(version)]
            assert having == [(n, tree[path]) for n, tree in enumerate(history, 1) if path in tree]


def test_the_nearest_names() -> None:
    with filled([[{b"/a": 1, b"/a/c/\xff": 1, b"/b": 1}]]) as (inventory, _), inventory.reading() as tx:
        snapshot = find_snapshot(tx, "latest")
        error = entry_versions.no_such_path(tx, snapshot, b"/b\x1b")
        assert "\\x1b" in str(error)
        assert error.advice == "did you mean /b?"
        assert "nightvault ls" in entry_versions.no_such_path(tx, snapshot, b"/qqq/zzz").advice
