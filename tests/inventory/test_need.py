"""What snapshots need: every chunk that they could be restored from, and nothing that no snapshot has."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from backup.inventory.content import archives, entries, need
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.packed import index_chunks
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.store import schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros
from backup.model import Owner, PackKind, VaultName
from tests.support.doubles import START
from tests.support.made_up_inventories import Ledger, fresh_ledger

STATES: list[ArchiveState] = [state for state in ArchiveState if state is not ArchiveState.SUBMITTED]
RELIABLE = {ArchiveState.STORED}
SNAPSHOTS = 4


class World(Struct, frozen=True):
    """Archives (domain, state), chunks (number, letter of the id, archive), entries (from, to, chunks)."""

    archives: Sequence[tuple[int, ArchiveState]]
    chunks: list[tuple[int, int, int]]
    entries: list[tuple[int, int | None, list[int]]]
    kept: list[int]

    def needed(self) -> set[int]:
        """The definition, said as plainly as can be."""
        named = {
            chunk
            for added, removed, chunks in self.entries
            if removed is None or any(added <= number < removed for number in self.kept)
            for chunk in chunks
        }
        place = {number: (self.archives[at][0], letter) for number, letter, at in self.chunks}
        doubtful = {n for n, _, at in self.chunks if self.archives[at][1] not in RELIABLE} & named
        wanted = {place[number] for number in doubtful}
        return named | {number for number, where in place.items() if where in wanted}

    def insert(self, tx: Transaction, job: int) -> None:
        vault = archives.get_or_create_vault(tx, VaultName("v"))
        domains = [archives.get_or_create_domain(tx, bytes([n]) * 16, vault, b"", START) for n in (0, 1)]
        at = micros(START)
        insert_rows(tx, schema.archives, [
            (n, domains[domain], None, int(PackKind.DATA), str(state), bytes([n]) * 16, b"", 1000 + n, b"",
             str(n), at, at, None, None)
            for n, (domain, state) in enumerate(self.archives)
        ])  # fmt: skip
        insert_rows(tx, schema.chunks, [
            (number, letter, bytes([letter]) * 32, archive, 0, 0, number + 1)
            for number, letter, archive in self.chunks
        ])  # fmt: skip
        index_chunks(tx)
        owner = entries.add_owner(tx, Owner(0, 0, "root", "root"))
        entries.add_directories(tx, job, {b"/srv": 1})
        insert_rows(tx, schema.entries, [
            (n + 1, 1, b"%d" % n, 1, 0, owner, 0, 0, None, b"c" * 16, array("I", chunks).tobytes(),
             added, removed)
            for n, (added, removed, chunks) in enumerate(self.entries)
        ])  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> World:
    places = draw(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(STATES)), min_size=1, max_size=5))
    numbers = draw(st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=15))
    chunks = [(n, draw(st.integers(1, 5)), draw(st.integers(0, len(places) - 1))) for n in numbers]
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        added = draw(st.integers(1, SNAPSHOTS))
        removed = draw(st.none() | st.integers(added + 1, SNAPSHOTS + 1))
        rows.append((added, removed, draw(st.lists(st.sampled_from(numbers), max_size=5))))
    return World(places, chunks, rows, sorted(draw(st.sets(st.integers(1, SNAPSHOTS)))))


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with fresh_ledger() as made:
        yield made


class RollBackError(Exception):
    """Ends a transaction that leaves nothing."""


@contextmanager
def passing(ledger: Ledger, world: World) -> Iterator[Transaction]:
    """A transaction in which the world is there; none of it stays."""
    with suppress(RollBackError), ledger.inventory.writing() as tx:
        world.insert(tx, ledger.job.number)
        yield tx
        raise RollBackError


@given(world=worlds())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_needed_is_what_kept_snapshots_hold_and_its_copies(ledger: Ledger, world: World) -> None:
    with passing(ledger, world) as tx:
        needed = need.needed_chunks(tx, {ledger.job.number: world.kept})
        uses = {use.number: use for use in need.archive_uses(tx, needed)}
    expected = world.needed()
    assert {number for number, mark in enumerate(needed) if mark} == expected
    held = {n: [number for number, _, at in world.chunks if at == n] for n in range(len(world.archives))}
    there = {n for n, (_, state) in enumerate(world.archives) if state in archives.THERE}
    assert {n: (use.chunks, use.needed) for n, use in uses.items()} == {
        n: (len(held[n]), len(expected.intersection(held[n]))) for n in there
    }
    assert {n for n, use in uses.items() if use.is_dead} == {
        n for n in there if held[n] and expected.isdisjoint(held[n])
    }


@given(world=worlds())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_another_archive_keeps_is_in_one_that_stays(ledger: Ledger, world: World) -> None:
    """Of each needed chunk a copy stays, a sound one if there is any; of retired copies the newest alone."""
    with passing(ledger, world) as tx:
        needed = need.needed_chunks(tx, {ledger.job.number: world.kept})
        elsewhere = need.stored_elsewhere(tx, needed)
        uses = {use.number: use for use in need.archive_uses(tx, needed)}
    stay = {n for n, use in uses.items() if use.needed > elsewhere[n]}
    state = [state for _, state in world.archives]
    only_keeper: set[int] = set()
    for _, letter, at in (chunk for chunk in world.chunks if needed[chunk[0]]):
        domain = world.archives[at][0]
        copies = {n for number, other, n in world.chunks if other == letter and needed[number]}
        copies = {n for n in copies & uses.keys() if world.archives[n][0] == domain}
        sound = {n for n in copies if state[n] in archives.SOUND}
        assert not copies or copies & stay
        assert not sound or sound & stay
        retired = {n for n in copies if state[n] is ArchiveState.RETIRED}
        stored = {n for n in copies if state[n] is ArchiveState.STORED}
        only_keeper |= copies if not stored | retired else (stored or {max(retired)})
    built_upon = {n for n in uses if state[n] in {ArchiveState.STORED, ArchiveState.UNCONFIRMED}}
    assert stay <= only_keeper | built_upon


def test_an_impossible_chunk_number_hides_no_other(ledger: Ledger) -> None:
    world = World([(0, ArchiveState.STORED)], [(1, 1, 0), (2, 2, 0)], [(1, None, [2, 4_000_000_000, 1])], [])
    with passing(ledger, world) as tx:
        assert list(need.needed_chunks(tx, {})) == [0, 1, 1]
