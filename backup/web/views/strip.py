"""The strip of thirty nights of a job: outcomes by day, missed and unusual nights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from threading import Lock

from backup.app.status.unusual import sentences
from backup.config import JobSettings
from backup.inventory.pages.run_pages import RunRow
from backup.inventory.store.times import moment
from backup.retention.unusual import NIGHTS, Figures
from backup.schedule import next_due
from backup.web.views.values.overview import NightCell, NightOutcome

DAYS = 30
_SLACK = timedelta(hours=1)
_TICK = timedelta(microseconds=1)
_ORDER = (
    NightOutcome.RUNNING,
    NightOutcome.FAILED,
    NightOutcome.INTERRUPTED,
    NightOutcome.PARTIAL,
    NightOutcome.DONE,
)
_MADE = {"done", "partial"}
_MOST_KNOWN = 4_000


def strip(
    job: JobSettings | None, rows: Sequence[RunRow], now: datetime, zone: tzinfo | None
) -> list[NightCell]:
    """Return the last thirty days of a job, oldest first; `rows` are its backups, sorted by number."""
    today = now.astimezone(zone).date()
    days = [today - timedelta(days=ago) for ago in range(DAYS - 1, -1, -1)]
    by_day: dict[date, list[RunRow]] = {}
    for run in rows:
        by_day.setdefault(moment(run.started_at).astimezone(zone).date(), []).append(run)
    known_since = moment(rows[0].started_at) if rows else now
    return [
        _cell(day, by_day[day], rows)
        if day in by_day
        else NightCell(day, _without(job, day, known_since, now, zone))
        for day in days
    ]


def _cell(day: date, runs: Sequence[RunRow], rows: Sequence[RunRow]) -> NightCell:
    """A day with backups: the worst that was not made good by a later one."""
    last = runs[-1]
    deciding = last if last.outcome in _MADE else min(runs, key=_place)
    files = [run.files_read for run in runs if isinstance(run.files_read, int)]
    return NightCell(
        day=day,
        outcome=NightOutcome(deciding.outcome),
        run=deciding.number,
        runs=len(runs),
        bytes_uploaded=sum(run.bytes_uploaded for run in runs if isinstance(run.bytes_uploaded, int)),
        files_read=sum(files) if files else None,
        unusual=UNUSUAL.of(deciding, rows),
    )


def _place(run: RunRow) -> int:
    return _ORDER.index(NightOutcome(run.outcome))


def _without(
    job: JobSettings | None, day: date, known_since: datetime, now: datetime, zone: tzinfo | None
) -> NightOutcome:
    """A day without a backup: missed if the schedule had a time in it, long enough ago."""
    if job is None or job.when is None:
        return NightOutcome.NONE
    begin = datetime.combine(day, time(), zone).astimezone(UTC)
    end = datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)
    if end <= known_since.astimezone(UTC):
        return NightOutcome.NONE
    due = next_due(job.when, begin - _TICK, now)
    late = timedelta(seconds=job.jitter) + _SLACK
    is_past = begin <= due < end and known_since <= due and due + late < now
    return NightOutcome.MISSED if is_past else NightOutcome.NONE


class _Judged:
    """What was unusual about runs, some of it: that never changes once a run has ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[RunRow, Sequence[str]] = OrderedDict()

    def of(self, run: RunRow, rows: Sequence[RunRow]) -> Sequence[str]:
        """Return what is unusual about a run, compared with the 30 before it; empty without a snapshot."""
        night = _figures(run)
        if run.outcome not in _MADE or night is None:
            return ()
        with self._lock:
            if run in self._known:
                return self._known[run]
        before = [_figures(row) for row in rows if row.number < run.number and row.outcome in _MADE]
        found = tuple(sentences(night, [figures for figures in before[-NIGHTS:] if figures is not None]))
        with self._lock:
            self._known[run] = found
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return found


UNUSUAL = _Judged()


def _figures(run: RunRow) -> Figures | None:
    values = (run.files_read, run.bytes_uploaded, run.bytes_new)
    return Figures(*values) if all(isinstance(value, int) for value in values) else None


def by_job(rows: Sequence[RunRow]) -> Mapping[str, list[RunRow]]:
    """Group rows by job, in their order."""
    found: dict[str, list[RunRow]] = {}
    for run in rows:
        found.setdefault(run.job or "", []).append(run)
    return found
