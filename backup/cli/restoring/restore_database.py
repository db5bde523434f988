"""`nightvault restore --database`: a dump out of the vault, and into a server, or a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.snapshot_arguments import chosen_job, chosen_vault
from backup.cli.restoring.dump_steps import (
    await_stream,
    begun_stream,
    check_output,
    opened_output,
    tell_dumped,
)
from backup.cli.restoring.restore_output import restore_document
from backup.cli.restoring.restore_terms import RetrievalTerms
from backup.cli.support.context import Cli
from backup.cli.support.operating import context_of
from backup.errors import UsageError
from backup.wording import printable

if TYPE_CHECKING:
    from datetime import datetime

    from backup.config import Config, ServerSettings
    from backup.databases.engine import Engine
    from backup.databases.loading import Loading
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.records.retrievals import Restore
    from backup.inventory.store.connections import Transaction
    from backup.inventory.store.database import Inventory
    from backup.model import JobName, VaultName
    from backup.restorer.context import RestoreContext
    from backup.restorer.dump.dump import Sink
    from backup.restorer.report import RestoreReport

_OPTIONS = [
    click.option("--database", metavar="NAME", help="Load the dump of a database, in place of files."),
    click.option("--as", "as_name", metavar="NEW", help="With --database: into one of this name."),
    click.option(
        "--on", "connection", metavar="CONNECTION", help="With --database: a [[connection]] of the config."
    ),
    click.option("--to-file", metavar="FILE", help="With --database: write the dump as it is."),
    click.option(
        "--table", "tables", metavar="TABLE", multiple=True, help="With --database: this table alone."
    ),
    click.option(
        "--globals", "with_globals", is_flag=True, help="With --database: roles and accounts first."
    ),
]


def database_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add to a command the options that load a dump."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@dataclass(frozen=True)
class DatabaseWish:
    """The values of `database_options`, as they were given."""

    database: str | None
    as_name: str | None
    connection: str | None
    to_file: str | None
    tables: tuple[str, ...]
    with_globals: bool

    @classmethod
    def taken_from(cls, given: dict[str, Any]) -> DatabaseWish:
        """Take the values out of a command's options `given`; `UsageError` if one needs `--database`."""
        found = cls(**{field.name: given.pop(field.name) for field in fields(cls)})
        alone: dict[str, object] = {
            "--as": found.as_name,
            "--on": found.connection,
            "--to-file": found.to_file,
        }
        alone |= {"--table": found.tables, "--globals": found.with_globals}
        for option, value in alone.items():
            if value and found.database is None:
                raise UsageError(f"{option} goes with --database NAME")
        if found.to_file and (found.as_name or found.connection or found.tables or found.with_globals):
            raise UsageError(
                "--to-file writes the dump as it is: it goes without --as, --on, --table, --globals"
            )
        return found


@dataclass(frozen=True)
class _SavedDump:
    """The dump of a database, or of roles and accounts, in a snapshot."""

    snapshot: Snapshot
    kind: str
    name: str
    path: bytes
    size: int
    charset: str


@dataclass(frozen=True)
class _Place:
    """A server, or a file of SQLite, and the database in it that is loaded."""

    engine: Engine
    name: str
    shown: str


