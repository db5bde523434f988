"""`nightvault forget --simulate`: the nights that a policy would keep in future, as text and as SVG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backup.errors import TargetError, UsageError

if TYPE_CHECKING:
    from backup.cli.support.context import Cli
    from backup.config import JobSettings
    from backup.retention.policy import Policy
    from backup.retention.simulate import Simulation


def simulate(
    cli: Cli, names: Sequence[str], schedule: str, years: int, svg: str | None, policy: Policy | None
) -> None:
    """Print the future nights that a given policy, or a job's, would keep; draw them into the file `svg`."""
    from backup.retention.picture import picture
    from backup.retention.simulate import simulate as run
    from backup.retention.table import kept_list, table
    from backup.schedule import parse_schedule

    job = _job(cli, names, must=policy is None)
    chosen = policy or (job.policy if job else None)
    if chosen is None:
        raise UsageError(
            f"job {names[0]} has no policy" if names else "no policy to simulate",
            advice="give it a [job.retention], or say --keep-last and the like",
        )
    zone = job.zone if job else "UTC"
    found = run(chosen, parse_schedule(schedule, zone), begin=cli.clock.now(), years=years)
    if svg is not None:
        _write(svg, picture(found))
    text = table(found) + "\n" + kept_list(found)
    cli.show(_document(found, svg), text.rstrip("\n"))


def _job(cli: Cli, names: Sequence[str], *, must: bool) -> JobSettings | None:
    """The job whose policy and time zone count: the one named, else the only one with a policy."""
    if len(names) > 1:
        raise UsageError("one job at a time can be simulated")
    if names:
        return cli.config().job(names[0])
    if not must:
        return None
    having = [job for job in cli.config().jobs if job.policy is not None]
    if len(having) > 1:
        raise UsageError(
            "which job's policy? " + ", ".join(job.name for job in having), advice="name one, or say --keep-…"
        )
    return having[0] if having else None


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise TargetError(f"cannot write {os.fsdecode(path)}: {error.strerror}") from error


def _document(found: Simulation, svg: str | None) -> dict[str, object]:
    end = found.at_the_end
    return {
        "policy": str(found.policy),
        "schedule": found.schedule.text,
        "timezone": found.schedule.timezone,
        "nights": len(found.nights),
        "looks": [
            {
                "after": found.nights[look.night],
                "kept": len(look.kept),
                "oldest": found.nights[look.kept[0].night],
            }
            for look in found.looks
        ],
        "kept": [{"night": found.nights[stay.night], "reasons": list(stay.reasons)} for stay in end.kept],
        "svg": svg,
    }
