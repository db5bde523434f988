"""Runs a policy over the nights of years to come: which of them it would keep, as time goes on; pure.

Every night a snapshot is made and then the policy forgets, as a job with `forget = "after backup"` does. A
night's number is its position in time, from 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from backup.errors import UsageError
from backup.retention.history import Candidate, Dated, History
from backup.retention.policy import Policy, kept_positions
from backup.retention.rules import Tagged
from backup.schedule import Schedule, next_due

MOST_NIGHTS: Final = 30_000
MOST_LOOKS: Final = 37  # rows of a picture


class Stay(Struct, frozen=True):
    """A night that is kept; `rule` is the index, in the policy's rules, of the first rule that keeps it."""

    night: int
    rule: int | None
    reasons: tuple[str, ...]


class SimulatedNight(Struct, frozen=True):
    """The nights that are kept after a night, once the policy has been applied; oldest first."""

    night: int
    kept: tuple[Stay, ...]


class Simulation(Struct, frozen=True):
    """The result: `forgotten_after` has for each night the one after which it is forgotten, None if never.

    `looks` show what is kept after the last night of each month (of every second, third … month over many
    years) and at the end.
    """

    policy: Policy
    schedule: Schedule
    nights: tuple[datetime, ...]
    forgotten_after: tuple[int | None, ...]
    looks: tuple[SimulatedNight, ...]

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the schedule."""
        return ZoneInfo(self.schedule.timezone)

    @property
    def at_the_end(self) -> SimulatedNight:
        """The nights that are kept after the last one."""
        return self.looks[-1]

    def local(self, night: int) -> datetime:
        """The local time of a night."""
        return self.nights[night].astimezone(self.zone)

    def kept_after(self, night: int) -> list[int]:
        """The nights that are kept after this one, oldest first."""
        ends = self.forgotten_after[: night + 1]
        return [n for n, end in enumerate(ends) if end is None or end > night]


def simulate(policy: Policy, schedule: Schedule, *, begin: datetime, years: int) -> Simulation:
    """Make a snapshot whenever one is due, for so many years from `begin`, and forget after each.

    `UsageError` if that is more than `MOST_NIGHTS`, none at all, or if the policy is about tags alone.
    """
    rules = policy.rules()
    if all(isinstance(rule, Tagged) for rule in rules):
        raise UsageError("there is nothing to simulate: the policy has no rule about time")
    nights, zone = _nights(schedule, begin, years), ZoneInfo(schedule.timezone)
    looking = _last_of_months(nights, zone)
    forgotten: list[int | None] = [None] * len(nights)
    looks: list[SimulatedNight] = []
    staying: list[Dated] = []  # newest first
    for night, at in enumerate(nights):
        staying.insert(0, Dated.of(Candidate(night, at), zone))
        kept = kept_positions(policy, History(staying, zone))
        for gone in (dated for position, dated in enumerate(staying) if position not in kept):
            forgotten[gone.candidate.number] = night
        staying = [dated for position, dated in enumerate(staying) if position in kept]
        if night in looking:
            looks.append(_look_at_history(policy, History(staying, zone)))
    return Simulation(policy, schedule, tuple(nights), tuple(forgotten), tuple(looks))


def _nights(schedule: Schedule, begin: datetime, years: int) -> list[datetime]:
    """The moments at which a snapshot is made."""
    local = begin.astimezone(ZoneInfo(schedule.timezone))
    day = 28 if (local.month, local.day) == (2, 29) else local.day
    end = local.replace(year=local.year + years, day=day)
    found: list[datetime] = []
    span = f"{years} years" if years != 1 else "1 year"
    at = next_due(schedule, None, begin)
    while at < end:
        if len(found) == MOST_NIGHTS:
            raise UsageError(
                f'"{schedule.text}" is due more than {MOST_NIGHTS} times in {span}',
                advice="simulate fewer years",
            )
        found.append(at)
        at = next_due(schedule, at, at)
    if not found:
        raise UsageError(f'"{schedule.text}" is never due in {span}')
    return found


def _last_of_months(nights: Sequence[datetime], zone: ZoneInfo) -> frozenset[int]:
    """The last night of each month, of every second, third … month if these are many, and the last of all."""
    months = [(local.year, local.month) for local in (at.astimezone(zone) for at in nights)]
    last = [n for n, (month, following) in enumerate(pairwise(months)) if month != following]
    step = math.ceil(len(last) / (MOST_LOOKS - 1)) or 1
    return frozenset([*last[step - 1 :: step], len(nights) - 1])


def _look_at_history(policy: Policy, history: History) -> SimulatedNight:
    """The nights kept, with reasons, of a history from which the policy has already forgotten."""
    applied = [rule.apply(history) for rule in policy.rules()]
    kept: list[Stay] = []
    for position, dated in reversed(list(enumerate(history.newest_first))):
        by = [n for n, rule in enumerate(applied) if position in rule.kept]
        reasons = tuple(applied[n].kept[position] for n in by)
        kept.append(Stay(dated.candidate.number, by[0] if by else None, reasons))
    return SimulatedNight(history.newest_first[0].candidate.number, tuple(kept))
