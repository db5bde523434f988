"""`nightvault center ack` and `maintenance`: who is silent or not well, and why that is known."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from backup.cli.center.opened import database, opened_center
from backup.cli.options.moments import parse_until
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from backup.center.excuses import ExcuseKind


def _of_whom(command: Callable[..., Any]) -> Callable[..., Any]:
    """Whom an excuse is about, and the rest that both commands take."""
    for option in (
        database,
        click.option("--end", "ends_now", is_flag=True, help="It is over."),
        click.option("--why", default="", metavar="TEXT", help="What others are to know of it."),
        click.option("--group", metavar="NAME", help="Each server of this group, instead of HOST."),
        click.argument("host", required=False),
    ):
        command = option(command)
    return command


@click.command()
@_of_whom
@click.option("--until", "words", metavar="TIME", help="A time, a day or a span such as 3h; needed.")
@pass_cli
def ack(
    cli: Cli, host: str | None, group: str | None, words: str | None, why: str, ends_now: bool, url: str
) -> None:
    """Acknowledge that HOST, or each of a group, is silent or not well: it is known until TIME.

    `center status` shows it apart, and nobody is told of it. That ends before its time for a server that
    gets worse or better, or tells something and is silent anew. If it is still silent at TIME, people are
    told again. TIME is as for `nightvault pause`. Without HOST and --group: list what is known.
    """
    from backup.center.excuses import ExcuseKind

    now = cli.clock.now()
    if words is None and not ends_now and (host or group):
        raise UsageError("--until must say for how long that is known")
    until = parse_until(words, now, cli.say) if words else now
    _excuse(cli, url, ExcuseKind.ACK, host, group, (now, until), why, ends_now=ends_now)


@click.command()
@_of_whom
@click.option("--from", "first", metavar="TIME", help="When it begins; now unless given.")
@click.option("--to", "last", metavar="TIME", help="When it ends, or a span such as 3h; needed.")
@pass_cli
def maintenance(
    cli: Cli,
    host: str | None,
    group: str | None,
    first: str | None,
    last: str | None,
    why: str,
    ends_now: bool,
    url: str,
) -> None:
    """Announce a maintenance of HOST or a group: nobody is told of them from its beginning to its end.

    After its end servers have ninety minutes to tell something. Without HOST and --group: list what is known.
    """
    from backup.center.excuses import ExcuseKind
    from backup.cli.options.moments import parse_moment

    now = cli.clock.now()
    if last is None and not ends_now and (host or group):
        raise UsageError("--to must say when the maintenance ends")
    begins = parse_moment(first, now, cli.say) if first else now
    ends = parse_until(last, max(begins, now), cli.say) if last else now
    _excuse(cli, url, ExcuseKind.MAINTENANCE, host, group, (begins, ends), why, ends_now=ends_now)


def _excuse(
    cli: Cli,
    url: str,
    kind: ExcuseKind,
    host: str | None,
    group: str | None,
    times: tuple[datetime, datetime],
    why: str,
    *,
    ends_now: bool,
) -> None:
    """Note an excuse or end it; without anybody list those that there are."""
    from msgspec.structs import asdict

    from backup.center.excuses import Excuse, ExcuseKind, end_excuses, make_excuse
    from backup.center.view import host_named
    from backup.cli.render.render import local_time

    if host and group is not None:
        raise UsageError("give a HOST or --group, not both")
    with opened_center(url) as engine:
        if not host and group is None:
            _list(cli, engine)
            return
        now, host_id = cli.clock.now(), None
        if host:
            found, _ = host_named(engine, host, now)
            host, host_id = found.name, found.host_id
        named = host or f"group {group}"
        if ends_now:
            if not end_excuses(engine, kind, host_id, group):
                raise UsageError(f"{named}: there is no {kind} of it")
            cli.report({"host": host, "group": group, "kind": kind}, f"{named}: the {kind} is over")
            return
        made = Excuse(host_id, group, kind, why, _who(), now, *times)
        make_excuse(engine, made)
    told = f"{named} is known until {local_time(made.ends_at)}"
    if kind is ExcuseKind.MAINTENANCE:
        times_told = " to ".join(map(local_time, (made.begins_at, made.ends_at)))
        told = f"{named}: maintenance from {times_told}"
    cli.report({"host": host, **asdict(made)}, told)


def _list(cli: Cli, engine: Engine) -> None:
    from msgspec.structs import asdict

    from backup.center.excuses import list_excuses
    from backup.cli.render.render import table
    from backup.cli.render.tables import Column

    found = list_excuses(engine, cli.clock.now())
    rows = [
        (host or f"group {excuse.in_group}", str(excuse.kind), excuse.begins_at, excuse.ends_at, excuse.why)
        for host, excuse in found
    ]
    columns = ["of", "kind", Column("from", rank=1), "until", Column("why", folds=True)]
    document = [{"host": host, **asdict(excuse)} for host, excuse in found]
    cli.show({"known": document}, table(columns, rows))


def _who() -> str:
    """The name of who gives the command: the one that sudo names, or this user's."""
    if given := os.environ.get("SUDO_USER"):
        return given
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
