"""`nightvault resume`: ends the pause of a job."""

from __future__ import annotations

import click

from backup.cli.support.context import Cli, pass_cli

EXAMPLES = {"resume": ("nightvault resume etc", "nightvault resume etc --json")}


@click.command()
@click.argument("job")
@pass_cli
def resume(cli: Cli, job: str) -> None:
    """End the pause of JOB: its schedules continue now. Works without a daemon.

    To continue a restore: `nightvault restore resume ID`.
    """
    from backup.app.tasks.pausing import resume_job
    from backup.daemon.client import ask
    from backup.errors import DaemonAwayError

    config = cli.config()
    name = config.job(job).name
    try:
        was_paused = bool(ask(config.state_dir, {"do": "resume", "job": name})["was_paused"])
    except DaemonAwayError:
        was_paused = resume_job(config, name, cli.clock.now())
    told = f"job {name} goes on by its schedule" if was_paused else f"job {name} was not paused"
    cli.report({"job": name, "was_paused": was_paused}, told)
