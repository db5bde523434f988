"""`nightvault cancel`: asks the daemon to end a run."""

from __future__ import annotations

import click

from backup.cli.support.context import Cli, pass_cli

EXAMPLES = {"cancel": ("nightvault cancel etc", "nightvault cancel 92b43846  # the id that `status` shows")}


@click.command()
@click.argument("run")
@pass_cli
def cancel(cli: Cli, run: str) -> None:
    """Ask the daemon to end RUN: the number that `nightvault status` shows, its id, or its job or vault.

    The run is not continued; the next one comes by the schedule, and stores nothing again that this run
    stored. A request of `nightvault run` that has not begun is withdrawn.
    """
    from backup.daemon.client import ask

    answer = ask(cli.config().state_dir, {"do": "cancel", "run": run})
    told = (
        f"was asked to end (run {answer['number'] or answer['run']})"
        if answer["run"]
        else "is not run: it had not begun"
    )
    cli.report(answer, f"{answer['task']} {told}")
