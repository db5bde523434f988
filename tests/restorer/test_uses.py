"""Chunks in columns: where they lie, and where each belongs."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.format.rows import pack_u32
from backup.inventory.content.entries import EntryRow
from backup.inventory.content.packed import ChunkLocation
from backup.model import EntryKind, Owner
from backup.restorer.selection.chunk_locations import ChunkLocations, FramePositions, NumberSet
from backup.restorer.selection.chunk_users import ChunkUsers
from backup.restorer.selection.files import Files


def place(number: int, **values: object) -> ChunkLocation:
    made = ChunkLocation(number, bytes([number]) * 32, number // 10, number // 3, 100 * number, 10 + number)
    return made._replace(**values)  # type: ignore[arg-type]


def files_of(lists: Sequence[Sequence[int]]) -> Files:
    files = Files({1: Owner(0, 0)})
    for key, numbers in enumerate(lists):
        size = sum(place(number).length for number in numbers)
        name, named = b"%d" % key, bytes([key % 256]) * 16
        files.add(
            b"",
            EntryRow(key, 1, name, EntryKind.FILE, 0, 1, 0, size, None, named, pack_u32(numbers), 1, None),
        )
    return files


def test_places_come_out_as_they_went_in() -> None:
    known = [place(number) for number in (2, 3, 40)]
    made = ChunkLocations(known)
    assert list(made.values()) == known
    assert (list(made), 3 in made, 4 in made, made.get(41)) == ([2, 3, 40], True, False, None)
    assert [made.position(number) for number in made] == [0, 1, 2]
    assert list(made.frames()) == [((0, 0), 1), ((0, 1), 1), ((4, 13), 1)]
    assert list(made.lengths) == [12, 13, 50]
    made.move([place(3, archive=8, offset=7)])
    assert list(made.values()) == [known[0], place(3, archive=8, offset=7), known[2]]
    assert list(made.only({2, 40, 50}).values()) == [known[0], known[2]]


@pytest.mark.parametrize("damage", [{"id": b"short"}, {"offset": -1}, {"length": 2**32}, {"archive": "x"}])
def test_a_place_that_cannot_be_true_is_not_there(damage: dict[str, object]) -> None:
    assert list(ChunkLocations([place(1), place(2, **damage), place(3)])) == [1, 3]


@given(st.lists(st.integers(0, 300)), st.integers(1, 5))
def test_each_number_once_in_order(numbers: list[int], batch: int) -> None:
    some = list(NumberSet(array("I", numbers)).rising(batch))
    assert [number for batch_numbers in some for number in batch_numbers] == sorted(set(numbers))
    assert all(len(batch_numbers) <= batch for batch_numbers in some)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_a_frame_has_its_positions(frames: list[tuple[int, int]]) -> None:
    locations = ChunkLocations(
        place(number, archive=archive, frame=frame) for number, (archive, frame) in enumerate(frames)
    )
    positions = FramePositions(locations)
    for archive in range(5):
        assert list(positions.frames_of(archive)) == sorted(
            {frame for position, frame in frames if position == archive}
        )
        for frame in range(5):
            here = [at for at, row in enumerate(frames) if row == (archive, frame)]
            assert list(positions.of(archive, frame)) == here


@given(st.lists(st.lists(st.integers(0, 20), max_size=6), max_size=8))
def test_each_use_once_at_its_offset(lists: list[list[int]]) -> None:
    expected: dict[int, list[tuple[int, int]]] = {}
    for key, numbers in enumerate(lists):
        offset = 0
        for number in numbers:
            expected.setdefault(number, []).append((key, offset))
            offset += place(number).length
    places = ChunkLocations([place(number) for number in range(21)])
    uses = ChunkUsers(files_of(lists), places)
    for number in places:
        assert list(uses.take(places.position(number))) == expected.get(number, [])
        assert list(uses.take(places.position(number))) == []


@given(st.lists(st.integers(0, 3), max_size=8), st.data())
def test_the_users_of_a_run_of_chunks(counts: list[int], data: st.DataObject) -> None:
    """Of each that has one, pending: that of one after the other. Some are used twice, some are done."""
    total = sum(counts)
    orders = st.permutations(range(total)) | st.lists(
        st.integers(0, max(total - 1, 0)), min_size=total, max_size=total
    )
    numbers = iter(data.draw(st.just([*range(total)]) | orders.map(list)))
    files = files_of([[next(numbers) for _ in range(count)] for count in counts])
    places = ChunkLocations([place(number) for number in sorted(set(files.chunks))])
    first = data.draw(st.integers(0, max(len(places) - 1, 0)))
    run = range(first, data.draw(st.integers(min(first + 1, len(places)), len(places))))
    one, other = ChunkUsers(files, places), ChunkUsers(files, places)
    for user in data.draw(st.sets(st.integers(0, total - 1), max_size=2)) if total else ():
        one.settle([user])
        other.settle([user])
    found, fresh = one.alone(run), ChunkUsers(files, places)
    for at, user, key in zip(run, found, files.of_many(found), strict=True):
        taken, all_users = [key for key, _ in other.take(at)], [*fresh.take(at)]
        if len(all_users) == 1 and taken:
            assert ([key], user in range(files.starts[key], files.starts[key + 1])) == (taken, True)
        else:
            assert (user, key) == (-1, -1)
    for user in found:
        if user >= 0:
            one.settle([user])
    assert set(one.alone(run)) <= {-1}
    assert [*places.places(run)] == [(at.offset, at.length, at.id) for at in map(places.at, run)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=300), st.data())
def test_the_files_of_many_chunks(counts: list[int], data: st.DataObject) -> None:
    total = sum(counts)
    files = files_of([[0] * count for count in counts])
    runs = st.builds(
        lambda start, count: [*range(start, min(total, start + count))],
        st.integers(0, total),
        st.integers(0, total),
    )
    users = data.draw(st.lists(st.integers(-1, total - 1), max_size=20) | runs)
    assert [*files.of_many(users)] == [files.of(user) if user >= 0 else -1 for user in users]


@given(st.lists(st.integers(0, 40), max_size=20) | st.builds(range, st.integers(0, 40), st.integers(0, 41)))
def test_users_are_settled_one_by_one_or_in_a_run(some: Sequence[int]) -> None:
    users = ChunkUsers(files_of([[1] * 41]), ChunkLocations([place(1)]))
    users.settle(some)
    pending = [user for user in range(41) if users.pending(user, user + 1) is not None]
    assert pending == [user for user in range(41) if user not in some]


def test_what_is_pending() -> None:
    places = ChunkLocations([place(1), place(2), place(3)])
    users = ChunkUsers(files_of([[1, 2], [3], [2]]), places)
    assert (users.pending(), users.pending(1, 2), users.pending(4)) == (0, 1, None)
    assert list(users.take(places.position(2))) == [(0, 10 + 1), (2, 0)]
    users.settle([0])
    assert (users.pending(), users.pending(0, 2), users.pending(3)) == (2, None, None)


def test_what_is_settled_is_not_to_do() -> None:
    places = ChunkLocations([place(1), place(2)])
    uses = ChunkUsers(files_of([[1, 2], [2]]), places)
    uses.settle([1])
    assert list(uses.take(places.position(2))) == [(1, 0)]


def test_some_files() -> None:
    files = files_of([[1, 2], [], [3], [2]])
    some = files.only([0, 2])
    assert [(file.entry.name, list(file.chunks)) for file in some] == [(b"0", [1, 2]), (b"2", [3])]
    assert [some.of(use) for use in range(3)] == [0, 0, 1]
    assert [files.of(use) for use in range(4)] == [0, 0, 2, 3]
    assert some.content_id(1) == bytes([2]) * 16


def packed(number: int) -> tuple[int, bytes]:
    """What a look-up gives of the chunk of this number here: its length; its id and length."""
    return number * 7, b"%032d" % number + (number * 7).to_bytes(4, "little")


def found_of(locations: ChunkLocations, numbers: array[int]) -> list[tuple[int, bytes]]:
    """What a look-up gives of each of these chunks."""
    return [*zip(*locations.lookup()(numbers), strict=True)]


ranges = st.lists(st.builds(range, st.integers(1, 200), st.integers(1, 250)), max_size=3)


@given(
    st.sets(st.integers(1, 60)) | ranges.map(lambda some: set().union(*some)),
    st.lists(st.integers(0, 260), max_size=80),
)
def test_chunks_are_found_in_any_order(numbers: set[int], wanted: list[int]) -> None:
    """Of long runs of numbers, of one, and of numbers of which few follow each other."""
    locations = ChunkLocations(
        ChunkLocation(number, b"%032d" % number, number % 3, number % 5, number, number * 7)
        for number in sorted(numbers)
    )
    assert found_of(locations, array("I", wanted)) == [
        packed(number) if number in numbers else (0, b"") for number in wanted
    ]
    if numbers >= set(wanted):
        assert [*locations.positions(array("I", wanted))] == [locations.position(number) for number in wanted]
    else:
        with pytest.raises(KeyError):
            locations.positions(array("I", wanted))


@given(st.sets(st.integers(1, 60)), st.integers(0, 70))
def test_a_chunk_is_found_whatever_numbers_are_left_out(numbers: set[int], wanted: int) -> None:
    locations = ChunkLocations(
        ChunkLocation(number, b"%032d" % number, number % 3, number % 5, number, number * 7)
        for number in sorted(numbers)
    )
    asked = array("I", [wanted, *sorted(numbers)])
    found = found_of(locations, asked)
    assert found[1:] == [packed(number) for number in sorted(numbers)]
    if wanted in numbers:
        assert locations.numbers[locations.position(wanted)] == wanted
        assert locations[wanted].number == wanted
        assert found[0] == packed(wanted)
        assert list(locations.positions(asked)) == [locations.position(number) for number in asked]
    else:
        assert found[0] == (0, b"")
        for look in (locations.position, lambda number: locations.positions(array("I", [number]))):
            with pytest.raises(KeyError):
                look(wanted)
