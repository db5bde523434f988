"""`nightvault pause`: pauses the schedules of a job until a given time."""

from __future__ import annotations

import click

from backup.cli.options.moments import parse_until
from backup.cli.support.context import Cli, pass_cli

EXAMPLES = {
    "pause": (
        "nightvault pause etc --until 3h",
        "nightvault pause etc --until 2027-01-06  # to the end of that day",
    )
}


@click.command()
@click.argument("job")
@click.option("--until", "words", required=True, metavar="TIME", help="A time, a day or a span such as 3h.")
@pass_cli
def pause(cli: Cli, job: str, words: str) -> None:
    """Pause the schedules of JOB until TIME; then they continue by themselves.

    TIME is like 2026-11-27T08:00, a day (to its end), or a span: 30m, 3h, 2d, 1w. Afterwards one run makes
    up for those missed, unless the job's `catch_up` is "skip". A run in progress goes on (`nightvault
    cancel` ends it), and runs by hand are still possible. Works without a daemon.
    """
    from backup.app.tasks.pausing import pause_job
    from backup.cli.render.render import local_time
    from backup.daemon.client import ask
    from backup.errors import DaemonAwayError

    config, until = cli.config(), parse_until(words, cli.clock.now(), cli.say)
    name = config.job(job).name
    try:
        ask(config.state_dir, {"do": "pause", "job": name, "until": until.isoformat()})
    except DaemonAwayError:
        pause_job(config, name, until, cli.clock.now())
    cli.report({"job": name, "until": until}, f"job {name} is paused until {local_time(until)}")
