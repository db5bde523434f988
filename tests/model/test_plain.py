"""The plain statements of `plain.py` say the same as the SQL that the program asks, of any inventory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from backup.inventory.content import archives, copied_pruning, entries, need, pruning
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.packed import index_chunks
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.records import runs
from backup.inventory.store import schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import insert_row
from backup.inventory.store.times import micros
from backup.model import Generation, JobName, Owner, PackKind, VaultName
from backup.pruner.needed import needed_archives
from tests.model.plain import CatalogRow, Packs, Place, needed_catalogs
from tests.support.doubles import START
from tests.support.made_up_inventories import Ledger, fresh_ledger

AT = micros(START)
SNAPSHOTS = 4
JOBS = (1, 2)
CATALOGS_FROM = 100
OFTEN = ("retired", "retired", "unconfirmed", "deleting", "deleted", "submitted")
"""States of which two copies, or a copy of what is gone, make a difference."""

Entry = tuple[int, int, int | None, list[Place]]
"""Its job, the snapshot it was added in, the one it was removed in, and where its chunks lie."""


class Rows(Struct, frozen=True):
    """An inventory: archives, chunks in them, entries, what a run has staged, snapshots, catalogs.

    `forgotten` and `read` are snapshots, by job and number; `condemned`: by archive the jobs that say so;
    `going` are archives that somebody else may delete.
    """

    states: Sequence[str]
    chunks: Sequence[Place]
    entries: Sequence[Entry]
    staged: Sequence[list[Place]]
    forgotten: frozenset[tuple[int, int]]
    read: frozenset[tuple[int, int]]
    condemned: Mapping[int, frozenset[int]]
    catalogs: Sequence[CatalogRow]
    going: frozenset[int]

    @property
    def packs(self) -> Packs:
        """The same as plain values."""
        contents = {
            number: [chunk for archive, chunk in self.chunks if archive == number]
            for number in range(len(self.states))
        }
        return Packs(dict(enumerate(self.states)), contents)

    def named(self, *, by: frozenset[tuple[int, int]] | None = None) -> set[Place]:
        """Where the chunks lie that these snapshots name; without any: all that is kept, live or staged."""
        keeps = by is None
        snapshots = self.every - (self.forgotten - self.read) if by is None else by
        found = {place for places in self.staged for place in places} if keeps else set()
        for job, added, removed, places in self.entries:
            is_live = keeps and removed is None
            end = SNAPSHOTS + 1 if removed is None else removed
            if is_live or any(of == job and added <= number < end for of, number in snapshots):
                found.update(places)
        return found

    @property
    def every(self) -> frozenset[tuple[int, int]]:
        """All snapshots."""
        return frozenset((job, number) for job in JOBS for number in range(1, SNAPSHOTS + 1))

    def closed(self, job: int, number: int) -> set[Place]:
        """Where the chunks lie that a snapshot names by entries which are not live."""
        return {
            place
            for of, added, removed, places in self.entries
            if of == job and removed is not None and added <= number < removed
            for place in places
        }


@st.composite
def inventories(draw: st.DrawFn) -> Rows:
    """Any of them."""
    states = draw(st.lists(st.sampled_from([*map(str, ArchiveState), *OFTEN]), min_size=2, max_size=5))
    places = st.tuples(places_of(states), st.integers(1, 3))
    chunks = draw(st.lists(places, unique=True, min_size=2, max_size=10))
    some = st.lists(st.sampled_from(chunks), max_size=4)
    made = []
    for _ in range(draw(st.integers(0, 5))):
        added = draw(st.integers(1, SNAPSHOTS))
        removed = draw(st.none() | st.integers(added + 1, SNAPSHOTS + 1))
        made.append((draw(st.sampled_from(JOBS)), added, removed, draw(some)))
    snapshots = st.frozensets(st.tuples(st.sampled_from(JOBS), st.integers(1, SNAPSHOTS)))
    condemned = st.dictionaries(places_of(states), st.frozensets(st.sampled_from(JOBS), min_size=1))
    kinds = st.tuples(
        *(st.sampled_from(JOBS), st.integers(1, 6), st.booleans(), st.sampled_from([*map(str, ArchiveState)]))
    )
    catalogs = [
        CatalogRow(CATALOGS_FROM + at, *row)
        for at, row in enumerate(draw(st.lists(kinds, max_size=8, unique_by=lambda row: row[:3])))
    ]
    staged = draw(st.lists(some, max_size=2))
    said = draw(snapshots), draw(snapshots), draw(condemned)
    return Rows(states, chunks, made, staged, *said, catalogs, draw(st.frozensets(places_of(states))))


def places_of(states: Sequence[str]) -> st.SearchStrategy[int]:
    """The number of one of these archives."""
    return st.integers(0, len(states) - 1)


def a_copy(state: str, entry: Entry, forgotten: frozenset[tuple[int, int]], of: str) -> Rows:
    """One entry, whose chunk lies in an archive `of` a state, and in another."""
    nobody = frozenset[tuple[int, int]]()
    return Rows([of, state], [(0, 1), (1, 1)], [entry], [], forgotten, nobody, {}, [], frozenset())


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with fresh_ledger() as made:
        with made.inventory.writing() as tx:
            runs.get_or_create_job(tx, JobName("other"), made.job.vault, b"o" * 16)
        yield made


class RollBackError(Exception):
    """Ends a transaction that leaves nothing."""


@contextmanager
def passing(ledger: Ledger, rows: Rows) -> Iterator[tuple[Transaction, dict[int, Place]]]:
    """A transaction in which these rows are there, with the number of each chunk; none of it stays."""
    with suppress(RollBackError), ledger.inventory.writing() as tx:
        yield tx, _insert(tx, rows)
        raise RollBackError


def _insert(tx: Transaction, rows: Rows) -> dict[int, Place]:
    vault = archives.get_or_create_vault(tx, VaultName("v"))
    domain = archives.get_or_create_domain(tx, b"d" * 16, vault, b"", START)
    packs = [(at, PackKind.DATA, state) for at, state in enumerate(rows.states)]
    packs += [(row.archive, PackKind.CATALOG, row.state) for row in rows.catalogs]
    insert_rows(tx, schema.archives, [
        (at, domain, None, int(kind), state, bytes([at]) * 16, b"", 1, b"", str(at), AT, AT, None, None)
        for at, kind, state in packs
    ])  # fmt: skip
    insert_rows(tx, schema.catalogs, [
        (row.archive, row.job, row.number, Generation.FULL if row.is_full else Generation.DELTA, None)
        for row in rows.catalogs
    ])  # fmt: skip
    numbers = {place: number for number, place in enumerate(rows.chunks, 1)}
    insert_rows(tx, schema.chunks, [
        (number, chunk, bytes([chunk]) * 32, archive, 0, 0, number)
        for (archive, chunk), number in numbers.items()
    ])  # fmt: skip
    index_chunks(tx)
    owner = entries.add_owner(tx, Owner(0, 0, "root", "root"))
    for job in JOBS:
        entries.add_directories(tx, job, {b"/srv%d" % job: job})
    file = {"kind": 1, "mode": 0, "owner": owner, "mtime_ns": 0, "size": 0}
    for at, (job, added, removed, places) in enumerate(rows.entries):
        packed = array("I", [numbers[place] for place in places]).tobytes()
        named = {"directory": job, "name": b"%d" % at, "chunks": packed}
        insert_row(tx, "entries", **file, **named, added_in=added, removed_in=removed)
    hint = {"inode": 0, "ctime_ns": 0, "is_mount": 0}
    for at, places in enumerate(rows.staged):
        packed = array("I", [numbers[place] for place in places]).tobytes()
        named = {"directory": 1, "name": b"staged %d" % at, "chunks": packed}
        insert_row(tx, "staged_entries", run=1, **file, **named, **hint)
    insert_rows(tx, schema.condemnations, [
        (archive, job, AT) for archive, jobs in rows.condemned.items() for job in sorted(jobs)
    ])  # fmt: skip
    _insert_snapshots(tx, rows, vault)
    return {number: place for place, number in numbers.items()}


def _insert_snapshots(tx: Transaction, rows: Rows, vault: int) -> None:
    for job, number in sorted(rows.every):
        times = {"started_at": AT, "finished_at": AT, "host": "h", "sources": b"", "problems": b""}
        forgotten = AT if (job, number) in rows.forgotten else None
        named = {"id": f"{job}-{number}", "job": job, "number": number, "forgotten_at": forgotten}
        insert_row(tx, "snapshots", **named, **times, files=0, bytes=0)
        for state in ("done", "open") if (job, number) in rows.read else ("done",):
            row = {"id": f"{job}-{number}-{state}", "snapshot": f"{job}-{number}", "vault": vault}
            paths = {"path": b"/", "target": b"/t", "tier": "bulk", "state": state, "created_at": AT}
            insert_row(tx, "restores", **row, **paths)


def marked(marks: bytearray, places: Mapping[int, Place]) -> set[Place]:
    """The places of the chunks that are marked."""
    return {places[number] for number, mark in enumerate(marks) if mark}


@given(rows=inventories())
@example(rows=a_copy("submitted", (1, 1, 2, [(0, 1)]), frozenset({(1, 1)}), "deleted"))
@example(rows=a_copy("stored", (1, 1, None, [(0, 1)]), frozenset(), "deleting"))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_of_any_inventory(ledger: Ledger, rows: Rows) -> None:
    """What is needed; what is gone or condemned with the forgotten snapshots; which cannot come back."""
    back: dict[int, list[int]] = {}
    for job, number in sorted(rows.forgotten):
        back.setdefault(job, []).append(number)
    with passing(ledger, rows) as (tx, places):
        kept = need.kept_snapshots(tx)
        marks = need.needed_chunks(tx, kept)
        needed = needed_archives(tx, VaultName("v"), kept)
        beyond = pruning.forgotten_beyond_recall(tx, going=rows.going)
        marks_back = need.chunks_held(tx, back)
        named = marked(marks_back, places)
        is_gone = need.gone_with_deletions(tx, marks_back)
        need.mark_copies(tx, marks_back)
        by_job = need.condemned_with(tx, marks_back)
    packs = rows.packs
    assert marked(marks, places) == packs.with_copies(rows.named())
    assert needed == packs.needed(rows.named()) | needed_catalogs(rows.catalogs)
    assert named == rows.named(by=rows.forgotten)
    assert is_gone == packs.gone(named)
    found = packs.condemned(packs.with_copies(named))
    said = {job: [at for at in sorted(found) if job in rows.condemned.get(at, ())] for job in JOBS}
    assert {job: [pack[0] for pack in by_job.get(job, [])] for job in JOBS} == said
    closed = {night: rows.closed(*night) for night in sorted(rows.forgotten - rows.read)}
    cannot = packs.beyond_recall(closed, rows.going)
    assert {(job, number) for job, numbers in beyond.items() for number in numbers} == set(cannot)


def in_pairs(drawn: int) -> st.SearchStrategy[list[str | None]]:
    """Of so many archives the state of each one's copy; None if there is none."""
    return st.lists(st.none() | st.sampled_from([*map(str, ArchiveState)]), min_size=drawn, max_size=drawn)


