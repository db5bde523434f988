"""Finds signs of an intruder on a server, in its catalogs and the vault's dates; pure.

Nothing here decides what is deleted: within the floor nothing is, whatever a catalog says. An admin is told
while there is time to look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from statistics import median

from backup.inventory.content.snapshots import Snapshot
from backup.model import ListedArchive
from backup.pruner.keeper.lineages import Lineage
from backup.pruner.keeper.report import Finding, Sign
from backup.pruner.keeper.rules import KeeperRules
from backup.pruner.keeper.state import State
from backup.retention.dates import in_doubt

_FEW = 4  # snapshots or archives: fewer are no sign of anything
_MANY_A_DAY = 10
_TIMES_THE_USUAL = 4
_AHEAD = timedelta(days=1)


def find_signs(lineage: Lineage, newest: State, floor: State, rules: KeeperRules) -> list[Finding]:
    """Return all signs on a server since the floor."""
    by_job: dict[str, list[Snapshot]] = {}
    for snapshot in floor.snapshots:
        by_job.setdefault(snapshot.job, []).append(snapshot)
    found: list[Finding] = []
    for job, every in sorted(by_job.items()):
        found += _forgotten(job, every, rules.floor)
        found += _dropped(job, every, newest)
        found += _dates(job, every, rules)
    found += _condemned(floor, rules.floor)
    found += _floods(lineage, newest.jobs, rules.floor)
    return found


def _forgotten(job: str, every: Sequence[Snapshot], floor: datetime) -> Iterator[Finding]:
    """Many snapshots on one day, of those that were there. The dates are the vault's."""
    days: Counter[date] = Counter(
        snapshot.forgotten_at.date()
        for snapshot in every
        if snapshot.forgotten_at is not None and snapshot.forgotten_at > floor
    )
    kept = len(
        [snapshot for snapshot in every if snapshot.forgotten_at is None or snapshot.forgotten_at > floor]
    )
    for day, count in sorted(days.items()):
        if count > _FEW and count * 3 > kept:
            yield Finding(Sign.FORGOTTEN, job, f"{count} of {kept} snapshots were forgotten on {day}")


def _dropped(job: str, every: Sequence[Snapshot], newest: State) -> Iterator[Finding]:
    """Snapshots that are gone from the newest state, and were never forgotten."""
    there = {snapshot.id for snapshot in newest.snapshots}
    gone = [snapshot for snapshot in every if snapshot.id not in there and snapshot.forgotten_at is None]
    if gone:
        detail = f"{len(gone)} of {len(every)} snapshots were taken away without having been forgotten"
        yield Finding(Sign.DROPPED, job, detail)


def _dates(job: str, every: Sequence[Snapshot], rules: KeeperRules) -> Iterator[Finding]:
    """Snapshots from the future, or against the order in which they were made."""
    doubtful = in_doubt([snapshot.started_at for snapshot in every])
    wrong = [
        snapshot
        for position, snapshot in enumerate(every)
        if position in doubtful or snapshot.started_at > rules.at + _AHEAD
    ]
    if wrong:
        dated = f"{wrong[0].started_at:%Y-%m-%d %H:%M}"
        detail = f"{len(wrong)} snapshots have dates that cannot be right, such as {dated}"
        yield Finding(Sign.DATES, job, detail)


def _condemned(floor: State, since: datetime) -> Iterator[Finding]:
    """A large part of all archives on one day."""
    total = sum(archive.size for archive in floor.archives.values())
    days: dict[date, list[int]] = {}
    for archive in floor.archives.values():
        if archive.condemned_at is not None and archive.condemned_at > since:
            days.setdefault(archive.condemned_at.date(), []).append(archive.size)
    for day, sizes in sorted(days.items()):
        if len(sizes) > _FEW and sum(sizes) * 3 > total:
            share = round(100 * sum(sizes) / max(total, 1))
            detail = f"{len(sizes)} archives, {share} % of all bytes, were condemned on {day}"
            yield Finding(Sign.CONDEMNED, "", detail)


def _floods(lineage: Lineage, jobs: Mapping[bytes, str], since: datetime) -> Iterator[Finding]:
    """Days with far more catalogs than usual: they push older snapshots out of a policy's counts."""
    days: dict[bytes, Counter[date]] = {}
    for archive in lineage.catalogs:
        job = _job_of(archive)
        days.setdefault(job, Counter())[lineage.accepted[archive.archive_id].date()] += 1
    for job, counts in sorted(days.items()):
        usual = median(counts.values())
        for day, count in sorted(counts.items()):
            if day >= since.date() and count >= max(_MANY_A_DAY, _TIMES_THE_USUAL * usual):
                detail = f"{count} catalogs were stored on {day}; on other days it is {usual:g}"
                yield Finding(Sign.FLOOD, jobs.get(job, ""), detail)


def _job_of(archive: ListedArchive) -> bytes:
    return (archive.label.job_id if archive.label else None) or b""
