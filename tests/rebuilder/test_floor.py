"""A floor keeps hold of what was there: by the vault's dates, as far as these can be right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backup.format import records
from backup.inventory.store.times import micros
from backup.model import ArchiveId, ArchiveLabel, Generation, InventoryId, PackId, PackKind
from backup.rebuilder.floor import Floor, acceptance, oddly_dated
from backup.rebuilder.members import CatalogCandidate

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
JOB, OTHER = b"j" * 16, b"k" * 16


def listed(number: int, days_ago: float, *, full: bool = False, job: bytes = JOB) -> CatalogCandidate:
    label = ArchiveLabel(
        PackKind.CATALOG,
        PackId(bytes(16)),
        InventoryId(bytes(16)),
        number,
        Generation.FULL if full else Generation.DELTA,
        job,
    )
    return CatalogCandidate(ArchiveId(f"{job.hex()[:2]}{number}"), 1, label, None, NOW - days_ago * DAY)


def hidden(floor: Floor, candidates: list[CatalogCandidate]) -> set[ArchiveId]:
    return floor.hidden(candidates, acceptance(candidates, NOW, has_clock=True))


def test_full_catalogs_above_the_floor_are_hidden_where_an_older_one_is_there() -> None:
    floor = Floor(NOW - 30 * DAY)
    old, at_it, new, newer = (
        listed(number, days, full=True) for number, days in ((1, 60), (4, 30), (7, 29), (9, 1))
    )
    deltas = [listed(2, 59), listed(8, 2)]
    assert hidden(floor, [old, at_it, new, newer, *deltas]) == {new.archive_id, newer.archive_id}
    assert hidden(floor, [new, newer, *deltas]) == {newer.archive_id}, "a young job begins with its first"
    other = listed(1, 5, full=True, job=OTHER)
    assert hidden(floor, [old, new, other]) == {new.archive_id}, "each job by itself"


def test_what_is_taken_away_since_the_floor_stays_and_dates_are_the_vaults() -> None:
    floor = Floor(NOW - 30 * DAY)
    dropped = records.DroppedRecord([1])
    assert floor.amended(dropped, floor.at) == dropped
    assert floor.amended(dropped, floor.at + timedelta(seconds=1)) is None
    assert floor.amended(dropped, None) is None
    for record in (records.CondemnedRecord([b"p" * 16], 5), records.ForgottenRecord([1], 5)):
        told = floor.amended(record, NOW - DAY)
        assert getattr(told, "at", None) == micros(NOW - DAY)
        assert floor.amended(record, None) is None
    other = records.TakenUpRecord([b"p" * 16])
    assert floor.amended(other, NOW) is other


@given(st.lists(st.floats(-4000, 4000), min_size=1, max_size=12))
def test_dates_rise_with_numbers_and_none_is_from_the_future(days: list[float]) -> None:
    found = list(
        acceptance([listed(number, day) for number, day in enumerate(days, 1)], NOW, has_clock=False).values()
    )
    right = [NOW - day * DAY for day in days if day >= -1]
    assert all(at in right or at == NOW for at in found)
    first = next((number for number, day in enumerate(days) if day >= -1), len(days))
    settled = found[first:]
    assert settled == sorted(settled)
    pairs = zip(settled, days[first:], strict=True)
    assert all(at >= NOW - day * DAY for at, day in pairs if day >= -1)


def test_a_date_that_was_set_back_shifts_nothing_by_more_than_a_night() -> None:
    nights = [listed(number, 40 - number) for number in range(1, 10)]
    odd = [listed(10, 4000), listed(11, -4000), listed(12, 28)]
    found = acceptance([*nights, *odd], NOW, has_clock=False)
    assert found["6a10"] == found["6a11"] == NOW - 31 * DAY  # type: ignore[index]
    assert {archive for archive, at in found.items() if at > NOW - 30 * DAY} == {"6a12"}
    dated = acceptance([*nights, *odd], NOW, has_clock=True)
    assert [dated[archive] for archive in ("6a10", "6a11", "6a12")] == [NOW - 4000 * DAY, NOW, NOW - 28 * DAY]  # type: ignore[index]
    assert [archive for archive, _ in oddly_dated([*nights, *odd], found, NOW - 32 * DAY)] == ["6a10"]
