"""Formats a simulation for a terminal of 80 columns: a line for each of its `looks`, and the result; pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from backup.retention.simulate import SimulatedNight, Simulation

COLUMNS: Final = 80
_CELLS: Final = 47


def table(simulation: Simulation) -> str:
    """One line for each of `looks`: how many nights are kept, the oldest, and where they lie in time."""
    first, last = simulation.local(0), simulation.local(len(simulation.nights) - 1)
    ends = f"{first:%Y-%m-%d}{last:%Y-%m-%d}"
    lines = [
        *textwrap.wrap(f'Kept of "{simulation.schedule.text}": {simulation.policy}', COLUMNS),
        "",
        f"{'after':<10} {'kept':>6}  {'oldest':<12} {ends[:10]}{' ' * (_CELLS - 20)}{ends[10:]}",
        *(_line(simulation, look) for look in simulation.looks),
        "",
        "#: all nights of that time are kept, +: several, .: one",
    ]
    return "\n".join(lines) + "\n"


def kept_list(simulation: Simulation) -> str:
    """The nights that are kept in the end, newest first, each with the rules that keep it."""
    end = simulation.at_the_end
    lines: list[str] = []
    for stay in reversed(end.kept):
        told = "; ".join(stay.reasons)
        night = f"{simulation.local(stay.night):%Y-%m-%d %H:%M}  "
        lines += textwrap.wrap(told, COLUMNS, initial_indent=night, subsequent_indent=" " * len(night))
    lines.append(f"{len(end.kept)} of {len(simulation.nights)} are kept")
    return "\n".join(lines) + "\n"


def _line(simulation: Simulation, look: SimulatedNight) -> str:
    local = simulation.local
    dates = f"{local(look.night):%Y-%m-%d} {len(look.kept):>6}  {local(look.kept[0].night):%Y-%m-%d}  "
    return f"{dates} {''.join(_cells(simulation, look))}".rstrip()


def _cells(simulation: Simulation, look: SimulatedNight) -> Iterator[str]:
    """One character for each part of the time simulated: how much of it is kept."""
    nights = len(simulation.nights)
    kept = [0] * _CELLS
    for stay in look.kept:
        kept[stay.night * _CELLS // nights] += 1
    made = [0] * _CELLS
    for night in range(nights):
        made[night * _CELLS // nights] += 1
    for part, there in enumerate(kept):
        if there == 0:
            yield " "
        else:
            yield "#" if there == made[part] else "+" if there > 1 else "."
