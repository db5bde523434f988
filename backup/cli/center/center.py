"""`nightvault center`: sees in one place how many servers are, and tells it from each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import ConfigError, ExitCode, UsageError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from backup.center.view import HostView

EXAMPLES = {
    "center init": (
        "nightvault center init",
        "nightvault center init --database postgresql://nightvault@db/nightvault",
    ),
    "center serve": (
        "nightvault center serve --authority ca.pem --name center.example.net",
        "nightvault center serve --authority ca.pem --crl ca.crl --behind-proxy",
    ),
    "center status": ("nightvault center status", "nightvault center status --json"),
    "center list": ("nightvault center list", "nightvault center list --json"),
    "center show": ("nightvault center show web1", "nightvault center show web1 --seen"),
    "center remove": ("nightvault center remove web1", "nightvault center remove web1 --undo"),
    "center invite": (
        "nightvault center invite web1 --address https://center.example.net",
        "nightvault center invite web1 --address https://example.net --group shop",
    ),
    "center join": (
        "nightvault center join nvj1_aHR0cHM6Ly9jZW50ZXIuZXhh",
        "nightvault center join nvj1_aHR0cHM6Ly9jZW50ZXIuZXhh --ca-file ca.pem",
    ),
    "center tell": (
        "nightvault center tell",
        "nightvault center tell https://center.example.net --ca-file ca.pem",
    ),
}

_database = click.option(
    "--database",
    "url",
    metavar="URL",
    envvar="NIGHTVAULT_CENTER_DATABASE",
    show_envvar=True,
    default="postgresql:///nightvault",
    show_default=True,
    help="The center's PostgreSQL; its password, if any, is in ~/.pgpass.",
)


@click.group()
def center() -> None:
    """A center: one place that is told how many servers are; docs/center.md.

    It holds no key, reads no backup, and runs nothing on a server. Needs PostgreSQL.
    """


@contextmanager
def _opened(url: str, *, is_ready: bool = True) -> Iterator[Engine]:
    """The center's database, which is set up. `ConfigError`, `UnreachableError`, `UsageError`."""
    try:
        import psycopg  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        from backup.installed import how_to_add

        raise ConfigError(
            f"the center needs packages that are not installed: {error.name}", advice=how_to_add("center")
        ) from error
    from backup.center.database import opened_database, require_ready

    engine = opened_database(url)
    try:
        if is_ready:
            require_ready(engine)
        yield engine
    finally:
        engine.dispose()


@center.command()
@_database
@pass_cli
def init(cli: Cli, url: str) -> None:
    """Make the center's tables, or bring them up to date; what is there stays.

    The user in the address owns the database, and passes row-level security by in no way: no superuser.
    """
    from backup.center.database import HEAD, set_up

    with _opened(url, is_ready=False) as engine:
        set_up(engine)
    cli.report({"schema": HEAD}, "the center's database is ready: `nightvault center serve` is next")


