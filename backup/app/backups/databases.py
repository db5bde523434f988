"""The databases of a job by its settings; imported only where a job has some."""

from __future__ import annotations

import os
from functools import partial

from backup.app.base.state import State
from backup.config import Config, DatabaseSettings, JobSettings, ServerSettings
from backup.databases.dumps import Databases
from backup.databases.engine import DumpChoice
from backup.databases.server import Server
from backup.notify.channels.secrets import read_secret


def databases_of(config: Config, job: JobSettings) -> tuple[Databases, ...]:
    """Return what a job says of databases, in its order."""
    return tuple(_databases(config, database) for database in job.database)


def server_of(config: Config, settings: ServerSettings) -> Server:
    """Return a server by its settings; its password is read when a client needs it."""
    place = settings.password_file
    return Server(
        kind=settings.kind,
        host=settings.host or "",
        port=settings.port,
        user=settings.user or "",
        password=None if place is None else partial(read_secret, place, os.environ),
        container=settings.container or "",
        run_as=settings.run_as,
        programs=settings.programs or "",
        path=settings.path or "",
        spool=State(config.state_dir).spool,
        timeout=settings.timeout,
    )


def _databases(config: Config, settings: DatabaseSettings) -> Databases:
    hooks = settings.hooks
    before, after = (
        tuple((command.run, float(command.timeout or hooks.timeout)) for command in commands)
        for commands in (hooks.before, hooks.after)
    )
    return Databases(
        server=server_of(config, settings),
        choice=DumpChoice(
            options=settings.options,
            exclude_tables=settings.exclude_tables,
            only_schemas=settings.only_schemas,
        ),
        name=settings.name,
        is_all=settings.is_all,
        has_globals=settings.is_all if settings.globals is None else settings.globals,
        before=before,
        after=after,
    )
