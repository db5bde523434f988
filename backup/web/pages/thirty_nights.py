"""The last thirty nights of jobs: outcomes by day, missed and unusual nights, sizes; as a strip, a table and
curves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from threading import Lock

from markupsafe import Markup
from msgspec import Struct

from backup.app.status.unusual import sentences
from backup.config import JobSettings
from backup.inventory.pages.run_pages import BackupRow
from backup.inventory.pages.snapshot_pages import SnapshotSize
from backup.inventory.store.times import moment
from backup.retention.unusual import NIGHTS, Figures
from backup.schedule import next_due
from backup.web.charts.lines import Curves, Series, curves
from backup.web.charts.strip import Night, NightSign
from backup.web.charts.strip import strip as strip_of
from backup.web.texts import Texts
from backup.wording import size

DAYS = 30
_SLACK = timedelta(hours=1)
_TICK = timedelta(microseconds=1)
_MADE = {"done", "partial"}
_MOST_KNOWN = 4_000


class NightOutcome(StrEnum):
    """The outcome of a job's night, the worst of its backups; none: no backup ran or was due.

    `missed`: the schedule had a time that day, and no backup began.
    """

    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"
    MISSED = "missed"
    NONE = "none"


class NightCell(Struct, frozen=True):
    """One night of a job in its strip: a day in this machine's zone.

    `run` is the backup that decided the outcome, None without one. `unusual` are sentences.
    """

    day: date
    outcome: NightOutcome
    run: int | None = None
    runs: int = 0
    bytes_uploaded: int = 0
    files_read: int | None = None
    unusual: Sequence[str] = ()


class Matrix(Struct, frozen=True):
    """The table of nights: a row for each night, the newest first; a column for each job."""

    jobs: Sequence[str]
    rows: Sequence[tuple[date, Sequence[NightCell]]]


class Growth(Struct, frozen=True):
    """The chart of snapshot sizes, with the ends of its scales; `rows` are jobs with first and last size."""

    drawn: Curves
    top: int
    first: datetime
    last: datetime
    rows: Sequence[tuple[str, tuple[datetime, int], tuple[datetime, int]]]


SIGNS = {
    NightOutcome.DONE: NightSign.GOOD,
    NightOutcome.PARTIAL: NightSign.WARN,
    NightOutcome.INTERRUPTED: NightSign.WARN,
    NightOutcome.FAILED: NightSign.BAD,
    NightOutcome.MISSED: NightSign.BAD,
    NightOutcome.RUNNING: NightSign.BUSY,
    NightOutcome.NONE: NightSign.NONE,
}
_ORDER = (
    NightOutcome.RUNNING,
    NightOutcome.FAILED,
    NightOutcome.INTERRUPTED,
    NightOutcome.PARTIAL,
    NightOutcome.DONE,
)


def strip(
    job: JobSettings | None, rows: Sequence[BackupRow], now: datetime, zone: tzinfo | None
) -> list[NightCell]:
    """Return the last thirty days of a job, oldest first; `rows` are its backups, sorted by number."""
    today = now.astimezone(zone).date()
    days = [today - timedelta(days=ago) for ago in range(DAYS - 1, -1, -1)]
    by_day: dict[date, list[BackupRow]] = {}
    for run in rows:
        by_day.setdefault(moment(run.started_at).astimezone(zone).date(), []).append(run)
    known_since = moment(rows[0].started_at) if rows else now
    return [
        _cell(day, by_day[day], rows)
        if day in by_day
        else NightCell(day, _without(job, day, known_since, now, zone))
        for day in days
    ]


def _cell(day: date, runs: Sequence[BackupRow], rows: Sequence[BackupRow]) -> NightCell:
    """A day with backups: the worst that was not made good by a later one."""
    last = runs[-1]
    deciding = last if last.outcome in _MADE else min(runs, key=_place)
    files = [run.files_read for run in runs if run.files_read is not None]
    return NightCell(
        day=day,
        outcome=NightOutcome(deciding.outcome),
        run=deciding.number,
        runs=len(runs),
        bytes_uploaded=sum(run.bytes_uploaded or 0 for run in runs),
        files_read=sum(files) if files else None,
        unusual=UNUSUAL.of(deciding, rows),
    )


def _place(run: BackupRow) -> int:
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
    """Sentences on unusual runs, some of them: they never change once a run has ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[BackupRow, Sequence[str]] = OrderedDict()

    def of(self, run: BackupRow, rows: Sequence[BackupRow]) -> Sequence[str]:
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


def _figures(run: BackupRow) -> Figures | None:
    if run.files_read is None or run.bytes_uploaded is None or run.bytes_new is None:
        return None
    return Figures(run.files_read, run.bytes_uploaded, run.bytes_new)


def by_job(rows: Sequence[BackupRow]) -> Mapping[str, list[BackupRow]]:
    """Group rows by job, in their order."""
    found: dict[str, list[BackupRow]] = {}
    for run in rows:
        found.setdefault(run.job, []).append(run)
    return found


def drawn_strip(job: str, cells: Sequence[NightCell], said: Texts) -> Markup:
    """Return the nights of a job as a strip."""
    nights = [Night(SIGNS[cell.outcome], _cell_text(cell)) for cell in cells]
    good = sum(cell.outcome is NightOutcome.DONE for cell in cells)
    bad = sum(SIGNS[cell.outcome] is NightSign.BAD for cell in cells)
    label = said.say(
        "%(job)s, thirty nights: %(good)s done, %(bad)s failed or missed", job=job, good=good, bad=bad
    )
    return strip_of(nights, label)


def _cell_text(cell: NightCell) -> str:
    stored = f", {size(cell.bytes_uploaded)}" if cell.bytes_uploaded else ""
    return f"{cell.day}: {cell.outcome}{stored}" + "".join(f"; {remark}" for remark in cell.unusual)


def matrix(nights: Mapping[str, Sequence[NightCell]]) -> Matrix:
    """Return the nights of all jobs as one table."""
    days = sorted({cell.day for cells in nights.values() for cell in cells}, reverse=True)
    by_day = [{cell.day: cell for cell in cells} for cells in nights.values()]
    rows = [(day, [known.get(day) or NightCell(day, NightOutcome.NONE) for known in by_day]) for day in days]
    return Matrix(list(nights), rows)


def daily_sizes(sizes: Sequence[SnapshotSize]) -> list[tuple[datetime, int]]:
    """Return the last size of each day."""
    found = {
        snapshot.started_at.astimezone().date(): (snapshot.started_at, snapshot.bytes) for snapshot in sizes
    }
    return [found[day] for day in sorted(found)][-DAYS:]


def growth(sizes: Mapping[str, Sequence[tuple[datetime, int]]], said: Texts) -> Growth | None:
    """Return the chart of the sizes of each job's newest snapshots; None without snapshots."""
    if not sizes:
        return None
    series = [
        Series(job, [(at.timestamp(), float(count)) for at, count in of_job]) for job, of_job in sizes.items()
    ]
    drawn = curves(series, said.say("Sizes of snapshots over time; the table below has the figures"))
    first, last = (datetime.fromtimestamp(at, UTC) for at in (drawn.first, drawn.last))
    rows = [(job, of_job[0], of_job[-1]) for job, of_job in sizes.items()]
    return Growth(drawn, int(drawn.top), first, last, rows)
