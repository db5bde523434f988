"""Forgetting snapshots of a server's job, and nights of which most can be forgotten."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import timedelta

from backup.app.backups.contexts import backup_context, read_keys, sending_to
from backup.app.base.opened import opened
from backup.app.base.run_context import RunContext
from backup.catalogs.amend import amending
from backup.config import load_config
from backup.format.records import ForgottenRecord
from backup.inventory.records.runs import find_job
from backup.inventory.store.times import micros
from backup.kinds import RunKind
from backup.model import JobName, VaultName
from tests.support.doubles import ManualClock, Silent
from tests.support.servers import Server

DAY = timedelta(days=1)


def forget(server: Server, *numbers: int, job: str = "main", vault: str = "cold") -> None:
    """Mark snapshots as forgotten, by number."""
    config = load_config(str(server.config))
    with closing(opened(config)) as inventory:
        at = RunContext(config=config, inventory=inventory, clock=server.clock, progress=Silent())
        context = backup_context(at, VaultName(vault))
        with inventory.reading() as tx:
            row = find_job(tx, JobName(job))
        assert row is not None
        record = ForgottenRecord(list(numbers), micros(server.clock.now()))
        with amending(read_keys(config, inventory), context, sending_to(config, VaultName(vault))) as amender:
            amender.amend(RunKind.FORGET, row, [record], {})


def three_nights(server: Server) -> None:
    """Three nights, of which the second has a file that only it has; the first two are forgotten then."""
    server.backup()
    only = server.source / "only the second"
    only.write_bytes(os.urandom(200_000))
    _next_day(server)
    server.backup()
    only.unlink()
    _next_day(server)
    server.backup()
    _next_day(server)
    forget(server, 1, 2)


def _next_day(server: Server) -> None:
    if isinstance(server.clock, ManualClock):
        server.clock.advance(DAY)