def restore_database(
    cli: Cli, wish: DatabaseWish, words: str, job: str | None, at: datetime | None, given: dict[str, Any]
) -> None:
    """Ask the vault as every restore does; once all is readable, load it, or write it to a file."""
    from backup.app.base.opened import opened
    from backup.restorer.selection.choice import Choice, Output

    terms, replaces = RetrievalTerms.taken_from(given), given["overwrite"] == "always"
    config = cli.config()
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            vault = chosen_vault(config, given["from_vault"])
            dumps = _dumps(config, tx, wish, words, job, at, vault)
        if given["dry_run"]:
            _show_plan(cli, inventory, dumps[-1], vault)
            return
        place = None
        if wish.to_file is not None:
            check_output(wish.to_file, force=replaces)
        else:
            place = _place(config, dumps[-1], wish)
            _refuse_what_is_there(place, replaces=replaces)
        choice = Choice(output=Output.FILE)
        begun = [
            begun_stream(cli, inventory, dump.snapshot, dump.path, choice, terms, vault) for dump in dumps
        ]
        for restore, context, known in begun:
            await_stream(cli, restore, context, known, wait=given["wait"])
        for dump, (restore, context, _) in zip(dumps, begun, strict=True):
            if place is None:
                with opened_output(wish.to_file, force=replaces) as sink:
                    report = _streamed(restore, context, sink)
                tell_dumped(cli, report, wish.to_file)
            else:
                with _loading(place, dump, wish, replaces=replaces) as loading:
                    report = _streamed(restore, context, _Whole(loading, dump.size).write)
    if place is not None:
        text = f"{dumps[-1].name} of snapshot {dumps[-1].snapshot.id[:8]} is loaded into {place.shown}"
        cli.report(restore_document(report) | {"database": dumps[-1].name, "into": place.shown}, text)


def _streamed(restore: Restore, context: RestoreContext, sink: Sink) -> RestoreReport:
    from backup.restorer.dump.dump import dump

    return dump(restore, context, sink)


class _Whole:
    """Passes a dump on, and has its end confirmed with its last byte: what fails then has failed as a run."""

    def __init__(self, loading: Loading, size: int) -> None:
        self._loading = loading
        self._left = size

    def write(self, data: bytes | memoryview) -> None:
        """Pass the next bytes on."""
        self._loading.write(data)
        self._left -= len(data)
        if not self._left:
            self._loading.finish()


def _dumps(
    config: Config,
    tx: Transaction,
    wish: DatabaseWish,
    words: str,
    job: str | None,
    at: datetime | None,
    vault: VaultName | None,
) -> list[_SavedDump]:
    """The dump of the database, after that of roles and accounts if that is wanted too. `UsageError`."""
    from backup.databases.dumps import KINDS
    from backup.databases.engine import path_of
    from backup.inventory.content.snapshots import find_snapshot

    name = wish.database or ""
    kind, slash, rest = name.partition("/")
    kinds = [kind] if slash and kind in KINDS else list(KINDS)
    name = rest if slash and kind in KINDS else name
    paths = {kind: path_of(kind, name) for kind in kinds}
    named = chosen_job(config, tx, job) or _job_that_has(tx, words, list(paths.values()))
    snapshot = find_snapshot(tx, words, job=named, at=at, copied_to=vault)
    found = [_dump_at(tx, snapshot, kind, name, path) for kind, path in paths.items()]
    there = [dump for dump in found if dump is not None]
    if len(there) != 1:
        raise _not_one(tx, snapshot, wish.database or "", [dump.kind for dump in there])
    if not wish.with_globals:
        return there
    (main,) = there
    globals_ = _dump_at(tx, snapshot, main.kind, "", path_of(main.kind, "globals", ".sql"))
    if globals_ is None:
        raise UsageError(f"snapshot {snapshot.id[:8]} has no roles or accounts of {main.kind}")
    return [globals_, main]


def _job_that_has(tx: Transaction, words: str, paths: Sequence[bytes]) -> JobName | None:
    """The job whose newest snapshot has one of the paths, where several jobs have snapshots."""
    from backup.inventory.content.entries import entry_at
    from backup.inventory.content.snapshots import list_snapshots

    newest = {snapshot.job: snapshot for snapshot in list_snapshots(tx)}
    having = [
        job
        for job, snapshot in newest.items()
        if any(entry_at(tx, snapshot.job_number, path, snapshot.number) for path in paths)
    ]
    return having[0] if words.startswith("latest") and len(having) == 1 else None


