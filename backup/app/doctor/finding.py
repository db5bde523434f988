"""What checks are given, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from backup.app.status_parts import Level, Status
from backup.config import Config
from backup.protocols import Clock


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be; `command` mends it, or shows more.

    `check` names the kind of finding; with `fix` the doctor can mend it, which returns what it did.
    """

    check: str
    level: Level
    what: str
    why: str
    command: str
    fix: Callable[[], str] | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class Patient:
    """What is looked at. `status` is None if the inventory cannot be opened.

    `requests` are those that were sent, in words: each check that sends one adds it.
    """

    config: Config
    clock: Clock
    status: Status | None
    seconds: float = 20.0
    requests: list[str] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        """The time here."""
        return self.clock.now()


Check = Callable[[Patient], Iterator[Finding]]
"""Looks at one thing; our errors mean that it cannot."""


def warning(check: str, what: str, why: str, command: str, fix: Callable[[], str] | None = None) -> Finding:
    """A finding that should be mended soon."""
    return Finding(check, Level.WARNING, what, why, command, fix)


def critical(check: str, what: str, why: str, command: str, fix: Callable[[], str] | None = None) -> Finding:
    """A finding without whose mending data may be lost, or read by others."""
    return Finding(check, Level.CRITICAL, what, why, command, fix)