@given(rows=inventories(), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_which_copies_cannot_come_back(ledger: Ledger, rows: Rows, data: st.DataObject) -> None:
    """Those that name a chunk of an archive that was copied, and that no copy that stays holds."""
    states = data.draw(in_pairs(len(rows.states)), label="copies")
    with passing(ledger, rows) as (tx, _):
        there = archives.get_or_create_vault(tx, VaultName("w"))
        domain = archives.get_or_create_domain(tx, b"d" * 16, there, b"", START)
        for at, state in enumerate(states):
            if state is not None:
                row = {"archive": at, "vault": there, "domain": domain, "since": AT}
                insert_row(tx, "copies", **row, state=state, part_size=0, spool_file="")
        for job, number in sorted(rows.forgotten):
            row = {"job": job, "vault": there, "number": number, "is_alone": 0, "forgotten_at": AT}
            insert_row(tx, "copied_snapshots", **row, state=KeptThere.FORGOTTEN)
        beyond = copied_pruning.beyond_recall(tx, there, rows.going)
    stays = {
        at
        for at, state in enumerate(states)
        if state is not None and state in archives.REMAIN and at not in rows.going
    }
    left = {chunk for at in stays for chunk in rows.packs.contents[at]}
    cannot = {
        night
        for night in rows.forgotten - rows.read
        if any(chunk not in left and states[at] for at, chunk in rows.named(by=frozenset({night})))
    }
    assert {(job, number) for job, numbers in beyond.items() for number in numbers} == cannot