def _dump_at(tx: Transaction, snapshot: Snapshot, kind: str, name: str, path: bytes) -> _SavedDump | None:
    from backup.inventory.content.dumps import dump_of
    from backup.inventory.content.entries import entry_at
    from backup.model import EntryKind

    row = entry_at(tx, snapshot.job_number, path, snapshot.number)
    if row is None or row.kind != EntryKind.FILE:
        return None
    known = dump_of(tx, row.number)
    return _SavedDump(snapshot, kind, name, path, row.size, known.charset if known else "")


def _not_one(tx: Transaction, snapshot: Snapshot, name: str, kinds: Sequence[str]) -> UsageError:
    from backup.inventory.content.dumps import dump_records

    if kinds:
        several = " and ".join(f"{kind}/{name}" for kind in kinds)
        return UsageError(f"snapshot {snapshot.id[:8]} has {several}", advice="name one of these")
    known = {record.database for record in dump_records(tx, snapshot.job_number)} - {""}
    there = f"job {snapshot.job} saves {', '.join(map(printable, sorted(known)))}" if known else "it has none"
    return UsageError(f"snapshot {snapshot.id[:8]} has no database {printable(name)}: {there}")


def _place(config: Config, dump: _SavedDump, wish: DatabaseWish) -> _Place:
    """The target of the dump: the server of `--on`, or that which the job dumps. `UsageError`."""
    from backup.app.backups.databases import server_of
    from backup.databases.dumps import engine_of

    config.require_own("the clients of databases")
    settings = _settings(config, dump, wish.connection)
    alike = {"mariadb", "mysql"}
    if settings.kind != dump.kind and not {settings.kind, dump.kind} <= alike:
        raise UsageError(f"connection {wish.connection} is of kind {settings.kind}, the dump of {dump.kind}")
    server = server_of(config, settings)
    if dump.kind == "sqlite":
        path = os.path.abspath(wish.as_name) if wish.as_name else server.path
        return _Place(engine_of(server), path, path)
    name = wish.as_name or dump.name
    return _Place(engine_of(server), name, f"database {printable(name)} of {dump.kind}")


def _settings(config: Config, dump: _SavedDump, connection: str | None) -> ServerSettings:
    if connection is not None:
        return config.connection(connection)
    for job in config.jobs:
        if job.name == dump.snapshot.job:
            for database in job.database:
                if database.kind == dump.kind and (database.is_all or database.name == dump.name):
                    return database
    raise UsageError(
        f"job {dump.snapshot.job} of the config does not save database {printable(dump.name)} any more",
        advice="name where it goes: --on CONNECTION, or --to-file FILE",
    )


def _refuse_what_is_there(place: _Place, *, replaces: bool) -> None:
    """`UsageError` if there is something in the place, and it is not to be replaced."""
    from backup.databases.loading import telling

    with telling():
        there = place.engine.holds(place.name, lambda: False)
    if there and not replaces:
        raise UsageError(
            f"{place.shown} is not empty: it has {there}",
            advice="--as NEW restores beside it; --overwrite always replaces it",
        )


def _loading(
    place: _Place, dump: _SavedDump, wish: DatabaseWish, *, replaces: bool
) -> AbstractContextManager[Loading]:
    from backup.databases.loading import Wish

    if not dump.name:
        return place.engine.loading("", Wish(), lambda: False)
    return place.engine.loading(place.name, Wish(dump.charset, wish.tables, replaces), lambda: False)


def _show_plan(cli: Cli, inventory: Inventory, dump: _SavedDump, from_vault: VaultName | None) -> None:
    from backup.app.restores.contexts import context_of_snapshot
    from backup.cli.support.quoting import show_plan
    from backup.restorer.restore import plan_restore
    from backup.restorer.selection.choice import Choice, Output

    config = cli.config()
    context = context_of_snapshot(context_of(cli, config, inventory), dump.snapshot, from_vault)
    plan = plan_restore(dump.snapshot, dump.path, context, Choice(output=Output.FILE))
    show_plan(cli, config, context, plan)