@center.command()
@_database
@click.option(
    "--authority",
    "authorities",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Certificates of the authority of your servers (PEM); several times for several.",
)
@click.option("--crl", "revocations", multiple=True, metavar="FILE", help="Its revoked certificates (PEM).")
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="How servers know it, HOST or HOST:PORT as in the address that they tell; else --listen.",
)
@click.option(
    "--listen",
    default="127.0.0.1:8485",
    show_default=True,
    metavar="ADDRESS",
    help="ADDRESS:PORT or unix:PATH.",
)
@click.option("--certificate", metavar="FILE", help="Its TLS certificate (PEM), with --private-key.")
@click.option("--private-key", metavar="FILE", help="The key of that certificate.")
@click.option("--behind-proxy", is_flag=True, help="A proxy in front of it does TLS.")
@click.option("--uninvited", is_flag=True, help="Servers that were not invited may tell, too.")
@pass_cli
def serve(
    cli: Cli,
    url: str,
    authorities: tuple[str, ...],
    revocations: tuple[str, ...],
    names: tuple[str, ...],
    listen: str,
    certificate: str | None,
    private_key: str | None,
    behind_proxy: bool,
    uninvited: bool,
) -> None:
    """Take the reports of servers until SIGTERM or Ctrl-C.

    A server is known by its certificate, and may tell once it has joined (`center invite`), for itself alone.
    What is refused is logged. Files of certificates are read again when they change.
    """
    from backup.cli.support.logs import log_to_stderr
    from backup.cli.support.page_setup import address_of, is_loopback, listening, require_address

    require_address(listen)
    is_unix = listen.startswith("unix:")
    if (certificate is None) != (private_key is None):
        raise UsageError("--certificate and --private-key go together")
    if not (is_unix or behind_proxy or certificate or is_loopback(listen)):
        raise UsageError(
            f"--listen {listen}: others reach it, and reports would cross the network in clear",
            advice="give --certificate and --private-key; or, with a proxy before it, --behind-proxy",
        )
    if is_unix and not names:
        raise UsageError(f"--listen {listen}: --name must say how servers know this center")
    with _opened(url) as engine:
        from backup.center.serve import Receiver, TrustFiles
        from backup.web.server import run, server_options

        log_to_stderr(quiet=cli.quiet, verbose=cli.verbose, environ=os.environ)
        trust = TrustFiles(authorities, revocations, frozenset(map(str.lower, names or (listen,))))
        tls: dict[str, Any] = {}
        if certificate:
            tls = {"ssl_certfile": certificate, "ssl_keyfile": private_key}
        receiver = Receiver(engine, trust.current, cli.clock, uninvited=uninvited)
        options = server_options(receiver.app(), **tls)
        with listening(listen, 0o660) as sock:
            cli.say(f"the center listens on {address_of(sock, has_tls=certificate is not None)}")
            run(options, sock)


@center.command()
@_database
@pass_cli
def status(cli: Cli, url: str) -> int:
    """Show how many servers are well, and those that are not; exit code 1 if there are any."""
    from backup.center.view import overview

    with _opened(url) as engine:
        found = overview(engine, cli.clock.now())
    bad = found.not_well
    document = {
        "well": not bad,
        "hosts": {str(standing): count for standing, count in found.hosts.items()},
        "bytes": found.bytes,
        "month": found.month,
        "not_well": [_document(host) for host in bad],
    }
    tell = cli.show if bad else cli.report
    told = ", ".join(f"{count} {standing}" for standing, count in found.hosts.items() if count)
    tell(document, f"servers: {told or 'none has told anything yet'}")
    if bad and not cli.json:
        cli.show(None, _table(bad))
    return ExitCode.FAILED if bad else ExitCode.DONE


@center.command("list")
@_database
@pass_cli
def list_hosts(cli: Cli, url: str) -> None:
    """List the servers that have told something, the worst first."""
    from backup.center.view import all_hosts

    with _opened(url) as engine:
        found = all_hosts(engine, cli.clock.now())
    cli.show({"hosts": [_document(host) for host in found]}, _table(found))


@center.command()
@click.argument("host")
@click.option("--seen", is_flag=True, help="You know why it was set back: it is shown no more.")
@_database
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

    with _opened(url) as engine:
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


@center.command()
@click.argument("host")
@click.option("--undo", is_flag=True, help="Listen to it again.")
@_database
@pass_cli
def remove(cli: Cli, host: str, url: str, undo: bool) -> None:
    """Take a server off the center: what it told is deleted, and it is not listened to any more.

    Its certificate and backups stay: `nightvault ca revoke` ends the certificate.
    """
    from backup.center.view import host_named, set_removed

    with _opened(url) as engine:
        now = cli.clock.now()
        found, _ = host_named(engine, host, now)
        set_removed(engine, found.host_id, None if undo else now)
        found, _ = host_named(engine, found.host_id, now)
    done = "is listened to again" if undo else "is removed; its certificate is valid until it is revoked"
    cli.report(_document(found), f"{found.name} {done}")


