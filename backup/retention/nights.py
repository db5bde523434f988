"""Nights: what a job's backups of one day added, which of them are unusual, and the pace; pure.

The pace is what a year would add if it went on as in the last 30 days. A job's first night is left out, and
so are nights that uploaded unusually much: they do not come again. It is not known before the second day.
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
    """A number of archives, their bytes, and what these lack of the smallest size that some classes bill."""

    archives: int = 0
    bytes: int = 0
    short: int = 0

    def __add__(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(self.archives + other.archives, self.bytes + other.bytes, self.short + other.short)

    def scaled(self, times: int, parts: int) -> Amount:
        """So many times as much, divided by `parts`; rounded up."""
        figures = (self.archives, self.bytes, self.short)
        return Amount(*(-(-one * times // parts) for one in figures))


Amounts = Mapping[PackKind, Amount]


class Night(Struct, frozen=True):
    """What a job's backups that began on one day did.

    `backups` are those that made a snapshot, `files_read` the files that were new or changed (None: nobody
    knows), `kept` what of the upload lies in the vault still.
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
    keys = sorted(runs, key=lambda one: (one.vault, one.job))
    found: list[Night] = []
    for _, of_job in groupby(keys, key=lambda one: (one.vault, one.job)):
        days = sorted(((day_of(one.started_at), one) for one in of_job), key=lambda pair: pair[0])
        nights = [_night(day, [one for _, one in some]) for day, some in groupby(days, lambda pair: pair[0])]
        found += _marked(nights)
    return found


def _night(day: date, runs: Sequence[BackupRun]) -> Night:
    files = [one.files_read for one in runs if one.files_read is not None]
    return Night(
        runs[0].vault,
        runs[0].job,
        day,
        sum(one.made_snapshot for one in runs),
        sum(one.bytes_uploaded for one in runs),
        sum(files) if files else None,
        any(one.is_first for one in runs),
        {
            PackKind.DATA: _total(Amount(one.data_archives, one.data_bytes, one.data_short) for one in runs),
            PackKind.CATALOG: _total(
                Amount(one.catalogs, one.catalog_bytes, one.catalog_short) for one in runs
            ),
        },
    )


def _total(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, Amount())


def _marked(nights: Sequence[Night]) -> list[Night]:
    """The nights with what is unusual; one without a snapshot is neither judged nor says what is usual."""
    judged = [place for place, one in enumerate(nights) if one.backups]
    sizes = judge_all([nights[place].bytes_uploaded for place in judged], floor=BYTES_FLOOR)
    told = dict(zip(judged, sizes, strict=True))
    judged = [place for place in judged if nights[place].files_read is not None]
    files = judge_all([nights[place].files_read or 0 for place in judged], floor=FILES_FLOOR)
    counted = dict(zip(judged, files, strict=True))
    return [
        replace(one, unusual_bytes=told.get(place), unusual_files=counted.get(place))
        for place, one in enumerate(nights)
    ]


def pace_of(nights: Sequence[Night], today: date) -> Amounts | None:
    """What these jobs add in a year, by kind of pack; None if that is not known of any of them."""
    jobs = groupby(sorted(nights, key=lambda one: (one.vault, one.job)), lambda one: (one.vault, one.job))
    paces = [_pace_of_job(list(some), today) for _, some in jobs]
    known = [one for one in paces if one is not None]
    if not known:
        return None
    return {kind: _total(one[kind] for one in known) for kind in PackKind}


def _pace_of_job(nights: Sequence[Night], today: date) -> Amounts | None:
    first = max((one.day for one in nights if one.is_first), default=None)
    days = WINDOW if first is None else min(WINDOW, (today - first).days)
    if days < 1:
        return None
    since = today - timedelta(days=days)
    counted = [one for one in nights if since < one.day <= today and not _is_much(one)]
    return {kind: _total(one.kept[kind] for one in counted).scaled(YEAR, days) for kind in PackKind}


def _is_much(night: Night) -> bool:
    return night.unusual_bytes is not None and night.unusual_bytes.direction is Direction.MORE
