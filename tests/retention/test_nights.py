"""Nights and the pace: days that runs are added up to, what is unusual, and what a year would add."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from backup.inventory.questions.stats import BackupRun
from backup.model import JobName, PackKind, VaultName
from backup.retention.nights import Amount, Night, nights_of, pace_of
from backup.retention.unusual import Direction

MIB = 1024 * 1024
FIRST = datetime(2026, 1, 1, 1, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def run(
    day: int,
    size: int = 32 * MIB,
    files: int | None = 200,
    *,
    job: str = "web",
    first: bool = False,
    made: bool = True,
    catalog: int = 1000,
) -> BackupRun:
    """A backup that uploaded so much and a catalog, all of which is there still."""
    at = FIRST + day * DAY
    return BackupRun(
        *(VaultName("cold"), JobName(job), at, made, first, size + catalog, files),
        *(1, size, 1, catalog),
    )


def nights(*runs: BackupRun) -> list[Night]:
    return nights_of(runs, datetime.date)


def pace(runs: list[BackupRun], today: int) -> tuple[Amount, Amount] | None:
    found = pace_of(nights(*runs), (FIRST + today * DAY).date())
    return (found[PackKind.DATA], found[PackKind.CATALOG]) if found else None


def test_a_night_is_all_backups_of_a_job_that_began_on_one_day() -> None:
    found = nights(run(1, 30), run(1, 12, None), run(1, 7, job="db"), run(0, 5), run(1, 1, None, made=False))
    assert [(night.job, night.day.day, night.backups) for night in found] == [
        ("db", 2, 1),
        ("web", 1, 1),
        ("web", 2, 2),
    ]
    assert found[2].bytes_uploaded == 30 + 12 + 1 + 3000
    assert found[2].files_read == 200
    assert found[2].kept == {PackKind.DATA: Amount(3, 43), PackKind.CATALOG: Amount(3, 3000)}


def test_the_day_is_that_of_the_given_zone() -> None:
    zone = timezone(timedelta(hours=-5))
    (night,) = nights_of([run(0)], lambda began: began.astimezone(zone).date())
    assert night.day == date(2025, 12, 31)


def test_unusual_nights_are_marked_by_bytes_and_by_files() -> None:
    quiet = [run(day) for day in range(10)]
    *before, night = nights(*quiet, run(10, 3200 * MIB, 200))
    assert night.unusual_bytes is not None
    assert (night.unusual_bytes.direction, round(night.unusual_bytes.usual)) == (
        Direction.MORE,
        32 * MIB + 1000,
    )
    assert night.unusual_files is None
    assert not any(earlier.unusual_bytes or earlier.unusual_files for earlier in before)
    *_, night = nights(*quiet, run(10, 32 * MIB, 90_000))
    assert night.unusual_bytes is None
    assert night.unusual_files is not None
    assert night.unusual_files.usual == 200


def test_nights_of_other_jobs_and_failed_ones_say_nothing_of_what_is_usual() -> None:
    quiet = [run(day) for day in range(6)]
    others = [run(day, job="db") for day in range(9)]
    failed = [run(day, made=False) for day in range(6, 9)]
    found = nights(*quiet, *others, *failed, run(9, 9000 * MIB))
    assert not any(judged.unusual_bytes for judged in found), "there are six nights of this job"
    unknown = [run(day, files=None) for day in range(6, 20)]
    *_, night = nights(*quiet, *unknown, run(20, 9000 * MIB, 10**6))
    assert night.unusual_bytes
    assert not night.unusual_files, "of files only six nights are known"


def test_the_pace_by_hand() -> None:
    runs = [run(0, 10**12, first=True), *(run(day, 100) for day in range(1, 11))]
    assert pace(runs, 10) == (Amount(365, 36_500), Amount(365, 365_000))
    assert pace(runs, 20) == (Amount(183, 18_250), Amount(183, 182_500)), "half of the days had a backup"
    assert pace(runs, 40) == (Amount(0, 0), Amount(0, 0)), "nothing in the last 30 days"
    assert pace(runs, 0) is None, "the first night alone"
    assert pace([], 5) is None


def test_the_pace_begins_after_the_first_snapshot_however_many_nights_it_took() -> None:
    """A first backup over a slow line: two nights were cut off, the third made the snapshot."""
    cut = [run(day, 10**12, first=True, made=False) for day in (0, 1)]
    runs = [*cut, run(2, 10**12, first=True), run(3, 100), run(4, 100)]
    assert pace(runs, 4) == (Amount(365, 36_500), Amount(365, 365_000))


def test_the_pace_leaves_out_what_does_not_come_again() -> None:
    steady = [run(0, 10**12, first=True), *(run(day) for day in range(1, 31))]
    known = pace(steady, 30)
    odd = [*steady[:-1], run(30, 10**12)]
    almost = pace(odd, 30)
    assert known == (Amount(365, 365 * 32 * MIB), Amount(365, 365_000))
    assert almost is not None
    assert almost[0].bytes == -(-29 * 32 * MIB * 365 // 30)


def test_the_pace_of_several_jobs_is_their_sum() -> None:
    web = [run(0, first=True), *(run(day, 100) for day in range(1, 11))]
    db = [run(8, first=True, job="db"), *(run(day, 70, job="db") for day in (9, 10))]
    new = [run(10, first=True, job="new")]
    both = pace([*web, *db, *new], 10)
    assert both is not None
    assert both[0] == Amount(730, 36_500 + 25_550)
    assert pace(new, 10) is None


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2**45)), max_size=40), st.integers(0, 70))
def test_the_pace_is_at_most_what_was_uploaded_and_no_matter_in_which_order(
    told: list[tuple[int, int]], today: int
) -> None:
    runs = [run(day, size) for day, size in told]
    found = pace(runs, today)
    assert pace(runs[::-1], today) == found
    if found is not None:
        window = [size for day, size in told if today - 30 < day <= today]
        assert found[0].bytes <= sum(window) * 365 // 30 + 1
        assert found[0].archives <= len(window) * 365 // 30 + 1
