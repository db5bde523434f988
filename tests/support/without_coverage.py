"""Which processes are measured for coverage: those that measured tests start, but for some."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_PREFIX = "COVERAGE_"
_taken: dict[str, str] = {}


def unmeasured() -> dict[str, str]:
    """This process's environment without what has a program measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}


def measured() -> dict[str, str]:
    """This process's environment with what has a program measured, if the suite is."""
    return {**_taken, **os.environ}


@contextmanager
def measuring_nothing() -> Iterator[None]:
    """What is started meanwhile is not measured: to start up takes it half as long again."""
    found = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_PREFIX)}
    _taken.update(found)
    try:
        yield
    finally:
        os.environ.update(found)
