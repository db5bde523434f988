"""`nightvault demo`: a backup and a restore on this machine alone, with the usual commands."""

from __future__ import annotations

import os

import click
from click.core import ParameterSource

from backup.cli.support.context import Cli, pass_cli
from backup.errors import ExitCode, UsageError

EXAMPLES = {
    "demo": (
        "nightvault demo --vault s3",
        "nightvault demo --ransomware",
    )
}


@click.command()
@click.option(
    "--source",
    default="/usr/share/doc",
    show_default=True,
    metavar="DIR",
    help="The directory that is copied and backed up.",
)
@click.option(
    "--dir",
    "directory",
    default="nightvault-demo",
    show_default=True,
    metavar="DIR",
    help="The working directory.",
)
@click.option(
    "--vault",
    type=click.Choice(["glacier", "s3"]),
    default="glacier",
    show_default=True,
    help="A vault of the Glacier service, or a bucket in the class DEEP_ARCHIVE.",
)
@click.option(
    "--ransomware",
    is_flag=True,
    help="Play an attack on a bucket whose objects are locked, and get everything back.",
)
@click.pass_context
@pass_cli
def demo(cli: Cli, ctx: click.Context, source: str, directory: str, vault: str, ransomware: bool) -> None:
    """Back up a copy of SOURCE into an emulated vault, change it, back it up again, and restore it.

    Starts the emulator on a free loopback port, makes a certificate authority and a certificate, and gets
    temporary credentials with it. Exit code 0 only if everything came back as it was.

    With --ransomware somebody takes the server over between the backups and the restore, with all its roles.
    """
    from backup.cli.trying.demonstration.local_aws import require_emulator
    from backup.cli.trying.demonstration.ransomware import run_ransomware
    from backup.cli.trying.demonstration.scratch import make_empty, program_words
    from backup.cli.trying.demonstration.story import run_demo

    require_emulator()
    if ransomware and vault == "glacier" and ctx.get_parameter_source("vault") is not ParameterSource.DEFAULT:
        raise UsageError("--ransomware plays on a bucket: object lock is of buckets alone")
    if not os.path.isdir(source):
        raise UsageError(f"{source} is not a directory")
    work = os.path.abspath(directory)
    make_empty(work)
    folder = os.path.abspath(source)
    report = (
        run_ransomware(folder, work, program=program_words(), say=cli.say)
        if ransomware
        else run_demo(folder, work, program=program_words(), say=cli.say, vault=vault)
    )
    cli.show(report.document(), report.table())
    for line in report.hints():
        cli.say(line)
    if report.differences:
        raise click.exceptions.Exit(int(ExitCode.FAILED))
