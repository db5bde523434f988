"""Clocks that go by another: the emulator's, and the real one moved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.support.emulated import RunningEmulator


@dataclass
class EmulatorClock:
    """The clock of a machine that agrees with the emulator's."""

    emulator: RunningEmulator

    def now(self) -> datetime:
        """The emulator's time."""
        return datetime.fromisoformat(self.emulator.now())

    def sleep(self, seconds: float) -> None:
        """Time passes there."""
        self.emulator.advance(seconds)


class OffsetClock:
    """The real time, moved by as much as a test says; sleeping only moves it on."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        self.offset = offset

    def now(self) -> datetime:
        """The time."""
        return datetime.now(UTC) + self.offset

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.offset += timedelta(seconds=seconds)
