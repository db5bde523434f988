"""Drills: whether restores are rehearsed at all, and whether that was long ago."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

from backup.app.base.opened import opened
from backup.app.doctor.finding import DoctorContext, Finding, warning
from backup.inventory.records import drills
from backup.inventory.records.runs import Outcome

NEVER = timedelta(days=90)
"""The greatest age of the first archive where the config has no drill."""
_WHY = "whether a restore works shows first when one is needed"


def last_drill(context: DoctorContext) -> Iterator[Finding]:
    """No drill though something is stored for long; one without a schedule and without a good run for long.

    Of those with a schedule the status tells.
    """
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
        for one in context.config.drills:
            run = drills.newest_of(tx, one.name, outcomes=[Outcome.DONE])
            last = None if run is None else run.started_at
            if one.when is None and context.now - (last or since) > NEVER:
                told = "never ended well" if last is None else f"ended well last on {last:%Y-%m-%d}"
                yield warning("drill", f"drill {one.name} {told}", _WHY, f"nightvault drill run {one.name}")
