"""`nightvault serve-files`: everything that was saved over WebDAV, to whoever has a one-time password."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import click

from backup.cli.options.retrieval_options import key_options
from backup.cli.options.snapshot_arguments import job_option
from backup.cli.support.context import Cli, pass_cli
from backup.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from backup.served.webdav import Guard

EXAMPLES = {
    "serve-files": (
        "nightvault serve-files --key recovery.key",
        "nightvault serve-files --listen unix:/run/files.sock --key recovery.key",
    )
}
IDLE: Final = 3600.0
"""So many seconds without a request end it."""
_STALLED: Final = 600.0
"""So many seconds a client may leave what it has asked for unread: a film is stopped for a while."""


@click.command("serve-files")
@click.option(
    "--listen",
    metavar="ADDRESS",
    default="127.0.0.1:0",
    help="Where to listen: ADDRESS:PORT of this machine alone, or unix:PATH; else a free port of 127.0.0.1.",
)
@click.option("--snapshot", "words", metavar="SNAPSHOT[:PATH]", help="Only this one, or a path in it.")
@job_option
@key_options
@pass_cli
def serve_files(cli: Cli, /, listen: str, words: str | None, job: str | None, **given: Any) -> None:
    """Serve everything that was saved over WebDAV, read-only, until Ctrl-C or an hour without a request.

    For file managers, curl, rclone and davfs2, and where nothing can be mounted. Address, user and a
    password for this once are printed. Nothing that is read there asks a cold vault for anything: such files
    are refused at once, and /.nightvault/README says how one is asked for, within --max-cost.
    """
    from backup.cli.looking.tree_of_files import opened_tree
    from backup.cli.support.page_setup import is_loopback, listening, require_address

    _require_packages()
    require_address(listen)
    if not listen.startswith("unix:") and not is_loopback(listen):
        raise UsageError(
            f"--listen {listen}: others reach it, and files would cross the network in clear",
            advice="listen on 127.0.0.1, and go there by `ssh -L`",
        )
    with opened_tree(cli, words, job, given) as served, listening(listen, 0o600) as sock:
        from backup.cli.support.page_setup import address_of
        from backup.served.webdav import USER, Guard, Webdav
        from backup.web.server import BoundedProtocol, run, server_options

        class Patient(BoundedProtocol):
            read_seconds = _STALLED

        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        password = secrets.token_urlsafe(16)
        guard = Guard(Webdav(served.look, served.control), password, time.monotonic)
        threading.Thread(target=_end_when_idle, args=(cli, guard), name="idle", daemon=True).start()
        told = {"url": address_of(sock), "user": USER, "password": password}
        cli.show(told, "\n".join(f"{name:<8}  {value}" for name, value in told.items()))
        run(server_options(guard, protocol=Patient), sock)


def _end_when_idle(cli: Cli, guard: Guard) -> None:
    while (left := IDLE - guard.idle()) > 0:
        cli.clock.sleep(left)
    cli.say("nobody has asked for anything for an hour: it ends")
    os.kill(os.getpid(), signal.SIGTERM)


def _require_packages() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        from backup.installed import how_to_add

        raise ConfigError(
            f"serving files needs packages that are not installed: {error.name}", advice=how_to_add("web")
        ) from error
