"""`nightvault cancel`: asks the daemon to end a run."""

from __future__ import annotations

import click

from backup.cli.support.context import Cli, pass_cli


@click.command()
@click.argument("run")
@pass_cli
def cancel(cli: Cli, run: str) -> None:
    """Have the daemon end RUN: the number that `nightvault status` shows, its id, or its job or vault.

    What it stored is not stored again. Nothing goes on with it: the next one comes by the schedule. What
    `nightvault run` asked for and has not begun is taken back.
    """
    from backup.daemon.client import ask

    answer = ask(cli.config().state_dir, {"do": "cancel", "run": run})
    told = (
        f"was asked to end (run {answer['number'] or answer['run']})"
        if answer["run"]
        else "is not run: it had not begun"
    )
    cli.report(answer, f"{answer['task']} {told}")
