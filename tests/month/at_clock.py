"""`nightvault` by the month's clock: `python -m tests.month.at_clock CLOCK WORDS`.

What waits by the monotonic clock sees the month's hours go by, too.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime
from pathlib import Path


class FileClock:
    """A clock that a file shows."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> datetime:
        """The time."""
        return datetime.fromisoformat(self._file.read_text())

    def sleep(self, seconds: float) -> None:
        """Wait until somebody moves it on."""
        until = self.now().timestamp() + seconds
        while self.now().timestamp() < until:
            time.sleep(0.01)


def main() -> None:
    """Run the command."""
    clock = FileClock(Path(sys.argv[1]))
    began, real = clock.now(), time.monotonic
    time.monotonic = lambda: real() + (clock.now() - began).total_seconds()

    from backup.cli import main as nightvault
    from tests.month.elsewhere import ELSEWHERE, rising
    from tests.support.command_line import CliAt

    os.urandom = rising(clock.now, 1 << 15)
    for place, name, other in ELSEWHERE:
        setattr(place, name, other)
    nightvault.main(sys.argv[2:], prog_name="nightvault", obj=CliAt(clock))


if __name__ == "__main__":
    main()
