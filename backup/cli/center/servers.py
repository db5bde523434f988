"""`nightvault center status`, `list`, `show`, `invite`, `remove`: the servers of a center."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from backup.cli.center.opened import database, opened_center
from backup.cli.support.context import Cli, pass_cli
from backup.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from backup.center.view import HostView


@click.command()
@database
@pass_cli
def status(cli: Cli, url: str) -> int:
    """Show how many servers are well, and those that are not, silent ones first; exit code 1 for any.

    Those that are known (`center ack`, `center maintenance`) are apart, and do not count for it.
    """
    from backup.center.view import overview
    from backup.cli.render.render import local_time

    with opened_center(url) as engine:
        found = overview(engine, cli.clock.now())
    bad = found.not_well
    document = {
        "well": not bad,
        "hosts": {str(standing): count for standing, count in found.hosts.items()},
        "bytes": found.bytes,
        "month": found.month,
        "not_well": [_document(host) for host in bad],
        "known": [_document(host) for host in found.known],
        "listening_since": found.listening_since,
    }
    tell = cli.show if bad else cli.report
    told = ", ".join(f"{count} {standing}" for standing, count in found.hosts.items() if count)
    tell(document, f"servers: {told or 'none has told anything yet'}")
    if cli.json:
        return ExitCode.FAILED if bad else ExitCode.DONE
    if found.listening_since:
        since = local_time(found.listening_since)
        cli.say(f"this center listens since {since} only: silent servers may not have had their turn")
    if bad:
        cli.show(None, _table(bad))
    if found.known:
        cli.show(None, _known_table(found.known))
    return ExitCode.FAILED if bad else ExitCode.DONE


@click.command("list")
@database
@pass_cli
def list_hosts(cli: Cli, url: str) -> None:
    """List the servers that have told something, the worst first."""
    from backup.center.view import all_hosts

    with opened_center(url) as engine:
        found = all_hosts(engine, cli.clock.now())
    cli.show({"hosts": [_document(host) for host in found]}, _table(found))


@click.command()
@click.argument("host")
@click.option("--seen", is_flag=True, help="You know why it was set back: it is shown no more.")
@database
@pass_cli
def show(cli: Cli, host: str, url: str, seen: bool) -> None:
    """Show a server, by its name or id: how it stands, and all that it has told.

    With --json, `told` is what its own `status --json` says, and `days` how it was on each of the last
    thirty. A server that is an older image of itself, or
    was set up anew, is "set back" until somebody has seen it (--seen).
    """
    from msgspec.structs import asdict

    from backup.center.view import days_of, host_named, set_seen
    from backup.cli.render.render import table

    with opened_center(url) as engine:
        found, told = host_named(engine, host, cli.clock.now())
        if seen:
            set_seen(engine, found.host_id)
            found, told = host_named(engine, found.host_id, cli.clock.now())
        days = days_of(engine, found.host_id, cli.clock.now())
    document = _document(found)
    rows = [(key.replace("_", " "), value) for key, value in document.items() if value is not None]
    each = [asdict(day) for day in days]
    cli.show({**document, "days": each, "told": told}, table(["what", "is"], rows))
    if days and not cli.json:
        told_on = [(day.day, str(day.standing), day.reports, day.good_since, day.why) for day in days]
        cli.show(None, table(["day", "told at worst", "reports", "last good", "why"], told_on))


@click.command("invite")
@click.argument("host")
@click.option(
    "--address", metavar="URL", required=True, help="Where servers reach this center: https://HOST."
)
@click.option("--valid", default="1h", show_default=True, metavar="SPAN", help="For how long: 90s, 15m, 2h.")
@click.option("--group", default="", metavar="NAME", help="What it is shown with.")
@database
@pass_cli
def invite_host(cli: Cli, host: str, address: str, valid: str, group: str, url: str) -> None:
    """Invite a server by the common name of its certificate: print a word for `center join` there.

    The word is used once. It lets in nobody but the server whose certificate has that name.
    """
    from datetime import timedelta

    from backup.app.telling.ways import require_address
    from backup.center.joining import invite
    from backup.config import parse_duration
    from backup.format.host_report import written_token

    require_address(address)
    try:
        seconds = parse_duration(valid)
    except ValueError as error:
        raise UsageError(f"--valid: {error}") from error
    if not 60 <= seconds <= 30 * 86_400:
        raise UsageError("--valid: from 60s to 720h")
    now = cli.clock.now()
    with opened_center(url) as engine:
        made = invite(engine, host, group[:100], now, now + timedelta(seconds=seconds))
    token = written_token(address.rstrip("/"), made.secret)
    document = {"name": made.name, "ends_at": made.ends_at, "token": token}
    cli.show(document, f"nightvault center join {token}")


@click.command()
@click.argument("host")
@database
@pass_cli
def remove(cli: Cli, host: str, url: str) -> None:
    """Take a server off the center: all that it told is deleted, with its invitations; nothing is left.

    It is not listened to any more, until it joins again by a new invitation. Its certificate and backups
    stay: `nightvault ca revoke` ends the certificate, without which `center serve --uninvited` would let it
    in again. On the server, `nightvault center leave` ends its telling.
    """
    from backup.center.view import host_named, remove_host

    with opened_center(url) as engine:
        found, _ = host_named(engine, host, cli.clock.now())
        remove_host(engine, found.host_id)
    told = f"{found.name} is removed; its certificate is valid until it is revoked"
    cli.report({"name": found.name, "host_id": found.host_id}, told)


def _document(host: HostView) -> dict[str, object]:
    from msgspec.structs import asdict

    return {**asdict(host), "standing": str(host.standing)}


def _table(hosts: Sequence[HostView]) -> object:
    from backup.cli.render.render import table
    from backup.cli.render.tables import Column

    columns = [
        "server",
        Column("group", rank=1, least=8),
        "is",
        Column("told last", rank=2),
        Column("version", rank=3),
        Column("why", folds=True),
    ]
    rows = [
        (host.name, host.in_group or None, str(host.standing), host.last_at, host.program, host.why)
        for host in hosts
    ]
    return table(columns, rows)


def _known_table(hosts: Sequence[HostView]) -> object:
    from backup.cli.render.render import table
    from backup.cli.render.tables import Column

    columns = [
        "known",
        "until",
        Column("by", rank=2),
        Column("because", folds=True),
        Column("what", rank=1, folds=True),
    ]
    rows = [(host.name, host.known_until, host.known_by, host.known_why, host.why) for host in hosts]
    return table(columns, rows)
