"""`nightvault center init` and `serve`: the center's tables, and the process that takes reports."""

from __future__ import annotations

import os
from typing import Any

import click

from backup.cli.center.opened import database, opened_center
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError


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
    with opened_center(url) as engine:
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
