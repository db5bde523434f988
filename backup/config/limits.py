"""Limits of what goes up and comes down a second: as written, and which parts they leave time for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from backup.config.settings import VaultSettings, minute_of
from backup.model import KIB, MIB

LEAST: Final = 16 * KIB
"""Bytes a second: with less, packs take longer than the nights between them, and servers lose patience."""
PARTS_AT_ONCE: Final = 3  # as transfer/upload.py sends them
LONGEST_PART: Final = 600
"""Seconds: a cut connection costs no more than that, and a stopped service ends within its 15 minutes."""

_RATE = re.compile(r"([0-9]+)\s*(KiB|MiB|GiB)/s")
_UNITS = {"KiB": KIB, "MiB": MIB, "GiB": 1024 * MIB}


def parse_rate(value: object) -> int:
    """Bytes a second of 1048576 or "2MiB/s"; `ValueError` with a sentence for anything else."""
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool):
        rate = value
    elif match is not None:
        rate = int(match[1]) * _UNITS[match[2]]
    else:
        raise ValueError('must be a text like "2MiB/s" (KiB, MiB or GiB), or a number of bytes a second')
    if rate < LEAST:
        raise ValueError("must be at least 16KiB/s")
    return rate


def limit_windows(value: object) -> object:
    """One limit for all day, or a list of windows: always as a list of tables."""
    if isinstance(value, list):
        return value
    return [{"from": "00:00", "to": "24:00", "limit": parse_rate(value)}]


def check_limits(vault: VaultSettings) -> Iterator[tuple[str, str]]:
    """Windows that no minute lies in, by key."""
    for key in ("upload_limit", "download_limit"):
        for number, window in enumerate(getattr(vault, key), 1):
            if minute_of(window.from_) == minute_of(window.to):
                yield f"{key}[{number}].to", 'must not be "from": for all day write a limit alone'


def part_size_within(vault: VaultSettings) -> int:
    """The vault's part size, or smaller: all that are sent at once take ten minutes at most."""
    slowest = min((window.limit for window in vault.upload_limit), default=None)
    size = vault.part_size
    while slowest and size > vault.smallest_part and size * PARTS_AT_ONCE > slowest * LONGEST_PART:
        size //= 2
    return size


def warnings_of_limits(vault: VaultSettings) -> Iterator[str]:
    """A limit at which even the smallest parts take longer."""
    slowest = min((window.limit for window in vault.upload_limit), default=None)
    smallest = min(vault.smallest_part, vault.part_size)
    if slowest and smallest * PARTS_AT_ONCE > slowest * LONGEST_PART:
        minutes = smallest * PARTS_AT_ONCE // slowest // 60
        yield (
            f"vault {vault.name}: at {slowest // KIB} KiB/s its smallest parts ({smallest // MIB} MiB, "
            f"{PARTS_AT_ONCE} at once) take {minutes} minutes; a cut connection loses as much"
        )
