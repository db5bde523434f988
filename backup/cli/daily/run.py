"""`nightvault run`: asks the daemon to back up a job now."""

from __future__ import annotations

import click

from backup.cli.support.context import Cli, pass_cli

EXAMPLES = {"run": ("nightvault run etc", "nightvault run etc --json")}


@click.command()
@click.argument("job")
@pass_cli
def run(cli: Cli, job: str) -> None:
    """Ask the daemon to back up JOB now, whatever its schedule, and return at once.

    The run goes before all queued ones; `nightvault status` shows its progress. If a run of JOB is being
    cancelled, the new one follows it. Without a daemon (15), `nightvault backup JOB` makes a backup.
    """
    from backup.daemon.client import ask
    from backup.errors import DaemonAwayError

    config = cli.config()
    name = config.job(job).name
    try:
        answer = ask(config.state_dir, {"do": "run", "job": name})
    except DaemonAwayError as error:
        raise DaemonAwayError(str(error), advice=f"without it: `nightvault backup {name}`") from error
    queued = f"job {name} is queued: `nightvault status` shows how far it is"
    if answer.get("after") is not None:  # a daemon of an earlier version does not say it
        queued = f"job {name} is queued: it begins once run {answer['after']}, which was cancelled, has ended"
    cli.report(answer, queued if answer["queued"] else f"job {name} runs or is queued already")
