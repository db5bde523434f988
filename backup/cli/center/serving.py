"""`nightvault center init` and `serve`: the center's tables, and the process that takes reports."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from backup.cli.center.opened import database, opened_center, trusted
from backup.cli.support.context import Cli, pass_cli
from backup.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from backup.center.letters import Carrier


@click.command()
@database
@pass_cli
def init(cli: Cli, url: str) -> None:
    """Make the center's tables, or bring them up to date; what is there stays.

    The user in the address owns the database, and passes row-level security by in no way: no superuser.
    """
    from backup.center.database import HEAD, set_up

    with opened_center(url, is_ready=False) as engine:
        set_up(engine)
    cli.report({"schema": HEAD}, "the center's database is ready: `nightvault center serve` is next")


@click.command()
@database
@trusted
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
@click.option(
    "--notify",
    "channels",
    metavar="FILE",
    help="Tell people of silent servers: [notify] in this file (TOML).",
)
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
    channels: str | None,
    uninvited: bool,
) -> None:
    """Take the reports of servers, and look for silent ones, until SIGTERM or Ctrl-C.

    A server is known by its certificate, and may tell once it has joined (`center invite`), for itself alone.
    What is refused is logged. Files of certificates are read again when they change. With --notify people are
    told once of servers that have become silent, those of a group together; its file has [notify] and
    [[notify.channel]] as the config of a server.
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
    ways = _ways_of(channels) if channels else []
    with opened_center(url) as engine:
        from backup.center.serve import Receiver, TrustFiles
        from backup.center.watch import Watch
        from backup.web.server import run, server_options

        log_to_stderr(quiet=cli.quiet, verbose=cli.verbose, environ=os.environ)
        trust = TrustFiles(authorities, revocations, frozenset(map(str.lower, names or (listen,))))
        tls: dict[str, Any] = {}
        if certificate:
            tls = {"ssl_certfile": certificate, "ssl_keyfile": private_key}
        receiver = Receiver(engine, trust.current, cli.clock, uninvited=uninvited)
        options = server_options(receiver.app(), **tls)
        with listening(listen, 0o660) as sock, Watch(engine, ways, cli.clock).watching():
            cli.say(f"the center listens on {address_of(sock, has_tls=certificate is not None)}")
            run(options, sock)


def _ways_of(path: str) -> list[Carrier]:
    """The channels of a file, each with the kinds of message that it takes. `ConfigError`."""
    from backup.app.telling.channels import make_channels, quiet_hours
    from backup.center.letters import Carrier
    from backup.config.reading import config_of, read_document
    from backup.inventory.store.states import MessageKind

    document = read_document(path)
    if document.keys() != {"notify"}:
        raise ConfigError(f"{path}: must have [[notify.channel]], and nothing but [notify]")
    config = config_of(document, os.path.abspath(path))
    if any(settings.kind == "ping" for settings in config.notify.channel):
        raise ConfigError(
            f"{path}: a channel of kind ping is for the ends of backups, which a center has not"
        )
    made, ways = make_channels(config, os.environ), []
    for settings in config.notify.channel:
        quiet = quiet_hours(config, settings)
        kinds = frozenset(map(MessageKind, settings.told or MessageKind))
        allowed = (lambda now: now) if quiet is None else quiet.allowed_from
        ways.append(Carrier(made[settings.name], kinds, allowed))
    return ways
