"""The picture of docs/retention.md: `.venv/bin/python -m tests.retention.year_picture` draws it anew."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from backup.retention.picture import picture
from backup.retention.policy import Policy
from backup.retention.simulate import Simulation, simulate
from backup.retention.spans import parse_span
from backup.schedule import parse_schedule
from tests.retention.histories import BERLIN

PICTURE = Path(__file__).parents[2] / "docs" / "retention-year.svg"
PROPOSED = Policy(within=parse_span("30d"), weekly=8, monthly=12, yearly=3)


def simulated(policy: Policy = PROPOSED, text: str = "daily at 02:30", years: int = 1) -> Simulation:
    """A policy over the nights from New Year 2026 on, in Berlin."""
    begin = datetime(2026, 1, 1, tzinfo=BERLIN)
    return simulate(policy, parse_schedule(text, "Europe/Berlin"), begin=begin, years=years)


if __name__ == "__main__":
    PICTURE.write_text(picture(simulated()), encoding="utf-8")
