"""Nights: what a job's backups of each day added, which nights are unusual, and the yearly growth; pure.

The pace is what a year would add if it went on as in the last 30 days. A job's first night is left out, and
so are nights that uploaded unusually much: they are not expected again. The pace is not known before the
second day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from backup.model import JobName, PackKind, VaultName
from backup.retention.unusual import BYTES_FLOOR, FILES_FLOOR, Direction, Unusual, judge_all

if TYPE_CHECKING:
    from backup.inventory.questions.stats import BackupRun

WINDOW = 30
"""Days that make the pace."""
YEAR = 365


class Amount(Struct, frozen=True):
    """Archives, their bytes, and (`short`) what they lack of the minimum billable size of some classes."""

    archives: int = 0
    bytes: int = 0
    short: int = 0

    def __add__(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(self.archives + other.archives, self.bytes + other.bytes, self.short + other.short)

    def scaled(self, times: int, parts: int) -> Amount:
        """The amount multiplied by `times` and divided by `parts`; rounded up."""
        figures = (self.archives, self.bytes, self.short)
        return Amount(*(-(-figure * times // parts) for figure in figures))


Amounts = Mapping[PackKind, Amount]


class Night(Struct, frozen=True):
    """A job's backups of one day, by the day on which they began.

    `backups` counts those that made a snapshot, `files_read` the files that were new or changed (None: not
    known); `kept` is the part of the upload that is still in the vault.
    """

    vault: VaultName
    job: JobName
    day: date
    backups: int
    bytes_uploaded: int
    files_read: int | None
    is_first: bool
    kept: Amounts
    unusual_bytes: Unusual | None = None
    unusual_files: Unusual | None = None


def nights_of(runs: Iterable[BackupRun], day_of: Callable[[datetime], date]) -> list[Night]:
    """The nights of each job, oldest first, with what is unusual; `day_of` has the user's time zone."""
    keys = sorted(runs, key=lambda run: (run.vault, run.job))
    found: list[Night] = []
    for _, of_job in groupby(keys, key=lambda run: (run.vault, run.job)):
        days = sorted(((day_of(run.started_at), run) for run in of_job), key=lambda pair: pair[0])
        nights = [
            _night(day, [run for _, run in of_day]) for day, of_day in groupby(days, lambda pair: pair[0])
        ]
        found += _marked(nights)
    return found


def _night(day: date, runs: Sequence[BackupRun]) -> Night:
    files = [run.files_read for run in runs if run.files_read is not None]
    return Night(
        runs[0].vault,
        runs[0].job,
        day,
        sum(run.made_snapshot for run in runs),
        sum(run.bytes_uploaded for run in runs),
        sum(files) if files else None,
        any(run.is_first for run in runs),
        {
            PackKind.DATA: _total(Amount(run.data_archives, run.data_bytes, run.data_short) for run in runs),
            PackKind.CATALOG: _total(
                Amount(run.catalogs, run.catalog_bytes, run.catalog_short) for run in runs
            ),
        },
    )


def _total(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, Amount())


def _marked(nights: Sequence[Night]) -> list[Night]:
    """The nights with what is unusual; one without a snapshot is neither judged nor says what is usual."""
    judged = [place for place, night in enumerate(nights) if night.backups]
    sizes = judge_all([nights[place].bytes_uploaded for place in judged], floor=BYTES_FLOOR)
    told = dict(zip(judged, sizes, strict=True))
    judged = [place for place in judged if nights[place].files_read is not None]
    files = judge_all([nights[place].files_read or 0 for place in judged], floor=FILES_FLOOR)
    counted = dict(zip(judged, files, strict=True))
    return [
        replace(night, unusual_bytes=told.get(place), unusual_files=counted.get(place))
        for place, night in enumerate(nights)
    ]


def pace_of(nights: Sequence[Night], today: date) -> Amounts | None:
    """The amount that these jobs add in a year, by kind of pack; None if it is not known for any of them."""
    jobs = groupby(
        sorted(nights, key=lambda night: (night.vault, night.job)), lambda night: (night.vault, night.job)
    )
    paces = [_pace_of_job(list(of_job), today) for _, of_job in jobs]
    known = [pace for pace in paces if pace is not None]
    if not known:
        return None
    return {kind: _total(pace[kind] for pace in known) for kind in PackKind}


def _pace_of_job(nights: Sequence[Night], today: date) -> Amounts | None:
    first = max((night.day for night in nights if night.is_first), default=None)
    days = WINDOW if first is None else min(WINDOW, (today - first).days)
    if days < 1:
        return None
    since = today - timedelta(days=days)
    counted = [night for night in nights if since < night.day <= today and not _is_much(night)]
    return {kind: _total(night.kept[kind] for night in counted).scaled(YEAR, days) for kind in PackKind}


def _is_much(night: Night) -> bool:
    return night.unusual_bytes is not None and night.unusual_bytes.direction is Direction.MORE
