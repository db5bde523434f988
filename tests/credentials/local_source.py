"""A source of keys that can fail, behind an address of this machine."""

from __future__ import annotations

from datetime import timedelta

from backup.errors import DeniedError
from backup.model import Credentials
from tests.support.doubles import ManualClock

HERE = {"host": "127.0.0.1:9911"}


class Source:
    """Keys that live an hour, until told to fail."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.fails = False

    def credentials(self) -> Credentials:
        if self.fails:
            raise DeniedError("no")
        return Credentials("ASIAX", "the-secret", "the-token", self.clock.now() + timedelta(hours=1))
