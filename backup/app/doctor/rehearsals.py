"""Drills: whether restores are rehearsed at all, and whether that was long ago."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta

from backup.app.doctor.finding import DoctorContext, Finding, warning
from backup.app.opened import opened
from backup.config import DrillSettings
from backup.inventory import drills
from backup.inventory.runs import Outcome
from backup.schedule import is_overdue

NEVER = timedelta(days=90)
"""The greatest age of the first archive where the config has no drill."""
_WHY = "whether a restore works shows first when one is needed"


def last_drill(context: DoctorContext) -> Iterator[Finding]:
    """No drill though something is stored for long; a drill without a good run for too long."""
    stored = [one.stored_since for one in context.status.vaults] if context.status else []
    since = min((one for one in stored if one is not None), default=None)
    if since is None:
        return
    if not context.config.drills:
        if context.now - since > NEVER:
            yield warning(
                "drill", "restores are not rehearsed: the config has no [[drill]]", _WHY, "nightvault drills"
            )
        return
    with closing(opened(context.config)) as inventory, inventory.reading() as tx:
        good = {
            one.name: drills.newest_of(tx, one.name, outcomes=[Outcome.DONE]) for one in context.config.drills
        }
    for one in context.config.drills:
        run = good[one.name]
        yield from _overdue(one, None if run is None else run.started_at, since, context)


def _overdue(
    drill: DrillSettings, last: datetime | None, since: datetime, context: DoctorContext
) -> Iterator[Finding]:
    when = drill.when
    if when is None:
        is_late = context.now - (last or since) > NEVER
    else:
        is_late = is_overdue(when, last, context.now, known_since=min(since, context.now))
    if is_late:
        told = "never ended well" if last is None else f"ended well last on {last:%Y-%m-%d}"
        what = f"drill {drill.name} {told}: does the daemon run, and is max_cost_per_month enough?"
        yield warning("drill", what, _WHY, f"nightvault drill run {drill.name}")
