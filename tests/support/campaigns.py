"""Long campaigns: a share of each runs always, more of it where an environment variable says how much.

A test that was asked for more may take an hour; the watchdog that ends what hangs (`faulthandler_timeout`)
leaves it alone then, see `tests/conftest.py`.
"""

from __future__ import annotations

import os

_asked: set[str] = set()


def share(variable: str, usual: int) -> int:
    """How much of a campaign is to be done: what the variable says, else what is usual."""
    said = os.environ.get(variable)
    if said is None:
        return usual
    _asked.add(variable)
    return int(said)


def seed(usual: int | None = None) -> int | None:
    """The seed of a campaign's random choices: what `NIGHTVAULT_TEST_SEED` says, else `usual`."""
    said = os.environ.get("NIGHTVAULT_TEST_SEED")
    return usual if said is None else int(said)


def may_take_long() -> bool:
    """Whether a test of this run was asked for another share than the usual one."""
    return bool(_asked)
