"""Limits of the config: rates, memory, part sizes and parts within them, and who may delete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from backup.config.settings import Config
from backup.config.values import minute_of
from backup.config.vaults import VaultSettings
from backup.memory import DEFAULT_MEMORY, LEAST_MEMORY, backup_memory, parts_at_once
from backup.model import KIB, MIB

LEAST: Final = 16 * KIB
"""The least rate limit in bytes per second: below it packs take longer than a day, and servers time out."""
PARTS_AT_ONCE: Final = 3  # as transfer/upload.py begins, and within a limit goes on
MOST_PARTS_AT_ONCE: Final = 16
MOST_CORES: Final = 1024
LONGEST_PART: Final = 600
"""The longest time for a part in seconds: a cut connection loses no more, and a service stops in time."""

_RATE = re.compile(r"([0-9]+)\s*(KiB|MiB|GiB)/s")
_UNITS = {"KiB": KIB, "MiB": MIB, "GiB": 1024 * MIB}


def deletes_here(config: Config, settings: VaultSettings) -> bool:
    """Whether this server may delete: as the config says, else as its roles suggest."""
    if settings.deletes is not None:
        return settings.deletes == "here"
    if settings.kind == "directory" or settings.prune_role_arn is not None:
        return True
    return config.identity is None or settings.role_arn is None  # else by a role that should not be able to


def parse_rate(value: object) -> int:
    """Return the bytes a second of 1048576 or "2MiB/s". `ValueError`, with the message for the user."""
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
    """The windows of a rate limit as a list of tables; one value is a window of the whole day."""
    if isinstance(value, list):
        return value
    return [{"from": "00:00", "to": "24:00", "limit": parse_rate(value)}]


def check_limits(vault: VaultSettings) -> Iterator[tuple[str, str]]:
    """Return the mistakes in rate limit windows, by key: windows of no length."""
    for key in ("upload_limit", "download_limit"):
        for number, window in enumerate(getattr(vault, key), 1):
            if minute_of(window.from_) == minute_of(window.to):
                yield f"{key}[{number}].to", 'must not be "from": for all day write a limit alone'


def check_memory(config: Config) -> Iterator[tuple[str, str]]:
    """Return the mistakes about memory and cores, by key: too little, or more parts at once than fit."""
    memory, cores = config.limits.memory, config.limits.cores
    if cores is not None and not 1 <= cores <= MOST_CORES:
        yield "limits.cores", f"must be a number from 1 to {MOST_CORES}"
    if memory < LEAST_MEMORY:
        yield "limits.memory", f"must be at least {LEAST_MEMORY // MIB}MiB"
        return
    share = backup_memory(memory).uploads
    for number, vault in enumerate(config.vaults, 1):
        if (vault.parts_at_once or 1) * min(vault.smallest_part, vault.part_size) > share:
            key = f"vault[{number}].parts_at_once"
            yield key, f"is too much for limits.memory, of which parts may hold {share // MIB} MiB"


def part_size_within(vault: VaultSettings, memory: int = DEFAULT_MEMORY) -> int:
    """The vault's part size, or smaller: all that are sent at once take ten minutes at most, and fit into
    their share of `memory`."""
    slowest = min((window.limit for window in vault.upload_limit), default=None)
    size = vault.part_size
    at_once = vault.parts_at_once or PARTS_AT_ONCE
    while slowest and size > vault.smallest_part and size * at_once > slowest * LONGEST_PART:
        size //= 2
    share = backup_memory(memory).uploads
    while size > vault.smallest_part and size * (vault.parts_at_once or 1) > share:
        size //= 2
    return size


def most_parts_at_once(vault: VaultSettings, memory: int = DEFAULT_MEMORY) -> int:
    """Return how many parts may be sent at once: as many as fit into memory, fewer if more gain nothing."""
    if vault.parts_at_once:
        return vault.parts_at_once
    fitting = parts_at_once(backup_memory(memory).uploads, part_size_within(vault, memory))
    gains_nothing = vault.upload_limit or vault.kind == "directory"
    return min(fitting, PARTS_AT_ONCE if gains_nothing else MOST_PARTS_AT_ONCE)


def warnings_of_limits(vault: VaultSettings) -> Iterator[str]:
    """Return warnings about rate limits at which even the smallest parts take too long."""
    slowest = min((window.limit for window in vault.upload_limit), default=None)
    smallest = min(vault.smallest_part, vault.part_size)
    at_once = vault.parts_at_once or PARTS_AT_ONCE
    if slowest and smallest * at_once > slowest * LONGEST_PART:
        minutes = smallest * at_once // slowest // 60
        yield (
            f"vault {vault.name}: at {slowest // KIB} KiB/s its smallest parts ({smallest // MIB} MiB, "
            f"{at_once} at once) take {minutes} minutes; a cut connection loses as much"
        )
