"""`nightvault center export` and `rebuild`: what no server tells anew if the center's database is lost."""

from __future__ import annotations

import os

import click

from backup.cli.center.opened import database, opened_center
from backup.cli.support.context import Cli, pass_cli
from backup.errors import FormatError, UsageError


@click.command("export")
@click.argument("file")
@database
@pass_cli
def export(cli: Cli, file: str, url: str) -> None:
    """Write what no server tells anew into FILE: who has joined, groups, acknowledgements, maintenances.

    For a timer each night, onto another machine. FILE is replaced whole; it holds no secret. Not in it: what
    servers tell, thirty nights and older ones, invitations.
    """
    from backup.center.keeping import kept_of
    from backup.files import write_durably

    with opened_center(url) as engine:
        data = kept_of(engine, cli.clock.now())
    write_durably(file, data, mode=0o600)
    cli.report({"file": os.path.abspath(file), "bytes": len(data)}, f"{file}: {len(data)} bytes")


@click.command("rebuild")
@click.argument("file")
@database
@pass_cli
def rebuild(cli: Cli, file: str, url: str) -> None:
    """Take back what `center export` wrote, into a new database (`center init`); what is there stays.

    Each server is listened to again, and tells all anew with its next report; what was told through a bucket
    `center fetch` takes again. What is gone for ever: nights of before, and invitations.
    """
    from backup.center.keeping import MOST_BYTES, read_kept, take_back
    from backup.files import read_small

    try:
        kept = read_kept(read_small(file, MOST_BYTES))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except FormatError as error:
        raise UsageError(f"{file}: {error}") from error
    with opened_center(url) as engine:
        servers, excuses = take_back(engine, kept, cli.clock.now())
    told = (
        f"{servers} servers and {excuses} acknowledgements and maintenances of {kept.at:%Y-%m-%d %H:%M} UTC"
    )
    cli.report({"servers": servers, "excuses": excuses, "of": kept.at}, f"{told} were taken back")