@center.command("invite")
@click.argument("host")
@click.option(
    "--address", metavar="URL", required=True, help="Where servers reach this center: https://HOST."
)
@click.option("--valid", default="1h", show_default=True, metavar="SPAN", help="For how long: 90s, 15m, 2h.")
@click.option("--group", default="", metavar="NAME", help="What it is shown with.")
@_database
@pass_cli
def invite_host(cli: Cli, host: str, address: str, valid: str, group: str, url: str) -> None:
    """Invite a server by the common name of its certificate: print a word for `center join` there.

    The word is used once. It lets in nobody but the server whose certificate has that name.
    """
    from datetime import timedelta

    from backup.app.telling.center import require_address
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
    with _opened(url) as engine:
        made = invite(engine, host, group[:100], now, now + timedelta(seconds=seconds))
    token = written_token(address.rstrip("/"), made.secret)
    document = {"name": made.name, "ends_at": made.ends_at, "token": token}
    cli.show(document, f"nightvault center join {token}")


@center.command("join")
@click.argument("token")
@click.option(
    "--ca-file", metavar="FILE", help="Trust these authorities for its TLS instead of the system's."
)
@pass_cli
def join_here(cli: Cli, token: str, ca_file: str | None) -> None:
    """Join a center by the word of `center invite`, and add [center] to the config, which is copied first.

    The certificate of [identity] must have the name that was invited. Nothing else of the config changes,
    and nothing is taken from the center.
    """
    from backup.app.aws_setup.config_file import check_writable, read_config, replace_config, with_section
    from backup.app.telling.center import join_center
    from backup.format.host_report import read_token

    config = cli.config()
    address, secret = read_token(token)
    if config.identity is None:
        raise ConfigError("the config has no [identity]: a center knows a server by its certificate")
    if config.center is not None and config.center.url != address:
        named = f"the config names another center, {config.center.url}"
        raise UsageError(named, advice="remove [center] from it first")
    check_writable(config.path)
    values = {"url": address} | ({"ca_file": os.path.abspath(ca_file)} if ca_file else {})
    text = read_config(config.path)
    changed = text if config.center is not None else with_section(text, "center", values)
    name = join_center(config, address, secret, ca_file=ca_file)
    copy = replace_config(config.path, text, changed, cli.clock.now())
    document = {"center": address, "name": name, "config": config.path, "copy": copy}
    cli.report(document, f"{address} knows this server as {name}: `nightvault center tell` tells it now")


@center.command()
@click.argument("address", required=False)
@click.option(
    "--ca-file", metavar="FILE", help="Trust these authorities for its TLS instead of the system's."
)
@pass_cli
def tell(cli: Cli, address: str | None, ca_file: str | None) -> None:
    """Tell a center how this server is, signed by its certificate ([identity]).

    ADDRESS is that of [center] in the config, unless another is given. With [center] the daemon and each
    command that ran something tell it by themselves; without a daemon this is for a timer.
    What is told is what `nightvault status --json` says, as changes since the last time. Nothing is taken
    from the center. A center that is away is told later, and keeps no backup waiting: exit code 15.
    """
    from backup.cli.support.telling import tell_center_of

    told = tell_center_of(cli.config(), cli.clock, url=address, ca_file=ca_file)
    anew = ", in a new chain" if told.began_anew else ""
    cli.report(told, f"{told.center} was told: report {told.number}{anew}")


def _document(host: HostView) -> dict[str, object]:
    from msgspec.structs import asdict

    return {**asdict(host), "standing": str(host.standing)}


def _table(hosts: Sequence[HostView]) -> object:
    from backup.cli.render.render import table

    rows = [(host.name, str(host.standing), host.last_at, host.program, host.why) for host in hosts]
    return table(["server", "is", "told last", "version", "why"], rows)
